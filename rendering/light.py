"""The layer that lights what was painted: Lambert's law on the relief, and a little gloss."""

import cv2
import numpy as np

from rendering.canvas import UNIT_PX

# Brightness of a surface that faces the light, where the colour of the skin is 1.
FULL_LIGHT = 1.34
# How bright and how small the gloss of a polished surface is (Blinn's exponent).
SHINE, SHARPNESS = 0.22, 24
# What light remains in the shade of skin is red: exponents of the shade, by channel.
WARMTH = (0.9, 1.0, 1.06)


def light(head):
    """Light and shade of all that was painted so far, as the head is turned."""
    canvas, face = head.canvas, head.face
    azimuth, elevation = np.radians(face.light_from)
    # Unit vectors in the picture's space, x right, y down, z to the viewer; then the slopes of the relief.
    towards = np.array((np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)))
    halfway = (towards + (0, 0, 1)) / np.linalg.norm(towards + (0, 0, 1))
    surface, kernel = canvas.form + canvas.detail, np.float32([[-0.5, 0.0, 0.5]]) * UNIT_PX
    slope_x, slope_y = (cv2.filter2D(surface, -1, k, borderType=cv2.BORDER_REPLICATE) for k in (kernel, kernel.T))
    steepness = np.sqrt(1 + slope_x**2 + slope_y**2)
    facing, mirroring = (
        np.maximum((way[2] - slope_x * way[0] - slope_y * way[1]) / steepness, 0)
        for way in np.float32((towards, halfway)) @ face.pose.rotation.astype(np.float32)  # from picture to head
    )
    shade = face.ambient + (FULL_LIGHT - face.ambient) * facing
    shine = SHINE * canvas.gloss * mirroring**SHARPNESS
    for channel, warmth in enumerate(WARMTH):
        canvas.colour[..., channel] = canvas.colour[..., channel] * shade**warmth + shine
