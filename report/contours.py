"""Sets of pixels as polygons, small enough that a page carries a unit's outline on every photograph that it shows."""

import base64
from functools import cache

import cv2
import numpy as np

SCALE = 255  # a place on the grid in bytes: 0 is its left or upper edge, 255 its right or lower edge
_FINER = 2  # the contour is traced on pixels half as large, so that one pixel alone still has an area
_XY = np.arange(2)  # the places of a corner's numbers
_TOLERANCE = 0.6  # of the finer pixels, by which a polygon may leave the contour


def contours(pixels):
    """The outlines of a set of pixels, holes included. pixels: bool (rows, columns).

    Returns text: base64 of bytes, of each polygon its number of corners n, 3..255, then n pairs (x, y), in 1/SCALE of
    the grid's width and height. Filled by the even-odd rule they cover the set to within half a pixel of the grid.
    """
    rows, columns = pixels.shape
    left, top, width, height = cv2.boundingRect(pixels.view(np.uint8))
    if not width:
        return ""
    part = pixels[top : top + height, left : left + width].view(np.uint8)
    finer = cv2.resize(part, (_FINER * width, _FINER * height), interpolation=cv2.INTER_NEAREST)
    offset = (_FINER * left, _FINER * top)
    traced, _ = cv2.findContours(finer, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=offset)
    encoded, in_bytes = bytearray(), _in_bytes(rows, columns)
    for contour in traced:
        corners = _simplified(contour)
        encoded.append(len(corners))
        encoded += in_bytes[_XY, corners].tobytes()
    return base64.b64encode(encoded).decode()


@cache
def _in_bytes(rows, columns):
    """The places of the finer pixels across and down a grid: uint8 (2, _FINER * the longer side)."""
    finer = _FINER * np.array([[columns], [rows]])
    return ((np.arange(finer.max()) + 0.5) / finer * SCALE).round().clip(max=SCALE).astype(np.uint8)


def _simplified(contour):
    """The corners of a contour, as many as a byte counts. contour: int (n, 1, 2). Returns int (m, 2)."""
    corners, tolerance = contour, _TOLERANCE
    while True:
        corners = cv2.approxPolyDP(contour, tolerance, True)
        if len(corners) <= SCALE:
            return corners[:, 0]
        tolerance *= 1.5


def onto_picture(view, size, grid, shown):
    """The transform from places of contours() to a picture of the photograph.

    view: what the network saw, see dictionary/views.py. size: (width, height) of the photograph, pixels. grid: (rows,
    columns). shown: (width, height) of the picture. Returns six numbers a b c d e f: x, y of the polygon lies at a x +
    c y + e, b x + d y + f, as SVG's matrix() has them.
    """
    x, y = np.array([0, size[0], 0.0]), np.array([0, 0, size[1]])
    columns, rows = view.place(x, y, size, grid)
    on_grid = np.stack([columns / grid[1] * SCALE, rows / grid[0] * SCALE], axis=1, dtype=np.float32)
    on_picture = np.stack([x * shown[0] / size[0], y * shown[1] / size[1]], axis=1, dtype=np.float32)
    return cv2.getAffineTransform(on_grid, on_picture).T.ravel().round(5).tolist()
