"""What stands of the bias of units, and models compared (method.md §8.9), against plain loops."""

import numpy as np
import pytest

from method.bias import BiasFeatures, ConceptBias
from method.bias_chance import VERDICTS, bias_chance
from method.bias_evidence import BiasEvidence
from method.comparison import Shares, differences
from report.bias_chance import count_rows
from report.bias_comparison import Compared

ALPHA = 0.05


def found_about(peaks, resamples):
    """(ConceptBias, BiasChance) of peaks (U, n), whose first half is of one subgroup."""
    half = peaks.shape[1] // 2
    features = BiasFeatures({"a": peaks.T[:half], "b": peaks.T[half:]}, peaks.min(axis=1), peaks.max(axis=1))
    names = [f"photograph {number}" for number in range(peaks.shape[1])]
    return ConceptBias("kind", ("a", "b"), features.probabilities()), bias_chance(features, names, resamples=resamples)


def world(seed, learned, images=160, units=24, resamples=30):
    """BiasEvidence of units that respond to the second subgroup as untrained ones do, and by what they learned."""
    random = np.random.default_rng(seed)

    def peaks(strength):
        noise = random.standard_normal((units, images))
        return (noise + np.outer(strength, np.repeat([0, 1], images // 2))).astype(np.float32)

    untrained = random.uniform(0, 0.4, (3, units))
    twins = [found_about(peaks(strength), resamples) for strength in untrained[1:]]
    return BiasEvidence(*found_about(peaks(untrained[0] + learned), resamples), twins, ALPHA)


def towards_the_first(sizes, shifted, resamples=400):
    """BiasEvidence of 40 units, of which the first so many respond to the first subgroup, without twins."""
    peaks = np.random.default_rng(6).standard_normal((40, sum(sizes))).astype(np.float32)
    peaks[:shifted, : sizes[0]] += 2
    of_groups = dict(zip("abcdefgh", np.split(peaks.T, np.cumsum(sizes)[:-1]), strict=False))
    features = BiasFeatures(of_groups, peaks.min(axis=1), peaks.max(axis=1))
    digests = [f"photograph {number}" for number in range(sum(sizes))]
    bias = ConceptBias("kind", tuple(features.groups), features.probabilities())
    return BiasEvidence(bias, bias_chance(features, digests, resamples=resamples), [], ALPHA)


def plain_verdict(evidence, unit, group, probability, auc, of_twins):
    """probability: of the unit. auc, of_twins: of the unit, and of all the twins' units."""
    nearer = sum(round(abs(float(other) - 0.5), 12) >= round(abs(float(auc) - 0.5), 12) for other in of_twins)
    if probability < 0.55:
        return "unbiased"
    if not evidence.chance.q[unit, group] <= ALPHA or not auc > 0.5:
        return "not shown"
    return "as without training" if nearer / len(of_twins) > ALPHA else "biased"


def test_verdicts_and_shares_in_resamples_equal_the_plain_loop():
    evidence = world(0, np.repeat([0, 0.5, 1.2], 8))
    chance, twins = evidence.chance, [chance for _, chance in evidence.twins]
    resampled = np.zeros((24, 2, 30), bool)
    for unit in range(24):
        for group in range(2):
            of_twins = [auc for twin in twins for auc in twin.auc[:, group]]
            probability = evidence.bias.probabilities[unit, group]
            expected = plain_verdict(evidence, unit, group, probability, chance.auc[unit, group], of_twins)
            assert evidence.verdicts[unit, group] == expected
            for place in range(30):
                of_twins = [auc for twin in twins for auc in twin.resampled_auc[:, group, place]]
                drawn = chance.resampled[unit, group, place], chance.resampled_auc[unit, group, place]
                resampled[unit, group, place] = plain_verdict(evidence, unit, group, *drawn, of_twins) == "biased"
    shares = evidence.shares()
    assert shares.resampled.tolist() == resampled.mean(axis=0).tolist()
    assert shares.count.tolist() == [evidence.counts()["biased"][group] for group in ("a", "b")]
    assert {*evidence.verdicts.ravel().tolist()} >= {"unbiased", "as without training", "biased"}
    assert (resampled.mean(axis=0)[1] > shares.share[1]).any() and (resampled.mean(axis=0)[1] < shares.share[1]).any()


def test_the_network_and_each_twin_are_counted_alike():
    evidence = world(4, np.full(24, 0.8))
    header, *rows = count_rows([evidence])
    who = ["network", "twin 1", "twin 2"]
    assert [row[:3] for row in rows] == [["kind", group, of] for group in "ab" for of in who]
    of_twins = np.concatenate([chance.auc for _, chance in evidence.twins])
    for row in rows:
        told, group = dict(zip(header, row, strict=True)), "ab".index(row[1])
        bias, chance = [(evidence.bias, evidence.chance), *evidence.twins][who.index(row[2])]
        one, numbers = BiasEvidence(bias, chance, evidence.twins, ALPHA), (bias.probabilities, chance.auc)
        plain = [
            plain_verdict(one, unit, group, *(of[unit, group] for of in numbers), of_twins[:, group])
            for unit in range(24)
        ]
        assert told["units"] == 24 == sum(told[name.replace(" ", "_")] for name in VERDICTS)
        assert told["cut_off"] == sum(probability >= 0.55 for probability in bias.probabilities[:, group])
        assert all(told[name.replace(" ", "_")] == plain.count(name) for name in VERDICTS)
    assert sum(row[header.index("biased")] for row in rows if row[2] == "network") > 0


def test_the_networks_share_beyond_the_cut_off_stands_beside_its_twins():
    evidence = world(1, np.full(24, 1.0))
    own, twins = evidence.beyond_cut_off()
    assert own == sum(max(row) >= 0.55 for row in evidence.bias.probabilities.tolist()) / 24
    assert twins == [sum(max(row) >= 0.55 for row in bias.probabilities.tolist()) / 24 for bias, _ in evidence.twins]
    assert own > max(twins)


def test_a_unit_more_is_no_difference_where_other_photographs_would_not_show_it():
    one = np.zeros(24)
    one[0] = 0.45  # a unit at the edge of what the twins do
    models = {"many": np.full(24, 1.5), "few": one, "none": np.zeros(24)}
    shares = {name: world(4, learned, resamples=200).shares() for name, learned in models.items()}
    assert shares["many"].share[1] > 0.8 and shares["few"].count[1] == shares["none"].count[1] + 1
    told = differences(shares, dict.fromkeys(shares, "the same photographs"))
    assert [(of.one, of.other, *of.beyond_chance(ALPHA).tolist()) for of in told] == [
        ("many", "few", False, True), ("many", "none", False, True), ("few", "none", False, False),
    ]  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_resamples_that_lack_a_tiny_group_are_left_out():
    evidence = towards_the_first((100, 100, 1, 40), 20)
    silent, shares = np.isnan(evidence.chance.resampled[0, 0]), evidence.shares()
    assert 0.2 < silent.mean() < 0.5 and not np.isnan(evidence.chance.low).any()
    assert np.array_equal(np.isnan(shares.resampled), [silent] * 4)
    assert shares.count[0] == 20 and not shares.count[1:].any()
    assert shares.low[0] >= 0.45 and shares.high.tolist()[1:] == [0, 0, 0]
    # Resample b says nothing where it says nothing of one of the two, whose photographs may differ by a face not found.
    fewer = Shares.of(evidence.verdicts.T == "none", np.zeros((4, 40, 400)))
    (told,) = differences({"one": shares, "other": fewer}, dict.fromkeys(("one", "other"), "the same photographs"))
    assert told.beyond_chance(ALPHA).tolist() == [True, False, False, False]
    assert (told.low[0], told.high[0]) == (shares.low[0], shares.high[0]) and told.high.tolist()[1:] == [0, 0, 0]


@pytest.mark.filterwarnings("error")
def test_where_every_resample_lacks_a_group_there_is_no_interval():
    evidence = towards_the_first((100, 100, 1, 1, 1, 1, 1, 1), 20, resamples=5)
    shares = evidence.shares()
    assert np.isnan(evidence.chance.resampled).all() and np.isnan(evidence.chance.low).all()
    (told,) = differences({"one": shares, "other": shares}, dict.fromkeys(("one", "other"), "the same photographs"))
    assert np.isnan([shares.low, shares.high, told.low, told.high, told.p, told.q]).all()


def test_a_few_high_peaks_among_low_ones_are_no_bias_towards_their_group():
    few, most, others = (np.linspace(*ends) for ends in ((0.95, 1, 20), (0.01, 0.05, 80), (0.08, 0.12, 100)))
    evidence = BiasEvidence(*found_about(np.concatenate([few, most, others])[None].astype(np.float32), 20), [], ALPHA)
    assert evidence.bias.probabilities[0, 0] > 0.7 and evidence.chance.auc[0, 0] == 0.2
    assert (evidence.chance.q < 1e-9).all()
    assert evidence.verdicts.tolist() == [["not shown", "unbiased"]]
    assert evidence.shares().high.tolist() == [0, 0]


def test_a_group_that_lies_below_the_others_in_every_stratum_is_not_favoured():
    # Few of the first group lie in the stratum of low peaks, few of the others in that of high ones.
    sizes, strata = (100, 100), np.concatenate([np.repeat([0, 1], (10, 90)), np.repeat([0, 1], (90, 10))])
    members = np.repeat([0, 1], 100)
    random = np.random.default_rng(8)
    peaks = (random.standard_normal((6, 200)) / 4 + 3 * strata + 0.5 * members).astype(np.float32)
    of_groups = dict(zip("ab", np.split(peaks.T, [100]), strict=True))
    features = BiasFeatures(of_groups, peaks.min(axis=1), peaks.max(axis=1))
    found = bias_chance(features, [f"photograph {number}" for number in range(sum(sizes))], strata, resamples=5)
    evidence = BiasEvidence(ConceptBias("kind", ("a", "b"), features.probabilities()), found, [], ALPHA)
    assert (found.auc[:, 0] > 0.7).all() and (found.q < 1e-6).all() and not found.favours[:, 0].any()
    assert set(evidence.verdicts[:, 0]) == {"not shown"} and "biased" not in evidence.verdicts


def test_a_difference_that_untrained_twins_have_too_is_not_beyond_chance():
    worlds = {"one": world(4, np.full(24, 1.5), resamples=200), "other": world(7, np.zeros(24), resamples=200)}
    expected = {}
    for name, of in worlds.items():
        together = np.concatenate([chance.auc for _, chance in of.twins])
        judged = [
            [[plain_verdict(BiasEvidence(bias, chance, [], ALPHA), unit, group, bias.probabilities[unit, group],
                            chance.auc[unit, group], together[:, group]) == "biased" for group in range(2)]
             for unit in range(24)]
            for bias, chance in of.twins
        ]  # fmt: skip
        expected[name] = np.mean(judged, axis=1)
        assert of.twin_shares().tolist() == expected[name].tolist()
    (told,) = Compared("kind", worlds, ["a", "b"]).differences
    untrained = [max(abs(a - b) for a in expected["one"][:, g] for b in expected["other"][:, g]) for g in range(2)]
    assert told.untrained.tolist() == untrained and 0 < max(untrained) < 0.2
    assert told.beyond_chance(ALPHA).tolist() == [False, True]
    assert towards_the_first((50, 50), 1).twin_shares().shape == (0, 2)
