"""The probabilistic hierarchy within face regions (method.md §4), from the artifacts of main.py alone."""

import csv
import tempfile
from collections import Counter
from dataclasses import dataclass

import numpy as np

from feature_operation import Tally
from util.artifacts import FEATURE_SIZE, FEATURES, QUANTILE, TALLY, fingerprint
from util.errors import DissectionError
from util.features import FeatureMaps
from util.files import explained
from util.parallel import ordered_map, progress
from util.probability import DETECTION_FACTOR, region_probabilities
from util.report import LayerReport
from visual_dictionary.concepts import CONCEPT_TYPE, REGIONS, UNLOCALIZABLE, region_of

_BLOCK_BYTES = 16 << 20
_UNITS_AT_ONCE = 16  # ranked together


class Peaks:
    """p_u(x) of some units over all images, kept in a temporary file unit by unit, so that memory stays small.

    folder: where the file, which has no name, takes its room.

    lowest, highest: float32 (U,), over all values of the unit. To be used in a `with` block.
    """

    def __init__(self, images, units, folder):
        self.images, self.folder = images, folder
        self.lowest, self.highest = np.full(units, np.inf, np.float32), np.full(units, -np.inf, np.float32)
        with explained(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()

    def add(self, start, peaks, lowest, highest):
        """Put in a block: peaks float32 (b, U) of the images from start on, and its bounds, float32 (U,)."""
        with explained(self.folder):
            for unit, row in enumerate(np.ascontiguousarray(peaks.T, np.float32)):
                self._file.seek((unit * self.images + start) * row.itemsize)
                self._file.write(row.data)
            self._file.flush()
        self.lowest, self.highest = np.minimum(self.lowest, lowest), np.maximum(self.highest, highest)

    def of(self, unit):
        """p_u(x) of one unit, by its place among the units. Returns float32 (N,), NaN for an image left out."""
        peaks = np.empty(self.images, np.float32)
        self._file.seek(unit * peaks.nbytes)
        self._file.readinto(peaks.data.cast("B"))
        return peaks


def load_layer(artifacts):
    """What main.py left of a layer. artifacts: LayerArtifacts. Returns (Tally, FeatureMaps, circumstances).

    circumstances: {what: value} of the settings and files that layers must share to be compared.
    Raises DissectionError when something is missing, was changed, or does not belong to the rest.
    """
    made_from = {suffix: artifacts.made_from(suffix) for suffix in (FEATURES, FEATURE_SIZE, QUANTILE, TALLY)}
    for suffix, expected in made_from.items():
        if not artifacts.is_current(suffix, expected, quiet=True):
            raise DissectionError(f"{artifacts.path(suffix)} was changed after it was made")
    if (
        made_from[TALLY].get("thresholds") != fingerprint(made_from[QUANTILE])
        or made_from[QUANTILE].get("activation_maps") != artifacts.content(FEATURES, made_from[FEATURES])
        or made_from[FEATURE_SIZE] != made_from[FEATURES]
    ):
        raise DissectionError(f"{artifacts.path(TALLY)} was not made from the memory map beside it")
    tally = Tally.load(artifacts.path(TALLY))
    shape = np.load(artifacts.path(FEATURE_SIZE))
    maps = FeatureMaps(
        artifacts.path(FEATURES), shape, made_from[FEATURES].get("feature_dtype", "float32"), np.ones(shape[0], bool)
    )
    circumstances = {
        "dictionary images": made_from[FEATURES].get("dictionary_images"),
        "dictionary masks": made_from[TALLY].get("dictionary_masks"),
        "quantile": made_from[QUANTILE].get("quantile"),
        "union": made_from[TALLY].get("iou_union"),
        "segmentation threshold": made_from[TALLY].get("seg_threshold"),
    }
    return tally, maps, circumstances


def read_peaks(peaks, maps, units, workers, label):
    """Fill Peaks by reading a memory map once, block by block. maps: FeatureMaps. units: int (U,). workers: threads."""

    def one(block):
        values = maps.read(*block)[:, units]
        values = values.reshape(len(values), len(units), maps.shape[2] * maps.shape[3])
        of_images = values.max(axis=2)
        seen = ~np.isnan(of_images).any(axis=1)
        lowest = values[seen].min(axis=(0, 2), initial=np.inf)
        return of_images, lowest, of_images[seen].max(axis=0, initial=-np.inf)

    blocks = maps.blocks(_BLOCK_BYTES)
    with progress(maps.shape[0], f"peaks of {label}", "image") as bar:
        for (start, stop), found in zip(blocks, ordered_map(one, blocks, workers), strict=True):
            peaks.add(start, *found)
            bar.update(stop - start)


@dataclass(frozen=True)
class UnitConcepts:
    """One interpretable unit: its top concept, that concept's IoU and region, and P(c|u,R) of the region's concepts."""

    unit: int
    concept: str
    iou: float
    region: str
    probabilities: dict

    @property
    def detected(self):
        """The concepts with P(c|u,R) > 1.5 / |R|, in concept order."""
        limit = DETECTION_FACTOR / max(len(self.probabilities), 1)
        return [concept for concept, probability in self.probabilities.items() if probability > limit]


class Hierarchy:
    """The hierarchy of one layer.

    layer: its name. report: LayerReport, which units are interpretable. concepts: list of UnitConcepts, by unit.
    """

    def __init__(self, layer, report, concepts):
        self.layer, self.report, self.concepts = layer, report, concepts

    @classmethod
    def of(cls, layer, tally, maps, score_threshold, workers):
        """Compute it. tally: Tally. maps: FeatureMaps. score_threshold: IoU above which a unit is interpretable."""
        report = LayerReport(tally, score_threshold)
        units = np.flatnonzero(report.interpretable)
        with Peaks(maps.shape[0], len(units), maps.path.parent) as peaks:
            read_peaks(peaks, maps, units, workers, layer)
            found = cls._of_regions(report, tally, peaks, units)
        for unit in units.tolist():  # a concept of one's own may lie in no region
            found.setdefault(unit, cls._unit(report, unit, region_of(report.top_concept(unit)), {}))
        return cls(layer, report, [found[unit] for unit in sorted(found)])

    @classmethod
    def _of_regions(cls, report, tally, peaks, units):
        """{unit: UnitConcepts} of the units whose concept lies in a region."""
        found = {}
        for region, members in REGIONS.items():
            columns = [column for column, concept in enumerate(report.concepts) if concept in members]
            places = [place for place, unit in enumerate(units) if report.ranking[unit, 0] in columns]
            for start in range(0, len(places), _UNITS_AT_ONCE):
                some = places[start : start + _UNITS_AT_ONCE]
                probabilities = _of_region(tally, peaks, units[some], some, columns)
                names = [report.concepts[column] for column in columns]
                for unit, row in zip(units[some].tolist(), probabilities.tolist(), strict=True):
                    found[unit] = cls._unit(report, unit, region, dict(zip(names, row, strict=True)))
        return found

    @staticmethod
    def _unit(report, unit, region, probabilities):
        return UnitConcepts(unit, report.top_concept(unit), float(report.top_iou[unit]), region, probabilities)

    def detections(self):
        """{concept: number of units that detect it}, all concepts of the dictionary in their order."""
        counted = Counter(concept for unit in self.concepts for concept in unit.detected)
        return {concept: counted[concept] for concept in self.report.concepts}

    def detections_by(self, group_of, groups):
        """Detected concepts per group, and the units without a region as UNLOCALIZABLE (method.md §4).

        group_of: function concept -> group. groups: names, in order. Returns {group: count}.
        """
        counted = Counter()
        for concept, count in self.detections().items():
            counted[group_of(concept)] += count
        without = sum(not unit.probabilities for unit in self.concepts)
        counted[UNLOCALIZABLE] = self.report.units - len(self.concepts) + without
        return {group: counted[group] for group in (*groups, UNLOCALIZABLE)}

    def as_dict(self):
        """{unit: {concept: probability}} of plain ints, texts and floats."""
        return {unit.unit: unit.probabilities for unit in self.concepts}

    def write_text(self, path):
        """Write every interpretable unit with its probabilities as text (method.md §4)."""
        with open(path, "w", encoding="utf-8") as file:
            for unit in self.concepts:
                file.write(f"Unit : {unit.unit}\n")
                file.write(f"\tConcept : {unit.concept}, IoU : {unit.iou:.4f}, Cluster : {unit.region}\n\t{{\n")
                for concept, probability in unit.probabilities.items():
                    file.write(f"\t\t{concept} : {probability}\n")
                file.write("\t}\n")

    def write_detections(self, path):
        """Write a line per concept (CSV): how many units have it as top concept, and how many detect it."""
        top = Counter(unit.concept for unit in self.concepts)
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["concept", "type", "region", "units_with_top_concept", "units_that_detect_it"])
            for concept, count in self.detections().items():
                writer.writerow([concept, CONCEPT_TYPE[concept], region_of(concept), top[concept], count])


def _of_region(tally, peaks, units, places, columns):
    carries = tally.carries[:, columns]
    images = np.flatnonzero(carries.any(axis=1))
    of_units = np.stack([peaks.of(place)[images] for place in places])
    iou = tally.tally[np.ix_(units, columns)]
    return region_probabilities(iou, of_units, peaks.lowest[places], peaks.highest[places], carries[images])
