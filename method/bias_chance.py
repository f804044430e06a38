"""What of the global bias of units is more than chance (method.md §8.9): intervals, rank sums in strata, verdicts."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from method.comparison import interval
from method.probability import normalised
from method.rank_sum import Ranking, auc_interval, p_values
from method.resampling import poisson_weights, seed_of
from method.significance import benjamini_hochberg

TOO_FEW, UNBIASED, NOT_SHOWN, UNTRAINED, BIASED = VERDICTS = (
    "too few images", "unbiased", "not shown", "as without training", "biased",
)  # fmt: skip
NOT_JUDGED = "not judged"  # stands for the last three where no false discovery rate is given

_LARGEST_SEEN = 0.2  # groups that could not show even this |AUC - 1/2| are too small
_POWER = 2.8  # standard errors of a difference seen at 5 % in 80 % of samples: 1.96 + 0.84
_UNITS_AT_ONCE = 64  # sorted together
_RESAMPLES_AT_ONCE = 50  # so many that a unit's fit into a core's cache
_DRAWS = 1000  # K, of matched images
_COUNTED = 10  # from so many draws that reach a value on, their share is its p-value


@dataclass(frozen=True)
class BiasChance:
    """Intervals and p-values of the bias of U units towards the G subgroups of one global concept.

    low, high: float64 (U, G), 95 % interval of P(g|u), NaN without resamples. auc, auc_low, auc_high: float64 (U, G), a
    group's peaks against the others', equal ones counting half, and its 95 % interval. p: float64 (U, G), two-sided, of
    the rank sum within strata or of matched images; NaN where nothing can be compared, as no stratum holds images of
    the group and others. Of two groups both have the same p: it is one test. q: p after Benjamini and Hochberg over
    units × groups. favours: bool (U, G), whether what p is of lies on the group's side: within strata a group may have
    the lower peaks though it has the higher ones over all images. sizes: int64 (G,), photographs. resampled,
    resampled_auc: float32 (U, G, B), P(g|u) and AUC of every resample, the same photographs in the same resample
    whatever the model.
    """

    low: np.ndarray
    high: np.ndarray
    auc: np.ndarray
    auc_low: np.ndarray
    auc_high: np.ndarray
    p: np.ndarray
    q: np.ndarray
    favours: np.ndarray
    sizes: np.ndarray
    resampled: np.ndarray
    resampled_auc: np.ndarray


def bias_chance(features, digests, strata=None, resamples=200, matched=None, ties="mean", resampled=None):
    """Measure what chance allows for (method.md §8.9).

    features: method.bias.BiasFeatures, n images. digests: n texts, of the photographs, in the order of features: group
    after group. strata: int (n,), see strata_of; by default one. resamples: B. matched: int (S, G), sets of images that
    differ in nothing but the subgroup, as numbers among the n, a column per group: p is then theirs (see matched_p).
    ties: how equal peaks are ranked for P(g|u), see method.probability.ranks; in rank sums they share always.
    resampled: what resampled_features gives for all units, where it is known already. A
    photograph that stands several times in one group counts once, but for P(g|u) and in resamples, which are of all
    images as in §5. Returns BiasChance.
    """
    sizes = [len(peaks) for peaks in features.groups.values()]
    members, peaks = np.repeat(np.arange(len(sizes)), sizes), np.concatenate(list(features.groups.values()))
    strata = np.zeros(len(members), int) if strata is None else np.asarray(strata)
    resampled = resampled or resampled_features(features, digests, resamples, ties)
    low, high = interval(resampled[0])
    _, photographs = np.unique(digests, return_inverse=True)
    once = np.unique(np.stack([members, photographs]), axis=1, return_index=True)[1]
    *found, p, favours = rank_sums(peaks[once].T, members[once], strata[once])
    if matched is not None:
        p, favours = matched_p(peaks.T, matched, [digests[row] for row in np.asarray(matched)[:, 0]])
    return BiasChance(low, high, *found, p, benjamini_hochberg(p), favours, np.bincount(members[once]), *resampled)


def resampled_features(features, digests, resamples, ties="mean", units=slice(None)):
    """P(g|u) and AUC of some units in resamples, see resampled_bias, which costs most of all. units: slice; the rest:
    see bias_chance.
    """
    members = np.repeat(np.arange(len(features.groups)), [len(peaks) for peaks in features.groups.values()])
    peaks = np.concatenate([peaks[:, units] for peaks in features.groups.values()]).T
    weights = poisson_weights(digests, resamples)
    return resampled_bias(peaks, features.p_min[units], features.p_max[units], members, weights, ties)


def rank_sums(peaks, members, strata):
    """AUC of each group against the rest, and the p-value of its rank sum within strata (van Elteren, 1960).

    peaks: (U, n). members, strata: int (n,). Within a stratum of n_s images the rank sum has the weight 1/(n_s + 1).
    Strata that hold no image of a group, or none but its own, add nothing to its sum nor to its variance. Returns (auc,
    low, high, p, favours): float64 (U, G), and bool for the last, see BiasChance.
    """
    groups = members == np.arange(members.max() + 1)[:, None]  # (G, n)
    sizes = groups.sum(axis=1)
    places = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    in_strata = np.array([groups[:, place].sum(axis=1) for place in places])  # (strata, G)
    comparable = ((in_strata > 0) & (in_strata < [[len(place)] for place in places])).any(axis=0)
    shape = (len(peaks), len(groups))
    deviation, delong, sums = np.empty(shape), np.empty(shape), np.zeros((3, *shape))
    for start in range(0, len(peaks), _UNITS_AT_ONCE):
        some = slice(start, start + _UNITS_AT_ONCE)
        whole = Ranking(peaks[some])
        for group, member in enumerate(groups):
            deviation[some, group], delong[some, group] = whole.deviation(member), whole.delong(member)
        for place in places:
            ranking, weight = whole if len(places) == 1 else Ranking(peaks[some, place]), 1 / (len(place) + 1)
            for group, member in enumerate(groups[:, place]):
                moments = ranking.moments(member.sum())
                for total, value, power in zip(sums, (ranking.deviation(member), *moments), (1, 2, 3), strict=True):
                    total[some, group] += value * weight**power
    auc = 0.5 + deviation / (2 * sizes * (len(members) - sizes))
    low, high = auc_interval(auc, delong, _chance_variance(sizes))
    return auc, low, high, np.where(comparable, p_values(*sums), np.nan), sums[0] > 0


def _chance_variance(sizes):
    """The variance of each group's AUC against the rest where they do not differ. sizes: int (G,)."""
    sizes = np.asarray(sizes)
    others = sizes.sum() - sizes
    return (sizes.sum() + 1) / (12 * sizes * others)


def resampled_bias(peaks, lowest, highest, members, weights, ties="mean"):
    """P(g|u) and AUC in resamples of the images (method.md §5 and §8.5): what repeated rows would give.

    peaks: (U, n). lowest, highest: (U,), p_min and p_max, which stay those of all images. members: int (n,), group of
    each image. weights: uint8 (n, B), how often an image stands in a resample. ties: for P, see probability.ranks; in
    AUC equal peaks always count half. Returns (P, AUC), float32 (U, G, B), NaN where a resample holds no image of some
    group; P is 0 where every score is 0.
    """
    groups = members == np.arange(members.max() + 1)[:, None]
    sizes = groups.astype(np.int64) @ weights  # (G, B)
    pairs = sizes * (sizes.sum(axis=0) - sizes)
    probabilities, auc = np.empty((2, len(peaks), *sizes.shape), np.float32)
    for unit, values in enumerate(peaks):
        order = np.argsort(values, kind="stable")
        ascending, span = values[order].astype(np.float64), float(highest[unit]) - float(lowest[unit])
        heights = (ascending - lowest[unit]) / (span or 1) * (span > 0)
        begins, ends = (np.searchsorted(ascending, ascending, side) for side in ("left", "right"))
        of_groups = groups[:, order].astype(np.float64)  # (G, n)
        for start in range(0, weights.shape[1], _RESAMPLES_AT_ONCE):
            some = slice(start, start + _RESAMPLES_AT_ONCE)
            times = weights[order, some]
            below = np.zeros((len(values) + 1, times.shape[1]))
            np.cumsum(times, axis=0, out=below[1:])
            # Twice the mean position of an image's run times its copies; that ranks are divided by the number of
            # images cancels in P.
            places = shared = (below[begins] + below[ends] + 1) * times
            if ties == "order":
                places = (below[:-1] + below[1:] + 1) * times
            scores = of_groups * heights @ places
            with np.errstate(invalid="ignore", divide="ignore"):
                probabilities[unit, :, some] = normalised((scores / sizes[:, some]).T).T
                won = of_groups @ shared / 2 - sizes[:, some] * (sizes[:, some] + 1) / 2
                auc[unit, :, some] = won / pairs[:, some]
    probabilities[:, :, (sizes == 0).any(axis=0)] = auc[:, :, (sizes == 0).any(axis=0)] = np.nan
    return probabilities, auc


def matched_p(peaks, matched, seeds, draws=_DRAWS):
    """Two-sided p-values of matched images: would another choice of one member per set give as large a difference?

    peaks: (U, n). matched: int (S, G), see bias_chance. seeds: S texts, from which each set's draws are seeded. A
    group's value is the sum over sets of its member's peak less the set's mean; under chance every member of a set is
    as likely to be it. Of two groups that flips the sign of paired differences. All choices are counted where there are
    no more than draws, else so many are drawn, and where fewer than 10 of them reach the value, the normal
    distribution with the variance and skewness of the draws says how far it lies (see rank_sum.p_values). Returns
    them, float64 (U, G), and which groups have the higher peaks, bool (U, G).
    """
    sets, groups = np.shape(matched)
    differences = peaks[:, matched].astype(np.float64)  # (U, S, G)
    differences -= differences.mean(axis=2, keepdims=True)
    counted_all = sets * np.log(groups) <= np.log(draws)
    if counted_all:
        chosen = np.array(list(product(range(groups), repeat=sets))).T
    else:
        generators = (np.random.default_rng(seed_of("matched", seed)) for seed in seeds)
        chosen = np.array([generator.integers(groups, size=draws) for generator in generators])
    one_hot = (chosen[:, None, :] == np.arange(groups)[:, None]).astype(np.float64)  # (S, G, K)
    drawn = np.abs(differences.reshape(len(peaks), -1) @ one_hot.reshape(sets * groups, -1))  # (U, K)
    observed = differences.sum(axis=1)  # (U, G)
    least = np.abs(observed) * (1 - 1e-9)  # sums in another order differ in their last digits
    reached = np.stack([(drawn >= of_group[:, None]).sum(axis=1) for of_group in least.T], axis=1)
    if counted_all:
        return reached / drawn.shape[1], observed > 0
    variance, third = ((differences**power).mean(axis=2).sum(axis=1)[:, None] for power in (2, 3))
    far = p_values(observed, np.broadcast_to(variance, observed.shape), np.broadcast_to(third, observed.shape))
    return np.where(reached >= _COUNTED, (1 + reached) / (draws + 1), far), observed > 0


def strata_of(labels, concept, digests):
    """Strata in which one global concept is compared: images whose other labels agree (method.md §8.9).

    labels: {concept: {digest: group}}, what is known of photographs from all folders. digests: n texts, the images of
    the concept. A label that is not known is a value of its own: such images are compared among each other, and with
    none whose label is known. Returns int (n,), 0 throughout where nothing else is known.
    """
    others = [of for name, of in sorted(labels.items()) if name != concept]
    keys = [tuple(of.get(digest, "") for of in others) for digest in digests]
    number = {key: place for place, key in enumerate(sorted(set(keys)))}
    return np.array([number[key] for key in keys], int)


def twin_shares(auc, of_twins):
    """The share of untrained units whose AUC lies at least as far from 1/2 for the same group (method.md §8.9).

    auc: float64 (U, G). of_twins: float64 (V, G), the units of all twins together. Returns float64 (U, G).
    """
    distance, untrained = (np.round(np.abs(values - 0.5), 12) for values in (auc, of_twins))  # AUC and 1 - AUC alike
    nearer = [np.searchsorted(np.sort(b), a) for a, b in zip(distance.T, untrained.T, strict=True)]
    return 1 - np.stack(nearer, axis=1) / len(untrained)


def smallest_seen(sizes):
    """The smallest |AUC - 1/2| that groups of these sizes show at 80 % power (method.md §8.9). Returns float64 (G,)."""
    return _POWER * np.sqrt(_chance_variance(sizes))


def verdicts(probabilities, auc, cut_off, q, twin, sizes, alpha):
    """What is said of each unit and group, the first of VERDICTS that applies (method.md §8.9).

    probabilities, auc: float64 (U, G), P(g|u) and AUC; a NaN reaches nothing. cut_off: P from which a unit counts as
    biased in §5. P may reach it by the height of a few peaks while most lie below the others' (AUC < 1/2): p, which is
    two-sided, would then show the contrary. q, twin: float64 (U, G); a q of NaN shows nothing, and twin is NaN
    throughout without twins, when no unit is "as without training". sizes: int (G,). alpha: the largest false discovery
    rate; None judges nothing that reaches the cut-off. Returns str (U, G).
    """
    too_few = np.broadcast_to(smallest_seen(sizes) > _LARGEST_SEEN, q.shape)
    said = np.select([too_few, ~(probabilities >= cut_off)], [TOO_FEW, UNBIASED], NOT_JUDGED)
    if alpha is None:
        return said
    shown = (auc > 0.5) & (q <= alpha)
    judged = np.select([~shown, twin > alpha], [NOT_SHOWN, UNTRAINED], BIASED)
    return np.where(said == NOT_JUDGED, judged, said)
