"""Sets of pixels as polygons, small enough that a page carries a unit's outline on every photograph that it shows."""

import base64
from functools import cache

import cv2
import numpy as np

SCALE = 255  # a place on the grid in bytes: 0 is its left or upper edge, 255 its right or lower edge
_FINER = 2  # the contour is traced on pixels half as large, so that one pixel alone still has an area
_TOLERANCE = 0.6  # of the finer pixels, by which a polygon may leave the contour


def contours(pixels):
    """The outlines of a set of pixels, holes included. pixels: bool (rows, columns).

    Returns text: base64 of bytes, of each polygon its number of corners n, 3..255, then n pairs (x, y), in 1/SCALE of
    the grid's width and height. Filled by the even-odd rule they cover the set to within half a pixel of the grid.
    """
    rows, columns = pixels.shape
    left, top, width, height = cv2.boundingRect(pixels.view(np.uint8))
    part = pixels[top : top + height, left : left + width].view(np.uint8)
    finer = np.repeat(np.repeat(part, _FINER, axis=0), _FINER, axis=1)
    offset = (_FINER * left, _FINER * top)
    traced, _ = cv2.findContours(finer, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=offset) if width else ((), None)
    encoded, across, down = bytearray(), _in_bytes(columns), _in_bytes(rows)
    for contour in traced:
        corners = _simplified(contour)
        encoded.append(len(corners))
        encoded += np.stack([across[corners[:, 0]], down[corners[:, 1]]], axis=1).tobytes()
    return base64.b64encode(encoded).decode()


@cache
def _in_bytes(count):
    """The places of the finer pixels along a side of the grid, of count pixels: uint8 (_FINER * count,)."""
    finer = _FINER * count
    return ((np.arange(finer) + 0.5) / finer * SCALE).round().astype(np.uint8)


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
    on_grid = np.stack([columns / grid[1] * SCALE, rows / grid[0] * SCALE, np.ones(3)])
    on_picture = np.stack([x * shown[0] / size[0], y * shown[1] / size[1]])
    matrix = on_picture @ np.linalg.inv(on_grid)  # (2, 3)
    return [round(float(number), 5) for number in matrix.T.ravel()]
