"""Which tasks there are: a task is a file loader/model_loader_<task>.py. Any script can ask, for it needs no torch."""

from pathlib import Path

from util.errors import DissectionError, nearest

LOADER_FOLDER = Path(__file__).parent
FILE_PREFIX = "model_loader_"
RANDOM_WEIGHTS = "random"  # WEIGHTS of the untrained twin

# The name under which a network's provenance has what it computes: numbers, the same up to rounding.
BEHAVIOUR = "behaviour"


def available_tasks(folder=LOADER_FOLDER):
    """The tasks that have a loader file. Returns a sorted list of str."""
    return sorted(path.stem.removeprefix(FILE_PREFIX) for path in Path(folder).glob(f"{FILE_PREFIX}?*.py"))


def loader_file(task, folder=LOADER_FOLDER):
    """The path of a task's loader file. Raises DissectionError for a task that has none."""
    tasks = available_tasks(folder)
    if task not in tasks:
        close = nearest(task, tasks)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise DissectionError(f"unknown task {task!r}: {hint}The tasks are {', '.join(tasks)}")
    return Path(folder) / f"{FILE_PREFIX}{task}.py"
