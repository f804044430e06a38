"""Photographs and masks: decoding, face crop and resizing, the same geometry for both.

A box is (left, top, right, bottom) in pixels of the image as a viewer shows it, right and bottom exclusive.
Files are told by their content, never by their name (method.md §1.1).
"""

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from util.errors import DissectionError

# Pools of our own threads decode several files at once; OpenCV's threads inside each would only get in their way.
cv2.setNumThreads(0)


class ImageError(DissectionError):
    """A file that is not the image it should be."""


def read_bytes(path):
    """The content of a file as bytes. Raises ImageError when it is missing, unreadable or empty."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    if not content:
        raise ImageError(f"{path} is an empty file")
    return content


def decode_rgb(content, name):
    """Decode an image. content: bytes; name: what errors call it. Returns uint8 (H, W, 3), RGB.

    Grayscale is repeated over the channels, transparency is dropped, and the EXIF orientation is applied: landmarks
    and masks belong to the picture that people see. Raises ImageError.
    """
    image = _decode(content, cv2.IMREAD_COLOR, name)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_gray(content, name):
    """Decode a mask. content: bytes; name: what errors call it. Returns uint8 (H, W). Raises ImageError."""
    return _decode(content, cv2.IMREAD_GRAYSCALE, name)


def _decode(content, flags, name):
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"cannot decode {name}: {error}") from error
    if image is None:
        raise ImageError(f"{name} is not a readable image")
    return image


def load_rgb(path):
    """Read a photograph. Returns uint8 (H, W, 3), RGB. Raises ImageError."""
    return decode_rgb(read_bytes(path), path)


def load_gray(path):
    """Read a mask as it lies on disk. Returns uint8 (H, W), 0..255. Raises ImageError."""
    return decode_gray(read_bytes(path), path)


def crop(pixels, box):
    """Cut a box out of pixels (H, W) or (H, W, 3); None keeps the whole. Returns a view."""
    if box is None:
        return pixels
    left, top, right, bottom = box
    return pixels[top:bottom, left:right]


def resize_image(image, side_px):
    """Resize a photograph to a square. image: uint8 (H, W, 3). Returns uint8 (side_px, side_px, 3).

    Every output pixel is the mean of the area it covers (cv2.INTER_AREA), so that shrinking does not alias; when the
    image is smaller than the square this is bilinear interpolation.
    """
    height, width = image.shape[:2]
    shrinks = height >= side_px and width >= side_px
    return cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_mask(mask, side_px):
    """Resize a mask to a square by nearest neighbour (method.md §3.3). mask: any dtype (H, W).

    Returns (side_px, side_px) of that dtype.

    Pixel centres lie at half-integers: output row i, centre (i + 0.5) / side_px of the height, takes the input row
    floor((i + 0.5) * H / side_px). Worked: H = 3, side_px = 2 takes rows 0 and 2; H = 2, side_px = 4 takes 0 0 1 1.
    """
    rows, columns = (((2 * np.arange(side_px) + 1) * length) // (2 * side_px) for length in mask.shape)
    return mask[rows[:, None], columns[None, :]]


def load_image(path, side_px, box=None):
    """Read a photograph as the network sees it. Returns uint8 (side_px, side_px, 3), RGB. Raises ImageError."""
    return resize_image(crop(load_rgb(path), box), side_px)


def load_mask(path, side_px, box=None, threshold=0.5):
    """Read a concept's mask L_c on the network's grid (method.md §3.3). Returns bool (side_px, side_px).

    threshold: share of full white above which a pixel belongs to the concept. Raises ImageError.
    """
    return resize_mask(crop(load_gray(path), box), side_px) > threshold * 255


# Brightness of what a mask or a unit leaves out, share of the photograph's own (method.md §3.5).
_DARKENED = 0.4


def darken_outside(image, inside):
    """Darken a photograph outside an area. image: uint8 (H, W, 3); inside: bool (H, W). Returns a new image."""
    return np.where(inside[:, :, None], image, (image * _DARKENED).round().astype(np.uint8))


# What both Pillow, which checks, and OpenCV, which decodes in the fast paths, can read.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
# inspect_image refuses such an image itself, with the file's name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def inspect_image(content, name):
    """Decode an image strictly, to its last byte, and describe it. content: bytes; name: what errors call it.

    Returns {'size': [width, height] in pixels as a viewer shows it, 'brightest': int, 'binary': bool, 'transparent':
    bool}: of its grayscale version, the greatest level, 0..255, and whether only 0 and 255 occur; whether it has an
    alpha channel or the like. Raises ImageError for what is
    truncated, damaged or too large (Pillow's limit against decompression bombs, 89 megapixels).
    """
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        if image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        image.load()
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not a readable image") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} is too large: more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise ImageError(f"{name} is damaged: {error}") from error
    transparent = image.has_transparency_data
    # Pillow is the strict one; OpenCV must be able to read it too, since it decodes in the fast paths.
    seen = decode_gray(content, name)
    counts = np.bincount(seen.ravel(), minlength=256)
    levels = np.flatnonzero(counts).tolist()
    return {
        "size": [seen.shape[1], seen.shape[0]],
        "brightest": levels[-1],
        "binary": set(levels) <= {0, 255},
        "transparent": transparent,
    }
