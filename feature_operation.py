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
from copy import copy
from functools import cached_property

import numpy as np
import torch

from loader.activations import one_pass
from method.chance import ActiveMaps, Chances, ConceptMasks, Counted, UnitsChance, chance_of, compare, compare_counted
from method.formulas import Formulas, row_of
from method.outlines import Outlines
from method.pixel_kinds import Groups, PixelKinds
from method.plain_label import SharedMasks, wider_concepts
from method.presence import joined, presence
from method.quantile import exact_quantile
from method.resampling import halves
from method.segmentation import pack
from method.tally import Labels, iou
from util.parallel import mapped, ordered_map, progress

# Of images that are kept in memory.
_KEPT_BYTES = 256 << 20

# Read per task of the pool in the threshold's passes. A few of these times the workers is what the stage needs.
_BLOCK_BYTES = 8 << 20
_THRESHOLD_WORKERS = 4

# Of the outlines of active maps that are held at a time, about: what bounds the memory of chance.
_OUTLINE_BYTES = 64 << 20
_FIRST_UNITS = 16  # by which it is found how many units that is


class FeatureOperator:
    """Dissects layers of one model against one dictionary.

    model: loader.models.LoadedModel. dictionary: dictionary.dictionary.Dictionary. grid: (rows, columns), pixels, of
    the network's input, on which pixels are counted too. batch_size and tally_batch_size: images at a time.
    workers: threads that read and count. keep_images: whether images are kept in memory as the network sees them, for
    other networks with the same input (see of), as far as they are few.
    """

    def __init__(self, model, dictionary, *, grid, batch_size=64, tally_batch_size=32, workers=2, keep_images=False):
        self.model, self.dictionary, self.grid = model, dictionary, grid
        self.batch_size, self.tally_batch_size, self.workers = batch_size, tally_batch_size, workers
        self.keep_images = keep_images and len(dictionary.rows) * grid[0] * grid[1] * 3 <= _KEPT_BYTES
        self._images, self._outlines = {}, {}  # by row, of images and of masks

    def of(self, model):
        """The same operations on another network with the same input, which shares what was read of the dictionary."""
        other = copy(self)
        other.model = model
        return other

    @property
    def session(self):
        """What rounds sums otherwise, beside the batch size: JSON values by name."""
        return {"device": str(self.model.device), "torch": torch.__version__}

    @property
    def many_labels(self):
        """Whether the dictionary has too many masks for their outlines to be kept."""
        return self.dictionary.format.many_labels

    def _image(self, index):
        """The image of a row as the network sees it, uint8 (rows, columns, 3)."""
        if index in self._images:
            return self._images[index]
        image = self.dictionary.image(self.dictionary.rows[index], self.grid)
        if self.keep_images:
            self._images[index] = image
        return image

    def masks_of(self, row):
        """The masks of a row, see Dictionary.masks; decoded once where their outlines are few enough to be kept."""
        if row.index in self._outlines:
            concepts, outlines = self._outlines[row.index]
            return concepts, outlines.pixels(self.grid[0] * self.grid[1]).reshape(len(outlines), *self.grid)
        concepts, masks = self.dictionary.masks(row, self.grid)
        if not self.many_labels:
            self._outlines[row.index] = concepts, Outlines.of(masks)
        return concepts, masks

    def labels_of(self, row):
        """What is annotated in a row, see method.tally.Labels."""
        return Labels(*self.masks_of(row), self.dictionary.whole(row))

    def _all_masks(self, row):
        """masks_of, with all pixels for what holds for the whole image."""
        concepts, masks, whole = self.labels_of(row)
        return np.concatenate([concepts, whole]), np.concatenate([masks, np.ones((len(whole), *masks.shape[1:]), bool)])

    def feature_extraction(self, layers, begin):
        """Record A_u(x) for every usable image, all layers in one forward pass (method.md §3.1).

        layers: names among the model's. begin: function ({layer: (U, H, W)}) -> ({layer: consumers}, first image),
        see loader.activations.one_pass. Raises DissectionError for NaN or infinite activations and for a layer without
        maps.
        """
        dictionary, count = self.dictionary, len(self.dictionary.rows)
        batches = [
            [(row.index, row.image) for row in dictionary.rows[start : start + self.batch_size]
             if dictionary.usable[row.index]]
            for start in range(0, count, self.batch_size)
        ]  # fmt: skip
        one_pass(
            self.model, layers, batches, self._image, begin, workers=self.workers, label="activation maps", total=count,
        )  # fmt: skip

    def quantile_threshold(self, maps, quantile):
        """T_u with P(A_u > T_u) = quantile over all values of the unit, exactly (method.md §3.2).

        maps: store.feature_file.FeatureMaps. quantile: share above the threshold, in (0, 1). The threshold is
        numpy.quantile(values as float64, 1 - quantile). Returns float64 (U,).
        """
        blocks = maps.blocks(_BLOCK_BYTES)
        values_per_unit = int(maps.usable.sum()) * maps.shape[2] * maps.shape[3]
        with progress(3 * len(maps.usable), "thresholds", "image") as bar:

            def passes(function):
                def one(block):
                    start, stop = block
                    values = maps.read(start, stop)[maps.usable[start:stop]]  # (b, U, H, W)
                    return function(values.reshape(*values.shape[:2], -1))

                # Each result is a histogram of all units, up to 30 MB: few of them may wait.
                workers = min(self.workers, _THRESHOLD_WORKERS)
                for (start, stop), result in zip(blocks, ordered_map(one, blocks, workers, ahead=0), strict=True):
                    yield result
                    bar.update(stop - start)

            return exact_quantile(passes, maps.units, values_per_unit, 1 - quantile)

    def tally(self, layers):
        """Compute statistics of maps and masks, such as IoU, in one pass that reads the masks once (method.md §3.3).

        layers: {layer: (FeatureMaps, list of statistics)}, see method.tally.TallyStatistic. Returns {layer: list of
        their results}. They do not depend on tally_batch_size and workers.
        """
        rows = self.dictionary.rows
        batches = [rows[start : start + self.tally_batch_size] for start in range(0, len(rows), self.tally_batch_size)]

        def measure(batch):
            batch = [row for row in batch if self.dictionary.usable[row.index] and row.masks]
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

        for _, measured in mapped(measure, batches, self.workers, "tally", size=len):
            for layer, parts in measured.items():
                for statistic, part in zip(layers[layer][1], parts, strict=True):
                    statistic.add(part)
        return {layer: [statistic.result() for statistic in statistics] for layer, (_, statistics) in layers.items()}

    def chance(self, layers, *, permutations, bootstraps, images, seed=0):
        """What of the IoU of units and concepts is chance (method.md §8.1 to §8.5 and §8.7).

        layers: {layer: (FeatureMaps, Tally)}. Where the tally counts other images than those that carry a concept, or
        the dictionary has many labels, the location level and significance alone are known, see compare_counted, and of
        a concept no more than images are looked at. permutations: K; with 0 z, p and q are NaN, no unit is confirmed.
        bootstraps: B; with 0 intervals and shares are NaN and boot_concept and boot_iou have no columns. images:
        CHANCE_IMAGES. seed: of the dealings. Returns {layer: Chance}. It does not depend on batches and workers.
        """
        chances = Chances(self.photographs, permutations, bootstraps, images, seed)
        masks = self._masks_on(self._few(chances)) if self.many_labels else self.masks
        return {
            layer: self._chance_of_layer(maps, tally, masks, chances, layer) for layer, (maps, tally) in layers.items()
        }

    @property
    def photographs(self):
        """The digest of each row's photograph, list of N texts, empty for one that cannot be read."""
        return [self.dictionary.digests.get(row.image, "") for row in self.dictionary.rows]

    def presence(self, layers):
        """Whether units tell images that show a concept from those that lack it (method.md §8.6).

        layers: {layer: FeatureMaps}. Returns {layer: Presence}, for the concepts that images show or lack.
        """
        dictionary, photographs = self.dictionary, np.array(self.photographs)
        sources = np.array([row.source for row in dictionary.rows])
        found = {}
        for layer, maps in layers.items():
            blocks = maps.blocks(_BLOCK_BYTES)
            read = mapped(lambda block, maps=maps: maps.peaks(*block)[0], blocks, self.workers,
                          f"presence in {layer}", size=lambda block: block[1] - block[0])  # fmt: skip
            peaks = np.concatenate([peaks for _, peaks in read])
            found[layer] = joined(
                [
                    presence(peaks[rows], dictionary.carries[rows], sources[rows], photographs[rows], asked)
                    for rows, asked in dictionary.compared
                ]
            )
        return found

    def formulas(self, layers, most):
        """The formula of at most `most` concepts that each unit follows best (method.md §3.6).

        layers: {layer: (FeatureMaps, thresholds, IoU of units and concepts, the units that are asked)}, for units with
        an IoU above 0. Rows of one photograph count once, with the labels of all of them. Returns {layer: Formulas}.
        They do not depend on batches and workers.
        """
        dictionary, of_photograph = self.dictionary, {}
        for row in dictionary.usable_rows:
            of_photograph.setdefault(dictionary.digests[row.image], []).append(row)
        known = np.array([dictionary.known[[row.index for row in rows]].any(axis=0) for rows in of_photograph.values()])
        groups = Groups.of_photographs(known, halves(list(of_photograph)))
        kinds = {layer: PixelKinds(thresholds, iou, units, groups)
                 for layer, (_, thresholds, iou, units) in layers.items()}  # fmt: skip

        def measure(numbered):
            photograph, rows = numbered
            concepts, masks = map(np.concatenate, zip(*map(self._all_masks, rows), strict=True))
            first = rows[0].index
            return {
                layer: kinds[layer].measure(maps.read(first, first + 1)[0], photograph, concepts, masks)
                for layer, (maps, *_) in layers.items()
            }

        for _, measured in mapped(measure, enumerate(of_photograph.values()), self.workers, "formulas", ahead=64):
            for layer, counts in measured.items():
                kinds[layer].add(counts)
        return {
            layer: Formulas.of(list(ordered_map(
                lambda of_unit: row_of(of_unit, dictionary.names, most), counted.result(), self.workers
            )))
            for layer, counted in kinds.items()
        }  # fmt: skip

    @cached_property
    def wider_concepts(self):
        """The concept that has the same masks as another on more photographs, see method.plain_label. int (C,)."""
        if self.many_labels:
            return np.full(len(self.dictionary.names), -1)
        by_photograph, size = {}, self.grid[0] * self.grid[1]
        for concept, masks in enumerate(self.masks):
            for place, image in enumerate(masks.images):
                photograph = self.dictionary.digests[self.dictionary.rows[image].image]
                by_photograph.setdefault(photograph, []).append((concept, masks.outlines.part(place, place + 1)))
        shared = SharedMasks(len(self.masks))
        for of in by_photograph.values():
            pixels = Outlines.joined([outlines for _, outlines in of]).pixels(size)
            shared.add(np.array([concept for concept, _ in of]), pack(pixels.reshape(len(of), *self.grid)))
        return wider_concepts(
            shared.both, shared.intersection, shared.union, self.dictionary.told, self.dictionary.same_rule
        )

    @cached_property
    def masks(self):
        """All masks as outlines: list of ConceptMasks in concept order."""
        return self._masks_on(self.dictionary.carries)

    def _masks_on(self, wanted):
        """Masks as outlines: list of ConceptMasks in concept order. wanted: bool (N, C)."""
        dictionary = self.dictionary
        seen, outlines = [[] for _ in dictionary.concepts], [[] for _ in dictionary.concepts]

        def read(row):
            if row.index in self._outlines:
                concepts, outlines = self._outlines[row.index]
            else:
                concepts, masks = self._all_masks(row)  # what holds for this whole image may have a place in others
                outlines = Outlines.of(masks)
            kept = np.flatnonzero(wanted[row.index, concepts])
            return concepts[kept], outlines.taken(kept)

        rows = [row for row in dictionary.usable_rows if wanted[row.index].any()]
        for row, (concepts, found) in mapped(read, rows, self.workers, "masks", ahead=64):
            for index, concept in enumerate(concepts):
                seen[concept].append(row.index)
                outlines[concept].append(found.part(index, index + 1))
        nothing = Outlines.of(np.zeros((0, *self.counting_grid), bool))
        return [
            ConceptMasks(concept.name, concept.region, np.array(of_concept, int), Outlines.joined(parts or [nothing]))
            for concept, of_concept, parts in zip(dictionary.concepts, seen, outlines, strict=True)
        ]

    @cached_property
    def counting_grid(self):
        """The grid on which the pixels of most images are counted, (rows, columns)."""
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
        order = np.argsort(chances.places, kind="stable")
        beyond = wanted[order].cumsum(axis=0) > chances.images
        wanted[order] &= ~beyond
        return wanted

    def _chance_of_layer(self, maps, tally, masks, chances, label):
        """The Chance of one layer, block of units after block."""
        images = np.unique(np.concatenate([mine.images for mine in masks]))
        first, step, parts = 0, _FIRST_UNITS, []
        with progress(maps.units, f"chance of {label}", "unit") as bar:
            while first < maps.units:
                units = min(step, maps.units - first)
                active = self._active_maps(maps, tally.thresholds, images, first, first + units)
                parts.append(self._chance_of_units(active, tally, slice(first, first + units), masks, chances))
                bar.update(units)
                first += units
                step = int(_OUTLINE_BYTES * units / max(active.outlines.edges.nbytes, 1))
                step = max(1, min(step, 8 * units))
        return chance_of(parts, self.dictionary.names, maps.shape[2:])

    def _active_maps(self, maps, thresholds, images, first, last):
        """ActiveMaps of units first..last-1 on some images. images: int, ascending."""
        starts = range(0, max(len(images), 1), self.tally_batch_size)
        batches = [images[start : start + self.tally_batch_size] for start in starts]

        def read(batch):
            of_batch = maps.read_units(batch, first, last) if len(batch) else np.zeros((0, last - first, 1, 1), "f4")
            return ActiveMaps.of(of_batch, batch, thresholds[first:last], self.counting_grid)

        return ActiveMaps.joined(list(ordered_map(read, batches, self.workers)))

    def _chance_of_units(self, active, tally, units, masks, chances):
        """The arrays of Chance over a block of units, see UnitsChance.result. units: slice."""
        count, size = units.stop - units.start, self.counting_grid[0] * self.counting_grid[1]
        gathered = UnitsChance(count, len(masks), chances)
        found, total = iou(tally.intersection, tally.union), tally.union + tally.intersection
        carried = tally.carries.sum(axis=0)
        anew = self.dictionary.resampled(str(tally.images))

        def one(concept):
            if anew:
                return compare(active, count, masks[concept], chances, size)
            counted = Counted(found[units, concept], total[units, concept], int(carried[concept]))
            return compare_counted(active, count, masks[concept], chances, size, counted)

        compared = ordered_map(one, range(len(masks)), self.workers, ahead=0)
        for concept, pairs in enumerate(compared):
            gathered.add(concept, pairs)
        arrays = gathered.result([mine.region for mine in masks])
        return arrays if anew else {**arrays, "heldout_iou": np.full(count, np.nan)}
