"""Layers of skin and relief: the shape of the head, what hides under the skin, and what the years write on it.

Numbers are lengths in face units (standard deviations of blobs, widths of folds), heights of relief towards the viewer,
and strengths: 0.3 darkens by 30 %.
"""

import numpy as np

from rendering.anatomy import skull_arc
from rendering.canvas import X, Y, add, blob, curve, ellipse, polygon, stroke

# How far the middle of the face stands out before the ears, and where the head falls off: half its width for an average
# face, and half its height around its middle. The fourth power leaves the face nearly flat from brow to chin.
DEPTH, HALF_WIDTH, HALF_HEIGHT, MIDDLE, LOWEST = 1.15, 1.28, 2.15, 0.45, -0.35
EASE = 8.0  # of the bend from the round of the head to LOWEST, per face unit
AVERAGE_CHEEK = 1.12  # half the width of the average face, at landmark 1


def ears(head):
    canvas = head.canvas
    for half in head.halves:
        middle = half.at(1, 0.03)
        canvas.lay(ellipse(middle, (0.15, 0.31)), head.tint(1.0, 0.93, 0.92))
        canvas.darken(blob(middle, (0.05, 0.15)), 0.35)
        add(canvas.detail, ellipse(middle, (0.12, 0.27), 0.03), 0.05)


def double_chin(head):
    """A second fold of the skin below the chin."""
    if "Double_Chin" in head.concepts:
        jaw, below = head.landmarks[5:12], head.landmarks[10:5:-1]
        edge = curve([*jaw, *(below + [(0, 0.08), (0, 0.17), (0, 0.21), (0, 0.17), (0, 0.08)])], closed=True)
        head.canvas.lay(polygon(edge, 0.015), head.tint(0.97, 0.95, 0.95))
        head.canvas.darken(stroke(curve(jaw), 0.07, 0.02), 0.25 * head.contrast)
        add(head.canvas.detail, polygon(edge, 0.07), 0.10)


def skin(head):
    """Head and forehead in the colour of the skin, with its blotches and pores, on the round of the head."""
    canvas = head.canvas
    surface = polygon(np.concatenate([curve(head.landmarks[:17]), skull_arc(362, 178)]))
    spots = 0.012 * (head.texture("blotches", 9, 11) + head.texture("pores", 90, 110))
    canvas.lay(surface, head.skin + spots[..., None])
    canvas.detail[surface.place] *= 1 - surface.alpha  # the relief of the ears ends where skin covers them
    canvas.gloss += 0.35
    half_width = HALF_WIDTH * abs(head.landmarks[1, 0]) / AVERAGE_CHEEK
    round_ = DEPTH * (1 - (X / half_width) ** 2 - ((Y - MIDDLE) / HALF_HEIGHT) ** 4)
    canvas.form += LOWEST + np.logaddexp(0, EASE * (round_ - LOWEST)) / EASE  # a maximum without a kink


def skull_relief(head):
    """Sockets, brow ridge, cheekbones, mouth and chin, which light models."""
    form, child, old = head.canvas.form, head.face.childhood, head.face.old_age
    ridge = (0.05 if head.face.gender == "male" else 0.02) * (1 - child)
    for half in head.halves:
        add(form, blob(half.resting.eye(-0.05, -0.03), (0.27, 0.17)), -0.13 - 0.03 * old + 0.04 * child)  # socket
        add(form, blob(half.resting.eye(), (0.17, 0.09)), 0.07)  # eyeball
        add(form, blob(half.place(0.50, half.resting.at(19)[1] + 0.03), (0.34, 0.09)), ridge)
        add(form, blob(half.place(0.70, 0.52), (0.24, 0.20)), 0.07 + 0.03 * child)  # cheekbone
        add(form, blob(half.place(0.72, 1.12), (0.22, 0.25)), -0.05 * (1 - child) - 0.04 * old)  # hollow of the cheek
        add(form, blob(half.place(1.00, -0.45), (0.16, 0.30)), -0.05)  # temple
    jaw_drop = max(0.0, head.landmarks[8, 1] - head.resting[8, 1])
    add(form, blob(head.resting[51] + (0, 0.10), (0.42, 0.24)), 0.09)  # the teeth behind the lips
    add(form, blob(head.resting[57] + (0, 0.10 + jaw_drop), (0.28, 0.05)), -0.05)
    add(form, blob(head.landmarks[8] - (0, 0.17), (0.22, 0.14)), 0.10)  # chin


def complexion(head):
    """The red of cheeks, nose and chin, the shadow of sockets and jaw."""
    canvas = head.canvas
    red = np.array((0.05, -0.02, -0.015)) * (1 - 0.6 * head.face.melanin)
    for half in head.halves:
        add(canvas.colour, blob(half.place(0.66, 0.62), (0.24, 0.20)), red)
        canvas.darken(blob(half.resting.eye(-0.06, -0.05), (0.24, 0.15)), 0.13 - 0.08 * head.face.childhood)
    add(canvas.colour, blob(head.resting[30], (0.16, 0.12)), red)
    add(canvas.colour, blob(head.landmarks[8] - (0, 0.15), (0.22, 0.12)), 0.5 * red)
    jaw = head.landmarks[3:14]
    canvas.darken(polygon(curve(np.concatenate([jaw, jaw[::-1] - (0, 0.12)])), 0.07), 0.10)


def crease(head, line, width, strength):
    """A fold of the skin: a dark soft line, thickest in its middle. line: (N, 2)."""
    if strength > 0.02:
        head.canvas.darken(stroke(line, width, 0.012), min(0.75, strength * head.contrast))
        add(head.canvas.detail, stroke(line, 2 * width, 0.02), -0.02 * strength)


def blush(head):
    colour = np.array((0.05, -0.20, -0.14)) * (1 - 0.40 * head.face.melanin)
    for half in head.halves_with("Rosy_Cheeks"):
        middle = 0.52 * half.resting.eye(0.22) + 0.48 * half.resting.at(48, 0.22, 0.04)
        add(head.canvas.colour, blob(middle, (0.24, 0.20)), colour)


def cheekbones(head):
    """Bright bones over hollow cheeks."""
    for half in head.halves_with("High_Cheekbones"):
        bone = 0.62 * half.resting.eye(0.20) + 0.38 * half.resting.at(48, 0.20)
        hollow, tilt = bone + half.place(-0.02, 0.27), -half.outwards
        add(head.canvas.detail, blob(bone, (0.20, 0.10), 20 * tilt), 0.07)
        head.canvas.darken(blob(bone, (0.18, 0.07), 20 * tilt), -0.13 * head.contrast)
        head.canvas.darken(blob(hollow, (0.20, 0.10), 35 * tilt), 0.30 * head.contrast)


def raised_cheeks(head):
    """AU_6: the apple of the cheek pushed up, the fold above it and crow's feet."""
    for half in head.halves_with("AU_6"):
        apple = 0.70 * half.resting.eye(0.06, 0.03) + 0.30 * half.resting.at(48, 0.06, 0.03)
        add(head.canvas.detail, blob(apple, (0.20, 0.08)), 0.09)
        head.canvas.darken(blob(apple, (0.15, 0.05)), -0.10)
        crease(head, curve([half.at(39, 0.02, 0.10), half.eye(0.0, 0.16), half.at(36, 0.0, 0.10)]), 0.06, 0.34)
        for turn in (-0.05, 0.03, 0.10):
            crease(head, half.line((36, 0.05, 0.4 * turn + 0.01), (36, 0.17, turn + 0.02)), 0.03, 0.34)


def bags_under_eyes(head):
    strength = 1.0 if "Bags_Under_Eyes" in head.concepts else 0.25 * head.face.old_age
    for half in (half.resting for half in head.halves):
        lower_lid = (half.at(40) + half.at(41)) / 2
        line = curve([half.at(39, 0.0, 0.06), lower_lid + (0.0, 0.135), half.at(36, 0.0, 0.07)])
        add(head.canvas.colour, stroke(line, 0.14, 0.03), np.array((-0.10, -0.10, -0.06)) * strength)
        add(head.canvas.detail, blob(lower_lid + (0.0, 0.09), (0.15, 0.035)), 0.035 * strength)
        crease(head, line + (0.0, 0.055), 0.045, 0.32 * strength)


def wrinkles(head):
    """What the years write on forehead, eyes, nose and mouth."""
    old, grown = head.face.old_age, 1 - head.face.childhood
    x = np.linspace(-0.55, 0.55, 9)
    for number, height in enumerate((-0.60, -0.73, -0.85)):
        wave = curve(np.column_stack([x, height + 0.02 * np.sin(6 * x + number)]))
        crease(head, wave, 0.03, 0.40 * max(0.0, old - 0.2))
    for half in (half.resting for half in head.halves):
        from_nose_to_mouth = half.line((31, 0.05, -0.10), (31, 0.13, 0.08), (48, 0.12, -0.03))
        crease(head, from_nose_to_mouth, 0.05, 0.08 * grown + 0.42 * old)
        from_mouth_to_chin = half.line((48, 0.03, 0.06), (48, 0.06, 0.20), (48, 0.05, 0.33))
        crease(head, from_mouth_to_chin, 0.04, 0.42 * max(0.0, old - 0.25))
        for turn in (-0.06, 0.02, 0.10):  # crow's feet
            foot = half.line((36, 0.05, 0.4 * turn), (36, 0.14, turn), (36, 0.22, 1.7 * turn))
            crease(head, foot, 0.02, 0.40 * max(0.0, old - 0.15))


def frown(head):
    """AU_4: the two folds between lowered brows."""
    for half in head.halves_with("AU_4"):
        crease(head, half.line((21, -0.09, -0.09), (21, -0.11, 0.0), (21, -0.10, 0.12)), 0.045, 0.40)


def wrinkled_nose(head):
    """AU_9: folds across the bridge of the nose and beside its wings."""
    for half in head.halves_with("AU_9"):
        for height in (0.05, 0.16, 0.27):
            fold = [half.place(0.0, height), half.place(0.07, height - 0.015), half.place(0.17, height + 0.06)]
            crease(head, curve(fold), 0.055, 0.26)
            add(head.canvas.detail, blob(half.place(0.06, height + 0.05), (0.08, 0.022)), 0.018)
        crease(head, half.line((31, 0.0, -0.16), (31, 0.07, -0.06), (31, 0.10, 0.04)), 0.06, 0.42)


def raised_chin(head):
    """AU_17: the dimpled pouch of the chin, pushed up under the lip."""
    if "AU_17" not in head.concepts:
        return
    canvas, lip = head.canvas, head.landmarks[57]
    pouch = 0.45 * lip + 0.55 * head.landmarks[8]
    left, right = (half.at(59, -0.02, 0.10) for half in head.halves)
    crease(head, curve([left, lip + (0.0, 0.08), right]), 0.06, 0.40)
    add(canvas.detail, blob(pouch, (0.17, 0.11)), 0.10)
    reach = 0.6 * (head.landmarks[9, 0] - head.landmarks[7, 0]) / 2
    for across, down in head.face.random("chin").uniform(-1, 1, (14, 2)):
        dimple = blob(pouch + (reach * across, 0.08 * down), (0.030, 0.026))
        canvas.darken(dimple, 0.10 * head.contrast)
        add(canvas.detail, dimple, -0.014)
