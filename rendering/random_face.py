"""Drawing faces at random: `random_face(np.random.default_rng(7), gender="female", age="sixty_plus")`."""

from dataclasses import replace

import numpy as np

from rendering.anatomy import TRAITS
from rendering.concepts import SWITCHES, contradicting
from rendering.face import GENDERS, Face, known
from rendering.hair import CHINS
from rendering.pose import MOST_PITCH, MOST_YAW, Pose
from util.errors import DissectionError

# How often a random face shows a concept, where the face can (see can_show).
SHARE = dict.fromkeys(SWITCHES, 0.15) | {"No_Beard": 0.4}

# What only grown-ups of one gender show.
OF_ONE_GENDER = dict.fromkeys(("5_o_Clock_Shadow", "Goatee", "Mustache"), "male") | {"Wearing_Lipstick": "female"}
GROWN_UP_YEARS = 18
# How many grown men wear a full beard, of those whose chin is not in another state, and how many of these a mustache.
BEARDED, BEARDED_WITH_MUSTACHE = 0.3, 0.85

# The subgroups that can be drawn: years and melanin, each apart from its neighbours, so that the label can be seen.
# Ethnic subgroups are not among them: a cartoon of them would teach nothing true.
AGES = {"zero_to_twenty": (4, 14), "twenty_to_forty": (22, 36), "forty_to_sixty": (48, 58), "sixty_plus": (68, 85)}
MELANIN = {"bright": (0.0, 0.3), "dark": (0.65, 1.0)}
DRAWN_GROUPS = {"age": tuple(AGES), "gender": GENDERS, "skin_tone": tuple(MELANIN)}

# How often each hair style is worn: gender and stage of life (see _hair) -> {style: share}.
WORN = {
    ("male", "child"): {"cropped": 0.4, "short": 0.3, "fringe": 0.25, "afro": 0.05},
    ("male", "adult"): {"cropped": 0.3, "short": 0.3, "swept": 0.2, "fringe": 0.1, "bald": 0.05, "afro": 0.05},
    ("male", "old"): {"cropped": 0.35, "short": 0.25, "swept": 0.15, "bald": 0.25},
    ("female", "child"): {"long": 0.35, "long_fringe": 0.25, "bob": 0.25, "pulled_back": 0.1, "afro": 0.05},
    ("female", "adult"): {"long": 0.35, "long_fringe": 0.15, "bob": 0.25, "pulled_back": 0.2, "afro": 0.05},
    ("female", "old"): {"bob": 0.45, "pulled_back": 0.25, "short": 0.25, "long": 0.05},
}

GARMENT_OF_A_CHILD = {"pullover": 0.75, "striped": 0.25}
GARMENT_OF_A_GROWN_UP = {"jacket": 0.5, "pullover": 0.25, "striped": 0.25}

# Name -> (colour, how often it is drawn, how much more often with skin of the darkest, or for eyes of the brightest).
HAIR_COLOURS = {
    "black": ((0.07, 0.06, 0.06), 0.35, 1.0), "dark_brown": ((0.17, 0.11, 0.08), 0.4, 0.0),
    "brown": ((0.32, 0.21, 0.14), 0.55, -0.5), "blond": ((0.70, 0.55, 0.34), 0.4, -0.4),
    "red": ((0.48, 0.22, 0.10), 0.12, -0.12),
}  # fmt: skip
IRIS_COLOURS = {
    "brown": ((0.24, 0.14, 0.08), 1.0, -1.0), "hazel": ((0.38, 0.28, 0.14), 0.0, 0.25),
    "green": ((0.33, 0.42, 0.28), 0.0, 0.2), "blue": ((0.32, 0.47, 0.62), 0.0, 0.4),
    "grey": ((0.42, 0.46, 0.48), 0.0, 0.15),
}  # fmt: skip
WHITE_HAIR = (0.54, 0.54, 0.545)


def random_face(random, *, age=None, gender=None, skin_tone=None, concepts=None):
    """Draw a face. random: numpy.random.Generator. age, gender, skin_tone: subgroups of DRAWN_GROUPS, None for any.

    concepts: the local concepts to show, on a shaven chin unless they name its state; None draws them too. The same
    numbers are drawn whatever is given, so faces of one generator state are twins in all but what a subgroup decides:
    skin_tone the skin (and with it whether grey brows and beards are painted darker or brighter than it); age the
    years, hair, clothes and what only grown-ups show; gender the features, build, hair style, hairline and what only
    men or women show. Returns Face. Raises DissectionError for unknown names and for concepts that contradict others.
    """
    for concept, group in (("age", age), ("gender", gender), ("skin_tone", skin_tone)):
        if group is not None and group not in DRAWN_GROUPS[concept]:
            raise DissectionError(f"{concept} is {group!r}: it must be one of {', '.join(DRAWN_GROUPS[concept])}")
    seed = int(random.integers(2**32))
    drawn_age, drawn_gender = str(random.choice(list(AGES))), str(random.choice(GENDERS))
    years = random.uniform(*AGES[age or drawn_age])
    gender = gender or drawn_gender
    # Hair and eyes go with any_melanin also where the skin is that of a subgroup, so that they do not tell twins apart.
    any_melanin = random.random()
    melanin = random.uniform(*MELANIN.get(skin_tone, (any_melanin, any_melanin)))
    face = Face(
        seed,
        years,
        gender,
        melanin,
        traits=dict(zip(TRAITS, np.clip(random.normal(0, 0.7, len(TRAITS)), -2, 2).tolist(), strict=True)),
        **_hair(random, years, gender, any_melanin),
        iris_colour=tuple(_colour(random, IRIS_COLOURS, max(0.0, 0.75 - 1.5 * any_melanin)).tolist()),
        gaze=tuple(random.uniform(-0.025, 0.025, 2).tolist()),
        light_from=(random.uniform(-45, 45), random.uniform(15, 50)),
        ambient=random.uniform(0.42, 0.62),
        background=tuple(_muted_colour(random, (0.2, 0.85), 0.12) for _ in range(2)),
        garment=_one_of(random, GARMENT_OF_A_GROWN_UP if years >= GROWN_UP_YEARS else GARMENT_OF_A_CHILD),
        clothes=_muted_colour(random, (0.08, 0.75), 0.25),
        accent=tuple(random.uniform(0.05, 0.85, 3).tolist()),
        pose=_pose(random),
    )
    drawn = _concepts(random, face)
    return replace(face, concepts=drawn if concepts is None else _consistent(concepts))


def _one_of(random, shares):
    """A name. shares: {name: how often it is drawn}, adding up to 1."""
    return str(random.choice(list(shares), p=list(shares.values())))


def _colour(random, table, amount):
    """A colour, float64 (3,). table: as HAIR_COLOURS; amount: how much of the gains, 0..1."""
    colours, shares, gains = map(np.array, zip(*table.values(), strict=True))
    chances = shares + amount * gains
    return colours[random.choice(len(colours), p=chances / chances.sum())]


def _consistent(concepts):
    """The concepts as a frozenset, with a shaven chin where none is named. Raises DissectionError, see random_face."""
    known("concept that can be switched", concepts, SWITCHES)
    concepts = frozenset([concepts] if isinstance(concepts, str) else concepts)
    for concept in sorted(concepts):
        if clash := sorted(contradicting(concept) & concepts):
            raise DissectionError(f"{concept} and {clash[0]} contradict each other: no face shows both")
    return concepts if concepts & set(CHINS) else concepts | {"No_Beard"}


def _hair(random, years, gender, melanin):
    """Draw style, colour and hairline, as fields of Face. Dark skin mostly goes with dark hair; age greys it."""
    style = _one_of(random, WORN[gender, "child" if years < GROWN_UP_YEARS else "adult" if years < 60 else "old"])
    colour = _colour(random, HAIR_COLOURS, min(1.0, 0.25 + 1.2 * melanin))
    grey = np.clip((years - random.uniform(38, 58)) / 22, 0, 0.95)
    colour = colour + grey * (np.array(WHITE_HAIR) - colour)
    recession = random.random() * (max(0.0, (years - 25) / 45) if gender == "male" else 0.15)
    return {"hair_style": style, "hair_colour": tuple(colour.tolist()), "hairline": recession}


def _muted_colour(random, brightness, saturation):
    """A colour between two grey levels whose channels differ from it by up to the saturation."""
    colour = random.uniform(*brightness) + random.uniform(-saturation, saturation, 3)
    return tuple(np.clip(colour, 0, 1).tolist())


def _pose(random):
    """Draw how the head is held: mostly nearly from the front, in the middle of a picture of render.py's size."""
    most = 0.9 * np.array((MOST_YAW, MOST_PITCH, 12.0))
    yaw, pitch, roll = np.clip(random.normal(0, (8, 4.5, 4)), -most, most).tolist()
    unit_px, x, y = random.uniform((33, 82, 101), (41, 95, 119)).tolist()
    return Pose(yaw, pitch, roll, unit_px, x, y)


def can_show(concept, years, gender):
    """Whether a random face of these years and gender is ever given a concept."""
    return concept not in OF_ONE_GENDER or (gender == OF_ONE_GENDER[concept] and years >= GROWN_UP_YEARS)


def _concepts(random, face):
    """Draw the concepts of a face: each by its share, in random order, unless it contradicts one that is there."""
    order, draws = random.permutation(SWITCHES).tolist(), random.random(len(SWITCHES))
    beard, mustache = random.random(2)
    concepts = set()
    for concept, draw in zip(order, draws, strict=True):
        possible = can_show(concept, face.years, face.gender) and not contradicting(concept) & concepts
        if possible and draw < SHARE[concept]:
            concepts.add(concept)
    if not concepts & set(CHINS):
        if can_show("Goatee", face.years, face.gender) and beard < BEARDED:
            concepts |= {"Mustache"} if mustache < BEARDED_WITH_MUSTACHE else set()
        else:
            concepts.add("No_Beard")
    return frozenset(concepts)
