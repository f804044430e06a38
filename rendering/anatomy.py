"""Where the 68 landmarks of a rendered face lie, as data: an average face, and what moves its points.

Everything here is in face units: the distance between the eyes of the average adult is 1, (0, 0) lies between them, x
runs to the right of the picture, y down and z towards the viewer. Tables name the landmarks of the left half of the
picture and of the middle line; the right half is their mirror image. Numbers of landmarks: see landmarks.py.
"""

import numpy as np

from rendering.landmarks import LANDMARKS, MIRROR

# The average adult face seen from the front: landmark -> (x, y).
AVERAGE_FACE = {
    0: (-1.13, -0.05), 1: (-1.12, 0.28), 2: (-1.09, 0.61), 3: (-1.02, 0.93), 4: (-0.90, 1.22), 5: (-0.72, 1.47),
    6: (-0.50, 1.66), 7: (-0.26, 1.79), 8: (0.0, 1.83),
    17: (-0.92, -0.20), 18: (-0.78, -0.33), 19: (-0.58, -0.37), 20: (-0.38, -0.34), 21: (-0.20, -0.27),
    27: (0.0, -0.03), 28: (0.0, 0.17), 29: (0.0, 0.37), 30: (0.0, 0.56),
    31: (-0.23, 0.69), 32: (-0.12, 0.73), 33: (0.0, 0.76),
    36: (-0.70, 0.01), 37: (-0.58, -0.085), 38: (-0.42, -0.085), 39: (-0.30, 0.03), 40: (-0.43, 0.07),
    41: (-0.57, 0.065),
    48: (-0.45, 1.10), 49: (-0.29, 1.03), 50: (-0.11, 0.99), 51: (0.0, 1.015),
    57: (0.0, 1.30), 58: (-0.13, 1.285), 59: (-0.29, 1.22),
    60: (-0.40, 1.10), 61: (-0.12, 1.09), 62: (0.0, 1.095), 66: (0.0, 1.11), 67: (-0.12, 1.105),
}  # fmt: skip

# The skull behind the face: half-axes around its centre.
SKULL_CENTRE, SKULL_RADII = (0.0, -0.30), (1.15, 1.32)

# What makes one face unlike another: trait -> {landmark: its move (dx, dy) for a trait of 1}. A face has a value of
# each trait, 0 on average.
TRAITS = {
    "wide_face": dict.fromkeys(range(6), (-0.05, 0.0)) | {6: (-0.03, 0.0), 7: (-0.015, 0.0)},
    "square_jaw": {3: (-0.03, 0.01), 4: (-0.06, 0.02), 5: (-0.07, 0.03), 6: (-0.05, 0.03), 7: (-0.03, 0.01)},
    "long_chin": {4: (0.0, 0.02), 5: (0.0, 0.04), 6: (0.0, 0.06), 7: (0.0, 0.07), 8: (0.0, 0.07)},
    "high_mouth": dict.fromkeys((48, 49, 50, 51, 57, 58, 59, 60, 61, 62, 66, 67), (0.0, -0.03)),
    "big_eyes": {36: (-0.02, 0.0), 37: (-0.01, -0.018), 38: (0.01, -0.018), 39: (0.02, 0.0), 40: (0.01, 0.011),
                 41: (-0.01, 0.011)},
    "wide_set_eyes": dict.fromkeys(range(36, 42), (-0.03, 0.0)),
    "slanted_eyes": {36: (0.0, -0.03), 37: (0.0, -0.015), 41: (0.0, -0.015), 39: (0.0, 0.01)},
    "high_brows": dict.fromkeys(range(17, 22), (0.0, -0.04)),
    "sloping_brows": {17: (0.0, 0.03), 18: (0.0, 0.015), 20: (0.0, -0.015), 21: (0.0, -0.02)},
    "wide_nose": {31: (-0.03, 0.0), 32: (-0.015, 0.0)},
    "long_nose": {29: (0.0, 0.015), 30: (0.0, 0.03), 31: (0.0, 0.04), 32: (0.0, 0.04), 33: (0.0, 0.04)},
    "wide_mouth": {48: (-0.05, 0.0), 49: (-0.03, 0.0), 50: (-0.01, 0.0), 58: (-0.01, 0.0), 59: (-0.03, 0.0),
                   60: (-0.045, 0.0)},
    "full_lips": {49: (0.0, -0.015), 50: (0.0, -0.025), 51: (0.0, -0.02), 57: (0.0, 0.03), 58: (0.0, 0.03),
                  59: (0.0, 0.02)},
}  # fmt: skip

# What a gender and the years add, as values of the traits: a feminine or masculine face, and per unit of being a child
# or of the sagging of age.
ADDED_TRAITS = {
    "male": {"square_jaw": 0.8, "long_chin": 0.6, "high_brows": -0.6, "big_eyes": -0.3, "full_lips": -0.3,
             "wide_nose": 0.3},
    "female": {"square_jaw": -0.6, "long_chin": -0.5, "high_brows": 0.6, "big_eyes": 0.4, "full_lips": 0.5,
               "wide_nose": -0.4},
    "child": {"big_eyes": 3.6, "long_chin": -2.6, "square_jaw": -1.4, "wide_face": 0.4, "high_mouth": 2.4,
              "long_nose": -2.8, "wide_nose": -1.6, "wide_mouth": -1.4, "high_brows": 1.0, "full_lips": 0.4},
    "old": {"full_lips": -1.2, "long_nose": 1.0, "wide_nose": 0.5, "high_brows": -0.6, "square_jaw": 0.6,
            "big_eyes": -0.6, "slanted_eyes": -0.5, "wide_face": 0.2},
}  # fmt: skip

# Where a local concept moves the landmarks: concept -> {landmark: (dx, dy)}. Action units follow the muscles (FACS).
PULLS = {
    "AU_1": {19: (0.0, -0.04), 20: (0.0, -0.11), 21: (0.01, -0.15)},
    "AU_2": {17: (0.0, -0.13), 18: (0.0, -0.14), 19: (0.0, -0.06)},
    "AU_4": {17: (0.02, 0.03), 18: (0.04, 0.06), 19: (0.06, 0.09), 20: (0.05, 0.11), 21: (0.04, 0.12)},
    "AU_5": {37: (0.0, -0.075), 38: (0.0, -0.075), 36: (0.0, -0.01)},
    "AU_6": {40: (0.0, -0.035), 41: (0.0, -0.04), 36: (0.0, -0.01)},
    "AU_9": {30: (0.0, -0.03), 31: (-0.03, -0.07), 32: (0.0, -0.05), 33: (0.0, -0.04)},
    "AU_12": {48: (-0.11, -0.13), 49: (-0.05, -0.04), 59: (-0.06, -0.05), 60: (-0.10, -0.12), 61: (0.0, 0.01),
              50: (0.0, 0.01), 51: (0.0, 0.01), 58: (0.0, -0.01)},
    "AU_15": {48: (-0.01, 0.13), 49: (-0.01, 0.03), 59: (-0.02, 0.05), 60: (0.0, 0.12)},
    "AU_17": {57: (0.0, -0.06), 58: (0.0, -0.05), 59: (0.0, -0.02), 7: (0.0, -0.02), 8: (0.0, -0.04)},
    "AU_20": {48: (-0.17, 0.03), 49: (-0.11, 0.02), 50: (-0.04, 0.02), 51: (0.0, 0.015), 57: (0.0, -0.02),
              58: (-0.05, -0.02), 59: (-0.12, 0.0), 60: (-0.17, 0.03), 61: (-0.05, 0.0), 67: (-0.05, 0.0)},
    "AU_25": {50: (0.0, -0.015), 51: (0.0, -0.015), 61: (0.0, -0.03), 62: (0.0, -0.03), 57: (0.0, 0.07),
              58: (0.0, 0.07), 59: (0.0, 0.045), 66: (0.0, 0.085), 67: (0.0, 0.08)},
    "AU_26": {50: (0.0, -0.01), 51: (0.0, -0.01), 61: (0.0, -0.02), 62: (0.0, -0.02), 48: (0.04, 0.06),
              60: (0.04, 0.07), 59: (0.02, 0.20), 58: (0.0, 0.27), 57: (0.0, 0.28), 67: (0.0, 0.26), 66: (0.0, 0.28),
              4: (0.0, 0.03), 5: (0.02, 0.10), 6: (0.02, 0.18), 7: (0.0, 0.22), 8: (0.0, 0.23)},
    "Arched_Eyebrows": {17: (0.0, 0.05), 18: (0.0, -0.07), 19: (-0.01, -0.11), 20: (0.0, -0.03), 21: (0.0, 0.04)},
    "Big_Lips": {48: (-0.02, 0.0), 49: (-0.01, -0.05), 50: (0.0, -0.07), 51: (0.0, -0.06), 57: (0.0, 0.09),
                 58: (0.0, 0.09), 59: (-0.01, 0.06)},
    "Big_Nose": {31: (-0.10, 0.03), 32: (-0.05, 0.04), 33: (0.0, 0.05), 30: (0.0, 0.04)},
    "Mouth_Slightly_Open": {50: (0.0, -0.01), 51: (0.0, -0.01), 61: (0.0, -0.03), 62: (0.0, -0.03), 57: (0.0, 0.06),
                            58: (0.0, 0.06), 59: (0.0, 0.04), 66: (0.0, 0.07), 67: (0.0, 0.065)},
    "Narrow_Eyes": {37: (0.0, 0.017), 38: (0.0, 0.017), 40: (0.0, -0.010), 41: (0.0, -0.010)},
    "Pointy_Nose": {31: (0.07, 0.0), 32: (0.03, 0.01), 33: (0.0, 0.04), 30: (0.0, 0.03)},
    "Smiling": {48: (-0.12, -0.11), 49: (-0.06, -0.03), 59: (-0.07, 0.0), 60: (-0.11, -0.10), 50: (0.0, -0.01),
                51: (0.0, 0.0), 61: (-0.02, -0.03), 62: (0.0, -0.02), 58: (-0.02, 0.06), 57: (0.0, 0.06),
                66: (0.0, 0.09), 67: (-0.02, 0.08)},
}  # fmt: skip


def both_halves(table):
    """A table of the left half as moves of all landmarks. table: {landmark: (dx, dy)}. Returns float64 (68, 2)."""
    moves = np.zeros((LANDMARKS, 2))
    for number, (x, y) in table.items():
        moves[MIRROR[number]] = (-x, y)
        moves[number] = (x, y)
    return moves


def face_landmarks(traits, concepts):
    """The landmarks of a face seen from the front. traits: {trait: value}; concepts: names.

    Traits add up. Of several concepts that pull a point the same way the strongest moves it; opposite ones add.
    Returns float64 (68, 2), (x, y) in face units.
    """
    landmarks = both_halves(AVERAGE_FACE) + sum(value * both_halves(TRAITS[trait]) for trait, value in traits.items())
    pulls = np.array([both_halves(PULLS.get(concept, {})) for concept in concepts])
    return landmarks + pulls.max(axis=0, initial=0) + pulls.min(axis=0, initial=0)


def skull_arc(start_degrees, end_degrees, wider=0.0, count=25):
    """Points on the skull: from 180 degrees at the left ear over the crown (270) to the right ear (360), (count, 2)."""
    angles = np.radians(np.linspace(start_degrees, end_degrees, count))
    return np.array(SKULL_CENTRE) + np.stack([np.cos(angles), np.sin(angles)], 1) * (np.array(SKULL_RADII) + wider)
