"""The canvas on which layers paint a head from the front, in face units, and the soft shapes that they paint with.

pose.py turns the whole canvas in space afterwards, so that no layer has to know how the head is held.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# Pixels per face unit. Pictures show about 40, so that edges are smooth after the turn.
UNIT_PX = 56
LEFT, TOP, RIGHT, BOTTOM = -1.95, -2.15, 1.95, 2.65
CANVAS_WIDTH_PX, CANVAS_HEIGHT_PX = round((RIGHT - LEFT) * UNIT_PX), round((BOTTOM - TOP) * UNIT_PX)

# Coordinates of the pixel centres, face units, as a row and a column.
X = (LEFT + np.arange(CANVAS_WIDTH_PX, dtype=np.float32)[None, :] / UNIT_PX).astype(np.float32)
Y = (TOP + np.arange(CANVAS_HEIGHT_PX, dtype=np.float32)[:, None] / UNIT_PX).astype(np.float32)


def to_pixels(points):
    """Face units to pixels of the canvas, centres at whole numbers. points: (..., 2). Returns float64 (..., 2)."""
    return (np.asarray(points, np.float64) - (LEFT, TOP)) * UNIT_PX


@dataclass(frozen=True)
class Patch:
    """A soft shape. place: the slices of the canvas that it touches; alpha: float32 (h, w) there, 0..1."""

    place: tuple
    alpha: np.ndarray

    def times(self, factor):
        """The shape with its strength multiplied. factor: float32 (H, W) over the whole canvas."""
        return Patch(self.place, self.alpha * factor[self.place])

    def within(self, other):
        """The part of the shape that lies inside another one."""
        whole = np.zeros((CANVAS_HEIGHT_PX, CANVAS_WIDTH_PX), np.float32)
        whole[other.place] = other.alpha
        return self.times(whole)


class Canvas:
    """colour: float32 (H, W, 3), RGB, 0..1. coverage: float32 (H, W), 0..1, what is head and not background.

    form: float32 (H, W), the large relief towards the viewer, face units: it moves points when the head turns.
    detail: float32 (H, W), the small relief on top, which only light sees. gloss: float32 (H, W), 0..1.
    """

    def __init__(self):
        self.colour = np.zeros((CANVAS_HEIGHT_PX, CANVAS_WIDTH_PX, 3), np.float32)
        self.coverage, self.form, self.detail, self.gloss = np.zeros((4, CANVAS_HEIGHT_PX, CANVAS_WIDTH_PX), np.float32)

    def paint(self, patch, colour, opacity=1.0):
        """Lay a colour over the shape. colour: (3,) or float32 (H, W, 3) over the whole canvas."""
        alpha = (patch.alpha * np.float32(opacity))[..., None]
        under = self.colour[patch.place]
        over = colour[patch.place] if np.ndim(colour) == 3 else np.asarray(colour, np.float32)
        under += alpha * (over - under)

    def lay(self, patch, colour, opacity=1.0):
        """Paint a shape that is a part of the head, and count it as head. colour: as in paint.

        Where nothing was head before, the colour is the shape's own up to its soft edge: what lies behind the edge is
        mixed in by the coverage, when the head is laid into the picture.
        """
        before = self.coverage[patch.place]
        after = np.maximum(before, patch.alpha)
        weight = np.maximum(opacity * patch.alpha, patch.alpha - before) / np.maximum(after, 1e-6)
        self.paint(Patch(patch.place, weight.astype(np.float32)), colour)
        self.coverage[patch.place] = after

    def darken(self, patch, amount):
        """Multiply the colour within the shape: amount 0.2 leaves 80 %, a negative one brightens."""
        self.colour[patch.place] *= 1 - np.float32(amount) * patch.alpha[..., None]


def add(surface, patch, amount):
    """Add to a surface of a canvas within the shape: relief towards the viewer, gloss or colour, negative to take away.

    surface: form, detail or gloss of a Canvas, and amount a number; or its colour, and amount (3,), RGB.
    """
    surface[patch.place] += np.multiply.outer(patch.alpha, np.float32(amount))


def _place(low, high):
    """The slices of the canvas between two corners in pixels, never empty."""
    left, top = np.clip(np.floor(low), 0, (CANVAS_WIDTH_PX - 1, CANVAS_HEIGHT_PX - 1)).astype(int)
    right, bottom = np.clip(np.ceil(high) + 1, (left + 1, top + 1), (CANVAS_WIDTH_PX, CANVAS_HEIGHT_PX)).astype(int)
    return slice(top, bottom), slice(left, right)


def polygon(points, blur=0.0):
    """A filled polygon. points: (N, 2), face units. blur: standard deviation of its edge, face units."""
    pixels = to_pixels(points)
    margin = 3 * blur * UNIT_PX + 1
    place = _place(pixels.min(axis=0) - margin, pixels.max(axis=0) + margin)
    corner = place[1].start, place[0].start
    return Patch(place, filled(pixels - corner, place[1].stop - corner[0], place[0].stop - corner[1], blur * UNIT_PX))


def filled(points, width, height, blur_px):
    """A polygon as float32 (height, width), 0..1. points: (N, 2), pixels; blur_px: deviation of its edge, pixels."""
    alpha = np.zeros((height, width), np.uint8)
    fraction_bits = 4  # of OpenCV's fixed point numbers: corners are placed to 1/16 of a pixel
    corners = np.rint(points * 2**fraction_bits).astype(np.int32)
    cv2.fillPoly(alpha, [corners], 255, cv2.LINE_AA, fraction_bits)
    alpha = alpha.astype(np.float32) / 255
    if blur_px < 0.2:  # less than the edge's own smoothness
        return alpha
    return cv2.GaussianBlur(alpha, (0, 0), blur_px, borderType=cv2.BORDER_REPLICATE)


def hills(random, across, down, width, height):
    """Smooth random hills, mean 0, deviation about 1. across, down: their number. Returns float32 (height, width)."""
    cells = random.standard_normal((down, across)).astype(np.float32)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)


def blob(centre, radii, degrees=0.0):
    """A Gaussian bump of height 1. centre: (2,); radii: standard deviations (2,); degrees: clockwise turn."""
    radii = np.broadcast_to(radii, 2)
    reach = 3 * radii.max() if degrees else 3 * radii
    place = _place(to_pixels(np.subtract(centre, reach)), to_pixels(np.add(centre, reach)))
    x, y = X[:, place[1]] - np.float32(centre[0]), Y[place[0]] - np.float32(centre[1])
    if not degrees:
        return Patch(place, np.exp(-0.5 * (y / radii[1]) ** 2) * np.exp(-0.5 * (x / radii[0]) ** 2))
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    along, across = (x * cosine + y * sine) / radii[0], (y * cosine - x * sine) / radii[1]
    return Patch(place, np.exp(-0.5 * (along**2 + across**2)).astype(np.float32))


def ellipse(centre, radii, blur=0.0):
    """A filled ellipse with upright axes."""
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return polygon(np.asarray(centre) + np.stack([np.cos(angles), np.sin(angles)], 1) * radii, blur)


def ribbon(points, widths, blur=0.0):
    """A band along a line. points: (N, 2); widths: whole width at each point, a number or (N,), face units."""
    points = np.asarray(points, np.float64)
    along = np.gradient(points, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.linalg.norm(along, axis=1), 1e-9)[:, None]
    half = np.broadcast_to(np.asarray(widths) / 2, len(points))[:, None] * across
    return polygon(np.concatenate([points + half, (points - half)[::-1]]), blur)


def stroke(points, middle, blur=0.0, end=0.0):
    """A band along a line, thickest in its middle. points: (N, 2); middle, end: its widths there, face units."""
    return ribbon(points, end + (middle - end) * np.sin(np.linspace(0, np.pi, len(points))), blur)


def curve(points, closed=False, steps=6):
    """A smooth line through points (Catmull-Rom). points: (N, 2). Returns (M, 2)."""
    points = np.asarray(points, np.float64)
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (padded[first : len(padded) - 3 + first, None] for first in range(4))
    line = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    line = line.reshape(-1, 2)
    return line if closed else np.concatenate([line, points[-1:]])
