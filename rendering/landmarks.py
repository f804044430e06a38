"""The 68 landmarks of a face, and ellipses laid over them.

Landmarks are the 68 iBUG points, counted from 0, in pixels of the image as a viewer shows it. "Left" is left in the
image, which is the subject's right:
    0..16 jaw, left ear to right ear (8 is the chin)       17..21 left brow     22..26 right brow
    27..30 ridge of the nose, 31..35 nostrils              36..41 left eye      42..47 right eye
    48..59 outer lip line from the left corner clockwise (54 is the right corner), 60..67 inner lip line

The mean and the covariance of some of them define a Gaussian, whose confidence ellipse, filled, is a concept's mask
(method.md §1.4). Pixel centres lie at whole numbers, as landmark detectors count them: the landmark (10, 20) is the
centre of the pixel in column 10, row 20. A pixel belongs to an ellipse when its centre lies inside or on the edge.
Worked: the circle of radius 1 around (10, 20) covers five pixels, that one and its four neighbours; around (10.5, 20.5)
it covers the four pixels of columns 10, 11 and rows 20, 21, whose centres are 0.71 away.
"""

from dataclasses import dataclass, replace

import numpy as np

LANDMARKS = 68

# No semi-axis is shorter than this, so that even a degenerate face gives an ellipse: a circle of this radius holds
# the centre of at least one pixel wherever it lies, because none is further away than 0.71 px.
LEAST_SEMI_AXIS_PX = 1.0

LEFT_BROW = range(17, 22)
LEFT_EYE, RIGHT_EYE = range(36, 42), range(42, 48)
MOUTH, OUTER_LIPS = range(48, 68), range(48, 60)

# For each landmark the one that changes places with it in a mirror.
MIRROR = np.r_[16:-1:-1, 26:16:-1, 27:31, 35:30:-1, 45:41:-1, 47, 46, 39:35:-1, 41, 40,
               54:47:-1, 59:54:-1, 64:59:-1, 67:64:-1].tolist()  # fmt: skip


@dataclass(frozen=True)
class Between:
    """A derived point, share of the way from one point to another; below 0 or above 1 it lies beyond them.

    first, second: landmark numbers, or derived points themselves.
    """

    first: "int | Between"
    second: "int | Between"
    share: float = 0.5


@dataclass(frozen=True)
class Ellipse:
    """One ellipse of a rule.

    points: landmark numbers and Between, whose mean and covariance define the Gaussian. deviations: the semi-axes in
    standard deviations. minor_to_major, minor_to_face: the least minor semi-axis, as a share of the major semi-axis
    and of the face size (face_size_px); a row of points such as a brow has hardly any thickness of its own.
    """

    points: tuple
    deviations: float = 2.0
    minor_to_major: float = 0.0
    minor_to_face: float = 0.0


def mirrored(shape):
    """The same on the other side of the face. shape: Ellipse, Between or the number of a landmark."""
    if isinstance(shape, Ellipse):
        return replace(shape, points=tuple(mirrored(point) for point in shape.points))
    if isinstance(shape, Between):
        return replace(shape, first=mirrored(shape.first), second=mirrored(shape.second))
    return MIRROR[shape]


def both_sides(ellipse):
    """A rule of two ellipses: this one and its mirror image."""
    return ellipse, mirrored(ellipse)


def face_size_px(landmarks):
    """The size of a face that no turn of the head hides. landmarks: (68, 2). Returns pixels, 0 or more.

    The larger of two distances that are about equal in a face seen from the front: from eye to eye, which a turn
    to the side shortens, and from the eyes to the mouth, which a nod shortens.
    """
    left_eye, right_eye = landmarks[LEFT_EYE].mean(axis=0), landmarks[RIGHT_EYE].mean(axis=0)
    eyes_to_mouth = landmarks[MOUTH].mean(axis=0) - (left_eye + right_eye) / 2
    return float(max(np.linalg.norm(right_eye - left_eye), np.linalg.norm(eyes_to_mouth)))


def locate(point, landmarks):
    """Where a point of a rule lies. point: landmark number or Between; landmarks: (68, 2). Returns (2,), (x, y) px."""
    if isinstance(point, Between):
        first, second = locate(point.first, landmarks), locate(point.second, landmarks)
        return first + point.share * (second - first)
    return landmarks[point]


def fit_ellipse(ellipse, landmarks):
    """Lay one ellipse of a rule over a face (method.md §1.4).

    ellipse: Ellipse. landmarks: float (68, 2), (x, y) in pixels. Returns the centre (2,), the semi-axes (2,), minor
    before major, in pixels, and their directions (2, 2), one unit vector (x, y) per column.
    """
    points = np.array([locate(point, landmarks) for point in ellipse.points], dtype=np.float64)
    centre = points.mean(axis=0)
    covariance = (points - centre).T @ (points - centre) / len(points)
    variances, directions = np.linalg.eigh(covariance)  # ascending: minor before major
    # Points on a line have a variance of 0, which rounding can push below it.
    minor, major = ellipse.deviations * np.sqrt(np.maximum(variances, 0.0))
    minor = max(minor, ellipse.minor_to_major * major, ellipse.minor_to_face * face_size_px(landmarks))
    return centre, np.maximum((minor, major), LEAST_SEMI_AXIS_PX), directions


def fill_ellipse(mask, centre, semi_axes, directions):
    """Set the pixels of an ellipse to 255, in place. mask: uint8 (H, W); the rest as fit_ellipse returns it."""
    height, width = mask.shape
    # Half the sides of the ellipse's upright bounding box: only the pixels in it have to be asked. The margins here and
    # below keep a pixel centre on the very edge inside, whatever the rounding of the square root.
    reach = np.sqrt(((directions * semi_axes) ** 2).sum(axis=1)) + 1e-6
    left, top = np.clip(np.ceil(centre - reach), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.floor(centre + reach) + 1, 0, (width, height)).astype(int)
    x = np.arange(left, right)[None, :] - centre[0]
    y = np.arange(top, bottom)[:, None] - centre[1]
    minor, major = ((x * directions[0, axis] + y * directions[1, axis]) / semi_axes[axis] for axis in (0, 1))
    mask[top:bottom, left:right][minor**2 + major**2 <= 1 + 1e-9] = 255


def draw_mask(ellipses, landmarks, height, width):
    """Draw the union of ellipses. ellipses: of a rule; landmarks: (68, 2), (x, y) in pixels.

    Returns uint8 (height, width), 0 or 255; all 0 when they lie outside the image. Raises ValueError for landmarks of
    another shape.
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != (LANDMARKS, 2):
        raise ValueError(f"landmarks are {landmarks.shape}, expected ({LANDMARKS}, 2)")
    mask = np.zeros((height, width), np.uint8)
    for ellipse in ellipses:
        fill_ellipse(mask, *fit_ellipse(ellipse, landmarks))
    return mask
