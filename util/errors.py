"""The one kind of error that is the user's to mend, and how a script ends on it."""

import logging
import sys


class DissectionError(Exception):
    """Something that the user can put right; the message says what, where and what to do."""


def run_script(main, when_stopped="stopped"):
    """Run a script's main() and turn what can go wrong into an exit code.

    main: callable without arguments. when_stopped: what to say on Ctrl-C. Ends the process: 0 when main returns, 2 with
    the message on standard error for a DissectionError, 130 for Ctrl-C. Anything else is a defect of the program and
    keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main()
    except DissectionError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\n{when_stopped}", file=sys.stderr)
        sys.exit(130)
