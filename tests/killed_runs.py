"""Run main.py again and again, killed (SIGKILL) at every moment at which a file is about to change, then once more.

    python -m tests.killed_runs FOLDER batches|renames WORD...

"batches" kills before each batch of activation maps is written, with the progress noted after every batch; "renames"
before each file takes its name. Each run is a fork of this process, which has imported everything and computed nothing.
Prints one JSON line per kill: how many batches or renames the killed run was let do, and the digests of what lies there
after the run that follows.
"""

import hashlib
import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

import facenet_pytorch  # noqa: F401 - the forks would import it one by one
import torch

import main
import store.feature_file
import store.sparse_maps
import store.unfinished


def run(words, kind=None, allowed=None):
    """Fork a run of main.py, killed after so many batches or renames. Returns its exit status, None when killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sys.argv = ["main.py", *words]
            _die_at(kind, allowed)
            main.main()
            status = 0
        except BaseException as error:  # noqa: BLE001 - the parent must hear of anything
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def _die_at(kind, allowed):
    def counting(function):
        left = [allowed]

        def counted(*arguments, **options):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return function(*arguments, **options)

        return counted

    if kind == "renames":
        os.replace = counting(os.replace)
    elif kind == "batches":
        for consumer in (store.feature_file.MapsSlice, store.sparse_maps.SparsePart):
            consumer.add = counting(consumer.add)


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


def main_loop(folder, kind, words):
    result, cache = folder / "result", folder / "cache"
    words = [*words, f"OUTPUT_FOLDER={result}", f"CACHE_FOLDER={cache}"]
    if kind == "batches":
        store.unfinished.NOTE_SECONDS = -1
    assert run(words) == 0
    report(digests=digests(result))
    allowed = 0
    while True:
        for place in (result, cache):
            shutil.rmtree(place, ignore_errors=True)
        ended = run(words, kind, allowed)
        if ended == 0:
            return
        again = run(words)
        report(allowed=allowed, killed=ended is None, again=again, digests=digests(result))
        allowed += 1


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # threads that wait for each other are most of the time of so small a run
    main_loop(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
