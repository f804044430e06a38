"""A memory map of only those activation maps that exceed their unit's threshold somewhere: FEATURES='sparse'.

No map whose peak is at most the threshold has an active pixel (see method.segmentation.upsample), so it may be dropped;
of every map the peak is kept, and of a few images all maps, for the histograms of the page. The file holds, one behind
the other, all little-endian:

    MAGIC                                what it is
    thresholds  float64 (U,)             T_u
    lowest, highest  float32 (U,)        of all values of the unit
    peaks       dtype (N, U)             NaN for an image that was left out
    usable      uint8 (N,)               0 for an image that was left out
    offsets     int64 (N + 1,)           the maps of image x are those from offsets[x] to offsets[x + 1]
    units       int32 (K,)               ascending within an image
    maps        dtype (K, H, W)

The thresholds are known only in the end. Until then each process drops what does not exceed the bound of what it has
seen itself (see method.top_values), and goes through what it kept whenever that has doubled. Files are read and written
in blocks, as in store.feature_file.
"""

import glob
import json
import logging
import os
import time
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loader.batch import require_finite
from method.sampled import images_of_histograms
from method.segmentation import float32_floor
from method.top_values import kept_values, raised_bound, top_quantile
from store.arrays import save_arrays
from store.feature_file import FeatureMaps, ranges_of
from util.errors import DissectionError
from util.files import beside, explained, read_json, replace_text, sync

log = logging.getLogger(__name__)

MAGIC = b"sparse maps, 1\n\n"
NOTE_SECONDS = 5  # how much work a kill may cost
_BLOCK_BYTES = 8 << 20
_USUAL_SHARE = 1 / 8  # of the maps that are kept, about, where not fewer can be


class _Places:
    """Where the parts of a file begin, bytes. shape: (N, U, H, W). dtype: of the maps and peaks. kept: K."""

    def __init__(self, shape, dtype, kept=0):
        images, units, *size = shape
        item = np.dtype(dtype).itemsize
        self.thresholds = len(MAGIC)
        self.bounds = self.thresholds + 8 * units
        self.peaks = self.bounds + 2 * 4 * units
        self.usable = self.peaks + images * units * item
        self.offsets = self.usable + images
        self.units = self.offsets + 8 * (images + 1)
        self.maps = self.units + 4 * kept
        self.end = self.maps + kept * int(np.prod(size)) * item


# -------------------------------------------------------------------------------------------------------- reading


class SparseMaps(FeatureMaps):
    """A finished file of sparse maps, open for reading: FeatureMaps in which a map that was dropped is -inf throughout.

    thresholds: float64 (U,), T_u. quantile: share of a unit's values above it. The rest: see FeatureMaps.
    """

    def __init__(self, path, shape, dtype, quantile):
        self.path, self.shape, self.dtype = Path(path), tuple(int(length) for length in shape), np.dtype(dtype)
        self.quantile = quantile
        images, units, *_ = self.shape
        places = _Places(self.shape, self.dtype)
        if self._numbers(0, "u1", len(MAGIC)).tobytes() != MAGIC:
            raise DissectionError(f"{path} is no file of sparse maps")
        self.thresholds = self._numbers(places.thresholds, "<f8", units)
        self._lowest, self._highest = self._numbers(places.bounds, "<f4", 2 * units).reshape(2, units)
        self.usable = self._numbers(places.usable, "u1", images).astype(bool)
        self.offsets = self._numbers(places.offsets, "<i8", images + 1)
        self.places = _Places(self.shape, self.dtype, int(self.offsets[-1]))
        found = self.path.stat().st_size
        if found != self.places.end:
            raise DissectionError(f"{path} has {found:,} bytes, but {self.offsets[-1]:,} maps are {self.places.end:,}")

    def _numbers(self, place, dtype, count):
        numbers = np.fromfile(self.path, dtype, count, offset=place)
        if len(numbers) < count:
            raise DissectionError(f"{self.path} ended early: it was cut, or is no file of sparse maps")
        return numbers

    def _units(self, first, last):
        """The units of the kept maps first..last-1. Returns int32 (last - first,)."""
        return self._numbers(self.places.units + 4 * first, "<i4", last - first)

    def _maps(self, first, last):
        """The kept maps first..last-1. Returns float32 (last - first, H, W)."""
        size = int(np.prod(self.shape[2:]))
        place = self.places.maps + first * size * self.dtype.itemsize
        numbers = self._numbers(place, self.dtype, (last - first) * size)
        return numbers.reshape(-1, *self.shape[2:]).astype(np.float32, copy=False)

    def read(self, start, stop):
        offsets = self.offsets[start : stop + 1]
        maps = np.full((stop - start, *self.shape[1:]), -np.inf, np.float32)
        maps[~self.usable[start:stop]] = np.nan
        of = np.repeat(np.arange(stop - start), np.diff(offsets))
        maps[of, self._units(offsets[0], offsets[-1])] = self._maps(offsets[0], offsets[-1])
        return maps

    def read_units(self, images, first, last):
        maps = np.full((len(images), last - first, *self.shape[2:]), -np.inf, np.float32)
        for place, image in enumerate(images):
            if not self.usable[image]:
                maps[place] = np.nan
                continue
            begin, end = self.offsets[image : image + 2]
            units = self._units(begin, end)
            wanted = np.searchsorted(units, [first, last])
            maps[place, units[slice(*wanted)] - first] = self._maps(*(begin + wanted))
        return maps

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


class SparsePlace(NamedTuple):
    """Where processes put the sparse maps of a layer, and what they are; picklable.

    layer: its name in messages. path: of the unfinished file, in which are the peaks. identity: JSON of what the bytes
    depend on. shape: (N, U, H, W). dtype: of the maps. batch_size: images per call of SparsePart.add. usable: bool
    (N,). quantile: share of a unit's values above the threshold. done: bool, which batches earlier runs have put there.
    """

    layer: str
    path: Path
    identity: dict
    shape: tuple
    dtype: str
    batch_size: int
    usable: np.ndarray
    quantile: float
    done: np.ndarray

    @property
    def values_per_unit(self):
        return int(self.usable.sum()) * int(np.prod(self.shape[2:]))

    @property
    def record(self):
        """The dtype of a map among those that a process keeps. place: of the map among all N * U."""
        return np.dtype([("place", "<i8"), ("map", self.dtype, self.shape[2:])])

    @property
    def whole(self):
        """The images all of whose maps are kept, bool (N,)."""
        whole = np.zeros(self.shape[0], bool)
        whole[images_of_histograms(self.usable, self.shape)] = True
        return whole

    @property
    def batches(self):
        """Their number."""
        return -(-self.shape[0] // self.batch_size)

    def runs(self, batches):
        """See store.feature_file.ranges_of."""
        return ranges_of(batches, self.batch_size, self.shape[0])

    def open(self, rank=0):
        """What takes the maps of the images that are one process's. Returns SparsePart."""
        return SparsePart(self, rank)

    def note(self, rank):
        """The note on what a process has put there."""
        return self.path.with_name(f"{self.path.name}.{rank}.json")

    def records(self, rank, generation):
        """The file of the maps that a process keeps; each time that it went through them, it wrote a new one."""
        return self.path.with_name(f"{self.path.name}.{rank}.{generation}")


class PartState:
    """What a process has put there, as its note says, see SparsePart.

    done: bool, which batches. kept: maps in its file. limit: how many there may be until it goes through them.
    generation: of the file. bound: float32 (U,), what was dropped is at most that. lowest, highest: float32 (U,).
    """

    _BOUNDS = "bound", "lowest", "highest"

    def __init__(self, place):
        units = place.shape[1]
        largest = kept_values(place.values_per_unit, 1 - place.quantile)
        self.done, self.kept, self.generation = np.zeros(place.batches, bool), 0, 0
        # Before twice the K largest values were seen, hardly a map can be dropped.
        self.limit = 2 * -(-largest // int(np.prod(place.shape[2:]))) * units
        self.bound, self.lowest, self.highest = (np.full(units, of, "f4") for of in (-np.inf, np.inf, -np.inf))

    def write(self, place, rank):
        numbers = {name: getattr(self, name).tolist() for name in self._BOUNDS}
        note = {"identity": place.identity, "done": place.runs(self.done), "kept": self.kept, "limit": self.limit,
                "generation": self.generation, **numbers}  # fmt: skip
        replace_text(place.note(rank), json.dumps(note))

    @classmethod
    def read(cls, place, rank):
        """What the note of a process says. Returns PartState, None where there is none that holds."""
        state = cls(place)
        try:
            note = read_json(place.note(rank))
            if note["identity"] != place.identity:
                return None
            for start, stop in note["done"]:
                state.done[start // place.batch_size : -(-stop // place.batch_size)] = True
            state.kept, state.limit, state.generation = (note[name] for name in ("kept", "limit", "generation"))
            for name in cls._BOUNDS:
                getattr(state, name)[:] = note[name]
            size = place.records(rank, state.generation).stat().st_size
            return state if size >= state.kept * place.record.itemsize else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


class SparsePart(AbstractContextManager):
    """One process's share of unfinished sparse maps: a consumer of the pass, which gets whole batches in any order.

    To be used in a `with` block. place: SparsePlace. rank: of the process. What an earlier process of this rank kept is
    gone on with. done: bool, which batches are there.
    """

    def __init__(self, place, rank=0):
        self.place, self.rank = place, rank
        self.state = PartState.read(place, rank) or PartState(place)
        self.whole = place.whole
        self._records = place.records(rank, self.state.generation)
        with explained(place.path):
            self.peaks = open(place.path, "r+b")  # noqa: SIM115 - closed by __exit__
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
        keep = (peaks > state.bound) | self.whole[batch.images][:, None]
        records = np.empty(int(keep.sum()), place.record)
        of, unit = np.nonzero(keep)
        records["place"], records["map"] = batch.images[of] * place.shape[1] + unit, stored[keep]
        with explained(place.path):
            self._write_peaks(number, batch.images, peaks)
            self.file.write(records.tobytes())
            state.kept += len(records)
            state.lowest = np.minimum(state.lowest, values.min(axis=(0, 2)))
            state.highest = np.maximum(state.highest, peaks.max(axis=0))
            state.done[number] = True
            if state.kept > state.limit:
                self._drop()
            elif time.monotonic() - self.noted > NOTE_SECONDS:
                self._take_note()

    def _write_peaks(self, number, images, peaks):
        place, first = self.place, number * self.place.batch_size
        stop = min(first + place.batch_size, place.shape[0])
        missing = np.setdiff1d(np.flatnonzero(place.usable[first:stop]) + first, images)
        if len(missing):
            raise ValueError(f"image {missing[0]} of {place.shape[0]} has no maps")
        block = np.full((stop - first, place.shape[1]), np.nan, place.dtype)
        block[images - first] = peaks
        self.peaks.seek(_Places(place.shape, place.dtype).peaks + first * block[0].nbytes)
        self.peaks.write(block.data)

    def _drop(self):
        """Drop what no longer exceeds the bound, into a file of the next generation."""
        place, state, before = self.place, self.state, self._records
        self._take_note()
        state.bound = raised_bound(
            lambda count: counted(place, before, state.kept, count), state.bound,
            kept_values(place.values_per_unit, 1 - place.quantile),
        )  # fmt: skip
        self._records, kept = place.records(self.rank, state.generation + 1), 0
        self.file.close()
        self.file = open(self._records, "w+b")  # noqa: SIM115 - closed by __exit__
        for records in blocks_of(before, place.record, 0, state.kept):
            image, unit, peaks = of_records(place, records)
            records = records[(peaks > state.bound[unit]) | self.whole[image]]
            self.file.write(records.tobytes())
            kept += len(records)
        state.generation, state.kept, state.limit = state.generation + 1, kept, max(state.limit, 2 * kept)
        self._take_note()
        before.unlink()

    def _take_note(self):
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


def blocks_of(path, record, first, last):
    """Yields the records first..last-1 of a file, a few MB at a time."""
    step = max(1, _BLOCK_BYTES // record.itemsize)
    for start in range(first, last, step):
        yield np.fromfile(path, record, min(step, last - start), offset=start * record.itemsize)


def values_of(records):
    """The maps of some records, float32 (n, H * W)."""
    return np.ascontiguousarray(records["map"], np.float32).reshape(len(records), -1)


def of_records(place, records):
    """(image, unit, peak) of some records: int64, int64, float32 (n,)."""
    image, unit = np.divmod(records["place"], place.shape[1])
    return image, unit, values_of(records).max(axis=1, initial=-np.inf)


def counted(place, path, kept, count):
    """Yields count(values, unit) of the records of a file, see method.quantile.selected. kept: their number."""
    for records in blocks_of(path, place.record, 0, kept):
        yield count(values_of(records), records["place"] % place.shape[1])


class PartialSparseMaps:
    """The unfinished sparse maps of a layer, as the first process plans and finishes them; where a killed run stopped,
    it goes on.

    store: LayerStore. stage, size_stage: the Stages of the map and of `<layer>_feature_size.npy`. session: dict of what
    else the bytes depend on (the device). shape: (N, U, H, W). dtype: of the maps. batch_size: images per call of
    SparsePart.add. usable: bool (N,), the images that have maps. quantile: share of a unit's values above T_u.

    done: bool, which batches are there. place: SparsePlace.
    """

    def __init__(self, store, stage, size_stage, session, shape, dtype, batch_size, usable, quantile):
        self.store, self.stage, self.size_stage = store, stage, size_stage
        self.target = store.path(stage.suffix)
        identity = json.loads(json.dumps(
            {"made_from": store.made_from(stage), "session": session, "shape": shape, "dtype": str(np.dtype(dtype)),
             "batch_size": batch_size, "quantile": quantile}
        ))  # fmt: skip
        path, batches = beside(self.target, "sparse"), -(-shape[0] // batch_size)
        nothing = np.zeros(batches, bool)
        self.place = SparsePlace(
            store.layer, path, identity, tuple(shape), str(np.dtype(dtype)), batch_size, usable, quantile, nothing
        )
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.done = self._resumable()
            self.place = self.place._replace(done=self.done)
            with open(path, "r+b" if self.done.any() else "wb") as file:
                file.truncate(_Places(shape, dtype).usable)

    @cached_property
    def _states(self):
        """{rank: PartState} of the parts that are there."""
        found = {}
        for path in leftovers(self.target):
            rank = path.name.removeprefix(f"{self.place.path.name}.").removesuffix(".json")
            if path.suffix == ".json" and rank.isdecimal():
                found[int(rank)] = PartState.read(self.place, int(rank))
        return {rank: found[rank] for rank in sorted(found) if found[rank]}

    def _resumable(self):
        """Which batches of an interrupted run can be kept, bool. Deletes all that is not of them."""
        path, name = self.place.path, self.target.name
        done = np.logical_or.reduce([np.zeros(self.place.batches, bool), *(of.done for of in self._states.values())])
        if done.all() and not path.exists() and _is_sparse(self.target):
            os.replace(self.target, path)  # killed after the map got its name, before the manifest heard of it
        if not path.exists() or path.stat().st_size < _Places(self.place.shape, self.place.dtype).usable:
            self._states.clear()
            done[:] = False
        kept = {path} if done.any() else set()
        for rank, state in self._states.items():
            kept |= {self.place.note(rank), self.place.records(rank, state.generation)}
        others = set(leftovers(self.target)) - kept
        for leftover in others:
            leftover.unlink()
        if done.any():
            images = sum(stop - start for start, stop in self.place.runs(done))
            log.info("%s: going on with %d of %d images there", name, images, self.place.shape[0])
        elif others:
            log.info("%s: the interrupted part was made under other settings and is started anew", name)
        return done

    @property
    def missing_bytes(self):
        """How much more it takes until the file is whole, about: the peaks, and the maps that are kept while they are
        gone through and copied to their place.
        """
        place = self.place
        # A map that is kept has one of the values above the threshold, if no more.
        share = min(_USUAL_SHARE, place.quantile * int(np.prod(place.shape[2:])))
        kept = int(share * np.prod(place.shape) * np.dtype(place.dtype).itemsize)
        return int((~self.done).mean() * (_Places(place.shape, place.dtype).units + kept)) + kept

    def finish(self, written=None):
        """Join the parts, give the file its name and enter it in the manifest, with `<layer>_feature_size.npy`.

        written: bool, which batches the pass has put there, for FeatureMaps' sake: the parts' notes tell. Raises
        ValueError where an image has no maps.
        """
        self.__dict__.pop("_states", None)  # as they are now
        place = self.place
        done = np.logical_or.reduce([np.zeros(place.batches, bool), *(state.done for state in self._states.values())])
        missing = np.flatnonzero(place.usable & ~np.repeat(done, place.batch_size)[: place.shape[0]])
        if len(missing):
            raise ValueError(f"image {missing[0]} of {place.shape[0]} has no maps")
        made_from = place.identity["made_from"]
        self.store.forget(self.stage.suffix)
        self.store.make(self.size_stage, save_arrays, np.array(place.shape, np.int64))
        with explained(place.path):
            Joined(place, self._states).write()
            sync(place.path)
            os.replace(place.path, self.target)
        self.store.record(self.stage, made_from)
        for leftover in leftovers(self.target):
            leftover.unlink()


class Joined:
    """The parts of sparse maps, to be made one file. place: SparsePlace. states: {rank: PartState}, of all parts.

    What is written depends on the maps alone, not on how they were divided among parts or came in.
    """

    def __init__(self, place, states):
        self.place, self.states = place, states
        self.files = {rank: place.records(rank, state.generation) for rank, state in states.items()}
        bounds = np.array([state.bound for state in states.values()])
        self.thresholds = top_quantile(self._counted, bounds.max(axis=0), place.values_per_unit, 1 - place.quantile)

    def _counted(self, count):
        for rank, state in self.states.items():
            yield from counted(self.place, self.files[rank], state.kept, count)

    def write(self):
        place = self.place
        lowest = np.min([state.lowest for state in self.states.values()], axis=0)
        highest = np.max([state.highest for state in self.states.values()], axis=0)
        with open(place.path, "r+b") as file:
            offsets = self._offsets(file)
            places = _Places(place.shape, place.dtype, int(offsets[-1]))
            file.seek(0)
            file.write(MAGIC)
            for numbers in (self.thresholds.astype("<f8"), lowest.astype("<f4"), highest.astype("<f4")):
                file.write(numbers.data)
            file.seek(places.usable)
            file.write(place.usable.astype("u1").data)
            file.write(offsets.data)
            file.truncate(places.end)
            self._write_maps(file, places, offsets)

    def _offsets(self, file):
        """Count the maps that are kept of each image by their peaks, and give images that were left out NaN. Returns
        int64 (N + 1,).
        """
        place, whole = self.place, self.place.whole
        images, units = place.shape[:2]
        limits, offsets = float32_floor(self.thresholds), np.zeros(images + 1, "<i8")
        begin, item = _Places(place.shape, place.dtype).peaks, np.dtype(place.dtype).itemsize
        step = max(1, _BLOCK_BYTES // (units * 4))
        for start in range(0, images, step):
            count = min(step, images - start)
            usable, at = place.usable[start : start + count], begin + start * units * item
            peaks = np.fromfile(place.path, place.dtype, count * units, offset=at).reshape(count, units)
            kept = (peaks.astype(np.float32) > limits) | whole[start : start + count, None]
            offsets[start + 1 : start + count + 1] = (kept & usable[:, None]).sum(axis=1)
            if not usable.all():
                peaks[~usable] = np.nan
                file.seek(at)
                file.write(peaks.data)
        return np.cumsum(offsets, dtype="<i8")

    def _write_maps(self, file, places, offsets):
        """Write units and maps in the order of the images, batch by batch, of each from the part that holds it."""
        place, whole, limits = self.place, self.place.whole, float32_floor(self.thresholds)
        held, ranks = self._where_batches_lie(), list(self.states)
        size = place.record["map"].itemsize
        for number in range(place.batches):
            first, last = place.batch_size * number, min(place.batch_size * (number + 1), place.shape[0])
            begin, end = offsets[first], offsets[last]
            part, start, stop = held[:, number].tolist()
            for records in blocks_of(self.files[ranks[part]], place.record, start, stop):
                image, unit, peaks = of_records(place, records)
                kept = (peaks > limits[unit]) | whole[image]
                file.seek(places.units + 4 * begin)
                file.write(unit[kept].astype("<i4").tobytes())
                file.seek(places.maps + size * begin)
                file.write(records["map"][kept].tobytes())
                begin += int(kept.sum())
            if begin != end:
                raise DissectionError(
                    f"{place.path} is damaged: delete the hidden files beside it that begin like it, and run again"
                )

    def _where_batches_lie(self):
        """Of each batch the number of its part, and its first record there and the one behind its last: int64 (3,
        batches). A part has each of its batches in one piece.
        """
        place = self.place
        found = np.zeros((3, place.batches), np.int64)
        for part, (rank, state) in enumerate(self.states.items()):
            found[0, state.done] = part
            at = 0
            for records in blocks_of(self.files[rank], place.record, 0, state.kept):
                batches = records["place"] // (place.shape[1] * place.batch_size)
                begins = np.flatnonzero(np.diff(batches, prepend=-1))
                new = found[2, batches[begins]] == 0  # not the rest of a batch that the block before ended in
                found[1, batches[begins[new]]] = at + begins[new]
                found[2, batches[begins]] = at + np.append(begins[1:], len(batches))
                at += len(batches)
        return found


def leftovers(path):
    """The files in which sparse maps are made, those that an interrupted run left. path: of the finished file."""
    name = f".{glob.escape(path.name)}.sparse"
    return [*path.parent.glob(f"{name}*"), *path.parent.glob(f".{name}*.partial")]


def _is_sparse(path):
    """Whether a file is one of sparse maps."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
