"""The picture around the painted head, in pixels, and its layers: a wall, neck and clothes, the camera."""

from dataclasses import dataclass

import cv2
import numpy as np

from rendering.canvas import CANVAS_HEIGHT_PX, CANVAS_WIDTH_PX, filled, hills
from rendering.pose import canvas_coordinates

SHIRT, SEAM = (0.86, 0.87, 0.90), (0.30, 0.30, 0.35)
STRIPE = 0.28  # from one to the next, face units


@dataclass(frozen=True)
class Garment:
    """opening: how far its V reaches below the base of the neck, face units. striped; shirt: worn over one."""

    opening: float
    striped: bool = False
    shirt: bool = False


GARMENTS = {
    "pullover": Garment(0.97),
    "striped": Garment(0.70, striped=True),
    "jacket": Garment(1.5, shirt=True),
}


class Scene:
    """A picture in the making, with neck and shoulders upright below a head however it is turned.

    picture: float32 (height, width, 3), RGB, 0..1. head: its Head, painted. neck, shoulders: half their widths, face
    units. base: the middle of the base of the neck, (2,), pixels. across: how far each column lies to the right of it,
    face units, float32 (1, width). light: -1 where it comes from the left of the picture, 1 from the right.
    """

    def __init__(self, head, width, height):
        self.head, self.face, self.width, self.height = head, head.face, width, height
        self.picture = np.zeros((height, width, 3), np.float32)
        grown, masculine, pose = 1 - self.face.childhood, self.face.gender == "male", self.face.pose
        self.neck = (0.66 if masculine else 0.55) + 0.14 * grown
        self.shoulders = (1.9 if masculine else 1.6) * (0.75 + 0.25 * grown)
        middle, collar = pose.project([(0.0, 1.5, -0.1), (0.0, 1.72, 0.6)])
        self.base = np.array((middle[0], collar[1]))
        self.across = ((np.arange(width) - self.base[0]) / pose.unit_px).astype(np.float32)[None, :]
        self.light = np.sin(np.radians(self.face.light_from[0]))

    def outline(self, half):
        """A shape below the head that is its own mirror image, pixels.

        half: its left half, (N, 2), as (outwards, down) from the base of the neck, in face units.
        """
        half = self.face.pose.unit_px * np.asarray(half)
        return self.base + np.concatenate([half * (-1, 1), half[::-1]])

    def paint(self, points, blur, colour, opacity=1.0):
        """Lay a colour, (3,) or (H, W, 3), over what lies in a polygon. points, blur: see canvas.filled."""
        alpha = opacity * filled(points, self.width, self.height, blur)[..., None]
        self.picture += alpha * (np.asarray(colour, np.float32) - self.picture)

    def texture(self, name, across, down):
        """Smooth random hills, mean 0 and deviation about 1: float32 (H, W)."""
        return hills(self.face.random(name), across, down, self.width, self.height)


def background(scene):
    """A wall out of focus: two colours that run into each other, and soft spots."""
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
        blur, opacity = random.uniform((0.6, 0.4), (3.5, 1.0)).tolist()
        scene.paint(corners, blur, random.uniform(0.05, 0.95, 3), opacity)


def neck(scene):
    """The neck from under the jaw to the collar, round, in the shadow of the chin."""
    width, pose = scene.neck, scene.face.pose
    column = scene.outline([(width, 0.05), (width + 0.04, 0.35), (width + 0.42, 0.72), (0.0, 1.25)])
    under_jaw = pose.project([(-width, 0.8, 0.0), (width, 0.8, 0.0)])
    across = scene.across / (width + 0.04)
    shade = np.clip(0.92 - 0.30 * across**2 + 0.22 * across * scene.light, 0.35, 1.1)
    jaw = pose.project(np.column_stack([scene.head.landmarks[:17], np.full(17, 0.4)]))
    shadow = filled(jaw + (0.0, 0.20 * pose.unit_px), scene.width, scene.height, 0.12 * pose.unit_px)
    colour = scene.head.skin * (shade * (1 - 0.50 * shadow))[..., None]
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


def head(scene):
    """The painted head, turned into its pose."""
    canvas = scene.head.canvas
    x, y = canvas_coordinates(scene.face.pose, canvas.form, scene.width, scene.height)
    # Colour times coverage, so that what lies beyond the edge of the head does not run into it.
    layers = np.dstack([canvas.colour * canvas.coverage[..., None], canvas.coverage])
    layers = cv2.remap(layers, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    layers[(x < 0) | (y < 0) | (x > CANVAS_WIDTH_PX - 1) | (y > CANVAS_HEIGHT_PX - 1)] = 0  # beyond the canvas
    scene.picture = scene.picture * (1 - layers[..., 3:]) + layers[..., :3]


def camera(scene):
    """A little blur and the grain of a sensor."""
    scene.picture = cv2.GaussianBlur(scene.picture, (0, 0), 0.45)
    scene.picture += 0.008 * scene.face.random("camera").standard_normal(scene.picture.shape, np.float32)
