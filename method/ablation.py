"""What ablating units does to what a network predicts, per group of photographs, beside random sets (method.md §9)."""

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from method.accuracy import years_outside
from method.comparison import interval
from method.resampling import seed_of

_SETS_AT_ONCE = 64  # whose resamples lie in memory together


@dataclass(frozen=True)
class Measure:
    """What is measured of S predictions of N photographs: in a group the sum of `of` over the sum of `per`.

    name: of the measure. of: float (S, N). per: float, broadcasts to (S, N); 0 for a photograph that says nothing.
    is_change: whether the first prediction, of the whole network, is subtracted. is_auc: of (S, N) are scores and per
    (N,) says who belongs to the class that they are of.
    """

    name: str
    of: np.ndarray
    per: np.ndarray = field(default_factory=lambda: np.ones((1, 1)))
    is_change: bool = True
    is_auc: bool = False


def class_measures(log_odds, classes):
    """Accuracy, AUC and the log-odds of the right class.

    log_odds: float (S, N, C), of each class against the others. classes: int (N,), the right one, -1 for unknown. The
    AUC is that of the first of two classes; of more, there is one of each class. Returns list of Measure.
    """
    known, right = classes >= 0, np.maximum(classes, 0)
    of_right = np.take_along_axis(log_odds, right[None, :, None], axis=2)[..., 0]
    told = log_odds.argmax(axis=2) == right
    per = known[None].astype(float)
    count = log_odds.shape[2]
    aucs = [
        Measure("auc" if count == 2 else f"auc_{number}", np.where(known, log_odds[:, :, number], np.nan),
                classes == number, is_auc=True)
        for number in range(1 if count == 2 else count)
    ]  # fmt: skip
    return [Measure("log_odds", of_right * per, per), Measure("accuracy", told * per, per), *aucs]


def year_measures(years, ranges):
    """The mean shift of the ages, and the change of the least error that they can have.

    years: float (S, N). ranges: float (N, 2), the years [least, below) of each photograph's subgroup, NaN for unknown.
    Returns list of Measure.
    """
    known = ~np.isnan(ranges[:, 0])
    least, below = np.where(known[:, None], ranges, 0).T
    error = np.where(known, years_outside(years, least, below), 0)
    moved = np.abs(years - years[:1])
    return [
        Measure("moved", moved, is_change=False), Measure("shift", years), Measure("error", error, known[None] * 1.0)
    ]  # fmt: skip


def point_measures(places, names, eyes):
    """How far points move, in distances between the eyes, and each point's share of the whole.

    places: float (S, N, P, 2). names: P texts. eyes: the two of them. Distances are in the network's input. Returns
    list of Measure.
    """
    between = np.linalg.norm(places[0, :, eyes[0]] - places[0, :, eyes[1]], axis=1)  # (N,)
    moved = np.linalg.norm(places - places[:1], axis=3) / np.maximum(between, 1e-6)[:, None]  # (S, N, P)
    whole = moved.sum(axis=2)
    points = range(len(names))
    shares = {f"share_{names[point]}": moved[:, :, point] for point in points}
    shares["share_eyes"] = moved[:, :, list(eyes)].sum(axis=2)
    return [
        Measure("displacement", whole / len(names), is_change=False),
        *(Measure(f"displacement_{names[point]}", moved[:, :, point], is_change=False) for point in points),
        *(Measure(name, of, whole, is_change=False) for name, of in shares.items()),
    ]  # fmt: skip


@dataclass(frozen=True)
class Effect:
    """A measure of S sets of units in G groups. value: float64 (S, G), the effect, NaN where nothing is measured.

    low, high: float64 (S, G), its 95 % interval, NaN for sets beyond those asked for. before: float64 (G,), the measure
    of the whole network.
    """

    name: str
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    before: np.ndarray


def effect_of(measure, members, contrasts, weights, intervals):
    """The effect of S sets of units on a measure, S + 1 predictions of which the first is the whole network's.

    members: bool (G, N), the photographs of each group. contrasts: list of (group, other), whose effects are subtracted
    and stand behind the groups. weights: (N, B), how often each photograph stands in a resample. intervals: of how many
    sets, the first, an interval is wanted. Returns Effect of S sets and G + len(contrasts) groups.
    """
    weights = np.concatenate([np.ones((weights.shape[0], 1)), weights], axis=1)  # (N, 1 + B)
    whole = _with_contrasts(_of_sets(measure, [0], members, weights), contrasts)  # (1, G', 1 + B)
    sets = len(measure.of) - 1
    value = np.full((sets, whole.shape[1]), np.nan)
    low, high = np.full((2, *value.shape), np.nan)
    starts = [*range(0, intervals, _SETS_AT_ONCE), *range(intervals, sets, _SETS_AT_ONCE), sets]
    for start, stop in zip(starts, starts[1:], strict=False):
        drawn = weights if start < intervals else weights[:, :1]
        found = _with_contrasts(_of_sets(measure, np.arange(start, stop) + 1, members, drawn), contrasts)
        if measure.is_change:
            found = found - whole[:, :, : found.shape[2]]
        value[start:stop] = found[:, :, 0]
        if start < intervals:
            for at, of in enumerate(found[:, :, 1:], start):
                low[at], high[at] = _intervals(of)
    return Effect(measure.name, value, low, high, whole[0, :, 0])


def _intervals(resampled):
    """interval() of each group apart: a resample that lacks one group still tells of the others. resampled: (G, B)."""
    return np.array([interval(of[None])[:, 0] for of in resampled]).T


def _with_contrasts(found, contrasts):
    """(S, G, B) -> (S, G + contrasts, B)."""
    more = [found[:, one] - found[:, other] for one, other in contrasts]
    return np.concatenate([found, np.stack(more, axis=1)], axis=1) if more else found


def _of_sets(measure, sets, members, weights):
    """A measure in groups and resamples. sets: which of the predictions. Returns float64 (sets, G, B)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if measure.is_auc:
            known = ~np.isnan(measure.of[0])
            return np.stack([
                np.stack([
                    weighted_auc(scores[of & known], measure.per[of & known], weights[of & known]) for of in members
                ])
                for scores in measure.of[sets]
            ])  # fmt: skip
        per = measure.per if len(measure.per) == 1 else measure.per[sets]
        per = np.broadcast_to(per, (len(per), members.shape[1]))
        return np.stack(
            [measure.of[sets][:, of] @ weights[of] / (per[:, of] @ weights[of]) for of in members], axis=1
        )  # fmt: skip


def weighted_auc(scores, positive, weights):
    """How often a photograph of a class has the higher score than one of another, ties counting half, in resamples.

    scores: float (n,). positive: bool (n,). weights: (n, B). Returns float64 (B,), NaN where a side is empty.
    """
    order = np.argsort(scores, kind="stable")
    ascending, positive, weights = scores[order], positive[order], weights[order].astype(np.float64)
    begins, ends = (np.searchsorted(ascending, ascending, side) for side in ("left", "right"))
    inside, outside = weights * positive[:, None], weights * ~positive[:, None]
    below = np.zeros((len(scores) + 1, weights.shape[1]))
    np.cumsum(outside, axis=0, out=below[1:])
    won = (inside * (below[begins] + below[ends])).sum(axis=0) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return won / (inside.sum(axis=0) * outside.sum(axis=0))


# --------------------------------------------------------------------------------------------------------- random sets


def random_orders(units, count):
    """The units in random orders, always the same ones; the first k of order r are random set r of k units.

    units: how many there are. count: R. Returns int64 (R, U).
    """
    draws = [np.random.default_rng(seed_of("random units", units, number)) for number in range(count)]
    return np.array([draw.permutation(units) for draw in draws], np.int64).reshape(count, units)


def at_least(value, random):
    """The share of random sets with an effect at least as large in the same direction, the set itself counted; 1 for a
    set without an effect.

    value: float (...). random: float (R, ...). Returns float64 (...), NaN where value is.
    """
    value = np.asarray(value, float)
    side = np.where(value < 0, -1, 1)
    reached = (random * side >= value * side - 1e-12).sum(axis=0)
    share = np.where(value == 0, 1.0, (1 + reached) / (len(random) + 1))
    return np.where(np.isnan(value), np.nan, share)


# ---------------------------------------------------------------------------------------------------------- importance


def importance(measure, rows):
    """How important each unit is by a leading measure over some photographs: how much the right class loses, or how far
    the prediction moves.

    measure: Measure of 1 + U predictions, each unit ablated alone. rows: bool (N,). Returns float64 (U,).
    """
    found = _of_sets(measure, np.arange(len(measure.of)), rows[None], np.ones((len(rows), 1)))[:, 0, 0]
    return found[0] - found[1:] if measure.is_change else found[1:]


def steps(units):
    """Numbers of units at which curves are measured: 1, 2, 3, 4, 6, 8, 12, ... and all. Returns list of int."""
    powers = 2 ** np.arange(0, 20)
    counts = sorted({*powers.tolist(), *(3 * powers).tolist()})
    return [count for count in counts if count < units] + [units]


def spearman(one, other):
    """Spearman's rank correlation of two properties of units and its 95 % interval over units like these.

    one, other: float (U,). The interval is Fisher's with the variance of Bonett and Wright (Psychometrika 2000).
    Returns (rho, low, high), NaN for fewer than five units or where one never varies.
    """
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (one, other)]
    size = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    if len(ranks[0]) < 5 or size == 0:
        return np.nan, np.nan, np.nan
    rho = float(np.clip((ranks[0] * ranks[1]).sum() / size, -1, 1))
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / (len(ranks[0]) - 3))
    centre = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    return rho, float(np.tanh(centre - half)), float(np.tanh(centre + half))


class MeanMaps:
    """The mean of each unit's maps over images: a consumer of a network's pass. They are added up one by one, so that
    it does not depend on the size of batches.
    """

    def __init__(self):
        self._sum, self._count = 0.0, 0

    def add(self, batch):
        for maps in batch.maps:
            self._sum, self._count = self._sum + maps.astype(np.float64), self._count + 1

    def result(self):
        """float32 (U, H, W)."""
        return (self._sum / self._count).astype(np.float32)
