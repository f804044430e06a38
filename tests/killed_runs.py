"""Run main.py from what a kill (SIGKILL) leaves at every moment at which a file is about to change.

    python -m tests.killed_runs FOLDER batches|renames WORD...

"batches" are the moments before each batch of activation maps is written, with the progress noted after every batch;
"renames" those before each file takes its name. One run is stopped (SIGSTOP) at each of them while its folders are
copied, and killed at the last, which must leave what was copied: files do not care whether their writer is stopped or
killed. Then the program runs once more on each of the copies. Each run is a fork of this process, which has imported
everything and computed nothing. PDFs, whose content is not compared, are not drawn. Prints the digests of what lies
there after an undisturbed run and after the run on each copy, a JSON line each.
"""

import hashlib
import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

import main
import store.feature_file
import store.sparse_maps
import store.unfinished
from loader.models import load_model
from tests.conftest import without_pdfs


def run(words, kind=None, at_moment=None):
    """Fork a run of main.py. Returns its exit status, None when killed.

    at_moment: called with the number of each moment, while the run is stopped; gives the signal that is sent then.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sys.argv = ["main.py", *words]
            _stop_at(kind)
            main.main()
            status = 0
        except BaseException as error:  # noqa: BLE001 - the parent must hear of anything
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(status)
    moment = 0
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
        os.kill(child, at_moment(moment))
        moment += 1


def _stop_at(kind):
    def stopping(function):
        def stopped(*arguments, **options):
            signal.raise_signal(signal.SIGSTOP)  # of this thread, so that it goes no further
            return function(*arguments, **options)

        return stopped

    if kind == "renames":
        os.replace = stopping(os.replace)
    elif kind == "batches":
        for consumer in (store.feature_file.MapsSlice, store.sparse_maps.SparsePart):
            consumer.add = stopping(consumer.add)


def digests(folder):
    """The results that have no times in them, and what is not whole: {name: digest}."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".mmap", ".npy", ".npz", ".csv"):
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif ".partial" in path.name or ".sparse" in path.name:
            found[path.name] = "left over"
    return found


def report(**facts):
    print(json.dumps(facts), flush=True)


def content_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_it_is(source, copy):
    """Copy a file with its times; a whole map, which no run writes to any more, with the inode by which it is known."""
    (os.link if source.endswith(".mmap") else shutil.copy2)(source, copy)


def main_loop(folder, kind, words):
    place, copies, moments = folder / "place", folder / "copies", []
    words = [*words, f"OUTPUT_FOLDER={place / 'result'}", f"CACHE_FOLDER={place / 'cache'}"]
    if kind == "batches":
        store.unfinished.NOTE_SECONDS = -1

    def go_on(moment):
        moments.append(moment)
        return signal.SIGCONT

    def copy(moment):
        shutil.copytree(place, copies / str(moment), copy_function=as_it_is)
        return signal.SIGKILL if moment == moments[-1] else signal.SIGCONT

    assert run(words, kind, go_on) == 0
    report(digests=digests(place / "result"))
    shutil.rmtree(place)
    killed = run(words, kind, copy) is None
    assert content_of(place) == content_of(copies / str(moments[-1]))
    for moment in moments:
        shutil.rmtree(place)
        (copies / str(moment)).rename(place)
        again = run(words)
        report(allowed=moment, killed=killed, again=again, digests=digests(place / "result"))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # threads that wait for each other are most of the time of so small a run
    load_model("onet", ["layer3"])  # what it imports and asks of the installed packages each fork would anew
    main.REPORTS = without_pdfs(main.REPORTS)
    main_loop(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
