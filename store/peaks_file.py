"""p_u(x) of units, read from a memory map once: the interpretable ones (method.md §4), all for presence (§8.6)."""

import tempfile
from contextlib import AbstractContextManager

import numpy as np

from util.files import explained
from util.parallel import mapped

_BLOCK_BYTES = 16 << 20
_WAITING_BYTES = 16 << 20  # peaks that wait to be written, since those of one unit are few in a block of large maps


class PeaksFile(AbstractContextManager):
    """p_u(x) of some units over all images, kept in a temporary file unit by unit, so that memory stays small.

    folder: where the file, which has no name, takes its room.
    lowest, highest: float32 (U,), over all values of the unit. To be used in a `with` block.
    """

    def __init__(self, images, units, folder):
        self.images, self.folder = images, folder
        self.lowest, self.highest = np.full(units, np.inf, np.float32), np.full(units, -np.inf, np.float32)
        self._waiting, self._first = [], 0  # peaks that follow one another, and the first's image
        with explained(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__

    def __exit__(self, *exception):
        self._file.close()

    def add(self, peaks, lowest, highest):
        """Put in the next images: peaks float32 (b, U), and their bounds, float32 (U,)."""
        self._waiting.append(peaks)
        if sum(part.nbytes for part in self._waiting) >= _WAITING_BYTES:
            self._write()
        self.lowest, self.highest = np.minimum(self.lowest, lowest), np.maximum(self.highest, highest)

    def _write(self):
        if not self._waiting:
            return
        peaks = np.concatenate(self._waiting)
        with explained(self.folder):
            for unit, row in enumerate(np.ascontiguousarray(peaks.T, np.float32)):
                self._file.seek((unit * self.images + self._first) * row.itemsize)
                self._file.write(row.data)
            self._file.flush()
        self._waiting, self._first = [], self._first + len(peaks)

    def of(self, first, last=None):
        """p_u(x) of one unit, by its place among the units, or of those from first to last. Returns float32 (N,) or
        (last - first, N), NaN for an image left out.
        """
        self._write()
        peaks = np.empty((1 if last is None else last - first, self.images), np.float32)
        self._file.seek(first * self.images * peaks.itemsize)
        self._file.readinto(peaks.data.cast("B"))
        return peaks[0] if last is None else peaks


def read_peaks(peaks, maps, units, workers, label):
    """Fill a PeaksFile by reading a memory map once. maps: FeatureMaps. units: slice or int (U,). workers: threads."""
    blocks = maps.blocks(_BLOCK_BYTES)
    read = mapped(lambda block: maps.peaks(*block, units), blocks, workers, f"peaks of {label}",
                  size=lambda block: block[1] - block[0])  # fmt: skip
    for _, found in read:
        peaks.add(*found)
