"""Layers of hair: on head, chin and cheeks, and behind the neck. Numbers are as in skin.py, anchors as in head.py."""

from dataclasses import dataclass

import numpy as np

from rendering.anatomy import SKULL_CENTRE, SKULL_RADII, skull_arc
from rendering.canvas import Patch, X, Y, add, curve, polygon
from rendering.head import Half

# Sides that hang lower than the first frame the face; lower than the second, hair also hangs behind the neck.
HANGING, BEHIND = 0.3, 1.0

# The states of a chin, one at a time; without any of them it wears a full beard.
CHINS = ("No_Beard", "5_o_Clock_Shadow", "Goatee")


@dataclass(frozen=True)
class HairStyle:
    """length: how far down the sides hang, face units (0 at the eyes). volume: how far it stands off the skull.

    fringe: how far down it falls over the forehead from the hairline. parting: where it parts, -1 left to 1 right.
    arched: whether the hairline is round and not square. straight: whether strands are seen, and not curls or stubs.
    cover: how much of the skin it hides, 0..1. softness: of its edge, face units.
    """

    length: float
    volume: float
    fringe: float = 0.0
    parting: float = 0.0
    arched: bool = False
    straight: bool = True
    cover: float = 0.97
    softness: float = 0.03


HAIR_STYLES = {
    "bald": HairStyle(0.0, 0.0),
    "cropped": HairStyle(-0.15, 0.05, straight=False, cover=0.88, softness=0.06),
    "short": HairStyle(0.05, 0.14, fringe=0.06, parting=0.5),
    "swept": HairStyle(0.0, 0.22, parting=-0.6),
    "fringe": HairStyle(0.1, 0.16, fringe=0.35, parting=0.2),
    "pulled_back": HairStyle(-0.05, 0.10, arched=True),
    "bob": HairStyle(1.35, 0.28, parting=0.5, arched=True),
    "long": HairStyle(2.3, 0.24, parting=-0.2, arched=True),
    "long_fringe": HairStyle(2.2, 0.25, fringe=0.42),
    "afro": HairStyle(0.35, 0.50, arched=True, straight=False),
}


def hair(head):
    """The hair in front: over the crown, the forehead and down the sides."""
    canvas, style = head.canvas, HAIR_STYLES[head.face.hair_style]
    if head.face.hair_style == "bald":
        return
    inner = hairline(head, style)
    if style.length > HANGING:  # its inner edges run down beside the face
        side = np.array([(-1.02, style.length), (-1.10, 0.6 * style.length), (-1.08, 0.35)])
        inner = np.concatenate([side, inner[2:-2], side[::-1] * (-1, 1)])
    edge = np.concatenate([outer_edge(style), inner[::-1]])
    shape = polygon(edge, style.softness)
    grain = head.texture("hair edge", 120, 60)[shape.place]  # a hairline is no cut: single hairs thin out at its edge
    shape = Patch(shape.place, np.clip(shape.alpha + 0.20 * grain * (4 * shape.alpha * (1 - shape.alpha)), 0, 1))
    canvas.darken(polygon(edge + (0.0, 0.06), 0.05), 0.28)  # its shadow on the forehead
    add(canvas.gloss, shape, -0.35)
    add(canvas.detail, polygon(edge, 0.06), 0.10)  # softer than the colour: a step would catch the light
    canvas.lay(shape, np.clip(strands(head, style)[..., None] * np.float32(head.face.hair_colour), 0, 1), style.cover)


def strands(head, style):
    """Brightness of hair that falls from a crown behind the visible top of the head: float32 (H, W), about 1."""
    across = X - np.float32(0.6 * style.parting)
    down = Y - np.float32(SKULL_CENTRE[1] - SKULL_RADII[1] - 0.25)
    if style.straight:
        # Strands run away from the crown, so what differs between them depends on the angle alone.
        random = head.face.random("strands")
        angle = np.arctan2(across, down + 0.35) + 0.03 * head.texture("waves", 6, 8)
        places = np.linspace(-np.pi, np.pi, 260)
        locks = 0.15 * np.interp(angle, places, random.standard_normal(260))
        locks += 0.13 * np.interp(angle, places[::8], random.standard_normal(len(places[::8])))
    else:
        locks = 0.09 * head.texture("curls", 80, 100) + 0.08 * head.texture("clumps", 14, 16)
    distance = np.sqrt(across**2 + down**2)
    sheen = 0.35 * np.exp(-0.5 * ((distance - 0.85) / 0.15) ** 2) * np.exp(-0.5 * (across / 0.7) ** 2)
    return np.clip(1 + locks + sheen, 0.35, 1.9).astype(np.float32)


def hairline(head, style):
    """The lower edge of the hair over the forehead, from the left temple to the right: (N, 2)."""
    back, child = head.face.hairline, 0.10 * head.face.childhood
    if style.arched:
        temple, brow, top = (-0.93, -0.52), (-0.68, -0.83 + child), -1.08
    else:
        temple, brow, top = (-0.95, -0.56), (-0.77, -0.83 - 0.40 * back), -1.02
    left = np.array([(-1.12, 0.10), (-1.05, -0.22), temple, brow, (-0.36, top + 0.05 - 0.32 * back + child)])
    middle = np.array([(0.3 * style.parting, top - 0.18 * back + child)])
    line = curve(np.concatenate([left, middle, left[::-1] * (-1, 1)]), steps=5)
    if style.fringe:
        inside = np.clip((0.90 - np.abs(line[:, 0])) / 0.35, 0, 1)
        tips = head.face.random("fringe").uniform(0.80, 1.08, len(line))
        slant = 1 - 0.45 * np.clip(np.abs(line[:, 0] - style.parting) - 0.1, 0, 1)
        line[:, 1] += style.fringe * inside * tips * slant
    return line


def outer_edge(style):
    """The outer edge of the hair from its lower left end over the crown to the lower right: (N, 2)."""
    side, top = SKULL_RADII[0] + style.volume, -0.15  # where the sides begin to hang
    low = max(style.length, top + 0.02)
    hanging = [(-0.96 if style.length > HANGING else -0.92, low), (-1.04, 0.45 * top + 0.55 * low), (-1.01, top)]
    left = np.array(hanging) * (side, 1)
    over = skull_arc(188, 352, (style.volume, 0.75 * style.volume + 0.03), count=21)
    return curve(np.concatenate([left, over, left[::-1] * (-1, 1)]), steps=4)


def hair_behind_the_neck(scene):
    style = HAIR_STYLES[scene.face.hair_style]
    if style.length > BEHIND:
        edge = np.insert(outer_edge(style), 2, 0.1, axis=1)  # z of 0.1
        streaks = 1 + 0.22 * scene.texture("hair behind", 60, 3)
        colour = 0.55 * streaks[..., None] * np.array(scene.face.hair_colour, np.float32)
        scene.paint(scene.face.pose.project(edge), 1.0, colour)


# The left half of a patch of hair on the face, from its middle above round to its middle below, as anchors. The right
# half is its mirror image.
BEARD = ((57, 0.0, 0.04), (59, 0.04, 0.03), (48, 0.02, 0.05), (48, 0.22, -0.12), (3, -0.08, 0.0),
         *((number, 0.0, 0.02) for number in range(2, 9)))  # fmt: skip
GOATEE = ((57, 0.0, 0.06), (59, 0.05, 0.05), (48, 0.03, 0.10), (6, -0.10, -0.06), (7, 0.0, 0.02), (8, 0.0, 0.04))
MUSTACHE = ((33, 0.0, 0.06), (31, -0.02, 0.11), (48, -0.04, -0.10), (48, 0.04, 0.04), (49, 0.0, 0.01), (51, 0.0, 0.01))


def facial_hair(head):
    """Stubble, goatee or the whole beard on a chin that isn't shaven, and a mustache. The mouth is painted over it."""
    # Where a beard ends does not depend on what the mouth does, but a jaw that drops takes it along.
    around_mouth = np.concatenate([head.landmarks[:17], head.resting[17:]])
    if "5_o_Clock_Shadow" in head.concepts:
        cover, colour = whiskers(head, 0.55, "stubble")
        head.canvas.paint(polygon(outline(around_mouth, BEARD), 0.06).times(cover), colour, 0.60)
    for name, grown, landmarks, anchors, density in (
        ("goatee", "Goatee" in head.concepts, head.landmarks, GOATEE, 0.85),
        ("beard", not head.concepts.intersection(CHINS), around_mouth, BEARD, 0.85),
        ("mustache", "Mustache" in head.concepts, head.landmarks, MUSTACHE, 0.95),
    ):
        if grown:
            edge = outline(landmarks, anchors)
            cover, colour = whiskers(head, density, name)
            head.canvas.lay(polygon(edge, 0.025).times(cover), colour, 0.93)
            add(head.canvas.detail, polygon(edge, 0.05), 0.05)


def outline(landmarks, anchors):
    """The closed edge of a patch of facial hair. landmarks: (68, 2); anchors: as BEARD. Returns (N, 2), face units."""
    left, right = ([Half(landmarks, side).at(*anchor) for anchor in anchors] for side in (-1.0, 1.0))
    return curve(np.array(left + right[-2:0:-1]), closed=True)


def whiskers(head, density, name):
    """Cover and colour of short hair: float32 (H, W), (H, W, 3), 0..1. density: of the cover; name: of the texture."""
    grain = head.texture(name, 130, 90)
    colour = head.hair_tone(0.8).astype(np.float32)
    return np.clip(density + 0.16 * grain, 0, 1), np.clip(colour * (1 + 0.14 * grain[..., None]), 0, 1)
