"""Counting pixels by the concepts they lie in, from which the IoU of every formula follows (method.md §3.6).

Whether a pixel fulfils a formula depends on nothing but the concepts that it lies in, and whether its photograph counts
on nothing but the concepts that this is annotated for. So pixels of one kind (the same concepts, photographs of the
same group) are counted together, once for all formulas. Of a unit's candidates there are some hundred kinds, few more
where there are more photographs; the counts are exact integers and do not depend on the order of the photographs.
"""

from dataclasses import dataclass, replace

import numpy as np

from method.segmentation import active_pixels, float32_floor

CANDIDATES = 50  # concepts that a unit's formulas are made of, at most: those with its highest IoU

_MAPS_AT_ONCE = 8  # upsampled together, see method.segmentation
_MERGE_AT = 1 << 22  # numbers that may wait before they are merged
_GROUP = ">u4"  # of the group's number, before the concepts in a key


@dataclass(frozen=True)
class Groups:
    """Photographs that are annotated for the same concepts and lie in the same half.

    of: int (P,), the group of each photograph. known: bool (G, C), for which concepts. half: bool (G,). photographs:
    int64 (G,), their number.
    """

    of: np.ndarray
    known: np.ndarray
    half: np.ndarray
    photographs: np.ndarray

    @classmethod
    def of_photographs(cls, known, half):
        """known: bool (P, C). half: bool (P,), see method.resampling.halves."""
        keys = _as_one(np.packbits(np.column_stack([known, half]), axis=1))
        _, first, of, photographs = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        return cls(of, known[first], half[first], photographs)


@dataclass(frozen=True)
class UnitPixels:
    """The pixels of the photographs that are annotated for a unit's label, by kind. T kinds, K candidate concepts.

    unit: its number. concepts: int (K,), ascending, what the columns stand for. label: the column of the unit's label.
    inside: bool (T, K), the concepts that the pixels lie in. group: int (T,), of their photographs, in groups: Groups.
    pixels, active: int64 (T,), how many, and how many of them the unit is active in.
    """

    unit: int
    concepts: np.ndarray
    label: int
    inside: np.ndarray
    group: np.ndarray
    pixels: np.ndarray
    active: np.ndarray
    groups: Groups

    @property
    def known(self):
        """bool (T, K): the concepts that the pixels' photographs are annotated for."""
        return self.groups.known[self.group][:, self.concepts]

    @property
    def found(self):
        """Number of pixels of the label in which the unit is active."""
        return int(self.active[self.inside[:, self.label]].sum())

    def of_half(self, half):
        """The same of one half of the photographs."""
        rows = self.groups.half[self.group] == half
        kept = {name: getattr(self, name)[rows] for name in ("inside", "group", "pixels", "active")}
        return replace(self, **kept)

    def photographs(self, columns):
        """Number of photographs that are annotated for the label and some more concepts. columns: theirs."""
        known = self.groups.known[:, self.concepts[[self.label, *columns]]].all(axis=1)
        return int(self.groups.photographs[known].sum())


class PixelKinds:
    """Counts the pixels of some units by kind. measure in any thread, add in any order, merge and result once.

    thresholds: float64 (U,). iou: float64 (U, C), of units and single concepts (method.md §3.4), by which labels and
    candidates are chosen. units: int (D,), those whose pixels are counted, each with an IoU above 0. groups: Groups of
    P photographs.
    """

    def __init__(self, thresholds, iou, units, groups):
        self.units, self.thresholds, self.groups = np.asarray(units, int), thresholds, groups
        self.labels = iou[self.units].argmax(axis=1)
        self.candidates = [_candidates(iou[unit], groups.known) for unit in self.units]
        width = [4 + -(-len(of) // 8) for of in self.candidates]
        self._held = [(np.zeros((0, bytes_), np.uint8), np.zeros((0, 2), np.int64)) for bytes_ in width]
        self._waiting, self._n_waiting = [], 0

    def measure(self, maps, photograph, concepts, masks):
        """Count the pixels of one photograph.

        maps: float32 (U, H, W). photograph: its number. concepts: int (m,), masks: bool (m, rows, columns), what lies
        where on the photograph's grid; of a concept that is given twice, either. Returns (keys, counts), see merged: of
        each kind its pixels, then those in which each of the units is active.
        """
        lies = masks.reshape(len(masks), masks.shape[1] * masks.shape[2])
        changes = (lies[:, 1:] != lies[:, :-1]).any(axis=0)
        begins = np.concatenate([[0], np.flatnonzero(changes) + 1])  # of runs of pixels that lie in the same masks
        runs = np.ascontiguousarray(lies[:, begins].T)
        # Told apart by the photograph's few masks, then written as concepts: the same mask twice gives two kinds, which
        # merged() unites.
        small = np.packbits(runs, axis=1) if len(masks) else np.zeros((len(runs), 1), np.uint8)
        distinct, run_is = np.unique(_as_one(small), return_index=True, return_inverse=True)[1:]
        inside = np.zeros((len(distinct), self.groups.known.shape[1]), bool)
        np.logical_or.at(inside.T, np.asarray(concepts, int), runs[distinct].T)
        kind_of = np.repeat(run_is, np.diff(begins, append=lies.shape[1]))
        counts = np.zeros((len(distinct), 1 + len(self.units)), np.int64)
        counts[:, 0] = np.bincount(kind_of)
        self._count_active(maps, masks.shape[1:], kind_of, counts[:, 1:])
        return merged(_keys(np.full(len(distinct), self.groups.of[photograph]), inside), counts)

    def _count_active(self, maps, grid, kind_of, counts):
        """Add where units are active. grid: (rows, columns). kind_of: int (pixels,). counts: int64 (kinds, D)."""
        own = maps[self.units]
        limits = self.thresholds[self.units]
        awake = np.flatnonzero(own.max(axis=(1, 2)) > float32_floor(limits))
        for start in range(0, len(awake), _MAPS_AT_ONCE):
            some = awake[start : start + _MAPS_AT_ONCE]
            places = np.flatnonzero(active_pixels(own[some], limits[some], grid))
            unit, pixel = np.divmod(places, len(kind_of))
            places = kind_of[pixel] * len(some) + unit
            counts[:, some] += np.bincount(places, minlength=len(counts) * len(some)).reshape(len(counts), len(some))

    def add(self, measured):
        self._waiting.append(measured)
        self._n_waiting += measured[1].size
        if self._n_waiting > _MERGE_AT:
            self._merge()

    def _merge(self):
        keys, counts = merged(*map(np.concatenate, zip(*self._waiting, strict=True)))
        group, inside = _read_keys(keys, self.groups.known.shape[1])
        lies, columns = (np.ascontiguousarray(part.T) for part in (inside, counts))  # a unit needs few columns of them
        for index, (candidates, label) in enumerate(zip(self.candidates, self.labels, strict=True)):
            rows = np.flatnonzero(self.groups.known[group, label])
            own = _keys(group[rows], lies[np.ix_(candidates, rows)].T), columns[np.ix_([0, 1 + index], rows)].T
            self._held[index] = merged(*map(np.concatenate, zip(self._held[index], own, strict=True)))
        self._waiting, self._n_waiting = [], 0

    def merge(self, ranks):
        """Add up what all processes have counted. ranks: util.ranks.Ranks."""
        if self._waiting:
            self._merge()
        parts = ranks.shared(ranks.gathered(self._held))
        self._held = [merged(*map(np.concatenate, zip(*of_unit, strict=True))) for of_unit in zip(*parts, strict=True)]

    def result(self):
        """Returns list of D UnitPixels."""
        if self._waiting:
            self._merge()
        found = []
        for unit, label, candidates, (keys, counts) in zip(
            self.units.tolist(), self.labels, self.candidates, self._held, strict=True
        ):
            group, inside = _read_keys(keys, len(candidates))
            place = int(np.searchsorted(candidates, label))
            found.append(UnitPixels(unit, candidates, place, inside, group, *counts.T, self.groups))
        return found


def _candidates(iou, known):
    """The concepts with a unit's highest IoU that some photographs are annotated for beside its label, ascending."""
    beside = known[known[:, iou.argmax()]].any(axis=0)
    ranked = [concept for concept in np.argsort(-iou, kind="stable") if beside[concept]]
    return np.sort(np.array(ranked[:CANDIDATES], int))


def merged(keys, counts):
    """Rows with the same key as one, ascending. keys: uint8 (n, bytes). counts: int64 (n, columns), added up."""
    if not len(keys):
        return keys, counts
    order = np.argsort(_as_one(keys), kind="stable")
    keys, counts = keys[order], counts[order]
    first = np.concatenate([[0], np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1)) + 1])
    return keys[first], np.add.reduceat(counts, first, axis=0)


def _keys(group, inside):
    """What tells kinds: group and concepts as bytes. group: int (n,). inside: bool (n, K). Returns uint8 (n, bytes)."""
    numbers = group.astype(_GROUP).view(np.uint8).reshape(len(group), 4)
    return np.hstack([numbers, np.packbits(inside, axis=1)])


def _read_keys(keys, concepts):
    """What _keys was given. concepts: K."""
    group = np.ascontiguousarray(keys[:, :4]).view(_GROUP).ravel().astype(int)
    return group, np.unpackbits(keys[:, 4:], axis=1, count=concepts).astype(bool)


def _as_one(keys):
    """Each row's bytes as one value that can be sorted. keys: uint8 (n, bytes)."""
    if keys.shape[1] <= 8:  # numbers are sorted much faster
        padded = np.zeros((len(keys), 8), np.uint8)
        padded[:, : keys.shape[1]] = keys
        return padded.view(">u8").ravel()
    return np.ascontiguousarray(keys).view(f"V{keys.shape[1]}").ravel()
