"""What a network sees of a photograph: the same geometry for the photograph, its masks and the report's highlight.

Places in a photograph are pixels (x, y) of the image as a viewer shows it; the centre of its first pixel is
(0.5, 0.5). A grid is (rows, columns): of the network's input, on which pixels are counted too.
"""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from loader.crops import TEMPLATES
from util.files import fingerprint

# The side of the samples that an aligned view is averaged from, at most: 200 MB of them.
_MOST_SAMPLES = 8192

# How the box in which MTCNN finds a face lies to the square that O-Net was shown, in sides of the square: its longer
# side, and how much higher its centre lies. Means of O-Net's own corrections over 536 portraits.
_BOX_OF_SQUARE, _BOX_ABOVE = 1.058, 0.0275


@dataclass(frozen=True)
class Part:
    """A part of the photograph, stretched to the grid. box: (left, top, right, bottom), whole pixels, right and bottom
    exclusive; None for the whole photograph. size: (width, height) of the photograph, None where any will do.
    """

    box: tuple | None = None
    size: tuple | None = None

    def image(self, photograph, grid):
        """The view of a photograph. uint8 (H, W, 3) -> uint8 (rows, columns, 3)."""
        return resize_image(self._cut(photograph), grid)

    def mask(self, mask, grid):
        """The view of a mask as large as its photograph. (H, W) -> (rows, columns)."""
        return resize_mask(self._cut(mask), grid)

    def place(self, x, y, size, grid):
        """Where places lie on the grid. x, y: float arrays that broadcast. size: (width, height) of the photograph.

        Returns (column, row), float; beyond the grid for what the network doesn't see.
        """
        left, top, right, bottom = self.box or (0, 0, *size)
        return (x - left) / (right - left) * grid[1], (y - top) / (bottom - top) * grid[0]

    def _cut(self, pixels):
        if self.box is None:
            return pixels
        left, top, right, bottom = self.box
        return pixels[top:bottom, left:right]

    @property
    def numbers(self):
        """What decides the view, for fingerprints: list of numbers, None for the whole."""
        return self.box and list(self.box)


WHOLE = Part()


@dataclass(frozen=True)
class Chip:
    """A face brought onto a template or a square by a similarity transform, sampled once from the photograph.

    transform: (a, b, x, y), by which the place z = x + iy of the photograph, as a complex number, lies at
    (a + ib) z + (x + iy) in the template's square, whose side is 1. The grid is laid centred over the square, whose
    side is the longer one of the grid. What lies beyond the photograph is black, and no concept. size: as of Part.
    """

    transform: tuple
    size: tuple | None = None

    def image(self, photograph, grid):
        """As Part.image. Where it shrinks, a pixel is the mean of samples of its area, at most a pixel apart (further
        in views of more than _MOST_SAMPLES pixels).
        """
        scale, shift = self._onto(grid)
        finer = max(1, math.ceil(1 / abs(scale) - 1e-6))  # less what rounding adds to a scale of 1
        finer = min(finer, max(1, _MOST_SAMPLES // max(grid)))
        # OpenCV counts from the centre of the first pixel: half a pixel less, on both sides.
        scale, shift = scale * finer, (shift + scale * (0.5 + 0.5j)) * finer - (0.5 + 0.5j)
        matrix = np.array([[scale.real, -scale.imag, shift.real], [scale.imag, scale.real, shift.imag]])
        size = (grid[1] * finer, grid[0] * finer)
        sampled = cv2.warpAffine(photograph, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return cv2.resize(sampled, grid[::-1], interpolation=cv2.INTER_AREA) if finer > 1 else sampled

    def mask(self, mask, grid):
        """As Part.mask: each pixel takes the mask's pixel in which its centre lies (method.md §3.3)."""
        scale, shift = self._onto(grid)
        places = (np.arange(grid[1]) + 0.5 + 1j * (np.arange(grid[0])[:, None] + 0.5) - shift) / scale
        x, y = np.floor(places.real).astype(int), np.floor(places.imag).astype(int)
        inside = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
        seen = np.zeros(grid, mask.dtype)
        seen[inside] = mask[y[inside], x[inside]]
        return seen

    def place(self, x, y, _size, grid):
        """As Part.place."""
        scale, shift = self._onto(grid)
        places = scale * (x + 1j * y) + shift
        return places.real, places.imag

    def _onto(self, grid):
        """The transform onto a grid: complex (scale, shift), column + i row = scale * place + shift."""
        a, b, x, y = self.transform
        side = max(grid)
        return complex(a, b) * side, complex(x, y) * side - complex(side - grid[1], side - grid[0]) / 2

    @property
    def numbers(self):
        return [round(number, 9) for number in self.transform]


def view_of(face, crop, jitter=0.0, digest=""):
    """What a network sees of a photograph with a face. Returns Part or Chip, None where nothing of a box is left.

    face: dictionary.faces.Face. crop: loader.crops.Crop. jitter: ALIGN_JITTER, by up to which share of the view's side,
    margin included, it is moved in x and in y and made larger or smaller, at random. digest: of the photograph's
    content, the seed of that.
    """
    move_x, move_y, grow = 0.0, 0.0, 1.0
    if jitter:
        random = np.random.default_rng(int(fingerprint([digest, "jitter"])[:16], 16))
        move_x, move_y, grow = (jitter * random.uniform(-1, 1, 3) + (0, 0, 1)).tolist()
    if crop.is_aligned:
        scale, shift = similarity(face.points, crop)
        centre = 0.5 + 0.5j
        scale, shift = scale * grow, (shift - centre) * grow + centre + complex(move_x, move_y)
        return Chip((scale.real, scale.imag, shift.real, shift.imag), face.size)
    left, top, right, bottom = face.box
    if crop.kind == "square":
        longer = max(right - left, bottom - top) / _BOX_OF_SQUARE
        side = longer * (1 + 2 * crop.margin) / grow
        x, y = (left + right) / 2 + move_x * side, (top + bottom) / 2 + _BOX_ABOVE * longer + move_y * side
        return Chip((1 / side, 0.0, 0.5 - x / side, 0.5 - y / side), face.size) if side > 0 else None
    if crop.margin or jitter:
        half_width, half_height = (length * (0.5 + crop.margin) for length in (right - left, bottom - top))
        x, y = (left + right) / 2 + move_x * 2 * half_width, (top + bottom) / 2 + move_y * 2 * half_height
        half_width, half_height = half_width / grow, half_height / grow
        left, top, right, bottom = x - half_width, y - half_height, x + half_width, y + half_height
    # Cut to whole pixels within the photograph, as facenet-pytorch's own crop is.
    left, top = (int(max(edge, 0)) for edge in (left, top))
    right, bottom = (int(min(edge, length)) for edge, length in zip((right, bottom), face.size, strict=True))
    return Part((left, top, right, bottom), face.size) if right > left and bottom > top else None


def similarity(points, crop):
    """The similarity transform that brings five points onto a template with the least squares: complex (scale, shift).

    A place of the photograph, as a complex number, lies at scale * place + shift in the template's square of side 1.
    """
    target, middle = _template(crop)
    places = [complex(*point) for point in points]
    centre = sum(places) / len(places)
    places = [place - centre for place in places]
    alike = sum(place.conjugate() * wanted for place, wanted in zip(places, target, strict=True))
    scale = alike / sum(abs(place) ** 2 for place in places)
    return scale, middle - scale * centre


@cache
def _template(crop):
    """The points of a crop's template, margin included, as complex numbers about their middle; that middle."""
    wanted = [complex(x + crop.margin, y + crop.margin) / (1 + 2 * crop.margin) for x, y in TEMPLATES[crop.kind]]
    middle = sum(wanted) / len(wanted)
    return [place - middle for place in wanted], middle


def resize_image(image, grid):
    """Resize a photograph to a grid. image: uint8 (H, W, 3). Returns uint8 (rows, columns, 3).

    Every output pixel is the mean of the area it covers (cv2.INTER_AREA), so that shrinking does not alias; when the
    image is smaller than the grid this is bilinear interpolation.
    """
    shrinks = image.shape[0] >= grid[0] and image.shape[1] >= grid[1]
    return cv2.resize(image, grid[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_mask(mask, grid):
    """Resize a mask to a grid by nearest neighbour (method.md §3.3). mask: any dtype (H, W).

    Returns (rows, columns) of that dtype.

    Pixel centres lie at half-integers: output row i, centre (i + 0.5) / rows of the height, takes the input row
    floor((i + 0.5) * H / rows). Worked: H = 3, rows = 2 takes rows 0 and 2; H = 2, rows = 4 takes 0 0 1 1.
    """
    rows, columns = (
        ((2 * np.arange(count) + 1) * length) // (2 * count) for count, length in zip(grid, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns[None, :]]
