"""Shares of units and their differences against plain loops, and how often chance alone makes a difference."""

import numpy as np
import pytest

from method.comparison import Shares, differences


def made_up(seed, groups=3, units=7, resamples=40, rate=0.4):
    random = np.random.default_rng(seed)
    return random.random((groups, units)) < rate, random.random((groups, units, resamples)) < rate


def plain_share(members):
    return sum(bool(member) for member in members) / len(members)


def plain_percentile(values, percent):
    """Linear between the two values that it falls between, as numpy.percentile."""
    ordered = sorted(values)
    position = percent / 100 * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def test_shares_equal_the_plain_loop():
    members, resampled = made_up(0)
    found = Shares.of(members, resampled)
    for group in range(3):
        drawn = [plain_share(resampled[group, :, b]) for b in range(40)]
        assert found.count[group] == sum(members[group])
        assert found.share[group] == plain_share(members[group])
        assert found.resampled[group].tolist() == drawn
        assert found.low[group] == pytest.approx(plain_percentile(drawn, 2.5), abs=1e-12)
        assert found.high[group] == pytest.approx(plain_percentile(drawn, 97.5), abs=1e-12)


def plain_difference(one, other):
    """Of one group: difference, interval and p, where no tail needs describing. one, other: (members, resampled)."""
    drawn = [
        plain_share(one[1][:, b]) - plain_share(other[1][:, b]) for b in range(one[1].shape[1])
    ]  # fmt: skip
    up, down = sum(value >= 0 for value in drawn), sum(value <= 0 for value in drawn)
    assert min(up, down) >= 10
    p = min(1, 2 * (1 + min(up, down)) / (len(drawn) + 1))
    difference = plain_share(one[0]) - plain_share(other[0])
    return difference, plain_percentile(drawn, 2.5), plain_percentile(drawn, 97.5), p


def test_differences_of_all_pairs_equal_the_plain_loop():
    made = {"a": made_up(1), "b": made_up(2), "c": made_up(3)}
    found = differences({name: Shares.of(*of) for name, of in made.items()}, dict.fromkeys(made, "photographs"))
    assert [(of.one, of.other) for of in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    for of in found:
        for group in range(3):
            one, other = ((members[group], resampled[group]) for members, resampled in (made[of.one], made[of.other]))
            expected = plain_difference(one, other)
            values = [getattr(of, name)[group] for name in ("difference", "low", "high", "p")]
            assert values == pytest.approx(expected, abs=1e-12)
    together = sorted(p for of in found for p in of.p)
    for of in found:  # Benjamini and Hochberg over 3 pairs x 3 groups
        for p, q in zip(of.p, of.q, strict=True):
            assert q == pytest.approx(min(9 * other / (rank + 1) for rank, other in enumerate(together) if other >= p))


def test_a_model_less_itself_is_no_difference_and_a_great_one_survives_the_correction():
    few, many = (made_up(4, groups=20, units=50, resamples=200, rate=rate) for rate in (0.1, 0.9))
    shares = {"few": Shares.of(*few), "same": Shares.of(*few), "many": Shares.of(*many)}
    same, few_many, _ = differences(shares, dict.fromkeys(shares, 0))
    assert (same.difference == 0).all() and (same.p == 1).all() and not same.beyond_chance(0.05).any()
    assert few_many.beyond_chance(0.05).all() and (few_many.high < 0).all()
    assert (few_many.p < 2 / 201).all()  # which 200 resamples alone cannot say
    assert not few_many.beyond_chance(None).any()


def test_other_photographs_and_no_resamples_give_no_interval():
    shares = {name: Shares.of(*made_up(seed)) for seed, name in enumerate("ab")}
    (found,) = differences(shares, {"a": "one dictionary", "b": "another"})
    assert found.difference.tolist() == (shares["a"].share - shares["b"].share).tolist()
    assert all(np.isnan(getattr(found, name)).all() for name in ("low", "high", "p", "q"))
    assert not found.beyond_chance(0.05).any()
    (fewer,) = differences({"a": shares["a"], "b": Shares.of(*made_up(1, resamples=30))}, {"a": 0, "b": 0})
    assert np.isnan(fewer.q).all()
    members, _ = made_up(0)
    none = Shares.of(members, np.zeros((*members.shape, 0), bool))
    assert none.share.tolist() == members.mean(axis=1).tolist() and np.isnan(none.low).all()
    (found,) = differences({"a": none, "b": none}, {"a": 0, "b": 0})
    assert np.isnan(found.p).all()
    assert differences({"a": none}, {"a": 0}) == []
    with pytest.raises(ValueError, match=r"expected \(G, U\), \(G, U, B\)"):
        Shares.of(members, np.zeros((2, 7, 5), bool))


def test_two_models_of_equal_worth_seldom_differ_beyond_chance():
    """IoU of units around the threshold, over the same photographs, for two models whose units are as good."""
    worlds, units, images, resamples = 2000, 24, 60, 100
    random = np.random.default_rng(0)
    truth = np.linspace(0.02, 0.06, units)[:, None]  # IoU of the units of either; the threshold is 0.04
    found = []
    for _ in range(worlds):
        weights = random.poisson(1, (images, resamples))
        shares = {}
        for model in "ab":
            overlaps = truth * random.exponential(1, (units, images))
            resampled = overlaps @ weights / weights.sum(axis=0) > 0.04
            shares[model] = Shares.of((overlaps.mean(axis=1) > 0.04)[None], resampled[None])
        (difference,) = differences(shares, {"a": 0, "b": 0})
        found.append((difference.p[0], difference.beyond_chance(0.05)[0]))
    p_values, beyond = np.array(found).T
    assert (p_values <= 0.05).mean() <= 0.06
    assert beyond.mean() <= 0.06


def test_a_difference_that_untrained_twins_show_as_well_is_not_beyond_chance():
    members = np.zeros((1, 50), bool)
    members[0, :20] = True
    everywhere, nowhere = (np.repeat(of[:, :, None], 200, axis=2) for of in (members, ~members & members))
    shares = {"a": Shares.of(members, everywhere), "b": Shares.of(members & False, nowhere)}
    alike, apart = ({"a": np.array([[share], [0.1]]), "b": np.array([[0.0]])} for share in (0.1, 0.45))
    (found,) = differences(shares, {"a": 0, "b": 0}, alike)
    assert found.untrained == [0.1] and found.beyond_chance(0.05).tolist() == [True]
    (found,) = differences(shares, {"a": 0, "b": 0}, apart)
    assert found.untrained == [0.45] and found.beyond_chance(0.05).tolist() == [False]
