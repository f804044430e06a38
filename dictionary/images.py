"""Photographs and masks: reading files, which are told by their content, never by their name (method.md §1.1)."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dictionary.views import WHOLE
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
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:  # a format that Pillow alone reads
        return np.asarray(ImageOps.exif_transpose(_opened(content, name)).convert("RGB"))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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


# A grey mask of more levels than this has soft edges (method.md §1.1).
_MOST_LABELS = 16
_VOID = 255  # the palette index of what VOC leaves undecided


def decode_mask(content, name, threshold=0.5):
    """Decode a mask (method.md §1.1). content: bytes; name: what errors call it. Returns bool (H, W).

    A pixel belongs to the concept when it is not background: any index but 0 and 255 of a palette, any pixel that is
    not black of a colour image, any value but 0 of another, of 16 bits too. Where a grey mask has more than 16 levels,
    or any was stored with losses, its edges are soft: there a pixel belongs whose level is above threshold, a share of
    the brightest level that occurs. Raises ImageError.
    """
    levels, has_edges = _levels(content, name)
    return levels > threshold * levels.max() if has_edges else levels > 0


def _levels(content, name):
    """The pixels of a mask as numbers, (H, W), 0 for background; whether its edges are soft."""
    kind, depth = (content[25], content[24]) if content.startswith(b"\x89PNG") and len(content) > 25 else (None, 8)
    if kind == 0 and depth <= 8:  # as published: the fast path
        return _of_grey(_decode(content, cv2.IMREAD_GRAYSCALE, name))
    if kind == 2 and depth == 16:  # Pillow would keep 8 bits of it
        return _of_channels(_decode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, name))
    image = _opened(content, name)
    lossy = image.format not in ("PNG", "BMP", "GIF", "TIFF", "PPM") and b"VP8L" not in content[:64]
    image = ImageOps.exif_transpose(image)
    if image.mode == "P":
        indices = np.asarray(image)
        if (np.asarray(image.convert("RGB")) == indices[:, :, None]).all():
            return _of_grey(indices)  # a grey image that was stored with a palette of its own levels
        return np.where(indices == _VOID, 0, indices), False
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8), False
    if image.mode.startswith(("L", "I", "F")):
        return _of_grey(np.asarray(image), lossy)
    return _of_channels(np.asarray(image.convert("RGB")), lossy)


def _of_grey(levels, lossy=False):
    """Grey levels as they are; whether edges are soft: whatever was stored with losses, and what has many levels."""
    return levels, lossy or len(np.unique(levels)) > _MOST_LABELS


def _of_channels(channels, lossy=False):
    """The brightest channel of pixels (H, W, 3), which is grey where all three are equal."""
    levels = channels.max(axis=2)
    return _of_grey(levels, lossy) if lossy or (channels == channels[:, :, :1]).all() else (levels, False)


def read_mask(path, threshold=0.5):
    """Read a mask as large as its image (see decode_mask). Returns bool (H, W). Raises ImageError."""
    return decode_mask(read_bytes(path), path, threshold)


def load_image(path, grid, view=WHOLE):
    """Read a photograph as the network sees it. grid: (rows, columns). Returns uint8 (rows, columns, 3), RGB.

    view: see dictionary/views.py. Raises ImageError, also for a photograph of another size than its face was found in.
    """
    photograph = load_rgb(path)
    size = photograph.shape[1::-1]
    if view.size not in (None, size):
        raise ImageError(
            f"{path} is {size[0]} x {size[1]} px, but its face was found in a photograph of {view.size[0]} x "
            f"{view.size[1]} px: delete the file that says so, faces.json of the dictionary or that in CACHE_FOLDER"
        )
    return view.image(photograph, grid)


def load_mask(path, grid, view=WHOLE, threshold=0.5):
    """Read a concept's mask L_c on the network's grid (method.md §3.3). Returns bool (rows, columns).

    threshold: see decode_mask. Raises ImageError.
    """
    return view.mask(read_mask(path, threshold), grid)


# Brightness of what a mask or a unit leaves out, share of the photograph's own (method.md §3.5).
_DARKENED = 0.4


def darken_outside(image, inside):
    """Darken a photograph outside an area. image: uint8 (H, W, 3); inside: bool (H, W). Returns a new image."""
    return np.where(inside[:, :, None], image, (image * _DARKENED).round().astype(np.uint8))


# What Pillow can read without running another program, as it does for EPS.
Image.init()
PICTURE_FORMATS = tuple(sorted(set(Image.OPEN) - {"EPS"}))
# inspect_image refuses such an image itself, with the file's name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def _opened(content, name):
    """An image as Pillow has it, decoded to its last byte. Raises ImageError (see inspect_image)."""
    try:
        image = Image.open(io.BytesIO(content), formats=PICTURE_FORMATS)
        if image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        image.load()
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not a readable image") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} is too large: more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise ImageError(f"{name} is damaged: {error}") from error
    return image


def inspect_image(content, name, as_mask=False):
    """Decode an image strictly, to its last byte. content: bytes; name: what errors call it.

    Returns its (width, height) in pixels as a viewer shows it, whether it has an alpha channel or the like, and what it
    covers as a mask: shares of the picture and of its border, 0..1, or () where not as_mask or not opaque. Raises
    ImageError for what is no image, truncated, damaged or too large (Pillow's limit against decompression bombs, 89
    megapixels).
    """
    transparent = _opened(content, name).has_transparency_data
    if transparent or not as_mask:
        height, width = decode_rgb(content, name).shape[:2]  # what the fast path sees must be there, too
        return (width, height), transparent, ()
    mask = decode_mask(content, name)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return mask.shape[::-1], transparent, (float(mask.mean()), float(border.mean()))


def decode_labels(content, name):
    """Decode an image of labels (method.md §10). content: bytes; name: what errors call it.

    Returns uint16 (H, W), R + 256 G of each pixel, 0 where it has no label. Raises ImageError.
    """
    pixels = _decode(content, cv2.IMREAD_COLOR, name)
    return pixels[:, :, 2] + 256 * pixels[:, :, 1].astype(np.uint16)


def inspect_labels(content, name):
    """Decode an image of labels strictly. Returns ((width, height), the numbers that occur, ascending, without 0).

    Raises ImageError, also for a file that holds colours or levels instead of labels.
    """
    image = _opened(content, name)
    if image.format != "PNG" or image.mode not in ("RGB", "RGBA"):
        raise ImageError(
            f"{name} is a {image.format} of mode {image.mode}: labels are R + 256 G of a PNG in RGB, without losses"
        )
    if np.asarray(image)[:, :, 2].any():
        raise ImageError(f"{name} has blue pixels, and labels are R + 256 G: it is no image of labels")
    found = np.flatnonzero(np.bincount(decode_labels(content, name).ravel()))
    return image.size, tuple(found[found > 0].tolist())
