"""Which landmarks make the mask of which concept, and how many standard deviations wide: a table (method.md §1.4)."""

from dataclasses import replace

from rendering.landmarks import (
    LEFT_BROW,
    LEFT_EYE,
    MOUTH,
    OUTER_LIPS,
    RIGHT_EYE,
    Between,
    Ellipse,
    both_sides,
    mirrored,
)

# Where the three published sample entries show a concept, its numbers are fitted to their masks; the other concepts
# follow the anatomy of the face.

# The ellipses that several concepts share, each for the left side of the image.
_BROW = Ellipse((*LEFT_BROW,), deviations=1.5, minor_to_major=0.5)
_EYE = Ellipse((*LEFT_EYE,), deviations=1.9)
_MOUTH = Ellipse((*MOUTH,))
# From the eye line to under the nostrils. The tip counts twice: it stands forward, so that in a turned face the nose
# lies on its side of the ridge.
_NOSE = Ellipse((27, 30, 30, Between(30, 33), 33), deviations=2.4, minor_to_major=0.45)
# The space between eye, nose, mouth corner and jaw, about as wide as it is high.
_CHEEK = Ellipse((1, 2, 31, 48, Between(41, 48)), deviations=1.6, minor_to_major=0.9)
# The lower lid and the skin beneath it, down to about a third of the way to mouth and nostril.
_UNDER_EYE = Ellipse((40, 41, Between(36, 48, 0.15), Between(39, 31, 0.2), Between(41, 48, 0.35), Between(40, 31, 0.5)))
# Lips, chin and jaw, up to the level of the nostrils: where a beard would be.
_LOWER_FACE = Ellipse((*range(4, 13), *OUTER_LIPS), deviations=2.7)

# Local concept -> the ellipses whose union is its mask. Action units follow the muscle that moves the skin (FACS).
ELLIPSE_RULES = {
    # Action units.
    "AU_1": both_sides(Ellipse((19, 20, 21), minor_to_face=0.14)),  # inner brow raiser
    "AU_2": both_sides(Ellipse((17, 18, 19), minor_to_face=0.14)),  # outer brow raiser
    "AU_4": (Ellipse((*range(17, 29),)),),  # brow lowerer: both brows and the space between them
    "AU_5": both_sides(Ellipse((36, 37, 38, 39, Between(37, 19), Between(38, 20)))),  # upper lid raiser
    "AU_6": both_sides(Ellipse((36, 39, 40, 41, Between(41, 48, 0.4), Between(36, 2, 0.5)), minor_to_major=0.4)),
    "AU_9": (Ellipse((*range(27, 36), 39, 42), deviations=1.8),),  # nose wrinkler
    "AU_12": (Ellipse((*MOUTH, Between(48, 2, 0.3), Between(54, 14, 0.3))),),  # lip corner puller
    "AU_15": (Ellipse((*OUTER_LIPS, Between(48, 6, 0.4), Between(54, 10, 0.4))),),  # lip corner depressor
    "AU_17": (Ellipse((7, 8, 9, 56, 57, 58), deviations=1.8, minor_to_major=0.6),),  # chin raiser
    "AU_20": (Ellipse((*MOUTH, Between(48, 4, 0.35), Between(54, 12, 0.35))),),  # lip stretcher
    "AU_25": (_MOUTH,),  # lips part
    "AU_26": (replace(_LOWER_FACE, deviations=2.2),),  # jaw drop
    # Parts.
    "nose": (_NOSE,),
    "left_brow": (_BROW,),
    "right_brow": (mirrored(_BROW),),
    "left_eye": (_EYE,),
    "right_eye": (mirrored(_EYE),),
    "mouth": (_MOUTH,),
    "left_cheek": (_CHEEK,),
    "right_cheek": (mirrored(_CHEEK),),
    # Attributes.
    "5_o_Clock_Shadow": (_LOWER_FACE,),
    "Arched_Eyebrows": both_sides(replace(_BROW, minor_to_face=0.2)),
    "Bushy_Eyebrows": both_sides(_BROW),
    "No_Beard": (_LOWER_FACE,),
    "Bags_Under_Eyes": both_sides(_UNDER_EYE),
    "Big_Lips": (_MOUTH,),
    "Big_Nose": (_NOSE,),
    "Double_Chin": (Ellipse((*range(5, 12), Between(57, 8, 1.5)), deviations=1.8, minor_to_major=0.4),),
    "Eyeglasses": (Ellipse((*LEFT_EYE, *RIGHT_EYE, 27, 28), minor_to_face=0.4),),
    "Goatee": (Ellipse((*range(6, 11), *range(55, 60)), deviations=1.8),),
    "High_Cheekbones": both_sides(_CHEEK),
    "Rosy_Cheeks": both_sides(_CHEEK),
    "Mouth_Slightly_Open": (_MOUTH,),
    "Mustache": (Ellipse((*range(31, 36), *range(48, 55))),),
    "Narrow_Eyes": both_sides(_EYE),
    "Pointy_Nose": (_NOSE,),
    "Smiling": (_MOUTH,),
    "Wearing_Lipstick": (_MOUTH,),
}
