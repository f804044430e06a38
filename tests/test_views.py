"""What a network sees of a photograph: boxes, aligned faces, and grids that are not square."""

import cv2
import numpy as np
import pytest

from dictionary.faces import Face
from dictionary.views import Chip, Part, view_of
from loader.crops import TEMPLATES, Crop, read_crop
from util.errors import DissectionError


def placed(kind, margin, angle, side_px, corner):
    """Points of a face whose square, margin included, is turned and side_px large and has its corner there.

    angle: degrees. Returns (points, complex function of a place in the square that gives its place in the photograph).
    """
    turn = np.exp(1j * np.deg2rad(angle)) * side_px

    def into_photograph(place):
        return complex(*corner) + turn * place

    points = [into_photograph(complex(x + margin, y + margin) / (1 + 2 * margin)) for x, y in TEMPLATES[kind]]
    return tuple((point.real, point.imag) for point in points), into_photograph


def face_with(points, size=(300, 300)):
    return Face((10.0, 20.0, 60.0, 100.0), points, size)


@pytest.mark.parametrize(("kind", "margin"), [("dlib", 0.2), ("arcface", 0.0), ("dlib", -0.1)])
def test_a_face_is_brought_onto_its_template(kind, margin):
    points, _ = placed(kind, margin, 25, 120, (150, 60))
    view = view_of(face_with(points), Crop(kind, margin))
    x, y = np.array(points).T
    columns, rows = view.place(x, y, None, (112, 112))
    wanted = (np.array(TEMPLATES[kind]) + margin) / (1 + 2 * margin) * 112
    assert np.allclose(np.stack([columns, rows], axis=1), wanted, atol=1e-6)


def test_arcface_of_a_narrow_grid_has_the_published_points():
    # Sphere-like networks of 112 x 96 take the template of 112 x 112 less 8 pixels on each side.
    points, _ = placed("arcface", 0, 0, 112, (0, 0))
    view = view_of(face_with(points), Crop("arcface"))
    columns, rows = view.place(*np.array(points).T, None, (112, 96))
    assert columns[0] == pytest.approx(30.2946, abs=1e-3)
    assert rows[0] == pytest.approx(51.6963, abs=1e-3)


@pytest.mark.parametrize("angle", [0, 33, -90])
@pytest.mark.parametrize("side_px", [40, 64, 250])
def test_photograph_and_mask_of_a_chip_agree(angle, side_px):
    points, into_photograph = placed("dlib", 0.2, angle, side_px, (400, 390))
    drawn = np.zeros((800, 780), np.uint8)
    corners = [into_photograph(place) for place in (0.25 + 0.25j, 0.75 + 0.25j, 0.75 + 0.75j, 0.25 + 0.75j)]
    outline = np.round([[(corner.real - 0.5) * 16, (corner.imag - 0.5) * 16] for corner in corners]).astype(int)
    cv2.fillConvexPoly(drawn, outline, 255, shift=4)
    view = view_of(face_with(points, (780, 800)), Crop("dlib", 0.2))
    seen = view.image(np.repeat(drawn[:, :, None], 3, axis=2), (64, 64))
    found = view.mask(drawn > 0, (64, 64))
    assert found[20:44, 20:44].all() and not found[:12].any() and not found[:, :12].any()
    # Within the width of a pixel of either, both have the square where it was drawn.
    differing = np.count_nonzero((seen[:, :, 0] > 127) != found)
    assert differing <= 4 * 32 * max(1, 64 / side_px)
    assert abs(np.count_nonzero(found) - 32 * 32) <= 4 * 32 * max(1, 64 / side_px)


def test_an_upright_chip_of_whole_pixels_is_the_photograph_itself():
    random = np.random.default_rng(0)
    photograph = random.integers(0, 256, (100, 90, 3), np.uint8)
    points, _ = placed("dlib", 0.2, 0, 64, (10, 20))
    view = view_of(face_with(points, (90, 100)), Crop("dlib", 0.2))
    assert np.array_equal(view.image(photograph, (64, 64)), photograph[20:84, 10:74])
    assert np.array_equal(view.mask(photograph[:, :, 0], (64, 64)), photograph[20:84, 10:74, 0])


def test_a_chip_that_shrinks_averages_what_each_pixel_covers():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 200
    points, _ = placed("dlib", 0.2, 0, 320, (40, 40))
    seen = view_of(face_with(points, (400, 400)), Crop("dlib", 0.2)).image(stripes, (32, 32))
    assert np.abs(seen.astype(int) - 100).max() <= 2  # single samples would give 0 or 200


def test_beyond_the_photograph_there_is_black_and_no_concept():
    points, _ = placed("dlib", 0.2, 0, 60, (-30, -30))
    view = view_of(face_with(points, (50, 50)), Crop("dlib", 0.2))
    assert not view.image(np.full((50, 50, 3), 255, np.uint8), (60, 60))[:29].any()
    assert not view.mask(np.ones((50, 50), bool), (60, 60))[:30].any()
    assert view.mask(np.ones((50, 50), bool), (60, 60))[30:, 30:].all()


def test_a_grid_that_is_not_square():
    photograph = np.random.default_rng(0).integers(0, 256, (56, 48, 3), np.uint8)
    assert Part().image(photograph, (112, 96)).shape == (112, 96, 3)
    mask = photograph[:, :, 0] > 100
    assert np.array_equal(Part().mask(mask, (112, 96)), np.kron(mask, np.ones((2, 2), bool)))


def test_the_margin_of_a_box():
    face = face_with((), (70, 110))
    assert view_of(face, Crop("box")).box == (10, 20, 60, 100)
    assert view_of(face, Crop("box", 0.1)).box == (5, 12, 65, 108)
    assert view_of(face, Crop("box", 0.5)).box == (0, 0, 70, 110)  # cut at the edges of the photograph
    assert view_of(face, Crop("box", -0.1)).box == (15, 28, 55, 92)
    assert view_of(Face((80.0, 20.0, 90.0, 30.0), (), (70, 110)), Crop("box")) is None


@pytest.mark.parametrize("crop", [Crop("box"), Crop("dlib", 0.2)])
def test_jitter_is_of_the_photograph_and_bounded(crop):
    face = face_with(placed("dlib", 0.2, 0, 100, (100, 100))[0])
    views = [view_of(face, crop, 0.1, digest) for digest in ("a", "b", "a")]
    assert views[0] == views[2] != views[1]
    still = view_of(face, crop)
    assert view_of(face, crop, 0.0, "a") == still
    for digest in map(str, range(50)):
        view = view_of(face, crop, 0.1, digest)
        x, y = view.place(np.array([35.0, 150.0]), np.array([60.0, 150.0]), None, (100, 100))
        middle = 0 if crop.kind == "box" else 1
        assert abs(x[middle] - 50) < 13 and abs(y[middle] - 50) < 13
        assert isinstance(view, Part if crop.kind == "box" else Chip)


def test_a_box_moves_by_a_share_of_the_whole_crop():
    face = Face((400.0, 400.0, 500.0, 600.0), (), (1000, 1000))
    boxes = np.array([view_of(face, Crop("box", 0.5), 0.1, digest).box for digest in map(str, range(100))])
    moved = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - (450, 500)).max(axis=0)
    assert (moved > (18, 36)).all() and (moved < (21, 41)).all()  # of 200 x 400 px, the margin included


def test_a_view_of_any_size_takes_little_memory():
    points, _ = placed("dlib", 0.2, 0, 20_000, (-9000, -9000))
    seen = view_of(face_with(points), Crop("dlib", 0.2)).image(np.full((300, 300, 3), 255, np.uint8), (64, 64))
    assert seen.shape == (64, 64, 3)  # OpenCV fails on more than 32,767 samples a side
    points, _ = placed("dlib", 0.2, 0, 1e9, (0, 0))
    view_of(face_with(points), Crop("dlib", 0.2)).image(np.zeros((300, 300, 3), np.uint8), (64, 64))


@pytest.mark.parametrize(
    ("words", "crop"),
    [
        ("whole", None), ("False", None), ("True", Crop("box")), ("box 0.3", Crop("box", 0.3)),
        ("dlib 0.2", Crop("dlib", 0.2)), ("ArcFace", Crop("arcface")), ("box -.1", Crop("box", -0.1)),
        ("box 1e-05", Crop("box", 0.00001)), ("box 0.12345678901", Crop("box", 0.12345678901)),
        ("box 1", Crop("box", 1.0)),
    ],
)  # fmt: skip
def test_crops_are_said_in_words(words, crop):
    assert read_crop(words) == crop
    assert crop is None or read_crop(str(crop)) == crop
    assert str(Crop("box", np.float64(0.25))) == "box 0.25"


@pytest.mark.parametrize(
    "words", ["", "face", "1", "dlib0.2.3", "box 9", "dlib -0.5", "dlib nan", "arcfase", "box 0.1 0.2"]
)
def test_other_words_are_refused(words):
    with pytest.raises(DissectionError, match="CROP|no crop"):
        read_crop(words)


def test_a_near_miss_is_recognised():
    with pytest.raises(DissectionError, match="did you mean arcface"):
        read_crop("arcfase")
