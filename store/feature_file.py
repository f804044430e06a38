"""The memory map of a layer's activation maps on disk: `<layer>.mmap`, raw numbers of shape (N, U, H, W).

It is read and written by plain file operations in blocks, never mapped whole: mapped pages would count as the
program's memory, and 24,632 images of a large layer are more than most machines have.
The maps of an image that was left out of the run (SKIP_BAD_IMAGES) are NaN.
While it is being made, each process of the run writes the images that are its share into the one file.
"""

import glob
import json
import logging
import os
import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loader.batch import require_finite
from store.arrays import save_arrays
from util.errors import DissectionError
from util.files import beside, explained, read_json, replace_text, sync

log = logging.getLogger(__name__)

# How much work a kill may cost. Each note of the progress waits for the disk, which is why it is not taken per batch.
NOTE_SECONDS = 5


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


def discard_interrupted(store, stage):
    """Delete what an interrupted run left of a memory map, once a whole one holds."""
    path = store.path(stage.suffix)
    for leftover in (beside(path, "partial"), *_notes(path), *_notes(path, begun=True)):
        leftover.unlink(missing_ok=True)


def _notes(path, begun=False):
    """The notes of progress that processes left beside an unfinished map, or those that they had only begun to write.
    path: of the whole map.
    """
    name = f".{glob.escape(path.name)}.partial*.json"
    return sorted(path.parent.glob(f".{name}.partial" if begun else name))


class PartialMaps:
    """The unfinished memory map of a layer, as the first process plans and finishes it; where a killed run stopped, it
    goes on.

    store: LayerStore. stage, size_stage: the Stages of the map and of `<layer>_feature_size.npy`. session: dict of what
    else the bytes depend on (the device): a part made under another session or batch size is started anew, since a
    batch of another size rounds differently. shape: (N, U, H, W). dtype: of the file. batch_size: images per call of
    MapsSlice.add. usable: bool (N,), the images that have maps; the others stay NaN. Beside the partial file lie notes
    of which images are safely on the disk, one from each process that wrote some.

    done: bool, which batches are there. place: see MapsSlice.
    """

    def __init__(self, store, stage, size_stage, session, shape, dtype, batch_size, usable):
        self.store, self.stage, self.size_stage = store, stage, size_stage
        self.whole = store.path(stage.suffix)
        identity = json.loads(json.dumps(
            {"made_from": store.made_from(stage), "session": session, "shape": shape, "dtype": str(np.dtype(dtype)),
             "batch_size": batch_size}
        ))  # fmt: skip
        shape = tuple(shape)
        self.place = Place(store.layer, beside(self.whole, "partial"), identity, shape, dtype, batch_size, usable)
        with explained(self.place.path):
            self.place.path.parent.mkdir(parents=True, exist_ok=True)
            self.done = self._resumable()
            with open(self.place.path, "r+b" if self.done.any() else "wb") as file:
                file.truncate(shape[0] * self.place.bytes_per_image)
            self._join_notes()

    @property
    def missing_bytes(self):
        """How much is still to be written."""
        return self.place.bytes_per_image * sum(stop - start for start, stop in self.place.runs(~self.done))

    def _resumable(self):
        """Which batches of an interrupted run can be kept, bool."""
        path, done = self.place.path, np.zeros(self.place.batches, bool)
        found = [note for note in map(self._read_note, _notes(self.whole)) if note is not None]
        for identity, ranges in found:
            for start, stop in ranges if identity == self.place.identity else ():
                # Only whole batches are the same as in a run that was not interrupted.
                first, last = -(-start // self.place.batch_size), stop // self.place.batch_size
                done[first : len(done) if stop == self.place.shape[0] else last] = True
        if done.all() and not path.exists() and self.whole.exists():
            os.replace(self.whole, path)  # killed after the map got its name, before the manifest heard of it
        if not path.exists():
            return np.zeros(len(done), bool)
        if not done.any() or path.stat().st_size != self.place.bytes:
            if found:
                log.info("%s: the interrupted part was made under other settings and is started anew", self.whole.name)
            return np.zeros(len(done), bool)
        images = sum(stop - start for start, stop in self.place.runs(done))
        log.info("%s: going on with %d of %d images there", self.whole.name, images, self.place.shape[0])
        return done

    def _read_note(self, path):
        """(identity, ranges of images) of a note, None for a damaged one."""
        try:
            note = read_json(path)
            return (note["identity"], note["done"]) if fit(note["done"], self.place.shape[0]) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _join_notes(self):
        """Have one note of what is there, instead of those of processes that are no more."""
        joined = beside(self.whole, "partial.json")
        write_note(joined, self.place.identity, self.place.runs(self.done))
        for note in _notes(self.whole):
            if note != joined:
                note.unlink()

    def finish(self, written):
        """Give the complete map its name and enter it in the manifest, with `<layer>_feature_size.npy`.

        written: bool, which batches the pass has put there. Raises ValueError where an image has no maps.
        """
        self.done |= written
        with MapsSlice(self.place) as rest:  # batches all of whose images were left out
            for start, stop in self.place.runs(~self.done):
                for first in range(start, stop, self.place.batch_size):
                    rest.add_nothing(first)
        made_from = self.place.identity["made_from"]
        self.store.forget(self.stage.suffix)
        self.store.make(self.size_stage, save_arrays, np.array(self.place.shape, np.int64))
        with explained(self.place.path):
            sync(self.place.path)
            os.replace(self.place.path, self.whole)
        self.store.record(self.stage, made_from)
        discard_interrupted(self.store, self.stage)


def ranges_of(batches, size, count):
    """Consecutive batches as ranges of images: list of (start, stop). batches: bool, of each batch. size: of batches.
    count: of images.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], batches, [False]]).astype(np.int8)))
    return [(int(start) * size, min(int(stop) * size, count)) for start, stop in edges.reshape(-1, 2)]


def fit(ranges, count):
    """Whether what a note says are ranges of count images. Raises TypeError for what is no list of lists."""
    return all(type(edge) is int for of in ranges for edge in of) and all(
        len(of) == 2 and 0 <= of[0] <= of[1] <= count for of in ranges
    )


class Place(NamedTuple):
    """Where processes put the maps of a layer, and what they are. layer: its name in messages. path: of the partial
    file. The rest: see PartialMaps.
    """

    layer: str
    path: Path
    identity: dict
    shape: tuple
    dtype: str
    batch_size: int
    usable: np.ndarray

    @property
    def bytes_per_image(self):
        return int(np.prod(self.shape[1:])) * np.dtype(self.dtype).itemsize

    @property
    def bytes(self):
        return self.shape[0] * self.bytes_per_image

    @property
    def batches(self):
        """Their number."""
        return -(-self.shape[0] // self.batch_size)

    def runs(self, batches):
        """See ranges_of."""
        return ranges_of(batches, self.batch_size, self.shape[0])

    def open(self, rank):
        """What takes the maps of the images that are one process's. Returns MapsSlice."""
        return MapsSlice(self, rank)


def write_note(path, identity, ranges):
    """Note which images are safely on the disk. ranges: list of (start, stop)."""
    replace_text(path, json.dumps({"identity": identity, "done": ranges}))


class MapsSlice(AbstractContextManager):
    """One process's share of an unfinished memory map: a consumer of the pass, which gets whole batches in any order.
    To be used in a `with` block. place: Place. rank: of the process.
    """

    def __init__(self, place, rank=0):
        self.place = place
        self.note = place.path.with_name(f"{place.path.name}.{rank}.json")
        self.written = np.zeros(place.batches, bool)
        with explained(place.path):
            self.file = open(place.path, "r+b")  # noqa: SIM115 - closed by __exit__
        self.noted = time.monotonic()

    def add(self, batch):
        """Put the maps of a batch (loader.batch.Batch) in their places, and NaN for the images that were left out.

        Raises DissectionError when an activation does not fit the file's dtype.
        """
        with np.errstate(over="ignore"):  # what leaves float16's range is reported
            stored = batch.maps.astype(self.place.dtype, copy=False)
        require_finite(self.place.layer, stored, batch.images, batch.names, computed=batch.maps)
        first = int(batch.images[0]) // self.place.batch_size * self.place.batch_size
        self._write(first, batch.images, stored)

    def add_nothing(self, first):
        """Put NaN in the places of a batch all of whose images were left out. first: its first image."""
        self._write(first, np.zeros(0, int), np.zeros((0, *self.place.shape[1:]), self.place.dtype))

    def _write(self, first, images, maps):
        place = self.place
        stop = min(first + place.batch_size, place.shape[0])
        missing = np.setdiff1d(np.flatnonzero(place.usable[first:stop]) + first, images)
        if len(missing):
            raise ValueError(f"image {missing[0]} of {place.shape[0]} has no maps")
        block = np.full((stop - first, *place.shape[1:]), np.nan, place.dtype)
        block[images - first] = maps
        with explained(place.path):
            self.file.seek(first * place.bytes_per_image)
            self.file.write(memoryview(block).cast("B"))
            self.written[first // place.batch_size] = True
            if time.monotonic() - self.noted > NOTE_SECONDS:
                self._take_note()

    def _take_note(self):
        self.file.flush()
        os.fsync(self.file.fileno())
        write_note(self.note, self.place.identity, self.place.runs(self.written))
        self.noted = time.monotonic()

    def __exit__(self, *exception):
        """Close the file; what is written so far is noted for the next run."""
        with explained(self.place.path):
            try:
                if self.written.any():
                    self._take_note()
            finally:
                self.file.close()
