"""The head that layers paint: a face's canvas, landmarks and colours, and the words in which layers name places."""

import numpy as np

from rendering.anatomy import face_landmarks
from rendering.canvas import CANVAS_HEIGHT_PX, CANVAS_WIDTH_PX, Canvas, curve, hills
from rendering.landmarks import MIRROR

# Skin from the brightest to the darkest: melanin -> colour.
SKIN_COLOURS = {0.0: (0.92, 0.755, 0.67), 0.35: (0.86, 0.65, 0.53), 0.65: (0.62, 0.42, 0.31), 1.0: (0.33, 0.21, 0.155)}

# Brows and whiskers are seldom brighter, even of blond and white heads: the most that short hair has of each channel.
BRIGHTEST_SHORT_HAIR = 0.58


class Head:
    """face: Face. canvas: Canvas. landmarks: float64 (68, 2), seen from the front, face units. skin: (3,), its colour.

    concepts: those to be painted (Face.shown has also those that they imply). resting: the landmarks without any of
    them. What a concept does not move is placed by these, so that switching it changes the picture near its mask alone.
    halves: the left and the right Half. contrast: how much stronger folds and shadows are painted on dark skin, where
    the same share of the light is fewer grey levels.
    """

    def __init__(self, face):
        self.face, self.concepts = face, face.concepts
        self.canvas = Canvas()
        self.landmarks = face_landmarks(face.all_traits, face.concepts)
        self.resting = face_landmarks(face.all_traits, ())
        channels = zip(*SKIN_COLOURS.values(), strict=True)
        self.skin = np.float32([np.interp(face.melanin, list(SKIN_COLOURS), channel) for channel in channels])
        self.contrast = 1 + 0.45 * face.melanin
        self.halves = tuple(Half(self.landmarks, side, Half(self.resting, side)) for side in (-1.0, 1.0))

    def halves_with(self, concept):
        """The halves of a face that shows a concept, none of one that does not."""
        return self.halves if concept in self.concepts else ()

    def hair_tone(self, darker):
        """The colour of brows or whiskers, (3,). darker: what short hair has of the light of long hair, 0..1.

        On skin that is as dark as that they are painted as bright as the hair itself: grey brows on dark skin.
        """
        hair = np.array(self.face.hair_colour)
        dark = darker * np.minimum(hair, BRIGHTEST_SHORT_HAIR)
        return max((dark, hair), key=lambda tone: abs((tone - self.skin).mean()))

    def tint(self, red, green, blue):
        """The colour of the skin, each channel multiplied."""
        return np.clip(self.skin * (red, green, blue), 0, 1)

    def texture(self, name, cells_across, cells_down):
        """Smooth random hills over the whole canvas, mean 0 and deviation about 1: float32 (H, W)."""
        return hills(self.face.random(name), cells_across, cells_down, CANVAS_WIDTH_PX, CANVAS_HEIGHT_PX)


class Half:
    """One half of a face, in words that hold for both: outwards is towards its ear, landmarks are those of the left.

    outwards: -1.0 for the half on the left of the picture, 1.0 for the right. resting: the Half of Head.resting.
    Points are (2,), face units.
    """

    def __init__(self, landmarks, outwards, resting=None):
        self.landmarks = landmarks if outwards < 0 else landmarks[MIRROR]
        self.outwards, self.resting = outwards, resting

    def at(self, landmark, outwards=0.0, down=0.0):
        """A point beside a landmark."""
        return self.landmarks[landmark] + self.place(outwards, down)

    def place(self, outwards, down):
        """A point by its distance from the middle line and its height."""
        return np.array((self.outwards * outwards, down))

    def line(self, *anchors):
        """A smooth line through points beside landmarks. anchors: (landmark, outwards, down). Returns (N, 2)."""
        return curve(np.array([self.at(*anchor) for anchor in anchors]))

    def eye(self, outwards=0.0, down=0.0):
        """A point beside the middle between the corners of the eye."""
        return (self.at(36) + self.at(39)) / 2 + self.place(outwards, down)
