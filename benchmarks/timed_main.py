"""Run main.py with a clock on its stages, as a process of its own.

    python -m benchmarks.timed_main FILE [--profile] [--no-reports] WORD...

What main.py calls is timed where main.py finds it; nothing else changes. Leaves in FILE (of several processes of
torchrun FILE.0, FILE.1 and so on) as JSON: {stage: [seconds, seconds of all cores, peak of resident memory in MiB]}, in
the order in which they end. With --profile, beside it FILE.profile: cProfile's figures of the main thread, which with
WORKERS=0 does all there is to do. With --no-reports nothing is made that people read. On Linux, where the system lets a
process forget its earlier peak.
"""

import cProfile
import importlib
import json
import os
import sys
import time
from collections import defaultdict
from functools import wraps
from pathlib import Path

from benchmarks.measuring import forget_peak, status_mib
from util.errors import run_script

# (module, what it calls by that name): the stages of main.py, and those parts of them that are quoted.
STAGES = (
    ("store.run", "prepare_model"), ("main", "prepare_dictionary"), ("main", "layer_stores"), ("main", "extract"),
    ("main", "threshold"), ("main", "tally"), ("main", "chance"), ("main", "formulas"), ("main", "dissect_twins"),
    ("main", "write_reports"), ("main", "tidy_up"), ("main", "write_pages"), ("main", "summarise"),
)  # fmt: skip
PARTS = (
    ("store.run", "open_dictionary"), ("dictionary.dictionary", "check_files"),
    ("dictionary.face_format.FaceFormat", "read_index"),
)  # fmt: skip


def attached(places, spent, is_part=False):
    """Put a clock on functions. places: (module or module.class, name). spent: {name: [seconds, of all cores, peak]},
    which they add to. is_part: they lie within others, whose peak they must leave alone. What is no longer called by
    such a name is left alone, too.
    """
    for where, name in places:
        module, _, last = where.rpartition(".")
        holder = getattr(importlib.import_module(module), last, None) if last[0].isupper() else None
        holder = holder or importlib.import_module(where)
        if hasattr(holder, name):
            setattr(holder, name, _clocked(getattr(holder, name), spent, name, is_part))


def _clocked(function, spent, name, is_part):
    @wraps(function)
    def clocked(*arguments, **options):
        if not is_part:
            forget_peak()
        wall, cores = time.perf_counter(), time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            found = time.perf_counter() - wall, time.process_time() - cores
            before = spent.pop(name, (0.0, 0.0, 0.0))
            peak = max(before[2], status_mib("VmHWM"))
            spent[name] = [before[0] + found[0], before[1] + found[1], peak]

    return clocked


def main():
    import main as script

    file, *words = sys.argv[1:]
    file += f".{os.environ['RANK']}" if "RANK" in os.environ else ""
    profile = cProfile.Profile() if "--profile" in words else None
    if "--no-reports" in words:
        script.write_reports = script.summarise = lambda *of, **options: None
        script.write_pages = lambda *of: defaultdict(str)
    sys.argv = ["main.py", *(word for word in words if not word.startswith("--"))]
    spent = {}
    attached(STAGES, spent)
    attached(PARTS, spent, is_part=True)
    try:
        profile.runcall(script.main) if profile else script.main()
    finally:
        Path(file).write_text(json.dumps(spent), encoding="utf-8")
        if profile:
            profile.dump_stats(f"{file}.profile")


if __name__ == "__main__":
    run_script(main, together=True)
