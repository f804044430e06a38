"""The probabilistic hierarchy within face regions (method.md §4)."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from method.comparison import interval
from method.findings import UNLOCALIZABLE
from method.probability import DETECTION_FACTOR, region_probabilities, resampled_region_probabilities

_UNITS_AT_ONCE, _PEAKS_AT_ONCE = 16, 1 << 22  # ranked together, and their peaks


@dataclass(frozen=True)
class UnitConcepts:
    """One interpretable unit: its top concept with IoU and region, P(c|u,R) of the region's concepts, and |R|.

    intervals: {concept: (low, high)}, 95 %, NaN without resamples.
    """

    unit: int
    concept: str
    iou: float
    region: str
    probabilities: dict
    region_size: int
    intervals: dict = field(default_factory=dict)

    @property
    def detected(self):
        """The concepts with P(c|u,R) > 1.5 / |R|, in concept order."""
        limit = detection_limit(self.region_size)
        return [concept for concept, probability in self.probabilities.items() if probability > limit]


def detection_limit(region_size):
    """P(c|u,R) above which a concept is detected. region_size: |R|, 0 for a unit without a region."""
    return DETECTION_FACTOR / max(region_size, 1)


class Standing(NamedTuple):
    """How one concept of its region stands with a unit.

    probability, low, high: P(c|u,R) and its interval. detected: P above its limit. auc, tells: whether the unit's peak
    tells images that show the concept (method.md §8.6); NaN and None for one that every image has. iou, location_iou,
    excess: see method.chance.Chance.
    """

    concept: str
    probability: float
    low: float
    high: float
    detected: bool
    auc: float
    tells: object
    iou: float
    location_iou: float
    excess: float


class Hierarchy:
    """The hierarchy of one layer.

    layer: its name. findings: Findings, which units are interpretable. concepts: list of UnitConcepts, by unit.
    region_sizes, evidence: see of(). resampled_detections: int64 (C, B), units that detect each concept in each
    resample.
    """

    def __init__(self, layer, findings, concepts, region_sizes, evidence, resampled_detections):
        self.layer, self.findings, self.concepts, self.region_sizes = layer, findings, concepts, region_sizes
        self.evidence, self.resampled_detections = evidence, resampled_detections

    @classmethod
    def of(cls, layer, findings, peaks, ties="mean", region_sizes=None, evidence=None, copies=None):
        """Compute it. findings: Findings. peaks: p_u(x) of the interpretable units, in their order: an object with
        of(place) -> float32 (N,) and lowest, highest: float32, over all values of each. ties: see
        method.probability.ranks. region_sizes: {region: |R|}, by default the region's concepts that are present.
        evidence: method.evidence.Evidence, None where it is not asked what is chance. copies: uint8 (N, B), how often
        each image stands in each of its resamples, see method.resampling.poisson_weights; None for no intervals.
        """
        copies = np.zeros((0, 0), np.uint8) if evidence is None or copies is None else copies
        units = np.flatnonzero(findings.interpretable)
        found, sizes = {}, region_sizes or {}
        step = max(1, min(_UNITS_AT_ONCE, _PEAKS_AT_ONCE // len(findings.tally.carries)))
        detections = np.zeros((len(findings.concepts), copies.shape[1]), int)
        for region in findings.regions:
            columns = findings.members(region)
            names = [findings.concepts[column] for column in columns]
            places = [place for place, unit in enumerate(units) if findings.ranking[unit, 0] in columns]
            for start in range(0, len(places), step):
                some = places[start : start + step]
                region_size = sizes.get(region, len(names))
                probabilities, resampled = _of_region(
                    findings.tally, peaks, units[some], some, columns, ties, evidence and evidence.chance, copies
                )
                detections[columns] += (resampled > detection_limit(region_size)).sum(axis=0)
                bounds = np.stack(interval(resampled), axis=2).tolist()  # (u, C, 2)
                for unit, row, of_row in zip(units[some], probabilities.tolist(), bounds, strict=True):
                    intervals = dict(zip(names, map(tuple, of_row), strict=True))
                    found[unit] = region, dict(zip(names, row, strict=True)), region_size, intervals
        nowhere = (UNLOCALIZABLE, {}, 0)  # a concept of one's own may lie in no region
        concepts = [
            UnitConcepts(unit, findings.top_concept(unit), float(findings.top_iou[unit]), *found.get(unit, nowhere))
            for unit in units.tolist()
        ]
        return cls(layer, findings, concepts, region_sizes, evidence, detections)

    def standings(self, unit):
        """How the concepts of a unit's region stand with it, by falling excess: list of Standing.

        unit: UnitConcepts. Ties stay in concept order. A unit whose concept lies in no region has none.
        """
        chance, auc = self.evidence.chance, self.evidence.presence.auc
        found, detected = [], unit.detected
        for concept, probability in unit.probabilities.items():
            at = unit.unit, self.findings.concepts.index(concept)
            tells = None if np.isnan(auc[at]) else bool(self.evidence.tells[at])
            of_chance = (float(of[at]) for of in (chance.iou, chance.location_iou, chance.excess))
            found.append(
                Standing(concept, probability, *unit.intervals[concept], concept in detected, float(auc[at]), tells,
                         *of_chance)
            )  # fmt: skip
        return sorted(found, key=lambda standing: -standing.excess)

    def plain_label(self, unit):
        """The plain name of what a unit finds (method.md §8.6), an empty text for none. unit: its number."""
        plain = self.evidence.plain[unit]
        return self.findings.concepts[plain] if plain >= 0 else ""

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


def _of_region(tally, peaks, units, places, columns, ties, chance, copies):
    """P(c|u,R) of some units of one region, and in each resample: float64 (U, C), (U, C, B)."""
    carries = tally.carries[:, columns]
    images = np.flatnonzero(carries.any(axis=1))
    of_units = np.stack([peaks.of(place)[images] for place in places])
    iou = tally.tally[np.ix_(units, columns)]
    seen = of_units, peaks.lowest[places], peaks.highest[places], carries[images]
    probabilities = region_probabilities(iou, *seen, ties)
    if not copies.shape[1]:
        return probabilities, np.empty((*iou.shape, 0))
    resampled = iou[:, :, None] * _relative_iou(tally, chance, units, columns)
    return probabilities, resampled_region_probabilities(resampled, *seen, copies[images], ties)


def _relative_iou(tally, chance, units, columns):
    """The IoU of units and the concepts of a region in each resample as a share of that over all images.

    That of chance, whose unions are those of all images: where the tally has unions of active images alone, theirs are
    taken to vary by the same share. Returns float64 (U, C, B), 0 where the IoU is 0.
    """
    in_file = np.cumsum(tally.regions != "") - 1  # where a concept stands among those that lie in a region
    drawn = chance.boot_region_iou[np.ix_(units, in_file[columns])].astype(np.float64)
    whole = chance.iou[np.ix_(units, columns)][:, :, None]
    return np.divide(drawn, whole, out=np.zeros(drawn.shape), where=whole > 0)
