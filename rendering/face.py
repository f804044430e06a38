"""A face as named parameters: everything that a picture shows is a field of Face. random_face.py draws faces."""

from dataclasses import dataclass, field, replace

import numpy as np

from rendering.anatomy import ADDED_TRAITS, TRAITS
from rendering.concepts import IMPLIED, SWITCHES, contradicting
from rendering.hair import CHINS, HAIR_STYLES
from rendering.pose import Pose
from rendering.scene import GARMENTS
from util.errors import DissectionError, did_you_mean

GENDERS = ("male", "female")


@dataclass(frozen=True)
class Face:
    """All that there is to know of a rendered face; angles in degrees, lengths in face units, colours in 0..1.

    seed: of the textures (hair, skin, background, noise). years: age. gender: one of GENDERS. melanin: 0 the brightest
    skin, 1 the darkest. traits: trait of anatomy.TRAITS -> value, standard deviations from the average. concepts: the
    local concepts that are switched on. light_from: azimuth (to the right) and elevation; ambient: share of the light
    that has no direction. background: two colours, above and below. clothes, accent: colours of the garment and of its
    stripes or the tie.

    Raises DissectionError for a gender, hair style, garment, trait or concept that there is not.
    """

    seed: int
    years: float = 30.0
    gender: str = "female"
    melanin: float = 0.3
    traits: dict = field(default_factory=dict)
    concepts: frozenset = frozenset({"No_Beard"})
    hair_style: str = "long"
    hair_colour: tuple = (0.32, 0.21, 0.14)
    hairline: float = 0.0
    iris_colour: tuple = (0.24, 0.14, 0.08)
    gaze: tuple = (0.0, 0.0)
    light_from: tuple = (-20.0, 35.0)
    ambient: float = 0.5
    background: tuple = ((0.55, 0.62, 0.70), (0.35, 0.40, 0.46))
    garment: str = "pullover"
    clothes: tuple = (0.20, 0.24, 0.33)
    accent: tuple = (0.60, 0.12, 0.15)
    pose: Pose = field(default_factory=Pose)

    def __post_init__(self):
        known("gender", [self.gender], GENDERS)
        known("hair style", [self.hair_style], HAIR_STYLES)
        known("garment", [self.garment], GARMENTS)
        known("trait", self.traits, TRAITS)
        known("concept that can be switched", self.concepts, SWITCHES)

    @property
    def childhood(self):
        """1 for a small child, 0 for a grown-up."""
        return float(np.clip((17 - self.years) / 11, 0, 1))

    @property
    def old_age(self):
        """0 up to twenty-eight, 1 from seventy-three."""
        return float(np.clip((self.years - 28) / 45, 0, 1))

    @property
    def all_traits(self):
        """{trait: value}: the face's own, with what its gender and its years add."""
        strengths = {self.gender: 1 - self.childhood, "child": self.childhood, "old": self.old_age}
        tables = [(ADDED_TRAITS[what], strength) for what, strength in strengths.items()]
        return {
            trait: self.traits.get(trait, 0.0) + sum(strength * table.get(trait, 0.0) for table, strength in tables)
            for trait in TRAITS
        }

    @property
    def shown(self):
        """The switched concepts and those that go with them, in concept order: the labels of the picture."""
        shown = self.concepts.union(*(IMPLIED.get(concept, ()) for concept in self.concepts))
        return tuple(concept for concept in SWITCHES if concept in shown)

    def random(self, what):
        """The generator of one texture: always the same numbers, whatever else the face shows. what: its name."""
        return np.random.default_rng([self.seed, *what.encode()])


def known(what, names, alternatives):
    """Raise DissectionError for the first of names that is none of the alternatives. what: they are, in words."""
    for name in [names] if isinstance(names, str) else names:
        if name not in alternatives:
            raise DissectionError(f"{name!r} is no {what}, {did_you_mean(name, alternatives)}")


def switched(face, concept, shown):
    """The same face with a concept on or off and, either way, without what contradicts it.

    A chin without its goatee or stubble is shaven; "No_Beard" switched off gives a full beard, to anybody. Raises
    DissectionError for what is no concept that can be switched.
    """
    known("concept that can be switched", [concept], SWITCHES)
    concepts = face.concepts - contradicting(concept) - {concept}
    if shown:
        concepts |= {concept}
    elif concept in CHINS and concept != "No_Beard":
        concepts |= {"No_Beard"}
    return replace(face, concepts=concepts)
