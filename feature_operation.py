"""The three operations of dissection, on the units of one model's layers (method.md §3).

    feature_extraction   images -> activation maps in a memory map      <layer>.mmap, <layer>_feature_size.npy
    quantile_threshold   activation maps -> a threshold per unit        <layer>_quantile.npy
    tally                maps, thresholds, masks -> IoU per concept     <layer>_tally.npz

Each leaves an artifact that knows what it was made from; an artifact that still holds is reused.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from loader.activations import activation_maps, probe, require_finite
from loader.images import load_mask
from loader.recorder import ActivationRecorder
from util.artifacts import FEATURE_SIZE, FEATURES, QUANTILE, TALLY, LayerArtifacts, fingerprint, load_npz
from util.errors import DissectionError
from util.features import FeatureMaps, FeatureWriter, require_space
from util.parallel import ordered_map, progress
from util.quantile import exact_quantile
from util.segmentation import pack
from util.tally import UNIONS, BestImages, Counts, count_images, iou

log = logging.getLogger(__name__)

# Raise a number when the code behind a stage changes what it computes: artifacts made before then no longer count.
_STAGE_VERSIONS = {"extraction": 1, "threshold": 1, "tally": 1}

# Read per task of the pool in the threshold's passes. A few of these times the workers is what the stage needs.
_BLOCK_BYTES = 8 << 20
_THRESHOLD_WORKERS = 4


@dataclass(frozen=True)
class Tally:
    """How well each unit of a layer matches each concept: what `<layer>_tally.npz` holds.

    U units, C concepts of the dictionary in concept order, K = 20 images kept per pair.
    tally: float64 (U, C), IoU in 0..1. maps: int64 (U, C, K), image indices, best first, -1 where none. scores: float64
    (U, C, K), their IoU within that image. intersection, union, union_active: int64 (U, C), pixels. concepts: str (C,).
    carries: bool (N, C), which image carries which concept; False throughout for one that was left out.
    thresholds: float64 (U,). iou_union: which union tally divides by, 'all' or 'active'. fingerprint: of what
    it was made from.
    """

    tally: np.ndarray
    maps: np.ndarray
    scores: np.ndarray
    intersection: np.ndarray
    union: np.ndarray
    union_active: np.ndarray
    concepts: np.ndarray
    carries: np.ndarray
    thresholds: np.ndarray
    iou_union: np.ndarray
    fingerprint: np.ndarray

    @classmethod
    def load(cls, path):
        """Read `<layer>_tally.npz`. Raises DissectionError."""
        arrays = load_npz(path)
        missing = set(cls.__dataclass_fields__) - set(arrays)
        if missing:
            raise DissectionError(f"{path} lacks {', '.join(sorted(missing))}: it is not a tally of this program")
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


class FeatureOperator:
    """Dissects layers of one model against one dictionary.

    model: loader.models.LoadedModel. dictionary: FaceDictionary. folder: for the artifacts. run: start of their names,
    `{run}_{layer}`. side_px: INPUT_SIZE, side of the network's input and of the grid on which pixels are counted.
    boxes: {image path: (left, top, right, bottom)} when faces are cropped, else None. batch_size and
    tally_batch_size: images at a time. workers: threads that read and count. feature_dtype: of the memory map.
    """

    def __init__(
        self, model, dictionary, folder, run, *,
        side_px, boxes=None, batch_size=64, tally_batch_size=32, workers=2, feature_dtype="float32",
    ):  # fmt: skip
        self.model, self.dictionary, self.side_px, self.boxes = model, dictionary, side_px, boxes
        self.batch_size, self.tally_batch_size, self.workers = batch_size, tally_batch_size, workers
        self.feature_dtype = np.dtype(feature_dtype)
        self.artifacts = {layer: LayerArtifacts(folder, f"{run}_{layer}") for layer in model.layers}

    # ------------------------------------------------------------------------------------------------- provenance

    def extraction_made_from(self, layer):
        """What decides every byte of a layer's memory map: JSON values by name."""
        return {
            "version": _STAGE_VERSIONS["extraction"],
            **self.model.provenance(layer),
            "input_size": self.side_px,
            "feature_dtype": str(self.feature_dtype),
            "dictionary_images": self.dictionary.images_digest,
            "number_of_rows": len(self.dictionary.rows),
            "face_boxes": self._boxes_digest(),
        }

    def _boxes_digest(self):
        if self.boxes is None:
            return None
        return fingerprint({row.image: [int(edge) for edge in self.box(row)] for row in self.dictionary.usable_rows})

    def threshold_made_from(self, layer, quantile):
        return {
            "version": _STAGE_VERSIONS["threshold"],
            # The content, not its provenance: another device or batch size rounds the maps otherwise.
            "activation_maps": self.artifacts[layer].content(FEATURES, self.extraction_made_from(layer)),
            "quantile": quantile,
        }

    def tally_made_from(self, layer, quantile, iou_union, seg_threshold):
        return {
            "version": _STAGE_VERSIONS["tally"],
            "thresholds": fingerprint(self.threshold_made_from(layer, quantile)),
            "dictionary_masks": self.dictionary.masks_digest,
            "concepts": list(self.dictionary.concepts),
            "iou_union": iou_union,
            "seg_threshold": seg_threshold,
        }

    def box(self, row):
        """The face box of a row, (left, top, right, bottom) in pixels; None where faces are not cropped."""
        return None if self.boxes is None else self.boxes[row.image]

    # ------------------------------------------------------------------------------------------------- extraction

    def feature_extraction(self, layers):
        """Record A_u(x) for every usable image, all layers in one forward pass (method.md §3.1).

        layers: names among the model's. Returns {layer: FeatureMaps}. An interrupted extraction goes on where it
        stopped. Raises DissectionError for NaN or infinite activations, a layer without 4-D maps, and a folder that
        cannot be written.
        """
        missing = [
            layer
            for layer in layers
            if not all(
                self.artifacts[layer].is_current(suffix, self.extraction_made_from(layer))
                for suffix in (FEATURES, FEATURE_SIZE)
            )
        ]
        for layer in layers:
            if layer not in missing:
                log.info("%s: activation maps are up to date", self.artifacts[layer].layer)
        if missing:
            log.info("activation maps: %s, %d images", ", ".join(missing), len(self.dictionary.usable_rows))
            self._extract(missing)
        return {layer: self._open_features(layer) for layer in layers}

    def _open_features(self, layer):
        artifacts = self.artifacts[layer]
        shape = np.load(artifacts.path(FEATURE_SIZE))
        return FeatureMaps(artifacts.path(FEATURES), shape, self.feature_dtype, self.dictionary.usable)

    def _extract(self, layers):
        count = len(self.dictionary.rows)
        bounds = [(start, min(start + self.batch_size, count)) for start in range(0, count, self.batch_size)]
        writers = {}
        try:
            with ActivationRecorder(
                self.model.module, {layer: self.model.layers[layer] for layer in layers}
            ) as recorder:
                for layer, shape in probe(recorder, self.model, self.side_px).items():
                    writers[layer] = self._writer(layer, (count, *shape))
                require_space(
                    self.artifacts[layers[0]].folder,
                    sum(writer.missing_bytes for writer in writers.values()),
                    [self.artifacts[layer].layer for layer in layers],
                )
                start = min(writer.done for writer in writers.values())
                bounds = [bound for bound in bounds if bound[0] >= start]
                rows = [[row for row in self.dictionary.rows[first:last] if self.dictionary.usable[row.index]]
                        for first, last in bounds]  # fmt: skip
                batches = ([(self.dictionary.image_path(row), self.box(row)) for row in batch] for batch in rows)
                recorded = activation_maps(recorder, self.model, batches, self.side_px, self.workers)
                with progress(count, "activation maps", "image") as bar:
                    bar.update(start)
                    for (first, last), batch, maps in zip(bounds, rows, recorded, strict=True):
                        for layer, writer in writers.items():
                            writer.write(first, self._block(layer, writer.shape, first, last, batch, maps.get(layer)))
                        bar.update(last - first)
            for writer in writers.values():
                writer.finish()
        finally:
            for writer in writers.values():
                writer.close()

    def _writer(self, layer, shape):
        # Sums may be rounded otherwise on another device or in a batch of another size.
        session = {"device": str(self.model.device), "torch": torch.__version__}
        return FeatureWriter(
            self.artifacts[layer], self.extraction_made_from(layer), session, shape, self.feature_dtype, self.batch_size
        )

    def _block(self, layer, shape, first, last, rows, maps):
        """The maps of images first..last-1 as they are stored, NaN where an image was left out."""
        block = np.full((last - first, *shape[1:]), np.nan, self.feature_dtype)
        if maps is None:
            return block
        with np.errstate(over="ignore"):  # what leaves float16's range is reported by require_finite
            stored = maps.astype(self.feature_dtype, copy=False)
        names = [f"image {row.index} ({self.dictionary.image_path(row)})" for row in rows]
        require_finite(layer, stored, names, computed=maps)
        block[[row.index - first for row in rows]] = stored
        return block

    # -------------------------------------------------------------------------------------------------- threshold

    def quantile_threshold(self, features, quantile):
        """T_u with P(A_u > T_u) = quantile over all values of the unit, exactly (method.md §3.2).

        features: {layer: FeatureMaps}. quantile: share above the threshold, in (0, 1). The threshold is
        numpy.quantile(values as float64, 1 - quantile). Returns {layer: float64 (U,)}.
        """
        thresholds = {}
        for layer, maps in features.items():
            artifacts, made_from = self.artifacts[layer], self.threshold_made_from(layer, quantile)
            if artifacts.is_current(QUANTILE, made_from):
                log.info("%s: thresholds are up to date", artifacts.layer)
            else:
                log.info("%s: thresholds at the quantile %g", artifacts.layer, 1 - quantile)
                values = self._threshold(layer, maps, quantile)
                with artifacts.writing(QUANTILE, made_from) as partial, open(partial, "wb") as file:
                    np.save(file, values)
            thresholds[layer] = np.load(artifacts.path(QUANTILE))
        return thresholds

    def _threshold(self, layer, maps, quantile):
        blocks = maps.blocks(_BLOCK_BYTES)
        values_per_unit = int(maps.usable.sum()) * maps.shape[2] * maps.shape[3]
        with progress(3 * len(maps.usable), f"thresholds of {layer}", "image") as bar:

            def passes(function):
                def one(block):
                    start, stop = block
                    values = maps.read(start, stop)[maps.usable[start:stop]]
                    return function(values.reshape(*values.shape[:2], -1))

                # Each result is a histogram of all units, up to 30 MB: few of them may wait.
                workers = min(self.workers, _THRESHOLD_WORKERS)
                for (start, stop), result in zip(blocks, ordered_map(one, blocks, workers, ahead=0), strict=True):
                    yield result
                    bar.update(stop - start)

            return exact_quantile(passes, maps.units, values_per_unit, 1 - quantile)

    # ------------------------------------------------------------------------------------------------------ tally

    def tally(self, features, thresholds, quantile, *, iou_union="all", seg_threshold=0.5):
        """Tally the IoU of every unit and concept, exactly (method.md §3.3 and §3.4).

        features: {layer: FeatureMaps}. thresholds: {layer: float64 (U,)}. quantile: what they were made with.
        iou_union: 'all' or 'active'. seg_threshold: grey level, 0..1, above which a mask's pixel belongs to the
        concept. Masks are read once for all layers. Returns {layer: Tally}. Raises ValueError for another iou_union.
        """
        if iou_union not in UNIONS:
            raise ValueError(f"iou_union is {iou_union!r}: it must be one of {', '.join(UNIONS)}")
        made_from = {layer: self.tally_made_from(layer, quantile, iou_union, seg_threshold) for layer in features}
        missing = [layer for layer in features if not self.artifacts[layer].is_current(TALLY, made_from[layer])]
        for layer in features:
            if layer not in missing:
                log.info("%s: tally is up to date", self.artifacts[layer].layer)
        if missing:
            log.info("tally: %s, %d concepts", ", ".join(missing), len(self.dictionary.concepts))
            tallies = self._count({layer: (features[layer], thresholds[layer]) for layer in missing}, seg_threshold)
            for layer, (counts, best, scores) in tallies.items():
                self._save_tally(layer, made_from[layer], counts, best, scores, thresholds[layer], iou_union)
        return {layer: Tally.load(self.artifacts[layer].path(TALLY)) for layer in features}

    def _save_tally(self, layer, made_from, counts, best, scores, thresholds, iou_union):
        result = Tally(
            tally=iou(counts.intersection, counts.union_active if iou_union == "active" else counts.union),
            maps=best,
            scores=scores,
            intersection=counts.intersection,
            union=counts.union,
            union_active=counts.union_active,
            concepts=np.array(self.dictionary.concepts),
            carries=self._carries(),
            thresholds=thresholds,
            iou_union=np.array(iou_union),
            fingerprint=np.array(fingerprint(made_from)),
        )
        with self.artifacts[layer].writing(TALLY, made_from) as partial, open(partial, "wb") as file:
            np.savez(file, **vars(result))

    def _count(self, layers, seg_threshold):
        """layers: {layer: (FeatureMaps, thresholds)}. Returns {layer: (Counts, best images, their scores)}."""
        concepts = self.dictionary.concepts
        totals = {layer: Counts.zero(maps.units, len(concepts)) for layer, (maps, _) in layers.items()}
        best = {layer: BestImages(maps.units, len(concepts)) for layer, (maps, _) in layers.items()}
        number = {concept: index for index, concept in enumerate(concepts)}
        rows = self.dictionary.rows
        batches = [rows[start : start + self.tally_batch_size] for start in range(0, len(rows), self.tally_batch_size)]

        def count_batch(batch):
            batch = [row for row in batch if self.dictionary.usable[row.index] and row.masks]
            if not batch:
                return {}
            masks = [self._packed_masks(row, number, seg_threshold) for row in batch]
            indices = np.array([row.index for row in batch])
            first, last = indices[0], indices[-1] + 1
            return {
                layer: count_images(
                    maps.read(first, last)[indices - first], limits, indices, masks, len(concepts), self.side_px
                )
                for layer, (maps, limits) in layers.items()
            }

        with progress(len(rows), "tally", "image") as bar:
            for batch, counted in zip(batches, ordered_map(count_batch, batches, self.workers), strict=True):
                for layer, (counts, candidates) in counted.items():
                    totals[layer].add(counts)
                    best[layer].add(*candidates)
                bar.update(len(batch))
        carriers = [np.flatnonzero(column) for column in self._carries().T]
        return {layer: (totals[layer], *best[layer].result(carriers)) for layer in layers}

    def _carries(self):
        """bool (N, C): which image carries which concept."""
        carries = np.zeros((len(self.dictionary.rows), len(self.dictionary.concepts)), bool)
        for row in self.dictionary.usable_rows:
            carries[row.index] = [concept in row.masks for concept in self.dictionary.concepts]
        return carries

    def _packed_masks(self, row, number, seg_threshold):
        """The masks L_c of one row on the counting grid. Returns (concept indices (m,), packed masks (m, words))."""
        concepts = sorted(row.masks, key=number.__getitem__)
        masks = [
            load_mask(self.dictionary.mask_path(row, concept), self.side_px, self.box(row), seg_threshold)
            for concept in concepts
        ]
        return np.array([number[concept] for concept in concepts]), pack(np.stack(masks))
