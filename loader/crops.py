"""What part of a photograph a network wants to see, as its loader file or CROP states it. The geometry of it is
dictionary/views.py's.

    None            the whole photograph
    box 0.2         the box that MTCNN finds, and 0.2 of its width and height more on each side
    square          the square in which O-Net sought that box, as far as the box tells; black beyond the photograph
    dlib 0.2        the face brought onto dlib's mean face, and 0.2 of that face's size more on each side
    arcface         the face brought onto the template of ArcFace's 112 x 112 pixels
"""

import re
from dataclasses import dataclass

from util.errors import DissectionError, nearest

# Where a template wants MTCNN's five points (the eye and the mouth corner on the left of the picture come first), as
# shares of the side of its square. dlib's: the means of the 68 points of its mean face in get_face_chip_details, eyes
# 36-41 and 42-47, nose 30, mouth corners 48 and 54. ArcFace's: the pixels of its 112 x 112 template.
TEMPLATES = {
    "dlib": (
        (0.225492, 0.215990), (0.754761, 0.215990), (0.490127, 0.515625), (0.254149, 0.780233), (0.726104, 0.780233),
    ),
    "arcface": tuple(
        (x / 112, y / 112)
        for x, y in ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
    ),
}  # fmt: skip
_KINDS = ("box", "square", *TEMPLATES)
_MOST_MARGIN = 5.0


@dataclass(frozen=True)
class Crop:
    """A face cut out of its photograph. Raises DissectionError when a value makes no sense.

    kind: 'box', 'square', or 'dlib' or 'arcface' for a face aligned to that template. margin: added on each side, as a
    share of the box or of the square; below 0 cuts off.
    """

    kind: str
    margin: float = 0.0

    def __post_init__(self):
        number = isinstance(self.margin, int | float) and not isinstance(self.margin, bool)
        if self.kind not in _KINDS or not (number and -0.5 < self.margin <= _MOST_MARGIN):
            raise DissectionError(
                f"Crop({self.kind!r}, {self.margin!r}) is no crop: its kind is one of {', '.join(_KINDS)}, its margin "
                f"a share of the face above -0.5 and at most {_MOST_MARGIN:g}"
            )

    @property
    def is_aligned(self):
        return self.kind in TEMPLATES

    def __str__(self):
        return f"{self.kind} {float(self.margin)!r}".removesuffix(".0") if self.margin else self.kind


def read_crop(words):
    """A crop as CROP says it: 'whole', or a kind and perhaps a margin, such as 'dlib 0.2'. Returns Crop or None.

    True and False are understood as 'box' and 'whole'. Raises DissectionError for other words.
    """
    text = str(words).strip().lower()
    text = {"true": "box", "false": "whole"}.get(text, text)
    if text == "whole":
        return None
    found = re.fullmatch(r"([a-z_]+)(?:\s+(-?\d*\.?\d+(?:e[+-]?\d+)?))?", text)
    if not found or found[1] not in _KINDS:
        close = nearest(text.partition(" ")[0], ("whole", *_KINDS))
        hint = f" (did you mean {close[0]}?)" if close else ""
        ways = "'whole', 'box', 'box 0.2', 'dlib 0.2', 'arcface'"
        raise DissectionError(f"CROP is {words!r}{hint}: it must be such as {ways}, the number being the margin")
    return Crop(found[1], float(found[2] or 0))


def as_grid(size):
    """The size of an input, a side or (height, width), as (rows, columns)."""
    return (size, size) if isinstance(size, int) else tuple(size)
