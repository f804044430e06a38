"""The processes of one run, as torchrun starts them: who has which part, and how parts become one (PyTorch's engine).

The first process, of rank 0, runs the script, decides, writes the results and speaks. The others wait for what it calls
(see follow), work on their share of the images, and hand over what they found. What is merged are whole numbers and
parts in the order of the ranks, so that results do not depend on how many processes there are.
"""

import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta

import numpy as np

from util.errors import DissectionError, Ended, shorten
from util.launch import asked_for

# A process waits for others as long as they work, perhaps for days; one that ended is noticed by its connections.
_PATIENCE = timedelta(days=30)
# What processes leave for each other: what went wrong, for the first one to say; and that it was said.
_ERROR, _SAID = "error", "said"
_WAIT = 10  # seconds for the first one to say it, before the second does; torchrun leaves 30 to end
_LOOK_EVERY = 1  # seconds between two looks at whether torchrun is still there

_LOOK_OFTEN = 0.001  # seconds between two looks at whether a sum is there

_KEPT = "what is finished is kept, and the same command goes on from here"
ENDED = f"a process of this run was ended from outside: {_KEPT}"


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

    def agree(self, device):
        """Require that all processes compute on the same kind of device, on which sums are made, too. device:
        torch.device of this one. Raises DissectionError.
        """

    def shared(self, value):
        """The first process's value, in every process."""
        return value

    def gathered(self, value):
        """The values of all processes in the order of their ranks: list, in the first process; None in others."""
        return [value]

    def others(self, value):
        """The values of the other processes, one at a time in the order of their ranks: iterator, in the first process;
        empty in others, which go through it as well.
        """
        return iter(())

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
    """Several processes, joined by torch.distributed: gloo, and NCCL for sums where each has a GPU. What they do
    together raises Ended where one of them is no longer there.
    """

    def __init__(self, rank, size):
        import torch
        import torch.distributed

        self.rank, self.size, self._torch, self._of = rank, size, torch, torch.distributed
        self._device, self._adding = torch.device("cpu"), None  # of what is added up, and the group that does it
        try:
            self._of.init_process_group("gloo", timeout=_PATIENCE)
        except (RuntimeError, ValueError) as error:
            advice = f"start the {size} processes of this run by torchrun"
            raise DissectionError(f"cannot join the others, {advice}: {shorten(str(error))}") from error

    def agree(self, device):
        kinds = set(self.shared(self.gathered(device.type)))
        if len(kinds) > 1:
            raise DissectionError(
                f"the processes of this run would compute on different devices ({', '.join(sorted(kinds))}): set "
                "DEVICE to one that all of them have"
            )
        if device.type == "cuda":
            self._torch.cuda.set_device(device)
            self._device = device
            try:  # NCCL looks for the others when it first adds up, which is better not after hours of work
                self._adding = self._of.new_group(backend="nccl", timeout=_PATIENCE)
                self._sum(np.zeros(1, int))
            except RuntimeError as error:
                reason = shorten(str(error))
                raise DissectionError(
                    f"the GPUs of this run cannot reach each other ({reason}): NCCL_DEBUG=INFO in the environment has "
                    "NCCL say why"
                ) from error

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

    def others(self, value):
        with _lost_ranks_explained(self):
            if not self.first:
                self._of.send_object_list([value], dst=0)
                return
            for rank in range(1, self.size):
                held = [None]
                self._of.recv_object_list(held, src=rank)
                yield held[0]

    def summed(self, *arrays):
        with _lost_ranks_explained(self):
            return [self._sum(array) for array in arrays]

    def _sum(self, array):
        total = self._torch.from_numpy(np.array(array)).to(self._device)
        work = self._of.all_reduce(total, group=self._adding, async_op=True)
        while not work.is_completed():  # a process that waits for its GPU would not hear that it is to end
            time.sleep(_LOOK_OFTEN)
        work.wait()
        return total.cpu().numpy()

    def call(self, name, *arguments):
        self.shared((name, arguments))

    def follow(self, known):
        while (called := self.shared(None)) is not None:
            name, arguments = called
            known[name](*arguments)

    # ------------------------------------------------------------------------------------------------- when one ends

    def error(self):
        """What another process left as its error, None where none did."""
        try:
            store = self._store()
            return store.get(_ERROR).decode() if store.check([_ERROR]) else None
        except (RuntimeError, ValueError):  # the store went with the process that held it
            return None

    def leave(self, key, text):
        """Leave something for the other processes, as far as they can still be reached."""
        with suppress(RuntimeError, ValueError):
            self._store().set(key, text)

    def was_said(self):
        """Whether the first process has said why the run ended, or does so in a moment. So it is where torchrun itself
        is gone: then all processes are told to end, the first one too.
        """
        last = time.monotonic() + _WAIT
        try:
            while time.monotonic() < last:
                if self._store().check([_SAID]):
                    return True
                time.sleep(0.1)
        except (RuntimeError, ValueError):  # the store went with torchrun
            return True
        return False

    def _store(self):
        return self._of.distributed_c10d._get_default_store()

    def end(self):
        """Leave the others, which end, too. Of every process of a run that is through."""
        if self.first:
            self.shared(None)
        with _lost_ranks_explained(self):
            self._of.barrier()  # or one that is quicker closes connections on which others still wait
        self._of.destroy_process_group()


@contextmanager
def _lost_ranks_explained(ranks):
    try:
        yield
    except RuntimeError as error:  # what gloo and NCCL raise when a connection is gone
        gone = any(of in str(error).lower() for of in _GONE)
        reason = ENDED if gone else f"the processes of this run lost each other ({shorten(str(error))}): {_KEPT}"
        raise Ended(ranks.error() or reason) from error


_GONE = ("connection closed", "connection reset", "broken pipe", "remote process exited")


@contextmanager
def started():
    """The processes of this run: Ranks. In a `with` block, at whose end the others end, too.

    Whatever ends one of them ends all: the first process raises what went wrong as DissectionError or Ended, or the
    second one where the first is gone; in the others it is raised as well, and not said (see util.errors.run_script).
    """
    rank, size = asked_for()
    if size == 1:
        yield ALONE
        return
    _end_with_parent()
    ranks = TorchRanks(rank, size)
    signal.signal(signal.SIGTERM, _told_to_end(ranks))
    try:
        yield ranks
        ranks.end()
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one end is enough
        if ranks.first:
            ranks.leave(_SAID, "yes")
        elif isinstance(error, Ended):
            error.first_is_gone = rank == 1 and not ranks.was_said()
        elif isinstance(error, DissectionError):
            ranks.leave(_ERROR, str(error))
        raise


def _told_to_end(ranks):
    """What to do when torchrun ends this process, as it does when another one ended."""

    def end(*_):
        raise Ended(ranks.error() or ENDED)

    return end


def _end_with_parent():
    """Have this process end when torchrun is gone, even killed."""
    parent = os.getppid()

    def look():
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()
