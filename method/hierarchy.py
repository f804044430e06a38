"""The probabilistic hierarchy within face regions (method.md §4)."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from method.findings import UNLOCALIZABLE
from method.probability import DETECTION_FACTOR, region_probabilities

_UNITS_AT_ONCE = 16  # ranked together


@dataclass(frozen=True)
class UnitConcepts:
    """One interpretable unit: its top concept with IoU and region, P(c|u,R) of the region's concepts, and |R|."""

    unit: int
    concept: str
    iou: float
    region: str
    probabilities: dict
    region_size: int

    @property
    def detected(self):
        """The concepts with P(c|u,R) > 1.5 / |R|, in concept order."""
        limit = DETECTION_FACTOR / max(self.region_size, 1)
        return [concept for concept, probability in self.probabilities.items() if probability > limit]


class Hierarchy:
    """The hierarchy of one layer.

    layer: its name. findings: Findings, which units are interpretable. concepts: list of UnitConcepts, by unit.
    region_sizes: see of().
    """

    def __init__(self, layer, findings, concepts, region_sizes=None):
        self.layer, self.findings, self.concepts, self.region_sizes = layer, findings, concepts, region_sizes

    @classmethod
    def of(cls, layer, findings, peaks, ties="mean", region_sizes=None):
        """Compute it. findings: Findings. peaks: p_u(x) of the interpretable units, in their order: an object with
        of(place) -> float32 (N,) and lowest, highest: float32, over all values of each. ties: see
        method.probability.ranks. region_sizes: {region: |R|}, by default the region's concepts that are present.
        """
        units = np.flatnonzero(findings.interpretable)
        found, sizes = {}, region_sizes or {}
        for region in findings.regions:
            columns = findings.members(region)
            names = [findings.concepts[column] for column in columns]
            places = [place for place, unit in enumerate(units) if findings.ranking[unit, 0] in columns]
            for start in range(0, len(places), _UNITS_AT_ONCE):
                some = places[start : start + _UNITS_AT_ONCE]
                probabilities = _of_region(findings.tally, peaks, units[some], some, columns, ties)
                for unit, row in zip(units[some], probabilities.tolist(), strict=True):
                    found[unit] = region, dict(zip(names, row, strict=True)), sizes.get(region, len(names))
        nowhere = (UNLOCALIZABLE, {}, 0)  # a concept of one's own may lie in no region
        concepts = [
            UnitConcepts(unit, findings.top_concept(unit), float(findings.top_iou[unit]), *found.get(unit, nowhere))
            for unit in units.tolist()
        ]
        return cls(layer, findings, concepts, region_sizes)

    def detections(self):
        """{concept: number of units that detect it}, all concepts of the dictionary in their order."""
        counted = Counter(concept for unit in self.concepts for concept in unit.detected)
        return {concept: counted[concept] for concept in self.findings.concepts}

    def detections_per_region(self):
        """Detected concepts per region, and the units without a region as UNLOCALIZABLE (method.md §4)."""
        return self._detections_by(self.findings.region_of, self.findings.regions)

    def detections_per_type(self):
        """The same per type of the concepts."""
        return self._detections_by(self.findings.type_of, self.findings.types)

    def _detections_by(self, group_of, groups):
        counted = Counter()
        for concept, count in self.detections().items():
            counted[group_of[concept]] += count
        without = sum(not unit.probabilities for unit in self.concepts)
        counted[UNLOCALIZABLE] = self.findings.units - len(self.concepts) + without
        return {group: counted[group] for group in (*groups, UNLOCALIZABLE)}

    def lonely_regions(self):
        """{region: its concept} where a region has a single one: its probability is 1, and 1.5 / 1 is out of reach."""
        if self.region_sizes:
            return {}
        members = {region: self.findings.members(region) for region in self.findings.regions}
        return {region: self.findings.concepts[of[0]] for region, of in members.items() if len(of) == 1}

    def as_dict(self):
        """{unit: {concept: probability}} of plain ints, texts and floats."""
        return {unit.unit: unit.probabilities for unit in self.concepts}


def _of_region(tally, peaks, units, places, columns, ties):
    carries = tally.carries[:, columns]
    images = np.flatnonzero(carries.any(axis=1))
    of_units = np.stack([peaks.of(place)[images] for place in places])
    iou = tally.tally[np.ix_(units, columns)]
    return region_probabilities(iou, of_units, peaks.lowest[places], peaks.highest[places], carries[images], ties)
