"""Bias and chance (method.md §8.9): plain loops, scipy, repeated rows, shuffled, confounded and planted worlds."""

import time
from itertools import product

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm, rankdata

from method.bias import BiasFeatures
from method.bias_chance import (
    VERDICTS,
    BiasChance,
    bias_chance,
    matched_p,
    rank_sums,
    resampled_bias,
    smallest_seen,
    strata_of,
    twin_shares,
    verdicts,
)
from method.probability import TIES, bias_threshold
from method.rank_sum import Ranking, p_values
from method.resampling import poisson_weights, seed_of
from method.significance import benjamini_hochberg

KINDS = ("continuous", "ties", "silent")


def some_peaks(kind, units, images, random):
    """Peaks of units that know no group: without ties, of a few values, or above 0 on 2 % of the images. (U, n)."""
    peaks = random.standard_normal((units, images)).astype(np.float32)
    if kind == "ties":
        return np.maximum(np.round(peaks), 0)
    return np.maximum(peaks - 2.054, 0) if kind == "silent" else peaks


def features_of(peaks, sizes):
    """BiasFeatures of peaks (U, n), group after group."""
    parts = np.split(peaks.T, np.cumsum(sizes)[:-1])
    groups = {f"group {number}": part for number, part in enumerate(parts)}
    return BiasFeatures(groups, peaks.min(axis=1), peaks.max(axis=1))


def names(count):
    return [f"photograph {number}" for number in range(count)]


# ---------------------------------------------------------------------------------------------------- plain loops


def plain_z(values, member, strata):
    """van Elteren's statistic of one unit in standard deviations, without skewness."""
    total = variance = 0
    for stratum in set(strata.tolist()):
        here = strata == stratum
        ranks, size, inside = rankdata(values[here]), here.sum(), member[here]
        if 0 < inside.sum() < size:
            total += (ranks[inside].sum() - inside.sum() * (size + 1) / 2) / (size + 1)
            ties = sum(count**3 - count for count in np.unique(values[here], return_counts=True)[1])
            spread = size + 1 - ties / (size * (size - 1))
            variance += inside.sum() * (~inside).sum() / 12 * spread / (size + 1) ** 2
    return total / np.sqrt(variance) if variance > 0 else np.nan


def test_the_rank_sum_within_strata_equals_the_plain_loop():
    random = np.random.default_rng(0)
    members, strata = random.integers(0, 3, 90), random.integers(0, 5, 90)
    members[strata == 4] = 1  # a stratum with one side only
    peaks = some_peaks("continuous", 6, 90, random)
    p = rank_sums(peaks, members, strata)[3]
    for unit in range(6):
        for group in range(3):
            z = plain_z(peaks[unit], members == group, strata)
            assert p[unit, group] == pytest.approx(2 * norm.sf(abs(z)), rel=1e-9)
    changed = np.where(strata == 4, 100 + peaks, peaks)
    assert np.array_equal(rank_sums(changed, members, strata)[3], p)


def test_strata_with_ties_have_the_variance_and_third_moment_of_all_dealings():
    values, strata = np.array([[0, 0, 1, 3, 0, 0, 0, 2]], np.float32), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    of_stratum = [Ranking(part) for part in (values[:, :4], values[:, 4:])]
    dealt, moments = [np.zeros(1)], np.zeros(2)
    for ranking, size in zip(of_stratum, (1, 3), strict=True):
        members = [np.array(chosen, bool) for chosen in product((0, 1), repeat=4) if sum(chosen) == size]
        dealt.append(np.array([ranking.deviation(member)[0] / 5 for member in members]))
        moments += [moment[0] / 5**power for moment, power in zip(ranking.moments(size), (2, 3), strict=True)]
    sums = (dealt[1][:, None] + dealt[2]).ravel()
    assert moments == pytest.approx(((sums**2).mean(), (sums**3).mean()))
    members = np.array([0, 1, 1, 1, 0, 0, 0, 1])
    both = zip(of_stratum, np.split(members == 0, 2), strict=True)
    weighted = sum(ranking.deviation(member)[0] / 5 for ranking, member in both)
    expected = p_values(np.array(weighted), *(np.array(moment) for moment in moments))
    assert rank_sums(values, members, strata)[3][0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_auc_equals_scipys_and_one_stratum_is_the_plain_test(kind):
    random = np.random.default_rng(1)
    members, peaks = np.repeat([0, 1], 100), some_peaks(kind, 5, 200, random)
    auc, low, high, p, _ = rank_sums(peaks, members, np.full(200, 7))
    for unit, values in enumerate(peaks.astype(float)):
        expected = mannwhitneyu(values[members == 1], values[members == 0], method="asymptotic", use_continuity=False)
        assert auc[unit, 1] == pytest.approx(expected.statistic / 10000, abs=1e-12)
        assert p[unit, 1] == pytest.approx(expected.pvalue, rel=1e-9)  # groups of one size are not skewed
    assert np.array_equal(p[:, 0], p[:, 1])
    assert np.allclose(auc.sum(axis=1), 1, atol=1e-12)
    assert (low <= auc).all() and (auc <= high).all()


def test_nothing_to_compare_is_nan_and_a_constant_unit_shows_nothing():
    peaks, members = np.ones((1, 20), np.float32), np.repeat([0, 1], 10)
    assert (rank_sums(peaks, members, np.zeros(20, int))[3] == 1).all()
    auc, *_, p, _ = rank_sums(np.arange(20.0)[None], members, members)
    assert np.isnan(p).all() and auc[0, 1] == 1


@pytest.mark.parametrize("ties", TIES)
def test_resamples_equal_repeated_rows(ties):
    random = np.random.default_rng(2)
    sizes, kinds = (13, 21, 9), np.concatenate([some_peaks(kind, 3, 43, random) for kind in KINDS])
    peaks = np.concatenate([kinds, np.full((1, 43), 2, np.float32)])
    peaks[8, 3] = 1  # the silent units are not so quite
    members, weights = np.repeat(np.arange(3), sizes), poisson_weights(names(43), 60)
    lowest, highest = peaks.min(axis=1) - 0.5, peaks.max(axis=1)
    lowest[-1] = 2
    found, auc = resampled_bias(peaks, lowest, highest, members, weights, ties)
    for resample in range(60):
        copies = weights[:, resample]
        repeated = np.split(np.repeat(peaks, copies, axis=1).T, np.cumsum([copies[members == g].sum() for g in (0, 1)]))
        expected = BiasFeatures(dict(enumerate(repeated)), lowest, highest).probabilities(ties)
        assert np.allclose(found[:, :, resample], expected, atol=1e-6, rtol=0)
        together, of_rows = np.concatenate(repeated).T, np.repeat(members, copies)
        expected = rank_sums(together, of_rows, np.zeros(len(of_rows), int))[0]
        assert np.allclose(auc[:, :, resample], expected, atol=1e-6, rtol=0)
    assert found.dtype == np.float32 and not found[-1].any()


def test_a_resample_without_a_group_says_nothing():
    peaks, members = np.arange(6, dtype=np.float32)[None], np.array([0, 0, 0, 1, 1, 1])
    weights = np.array([[1, 1], [1, 0], [1, 2], [1, 0], [1, 0], [1, 0]], np.uint8)
    for found in resampled_bias(peaks, peaks.min(axis=1), peaks.max(axis=1), members, weights):
        assert np.isfinite(found[:, :, 0]).all() and np.isnan(found[:, :, 1]).all()


def test_everything_comes_together_and_the_order_of_the_images_changes_nothing():
    random = np.random.default_rng(3)
    sizes, peaks, digests = (60, 50, 40), some_peaks("continuous", 9, 150, random), names(150)
    strata, features = random.integers(0, 2, 150), features_of(peaks, sizes)
    found = bias_chance(features, digests, strata, resamples=100)
    members = np.repeat(np.arange(3), sizes)
    assert np.array_equal(found.p, rank_sums(peaks, members, strata)[3])
    assert np.array_equal(found.q, benjamini_hochberg(found.p))
    assert found.sizes.tolist() == [60, 50, 40]
    probabilities = features.probabilities()
    inside = (found.low <= probabilities) & (probabilities <= found.high)
    assert inside.mean() > 0.95 and (found.high - found.low > 0.01).all()
    order = np.concatenate([random.permutation(np.flatnonzero(members == group)) for group in range(3)])
    again = bias_chance(features_of(peaks[:, order], sizes), [digests[i] for i in order], strata[order], resamples=100)
    for name in BiasChance.__dataclass_fields__:
        assert np.allclose(getattr(again, name), getattr(found, name), atol=1e-6), name
    assert np.array_equal(again.p, found.p) and np.array_equal(again.auc, found.auc)
    assert np.isnan(bias_chance(features, digests, resamples=0).low).all()


def test_a_photograph_that_stands_twice_in_a_group_counts_once():
    random = np.random.default_rng(4)
    peaks, digests = some_peaks("continuous", 4, 80, random), names(80)
    once = bias_chance(features_of(peaks, (40, 40)), digests, resamples=10)
    rows = np.r_[0:40, 5, 5, 40:80]
    twice = bias_chance(features_of(peaks[:, rows], (42, 40)), [digests[row] for row in rows], resamples=10)
    assert twice.sizes.tolist() == [40, 40]
    assert np.array_equal(twice.p, once.p) and np.array_equal(twice.auc, once.auc)


# ------------------------------------------------------------------------------------------------- strata and verdicts


def test_strata_are_images_whose_other_labels_agree_and_unknown_is_a_label():
    labels = {
        "gender": {"a": "male", "b": "female", "c": "male", "d": "male", "e": "female"},
        "skin_tone": {"a": "dark", "b": "dark", "c": "bright"},
        "age": {"a": "sixty_plus", "b": "sixty_plus", "c": "sixty_plus", "d": "sixty_plus"},
    }
    found = strata_of(labels, "gender", list("abcde"))
    assert found[0] == found[1] and len(set(found.tolist())) == 4
    assert strata_of(labels, "gender", list("edcba")).tolist() == found[::-1].tolist()
    assert strata_of({"gender": labels["gender"]}, "gender", list("abc")).tolist() == [0, 0, 0]
    assert strata_of({**labels, "skin_tone": {}, "age": {}}, "gender", list("abc")).tolist() == [0, 0, 0]


def test_verdicts_come_in_their_order():
    nan = np.nan
    # P, AUC, q, twin and what is said of groups that are large enough; the cut-off is 0.55 and alpha 0.05.
    rows = [
        (0.54, 0.8, 0.001, 0.0, "unbiased"), (nan, 0.8, 0.001, 0.0, "unbiased"), (0.55, 0.8, 0.051, 0.0, "not shown"),
        (0.55, 0.8, nan, 0.0, "not shown"), (0.55, 0.5, 0.0, 0.0, "not shown"), (0.55, 0.2, 0.0, 0.0, "not shown"),
        (0.55, nan, 0.0, 0.0, "not shown"), (0.55, 0.8, 0.05, 0.051, "as without training"),
        (0.55, 0.8, 0.05, 0.05, "biased"), (0.9, 0.8, 0.0, nan, "biased"),
    ]  # fmt: skip
    for probability, auc, q, twin, expected in rows:
        first, second, *rest = [np.array([[value, value]]) for value in (probability, auc, q, twin)]
        assert verdicts(first, second, 0.55, *rest, (400, 400), 0.05).tolist() == [[expected] * 2]
        assert verdicts(first, second, 0.55, *rest, (10, 400), 0.05).tolist() == [["too few images"] * 2]
        unjudged = "unbiased" if expected == "unbiased" else "not judged"
        assert verdicts(first, second, 0.55, *rest, (400, 400), None).tolist() == [[unjudged] * 2]
        assert verdicts(first, second, 0.55, *rest, (10, 400), None).tolist() == [["too few images"] * 2]
    assert VERDICTS == ("too few images", "unbiased", "not shown", "as without training", "biased")
    q = np.array([[0.03, 0.03]])
    assert verdicts(q + 0.9, q + 0.6, 0.55, q, q, (400, 400), 0.02).tolist() == [["not shown"] * 2]


def test_the_smallest_auc_that_groups_can_show_is_that_of_the_formula_and_of_80_in_100_samples():
    assert smallest_seen((100, 300)) == pytest.approx([2.8 * np.sqrt(401 / (12 * 100 * 300))] * 2)
    assert smallest_seen((100, 100, 200))[2] == pytest.approx(2.8 * np.sqrt(401 / (12 * 200 * 200)))
    random, members = np.random.default_rng(5), np.repeat([0, 1], (60, 90))
    shift = norm.ppf(0.5 + smallest_seen((60, 90))[1]) * np.sqrt(2)
    p = rank_sums(random.standard_normal((2000, 150)) + shift * members, members, np.zeros(150, int))[3]
    assert 0.77 <= (p[:, 1] <= 0.05).mean() <= 0.85


def test_twin_shares_equal_the_plain_loop():
    random = np.random.default_rng(6)
    auc, of_twins = (np.round(random.random((size, 3)), 1) for size in (20, 50))
    found = twin_shares(auc, of_twins)
    for unit, group in product(range(20), range(3)):
        as_far = [round(abs(other - 0.5), 6) >= round(abs(auc[unit, group] - 0.5), 6) for other in of_twins[:, group]]
        assert found[unit, group] == pytest.approx(np.mean(as_far))
    assert np.allclose(twin_shares(1 - auc, of_twins), found)


# ------------------------------------------------------------------------------------------------------ matched images


def plain_matched(differences, group, chosen):
    """Share of choices (S numbers each) with as large a sum. differences: (S, G) of one unit."""
    observed = abs(sum(row[group] for row in differences))
    sums = [abs(sum(row[choice] for row, choice in zip(differences, each, strict=True))) for each in chosen]
    return sum(value >= observed - 1e-9 for value in sums), len(sums)


@pytest.mark.parametrize(("groups", "sets"), [(2, 6), (2, 30), (4, 4), (4, 40)])
def test_matched_images_equal_the_plain_loop(groups, sets):
    random = np.random.default_rng(7)
    peaks = some_peaks("ties", 3, groups * sets, random) + some_peaks("continuous", 3, groups * sets, random)
    matched = random.permutation(groups * sets).reshape(sets, groups)
    p, _ = matched_p(peaks, matched, names(sets))
    if groups**sets <= 1000:
        chosen = list(product(range(groups), repeat=sets))
    else:
        of_sets = [np.random.default_rng(seed_of("matched", name)).integers(groups, size=1000) for name in names(sets)]
        chosen = np.stack(of_sets, axis=1).tolist()
    for unit, group in product(range(3), range(groups)):
        of_unit = peaks[unit][matched].astype(float)
        reached, of = plain_matched(of_unit - of_unit.mean(axis=1, keepdims=True), group, chosen)
        expected = reached / of if groups**sets <= 1000 else (1 + reached) / (of + 1)
        assert reached >= 10 or groups**sets <= 1000
        assert p[unit, group] == pytest.approx(expected, rel=1e-9)
    if groups == 2:
        assert np.array_equal(p[:, 0], p[:, 1])


def test_matched_images_show_what_unmatched_ones_hide_and_their_order_changes_nothing():
    random = np.random.default_rng(8)
    persons = 5 * random.standard_normal((40, 100))
    peaks = np.concatenate([persons, persons + random.standard_normal((40, 100)) + 0.8], axis=1).astype(np.float32)
    matched, digests = np.stack([np.arange(100), np.arange(100, 200)], axis=1), names(200)
    features = features_of(peaks, (100, 100))
    assert (bias_chance(features, digests, resamples=0).q > 0.05).all()
    found = bias_chance(features, digests, resamples=0, matched=matched)
    assert (found.q < 1e-6).all()
    order = random.permutation(100)
    again = bias_chance(features, digests, resamples=0, matched=matched[order])
    assert np.allclose(again.p, found.p, rtol=1e-9)


@pytest.mark.parametrize(("groups", "sets"), [(2, 60), (4, 60)])
def test_matched_images_without_a_difference_keep_the_level(groups, sets):
    random = np.random.default_rng(9)
    shares = []
    for world in range(20):
        peaks = random.standard_normal((256, sets, 1)) + random.standard_exponential((256, sets, groups))
        seeds = [f"{world} {name}" for name in names(sets)]
        p, _ = matched_p(peaks.reshape(256, -1), np.arange(sets * groups).reshape(sets, groups), seeds)
        shares.append((p <= 0.05).mean())
    assert np.std(shares) / np.sqrt(20) <= 0.005
    assert 0.04 <= np.mean(shares) <= 0.06


# ------------------------------------------------------------------------------------------------------ shuffled worlds


@pytest.mark.parametrize(
    ("kind", "sizes", "strata"),
    [
        ("continuous", (300, 300), 1), ("continuous", (50, 50), 1), ("continuous", (50, 50, 50, 50), 1),
        ("continuous", (200, 50), 8), ("ties", (300, 300), 1), ("ties", (50, 50), 1), ("ties", (50, 50, 50, 50), 8),
        ("silent", (1000, 1000), 1), ("silent", (500, 500, 500, 500), 8),
    ],
)  # fmt: skip
def test_shuffled_groups_are_shown_as_often_as_alpha_says(kind, sizes, strata):
    random, units = np.random.default_rng(10), 6000
    members = np.repeat(np.arange(len(sizes)), sizes)
    random.shuffle(members)
    peaks = some_peaks(kind, units, len(members), random)
    p = rank_sums(peaks, members, random.integers(0, strata, len(members)))[3]
    assert np.sqrt(0.05 * 0.95 / units) <= 0.005  # independent units
    assert 0.04 <= (p <= 0.05).mean() <= 0.06


@pytest.mark.parametrize("sizes", [(50, 50), (50, 50, 50, 50), (50, 1950)])
def test_silent_units_and_small_groups_are_shown_no_more_often(sizes):
    random, members = np.random.default_rng(11), np.repeat(np.arange(len(sizes)), sizes)
    p = rank_sums(some_peaks("silent", 6000, len(members), random), members, np.zeros(len(members), int))[3]
    assert (p <= 0.05).mean() <= 0.06


def shuffled_worlds(kind, sizes, worlds, random, units=16, strata=1):
    """Worlds in which groups mean nothing, with twins that mean as little: share of worlds with any biased unit, and
    share of units beyond the cut-off. Units are independent, so that all worlds are measured at once."""
    members, cut_off = np.repeat(np.arange(len(sizes)), sizes), bias_threshold(len(sizes))
    in_strata = random.integers(0, strata, len(members))
    peaks, of_twins = (some_peaks(kind, worlds * count * units, len(members), random) for count in (1, 3))
    probabilities = features_of(peaks, sizes).probabilities().reshape(worlds, units, -1)
    auc, *_, p, _ = (found.reshape(worlds, units, -1) for found in rank_sums(peaks, members, in_strata))
    untrained = rank_sums(of_twins, members, in_strata)[0].reshape(worlds, 3 * units, -1)
    said = [
        verdicts(of_world, its_auc, cut_off, benjamini_hochberg(its_p), twin_shares(its_auc, its_twins), sizes, 0.05)
        for of_world, its_p, its_auc, its_twins in zip(probabilities, p, auc, untrained, strict=True)
    ]
    return (np.array(said) == "biased").any(axis=(1, 2)).mean(), (probabilities >= cut_off).any(axis=2).mean()


@pytest.mark.parametrize(
    ("kind", "sizes", "strata", "worlds"),
    [
        ("continuous", (50, 50), 1, 1600), ("ties", (50, 50), 1, 1600), ("silent", (50, 50), 1, 1600),
        ("silent", (50, 50, 50), 1, 800), ("silent", (50, 450), 1, 400), ("ties", (50, 150), 8, 800),
    ],
)  # fmt: skip
def test_worlds_with_any_biased_unit_are_rare_where_the_cut_offs_alone_call_many_biased(kind, sizes, strata, worlds):
    biased, beyond = shuffled_worlds(kind, sizes, worlds, np.random.default_rng(12), strata=strata)
    assert biased + 2 * np.sqrt(biased * (1 - biased) / worlds) <= 0.08
    assert 0.2 <= beyond <= 0.98


def test_few_active_images_in_a_small_group_are_no_finding():
    # Active on 0.3 % of 2,000 images, a group of 50: by the normal distribution many units would be findings.
    random, members = np.random.default_rng(13), np.repeat([0, 1], (50, 1950))
    peaks = np.where(random.random((4000, 2000)) < 0.003, random.random((4000, 2000)), 0).astype(np.float32)
    ranking = Ranking(peaks)
    plain = p_values(ranking.deviation(members == 0), ranking.moments(50)[0], np.zeros(4000))
    assert (benjamini_hochberg(plain) <= 0.05).sum() > 10
    assert not (benjamini_hochberg(rank_sums(peaks, members, np.zeros(2000, int))[3]) <= 0.05).any()


# ------------------------------------------------------------------------------------------------------ planted worlds


def test_a_unit_that_follows_skin_tone_is_not_biased_on_gender_that_goes_with_it():
    random, units, images = np.random.default_rng(14), 6000, 400
    gender = np.repeat([0, 1], images // 2)
    bright = random.random(images) < np.where(gender == 1, 0.8, 0.2)
    follows = (random.standard_normal((units, images)) + 1.0 * bright).astype(np.float32)
    labels = {"skin_tone": {name: "bright" if b else "dark" for name, b in zip(names(images), bright, strict=True)}}
    strata = strata_of({**labels, "gender": {}}, "gender", names(images))
    plain, stratified = (rank_sums(follows, gender, one)[3] for one in (np.zeros(images, int), strata))
    assert (plain <= 0.05).mean() > 0.9
    assert 0.04 <= (stratified <= 0.05).mean() <= 0.06
    both = follows[:500] + 1.0 * gender
    assert (rank_sums(both, gender, strata)[3] <= 0.05).mean() > 0.9


def test_a_unit_that_prefers_a_group_among_hundreds_that_do_not_is_biased():
    random = np.random.default_rng(15)
    peaks = some_peaks("continuous", 128, 400, random)
    peaks[7, 200:] += 1.2
    features, twins = (features_of(one, (200, 200)) for one in (peaks, some_peaks("continuous", 384, 400, random)))
    found, of_twins = (bias_chance(one, names(400), resamples=50) for one in (features, twins))
    probabilities, twin = features.probabilities(), twin_shares(found.auc, of_twins.auc)
    said = verdicts(probabilities, found.auc, bias_threshold(2), found.q, twin, found.sizes, 0.05)
    assert np.argwhere(said == "biased").tolist() == [[7, 1]]
    assert found.auc_low[7, 1] > 0.6 and found.low[7, 1] > 0.55 and found.high[7, 0] < 0.45


def test_512_units_and_4000_images_are_quick():
    random = np.random.default_rng(16)
    features = features_of(some_peaks("continuous", 128, 4000, random), (1000,) * 4)
    start = time.process_time()
    bias_chance(features, names(4000), random.integers(0, 8, 4000))
    assert time.process_time() - start < 10  # a quarter of the units, six times what they take
