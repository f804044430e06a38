"""The one kind of error that is the user's to mend, what helps to word it, and how a script ends on it."""

import atexit
import difflib
import logging
import os
import sys
import textwrap
from pathlib import Path

from util.launch import asked_for, speaks


class DissectionError(Exception):
    """Something that the user can put right; the message says what, where and what to do."""


class Ended(BaseException):
    """Another process of the run is gone, or this one is told to end: as with Ctrl-C, nothing here goes on from it."""

    first_is_gone = False  # whether the process of the run that speaks is no more, so that another one must


def nearest(name, names, count=3, cutoff=0.5):
    """Up to count of names that look like name, likeliest first, for error messages. cutoff: least likeness, 0..1."""
    by_lower = {str(candidate).lower(): str(candidate) for candidate in names}
    matches = difflib.get_close_matches(str(name).lower(), by_lower, n=count, cutoff=cutoff)
    return [by_lower[match] for match in matches]


def first_few(items, shown=3, separator=", "):
    """Join the first items to one line and count the rest: 'a, b, c and 4 more'."""
    items = [str(item) for item in items]
    rest = f" and {len(items) - shown} more" if len(items) > shown else ""
    return separator.join(items[:shown]) + rest


def shorten(text):
    """The text of somebody else's error on one line, cut between words where it is long."""
    return textwrap.shorten(text, 200, placeholder=" ...")


def did_you_mean(name, names):
    """What to say behind an unknown name: the names that look like it, or all of them."""
    close = nearest(name, names)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"


def run_script(main, when_stopped="stopped", together=False):
    """Run a script's main() and turn what can go wrong into an exit code.

    main: callable without arguments. when_stopped: what to say on Ctrl-C. together: whether several processes, started
    by torchrun, can run it together (see util.ranks); the first of them speaks. Ends the process: 0 when main returns,
    2 with the message on standard error for a DissectionError and for Ended, 130 for Ctrl-C, 141 when whoever reads its
    output went away (as in `python main.py | head -1`). Anything else is a defect of the program and keeps its
    traceback.
    """
    level = logging.INFO if speaks() else logging.CRITICAL
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    try:
        if not together and asked_for()[1] > 1:
            spec = sys.modules["__main__"].__spec__
            script = f"-m {spec.name}" if spec else Path(sys.argv[0]).name
            raise DissectionError(f"this runs in one process: start it as python {script}, without torchrun")
        main()
        sys.stdout.flush()
        _end_one_of_several(0)
    except (DissectionError, Ended) as error:
        if speaks() or getattr(error, "first_is_gone", False):
            print(f"error: {error}", file=sys.stderr)
        _end_one_of_several(2)
        sys.exit(2)
    except KeyboardInterrupt:
        if speaks():
            print(f"\n{when_stopped}", file=sys.stderr)
        _end_one_of_several(130)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more on its way out
        sys.exit(141)


def _end_one_of_several(code):
    """End a process of several here, once all that is to be done at the end is done: behind it, when the interpreter
    takes itself down, torch.distributed's threads were seen to abort the process now and then.
    """
    if asked_for()[1] > 1:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
