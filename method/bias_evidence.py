"""What stands behind the bias of a layer's units on one global concept: chance and untrained twins (method.md §8.9)."""

import numpy as np

from method.bias_chance import BIASED, NOT_JUDGED, TOO_FEW, UNBIASED, VERDICTS, twin_shares, verdicts
from method.comparison import Shares


class BiasEvidence:
    """What stands behind the bias of U units towards the G subgroups of one global concept.

    bias: method.bias.ConceptBias. chance: method.bias_chance.BiasChance. twins: list of (ConceptBias, BiasChance), of
    each untrained twin, perhaps none. alpha: the largest false discovery rate, None judges nothing. twin: float64 (U,
    G), the share of the twins' units whose AUC is as far from 1/2, NaN without twins. verdicts: str (U, G).
    """

    def __init__(self, bias, chance, twins, alpha):
        self.bias, self.chance, self.twins, self.alpha = bias, chance, twins, alpha
        self.twin = self._twin_shares(lambda of: of.auc)
        self.verdicts = self._verdicts(bias.probabilities, chance.auc, self.twin)

    def _twin_shares(self, auc):
        """auc: function that takes an AUC, float (U, G), from a BiasChance."""
        if not self.twins:
            return np.full(self.chance.auc.shape, np.nan)
        return twin_shares(auc(self.chance), np.concatenate([auc(of) for _, of in self.twins]))

    def _verdicts(self, probabilities, auc, twin):
        chance = self.chance
        q = np.where(chance.favours, chance.q, np.nan)  # what is shown of the contrary shows nothing of a bias
        return verdicts(probabilities, auc, self.bias.threshold, q, twin, chance.sizes, self.alpha)

    def counts(self):
        """How many units get each verdict: {verdict: {group: number}}, in the order of the verdicts."""
        names = VERDICTS if self.alpha is not None else (TOO_FEW, UNBIASED, NOT_JUDGED)
        numbers = {name: (self.verdicts == name).sum(axis=0).tolist() for name in names}
        return {name: dict(zip(self.bias.groups, of, strict=True)) for name, of in numbers.items()}

    def beyond_cut_off(self):
        """The share of units whose P reaches the cut-off for any subgroup: the network's, and a list of the twins'."""
        own, *of_twins = (float(bias.biased.any(axis=1).mean()) for bias in (self.bias, *(of for of, _ in self.twins)))
        return own, of_twins

    def of_twins(self):
        """What stands behind the bias of each untrained twin, judged as the network's is: list of BiasEvidence.

        The untrained units that a twin's are compared with are those of all twins, its own among them.
        """
        return [BiasEvidence(bias, chance, self.twins, self.alpha) for bias, chance in self.twins]

    def twin_shares(self):
        """The share of each untrained twin's units that would be *biased*: float64 (T, G)."""
        shares = [(of.verdicts == BIASED).mean(axis=0) for of in self.of_twins()]
        return np.array(shares).reshape(-1, len(self.bias.groups))

    def shares(self):
        """The share of units that are *biased* towards each subgroup: method.comparison.Shares of G groups.

        Of the conditions of that verdict, a resample has its own P, and its own AUC of the units and of the twins',
        which are of the same photographs; what q says stays as it is. So units enter in some resamples that just fall
        short of a condition, as others leave. Were only the units at hand looked at, and their P alone, one unit more
        than another model has would look certain. A resample without images of some subgroup says nothing.
        """
        drawn, drawn_auc = self.chance.resampled, self.chance.resampled_auc
        biased = np.full(drawn.shape, np.nan)  # (U, G, B)
        for resample in np.flatnonzero(~np.isnan(drawn).any(axis=(0, 1))):
            twin = self._twin_shares(lambda of, place=resample: of.resampled_auc[:, :, place])
            said = self._verdicts(drawn[:, :, resample], drawn_auc[:, :, resample], twin)
            biased[:, :, resample] = said == BIASED
        return Shares.of((self.verdicts == BIASED).T, biased.transpose(1, 0, 2))
