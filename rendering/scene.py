"""Layers of the picture around the head, in pixels: background, the hair behind the neck, neck, clothes, the camera."""

import cv2
import numpy as np

from rendering.canvas import filled, hills
from rendering.hair import hair_behind
from rendering.head import skin_colour
from rendering.pose import turned

WHITE_SHIRT = (0.86, 0.87, 0.90)


class Scene:
    """A picture in the making. picture: float32 (H, W, 3), RGB, 0..1. head: its Head, painted. body: its Body."""

    def __init__(self, head, width, height):
        self.head, self.face = head, head.face
        self.width, self.height = width, height
        self.picture = np.zeros((height, width, 3), np.float32)
        self.body = Body(head.face)

    def paint(self, alpha, colour):
        """Lay a colour, (3,) or (H, W, 3), over what is there. alpha: float32 (H, W), 0..1."""
        self.picture += alpha[..., None] * (np.asarray(colour, np.float32) - self.picture)

    def shape(self, points, blur):
        """A filled polygon with a soft edge, float32 (H, W), 0..1. points: (N, 2), pixels; blur: deviation, pixels."""
        return filled(points, self.width, self.height, blur)

    def texture(self, name, across, down):
        """Smooth random hills, mean 0 and deviation about 1: float32 (H, W)."""
        return hills(self.face.random(name), across, down, self.width, self.height)


class Body:
    """Neck and shoulders, upright below a head however it is turned.

    Points are (outwards, down) from the base of the neck, face units. neck, shoulders: half their widths.
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


def background(scene):
    """A room out of focus: a wall of two colours that run into each other, and things before it."""
    above, below = np.array(scene.face.background, np.float32)
    down = np.linspace(0, 1, scene.height, dtype=np.float32)[:, None, None]
    spots = 0.05 * scene.texture("background", 5, 6) + 0.012 * scene.texture("wall", 25, 30)
    scene.picture[:] = above + down * (below - above) + spots[..., None]


def things(scene):
    """Edges and coloured patches behind the head: without them, the face would have all the edges of the picture."""
    random = scene.face.random("things")
    size = np.array((scene.width, scene.height))
    for _ in range(random.integers(3, 9)):
        corner, extent = random.uniform(-0.1, 1.0, 2) * size, random.uniform(0.05, 0.45, 2) * size
        lean = random.normal(0, 0.06)
        corners = corner + extent * np.array([(0, 0), (1, lean), (1 + lean, 1), (lean, 1 - lean)])
        alpha = scene.shape(corners, random.uniform(0.6, 3.5))
        scene.paint(random.uniform(0.4, 1.0) * alpha, random.uniform(0.05, 0.95, 3))


def hair_behind_the_neck(scene):
    edge = hair_behind(scene.head)
    if edge is not None:
        streaks = 1 + 0.22 * scene.texture("hair behind", 60, 3)
        alpha = scene.shape(scene.face.pose.project(edge), 1.0)
        scene.paint(alpha, 0.55 * streaks[..., None] * np.array(scene.face.hair_colour, np.float32))


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


def clothes(scene):
    """Shoulders in a garment with a V-shaped collar; under a jacket, a shirt with or without a tie."""
    body, face = scene.body, scene.face
    if face.garment == "jacket":
        shirt = scene.shape(
            body.outline([(0.0, 0.75), (body.neck + 0.02, 0.30), (body.neck + 0.25, 0.60), (0.0, 1.9)]), 0.6
        )
        scene.paint(shirt, shaded(scene, WHITE_SHIRT))
        for edge in body.outline([(0.0, 0.78), (0.24, 0.98)])[:2], body.outline([(0.0, 0.78), (0.24, 0.98)])[2:]:
            scene.paint(0.5 * scene.shape(np.concatenate([edge, edge[::-1] + (0, 1.5)]), 0.5), (0.3, 0.3, 0.35))
        if face.gender == "male":
            scene.paint(
                scene.shape(body.outline([(0.09, 0.76), (0.06, 0.92), (0.15, 1.9)]), 0.6), shaded(scene, face.accent)
            )
    dip = {"jacket": 1.5, "striped": 0.70}.get(face.garment, 0.97)
    below_picture = (scene.height + 2 - body.base[1]) / body.unit_px
    slope = [(body.neck + 0.02, 0.35), (body.neck + 0.42, 0.64), (body.shoulders, 1.32)]
    alpha = scene.shape(body.outline([(0.0, dip), *slope, (1.12 * body.shoulders, below_picture)]), 0.7)
    colour = shaded(scene, face.clothes)
    if face.garment == "striped":
        down = (np.arange(scene.height)[:, None] - body.base[1]) / body.unit_px
        stripes = np.sin(2 * np.pi * down / 0.28 + 0.6 * body.across(scene.width) ** 2) > 0.2
        colour = np.where(stripes[..., None], shaded(scene, face.accent), colour)
    scene.paint(alpha, colour)


def shaded(scene, colour):
    """The colour of a cloth in the light and its folds. colour: (3,). Returns float32 (H, W, 3)."""
    across = scene.body.across(scene.width) / scene.body.shoulders
    shade = 0.95 + 0.15 * across * light_from_the_right(scene.face) + 0.07 * scene.texture("folds", 9, 4)
    return (np.array(colour) * shade[..., None]).astype(np.float32)


def light_from_the_right(face):
    """-1 for light from the left of the picture, 1 for light from the right."""
    return np.sin(np.radians(face.light_from[0]))


def head(scene):
    """The painted head, turned into its pose."""
    colour, coverage = turned(scene.head.canvas, scene.face.pose, scene.width, scene.height)
    scene.paint(coverage, colour)


def camera(scene):
    """A little blur and the grain of a sensor."""
    scene.picture = cv2.GaussianBlur(scene.picture, (0, 0), 0.45)
    scene.picture += 0.008 * scene.face.random("camera").standard_normal(scene.picture.shape, np.float32)
