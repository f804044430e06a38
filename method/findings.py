"""The findings on one layer: each unit's concepts in order, and which units are interpretable (method.md §3.5)."""

from collections import Counter

import numpy as np

# What units count under that have no concept, or whose concept lies in no region.
UNLOCALIZABLE = "Unlocalizable"

# Said of a layer whose maps are single numbers.
NO_PLACES = "1×1 maps: the layer has no places, so IoU says nothing and none of its units counts as interpretable"


class Findings:
    """tally: method.tally.Tally. score_threshold: IoU above which a unit is interpretable; inclusive: or from it on.

    concepts: names, list of C texts. type_of, region_of: {concept: type, region}; a concept in no region has
    UNLOCALIZABLE. warnings: texts on the whole layer. ranking: int64 (U, C), concept indices by falling IoU, ties in
    concept order. top_iou: float64 (U,). interpretable: bool (U,).
    """

    def __init__(self, tally, score_threshold, inclusive=False):
        self.tally, self.score_threshold, self.inclusive = tally, score_threshold, inclusive
        self.concepts = [str(concept) for concept in tally.concepts]
        self.type_of = dict(zip(self.concepts, map(str, tally.types), strict=True))
        regions = (str(region) or UNLOCALIZABLE for region in tally.regions)
        self.region_of = dict(zip(self.concepts, regions, strict=True))
        self.ranking = np.argsort(-tally.tally, axis=1, kind="stable")
        self.top_iou = tally.tally.max(axis=1)
        self.warnings = [NO_PLACES] if tuple(tally.map_size) == (1, 1) else []
        reached = self.top_iou >= score_threshold if inclusive else self.top_iou > score_threshold
        self.interpretable = reached & (self.top_iou > 0) & (not self.warnings)

    @property
    def units(self):
        return len(self.tally.tally)

    @property
    def types(self):
        """The types of the dictionary's concepts, each once, in concept order."""
        return list(dict.fromkeys(self.type_of.values()))

    @property
    def regions(self):
        """The regions of the dictionary's concepts, each once, in concept order."""
        return [region for region in dict.fromkeys(self.region_of.values()) if region != UNLOCALIZABLE]

    def members(self, region):
        """The indices of a region's concepts."""
        return [index for index, concept in enumerate(self.concepts) if self.region_of[concept] == region]

    def top_concept(self, unit):
        """The unit's concept, None for a unit whose IoU is 0 everywhere (method.md §3.5)."""
        return self.concepts[self.ranking[unit, 0]] if self.top_iou[unit] > 0 else None

    def holds_for_whole_images(self, unit):
        """Whether the unit's concept is one that has no place in images."""
        return bool(self.tally.whole.size and self.top_iou[unit] > 0 and self.tally.whole[self.ranking[unit, 0]])

    @property
    def detectors(self):
        """Number of interpretable units."""
        return int(self.interpretable.sum())

    @property
    def unique_detectors(self):
        """Number of distinct top concepts among the interpretable units."""
        return len({self.top_concept(unit) for unit in np.nonzero(self.interpretable)[0]})

    def units_by_iou(self):
        """Unit numbers by falling top IoU, ties by number."""
        return np.argsort(-self.top_iou, kind="stable")

    def units_per_region(self):
        """Interpretable units per region of their top concept, every other unit under UNLOCALIZABLE: {name: count}."""
        return self._count_by(self.region_of, self.regions)

    def units_per_type(self):
        """Interpretable units per type of their top concept, every other unit under UNLOCALIZABLE: {name: count}."""
        return self._count_by(self.type_of, self.types)

    def unique_per_type(self):
        """Number of distinct top concepts among the interpretable units, per type: {name: count}."""
        found = {self.top_concept(unit) for unit in np.nonzero(self.interpretable)[0]}
        return {kind: sum(self.type_of[name] == kind for name in found) for kind in self.types}

    def _count_by(self, group_of, groups):
        counted = Counter(group_of[self.top_concept(unit)] for unit in np.nonzero(self.interpretable)[0])
        counted[UNLOCALIZABLE] += self.units - self.detectors
        return {group: counted[group] for group in (*groups, UNLOCALIZABLE)}
