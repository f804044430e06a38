"""The processes of one run, as torchrun starts them: who has which part, and how parts become one (PyTorch's engine).

The first process, of rank 0, runs the script, decides, writes the results and speaks. The others wait for what it calls
(see follow), work on their share of the images, and hand over what they found. What is merged are whole numbers and
parts in the order of the ranks, so that results do not depend on how many processes there are.
"""

import os
import signal
from contextlib import contextmanager
from datetime import timedelta

import numpy as np

from util.errors import DissectionError

# A process waits for others as long as they work, perhaps for days; one that ended is noticed by its connections.
_PATIENCE = timedelta(days=30)
_ERROR = "error"  # the key under which a process leaves what went wrong, for the first one to say

ENDED = (
    "a process of this run was ended from outside: what is finished is kept, and the same command goes on from here"
)


def asked_for():
    """(rank, number of processes), as torchrun says in the environment; (0, 1) without it."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def local_rank():
    """Which of the processes on this machine this one is."""
    return int(os.environ.get("LOCAL_RANK", 0))


class Ranks:
    """This process among those of the run, here alone: nothing is divided and nothing need be merged.

    rank: 0..size-1. size: number of processes.
    """

    rank, size = 0, 1

    @property
    def first(self):
        """Whether this process decides, writes and speaks."""
        return self.rank == 0

    def share(self, count):
        """The part of count things that is this process's: (start, stop). Parts follow the order of the ranks."""
        return self.rank * count // self.size, (self.rank + 1) * count // self.size

    def shared(self, value):
        """The first process's value, in every process."""
        return value

    def gathered(self, value):
        """The values of all processes in the order of their ranks: list, in the first process; None in others."""
        return [value]

    def summed(self, *arrays):
        """The sum over all processes of each array of whole numbers (int64, or float64 below 2**53), in every process.

        Returns a list of arrays. Every process gives as many, of the same shapes.
        """
        return list(arrays)

    def call(self, name, *arguments):
        """Have the other processes run what they know under a name (see follow). Of the first process."""

    def follow(self, known):
        """Run what the first process calls, until it is through. known: {name: function}. Of the other processes."""


ALONE = Ranks()


class TorchRanks(Ranks):
    """Several processes, joined by torch.distributed. Raises DissectionError where one of them is no longer there."""

    def __init__(self, rank, size):
        import torch
        import torch.distributed

        self.rank, self.size, self._torch, self._of = rank, size, torch, torch.distributed
        on_gpus = torch.cuda.is_available()
        if on_gpus:
            torch.cuda.set_device(local_rank() % torch.cuda.device_count())
        self._device = torch.device("cuda" if on_gpus else "cpu")  # of what is added up
        with _lost_ranks_explained(self):
            self._of.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=_PATIENCE)

    def shared(self, value):
        held = [value]
        with _lost_ranks_explained(self):
            self._of.broadcast_object_list(held, src=0)
        return held[0]

    def gathered(self, value):
        held = [None] * self.size if self.first else None
        with _lost_ranks_explained(self):
            self._of.gather_object(value, held, dst=0)
        return held

    def summed(self, *arrays):
        totals = []
        for array in arrays:
            total = self._torch.from_numpy(np.array(array)).to(self._device)
            with _lost_ranks_explained(self):
                self._of.all_reduce(total)
            totals.append(total.cpu().numpy())
        return totals

    def call(self, name, *arguments):
        self.shared((name, arguments))

    def follow(self, known):
        while (called := self.shared(None)) is not None:
            name, arguments = called
            known[name](*arguments)

    # ------------------------------------------------------------------------------------------------- beginning, end

    def leave_error(self, text):
        """Leave what went wrong in this process for the first one to say."""
        self._store().set(_ERROR, text)

    def error(self):
        """What another process left, None where none did."""
        try:
            store = self._store()
            return store.get(_ERROR).decode() if store.check([_ERROR]) else None
        except (RuntimeError, ValueError):  # the store went with the process that held it
            return None

    def _store(self):
        return self._of.distributed_c10d._get_default_store()

    def end(self, well):
        """Leave the others. well: the run is through, and they are to end as well."""
        if well and self.first:
            self.shared(None)
        if self._of.is_initialized():
            self._of.destroy_process_group()


@contextmanager
def _lost_ranks_explained(ranks):
    try:
        yield
    except RuntimeError as error:  # what gloo and nccl raise when a connection is gone
        raise DissectionError(ranks.error() or ENDED) from error


@contextmanager
def started():
    """The processes of this run: Ranks. In a `with` block, at whose end the others end, too."""
    rank, size = asked_for()
    if size == 1:
        yield ALONE
        return
    ranks = TorchRanks(rank, size)
    signal.signal(signal.SIGTERM, _told_to_end(ranks))
    well = False
    try:
        yield ranks
        well = True
    except DissectionError as error:
        if not ranks.first:
            ranks.leave_error(str(error))
        raise
    finally:
        ranks.end(well)


def _told_to_end(ranks):
    """What to do when torchrun ends this process, as it does when another one ended."""

    def end(*_):
        raise DissectionError(ranks.error() or ENDED)

    return end
