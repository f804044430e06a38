"""What a face can show or not: a row for each concept that is drawn, and nothing is labelled that has none.

A new one is a file beside this with its layer, and a row here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rendering import features, hair, skin
from rendering.hair import CHINS


@dataclass(frozen=True)
class Drawn:
    """How a concept is drawn.

    layer: what paints it; None where the landmarks that it moves (anatomy.PULLS) show it alone. after: the layer over
    which a layer of its own is laid; None for one of render.HEAD_LAYERS. type, region, mask: of a concept that the face
    format does not list (mask: tuple of rendering.landmarks.Ellipse).
    """

    layer: Callable | None = None
    after: Callable | None = None
    type: str = ""
    region: str = ""
    mask: tuple = ()


# The order is that of their random numbers: new rows go to the end.
DRAWN = {
    "AU_1": Drawn(),
    "AU_2": Drawn(),
    "AU_4": Drawn(skin.frown),
    "AU_5": Drawn(),
    "AU_6": Drawn(skin.raised_cheeks),
    "AU_9": Drawn(skin.wrinkled_nose),
    "AU_12": Drawn(),
    "AU_15": Drawn(),
    "AU_17": Drawn(skin.raised_chin),
    "AU_20": Drawn(),
    "AU_25": Drawn(),
    "AU_26": Drawn(),
    "5_o_Clock_Shadow": Drawn(hair.facial_hair),
    "Arched_Eyebrows": Drawn(),
    "Bushy_Eyebrows": Drawn(features.brows),
    "No_Beard": Drawn(hair.facial_hair),
    "Bags_Under_Eyes": Drawn(skin.bags_under_eyes),
    "Big_Lips": Drawn(),
    "Big_Nose": Drawn(features.nose),
    "Double_Chin": Drawn(skin.double_chin),
    "Eyeglasses": Drawn(features.eyeglasses),
    "Goatee": Drawn(hair.facial_hair),
    "High_Cheekbones": Drawn(skin.cheekbones),
    "Rosy_Cheeks": Drawn(skin.blush),
    "Mouth_Slightly_Open": Drawn(),
    "Mustache": Drawn(hair.facial_hair),
    "Narrow_Eyes": Drawn(features.eyes),
    "Pointy_Nose": Drawn(features.nose),
    "Smiling": Drawn(features.mouth),
    "Wearing_Lipstick": Drawn(features.mouth),
}

SWITCHES = tuple(DRAWN)

# What every face shows.
ALWAYS = ("nose", "left_brow", "right_brow", "left_eye", "right_eye", "mouth", "left_cheek", "right_cheek")

# Concepts that are not drawn together, because one would hide, undo or be taken for the other.
CONTRADICTIONS = (
    CHINS, ("AU_12", "AU_15", "AU_20", "Smiling"), ("AU_25", "AU_26", "Mouth_Slightly_Open", "Smiling", "AU_17"),
    ("AU_1", "AU_4"), ("AU_2", "AU_4"), ("AU_5", "Narrow_Eyes", "AU_6"), ("AU_2", "Arched_Eyebrows"),
    ("AU_4", "Arched_Eyebrows"), ("AU_1", "Arched_Eyebrows"), ("Big_Nose", "Pointy_Nose"),
    ("High_Cheekbones", "Rosy_Cheeks"), ("AU_6", "Bags_Under_Eyes"), ("Big_Lips", "Smiling"), ("Big_Lips", "AU_26"),
)  # fmt: skip

# A face that shows the first shows the others as well, though nobody switched them on: labels say what is to be seen.
IMPLIED = {
    "Smiling": ("AU_12", "AU_25", "Mouth_Slightly_Open"),
    "AU_12": ("Smiling",),
    "AU_26": ("AU_25", "Mouth_Slightly_Open"),
    "AU_25": ("Mouth_Slightly_Open",),
    "Mouth_Slightly_Open": ("AU_25",),
}


def contradicting(concept):
    """The concepts that are not drawn together with this one: set of names."""
    return {other for group in CONTRADICTIONS if concept in group for other in group} - {concept}
