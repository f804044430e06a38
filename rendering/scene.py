"""The picture around the painted head, in pixels, and its layers; those of neck and clothes are in body.py."""

import cv2
import numpy as np

from rendering.canvas import CANVAS_HEIGHT_PX, CANVAS_WIDTH_PX, filled, hills
from rendering.pose import canvas_coordinates


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
        """A shape below the head that is its own mirror image, pixels. half: its left half as (outwards, down)."""
        half = self.face.pose.unit_px * np.asarray(half)
        return self.base + np.concatenate([half * (-1, 1), half[::-1]])

    def paint(self, points, blur, colour, opacity=1.0):
        """Lay a colour, (3,) or (H, W, 3), over what lies in a polygon. The rest: see shape."""
        alpha = opacity * self.shape(points, blur)[..., None]
        self.picture += alpha * (np.asarray(colour, np.float32) - self.picture)

    def shape(self, points, blur):
        """A filled polygon with a soft edge, float32 (H, W), 0..1. points: (N, 2), pixels; blur: deviation, pixels."""
        return filled(points, self.width, self.height, blur)

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
