"""Every concept the dictionary knows, as data (method.md §1.2 and §1.3).

A new local concept is a name in LOCAL_CONCEPTS_BY_TYPE and, if it lies in a face region, in REGIONS; a new global
concept is a row of GLOBAL_CONCEPTS. Nothing else in the program names a concept.
"""

import re
from dataclasses import dataclass

from util.errors import DissectionError

# Type -> its concepts. The order of types and names here is the concept order of every array.
LOCAL_CONCEPTS_BY_TYPE = {
    "AU": (
        "AU_1", "AU_2", "AU_4", "AU_5", "AU_6", "AU_9", "AU_12", "AU_15", "AU_17", "AU_20", "AU_25", "AU_26",
    ),
    "Parts": (
        "nose", "left_brow", "right_brow", "left_eye", "right_eye", "mouth", "left_cheek", "right_cheek",
    ),
    "Attr": (
        "5_o_Clock_Shadow", "Arched_Eyebrows", "Bushy_Eyebrows", "No_Beard", "Bags_Under_Eyes", "Big_Lips",
        "Big_Nose", "Double_Chin", "Eyeglasses", "Goatee", "High_Cheekbones", "Rosy_Cheeks", "Mouth_Slightly_Open",
        "Mustache", "Narrow_Eyes", "Pointy_Nose", "Smiling", "Wearing_Lipstick",
    ),
}  # fmt: skip

# Face region -> its concepts, of any type.
REGIONS = {
    "Eye_Region": (
        "AU_1", "AU_2", "AU_4", "AU_5", "left_brow", "right_brow", "left_eye", "right_eye", "Arched_Eyebrows",
        "Bushy_Eyebrows", "Eyeglasses", "Narrow_Eyes",
    ),
    "Cheek_Region": (
        "AU_6", "left_cheek", "right_cheek", "Bags_Under_Eyes", "High_Cheekbones", "Rosy_Cheeks", "No_Beard",
        "5_o_Clock_Shadow",
    ),
    "Nose_Region": ("AU_9", "nose", "Big_Nose", "Pointy_Nose"),
    "Mouth_Region": (
        "AU_12", "AU_15", "AU_20", "AU_25", "mouth", "Big_Lips", "Mouth_Slightly_Open", "Mustache", "Smiling",
        "Wearing_Lipstick",
    ),
    "Chin_Region": ("AU_17", "AU_26", "Double_Chin", "Goatee"),
}  # fmt: skip

# What units count under that have no concept, or whose concept lies in no region.
UNLOCALIZABLE = "Unlocalizable"


@dataclass(frozen=True)
class GlobalConcept:
    """A concept of whole images. folder: its place under non_localizable/; groups: subgroup name -> folder."""

    folder: str
    groups: dict


GLOBAL_CONCEPTS = {
    "age": GlobalConcept(
        "Age", {name: name for name in ("zero_to_twenty", "twenty_to_forty", "forty_to_sixty", "sixty_plus")}
    ),
    "gender": GlobalConcept("Gender", {"male": "Male", "female": "Female"}),
    "ethnic": GlobalConcept("Ethnicity", {name: name for name in ("white", "black", "asian", "indian")}),
    "skin_tone": GlobalConcept("skin_tone", {name: name for name in ("bright", "dark")}),
}


# Names that the files of saved features, NumPy's functions and the tables use themselves.
_RESERVED = ("p_min", "p_max", "file", "allow_pickle", "unbiased")


def global_concepts(more):
    """GLOBAL_CONCEPTS and a user's own. more: {concept: [subgroup, ...]}, folders of the same names.

    Returns {concept: GlobalConcept}. Raises DissectionError for a name that is taken or cannot name a file, and for
    fewer than two subgroups.
    """
    for concept, groups in more.items():
        for name in (concept, *groups):
            if not re.fullmatch(r"\w[\w-]*", name) or name in _RESERVED:
                raise DissectionError(
                    f"MORE_GLOBAL_CONCEPTS: {name!r} cannot be a name here: use letters, digits, '_' and '-', and not "
                    + " or ".join(_RESERVED)
                )
        if concept in GLOBAL_CONCEPTS:
            raise DissectionError(f"MORE_GLOBAL_CONCEPTS: {concept!r} is a global concept already, choose another name")
        if len(set(groups)) < max(2, len(groups)):
            raise DissectionError(f"MORE_GLOBAL_CONCEPTS: {concept!r} needs two or more different subgroups")
    own = {concept: GlobalConcept(concept, {group: group for group in groups}) for concept, groups in more.items()}
    return {**GLOBAL_CONCEPTS, **own}


# Concept -> type and concept -> region, the two tables above read the other way.
CONCEPT_TYPE = {concept: kind for kind, concepts in LOCAL_CONCEPTS_BY_TYPE.items() for concept in concepts}
CONCEPT_REGION = {concept: region for region, concepts in REGIONS.items() for concept in concepts}

LOCAL_CONCEPTS = tuple(CONCEPT_TYPE)


def region_of(concept):
    """The face region of a local concept, or UNLOCALIZABLE for one that lies in none."""
    return CONCEPT_REGION.get(concept, UNLOCALIZABLE)
