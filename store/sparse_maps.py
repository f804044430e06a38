"""Of a layer's activation maps only the values that decide which pixels are active: FEATURES='sparse'.

These are the values above their unit's threshold and those beside them: a pixel between others is not active (see
method.top_values.deciding). Of every map the peak is kept, and of a few images all values, for the histograms of the
page. The file holds, one behind the other, all little-endian:

    MAGIC                                what it is
    thresholds  float64 (U,)             T_u
    lowest, highest  float32 (U,)        of all values of the unit
    peaks       dtype (N, U)             NaN for an image that was left out
    usable      uint8 (N,)               0 for an image that was left out
    offsets     int64 (N + 1,)           the values of image x are those from offsets[x] to offsets[x + 1]
    cells       uint32 (K,)              where they lie in the image's maps (U, H, W), row by row, ascending
    values      dtype (K,)

The thresholds are known only in the end. Until then each process keeps what lies above the bound of what has been seen,
or beside that (see method.top_values), and goes through what it kept whenever that has doubled. Files are read and
written in blocks, as in store.feature_file.
"""

import os
import shutil
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from loader.batch import require_finite
from method.sampled import images_of_histograms
from method.segmentation import float32_floor
from method.top_values import deciding, kept_values, places_beside, raised_bound, top_quantile
from store import unfinished
from store.feature_file import FeatureMaps
from store.unfinished import Place, Unfinished
from util.errors import DissectionError
from util.files import explained, sync

MAGIC = b"sparse maps, 1\n\n"
_BLOCK_BYTES = 8 << 20
_BESIDE = 9  # a value that is above the threshold, and those beside it


class _Places:
    """Where the parts of a file begin, bytes. shape: (N, U, H, W). dtype: of the maps and peaks. kept: K."""

    def __init__(self, shape, dtype, kept=0):
        images, units, *_ = shape
        item = np.dtype(dtype).itemsize
        self.thresholds = len(MAGIC)
        self.bounds = self.thresholds + 8 * units
        self.peaks = self.bounds + 2 * 4 * units
        self.usable = self.peaks + images * units * item
        self.offsets = self.usable + images
        self.cells = self.offsets + 8 * (images + 1)
        self.values = self.cells + 4 * kept
        self.end = self.values + kept * item


# -------------------------------------------------------------------------------------------------------- reading


class SparseMaps(FeatureMaps):
    """A finished file of sparse maps, open for reading: FeatureMaps whose active pixels are those of all values.

    A map without an active pixel is -inf throughout; in others, values that decide nothing are the unit's lowest one.
    thresholds: float64 (U,), T_u. The rest: see FeatureMaps.
    """

    def __init__(self, path, shape, dtype):
        self.path, self.shape, self.dtype = Path(path), tuple(int(length) for length in shape), np.dtype(dtype)
        images, units, *_ = self.shape
        places = _Places(self.shape, self.dtype)
        if self._numbers(0, "u1", len(MAGIC)).tobytes() != MAGIC:
            raise DissectionError(f"{path} is no file of sparse maps")
        self.thresholds = self._numbers(places.thresholds, "<f8", units)
        self._lowest, self._highest = self._numbers(places.bounds, "<f4", 2 * units).reshape(2, units)
        self.usable = self._numbers(places.usable, "u1", images).astype(bool)
        self.offsets = self._numbers(places.offsets, "<i8", images + 1)
        self.places = _Places(self.shape, self.dtype, int(self.offsets[-1]))
        found, expected = self.path.stat().st_size, self.places.end
        if found != expected:
            raise DissectionError(f"{path} has {found:,} bytes, but {self.offsets[-1]:,} values are {expected:,}")

    def _numbers(self, place, dtype, count):
        numbers = np.fromfile(self.path, dtype, count, offset=place)
        if len(numbers) < count:
            raise DissectionError(f"{self.path} ended early: it was cut, or is no file of sparse maps")
        return numbers

    def _cells(self, first, last):
        return self._numbers(self.places.cells + 4 * first, "<u4", last - first).astype(np.int64)

    def _values(self, first, last):
        numbers = self._numbers(self.places.values + first * self.dtype.itemsize, self.dtype, last - first)
        return numbers.astype(np.float32, copy=False)

    def read(self, start, stop):
        offsets, per_image = self.offsets[start : stop + 1], int(np.prod(self.shape[1:]))
        maps = np.full((stop - start, *self.shape[1:]), -np.inf, np.float32)
        maps[~self.usable[start:stop]] = np.nan
        cells = self._cells(offsets[0], offsets[-1])
        cells += np.repeat(np.arange(stop - start) * per_image, np.diff(offsets))
        self._put(maps, cells, self._values(offsets[0], offsets[-1]), self._lowest)
        return maps

    def read_units(self, images, first, last):
        maps = np.full((len(images), last - first, *self.shape[2:]), -np.inf, np.float32)
        size = int(np.prod(self.shape[2:]))
        for place, image in enumerate(images):
            if not self.usable[image]:
                maps[place] = np.nan
                continue
            begin, end = self.offsets[image : image + 2]
            cells = self._cells(begin, end)
            low, high = np.searchsorted(cells, [first * size, last * size])
            values = self._values(begin + low, begin + high)
            self._put(maps[place], cells[low:high] - first * size, values, self._lowest[first:last])
        return maps

    @staticmethod
    def _put(maps, cells, values, lowest):
        """Put values in their places. maps: float32 (..., units, H, W). cells: int64 (n,). lowest: float32 (units,)."""
        of_maps = maps.reshape(-1, maps.shape[-2] * maps.shape[-1])  # a view
        kept = np.unique(cells // of_maps.shape[1])
        of_maps[kept] = lowest[kept % len(lowest), None]
        of_maps.reshape(-1)[cells] = values

    def read_map(self, image, unit):
        return self.read_units([image], unit, unit + 1)[0, 0]

    def peaks(self, start, stop, units=slice(None)):
        """The greatest value of each map of images start..stop-1. units: which, by default all.

        Returns (float32 (stop - start, units), NaN for images that were left out; the lowest and the highest value of
        each unit, float32 (units,), over all images of the layer).
        """
        width = self.units
        place = self.places.peaks + start * width * self.dtype.itemsize
        peaks = self._numbers(place, self.dtype, (stop - start) * width).reshape(-1, width)
        return peaks[:, units].astype(np.float32), self._lowest[units], self._highest[units]


# -------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class SparsePlace(Place):
    """See Place; in the unfinished file are the peaks. quantile: share of a unit's values above the threshold. done:
    bool, which batches earlier runs have put there.
    """

    quantile: float
    done: np.ndarray = None

    @property
    def values_per_unit(self):
        return int(self.usable.sum()) * int(np.prod(self.shape[2:]))

    @property
    def record(self):
        """The dtype of a value that a process keeps. place: among all N * U * H * W."""
        return np.dtype([("place", "<i8"), ("value", self.dtype)])

    @property
    def most_kept(self):
        """How many values are left at most once those were dropped that decide nothing."""
        largest, (_, units, *size) = kept_values(self.values_per_unit, 1 - self.quantile), self.shape
        whole = self.whole.sum() * int(np.prod(size))
        return units * int(min(_BESIDE * largest + whole, self.values_per_unit))

    def of_places(self, places):
        """(image, unit) of some places, int64 (n,) each."""
        return np.divmod(places // int(np.prod(self.shape[2:])), self.shape[1])

    @property
    def whole(self):
        """The images all of whose maps are kept, bool (N,)."""
        whole = np.zeros(self.shape[0], bool)
        whole[images_of_histograms(self.usable, self.shape)] = True
        return whole

    def open(self, rank=0):
        """What takes the maps of the images that are one process's. Returns SparsePart."""
        return SparsePart(self, rank)

    def records(self, rank, generation):
        """The file of the values that a process keeps; each time that it went through them, it wrote a new one."""
        return self.path.with_name(f"{self.path.name}.{rank}.{generation}")


class PartState:
    """What a process has put there, as its note says, see SparsePart.

    done: bool, which batches. kept: values in its file. limit: how many there may be until it goes through them.
    generation: of the file. bound: float32 (U,), what was dropped is at most that. lowest, highest: float32 (U,).
    """

    _BOUNDS = "bound", "lowest", "highest"

    def __init__(self, place):
        units = place.shape[1]
        largest = kept_values(place.values_per_unit, 1 - place.quantile)
        self.done, self.kept, self.generation = np.zeros(place.batches, bool), 0, 0
        self.limit = max(largest // 4, 1) * units
        self.bound, self.lowest, self.highest = (np.full(units, of, "f4") for of in (-np.inf, np.inf, -np.inf))

    def write(self, place, rank):
        numbers = {name: getattr(self, name).tolist() for name in self._BOUNDS}
        place.write_note(self.done, rank, kept=self.kept, limit=self.limit, generation=self.generation, **numbers)

    @classmethod
    def read(cls, place, rank):
        """What the note of a process says. Returns PartState, None where there is none that holds."""
        state, found = cls(place), place.read_note(rank)
        try:
            state.done, note = found
            numbers = [note[name] for name in ("kept", "limit", "generation")]
            if any(type(of) is not int for of in numbers):
                return None
            state.kept, state.limit, state.generation = numbers
            for name in cls._BOUNDS:
                getattr(state, name)[:] = note[name]
            size = place.records(rank, state.generation).stat().st_size
            return state if size >= state.kept * place.record.itemsize else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


class SparsePart(AbstractContextManager):
    """One process's share of unfinished sparse maps: a consumer of the pass, which gets whole batches in any order.

    To be used in a `with` block. place: SparsePlace. rank: of the process. What an earlier process of this rank kept is
    gone on with.
    """

    def __init__(self, place, rank=0):
        self.place, self.rank = place, rank
        self.state = PartState.read(place, rank) or PartState(place)
        self.whole = place.whole
        self._records = place.records(rank, self.state.generation)
        with explained(place.path):
            self.peaks = place.opened()
            self.file = open(self._records, "a+b")  # noqa: SIM115 - closed by __exit__
            self.file.truncate(self.state.kept * place.record.itemsize)
        self.noted = time.monotonic()

    @property
    def written(self):
        """Which batches this process and earlier ones of its rank have put there, bool."""
        return self.state.done

    def add(self, batch):
        """Put in a batch (loader.batch.Batch), unless it is there.

        Raises DissectionError when an activation does not fit the file's dtype.
        """
        place, state = self.place, self.state
        number = int(batch.images[0]) // place.batch_size
        if place.done[number] or state.done[number]:
            return  # another layer of the pass lacked it
        with np.errstate(over="ignore"):  # what leaves float16's range is reported
            stored = batch.maps.astype(place.dtype, copy=False)
        require_finite(place.layer, stored, batch.images, batch.names, computed=batch.maps)
        values = stored.reshape(*stored.shape[:2], -1).astype(np.float32, copy=False)
        peaks = values.max(axis=2) + np.float32(0)  # without -0, whose place in a map would decide
        records = self._deciding(batch.images, values.reshape(stored.shape), peaks)
        count = len(records)
        with explained(place.path):
            self._write_peaks(batch.images, peaks)
            state.lowest = np.minimum(state.lowest, values.min(axis=(0, 2)))
            state.highest = np.maximum(state.highest, peaks.max(axis=0))
            self.file.write(records.tobytes())
            state.kept, state.done[number] = state.kept + count, True  # at once: Ctrl-C comes between calls, not here
            if state.kept > state.limit:
                self._drop()
            elif time.monotonic() - self.noted > unfinished.NOTE_SECONDS:
                self._take_note()

    def _deciding(self, images, maps, peaks):
        """The values that are to be kept of some images as records. maps: float32 (b, U, H, W). peaks: (b, U)."""
        place, bound = self.place, np.broadcast_to(self.state.bound, peaks.shape)
        keep, some = np.zeros(maps.shape, bool), peaks > self.state.bound
        keep[some] = deciding(maps[some], bound[some])
        keep[self.whole[images]] = True
        cells = np.flatnonzero(keep)
        of, cell = np.divmod(cells, int(np.prod(place.shape[1:])))
        records = np.empty(len(cells), place.record)
        records["place"] = images[of] * int(np.prod(place.shape[1:])) + cell
        records["value"] = maps.ravel()[cells]
        return records

    def _write_peaks(self, images, peaks):
        first, block = self.place.block(images, peaks)
        self.peaks.seek(_Places(self.place.shape, self.place.dtype).peaks + first * block[0].nbytes)
        self.peaks.write(block.data)

    def _drop(self):
        """Drop what no longer exceeds the bound, into a file of the next generation."""
        place, state, before = self.place, self.state, self._records
        self._take_note()
        bound = self._raised_bound()
        if np.array_equal(bound, state.bound):
            state.limit = 2 * state.kept
            return
        state.bound = bound
        self._records, kept = place.records(self.rank, state.generation + 1), 0
        earlier, self.file = self.file, open(self._records, "w+b")  # noqa: SIM115 - closed by __exit__
        earlier.close()  # not before, or __exit__ has no file to note after a full disk or Ctrl-C
        for records in blocks_of(place, before, 0, state.kept):
            records = records[still_deciding(place, records, state.bound, self.whole)]
            self.file.write(records.tobytes())
            kept += len(records)
        state.generation, state.kept, state.limit = state.generation + 1, kept, max(state.limit, 2 * kept)
        self._take_note()
        before.unlink()

    def _raised_bound(self):
        """The bound of what all processes have kept, as far as they have noted it."""
        place, own = self.place, {self.rank: self.state}
        largest = kept_values(place.values_per_unit, 1 - place.quantile)
        for states in ({**states_of(place), **own}, own):
            with suppress(FileNotFoundError):  # another process has just gone through what it kept
                return raised_bound(partial(counted_of, place, states), self.state.bound, largest)
        raise DissectionError(f"{self._records} is gone: another run works in the same folder, or somebody deleted it")

    def _take_note(self):
        self.place.require_here()
        for file in (self.peaks, self.file):
            file.flush()
            os.fsync(file.fileno())
        self.state.write(self.place, self.rank)
        self.noted = time.monotonic()

    def __exit__(self, *exception):
        """Close the files; what is written so far is noted for the next run."""
        with explained(self.place.path):
            try:
                self._take_note()
            finally:
                self.peaks.close()
                self.file.close()


def blocks_of(place, path, first, last):
    """Yields the records first..last-1 of a file, a few MB and whole maps at a time."""
    record, size = place.record, int(np.prod(place.shape[2:]))
    step, rest = max(1, _BLOCK_BYTES // record.itemsize), np.empty(0, record)
    for start in range(first, last, step):
        read = np.fromfile(path, record, min(step, last - start), offset=start * record.itemsize)
        records, cut = np.concatenate([rest, read]), len(rest) + len(read)
        if start + step < last:  # the last map may go on
            maps = records["place"] // size
            cut = int(np.flatnonzero(np.append(-1, maps) != maps[-1])[-1])
        yield records[:cut]
        rest = records[cut:]


def still_deciding(place, records, bounds, whole):
    """Which of some records are to be kept: bool (n,). bounds: float32 (U,). whole: see SparsePlace."""
    places = records["place"]
    image, unit = place.of_places(places)
    above = places[records["value"] > bounds[unit]]
    return np.isin(places, places_beside(above, place.shape[2:])) | whole[image]


def states_of(place):
    """What the processes have put there, as far as their notes hold: {rank: PartState}, by rank."""
    found = {rank: PartState.read(place, rank) for rank in place.notes()}
    return {rank: state for rank, state in found.items() if state is not None}


def counted_of(place, states, count):
    """Yields count(values, unit) of the records of parts, see method.quantile.selected. states: see states_of."""
    for rank, state in states.items():
        for records in blocks_of(place, place.records(rank, state.generation), 0, state.kept):
            unit = place.of_places(records["place"])[1]
            yield count(np.ascontiguousarray(records["value"], np.float32)[:, None], unit)


class PartialSparseMaps(Unfinished):
    """The unfinished sparse maps of a layer. quantile: share of a unit's values above T_u."""

    kind, of_place = "sparse", SparsePlace

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.place = replace(self.place, done=self.done)

    @property
    def begun_bytes(self):
        """Of the unfinished file when it is begun, up to the end of the peaks."""
        return _Places(self.place.shape, self.place.dtype).usable

    def noted(self, place):
        """Which batches are safely there, bool. place: SparsePlace."""
        states = states_of(place).values()
        return np.logical_or.reduce([np.zeros(place.batches, bool), *(state.done for state in states)])

    def take_over(self, before):
        """Copy what an earlier run's processes kept: one that outlived it may still append to its own."""
        for rank, state in states_of(before).items():
            copy = self.place.records(rank, state.generation)
            shutil.copyfile(before.records(rank, state.generation), copy)
            os.truncate(copy, state.kept * before.record.itemsize)
            sync(copy)
            state.write(self.place, rank)

    @property
    def missing_bytes(self):
        """How much more there is at the most until the file is whole: the peaks, the values that are kept up to the
        moment at which they are gone through, and what is kept of them, while both are there. That holds for one
        process; several together keep about as much, more where a unit's images grow brighter in only some shares.
        """
        place = self.place
        peaks, per_image = _Places(place.shape, place.dtype).cells, int(np.prod(place.shape[1:]))
        values, most = int(place.usable.sum()) * per_image, place.most_kept
        unsorted = min(2 * most + place.batch_size * per_image, values)  # see SparsePart: twice as many, and a batch
        kept = sum(state.kept for state in states_of(place).values())
        return int((~self.done).mean() * peaks) + max(unsorted + most - kept, 0) * place.record.itemsize

    def finish(self, written=None):
        """See Unfinished. What the pass has written, the notes tell."""
        super().finish()

    def complete(self):
        Joined(self.place, states_of(self.place)).write()


class Joined:
    """The parts of sparse maps, to be made one file. place: SparsePlace. states: {rank: PartState}, of all parts.

    What is written depends on the maps alone, not on how they were divided among parts or came in.
    """

    def __init__(self, place, states):
        self.place, self.states = place, states
        self.files = {rank: place.records(rank, state.generation) for rank, state in states.items()}
        bounds = np.array([state.bound for state in states.values()])
        self.thresholds = top_quantile(
            partial(counted_of, place, states), bounds.max(axis=0), place.values_per_unit, 1 - place.quantile
        )

    def write(self):
        place = self.place
        bounds = [np.min([state.lowest for state in self.states.values()], axis=0),
                  np.max([state.highest for state in self.states.values()], axis=0)]  # fmt: skip
        places = _Places(place.shape, place.dtype)
        with open(place.path, "r+b") as file, open(place.path.with_name(f"{place.path.name}.values"), "w+b") as values:
            file.write(MAGIC)
            for numbers in (self.thresholds.astype("<f8"), *(of.astype("<f4") for of in bounds)):
                file.write(numbers.data)
            place.leave_out(file, places.peaks, place.shape[1])
            file.seek(places.usable)
            file.write(place.usable.astype("u1").data)
            file.truncate(places.cells)
            file.seek(places.cells)
            offsets = self._write_values(file, values)
            values.seek(0)
            shutil.copyfileobj(values, file, _BLOCK_BYTES)
            file.seek(places.offsets)
            file.write(offsets.data)

    def _write_values(self, file, values):
        """Write cells and values in the order of the images, batch by batch, of each from the part that holds it.
        Returns the offsets, int64 (N + 1,).
        """
        place, whole, limits = self.place, self.place.whole, float32_floor(self.thresholds)
        held, ranks = self._where_batches_lie(), list(self.states)
        per_image = int(np.prod(place.shape[1:]))
        offsets = np.zeros(place.shape[0] + 1, "<i8")
        for part, start, stop in held.T.tolist():
            for records in blocks_of(place, self.files[ranks[part]], start, stop):
                records = records[still_deciding(place, records, limits, whole)]
                image, cell = np.divmod(records["place"], per_image)
                file.write(cell.astype("<u4").tobytes())
                values.write(records["value"].tobytes())
                found, counts = np.unique(image, return_counts=True)
                offsets[found + 1] += counts
        return np.cumsum(offsets, dtype="<i8")

    def _where_batches_lie(self):
        """Of each batch the number of its part, and its first record there and the one behind its last: int64 (3,
        batches). A part has each of its batches in one piece.
        """
        place = self.place
        found = np.zeros((3, place.batches), np.int64)
        for part, (rank, state) in enumerate(self.states.items()):
            found[0, state.done] = part
            at = 0
            for records in blocks_of(place, self.files[rank], 0, state.kept):
                batches = place.of_places(records["place"])[0] // place.batch_size
                begins = np.flatnonzero(np.diff(batches, prepend=-1))
                new = found[2, batches[begins]] == 0  # not the rest of a batch that the block before ended in
                found[1, batches[begins[new]]] = at + begins[new]
                found[2, batches[begins]] = at + np.append(begins[1:], len(batches))
                at += len(batches)
        return found
