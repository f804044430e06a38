"""What torchrun says in the environment of each process that it starts: how many there are, and which this one is."""

import os


def asked_for():
    """(rank, number of processes) of the run; (0, 1) without torchrun."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def local_rank():
    """Which of the processes on this machine this one is."""
    return int(os.environ.get("LOCAL_RANK", 0))


def speaks():
    """Whether this process is the one of the run that says anything, to standard output and error."""
    return asked_for()[0] == 0
