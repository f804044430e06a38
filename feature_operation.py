"""The operations of dissection, on the units of one model's layers (method.md §3 and §8).

    feature_extraction   images -> activation maps, handed to consumers such as the memory map
    quantile_threshold   activation maps -> a threshold per unit
    tally                maps and masks -> statistics such as the IoU of units and concepts
    chance               maps and masks -> what of that IoU is chance
    presence             maps and labels -> whether units tell images that show a concept from those that lack it
    formulas             maps and masks -> the formula of concepts that a unit follows best

They compute; what is kept, under which name and made from what is the business of main.py and the rooms below.
"""

from collections import Counter
from contextlib import ExitStack
from copy import copy
from functools import cached_property, wraps

import numpy as np
import torch

from loader.activations import one_pass
from loader.batch import Batches
from loader.devices import describe_device
from method.chance import (
    ActiveMaps,
    Chances,
    ConceptMasks,
    Counted,
    UnitsChance,
    chance_of,
    compare,
    compare_counted,
    deal,
    overlaps_by_location,
)
from method.formulas import Formulas, row_of
from method.outlines import Outlines
from method.pixel_kinds import Groups, PixelKinds
from method.plain_label import SharedMasks, wider_concepts
from method.presence import Compared, joined
from method.quantile import exact_quantile
from method.resampling import halves
from method.tally import Labels, iou
from method.weighted_counts import WeightedCounts
from store.peaks_file import PeaksFile, read_peaks
from util.parallel import mapped, ordered_map, progress
from util.ranks import ALONE

# Of images that are kept in memory.
_KEPT_BYTES = 256 << 20

# Read per task of the pool in the threshold's passes. A few of these times the workers is what the stage needs.
_BLOCK_BYTES = 8 << 20
_THRESHOLD_WORKERS = 4

# Of the outlines of active maps that are held at a time, about: what bounds the memory of chance.
_OUTLINE_BYTES = 64 << 20
_FIRST_UNITS = 16  # by which it is found how many units that is

# Units whose peaks are sorted together, and peaks at most.
_UNITS_AT_ONCE, _PEAKS_AT_ONCE = 32, 1 << 20

# Of what chance counts for every pair of a unit and a concept: where it is more, some units are counted after others.
_COUNTS_BYTES = 512 << 20


def _together(operation):
    """Have every process of the run do an operation that the first one is asked for, each on its share.

    What it returns holds in the first process alone. One operation does not use another.
    """

    @wraps(operation)
    def run(self, *arguments, **options):
        if self.ranks.first:
            sent = {name: value for name, value in options.items() if name not in _OF_FIRST}
            self.ranks.call(OPERATION, self.seed, operation.__name__, arguments, sent)
        return operation(self, *arguments, **options)

    return run


OPERATION = "operation"  # under which the other processes know what they are to do, see FeatureOperator.take_part
_OF_FIRST = ("begin",)  # options that concern the first process alone


class FeatureOperator:
    """Dissects layers of one model against one dictionary.

    model: loader.models.LoadedModel. dictionary: dictionary.dictionary.Dictionary. grid: (rows, columns), pixels, of
    the network's input, on which pixels are counted too. batch_size and tally_batch_size: images at a time.
    workers: threads that read and count. keep_images: whether images are kept in memory as the network sees them, for
    other networks with the same input (see of), as far as they are few. ranks: util.ranks.Ranks, the run's processes.
    twin_of: function from a seed to the model's untrained twin.
    """

    def __init__(
        self, model, dictionary, *, grid, batch_size=64, tally_batch_size=32, workers=2, keep_images=False,
        ranks=ALONE, twin_of=None,
    ):  # fmt: skip
        self.model, self.dictionary, self.grid = model, dictionary, grid
        self.ranks, self.twin_of, self.seed = ranks, twin_of, None
        self.batch_size, self.tally_batch_size, self.workers = batch_size, tally_batch_size, workers
        self.keep_images = keep_images and len(dictionary.rows) * grid[0] * grid[1] * 3 <= _KEPT_BYTES
        self._images = self._kept = None  # images as the network sees them, and of which rows
        if self.keep_images:
            self._images = np.empty((len(dictionary.rows), *grid, 3), np.uint8)
            self._kept = np.zeros(len(dictionary.rows), bool)
        self._for_chance = {}  # see _masks_for_chance

    def of(self, model):
        """The same operations on another network with the same input, which shares what was read of the dictionary."""
        other = copy(self)
        other.model = model
        return other

    def of_twin(self, seed):
        """The same operations on an untrained twin. seed: of its weights."""
        other = self.of(self.twin_of(seed))
        other.seed = seed
        return other

    def take_part(self, seed, name, arguments, options):
        """Do one's share of an operation that the first process has called, see _together."""
        getattr(self if seed is None else self.of_twin(seed), name)(*arguments, **options)

    @property
    def session(self):
        """What rounds sums otherwise, beside the batch size: JSON values by name."""
        return {"device": describe_device(self.model.device), "torch": torch.__version__}

    @property
    def many_labels(self):
        """Whether the dictionary has too many masks for chance to look at all of them."""
        return self.dictionary.format.many_labels

    def _image(self, index):
        """The image of a row as the network sees it, uint8 (rows, columns, 3)."""
        if self.keep_images and self._kept[index]:
            return self._images[index]
        image = self.dictionary.image(self.dictionary.rows[index], self.grid)
        if self.keep_images:
            self._images[index], self._kept[index] = image, True
        return image

    def masks_of(self, row):
        """The masks of a row, see Dictionary.masks."""
        return self.dictionary.masks(row, self.grid)

    def labels_of(self, row):
        """What is annotated in a row, see method.tally.Labels."""
        dictionary = self.dictionary
        return Labels(*dictionary.packed_masks(row, self.grid), dictionary.grid(row, self.grid), dictionary.whole(row))

    def _all_masks(self, row):
        """masks_of, with all pixels for what holds for the whole image."""
        labels = self.labels_of(row)
        return labels.all, np.concatenate([labels.masks, np.ones((len(labels.whole), *labels.grid), bool)])

    def _masks_of_rows(self, rows):
        """_all_masks of some rows with one grid, one after the other. rows: int (n,)."""
        of_rows = (self._all_masks(self.dictionary.rows[row]) for row in rows)
        return tuple(map(np.concatenate, zip(*of_rows, strict=True)))

    @_together
    def feature_extraction(self, layers, *, begin=None):
        """Record A_u(x) for every usable image, all layers in one forward pass (method.md §3.1).

        layers: names among the model's. begin: function ({layer: (U, H, W)}) -> ({layer: place}, numbers of the batches
        that are wanted), see store.maps.MemoryMaps; of the first process. Returns {layer: bool, which batches
        were written, by all processes}. Raises DissectionError for NaN or infinite activations and for a layer without
        maps.
        """
        rows, usable = self.dictionary.rows, self.dictionary.usable
        batches = Batches(len(rows), self.batch_size, rows.image, usable)
        slices = {}
        with ExitStack() as opened:

            def divide(shapes):
                places, wanted = self.ranks.shared(begin(shapes) if self.ranks.first else None)
                for layer, place in places.items():
                    slices[layer] = opened.enter_context(place.open(self.ranks.rank))
                first, last = self.ranks.share(len(wanted))
                return {layer: [of] for layer, of in slices.items()}, wanted[first:last]

            one_pass(self.model, layers, batches, self._image, divide, workers=self.workers, label="activation maps")
        written = self.ranks.gathered({layer: of.written for layer, of in slices.items()})
        return written and {layer: np.logical_or.reduce([of[layer] for of in written]) for layer in layers}

    @_together
    def quantile_threshold(self, maps, quantile):
        """T_u with P(A_u > T_u) = quantile over all values of the unit, exactly (method.md §3.2).

        maps: store.feature_file.FeatureMaps. quantile: share above the threshold, in (0, 1). The threshold is
        numpy.quantile(values as float64, 1 - quantile). Returns float64 (U,).
        """
        first, last = self.ranks.share(len(maps.usable))
        blocks = maps.blocks(_BLOCK_BYTES, first, last)
        values_per_unit = int(maps.usable.sum()) * maps.shape[2] * maps.shape[3]
        with progress(3 * (last - first), "thresholds", "image") as bar:

            def passes(function):
                def one(block):
                    start, stop = block
                    values = maps.read(start, stop)[maps.usable[start:stop]]  # (b, U, H, W)
                    # Not -1: there may be no image, where a block holds none that can be used.
                    return function(values.reshape(*values.shape[:2], maps.shape[2] * maps.shape[3]))

                # Each result is a histogram of all units, up to 30 MB: few of them may wait.
                workers = min(self.workers, _THRESHOLD_WORKERS)
                for (start, stop), result in zip(blocks, ordered_map(one, blocks, workers, ahead=0), strict=True):
                    yield result
                    bar.update(stop - start)

            return exact_quantile(passes, maps.units, values_per_unit, 1 - quantile, self.ranks.summed)

    @_together
    def tally(self, layers):
        """Compute statistics of maps and masks, such as IoU, in one pass that reads the masks once (method.md §3.3).

        layers: {layer: (FeatureMaps, list of statistics)}, see method.tally.TallyStatistic. Returns {layer: list of
        their results}. They do not depend on tally_batch_size and workers.
        """
        self._count(layers, "tally")
        for _, statistics in layers.values():
            for statistic in statistics:
                statistic.merge(self.ranks)
        return {layer: [statistic.result() for statistic in statistics] for layer, (_, statistics) in layers.items()}

    def _count(self, layers, label):
        """Have statistics count this process's share of the images. layers: see tally."""
        rows = self.dictionary.rows

        def measure(batch):
            usable = np.flatnonzero(self.dictionary.usable[slice(*batch)]) + batch[0]
            batch = [row for row in map(rows.__getitem__, usable) if row.masks]
            if not batch:
                return {}
            labels = [self.labels_of(row) for row in batch]
            images = np.array([row.index for row in batch])
            first, last = images[0], images[-1] + 1
            measured = {}
            for layer, (maps, statistics) in layers.items():
                of_images = maps.read(first, last)[images - first]  # (b, U, H, W)
                measured[layer] = [statistic.measure(of_images, images, labels) for statistic in statistics]
            return measured

        batches = _ranges(*self.ranks.share(len(rows)), self.tally_batch_size)
        for _, measured in mapped(measure, batches, self.workers, label, size=_length):
            for layer, parts in measured.items():
                for statistic, part in zip(layers[layer][1], parts, strict=True):
                    statistic.add(part)

    @_together
    def chance(self, layers, *, permutations, bootstraps, images, seed=0):
        """What of the IoU of units and concepts is chance (method.md §8.1 to §8.5 and §8.7).

        layers: {layer: (FeatureMaps, Tally)}. Where the tally counts other images than those that carry a concept, or
        the dictionary has many labels, the location level and significance alone are known, see compare_counted, and of
        a concept no more than images are looked at. permutations: K; with 0 z, p and q are NaN, no unit is confirmed.
        bootstraps: B; with 0 intervals and shares are NaN and boot_concept and boot_iou have no columns. images:
        CHANCE_IMAGES. seed: of the dealings. Returns {layer: Chance}. It does not depend on batches and workers.
        """
        chances = Chances(*self._by_photograph, permutations, bootstraps, images, seed)
        if self.many_labels:
            masks, heights = self._masks_on(self._few(chances)), None
        else:
            masks, heights = self._masks_for_chance(chances)
        return {
            layer: self._chance_of_layer(maps, tally, masks, heights, chances, layer)
            for layer, (maps, tally) in layers.items()
        }

    @cached_property
    def photographs(self):
        """The digest of each row's photograph, bytes (N,), empty for one that cannot be read."""
        digests = [*self.dictionary.photograph_digests, ""]  # number -1 is none
        return np.array(digests, "S64")[self.dictionary.photographs]

    @property
    def _by_photograph(self):
        """The digests of all photographs, ascending, sequence of texts; and int (N,), which of them each row shows."""
        return self.dictionary.photograph_digests, self.dictionary.photographs

    @_together
    def presence(self, layers):
        """Whether units tell images that show a concept from those that lack it (method.md §8.6).

        layers: {layer: FeatureMaps}. Returns {layer: Presence}, for the concepts that images show or lack.
        """
        dictionary, (_, photographs) = self.dictionary, self._by_photograph
        sources = dictionary.sources
        compared = [
            (rows, Compared(dictionary.carries[rows], sources[rows], photographs[rows], asked))
            for rows, asked in dictionary.compared
        ]
        return {layer: self._presence_of(maps, compared, layer) for layer, maps in layers.items()}

    def _presence_of(self, maps, compared, label):
        """Presence of one layer, None in other processes than the first. compared: list of (rows, Compared)."""
        sums = self.ranks.gathered(self._presence_sums(maps, compared, label))
        if not self.ranks.first:
            return None
        of_units = [np.concatenate(of_ranks, axis=1) for of_ranks in zip(*sums, strict=True)]
        return joined([of.presence(part) for (_, of), part in zip(compared, of_units, strict=True)])

    def _presence_sums(self, maps, compared, label):
        """What this process's share of the units tells: of each set of images method.presence.Compared.sums."""
        images, units = len(maps.usable), slice(*self.ranks.share(maps.units))
        count, parts = units.stop - units.start, [[] for _ in compared]
        with PeaksFile(images, count, maps.path.parent) as peaks:
            if count:
                read_peaks(peaks, maps, units, self.workers, label)
            for first, last in _ranges(0, count, max(1, min(_PEAKS_AT_ONCE // images, _UNITS_AT_ONCE))):
                of_units = peaks.of(first, last)
                for part, (rows, of) in zip(parts, compared, strict=True):
                    part.append(of.sums(of_units[:, rows]))
        nothing = np.zeros((4, 0, len(self.dictionary.names)))
        return [np.concatenate([nothing, *part], axis=1) for part in parts]

    @_together
    def formulas(self, layers, most):
        """The formula of at most `most` concepts that each unit follows best (method.md §3.6).

        layers: {layer: (FeatureMaps, thresholds, IoU of units and concepts, the units that are asked)}, for units with
        an IoU above 0. Rows of one photograph count once, with the labels of all of them. Returns {layer: Formulas}.
        They do not depend on batches and workers.
        """
        dictionary, (digests, photograph) = self.dictionary, self._by_photograph
        rows, bounds = self._grouped(np.flatnonzero(dictionary.usable))
        known = np.logical_or.reduceat(dictionary.known[rows], bounds[:-1])
        groups = Groups.of_photographs(known, halves([digests[number] for number in photograph[rows[bounds[:-1]]]]))
        kinds = {layer: PixelKinds(thresholds, iou, units, groups)
                 for layer, (_, thresholds, iou, units) in layers.items()}  # fmt: skip

        def of_photograph(number):
            mine = rows[bounds[number] : bounds[number + 1]]
            concepts, masks = self._masks_of_rows(mine)
            return {
                layer: kinds[layer].measure(maps.read(mine[0], mine[0] + 1)[0], number, concepts, masks)
                for layer, (maps, *_) in layers.items()
            }

        for measured in self._of_photographs(of_photograph, len(bounds) - 1, "formulas"):
            for layer, counts in measured.items():
                kinds[layer].add(counts)
        return {layer: self._formulas_of(counted, most) for layer, counted in kinds.items()}

    def _formulas_of(self, kinds, most):
        """Formulas, None in other processes than the first, each of which looks for those of some units. kinds:
        PixelKinds.
        """
        kinds.merge(self.ranks)
        units = kinds.result()
        names, own = self.dictionary.names, units[slice(*self.ranks.share(len(units)))]
        rows = self.ranks.gathered(list(ordered_map(lambda unit: row_of(unit, names, most), own, self.workers)))
        return Formulas.of(sum(rows, [])) if self.ranks.first else None

    def _grouped(self, rows):
        """Rows of the same photograph one after the other, photographs in the order of their first rows: int (n,), and
        int (P + 1,), between which each photograph's rows stand. rows: int (n,), ascending.
        """
        digests, photograph = self._by_photograph
        first = np.full(len(digests), len(photograph))
        np.minimum.at(first, photograph[rows], rows)
        first = first[photograph[rows]]
        order = np.argsort(first, kind="stable")
        return rows[order], np.append(np.flatnonzero(np.diff(first[order], prepend=-1)), len(rows))

    def _of_photographs(self, function, count, label):
        """What a function gives for the numbers of this process's share of photographs. count: of all."""
        batches = _ranges(*self.ranks.share(count), self.tally_batch_size)

        def of_batch(batch):
            return [function(number) for number in range(*batch)]

        for _, found in mapped(of_batch, batches, self.workers, label, size=_length):
            yield from found

    @cached_property
    def wider_concepts(self):
        """The concept that has the same masks as another on more photographs, see method.plain_label. int (C,)."""
        return self.find_wider_concepts()

    @_together
    def find_wider_concepts(self):
        """See wider_concepts."""
        dictionary = self.dictionary
        if self.many_labels:
            return np.full(len(dictionary.names), -1)
        rows, bounds = self._grouped(np.flatnonzero(dictionary.carries.any(axis=1)))

        def of_photograph(number):
            of = [self.labels_of(dictionary.rows[row]) for row in rows[bounds[number] : bounds[number + 1]]]
            return np.concatenate([one.concepts for one in of]), np.concatenate([one.bits for one in of])

        shared = SharedMasks(len(dictionary.names))
        for concepts, masks in self._of_photographs(of_photograph, len(bounds) - 1, "plain labels"):
            shared.add(concepts, masks)
        shared.merge(self.ranks)
        return wider_concepts(shared.both, shared.intersection, shared.union, dictionary.told, dictionary.same_rule)

    def _masks_for_chance(self, chances):
        """The masks on which significance is judged, list of ConceptMasks in concept order, and how many of all masks
        of each concept lie on each pixel, int64 (C, P). Read once for all layers and networks.
        """
        known = chances.permutations > 0, chances.images, chances.seed
        if known not in self._for_chance:
            heights = np.zeros((len(self.dictionary.names), self.grid[0] * self.grid[1]), np.int64)
            masks = self._masks_on(chances.candidates(self.dictionary.carries), heights)
            self._for_chance.clear()  # of the operators on twins, too
            self._for_chance[known] = (masks, *self.ranks.summed(heights))
        return self._for_chance[known]

    def _masks_on(self, wanted, heights=None):
        """Masks as outlines: list of ConceptMasks in concept order. wanted: bool (N, C). heights: int64 (C, P), to
        which all masks of this process's share of the images are added; without it no other masks are read.
        """
        dictionary, own = self.dictionary, []
        images = np.flatnonzero((wanted if heights is None else dictionary.carries).any(axis=1))

        def read(batch):
            some = images[slice(*batch)]
            concepts, masks = zip(*(self._all_masks(dictionary.rows[image]) for image in some), strict=True)
            image, concept = np.repeat(some, [len(of_image) for of_image in concepts]), np.concatenate(concepts)
            kept, masks = wanted[image, concept], np.concatenate(masks)
            return (image[kept], concept[kept], Outlines.of(masks[kept])), concept, masks

        batches = _ranges(*self.ranks.share(len(images)), self.tally_batch_size)
        for _, (found, concept, masks) in mapped(read, batches, self.workers, "masks", size=_length):
            if len(found[0]):
                own.append(found)
            if heights is not None:
                for of_concept, mask in zip(concept, masks, strict=True):
                    heights[of_concept] += mask.ravel()
        return self._by_concept(sum(self.ranks.shared(self.ranks.gathered(own)), []))

    def _by_concept(self, parts):
        """Masks by their concepts: list of ConceptMasks. parts: list of (image, concept, outlines), by their images."""
        nothing = np.zeros(0, int), np.zeros(0, int), Outlines.of(np.zeros((0, *self.counting_grid), bool))
        image, concept, outlines = zip(nothing, *parts, strict=True)
        image, concept, outlines = np.concatenate(image), np.concatenate(concept), Outlines.joined(list(outlines))
        order = np.argsort(concept, kind="stable")
        bounds = np.searchsorted(concept[order], np.arange(len(self.dictionary.concepts) + 1))
        return [
            ConceptMasks(of.name, of.region, image[order[start:stop]], outlines.taken(order[start:stop]))
            for of, start, stop in zip(self.dictionary.concepts, bounds, bounds[1:], strict=False)
        ]

    @cached_property
    def counting_grid(self):
        """The grid on which the pixels of most images are counted, (rows, columns)."""
        if not self.many_labels:
            return self.grid
        grids = Counter(self.dictionary.grid(row, self.grid) for row in self.dictionary.usable_rows)
        return grids.most_common(1)[0][0]

    def _few(self, chances):
        """Of each concept with a place the images on which its chance is looked at: bool (N, C). Masks are dealt out
        among images, so these have one grid.
        """
        dictionary = self.dictionary
        wanted = dictionary.carries.copy()
        wanted[:, [concept.whole for concept in dictionary.concepts]] = False
        wanted[[dictionary.grid(row, self.grid) != self.counting_grid for row in dictionary.rows]] = False
        for of_concept in wanted.T:
            images = np.flatnonzero(of_concept)
            beyond = np.argsort(chances.places[images], kind="stable")[chances.images :]
            of_concept[images[beyond]] = False
        return wanted

    def _chance_of_layer(self, maps, tally, masks, heights, chances, label):
        """The Chance of one layer, None in other processes than the first. heights: None where no pass is needed."""
        images = np.unique(np.concatenate([mine.images for mine in masks]))
        step = maps.units if heights is None else max(1, _COUNTS_BYTES // (16 * len(masks) * chances.columns))
        parts = []
        for first, last in _ranges(0, maps.units, step):
            counts = heights is not None and self._weighted_counts(
                maps, tally.thresholds, slice(first, last), heights, chances, images, label
            )
            start, stop = self.ranks.share(last - first)
            blocks = self._blocks(maps, tally.thresholds, images, slice(first + start, first + stop), counts, label)
            own = [self._chance_of_block(active, tally, units, masks, chances, counts) for units, active in blocks]
            parts += sum(self.ranks.gathered(own) or [], [])
        return chance_of(parts, self.dictionary.names, maps.shape[2:]) if self.ranks.first else None

    def _weighted_counts(self, maps, thresholds, units, heights, chances, images, label):
        """WeightedCounts of some units. images: int, those on which their outlines are wanted afterwards."""
        kept = np.zeros(len(self.dictionary.rows), bool)
        kept[images] = True
        room = _OUTLINE_BYTES // self.ranks.size
        counts = WeightedCounts(thresholds, units, heights, chances, kept, room)
        self._count({label: (maps, [counts])}, f"resamples of {label}")
        counts.merge(self.ranks)
        return counts

    def _blocks(self, maps, thresholds, images, units, counts, label):
        """ActiveMaps of some units on some images, in blocks that are held one after the other: yields (slice of units,
        ActiveMaps). images: int, ascending. units: slice. counts: WeightedCounts, which may have kept them, or False.
        """
        if counts and counts.active and units.start < units.stop:
            yield units, counts.active.of_units(counts.within(units))
            return
        first, step = units.start, _FIRST_UNITS
        with progress(units.stop - first, f"chance of {label}", "unit") as bar:
            while first < units.stop:
                block = slice(first, min(first + step, units.stop))
                active = self._active_maps(maps, thresholds, images, block)
                yield block, active
                taken = block.stop - first
                bar.update(taken)
                first = block.stop
                step = int(_OUTLINE_BYTES * taken / max(active.outlines.edges.nbytes, 1))
                step = max(1, min(step, 8 * taken))

    def _active_maps(self, maps, thresholds, images, units):
        """ActiveMaps of some units on some images. images: int, ascending. units: slice."""
        batches = [images[first:last] for first, last in _ranges(0, len(images), self.tally_batch_size)]

        def read(batch):
            of_batch = maps.read_units(batch, units.start, units.stop)
            return ActiveMaps.of(of_batch, batch, thresholds[units], self.counting_grid)

        return ActiveMaps.joined(list(ordered_map(read, batches, self.workers)))

    def _chance_of_block(self, active, tally, units, masks, chances, counts):
        """The arrays of Chance over a block of units, see UnitsChance.result. units: slice."""
        count, size = units.stop - units.start, self.counting_grid[0] * self.counting_grid[1]
        gathered = UnitsChance(count, len(masks), chances)
        found, total = iou(tally.intersection, tally.union), tally.union + tally.intersection
        carried = tally.carries.sum(axis=0)
        anew = self.dictionary.resampled(str(tally.images))
        within = counts and counts.within(units)

        def one(concept):
            mine = masks[concept]
            if anew:
                return compare(counts, concept, within, deal(active, count, mine, chances, size))
            counted = Counted(found[units, concept], total[units, concept], int(carried[concept]))
            dealt = deal(active, count, mine, chances, size, counted)
            if counts:
                return compare_counted(counted, counts.by_location[concept, within], counted.images, dealt)
            return compare_counted(counted, overlaps_by_location(active, count, mine, size), len(mine.images), dealt)

        compared = ordered_map(one, range(len(masks)), self.workers, ahead=0)
        for concept, pairs in enumerate(compared):
            gathered.add(concept, pairs)
        arrays = gathered.result([mine.region for mine in masks])
        return arrays if anew else {**arrays, "heldout_iou": np.full(count, np.nan)}


def _ranges(start, stop, step):
    """Consecutive (first, last) of at most step things, from start to stop."""
    return [(first, min(first + step, stop)) for first in range(start, stop, step)]


def _length(of_range):
    return of_range[1] - of_range[0]
