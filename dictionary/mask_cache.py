"""Masks on the counting grid, kept between runs, so that each is decoded once ever.

An entry holds the packed bits of one row's masks, compressed: outlines of what faces show shrink to a tenth and less.
It is found by all that decides these bits, and has a checksum (see util/memory.py).
"""

import json
import logging
import threading
import weakref
import zlib
from pathlib import Path

import numpy as np

from util.errors import DissectionError
from util.memory import Memory
from util.packing import words_of

log = logging.getLogger(__name__)

_VERSION = 1  # raise when the same files would give other masks
_WAITING = 64  # rows between two transactions
_FASTEST = 1  # of zlib's levels


class MaskCache:
    """Packed masks by a key, for any thread of any run. Where it cannot be used a run goes on without. It closes itself
    when the last of those that it serves is gone.

    folder: in which its file lies, one for all dictionaries. limit_mb: MASK_CACHE_MB, above 0.
    """

    def __init__(self, folder, limit_mb):
        self._made_of = folder, limit_mb
        # A lock that one thread may take twice: whoever is gone may be found so in the middle of keep.
        self._waiting, self._lock, self._memory, self._served = {}, threading.RLock(), None, 0
        try:
            path, limit = Path(folder) / "masks.sqlite", int(limit_mb * 2**20)
            self._memory = Memory(path, _VERSION, "masks are decoded again", limit)
        except DissectionError as error:
            self._give_up(error)

    def __reduce__(self):
        return MaskCache, self._made_of  # each process of a run opens the file itself

    def serve(self, user):
        """Stay open until user, any object, is gone, at the latest until the end of the program."""
        with self._lock:
            self._served += 1
        weakref.finalize(user, self._leave)

    def _leave(self):
        self.flush()
        with self._lock:
            self._served -= 1
            if self._served or self._memory is None:
                return
            memory, self._memory = self._memory, None
        try:
            memory.close()
        except DissectionError as error:
            self._give_up(error)

    def read(self, key, grid):
        """What was kept: (names, list of text; bits, uint64 (m, words)), None where there is nothing sound.

        key: bytes. grid: (rows, columns) of the masks.
        """
        memory = self._memory
        if memory is None:
            return None
        try:
            entry = self._waiting.get(key) or memory.read([key]).get(key)
        except DissectionError as error:
            self._give_up(error)
            return None
        if entry is None:
            return None
        names, _, bits = entry.partition(b"\n")
        return json.loads(names), np.frombuffer(zlib.decompress(bits), np.uint64).reshape(-1, words_of(grid))

    def keep(self, key, names, bits):
        """Keep what read gives."""
        entry = b"%s\n%s" % (json.dumps(names).encode(), zlib.compress(bits.tobytes(), _FASTEST))
        with self._lock:
            self._waiting[key] = entry
            full = len(self._waiting) >= _WAITING
        if full:
            self.flush()

    def flush(self):
        """Write what waits for it."""
        with self._lock:
            memory, waiting, self._waiting = self._memory, self._waiting, {}
        try:
            if memory is not None:
                memory.write(waiting)
        except DissectionError as error:
            self._give_up(error)

    def _give_up(self, error):
        log.info("decoded masks are not kept: %s", error)
        self._memory = None
