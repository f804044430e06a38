"""The operations of dissection, on the units of one model's layers (method.md §3 and §8).

    feature_extraction   images -> activation maps, handed to consumers such as the memory map
    quantile_threshold   activation maps -> a threshold per unit
    tally                maps and masks -> statistics such as the IoU of units and concepts
    chance               maps and masks -> what of that IoU is chance
    presence             maps and labels -> whether units tell images that show a concept from those that lack it
    formulas             maps and masks -> the formula of concepts that a unit follows best

They compute; what is kept, under which name and made from what is the business of main.py and the rooms below.
"""

from copy import copy
from functools import cached_property

import numpy as np
import torch

from dictionary.concepts import PARTS
from loader.activations import one_pass
from method.chance import ActiveMaps, Chances, ConceptMasks, UnitsChance, chance_of, compare
from method.formulas import Formulas, row_of
from method.outlines import Outlines
from method.pixel_kinds import Groups, PixelKinds
from method.plain_label import SharedMasks, wider_concepts
from method.presence import presence
from method.quantile import exact_quantile
from method.resampling import halves
from method.segmentation import pack
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

    def _image(self, index):
        """The image of a row as the network sees it, uint8 (rows, columns, 3)."""
        if index in self._images:
            return self._images[index]
        image = self.dictionary.image(self.dictionary.rows[index], self.grid)
        if self.keep_images:
            self._images[index] = image
        return image

    def masks_of(self, row):
        """The masks of a row, decoded once, since their outlines are small: see Dictionary.masks."""
        if row.index not in self._outlines:
            concepts, masks = self.dictionary.masks(row, self.grid)
            self._outlines[row.index] = concepts, Outlines.of(masks)
            return concepts, masks
        concepts, outlines = self._outlines[row.index]
        return concepts, outlines.pixels(self.grid[0] * self.grid[1]).reshape(len(outlines), *self.grid)

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
            masks = [self.masks_of(row) for row in batch]
            images = np.array([row.index for row in batch])
            first, last = images[0], images[-1] + 1
            measured = {}
            for layer, (maps, statistics) in layers.items():
                of_images = maps.read(first, last)[images - first]  # (b, U, H, W)
                measured[layer] = [statistic.measure(of_images, images, masks) for statistic in statistics]
            return measured

        for _, measured in mapped(measure, batches, self.workers, "tally", size=len):
            for layer, parts in measured.items():
                for statistic, part in zip(layers[layer][1], parts, strict=True):
                    statistic.add(part)
        return {layer: [statistic.result() for statistic in statistics] for layer, (_, statistics) in layers.items()}

    def chance(self, layers, *, permutations, bootstraps, images, seed=0):
        """What of the IoU of units and concepts is chance (method.md §8.1 to §8.5 and §8.7).

        layers: {layer: (FeatureMaps, thresholds)}. permutations: K; with 0 z, p and q are NaN and no unit is confirmed.
        bootstraps: B; with 0 intervals and shares are NaN and boot_concept and boot_iou have no columns. images:
        CHANCE_IMAGES. seed: of the dealings. Returns {layer: Chance}. It does not depend on batches and workers.
        """
        chances = Chances(self.photographs, permutations, bootstraps, images, seed)
        return {layer: self._chance_of_layer(*maps, self.masks, chances, layer) for layer, maps in layers.items()}

    @property
    def photographs(self):
        """The digest of each row's photograph, list of N texts, empty for one that cannot be read."""
        return [self.dictionary.digests.get(row.image, "") for row in self.dictionary.rows]

    def presence(self, layers):
        """Whether units tell images that show a concept from those that lack it (method.md §8.6).

        layers: {layer: FeatureMaps}. Returns {layer: Presence}, for concepts of every type but parts, which all faces
        have.
        """
        dictionary = self.dictionary
        rows = dictionary.usable_rows
        usable, digests = [row.index for row in rows], [dictionary.digests[row.image] for row in rows]
        found = {}
        for layer, maps in layers.items():
            blocks = maps.blocks(_BLOCK_BYTES)
            read = mapped(lambda block, maps=maps: maps.read(*block).max(axis=(2, 3)), blocks, self.workers,
                          f"presence in {layer}", size=lambda block: block[1] - block[0])  # fmt: skip
            peaks = np.concatenate([peaks for _, peaks in read])
            found[layer] = presence(
                peaks[usable], dictionary.carries[usable], np.array([row.source for row in rows]), digests, self._shown
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
        kinds = {layer: PixelKinds(thresholds, iou, units, groups, self.grid)
                 for layer, (_, thresholds, iou, units) in layers.items()}  # fmt: skip

        def measure(numbered):
            photograph, rows = numbered
            concepts, masks = map(np.concatenate, zip(*map(self.masks_of, rows), strict=True))
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

    @property
    def _shown(self):
        """bool (C,): the concepts that images show or lack."""
        return np.array([concept.type != PARTS for concept in self.dictionary.concepts])

    @cached_property
    def wider_concepts(self):
        """The concept that has the same masks as another on more photographs, see method.plain_label. int (C,)."""
        by_photograph, size = {}, self.grid[0] * self.grid[1]
        for concept, masks in enumerate(self.masks):
            for place, image in enumerate(masks.images):
                photograph = self.dictionary.digests[self.dictionary.rows[image].image]
                by_photograph.setdefault(photograph, []).append((concept, masks.outlines.part(place, place + 1)))
        shared = SharedMasks(len(self.masks))
        for of in by_photograph.values():
            pixels = Outlines.joined([outlines for _, outlines in of]).pixels(size)
            shared.add(np.array([concept for concept, _ in of]), pack(pixels.reshape(len(of), *self.grid)))
        return wider_concepts(shared.both, shared.intersection, shared.union, self._shown, self.dictionary.same_rule)

    @cached_property
    def masks(self):
        """All masks as outlines: list of ConceptMasks in concept order."""
        dictionary = self.dictionary
        seen, outlines = [[] for _ in dictionary.concepts], [[] for _ in dictionary.concepts]

        def read(row):
            self.masks_of(row)
            return self._outlines[row.index]

        rows = [row for row in dictionary.usable_rows if row.masks]
        for row, (concepts, found) in mapped(read, rows, self.workers, "masks", ahead=64):
            for index, concept in enumerate(concepts):
                seen[concept].append(row.index)
                outlines[concept].append(found.part(index, index + 1))
        return [
            ConceptMasks(concept.name, concept.region, np.array(of_concept), Outlines.joined(parts))
            for concept, of_concept, parts in zip(dictionary.concepts, seen, outlines, strict=True)
        ]

    def _chance_of_layer(self, maps, thresholds, masks, chances, label):
        """The Chance of one layer, block of units after block."""
        first, step, parts = 0, _FIRST_UNITS, []
        with progress(maps.units, f"chance of {label}", "unit") as bar:
            while first < maps.units:
                units = min(step, maps.units - first)
                active = self._active_maps(maps, thresholds, first, first + units)
                parts.append(self._chance_of_units(active, units, masks, chances))
                bar.update(units)
                first += units
                step = int(_OUTLINE_BYTES * units / max(active.outlines.edges.nbytes, 1))
                step = max(1, min(step, 8 * units))
        return chance_of(parts, self.dictionary.names, maps.shape[2:])

    def _active_maps(self, maps, thresholds, first, last):
        """ActiveMaps of units first..last-1 on all images with masks."""
        images = np.array([row.index for row in self.dictionary.usable_rows if row.masks])
        starts = range(0, len(images), self.tally_batch_size)
        batches = [images[start : start + self.tally_batch_size] for start in starts]

        def read(batch):
            return ActiveMaps.of(maps.read_units(batch, first, last), batch, thresholds[first:last], self.grid)

        return ActiveMaps.joined(list(ordered_map(read, batches, self.workers)))

    def _chance_of_units(self, active, units, masks, chances):
        """The arrays of Chance over a block of units, see UnitsChance.result."""
        gathered = UnitsChance(units, len(masks), chances)
        size = self.grid[0] * self.grid[1]
        compared = ordered_map(lambda mine: compare(active, units, mine, chances, size), masks, self.workers, ahead=0)
        for concept, pairs in enumerate(compared):
            gathered.add(concept, pairs)
        return gathered.result([mine.region for mine in masks])
