"""Working ahead: a function over many items, several at once, results in order and errors where they belong."""

import os
import signal
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from itertools import islice
from multiprocessing import connection, get_context, parent_process

from tqdm import tqdm

from util.errors import DissectionError
from util.launch import speaks

# The most processes that a pool takes on every system.
_MOST_PROCESSES = 61


def ordered_map(function, items, workers, ahead=2, processes=False):
    """Yield function(item) for each item, in order, computed by a pool of threads or processes.

    workers: their number, 0 computes in the caller's own thread. ahead: how many items beyond those in work may wait
    finished, which bounds the memory. An exception of function is raised here, at its item's turn; the items behind
    it are then dropped. Threads serve where decoding, NumPy and file reads release the interpreter lock; processes
    where the work is many small steps of Python (function, items and results must then be picklable).
    """
    if workers == 0:
        yield from map(function, items)
        return
    items = iter(items)
    # Fresh processes and no forks: a fork of a process whose libraries run threads can hang.
    if processes:
        executor = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_live_with_parent)
    else:
        executor = ThreadPoolExecutor(workers)
    try:
        with _interrupts_held_back() if processes else nullcontext():  # by the processes that start here, too
            pending = deque(executor.submit(function, item) for item in islice(items, workers + ahead))
        while pending:
            try:
                result = pending.popleft().result()
            except BrokenProcessPool as error:
                raise DissectionError(
                    "a process was ended from outside, probably for lack of memory: try again with fewer workers"
                ) from error
            pending.extend(executor.submit(function, item) for item in islice(items, 1))
            yield result
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def mapped(function, items, workers, label, unit="image", size=lambda item: 1, **options):
    """ordered_map under one labelled bar: yields (item, function(item)). size: how many units an item is.

    The rest: see ordered_map.
    """
    items = list(items)
    with progress(sum(map(size, items)), label, unit) as bar:
        for item, result in zip(items, ordered_map(function, items, workers, **options), strict=True):
            yield item, result
            bar.update(size(item))


def usable_cores():
    """How many processes can work at once: the cores that this process may use, at most what a pool takes."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(mine, _MOST_PROCESSES)


@contextmanager
def _interrupts_held_back():
    """Hold Ctrl-C back for a moment, in which processes start: they inherit that, and leave Ctrl-C to their parent.

    One that comes meanwhile is not lost: it takes effect at the end.
    """
    if not hasattr(signal, "pthread_sigmask"):  # a system without signals
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    came, in_main = [], threading.current_thread() is threading.main_thread()
    # Another thread of this process may take it meanwhile, and the main one would be interrupted all the same.
    handler = signal.signal(signal.SIGINT, lambda *_: came.append(True)) if in_main else None
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if in_main:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _live_with_parent():
    """Have a process of the pool end when its parent is gone, even killed."""

    def end_with_parent():
        connection.wait([parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def progress(total, label, unit):
    """One labelled bar for one pass, to be updated by hand; silent when standard error is not a terminal."""
    silent = None if speaks() else True
    return tqdm(total=total, desc=label, unit=unit, disable=silent, dynamic_ncols=True, leave=False)
