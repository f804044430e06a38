"""Presence of concepts and plain labels (method.md §8.6): plain loops, scipy, shuffled and planted worlds."""

import time
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import hypergeom, mannwhitneyu

from method.plain_label import SharedMasks, plain_labels, wider_concepts
from method.presence import Compared, Presence
from method.rank_sum import Ranking, auc_interval, p_values
from method.segmentation import pack
from method.significance import benjamini_hochberg


def digests(count):
    return np.array([f"photograph {number}" for number in range(count)])


def presence(peaks, carries, sources, photographs, asked):
    """Presence of peaks, float (N, U)."""
    compared = Compared(carries, sources, np.unique(photographs, return_inverse=True)[1], asked)
    return compared.presence(compared.sums(peaks.T))


def plain_auc(inside, outside):
    """The AUC and DeLong's variance, pair by pair."""
    higher = [[(a > b) + (a == b) / 2 for b in outside] for a in inside]
    of_inside, of_outside = np.mean(higher, axis=1), np.mean(higher, axis=0)
    return np.mean(higher), of_inside.var(ddof=1) / len(inside) + of_outside.var(ddof=1) / len(outside)


def some_peaks(images, units, seed=0):
    """Peaks with no ties, many ties, a rectified unit and a constant one, in turn. Returns float32 (N, U)."""
    peaks = np.random.default_rng(seed).standard_normal((images, units)).astype(np.float32)
    peaks[:, 1::4] = np.round(peaks[:, 1::4])
    peaks[:, 2::4] = np.maximum(peaks[:, 2::4] - 1, 0)
    peaks[:, 3::4] = 1.5
    return peaks


# ---------------------------------------------------------------------------------------------------- plain loops


def test_one_file_equals_the_plain_loop_and_scipy():
    peaks, random = some_peaks(60, 8), np.random.default_rng(1)
    carries = random.random((60, 3)) < (0.5, 0.2, 0.5)
    found = presence(peaks, carries, np.zeros(60, int), digests(60), np.array([True, True, False]))
    for unit in range(8):
        for concept in range(2):
            inside, outside = (peaks[carries[:, concept] == side, unit] for side in (True, False))
            auc, variance = plain_auc(inside, outside)
            assert found.auc[unit, concept] == pytest.approx(auc, abs=1e-12)
            interval = auc_interval(np.array(auc), np.array(variance), 61 / 12 / len(inside) / len(outside))
            assert (found.low[unit, concept], found.high[unit, concept]) == pytest.approx(interval, abs=1e-9)
    for unit in (0, 4):  # without ties nothing is skewed, and p is that of the normal distribution
        for concept in range(2):
            sides = (peaks[carries[:, concept] == side, unit].astype(float) for side in (True, False))
            expected = mannwhitneyu(*sides, method="asymptotic", use_continuity=False).pvalue
            assert found.p[unit, concept] == pytest.approx(expected, rel=1e-9)
    assert found.showing.tolist() == [*carries[:, :2].sum(axis=0), 0]
    assert found.lacking.tolist() == [*(~carries[:, :2]).sum(axis=0), 0]
    assert (found.auc[3::4, :2] == 0.5).all() and (found.p[3::4, :2] == 1).all()
    assert np.isnan([getattr(found, name)[:, 2] for name in ("auc", "low", "high", "p", "q")]).all()
    assert np.array_equal(found.q, benjamini_hochberg(found.p), equal_nan=True)


@pytest.mark.parametrize("size", [1, 2, 20, 30])
def test_the_rank_sum_and_its_variance_with_ties_are_scipys(size):
    peaks = some_peaks(40, 8, seed=2)
    member = np.arange(40) < size
    ranking = Ranking(np.ascontiguousarray(peaks.T))
    deviation, (variance, third) = ranking.deviation(member), ranking.moments(size)
    for unit in (0, 1, 2, 4, 5, 6):
        sides = peaks[member, unit].astype(float), peaks[~member, unit].astype(float)
        expected = mannwhitneyu(*sides, method="asymptotic", use_continuity=False)
        assert deviation[unit] == 2 * expected.statistic - size * (40 - size)
        symmetric = p_values(deviation[unit : unit + 1], variance[unit : unit + 1], np.zeros(1))
        assert symmetric == pytest.approx(expected.pvalue, rel=1e-9)
    assert not third[[0, 4]].any() and (size == 20 or third[2])


def test_the_moments_are_those_of_all_ways_to_deal_out_a_group():
    peaks = np.array([[0, 0, 0, 0, 1, 2, 2]], np.float32)
    for size in (1, 2, 3, 5):
        members = [np.isin(np.arange(7), chosen) for chosen in combinations(range(7), size)]
        dealt = np.array([Ranking(peaks).deviation(member)[0] for member in members])
        variance, third = Ranking(peaks).moments(size)
        assert dealt.mean() == 0
        assert (variance[0], third[0]) == pytest.approx(((dealt**2).mean(), (dealt**3).mean()))


def test_files_are_compared_within_themselves_and_add_up():
    peaks, random = some_peaks(80, 4, seed=3), np.random.default_rng(4)
    sources, carries = np.repeat([0, 1, 2], (30, 30, 20)), random.random((80, 2)) < 0.4
    peaks[sources == 1, 0] += 50  # would rule any comparison between files
    carries[sources == 2] = False  # a file in which the concepts do not occur
    carries[sources == 1, 1] = False
    found = presence(peaks, carries, sources, digests(80), np.ones(2, bool))
    for unit in range(4):
        aucs, pairs = [], []
        for source in (0, 1):
            inside, outside = (peaks[(sources == source) & (carries[:, 0] == side), unit] for side in (True, False))
            aucs.append(plain_auc(inside, outside)[0])
            pairs.append(len(inside) * len(outside))
        assert found.auc[unit, 0] == pytest.approx(np.average(aucs, weights=pairs), abs=1e-12)
    alone = presence(peaks[:30], carries[:30], sources[:30], digests(30), np.ones(2, bool))
    assert np.array_equal(found.auc[:, 1], alone.auc[:, 1])
    assert np.array_equal(found.p[:, 1], alone.p[:, 1])


def test_rows_of_one_photograph_count_once_and_their_order_changes_nothing():
    peaks, random = some_peaks(50, 8, seed=5), np.random.default_rng(6)
    carries, sources, photographs = random.random((50, 3)) < 0.4, random.integers(0, 2, 50), digests(50)
    expected = presence(peaks, carries, sources, photographs, np.ones(3, bool))
    again = np.r_[np.arange(50), 7, 7, 30]  # each repeated row carries part of the concepts
    more = carries[again]
    more[50], more[7] = carries[7] & [True, False, False], carries[7] & [False, True, True]
    more[51] = False
    order = random.permutation(53)
    found = presence(
        peaks[again][order], more[order], sources[again][order], photographs[again][order], np.ones(3, bool)
    )
    for name in Presence.__dataclass_fields__:
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


def test_a_concept_that_every_image_shows_or_none_is_no_test():
    peaks, carries = some_peaks(20, 4), np.zeros((20, 3), bool)
    carries[:, 0], carries[:7, 2] = True, True
    found = presence(peaks, carries, np.zeros(20, int), digests(20), np.ones(3, bool))
    assert np.isnan(found.q[:, :2]).all() and np.isfinite(found.q[:, 2]).all()
    assert not found.tells(1.0)[:, :2].any()


def test_telling_asks_for_both_a_small_q_and_an_auc_far_from_one_half():
    auc, q = np.array([[0.6, 0.4, 0.59, 0.9, np.nan]]), np.array([[0.05, 0.01, 0.01, 0.06, np.nan]])
    found = Presence(auc, auc, auc, q, q, np.zeros(5, int), np.zeros(5, int))
    assert found.tells(0.05).tolist() == [[True, True, False, False, False]]
    assert found.tells(0.01).tolist() == [[False, True, False, False, False]]


# ----------------------------------------------------------------------------------------------------------- chance


def test_intervals_hold_the_true_auc_as_often_as_they_say_also_where_few_images_lie_all_above():
    random = np.random.default_rng(0)
    for shift, truth in ((0, 0.5), (1, 0.7602), (2.3, 0.9481)):
        for size, rest in ((3, 100), (50, 50)):
            member = np.arange(size + rest) < size
            ranking = Ranking(random.standard_normal((4000, size + rest)) + shift * member)
            auc, variance = 0.5 + ranking.deviation(member) / (2 * size * rest), ranking.delong(member)
            low, high = auc_interval(auc, variance, (size + rest + 1) / (12 * size * rest))
            assert 0.94 <= ((low <= truth) & (truth <= high)).mean() <= 0.995
            assert (low >= 0).all() and (high <= 1).all() and (high - low).min() > 0.05
    collapsed = ranking.delong(np.arange(100) < 1)
    assert np.isnan(collapsed).all()


@pytest.mark.parametrize("kind", ["continuous", "ties", "rectified"])
def test_shuffled_concepts_are_told_as_often_as_alpha_says(kind):
    random = np.random.default_rng(7)
    peaks = random.standard_normal((400, 128)).astype(np.float32)
    peaks = {"continuous": peaks, "ties": np.round(peaks), "rectified": np.maximum(peaks - 1, 0)}[kind]
    carries = np.stack([random.permutation(400) < size for size in np.tile((20, 60, 200), 100)], axis=1)
    found = presence(peaks, carries, np.zeros(400, int), digests(400), np.ones(300, bool))
    # The units see the same labels, the labels are independent: the standard error of 300 concepts' mean share.
    shares = (found.p <= 0.05).mean(axis=0)
    assert shares.std() / np.sqrt(300) <= 0.005
    assert 0.04 <= shares.mean() <= 0.06


def test_of_five_active_images_two_in_a_group_of_fifty_are_as_rare_as_counting_says():
    values = np.zeros((1, 2000))
    values[0, [0, 1, -1, -2, -3]] = 1
    ranking, member = Ranking(values), np.arange(2000) < 50
    deviation, moments = ranking.deviation(member), ranking.moments(50)
    assert p_values(deviation, moments[0], np.zeros(1))[0] < 1e-7
    assert p_values(deviation, *moments)[0] == pytest.approx(hypergeom.sf(1, 2000, 5, 50), rel=0.3)


def test_rare_concepts_and_silent_units_do_not_tell_by_accident():
    # Two of five images among the 2 % active ones: a normal distribution has p = 1e-9 there, counting 0.4 %.
    random = np.random.default_rng(8)
    silent = np.maximum(random.standard_normal((2000, 256)) - 2.05, 0).astype(np.float32)
    told, plainly = 0, 0
    for _ in range(20):
        carries = np.stack([random.permutation(2000) < 5 for _ in range(10)], axis=1)
        found = presence(silent, carries, np.zeros(2000, int), digests(2000), np.ones(10, bool))
        told += found.tells(0.05).any()
        ranking, member = Ranking(silent.T.copy()), carries[:, 0].copy()
        plainly += (p_values(ranking.deviation(member), ranking.moments(5)[0], np.zeros(256)) < 1e-6).any()
    assert plainly >= 8
    assert told <= 1


# ------------------------------------------------------------------------------------------------------ plain labels

NAMES = ("AU_25", "mouth", "nose", "Smiling", "Wearing_Lipstick")
ASKED = np.array([True, False, False, True, True])
SAME_RULE = np.array([[a != 2 and b != 2 and a != b for a in range(5)] for b in range(5)])


def shared_masks(of_photographs):
    """SharedMasks of photographs given as {concept index: bool (S, S)}."""
    shared = SharedMasks(5)
    for masks in of_photographs:
        shared.add(np.array([*masks], int), pack(np.array([*masks.values()])))
    return shared


def ellipses(random):
    mouth, nose = np.zeros((2, 16, 16), bool)
    top = random.integers(8, 12)
    mouth[top : top + 4, 4:12], nose[top - 7 : top - 1, 6:10] = True, True
    return mouth, nose


def test_shared_masks_equal_the_plain_loop():
    random = np.random.default_rng(0)
    photographs = [
        {int(c): random.random((9, 7)) > 0.5 for c in random.permutation(5)[: random.integers(1, 6)]} for _ in range(12)
    ]
    shared = shared_masks(photographs)
    for a in range(5):
        for b in range(5):
            of_both = [(masks[a], masks[b]) for masks in photographs if a in masks and b in masks]
            assert shared.both[a, b] == len(of_both)
            assert shared.intersection[a, b] == sum((one & other).sum() for one, other in of_both)
            assert shared.union[a, b] == sum((one | other).sum() for one, other in of_both)


def test_two_masks_of_one_concept_on_a_photograph_are_united():
    left, right = np.eye(8, dtype=bool)[None], np.eye(8, dtype=bool)[None, ::-1]
    shared = SharedMasks(5)
    shared.add(np.array([3, 1, 3]), pack(np.concatenate([left, left | right, right])))
    assert shared.both[1, 3] == 1 and shared.intersection[1, 3] == shared.union[1, 3] == 16


def test_the_wider_concept_has_the_same_masks_on_more_photographs():
    random = np.random.default_rng(1)
    photographs = []
    for number in range(40):
        mouth, nose = ellipses(random)
        photographs.append({1: mouth, 2: nose})
        if number < 10:
            photographs[-1][4] = mouth
    shared = shared_masks(photographs)
    found = wider_concepts(shared.both, shared.intersection, shared.union, ASKED, np.zeros((5, 5), bool))
    assert found.tolist() == [-1, -1, -1, -1, 1]
    # Masks that differ where both are carried are no others' whatever the rule says.
    for masks in photographs[:10]:
        masks[4] = masks[4] & (np.arange(16) < 8)
    shared = shared_masks(photographs)
    assert (wider_concepts(shared.both, shared.intersection, shared.union, ASKED, SAME_RULE) == -1).all()


def test_where_no_photograph_carries_both_the_rule_decides_and_only_for_what_every_image_has():
    random = np.random.default_rng(2)
    photographs = [{4: ellipses(random)[0]} for _ in range(30)] + [{1: ellipses(random)[0]} for _ in range(10)]
    photographs += [{0: ellipses(random)[0]} for _ in range(50)]
    shared = shared_masks(photographs)
    counts = shared.both, shared.intersection, shared.union
    assert wider_concepts(*counts, ASKED, SAME_RULE).tolist() == [1, -1, -1, -1, 1]  # though fewer have its mask
    assert (wider_concepts(*counts, ASKED, np.zeros((5, 5), bool)) == -1).all()
    without_mouth = shared_masks(photographs[:30] + photographs[40:])
    counts = without_mouth.both, without_mouth.intersection, without_mouth.union
    assert (wider_concepts(*counts, ASKED, SAME_RULE) == -1).all()  # lipstick is no case of an open mouth


def test_a_concept_that_lies_on_nine_in_ten_photographs_of_another_and_more_is_the_wider():
    random = np.random.default_rng(3)
    for shared_of_ten, expected in ((9, 3), (8, -1)):
        photographs = []
        for number in range(40):
            mouth, _ = ellipses(random)
            photographs.append(
                {3: mouth} if number >= 10 else {4: mouth, **({3: mouth} if number < shared_of_ten else {})}
            )
        shared = shared_masks(photographs)
        found = wider_concepts(shared.both, shared.intersection, shared.union, ASKED, SAME_RULE)
        assert found[4] == expected and found[3] == -1


def test_the_plain_label_is_the_wider_concept_only_of_what_is_not_told():
    tells = np.zeros((5, 5), bool)
    tells[1, 4] = True
    found = plain_labels(np.array([4, 4, 2, -1, 3]), np.array([-1, -1, -1, -1, 1]), tells)
    assert found.tolist() == [1, 4, 2, -1, 3]


def test_planted_a_unit_at_everyones_mouth_is_none_of_lipstick_and_one_of_lipstick_is():
    random = np.random.default_rng(4)
    lipstick, smiling = random.random((2, 300)) < [[0.3], [0.5]]
    carries = np.stack([smiling, np.ones(300, bool), np.ones(300, bool), smiling, lipstick], axis=1)
    noise = random.standard_normal((300, 2))
    peaks = np.stack([3 + noise[:, 0], np.maximum(3 * lipstick + noise[:, 1], 0)], axis=1).astype(np.float32)
    found = presence(peaks, carries, np.zeros(300, int), digests(300), ASKED)
    tells = found.tells(0.05)
    assert tells[:, 4].tolist() == [False, True]
    photographs = []
    for row in carries:
        mouth, nose = ellipses(random)
        photographs.append({concept: nose if concept == 2 else mouth for concept in np.flatnonzero(row).tolist()})
    shared = shared_masks(photographs)
    wider = wider_concepts(shared.both, shared.intersection, shared.union, ASKED, SAME_RULE)
    labels = plain_labels(np.array([4, 4]), wider, tells)
    assert [NAMES[label] for label in labels] == ["mouth", "Wearing_Lipstick"]


def test_512_units_4000_images_and_30_concepts_are_quick():
    random = np.random.default_rng(9)
    peaks, carries = random.standard_normal((4000, 512)).astype(np.float32), random.random((4000, 30)) < 0.2
    start = time.process_time()
    presence(peaks, carries, np.zeros(4000, int), digests(4000), np.ones(30, bool))
    assert time.process_time() - start < 15  # ten times what it takes
