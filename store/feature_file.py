"""The memory map of a layer's activation maps on disk: `<layer>.mmap`, raw numbers of shape (N, U, H, W).

It is read and written by plain file operations in blocks, never mapped whole: mapped pages would count as the
program's memory, and 24,632 images of a large layer are more than most machines have.
The maps of an image that was left out of the run (SKIP_BAD_IMAGES) are NaN.
While it is being made, each process of the run writes the images that are its share into the one file.
"""

import os
import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from loader.batch import require_finite
from store import unfinished
from store.unfinished import Place, Unfinished
from util.errors import DissectionError
from util.files import explained


class FeatureMaps:
    """A finished memory map, open for reading.

    path: the file. shape: (N, U, H, W). dtype: as stored. usable: bool (N,), which images have maps.
    """

    def __init__(self, path, shape, dtype, usable):
        self.path = Path(path)
        self.shape = tuple(int(length) for length in shape)
        self.dtype = np.dtype(dtype)
        self.usable = usable
        expected = int(np.prod(self.shape)) * self.dtype.itemsize
        found = self.path.stat().st_size
        if found != expected:
            raise DissectionError(f"{path} has {found:,} bytes, but {self.shape} of {self.dtype} are {expected:,}")

    @property
    def units(self):
        return self.shape[1]

    @property
    def bytes_per_image(self):
        return int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def read(self, start, stop):
        """The maps of images start..stop-1 (0 <= start < stop <= N). Returns float32 (stop - start, U, H, W)."""
        return self._read(start * self.bytes_per_image, (stop - start, *self.shape[1:]))

    def read_units(self, images, first, last):
        """The maps of units first..last-1 (0 <= first < last <= U) of some images. Returns float32 (n, units, H, W)."""
        bytes_per_unit = self.bytes_per_image // self.units
        shape = (last - first, *self.shape[2:])
        places = (image * self.bytes_per_image + first * bytes_per_unit for image in images)
        return np.stack([self._read(place, shape) for place in places])

    def read_map(self, image, unit):
        """One activation map A_u(x). Returns float32 (H, W)."""
        return self._read((image * self.units + unit) * (self.bytes_per_image // self.units), self.shape[2:])

    def _read(self, offset, shape):
        count = int(np.prod(shape))
        # Opens a file of its own for every call, so that threads do not move each other's position.
        numbers = np.fromfile(self.path, self.dtype, count, offset=offset)
        if len(numbers) < count:
            raise DissectionError(f"{self.path} ended early: it was cut while it was being read")
        return numbers.reshape(shape).astype(np.float32, copy=False)

    def peaks(self, start, stop, units=slice(None)):
        """p_u(x) of images start..stop-1, and the bounds of their maps. units: slice or int (U,) of those asked for.

        Returns float32 (stop - start, U), NaN for an image left out; the lowest and the highest of all values, float32
        (U,), infinite where all images are left out.
        """
        few = isinstance(units, slice) and units.indices(self.units) != (0, self.units, 1)
        if few:  # in a row, as a process has its share of them
            maps = self.read_units(range(start, stop), *units.indices(self.units)[:2])
        else:
            maps = self.read(start, stop)[:, units]
        values = maps.reshape(*maps.shape[:2], maps.shape[2] * maps.shape[3])
        of_images = values.max(axis=2)
        seen = ~np.isnan(of_images).any(axis=1)
        lowest = values[seen].min(axis=(0, 2), initial=np.inf)
        return of_images, lowest, of_images[seen].max(axis=0, initial=-np.inf)

    def blocks(self, block_bytes, first=0, last=None):
        """Consecutive (start, stop) ranges of the images first..last-1, all by default, of about block_bytes each."""
        step, last = max(1, block_bytes // self.bytes_per_image), self.shape[0] if last is None else last
        return [(start, min(start + step, last)) for start in range(first, last, step)]


def require_space(folder, missing_bytes, names, smaller=()):
    """Raise DissectionError when a disk cannot hold missing_bytes more. Returns the bytes that are free.

    names: of the memory maps, for the message. smaller: texts, settings under which they would be smaller.
    """
    free = shutil.disk_usage(folder).free
    if missing_bytes > free:
        advice = ["free some space", "choose another OUTPUT_FOLDER", *smaller]
        raise DissectionError(
            f"the memory map of {' and '.join(names)} needs {missing_bytes / 1e6:,.0f} MB more and {folder} has "
            f"{free / 1e6:,.0f} MB free: {', '.join(advice[:-1])} or {advice[-1]}"
        )
    return free


class MapsPlace(Place):
    """See Place."""

    @property
    def bytes_per_image(self):
        return int(np.prod(self.shape[1:])) * np.dtype(self.dtype).itemsize

    def open(self, rank=0):
        """What takes the maps of the images that are one process's. Returns MapsSlice."""
        return MapsSlice(self, rank)


class PartialMaps(Unfinished):
    """The unfinished memory map of a layer: shape (N, U, H, W), of which the images that were left out are NaN."""

    kind, of_place = "partial", MapsPlace

    @property
    def begun_bytes(self):
        """Of the unfinished file when it is begun: all."""
        return self.place.shape[0] * self.place.bytes_per_image

    @property
    def missing_bytes(self):
        """How much is still to be written."""
        missing = self.place.runs(~self.done | self.place.empty)
        return self.place.bytes_per_image * sum(stop - start for start, stop in missing)

    def noted(self, place):
        """Which batches are safely in an unfinished file, bool. place: MapsPlace."""
        notes = [place.read_note(rank) for rank in (None, *place.notes())]
        return np.logical_or.reduce([np.zeros(place.batches, bool), *(done for done, _ in filter(None, notes))])

    def take_over(self, before):
        """The file is all there is."""

    def complete(self):
        with open(self.place.path, "r+b") as file:
            self.place.leave_out(file, 0, self.place.shape[1:])


class MapsSlice(AbstractContextManager):
    """One process's share of an unfinished memory map: a consumer of the pass, which gets whole batches in any order.
    To be used in a `with` block. place: MapsPlace. rank: of the process. written: bool, which batches it has put there.
    """

    def __init__(self, place, rank):
        self.place, self.rank = place, rank
        self.written = np.zeros(place.batches, bool)
        with explained(place.path):
            self.file = place.opened()
        self.noted = time.monotonic()

    def add(self, batch):
        """Put the maps of a batch (loader.batch.Batch) in their places, and NaN for the images that were left out.

        Raises DissectionError when an activation does not fit the file's dtype.
        """
        place = self.place
        with np.errstate(over="ignore"):  # what leaves float16's range is reported
            stored = batch.maps.astype(place.dtype, copy=False)
        require_finite(place.layer, stored, batch.images, batch.names, computed=batch.maps)
        first, block = place.block(batch.images, stored)
        with explained(place.path):
            self.file.seek(first * place.bytes_per_image)
            self.file.write(memoryview(block).cast("B"))
            self.written[first // place.batch_size] = True
            if time.monotonic() - self.noted > unfinished.NOTE_SECONDS:
                self._take_note()

    def _take_note(self):
        self.place.require_here()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.place.write_note(self.written, self.rank)
        self.noted = time.monotonic()

    def __exit__(self, *exception):
        """Close the file; what is written so far is noted for the next run."""
        with explained(self.place.path):
            try:
                if self.written.any():
                    self._take_note()
            finally:
                self.file.close()
