"""How a head is held: from the canvas, painted from the front, to the picture (weak perspective).

A point (x, y, z) of the head in face units is turned by pitch, yaw and roll about PIVOT, multiplied by the scale and
moved to its place; the picture drops z. Landmarks and pixels go through the same mapping, so they agree (see _STEPS).
Worked: a face unit of 40 px, no turn and the centre at (89, 110) put the point (0.5, 0, z) at x = 89 + 20 for every z;
a yaw of 10 degrees adds 40 · sin(10°) · z = 6.9 px per unit that the point stands out towards the viewer.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from rendering.canvas import UNIT_PX, to_pixels

# The point that stays in its place when the head turns: inside the head, between the ears.
PIVOT = (0.0, 0.55, 0.35)

# Steps of the search for the point of the relief that a pixel shows. At every step the error shrinks by the tangent of
# the turn times the slope of the relief: below 0.6 on nine tenths of a head at the limits below, but nearly 1 where the
# relief is steepest, at the edge of a far cheek, where about a pixel may remain.
_STEPS = 14

# Degrees to which a face may be turned: beyond them a part of the relief hides another, and the search may miss it.
MOST_YAW, MOST_PITCH = 20.0, 12.0


@dataclass(frozen=True)
class Pose:
    """How a head is held and where, angles in degrees.

    yaw: it turns to the right of the picture. pitch: it looks down. roll: it leans clockwise. unit_px: pixels of a face
    unit. x, y: where PIVOT lies in the picture, pixels. Raises ValueError beyond MOST_YAW and MOST_PITCH.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    unit_px: float = 38.0
    x: float = 88.5
    y: float = 113.0

    def __post_init__(self):
        for turn, most in (("yaw", MOST_YAW), ("pitch", MOST_PITCH)):
            if not abs(getattr(self, turn)) <= most:
                raise ValueError(f"{turn} is {getattr(self, turn):g} degrees: it must lie within {most:g} either way")

    @property
    def rotation(self):
        """float64 (3, 3): the turn of the head."""
        yaw, pitch, roll = np.radians((self.yaw, self.pitch, self.roll))
        about_x = [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
        about_y = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
        about_z = [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
        return np.array(about_z) @ np.array(about_y) @ np.array(about_x)

    def project(self, points):
        """Points of the head in the picture. points: (..., 3), face units. Returns float64 (..., 2), pixels."""
        turned = (np.asarray(points, np.float64) - PIVOT) @ self.rotation[:2].T
        return self.unit_px * turned + (self.x, self.y)


def on_surface(points, form):
    """Points of the face with the depth that the relief has there, bilinear. points: (N, 2). Returns float64 (N, 3)."""
    x, y = to_pixels(points).astype(np.float32).T[:, None]
    return np.column_stack([points, cv2.remap(form, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]])


def canvas_coordinates(pose, form, width, height):
    """Which point of the canvas each pixel of the picture shows. form: float32 (H, W), the relief.

    Solves project(x, y, form(x, y)) = pixel for every pixel by fixed-point iteration. Returns two float32
    (height, width): x and y in pixels of the canvas.
    """
    matrix = pose.unit_px * pose.rotation[:2]  # px per face unit
    offset = np.array((pose.x, pose.y)) - matrix @ PIVOT
    flat, depth = np.linalg.inv(matrix[:, :2]), matrix[:, 2]
    # Without relief; the relief then shifts each pixel along one direction, in proportion to its height.
    across, down = np.arange(width)[None, :] - offset[0], np.arange(height)[:, None] - offset[1]
    origin = to_pixels((0.0, 0.0))
    start_x = (origin[0] + UNIT_PX * (flat[0, 0] * across + flat[0, 1] * down)).astype(np.float32)
    start_y = (origin[1] + UNIT_PX * (flat[1, 0] * across + flat[1, 1] * down)).astype(np.float32)
    step_x, step_y = (UNIT_PX * (flat @ depth)).astype(np.float32)
    x, y = start_x - step_x, start_y - step_y  # of a height of 1, where most of a face lies
    for _ in range(_STEPS):
        height_there = cv2.remap(form, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        x, y = start_x - step_x * height_there, start_y - step_y * height_there
    return x, y
