"""The picture around the painted head, in pixels, and its layers; those of neck and clothes are in body.py."""

import cv2
import numpy as np

from rendering.body import Body
from rendering.canvas import filled, hills
from rendering.hair import hair_behind
from rendering.pose import turned


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
        alpha = scene.shape(corners, random.uniform(0.6, 3.5))
        scene.paint(random.uniform(0.4, 1.0) * alpha, random.uniform(0.05, 0.95, 3))


def hair_behind_the_neck(scene):
    edge = hair_behind(scene.head)
    if edge is not None:
        streaks = 1 + 0.22 * scene.texture("hair behind", 60, 3)
        alpha = scene.shape(scene.face.pose.project(edge), 1.0)
        scene.paint(alpha, 0.55 * streaks[..., None] * np.array(scene.face.hair_colour, np.float32))


def head(scene):
    """The painted head, turned into its pose."""
    covering, coverage = turned(scene.head.canvas, scene.face.pose, scene.width, scene.height)
    scene.picture = scene.picture * (1 - coverage[..., None]) + covering


def camera(scene):
    """A little blur and the grain of a sensor."""
    scene.picture = cv2.GaussianBlur(scene.picture, (0, 0), 0.45)
    scene.picture += 0.008 * scene.face.random("camera").standard_normal(scene.picture.shape, np.float32)
