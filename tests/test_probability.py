"""Image weights, regions and subgroups against loops written from method.md §4 and §5, and planted truth."""

import time

import numpy as np
import pytest

from method.bias import BiasFeatures, ConceptBias, as_dict
from method.bias_chance import BiasChance
from method.bias_evidence import BiasEvidence
from method.probability import bias_threshold, group_probabilities, image_weights, ranks, region_probabilities
from report.bias import Told, table, write_text


def plain_weights(peaks, lowest, highest):
    """One unit: peaks a list of numbers."""
    count = len(peaks)
    weights = [0.0] * count
    for image, peak in enumerate(peaks):
        below, equal = sum(other < peak for other in peaks), sum(other == peak for other in peaks)
        rank = (below + (equal + 1) / 2) / count  # the mean of the positions that equal peaks take
        if highest > lowest:
            weights[image] = rank * (peak - lowest) / (highest - lowest)
    return weights


def plain_groups(peaks, lowest, highest, members, n_groups):
    weights = plain_weights(peaks, lowest, highest)
    scores = []
    for group in range(n_groups):
        of_group = [weight for weight, member in zip(weights, members, strict=True) if member == group]
        scores.append(sum(of_group) / len(of_group))
    total = sum(scores)
    return [score / total if total else 0.0 for score in scores]


def plain_region(iou, peaks, lowest, highest, carries):
    weights = plain_weights(peaks, lowest, highest)
    scores = []
    for concept, overlap in enumerate(iou):
        of_concept = [weight for weight, row in zip(weights, carries, strict=True) if row[concept]]
        scores.append(overlap * sum(of_concept) / len(of_concept))
    total = sum(scores)
    return [score / total if total else 0.0 for score in scores]


def made_up(units=7, images=23, seed=0):
    """Peaks with ties, a constant unit, bounds beyond the peaks."""
    random = np.random.default_rng(seed)
    peaks = np.round(random.standard_normal((units, images)), 1).astype(np.float32)
    peaks[2] = 1.5
    lowest, highest = peaks.min(axis=1) - 0.5, peaks.max(axis=1)
    lowest[2] = highest[2] = 1.5
    return random, peaks, lowest, highest


def test_weights_equal_the_plain_loop():
    _, peaks, lowest, highest = made_up()
    expected = [plain_weights(*(row.tolist() for row in rows)) for rows in zip(peaks, lowest, highest, strict=True)]
    weights = image_weights(peaks, lowest, highest)
    assert np.allclose(weights, expected, atol=1e-9, rtol=0)
    assert not weights[2].any()
    assert weights.max() <= 1


def test_equal_peaks_share_the_mean_of_their_positions():
    peaks = np.array([[1, 2, 1, 2], [3, 3, 3, 3], [4, 3, 2, 1]])
    assert (4 * ranks(peaks)).tolist() == [[1.5, 3.5, 1.5, 3.5], [2.5] * 4, [4, 3, 2, 1]]
    assert (4 * ranks(peaks, "order")).tolist() == [[1, 3, 2, 4], [1, 2, 3, 4], [4, 3, 2, 1]]
    assert image_weights(peaks[:1], [0], [2])[0].tolist() == [1.5 / 4 / 2, 3.5 / 4, 1.5 / 4 / 2, 3.5 / 4]
    random = np.random.default_rng(0)
    many = random.integers(0, 5, (20, 33)).astype(np.float32)
    below = (many[:, None, :] < many[:, :, None]).sum(axis=2)
    equal = (many[:, None, :] == many[:, :, None]).sum(axis=2)
    assert np.allclose(33 * ranks(many), below + (equal + 1) / 2, atol=1e-12)


def test_a_unit_that_saturates_leans_to_nobody():
    # Behind ReLU6 most peaks are 6: ranked in the order of the images, the last group would have the higher ranks.
    random = np.random.default_rng(0)
    peaks = np.minimum(random.exponential(20, (8, 400)), 6).astype(np.float32)
    members = np.repeat([0, 1], 200)
    bounds = np.zeros(8), np.full(8, 6)
    assert (group_probabilities(peaks, *bounds, members) < bias_threshold(2)).all()
    in_order = group_probabilities(peaks, *bounds, members, ties="order")
    assert (in_order[:, 1] >= bias_threshold(2)).all()


@pytest.mark.parametrize("sizes", [(11, 12), (1, 22), (3, 9, 5, 6), (20, 1, 2)])
def test_subgroups_of_any_sizes_equal_the_plain_loop(sizes):
    _, peaks, lowest, highest = made_up()
    members = np.repeat(np.arange(len(sizes)), sizes)
    expected = [
        plain_groups(peaks[u].tolist(), float(lowest[u]), float(highest[u]), members, len(sizes)) for u in range(7)
    ]
    found = group_probabilities(peaks, lowest, highest, members)
    assert np.allclose(found, expected, atol=1e-9, rtol=0)
    assert found[2].tolist() == [0] * len(sizes)
    assert np.allclose(np.delete(found, 2, axis=0).sum(axis=1), 1)


def test_an_empty_subgroup_is_refused():
    _, peaks, lowest, highest = made_up()
    with pytest.raises(ValueError, match="none may be empty"):
        group_probabilities(peaks, lowest, highest, np.array([0] * 20 + [2] * 3))


def test_regions_equal_the_plain_loop():
    random, peaks, lowest, highest = made_up()
    carries = random.random((23, 4)) > 0.5  # many images carry several concepts of the region
    carries[~carries.any(axis=1), 1] = True
    iou = random.random((7, 4))
    iou[4] = 0
    expected = [
        plain_region(iou[u].tolist(), peaks[u].tolist(), float(lowest[u]), float(highest[u]), carries) for u in range(7)
    ]
    found = region_probabilities(iou, peaks, lowest, highest, carries)
    assert np.allclose(found, expected, atol=1e-9, rtol=0)
    assert not found[[2, 4]].any()
    with pytest.raises(ValueError, match="none may be absent"):
        region_probabilities(iou, peaks, lowest, highest, np.column_stack([carries[:, :3], np.zeros(23, bool)]))


def test_the_thresholds_are_the_published_ones():
    assert bias_threshold(2) == pytest.approx(0.55)
    assert bias_threshold(4) == pytest.approx(0.30)


# ------------------------------------------------------------------------------------------------------ planted truth


def test_a_unit_that_prefers_a_subgroup_comes_out_biased_with_the_probability_worked_out_by_hand():
    # Two images per group. Unit 0 peaks at 1, 2 for the first and 3, 4 for the second; its maps start at 0. Weights:
    # 1/4 * 1/4, 2/4 * 2/4, 3/4 * 3/4, 1 * 1; means 5/32 and 25/32; probabilities 5/30 and 25/30.
    # Unit 1 peaks at 2 everywhere: equal ranks, and no preference.
    first = np.array([[1, 2], [2, 2]], np.float32)
    second = np.array([[3, 2], [4, 2]], np.float32)
    features = BiasFeatures({"male": first, "female": second}, np.zeros(2, np.float32), np.array([4, 2], np.float32))
    bias = ConceptBias("gender", ("male", "female"), features.probabilities())
    assert np.allclose(bias.probabilities, [[1 / 6, 5 / 6], [0.5, 0.5]], atol=1e-12)
    assert bias.verdict(0) == "biased : female 0.8333"
    assert bias.counts() == {"male": 0, "female": 1, "unbiased": 1}


def test_shuffled_labels_leave_no_more_biased_units_than_chance():
    random = np.random.default_rng(0)
    units, images = 300, 800
    labels = np.repeat([0, 1], images // 2)
    peaks = random.standard_normal((units, images)) + 1.2 * labels
    bounds = peaks.min(axis=1), peaks.max(axis=1)
    true = ConceptBias("gender", ("a", "b"), group_probabilities(peaks, *bounds, labels))
    shuffled = ConceptBias("gender", ("a", "b"), group_probabilities(peaks, *bounds, random.permutation(labels)))
    assert true.counts()["b"] == units
    assert shuffled.counts()["unbiased"] >= 0.99 * units


def test_verdicts_name_every_subgroup_that_reaches_the_threshold():
    bias = ConceptBias(
        "age", tuple("abcd"), np.array([[0.3, 0.35, 0.31, 0.04], [0.25, 0.25, 0.25, 0.25], [0, 0, 0, 0]])
    )
    assert [bias.verdict(unit) for unit in range(3)] == [
        "biased : b 0.3500, c 0.3100, a 0.3000",
        "unbiased",
        "unbiased",
    ]
    assert bias.counts() == {"a": 1, "b": 1, "c": 1, "d": 0, "unbiased": 2}
    assert table(bias)[-1] == ("unbiased", "2", "", "")


def test_the_text_reads_like_the_hierarchys(tmp_path):
    bias = ConceptBias("gender", ("male", "female"), np.array([[0.25, 0.75], [0.5, 0.5]]))
    nan, zeros = np.full((2, 2), np.nan), np.zeros((2, 2))
    auc, none = np.array([[0.25, 0.75], [0.5, 0.5]]), np.empty((2, 2, 0), np.float32)
    found = BiasChance(nan, nan, auc, auc, auc, zeros, zeros, auc > 0.5, np.array([400, 400]), none, none)
    write_text(tmp_path / "text", Told("layer", {}, [BiasEvidence(bias, found, [], 0.05)], []))
    expected = (
        "Unit : 0\n\tConcept : gender\n\t{\n\t\tmale : 0.25\n\t\tfemale : 0.75\n\t}\n\tbiased : female 0.7500\n"
        "\tchance : male unbiased, AUC 0.2500 (0.2500 to 0.2500), q 0\n"
        "\tchance : female biased, AUC 0.7500 (0.7500 to 0.7500), q 0\n"
        "Unit : 1\n\tConcept : gender\n\t{\n\t\tmale : 0.5\n\t\tfemale : 0.5\n\t}\n\tunbiased\n"
        "\tchance : male unbiased, AUC 0.5000 (0.5000 to 0.5000), q 0\n"
        "\tchance : female unbiased, AUC 0.5000 (0.5000 to 0.5000), q 0\n"
    )
    assert (tmp_path / "text").read_text() == expected
    assert as_dict([bias]) == {
        0: {"gender": {"male": 0.25, "female": 0.75}}, 1: {"gender": {"male": 0.5, "female": 0.5}},
    }  # fmt: skip


def test_fifteen_thousand_images_and_512_units_are_quick():
    # No timing to the second, which a shared machine would break: the bound is ten times what it takes.
    random = np.random.default_rng(0)
    groups = {f"group {number}": random.random((3750, 512), np.float32) for number in range(4)}
    features = BiasFeatures(groups, np.zeros(512, np.float32), np.ones(512, np.float32))
    start = time.process_time()
    features.probabilities()
    assert time.process_time() - start < 20
