"""p_u(x) of the interpretable units, read from a memory map once (method.md §4)."""

import tempfile
from contextlib import AbstractContextManager

import numpy as np

from util.files import explained
from util.parallel import mapped

_BLOCK_BYTES = 16 << 20


class PeaksFile(AbstractContextManager):
    """p_u(x) of some units over all images, kept in a temporary file unit by unit, so that memory stays small.

    folder: where the file, which has no name, takes its room.
    lowest, highest: float32 (U,), over all values of the unit. To be used in a `with` block.
    """

    def __init__(self, images, units, folder):
        self.images, self.folder = images, folder
        self.lowest, self.highest = np.full(units, np.inf, np.float32), np.full(units, -np.inf, np.float32)
        with explained(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__

    def __exit__(self, *exception):
        self._file.close()

    def add(self, start, peaks, lowest, highest):
        """Put in a block: peaks float32 (b, U) of the images from start on, and its bounds, float32 (U,)."""
        with explained(self.folder):
            for unit, row in enumerate(np.ascontiguousarray(peaks.T, np.float32)):
                self._file.seek((unit * self.images + start) * row.itemsize)
                self._file.write(row.data)
            self._file.flush()
        self.lowest, self.highest = np.minimum(self.lowest, lowest), np.maximum(self.highest, highest)

    def of(self, unit):
        """p_u(x) of one unit, by its place among the units. Returns float32 (N,), NaN for an image left out."""
        peaks = np.empty(self.images, np.float32)
        self._file.seek(unit * peaks.nbytes)
        self._file.readinto(peaks.data.cast("B"))
        return peaks


def read_peaks(peaks, maps, units, workers, label):
    """Fill a PeaksFile by reading a memory map once. maps: FeatureMaps. units: int (U,). workers: threads."""

    def one(block):
        return maps.peaks(*block, units)

    blocks = maps.blocks(_BLOCK_BYTES)
    for (start, _), found in mapped(one, blocks, workers, f"peaks of {label}", size=lambda block: block[1] - block[0]):
        peaks.add(start, *found)
