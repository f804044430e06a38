"""The memory map of a layer's activation maps on disk: `<layer>.mmap`, raw numbers of shape (N, U, H, W).

It is read and written by plain file operations in blocks, never mapped whole: mapped pages would count as the
program's memory, and 24,632 images of a large layer are more than most machines have.
The maps of an image that was left out of the run (SKIP_BAD_IMAGES) are NaN.
"""

import json
import logging
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from loader.batch import require_finite
from store.arrays import load_arrays, save_arrays
from util.errors import DissectionError
from util.files import beside, explained, read_json, replace_text, sync

log = logging.getLogger(__name__)

# How much work a kill may cost. Each note of the progress waits for the disk, which is why it is not taken per batch.
NOTE_SECONDS = 5


def open_maps(store, stage, size_stage, usable=None):
    """The finished memory map of a layer. store: LayerStore; its facts or the manifest tell the dtype.

    usable: bool (N,), which images have maps, all by default. Returns FeatureMaps. Raises DissectionError.
    """
    shape = load_arrays(store.path(size_stage.suffix))
    made_from = store.require(stage)
    usable = np.ones(shape[0], bool) if usable is None else usable
    return FeatureMaps(store.path(stage.suffix), shape, made_from["feature_dtype"], usable)


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

    def peaks(self, start, stop, units=slice(None)):
        """p_u(x) of some images, and the bounds of the units over them. units: which, by default all.

        Returns (float32 (stop - start, units), NaN for images that were left out; lowest, highest: float32 (units,)).
        """
        values = self.read(start, stop)[:, units].reshape(stop - start, -1, self.shape[2] * self.shape[3])
        peaks = values.max(axis=2)
        seen = ~np.isnan(peaks).any(axis=1)
        lowest = values[seen].min(axis=(0, 2), initial=np.inf)
        return peaks, lowest, peaks[seen].max(axis=0, initial=-np.inf)

    def _read(self, offset, shape):
        count = int(np.prod(shape))
        # Opens a file of its own for every call, so that threads do not move each other's position.
        numbers = np.fromfile(self.path, self.dtype, count, offset=offset)
        if len(numbers) < count:
            raise DissectionError(f"{self.path} ended early: it was cut while it was being read")
        return numbers.reshape(shape).astype(np.float32, copy=False)

    def blocks(self, block_bytes):
        """Consecutive (start, stop) ranges of images of about block_bytes each."""
        step = max(1, block_bytes // self.bytes_per_image)
        return [(start, min(start + step, self.shape[0])) for start in range(0, self.shape[0], step)]


def require_space(folder, missing_bytes, names):
    """Raise DissectionError when a disk cannot hold missing_bytes more. names: of the memory maps, for the message."""
    free = shutil.disk_usage(folder).free
    if missing_bytes > free:
        raise DissectionError(
            f"the memory map of {' and '.join(names)} needs {missing_bytes / 1e6:,.0f} MB more and {folder} has "
            f"{free / 1e6:,.0f} MB free: free some space, choose another OUTPUT_FOLDER, or set FEATURE_DTYPE='float16' "
            "to halve it"
        )


def discard_interrupted(store, stage):
    """Delete what an interrupted run left of a memory map, once a whole one holds."""
    for word in ("partial", "partial.json"):
        beside(store.path(stage.suffix), word).unlink(missing_ok=True)


@contextmanager
def memory_maps(stores, stage, size_stage, *, session, dtype, batch_size, usable):
    """Have one pass fill the memory maps of several layers. stores: {layer: LayerStore}; the rest: see FeatureWriter.

    Yields the function begin of loader.activations.one_pass. When the block ends well the maps take their names;
    otherwise what is written is kept for the next run. Raises DissectionError when the disk is too small for them.
    """
    writers = {}

    def begin(shapes):
        for layer, shape in shapes.items():
            shape = (len(usable), *shape)
            writers[layer] = FeatureWriter(stores[layer], stage, size_stage, session, shape, dtype, batch_size, usable)
        missing_bytes = sum(writer.missing_bytes for writer in writers.values())
        require_space(next(iter(stores.values())).folder, missing_bytes, [store.layer for store in stores.values()])
        return {layer: [writer] for layer, writer in writers.items()}, min(of.done for of in writers.values())

    try:
        yield begin
        for writer in writers.values():
            writer.finish()
    finally:
        for writer in writers.values():
            writer.close()


class FeatureWriter:
    """Fills a layer's memory map batch after batch, and goes on where a killed run stopped. A consumer of the pass.

    store: LayerStore. stage, size_stage: the Stages of the map and of `<layer>_feature_size.npy`. session: dict of what
    else the bytes depend on (the device): a part made under another session or batch size is started anew, since a
    batch of another size rounds differently. shape: (N, U, H, W). dtype: of the file. batch_size: images per call of
    add. usable: bool (N,), the images that have maps; the others stay NaN. Beside the partial file lies a note of how
    many images are safely on the disk.
    """

    def __init__(self, store, stage, size_stage, session, shape, dtype, batch_size, usable):
        self.store, self.stage, self.size_stage = store, stage, size_stage
        self.shape, self.dtype, self.batch_size, self.usable = tuple(shape), np.dtype(dtype), batch_size, usable
        self.identity = json.loads(json.dumps(
            {"made_from": store.made_from(stage), "session": session, "shape": self.shape, "dtype": str(self.dtype),
             "batch_size": batch_size}
        ))  # fmt: skip
        self.partial = beside(store.path(stage.suffix), "partial")
        self.note = beside(store.path(stage.suffix), "partial.json")
        self.bytes_per_image = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        with explained(self.partial):
            self.partial.parent.mkdir(parents=True, exist_ok=True)
            self.done = self._resumable()
            self.file = open(self.partial, "r+b" if self.done else "w+b")  # noqa: SIM115 - closed by close()
            self.file.truncate(self.done * self.bytes_per_image)
        self.noted = time.monotonic()

    @property
    def missing_bytes(self):
        """How much is still to be written."""
        return (self.shape[0] - self.done) * self.bytes_per_image

    def _resumable(self):
        """How many images of an interrupted run can be kept."""
        try:
            note = read_json(self.note)
            done, identity = note["done"], note["identity"]
            whole = self.store.path(self.stage.suffix)
            same = identity == self.identity and type(done) is int and 0 <= done <= self.shape[0]
            if same and done == self.shape[0] and not self.partial.exists() and whole.exists():
                os.replace(whole, self.partial)  # killed after the map got its name, before the manifest heard of it
            stands = same and self.partial.stat().st_size >= done * self.bytes_per_image
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0
        name = self.store.path(self.stage.suffix).name
        if not stands:
            log.info("%s: the interrupted part was made under other settings and is started anew", name)
            return 0
        if done < self.shape[0]:
            done -= done % self.batch_size  # only whole batches are the same as in a run that was not interrupted
        if done:
            log.info("%s: going on at image %d of %d", name, done, self.shape[0])
        return done

    def add(self, batch):
        """Put the maps of a batch (loader.batch.Batch) in their places, and NaN in those left out before them.

        Raises DissectionError when an activation does not fit the file's dtype.
        """
        with np.errstate(over="ignore"):  # what leaves float16's range is reported
            stored = batch.maps.astype(self.dtype, copy=False)
        require_finite(self.store.layer, stored, batch.images, batch.names, computed=batch.maps)
        self.done = min(self.done, int(batch.images[0]))  # another layer's map may be further behind
        self._append(int(batch.images[-1]) + 1, batch.images, stored)

    def _append(self, stop, images, maps):
        """Write the images from where the file ends to stop, those of images with their maps, the others as NaN."""
        missing = np.setdiff1d(np.flatnonzero(self.usable[self.done : stop]) + self.done, images)
        if len(missing):
            raise ValueError(f"image {missing[0]} of {self.shape[0]} has no maps")
        block = np.full((stop - self.done, *self.shape[1:]), np.nan, self.dtype)
        block[images - self.done] = maps
        with explained(self.partial):
            self.file.seek(self.done * self.bytes_per_image)
            self.file.write(memoryview(block).cast("B"))
            self.done = stop
            if time.monotonic() - self.noted > NOTE_SECONDS:
                self._take_note()

    def _take_note(self):
        self.file.flush()
        os.fsync(self.file.fileno())
        replace_text(self.note, json.dumps({"identity": self.identity, "done": self.done}))
        self.noted = time.monotonic()

    def finish(self):
        """Give the complete map its name and enter it in the manifest, with `<layer>_feature_size.npy`."""
        while self.done < self.shape[0]:  # the last images may have been left out
            stop = min(self.done + self.batch_size, self.shape[0])
            self._append(stop, np.zeros(0, int), np.zeros((0, *self.shape[1:]), self.dtype))
        self.close()
        made_from = self.identity["made_from"]
        self.store.forget(self.stage.suffix)
        self.store.make(self.size_stage, save_arrays, np.array(self.shape, np.int64))
        with explained(self.partial):
            sync(self.partial)
            os.replace(self.partial, self.store.path(self.stage.suffix))
        self.store.record(self.stage, made_from)
        self.note.unlink(missing_ok=True)

    def close(self):
        """Close the file; what is written so far is noted for the next run."""
        if not self.file.closed:
            with explained(self.partial):
                try:
                    self._take_note()
                finally:
                    self.file.close()
