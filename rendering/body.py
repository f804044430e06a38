"""Layers of neck and clothes. Points are (outwards, down) from the base of the neck, in face units."""

import numpy as np

from rendering.head import skin_colour
from rendering.styles import GARMENTS

SHIRT, SEAM = (0.86, 0.87, 0.90), (0.30, 0.30, 0.35)
STRIPE = 0.28  # from one to the next, face units


def neck(scene):
    """The neck from under the jaw to the collar, round, in the shadow of the chin."""
    width, pose = scene.neck, scene.face.pose
    column = scene.outline([(width, 0.05), (width + 0.04, 0.35), (width + 0.42, 0.72), (0.0, 1.25)])
    under_jaw = pose.project([(-width, 0.8, 0.0), (width, 0.8, 0.0)])
    across = scene.across / (width + 0.04)
    shade = np.clip(0.92 - 0.30 * across**2 + 0.22 * across * scene.light, 0.35, 1.1)
    jaw = pose.project(np.column_stack([scene.head.landmarks[:17], np.full(17, 0.4)]))
    shadow = scene.shape(jaw + (0.0, 0.20 * pose.unit_px), 0.12 * pose.unit_px)
    colour = skin_colour(scene.face.melanin) * (shade * (1 - 0.50 * shadow))[..., None]
    scene.paint(np.concatenate([under_jaw[:1], column, under_jaw[1:]]), 0.6, colour)


def shirt(scene):
    """The shirt under a jacket: two points of its collar and, on a man, a tie."""
    if GARMENTS[scene.face.garment].shirt:
        front = [(0.0, 0.75), (scene.neck + 0.02, 0.30), (scene.neck + 0.25, 0.60), (0.0, 1.9)]
        scene.paint(scene.outline(front), 0.6, shaded(scene, SHIRT))
        for edge in np.split(scene.outline([(0.0, 0.78), (0.24, 0.98)]), 2):
            seam = np.concatenate([edge, edge[::-1] + (0.0, 1.5)])  # 1.5 px wide
            scene.paint(seam, 0.5, SEAM, opacity=0.5)
        if scene.face.gender == "male":
            tie = [(0.09, 0.76), (0.06, 0.92), (0.15, 1.9)]
            scene.paint(scene.outline(tie), 0.6, shaded(scene, scene.face.accent))


def clothes(scene):
    """Shoulders in a garment that is open in a V."""
    face, garment = scene.face, GARMENTS[scene.face.garment]
    slope = [(scene.neck + 0.02, 0.35), (scene.neck + 0.42, 0.64), (scene.shoulders, 1.32)]
    below_picture = (scene.height + 2 - scene.base[1]) / face.pose.unit_px
    cloth = scene.outline([(0.0, garment.opening), *slope, (1.12 * scene.shoulders, below_picture)])
    colour = shaded(scene, face.clothes)
    if garment.striped:
        down = (np.arange(scene.height)[:, None] - scene.base[1]) / face.pose.unit_px
        bent = down + 0.027 * scene.across**2  # they rise towards the shoulders' ends
        stripes = np.clip(0.5 + 2.5 * (np.sin(2 * np.pi * bent / STRIPE) - 0.2), 0, 1)[..., None]  # soft at their edges
        colour = colour + stripes * (shaded(scene, face.accent) - colour)
    scene.paint(cloth, 0.7, colour)


def shaded(scene, colour):
    """The colour of a cloth in the light and its folds. colour: (3,). Returns float32 (H, W, 3)."""
    across = scene.across / scene.shoulders
    shade = 0.95 + 0.15 * across * scene.light + 0.07 * scene.texture("folds", 9, 4)
    return (np.array(colour) * shade[..., None]).astype(np.float32)
