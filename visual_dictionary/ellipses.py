"""The Gaussian-ellipse rule: from the 68 landmarks of a face to the mask of any local concept (method.md §1.4).

The mean and the covariance of a concept's landmarks define a Gaussian, and the confidence ellipse of that Gaussian,
filled, is the concept's mask. Which landmarks and how many standard deviations is data: ELLIPSE_RULES.

Landmarks are the 68 iBUG points, counted from 0, in pixels of the image as a viewer shows it. "Left" is left in the
image, which is the subject's right:
    0..16 jaw, left ear to right ear (8 is the chin)       17..21 left brow     22..26 right brow
    27..30 ridge of the nose, 31..35 nostrils              36..41 left eye      42..47 right eye
    48..59 outer lip line from the left corner clockwise (54 is the right corner), 60..67 inner lip line

Pixel centres lie at whole numbers, as landmark detectors count them: the landmark (10, 20) is the centre of the pixel
in column 10, row 20. A pixel belongs to an ellipse when its centre lies inside or on the edge. Worked: the circle of
radius 1 around (10, 20) covers five pixels, that one and its four neighbours; around (10.5, 20.5) it covers the four
pixels of columns 10, 11 and rows 20, 21, whose centres are 0.71 away.
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


def mirrored_landmark(number):
    """The landmark that changes places with this one in a mirror. number: 0..67."""
    # Each row (first, last, sum): the numbers first..last pair up so that a pair adds up to sum.
    pairs = ((0, 16, 16), (17, 26, 43), (31, 35, 66), (36, 39, 81), (42, 45, 81), (40, 41, 87), (46, 47, 87),
             (48, 54, 102), (55, 59, 114), (60, 64, 124), (65, 67, 132))  # fmt: skip
    for first, last, total in pairs:
        if first <= number <= last:
            return total - number
    return number  # the ridge of the nose


def _mirrored_point(point):
    if isinstance(point, Between):
        return Between(_mirrored_point(point.first), _mirrored_point(point.second), point.share)
    return mirrored_landmark(point)


def mirrored(ellipse):
    """The same ellipse on the other side of the face."""
    return replace(ellipse, points=tuple(_mirrored_point(point) for point in ellipse.points))


def both_sides(ellipse):
    """A rule of two ellipses: this one and its mirror image."""
    return ellipse, mirrored(ellipse)


# Where the three published sample entries show a concept, its numbers are fitted to their masks; the other concepts
# follow the anatomy of the face.

# The ellipses that several concepts share, each for the left side of the image.
_BROW = Ellipse((*LEFT_BROW,), deviations=1.5, minor_to_major=0.5)
_EYE = Ellipse((*LEFT_EYE,), deviations=1.9)
_MOUTH = Ellipse((*MOUTH,))
# From the eye line to under the nostrils. The tip counts twice: it stands forward, so that in a turned face the nose
# lies on its side of the ridge.
_NOSE = Ellipse((27, 30, 30, Between(30, 33), 33), deviations=2.4, minor_to_major=0.45)
# The space between eye, nose, mouth corner and jaw, about as wide as it is high.
_CHEEK = Ellipse((1, 2, 31, 48, Between(41, 48)), deviations=1.6, minor_to_major=0.9)
# The lower lid and the skin beneath it, down to about a third of the way to mouth and nostril.
_UNDER_EYE = Ellipse((40, 41, Between(36, 48, 0.15), Between(39, 31, 0.2), Between(41, 48, 0.35), Between(40, 31, 0.5)))
# Lips, chin and jaw, up to the level of the nostrils: where a beard would be.
_LOWER_FACE = Ellipse((*range(4, 13), *OUTER_LIPS), deviations=2.7)

# Local concept -> the ellipses whose union is its mask. Action units follow the muscle that moves the skin (FACS).
ELLIPSE_RULES = {
    # Action units.
    "AU_1": both_sides(Ellipse((19, 20, 21), minor_to_face=0.14)),  # inner brow raiser
    "AU_2": both_sides(Ellipse((17, 18, 19), minor_to_face=0.14)),  # outer brow raiser
    "AU_4": (Ellipse((*range(17, 29),)),),  # brow lowerer: both brows and the space between them
    "AU_5": both_sides(Ellipse((36, 37, 38, 39, Between(37, 19), Between(38, 20)))),  # upper lid raiser
    "AU_6": both_sides(Ellipse((36, 39, 40, 41, Between(41, 48, 0.4), Between(36, 2, 0.5)), minor_to_major=0.4)),
    "AU_9": (Ellipse((*range(27, 36), 39, 42), deviations=1.8),),  # nose wrinkler
    "AU_12": (Ellipse((*MOUTH, Between(48, 2, 0.3), Between(54, 14, 0.3))),),  # lip corner puller
    "AU_15": (Ellipse((*OUTER_LIPS, Between(48, 6, 0.4), Between(54, 10, 0.4))),),  # lip corner depressor
    "AU_17": (Ellipse((7, 8, 9, 56, 57, 58), deviations=1.8, minor_to_major=0.6),),  # chin raiser
    "AU_20": (Ellipse((*MOUTH, Between(48, 4, 0.35), Between(54, 12, 0.35))),),  # lip stretcher
    "AU_25": (_MOUTH,),  # lips part
    "AU_26": (replace(_LOWER_FACE, deviations=2.2),),  # jaw drop
    # Parts.
    "nose": (_NOSE,),
    "left_brow": (_BROW,),
    "right_brow": (mirrored(_BROW),),
    "left_eye": (_EYE,),
    "right_eye": (mirrored(_EYE),),
    "mouth": (_MOUTH,),
    "left_cheek": (_CHEEK,),
    "right_cheek": (mirrored(_CHEEK),),
    # Attributes.
    "5_o_Clock_Shadow": (_LOWER_FACE,),
    "Arched_Eyebrows": both_sides(replace(_BROW, minor_to_face=0.2)),
    "Bushy_Eyebrows": both_sides(_BROW),
    "No_Beard": (_LOWER_FACE,),
    "Bags_Under_Eyes": both_sides(_UNDER_EYE),
    "Big_Lips": (_MOUTH,),
    "Big_Nose": (_NOSE,),
    "Double_Chin": (Ellipse((*range(5, 12), Between(57, 8, 1.5)), deviations=1.8, minor_to_major=0.4),),
    "Eyeglasses": (Ellipse((*LEFT_EYE, *RIGHT_EYE, 27, 28), minor_to_face=0.4),),
    "Goatee": (Ellipse((*range(6, 11), *range(55, 60)), deviations=1.8),),
    "High_Cheekbones": both_sides(_CHEEK),
    "Rosy_Cheeks": both_sides(_CHEEK),
    "Mouth_Slightly_Open": (_MOUTH,),
    "Mustache": (Ellipse((*range(31, 36), *range(48, 55))),),
    "Narrow_Eyes": both_sides(_EYE),
    "Pointy_Nose": (_NOSE,),
    "Smiling": (_MOUTH,),
    "Wearing_Lipstick": (_MOUTH,),
}


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


def concept_mask(concept, landmarks, height, width):
    """Draw the mask of a local concept (method.md §1.4).

    concept: a key of ELLIPSE_RULES. landmarks: (68, 2), (x, y) in pixels. height, width: of the image, pixels.
    Returns uint8 (height, width), 0 or 255; all 0 when the ellipse lies outside the image. Raises ValueError for a
    concept without a rule and for landmarks of another shape.
    """
    if concept not in ELLIPSE_RULES:
        raise ValueError(f"no ellipse rule for {concept!r}: add a row to ELLIPSE_RULES")
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != (LANDMARKS, 2):
        raise ValueError(f"landmarks are {landmarks.shape}, expected ({LANDMARKS}, 2)")
    mask = np.zeros((height, width), np.uint8)
    for ellipse in ELLIPSE_RULES[concept]:
        fill_ellipse(mask, *fit_ellipse(ellipse, landmarks))
    return mask
