"""From a face's parameters to its picture and landmarks."""

import numpy as np

from rendering import features, hair, light, scene, skin
from rendering.concepts import DRAWN
from rendering.head import Head
from rendering.pose import on_surface

# Size of the pictures, pixels.
WIDTH_PX, HEIGHT_PX = 178, 218

# Painted on the head from the front, in this order.
HEAD_LAYERS = [
    skin.ears, skin.skin, skin.double_chin, skin.skull_relief, skin.complexion, skin.blush, skin.cheekbones,
    skin.raised_cheeks, skin.bags_under_eyes, skin.wrinkles, skin.frown, skin.wrinkled_nose, skin.raised_chin,
    features.nose, features.eyes, features.brows, hair.facial_hair, features.mouth, features.temples, hair.hair,
    light.light, features.eyeglasses,
]  # fmt: skip
for drawn in DRAWN.values():
    if drawn.after is not None:
        HEAD_LAYERS.insert(HEAD_LAYERS.index(drawn.after) + 1, drawn.layer)

# Laid into the picture from back to front.
SCENE_LAYERS = (
    scene.background, scene.things, hair.hair_behind_the_neck, scene.neck, scene.shirt, scene.clothes, scene.head,
    scene.camera,
)  # fmt: skip


def render(face):
    """Draw a face. face: Face.

    Returns the picture, uint8 (HEIGHT_PX, WIDTH_PX, 3), RGB, and its landmarks, float64 (68, 2), (x, y) in pixels,
    pixel centres at whole numbers. The same face gives the same pixels.
    """
    head = Head(face)
    for layer in HEAD_LAYERS:
        layer(head)
    picture = scene.Scene(head, WIDTH_PX, HEIGHT_PX)
    for layer in SCENE_LAYERS:
        layer(picture)
    pixels = np.rint(np.clip(picture.picture, 0, 1) * 255).astype(np.uint8)
    return pixels, face.pose.project(on_surface(head.landmarks, head.canvas.form))
