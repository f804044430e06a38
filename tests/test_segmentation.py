"""Thresholds, upsampling and counting, on arrays that can be checked by hand or by a plain loop."""

import numpy as np
import pytest
import torch

from method.quantile import exact_quantile, ordered_bits
from method.segmentation import (
    active_pixels,
    count_overlap,
    count_pixels,
    float32_floor,
    interpolation_table,
    pack,
    packed_active_pixels,
    upsample,
)
from tests import plain_reference


def quantile_of(values, q, block=2):
    """exact_quantile over blocks of (n, U, P) values."""
    blocks = [values[start : start + block] for start in range(0, len(values), block)]
    count = values.shape[0] * values.shape[2]
    return exact_quantile(lambda function: map(function, blocks), values.shape[1], count, q)


@pytest.mark.parametrize("q", [0, 0.25, 0.5, 1 - 0.005, 0.9999, 1])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2), (5, 2, 7), (9, 4, 31)])
@pytest.mark.parametrize("kind", ["normal", "rectified", "ties", "constant", "tiny", "huge"])
def test_quantiles_equal_numpys_to_the_last_bit(kind, shape, q):
    values = np.random.default_rng(len(kind)).standard_normal(shape).astype(np.float32)
    values = {
        "normal": values,
        "rectified": np.maximum(values, 0),
        "ties": np.round(values),
        "constant": np.full_like(values, -3.3),
        "tiny": values * np.float32(1e-42),
        "huge": values * np.float32(5e37),
    }[kind]
    expected = [np.quantile(values[:, unit].astype(np.float64), q) for unit in range(shape[1])]
    assert quantile_of(values, q).tolist() == expected


def test_zero_and_minus_zero_are_one_number():
    values = np.array([[[-0.0, 0.0, -0.0, 1.0]]], np.float32)
    assert quantile_of(values, 0.5)[0] == 0
    assert len(set(ordered_bits(values)[0, 0, :3])) == 1


def test_the_bits_are_in_the_order_of_the_numbers():
    numbers = np.array([-np.inf, -3e38, -1.5, -1e-45, 0, 1e-45, 1, 1.0000001, 3e38, np.inf], np.float32)
    assert (np.diff(ordered_bits(numbers).astype(np.int64)) > 0).all()


def test_pixel_centres_lie_at_half_integers():
    lower, weight = interpolation_table(2, 4)
    assert lower.tolist() == [0, 0, 0, 1]
    assert weight.tolist() == [0, 0.25, 0.75, 0]
    lower, weight = interpolation_table(4, 2)
    assert (lower + weight).tolist() == [0.5, 2.5]


@pytest.mark.parametrize(
    ("size", "grid"),
    [((4, 4), (16, 16)), ((3, 5), (7, 7)), ((1, 1), (6, 6)), ((13, 2), (13, 13)), ((9, 8), (4, 4)), ((3, 4), (11, 6))],
)
def test_upsampling_equals_the_plain_loop_exactly_and_torch_closely(size, grid):
    maps = np.random.default_rng(0).standard_normal((5, *size)).astype(np.float32)
    fast = upsample(maps, grid)
    assert np.array_equal(fast, np.stack([plain_reference.upsample(one, grid) for one in maps]))
    known = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], grid, mode="bilinear")[0].numpy()
    assert np.allclose(fast, known, atol=2e-6)


def test_a_map_not_above_its_threshold_never_becomes_active():
    random = np.random.default_rng(1)
    maps = random.standard_normal((200, 3, 4)) * 10.0 ** random.integers(-20, 20, (200, 3, 4))
    maps = maps.astype(np.float32)
    maps[:50] = maps[:50, :1, :1]  # constant maps, whose every pixel must stay at the constant
    assert not active_pixels(maps, maps.max(axis=(1, 2)).astype(np.float64), (37, 37)).any()


def test_float32_numbers_compare_with_a_float64_threshold_as_they_should():
    exact = np.float64(np.float32(0.1))
    for threshold in (exact, exact + 1e-12, exact - 1e-12, 0.3, -0.3, 0.0):
        limit = float32_floor(np.array([threshold]))[0]
        near = np.float32(threshold)
        for number in (np.nextafter(near, np.float32(-1)), near, np.nextafter(near, np.float32(1))):
            assert (number > limit) == (np.float64(number) > threshold)


def test_pixels_are_counted_exactly():
    random = np.random.default_rng(2)
    active, masks = random.random((3, 9, 9)) > 0.5, random.random((2, 9, 9)) > 0.7
    expected = [[int((unit & mask).sum()) for mask in masks] for unit in active]
    assert count_overlap(pack(active), pack(masks)).tolist() == expected
    assert count_pixels(pack(active)).tolist() == active.sum(axis=(1, 2)).tolist()
    assert pack(np.zeros((0, 9, 9), bool)).shape == (0, 2)


def test_any_number_of_maps_is_packed_as_one_by_one():
    maps = np.random.default_rng(3).standard_normal((19, 4, 4)).astype(np.float32)
    thresholds = np.linspace(-1, 1, 19)
    packed = packed_active_pixels(maps, thresholds, (10, 10))
    assert np.array_equal(packed, pack(active_pixels(maps, thresholds, (10, 10))))
    assert packed_active_pixels(maps[:0], thresholds[:0], (10, 10)).shape == (0, 2)


def test_grids_that_differ_are_refused():
    with pytest.raises(ValueError, match="one grid for both"):
        count_overlap(np.zeros((1, 2), np.uint64), np.zeros((1, 3), np.uint64))
