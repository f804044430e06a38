"""Layers of neck and clothes. Points are (outwards, down) from the base of the neck, in face units."""

import numpy as np

from rendering.head import skin_colour
from rendering.styles import GARMENTS

SHIRT, SEAM = (0.86, 0.87, 0.90), (0.30, 0.30, 0.35)
STRIPE = 0.28  # from one to the next, face units


class Body:
    """The place and size of neck and shoulders, upright below a head however it is turned.

    unit_px: pixels of a face unit. neck, shoulders: half their widths, face units. base: the middle of the base of the
    neck, (2,), pixels.
    """

    def __init__(self, face):
        self.unit_px = face.pose.unit_px
        grown = 1 - face.childhood
        masculine = face.gender == "male"
        self.neck = (0.66 if masculine else 0.55) + 0.14 * grown
        self.shoulders = (1.9 if masculine else 1.6) * (0.75 + 0.25 * grown)
        across, down = face.pose.project([(0.0, 1.5, -0.1), (0.0, 1.72, 0.6)])
        self.base = np.array((across[0], down[1]))

    def outline(self, half):
        """A shape that is its own mirror image. half: its left half, (N, 2) as (outwards, down). Returns pixels."""
        half = self.unit_px * np.asarray(half)
        return self.base + np.concatenate([half * (-1, 1), half[::-1]])

    def across(self, width):
        """How far each column lies to the right of the neck's middle, face units: float32 (1, width)."""
        return ((np.arange(width) - self.base[0]) / self.unit_px).astype(np.float32)[None, :]


def neck(scene):
    """The neck from under the jaw to the collar, round, in the shadow of the chin."""
    body, pose = scene.body, scene.face.pose
    column = body.outline([(body.neck, 0.05), (body.neck + 0.04, 0.35), (body.neck + 0.42, 0.72), (0.0, 1.25)])
    under_jaw = pose.project([(-body.neck, 0.8, 0.0), (body.neck, 0.8, 0.0)])
    alpha = scene.shape(np.concatenate([under_jaw[:1], column, under_jaw[1:]]), 0.6)
    across = body.across(scene.width) / (body.neck + 0.04)
    shade = np.clip(0.92 - 0.30 * across**2 + 0.22 * across * light_from_the_right(scene.face), 0.35, 1.1)
    jaw = pose.project(np.column_stack([scene.head.landmarks[:17], np.full(17, 0.4)]))
    shadow = scene.shape(jaw + (0.0, 0.20 * body.unit_px), 0.12 * body.unit_px)
    scene.paint(alpha, skin_colour(scene.face.melanin) * (shade * (1 - 0.50 * shadow))[..., None])


def shirt(scene):
    """The shirt under a jacket: two points of its collar and, on a man, a tie."""
    body, face = scene.body, scene.face
    if not GARMENTS[face.garment].shirt:
        return
    front = body.outline([(0.0, 0.75), (body.neck + 0.02, 0.30), (body.neck + 0.25, 0.60), (0.0, 1.9)])
    scene.paint(scene.shape(front, 0.6), shaded(scene, SHIRT))
    left, right = np.split(body.outline([(0.0, 0.78), (0.24, 0.98)]), 2)
    for edge in (left, right):
        seam = np.concatenate([edge, edge[::-1] + (0.0, 1.5)])  # 1.5 px wide
        scene.paint(0.5 * scene.shape(seam, 0.5), SEAM)
    if face.gender == "male":
        tie = body.outline([(0.09, 0.76), (0.06, 0.92), (0.15, 1.9)])
        scene.paint(scene.shape(tie, 0.6), shaded(scene, face.accent))


def clothes(scene):
    """Shoulders in a garment that is open in a V."""
    body, face = scene.body, scene.face
    garment = GARMENTS[face.garment]
    below_picture = (scene.height + 2 - body.base[1]) / body.unit_px
    slope = [(body.neck + 0.02, 0.35), (body.neck + 0.42, 0.64), (body.shoulders, 1.32)]
    cloth = body.outline([(0.0, garment.opening), *slope, (1.12 * body.shoulders, below_picture)])
    colour = shaded(scene, face.clothes)
    if garment.striped:
        down = (np.arange(scene.height)[:, None] - body.base[1]) / body.unit_px
        bent = down + 0.027 * body.across(scene.width) ** 2  # they rise towards the shoulders' ends
        stripes = np.clip(0.5 + 2.5 * (np.sin(2 * np.pi * bent / STRIPE) - 0.2), 0, 1)[..., None]  # soft at their edges
        colour = colour + stripes * (shaded(scene, face.accent) - colour)
    scene.paint(scene.shape(cloth, 0.7), colour)


def shaded(scene, colour):
    """The colour of a cloth in the light and its folds. colour: (3,). Returns float32 (H, W, 3)."""
    across = scene.body.across(scene.width) / scene.body.shoulders
    shade = 0.95 + 0.15 * across * light_from_the_right(scene.face) + 0.07 * scene.texture("folds", 9, 4)
    return (np.array(colour) * shade[..., None]).astype(np.float32)


def light_from_the_right(face):
    """-1 for light from the left of the picture, 1 for light from the right."""
    return np.sin(np.radians(face.light_from[0]))
