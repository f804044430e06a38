"""Reading ahead: a function over many items, in threads, results in order and errors where they belong."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from tqdm import tqdm


def ordered_map(function, items, workers, ahead=2):
    """Yield function(item) for each item, in order, computed by a pool of threads.

    workers: number of threads, 0 computes in the caller's own. ahead: how many items beyond those in work may wait
    finished, which bounds the memory. An exception of function is raised here, at its item's turn; the items behind
    it are then dropped. Threads serve because decoding, NumPy and file reads release the interpreter lock.
    """
    if workers == 0:
        yield from map(function, items)
        return
    items = iter(items)
    executor = ThreadPoolExecutor(workers)
    try:
        pending = deque(executor.submit(function, item) for item in islice(items, workers + ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(executor.submit(function, item) for item in islice(items, 1))
            yield result
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def progress(total, label, unit):
    """One labelled bar for one pass, to be updated by hand; silent when standard error is not a terminal."""
    return tqdm(total=total, desc=label, unit=unit, disable=None, dynamic_ncols=True, leave=False)
