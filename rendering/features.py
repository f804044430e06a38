"""Layers of eyes, brows, nose, mouth and eyeglasses. Numbers are as in skin.py."""

import numpy as np

from rendering.canvas import add, blob, curve, ellipse, polygon, ribbon, stroke

WHITE, SCLERA, PUPIL, LASHES = (1.0, 1.0, 1.0), (0.93, 0.90, 0.88), (0.03, 0.03, 0.03), (0.09, 0.06, 0.05)
THROAT, TONGUE, TEETH = (0.17, 0.05, 0.05), (0.60, 0.26, 0.26), (0.90, 0.87, 0.82)
LIPSTICK = (0.66, 0.07, 0.14)
FRAMES = ((0.06, 0.05, 0.05), (0.20, 0.12, 0.07), (0.32, 0.32, 0.34), (0.12, 0.08, 0.16))
GLASS = (0.75, 0.80, 0.85)

# Lips stand apart, and show what is behind them, from this gap on.
LEAST_GAP = 0.035


def eyes(head):
    canvas, face = head.canvas, head.face
    iris, radius = np.array(face.iris_colour), 0.102 * (1 + 0.12 * face.childhood)
    hood = 0.18 if "Narrow_Eyes" in head.concepts else 0.08
    lashes = 0.055 if face.gender == "female" and face.childhood < 0.4 else 0.036
    for half in head.halves:
        upper, lower = half.line((36,), (37,), (38,), (39,)), half.line((39,), (40,), (41,), (36,))
        opening = polygon(np.concatenate([upper, lower[1:-1]]), 0.006)
        canvas.paint(opening, SCLERA)
        centre = half.eye(0.0, -0.025) + face.gaze
        for colour, size in ((0.45 * iris, 1.0), (iris, 0.84), (PUPIL, 0.45)):
            canvas.paint(ellipse(centre, (radius * size, radius * size), 0.006).within(opening), colour)
        canvas.darken(stroke(upper + (0.0, 0.03), hood, 0.02, end=0.03).within(opening), 0.42)  # the shadow of the lid
        canvas.paint(blob(half.at(39, 0.025), (0.025, 0.02)), head.tint(0.95, 0.65, 0.62), 0.7)
        canvas.paint(stroke([half.at(36, 0.03, -0.01), *upper], lashes, 0.008, end=0.015), LASHES, 0.88)
        above = half.resting.line((36,), (37,), (38,), (39,)) + (0.0, -0.065)
        canvas.darken(stroke(above, 0.035, 0.012, end=0.01), 0.36)  # the crease above the eye
        add(canvas.detail, stroke(above + (0.0, 0.035), 0.05, 0.02), 0.02)
        canvas.darken(stroke(lower + (0.0, 0.012), 0.028, 0.008, end=0.008), 0.32)  # the rim below
        canvas.paint(ellipse(centre + (0.03, -0.035), (0.020, 0.020), 0.006).within(opening), WHITE, 0.9)


def brows(head):
    face = head.face
    thickness, opacity = (0.105 if face.gender == "male" else 0.075) * (1 - 0.25 * face.childhood), 0.72
    if "Bushy_Eyebrows" in head.concepts:
        thickness, opacity = thickness * 1.2 + 0.075, 0.95
    colour = head.hair_tone(0.62)
    single_hairs = np.clip(1 + 0.16 * head.texture("brows", 130, 60), 0.4, 1.1)
    for half in head.halves:
        line = half.line((17,), (18,), (19,), (20,), (21,))
        widths = thickness * np.interp(np.linspace(0, 1, len(line)), (0, 0.35, 0.8, 1), (0.25, 0.8, 1.0, 0.75))
        head.canvas.paint(ribbon(line, widths, 0.018).times(single_hairs), colour, opacity)


def nose(head):
    canvas, pointed, big = head.canvas, "Pointy_Nose" in head.concepts, "Big_Nose" in head.concepts
    root, bridge, tip, base = head.landmarks[[27, 29, 30, 33]]
    half_width = (head.landmarks[35, 0] - head.landmarks[31, 0]) / 2
    for share in np.linspace(0, 1, 7):  # the ridge rises and widens towards the tip
        add(canvas.form, blob(root + share * (tip - root), (0.075 + 0.035 * share, 0.085)), 0.035 + 0.065 * share**1.5)
    add(canvas.form, blob(tip + (0, 0.02), ((0.30 if pointed else 0.5) * half_width, 0.085)), 0.10 + 0.05 * big)
    nostril = (0.062 + 0.02 * big - 0.015 * pointed, 0.028)
    for half in head.halves:
        add(canvas.form, blob(half.at(31, -0.05, -0.04), (0.08, 0.07)), 0.09 + 0.04 * big)
        canvas.darken(ribbon(half.line((31, 0.0, -0.11), (31, 0.03, -0.03), (31, -0.02, 0.04)), 0.035, 0.012), 0.34)
        canvas.paint(ellipse(half.at(32, 0.01, -0.012), nostril, 0.010), head.tint(0.30, 0.20, 0.18), 0.85)
        canvas.darken(blob(half.place(0.10, 0.30), (0.035, 0.16)), 0.10)
        canvas.darken(blob(half.place(0.11, 0.50), (0.05, 0.16)), 0.22 * pointed)
    canvas.darken(blob(base + (0.0, 0.035), (0.6 * half_width, 0.028)), 0.34)
    canvas.darken(blob(base + (0.0, 0.14), (0.035, 0.08)), 0.10)  # the groove above the lip
    canvas.darken(blob(tip - (0, 0.03), (0.035 if pointed else 0.06, 0.07)), -0.22 if pointed else -0.08)
    add(canvas.gloss, blob(tip - (0, 0.04), (0.07, 0.07)), 0.5)
    canvas.darken(blob(bridge, (0.03, 0.20)), -0.16 * pointed)
    canvas.darken(blob(tip + (0.0, 0.01), (0.11, 0.08)), -0.08 * big)


def mouth(head):
    canvas, p = head.canvas, head.landmarks
    upper_inner, lower_inner = curve(p[60:65]), curve(p[[64, 65, 66, 67, 60]])
    upper = np.concatenate([curve(p[48:55]), upper_inner[::-1]])
    lower = np.concatenate([curve(p[[54, 55, 56, 57, 58, 59, 48]]), lower_inner[::-1]])
    colour, opacity = head.tint(0.84, 0.60, 0.60) + (0.03, 0.0, 0.02), 0.85 - 0.2 * head.face.old_age
    if "Wearing_Lipstick" in head.concepts:
        colour, opacity = np.array(LIPSTICK) * (1 - 0.25 * head.face.melanin), 0.95
        add(canvas.gloss, polygon(lower, 0.010), 0.5)
    canvas.paint(polygon(upper, 0.010), 0.86 * colour, opacity)
    canvas.paint(polygon(lower, 0.010), colour, opacity)
    add(canvas.detail, polygon(upper, 0.03), 0.025)
    add(canvas.detail, polygon(lower, 0.04), 0.05)
    canvas.darken(blob(p[57] + (0.0, 0.07), (0.20, 0.035)), 0.16)
    gap = (p[65:68, 1] - p[[63, 62, 61], 1]).mean()
    if gap > LEAST_GAP:
        open_mouth(head, upper_inner, lower_inner, gap)
    else:
        line = np.concatenate([p[48:49], (upper_inner + lower_inner[::-1]) / 2, p[54:55]])
        canvas.paint(stroke(line, 0.035, 0.008, end=0.018), head.tint(0.36, 0.20, 0.20), 0.85)
    for half in head.halves:
        canvas.darken(blob(half.at(48, 0.01, 0.01), (0.04, 0.03)), 0.32)


def open_mouth(head, upper_inner, lower_inner, gap):
    """What parted lips show: the dark, the teeth and, further down, the tongue. gap: between the lips."""
    canvas, smiling = head.canvas, "Smiling" in head.concepts
    opening = polygon(np.concatenate([upper_inner, lower_inner]), 0.008)
    canvas.paint(opening, THROAT, 0.97)
    if gap > 0.2:
        canvas.paint(blob(head.landmarks[66] - (0, 0.03), (0.16, 0.05)).within(opening), TONGUE, 0.9)
    height = 0.11 if smiling else min(0.08, 0.6 * gap)
    heights = height * np.sin(np.linspace(0, np.pi, len(upper_inner)))  # none in the corners
    teeth = np.concatenate([upper_inner, upper_inner[::-1] + np.outer(heights, (0.0, 1.0))])
    canvas.paint(polygon(teeth, 0.012).within(opening), TEETH, 0.93)
    if smiling:
        for x in (-0.20, -0.12, -0.04, 0.04, 0.12, 0.20):
            between_teeth = head.landmarks[62] * (0, 1) + np.array([(x, 0.0), (x, 0.06)])
            canvas.darken(ribbon(between_teeth, 0.012, 0.006).within(opening), 0.18)
    canvas.darken(ribbon(upper_inner + (0.0, 0.01), 0.03, 0.01).within(opening), 0.45)


def frame_of(head):
    """The frame of a face's eyeglasses: colour (3,), width of the rims in face units, roundness (2 is a circle)."""
    random = head.face.random("eyeglasses")
    return FRAMES[random.integers(len(FRAMES))], random.uniform(0.05, 0.085), random.uniform(2, 4.5)


def temples(head):
    """The sides of eyeglasses, which run to the ears under the hair."""
    for half in head.halves_with("Eyeglasses"):
        colour, width, _ = frame_of(head)
        side = ribbon([half.eye(0.40, -0.05), half.at(0, 0.0, -0.02)], 0.9 * width, 0.006)
        head.canvas.paint(side, colour, 0.95)


def eyeglasses(head):
    """Two rims and the bridge; they lie on top of everything, unlit."""
    if "Eyeglasses" not in head.concepts:
        return
    canvas, (colour, width, roundness) = head.canvas, frame_of(head)
    angles = np.linspace(0, 2 * np.pi, 41)
    unit = np.stack([np.cos(angles), np.sin(angles)], 1)
    unit = np.sign(unit) * np.abs(unit) ** (2 / roundness)  # from a circle to a rounded square
    for half in head.halves:
        centre = half.eye(0.03, 0.05)
        rim = centre + unit * (0.37, 0.29)
        lens = polygon(rim)
        canvas.paint(lens, GLASS, 0.10)
        canvas.paint(polygon(centre + half.place(0.12, -0.1) + unit * (0.05, 0.13), 0.03).within(lens), WHITE, 0.22)
        canvas.darken(ribbon(rim + (0.0, 0.05), width, 0.02), 0.22)  # the shadow of the rim
        canvas.paint(ribbon(rim, width, 0.006), colour, 0.95)
    left, right = (half.at(39, -0.07) for half in head.halves)
    canvas.paint(ribbon(curve([left, (0.0, -0.03), right]), width, 0.006), colour, 0.95)
