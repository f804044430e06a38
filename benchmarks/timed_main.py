"""Run main.py with a clock on its stages, as a process of its own.

    python -m benchmarks.timed_main FILE [--profile] WORD...

What main.py calls is timed where main.py finds it; nothing else changes. Leaves in FILE (of several processes of
torchrun FILE.0, FILE.1 and so on) as JSON: {"stages": {stage: [seconds, seconds of all cores]}, in the order of their
first beginning, "peak_mib": of resident memory}. With --profile, beside it FILE.profile: cProfile's figures of the main
thread, which with WORKERS=0 does all there is to do.
"""

import cProfile
import importlib
import json
import os
import resource
import sys
import time
from functools import wraps
from pathlib import Path

from benchmarks.measuring import peak_mib
from util.errors import run_script

# (module, what it calls by that name): the stages of main.py, and those parts of its preparations that are quoted.
STAGES = (
    ("main", "prepare_model"), ("main", "prepare_dictionary"), ("main", "layer_stores"), ("main", "extract"),
    ("main", "threshold"), ("main", "tally"), ("main", "chance"), ("main", "formulas"), ("main", "dissect_twins"),
    ("main", "write_reports"), ("main", "tidy_up"), ("main", "write_pages"), ("main", "summarise"),
)  # fmt: skip
PARTS = (
    ("store.run", "open_dictionary"), ("dictionary.dictionary", "check_files"),
    ("dictionary.face_format.FaceFormat", "read_index"),
)  # fmt: skip


def attached(places, spent):
    """Put a clock on functions. places: (module or module.class, name). spent: {name: [seconds, of all cores]}, which
    they add to. What is no longer called by such a name is left alone.
    """
    for where, name in places:
        module, _, owner = where.rpartition(".") if where.rpartition(".")[2][0].isupper() else (where, "", "")
        holder = importlib.import_module(module)
        holder = getattr(holder, owner, None) if owner else holder
        if hasattr(holder, name):
            setattr(holder, name, _clocked(getattr(holder, name), spent, name))


def _clocked(function, spent, name):
    @wraps(function)
    def clocked(*arguments, **options):
        of = spent.setdefault(name, [0.0, 0.0])
        wall, cores = time.perf_counter(), time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            of[0] += time.perf_counter() - wall
            of[1] += time.process_time() - cores

    return clocked


def main():
    import main as script

    file, *words = sys.argv[1:]
    file += f".{os.environ['RANK']}" if "RANK" in os.environ else ""
    profile = cProfile.Profile() if "--profile" in words else None
    sys.argv = ["main.py", *(word for word in words if word != "--profile")]
    spent = {}
    attached((*STAGES, *PARTS), spent)
    try:
        profile.runcall(script.main) if profile else script.main()
    finally:
        found = {"stages": spent, "peak_mib": peak_mib(resource.RUSAGE_SELF)}
        Path(file).write_text(json.dumps(found), encoding="utf-8")
        if profile:
            profile.dump_stats(f"{file}.profile")


if __name__ == "__main__":
    run_script(main)
