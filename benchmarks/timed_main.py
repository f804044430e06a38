"""main.py without its reports, and when each of its stages began: for benchmarks.processes.

    python -m benchmarks.timed_main TIMES.json KEY=VALUE ...      (or started by torchrun with -m)

TIMES.json gets {stage: seconds after the first batch of the run}, of the first process.
"""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import main
from loader import activations
from util.errors import run_script
from util.launch import speaks

STAGES = ("extract", "threshold", "tally", "chance", "formulas", "dissect_twins", "write_reports")


def watch():
    """Have main note when its stages begin, and leave out what people read. Returns {stage: time}."""
    began = {}

    def noting(name, function):
        def noted(*arguments, **options):
            began[name] = time.perf_counter()
            return function(*arguments, **options)

        return noted

    main.write_reports = main.summarise = lambda *of, **options: None
    main.write_pages = lambda *of: defaultdict(str)
    for name in STAGES:
        setattr(main, name, noting(name, getattr(main, name)))
    run = activations.ActivationRecorder.run

    def first_noted(*arguments):
        began.setdefault("first batch", time.perf_counter())
        return run(*arguments)

    activations.ActivationRecorder.run = first_noted
    return began


if __name__ == "__main__":
    began, place = watch(), Path(sys.argv[1])
    sys.argv = ["main.py", *sys.argv[2:]]

    def timed():
        main.main()
        if speaks():
            place.write_text(json.dumps({name: at - began["first batch"] for name, at in began.items()}))

    run_script(timed, together=True)
