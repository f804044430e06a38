"""A face as named parameters, and how they are drawn: `random_face(random, gender="female", age="sixty_plus")`.

Everything that a picture shows is a field of Face. Faces differ in what the tables here and in anatomy.py say, and a
concept is switched by `switched(face, concept, shown)`, which leaves every other field as it is.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from rendering.anatomy import TRAITS, TRAITS_OF_A_CHILD, TRAITS_OF_GENDER, TRAITS_OF_OLD_AGE
from rendering.pose import MOST_PITCH, MOST_YAW, Pose
from util.errors import DissectionError, nearest
from visual_dictionary.concepts import GLOBAL_CONCEPTS, LOCAL_CONCEPTS, LOCAL_CONCEPTS_BY_TYPE

# What a face can show or not. Its parts are always there.
SWITCHES = tuple(concept for concept in LOCAL_CONCEPTS if concept not in LOCAL_CONCEPTS_BY_TYPE["Parts"])

# The states of a chin, one at a time; without any of them it wears a full beard.
CHINS = ("No_Beard", "5_o_Clock_Shadow", "Goatee")

# Concepts that are not drawn together, because one would hide, undo or be taken for the other.
CONTRADICTIONS = (
    CHINS,
    ("AU_12", "AU_15", "AU_20", "Smiling"),
    ("AU_25", "AU_26", "Mouth_Slightly_Open", "Smiling", "AU_17"),
    ("AU_1", "AU_4"), ("AU_2", "AU_4"), ("AU_5", "Narrow_Eyes", "AU_6"), ("AU_2", "Arched_Eyebrows"),
    ("AU_4", "Arched_Eyebrows"), ("AU_1", "Arched_Eyebrows"), ("Big_Nose", "Pointy_Nose"),
    ("High_Cheekbones", "Rosy_Cheeks"), ("AU_6", "Bags_Under_Eyes"),
)  # fmt: skip

# A face that shows the first shows the others as well, though nobody switched them on: labels say what is to be seen.
IMPLIED = {
    "Smiling": ("AU_12", "AU_25", "Mouth_Slightly_Open"),
    "AU_12": ("Smiling",),
    "AU_26": ("AU_25", "Mouth_Slightly_Open"),
    "AU_25": ("Mouth_Slightly_Open",),
    "Mouth_Slightly_Open": ("AU_25",),
}

# How often a random face shows a concept, where the face can (see can_show).
SHARE = dict.fromkeys(SWITCHES, 0.15) | {"No_Beard": 0.4}

# What only grown men, only grown women, and only adults show.
OF_MEN = ("5_o_Clock_Shadow", "Goatee", "Mustache")
OF_WOMEN = ("Wearing_Lipstick",)
GROWN_UP_YEARS = 18

# The subgroups that can be drawn. Ethnic subgroups are not among them: a cartoon of them would teach nothing true.
AGES = {"zero_to_twenty": (5, 20), "twenty_to_forty": (20, 40), "forty_to_sixty": (40, 60), "sixty_plus": (60, 85)}
GENDERS = ("male", "female")
MELANIN = {"bright": (0.0, 0.3), "dark": (0.65, 1.0)}
DRAWN_GROUPS = {"age": tuple(AGES), "gender": GENDERS, "skin_tone": tuple(MELANIN)}
assert all(set(groups) == set(GLOBAL_CONCEPTS[concept].groups) for concept, groups in DRAWN_GROUPS.items())


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


BALD = HairStyle(0.0, 0.0)
HAIR_STYLES = {
    "bald": BALD,
    "cropped": HairStyle(-0.15, 0.05, straight=False, cover=0.88, softness=0.06),
    "short": HairStyle(0.05, 0.14, fringe=0.06, parting=0.5),
    "swept": HairStyle(0.0, 0.22, parting=-0.6),
    "fringe": HairStyle(0.1, 0.16, fringe=0.35, parting=0.2),
    "tied": HairStyle(-0.05, 0.10, arched=True),
    "bob": HairStyle(1.35, 0.28, parting=0.5, arched=True),
    "long": HairStyle(2.3, 0.24, parting=-0.2, arched=True),
    "long_fringe": HairStyle(2.2, 0.25, fringe=0.42),
    "afro": HairStyle(0.35, 0.50, arched=True, straight=False),
}
# How often each style is worn: gender and whether sixty or more -> {style: share}.
WORN = {
    ("male", False): {"cropped": 0.3, "short": 0.3, "swept": 0.2, "fringe": 0.1, "bald": 0.05, "afro": 0.05},
    ("male", True): {"cropped": 0.35, "short": 0.25, "swept": 0.15, "bald": 0.25},
    ("female", False): {"long": 0.35, "long_fringe": 0.15, "bob": 0.25, "tied": 0.2, "afro": 0.05},
    ("female", True): {"bob": 0.45, "tied": 0.25, "short": 0.25, "long": 0.05},
}

HAIR_COLOURS = {
    "black": (0.07, 0.06, 0.06), "dark_brown": (0.17, 0.11, 0.08), "brown": (0.32, 0.21, 0.14),
    "blond": (0.70, 0.55, 0.34), "red": (0.48, 0.22, 0.10), "white": (0.54, 0.54, 0.545),
}  # fmt: skip
IRIS_COLOURS = {
    "brown": (0.24, 0.14, 0.08), "hazel": (0.38, 0.28, 0.14), "green": (0.33, 0.42, 0.28), "blue": (0.32, 0.47, 0.62),
    "grey": (0.42, 0.46, 0.48),
}  # fmt: skip


@dataclass(frozen=True)
class Face:
    """All that there is to know of a rendered face; angles in degrees, lengths in face units, colours in 0..1.

    seed: of the textures (hair, skin, background, noise). years: age. gender: one of GENDERS. melanin: 0 the brightest
    skin, 1 the darkest. traits: trait of anatomy.TRAITS -> value, standard deviations from the average. concepts: the
    local concepts that are switched on. light_from: azimuth (to the right) and elevation; ambient: share of the light
    that has no direction. background: two colours, above and below.
    """

    seed: int
    years: float = 30.0
    gender: str = "female"
    melanin: float = 0.3
    traits: dict = field(default_factory=dict)
    concepts: frozenset = frozenset({"No_Beard"})
    hair_style: str = "long"
    hair_colour: tuple = HAIR_COLOURS["brown"]
    hairline: float = 0.0
    iris_colour: tuple = IRIS_COLOURS["brown"]
    gaze: tuple = (0.0, 0.0)
    light_from: tuple = (-20.0, 35.0)
    ambient: float = 0.5
    background: tuple = ((0.55, 0.62, 0.70), (0.35, 0.40, 0.46))
    clothes: tuple = (0.20, 0.24, 0.33)
    pose: Pose = field(default_factory=Pose)

    @property
    def childhood(self):
        """1 for a small child, 0 for a grown-up."""
        return float(np.clip((17 - self.years) / 11, 0, 1))

    @property
    def old_age(self):
        """0 up to the middle thirties, 1 at eighty."""
        return float(np.clip((self.years - 35) / 45, 0, 1))

    @property
    def all_traits(self):
        """{trait: value}: the face's own, with what its gender and its years add."""
        grown = 1 - self.childhood
        added = ((TRAITS_OF_GENDER[self.gender], grown), (TRAITS_OF_A_CHILD, self.childhood),
                 (TRAITS_OF_OLD_AGE, self.old_age))  # fmt: skip
        return {
            trait: self.traits.get(trait, 0.0) + sum(strength * table.get(trait, 0.0) for table, strength in added)
            for trait in TRAITS
        }

    @property
    def shown(self):
        """The switched concepts and those that go with them, in concept order: the labels of the picture."""
        shown = set(self.concepts)
        for concept in self.concepts:
            shown.update(IMPLIED.get(concept, ()))
        return tuple(concept for concept in LOCAL_CONCEPTS if concept in shown)

    def random(self, what):
        """The generator of one texture: always the same numbers, whatever else the face shows. what: its name."""
        return np.random.default_rng([self.seed, *what.encode()])


def contradicting(concept):
    """The concepts that are not drawn together with this one: set of names."""
    return {other for group in CONTRADICTIONS if concept in group for other in group} - {concept}


def switched(face, concept, shown):
    """The same face with a concept on or off and, either way, without what contradicts it.

    Raises DissectionError for what is no concept that can be switched. A chin without its beard is shaven.
    """
    if concept not in SWITCHES:
        close = nearest(concept, SWITCHES)
        raise DissectionError(f"{concept!r} cannot be switched" + (f", did you mean {close[0]}?" if close else ""))
    concepts = face.concepts - contradicting(concept) - {concept}
    if shown:
        concepts |= {concept}
    elif concept in CHINS and concept != "No_Beard":
        concepts |= {"No_Beard"}
    return replace(face, concepts=concepts)


def random_face(random, *, age=None, gender=None, skin_tone=None, concepts=None):
    """Draw a face. random: numpy.random.Generator. age, gender, skin_tone: subgroups of DRAWN_GROUPS, None for any.

    concepts: the local concepts to show; None draws them too. The same numbers are drawn whatever is given, so that
    faces of the same generator differ in nothing else. Returns Face. Raises DissectionError for unknown names.
    """
    for concept, group in (("age", age), ("gender", gender), ("skin_tone", skin_tone)):
        if group is not None and group not in DRAWN_GROUPS[concept]:
            raise DissectionError(f"{concept} is {group!r}: it must be one of {', '.join(DRAWN_GROUPS[concept])}")
    seed = int(random.integers(2**32))
    drawn_age, drawn_gender = random.choice(list(AGES)), random.choice(GENDERS)
    low, high = AGES[age or str(drawn_age)]
    years = float(low + (high - low) * random.random())
    gender = gender or str(drawn_gender)
    any_melanin, share = random.random(2)
    low, high = MELANIN[skin_tone] if skin_tone else (any_melanin, any_melanin)
    melanin = float(low + (high - low) * share)
    face = Face(
        seed,
        years,
        gender,
        melanin,
        traits=dict(zip(TRAITS, np.clip(random.normal(0, 0.7, len(TRAITS)), -2, 2).tolist(), strict=True)),
        **_hair(random, years, gender, melanin),
        iris_colour=_iris(random, melanin),
        gaze=tuple(random.uniform(-0.025, 0.025, 2).tolist()),
        light_from=(float(random.uniform(-45, 45)), float(random.uniform(15, 50))),
        ambient=float(random.uniform(0.42, 0.62)),
        background=tuple(_colour(random, 0.2, 0.85, 0.12) for _ in range(2)),
        clothes=_colour(random, 0.08, 0.6, 0.14),
        pose=_pose(random),
    )
    drawn = _concepts(random, face)
    return replace(face, concepts=drawn if concepts is None else _checked(concepts))


def _checked(concepts):
    unknown = sorted(set(concepts) - set(SWITCHES))
    if unknown:
        raise DissectionError(f"{', '.join(unknown)}: no local concept that can be switched")
    return frozenset(concepts)


def _hair(random, years, gender, melanin):
    styles = WORN[gender, years >= 60]
    style = str(random.choice(list(styles), p=list(styles.values())))
    # Dark skin goes with dark hair; age greys it.
    dark = min(1.0, 0.25 + 1.2 * melanin)
    share = {"black": 0.35 + dark, "dark_brown": 0.4, "brown": 0.5 * (1 - dark) + 0.05, "blond": 0.4 * (1 - dark),
             "red": 0.12 * (1 - dark), "white": 0.0}  # fmt: skip
    colour = np.array(HAIR_COLOURS[random.choice(list(share), p=np.array(list(share.values())) / sum(share.values()))])
    grey = np.clip((years - random.uniform(38, 58)) / 22, 0, 0.95)
    colour = colour + grey * (np.array(HAIR_COLOURS["white"]) - colour)
    recession = random.random() * (max(0.0, (years - 25) / 45) if gender == "male" else 0.15)
    return {"hair_style": style, "hair_colour": tuple(colour.tolist()), "hairline": float(recession)}


def _iris(random, melanin):
    pale = max(0.0, 0.75 - 1.5 * melanin)
    share = np.array([1 - pale, pale * 0.25, pale * 0.2, pale * 0.4, pale * 0.15])
    return IRIS_COLOURS[random.choice(list(IRIS_COLOURS), p=share / share.sum())]


def _colour(random, darkest, brightest, saturation):
    """A muted colour."""
    return tuple(
        np.clip(random.uniform(darkest, brightest) + random.uniform(-saturation, saturation, 3), 0, 1).tolist()
    )


def _pose(random):
    most = np.array((MOST_YAW, MOST_PITCH, 12.0))
    yaw, pitch, roll = np.clip(random.normal(0, (8, 4.5, 4)), -0.9 * most, 0.9 * most).tolist()
    unit_px, x, y = (random.uniform(low, high) for low, high in ((33, 41), (82, 95), (101, 119)))
    return Pose(yaw, pitch, roll, unit_px, x, y)


def can_show(concept, years, gender):
    """Whether a random face of these years and gender is ever given a concept."""
    if concept in OF_MEN:
        return gender == "male" and years >= GROWN_UP_YEARS
    return concept not in OF_WOMEN or (gender == "female" and years >= GROWN_UP_YEARS)


def _concepts(random, face):
    """Draw the concepts of a face: each by its share, in random order, unless it contradicts one that is there."""
    concepts = set()
    for concept, draw in zip(random.permutation(SWITCHES).tolist(), random.random(len(SWITCHES)), strict=True):
        if (
            draw < SHARE[concept]
            and can_show(concept, face.years, face.gender)
            and not contradicting(concept) & concepts
        ):
            concepts.add(concept)
    bearded = can_show("Goatee", face.years, face.gender) and random.random() < 0.3
    if not bearded and not concepts & set(CHINS):
        concepts.add("No_Beard")
    return frozenset(concepts)
