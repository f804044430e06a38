"""The concepts of the Face Dictionary as data (method.md §1.2 and §1.3), and those that a dictionary brings itself.

The 38 local concepts and the four global ones are the face format's tables. A dictionary adds its own in `concepts.csv`
(concept, type, region) and `groups.csv` (concept, group, folder) at its root; no code names a concept.
"""

import csv
import math
import re
from dataclasses import dataclass

from util.errors import DissectionError, nearest

# The type of what every face has: an image neither shows it nor lacks it.
PARTS = "Parts"

# Type -> its concepts. The order of types and names here is the concept order of every array.
LOCAL_CONCEPTS_BY_TYPE = {
    "AU": (
        "AU_1", "AU_2", "AU_4", "AU_5", "AU_6", "AU_9", "AU_12", "AU_15", "AU_17", "AU_20", "AU_25", "AU_26",
    ),
    PARTS: (
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

# The type of a concept that no table lists; it lies in no region.
UNLISTED = "Other"


# Action units by number: their names in FACS, the Facial Action Coding System; more than the 38 have, for dictionaries
# of one's own.
ACTION_UNITS = {
    1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser", 6: "cheek raiser",
    7: "lid tightener", 9: "nose wrinkler", 10: "upper lip raiser", 12: "lip corner puller", 14: "dimpler",
    15: "lip corner depressor", 17: "chin raiser", 20: "lip stretcher", 23: "lip tightener", 24: "lip pressor",
    25: "lips part", 26: "jaw drop", 28: "lip suck", 43: "eyes closed", 45: "blink",
}  # fmt: skip

# Left and right of parts are those of the image (method.md §1.4).
_SIDES = {"left_": "on the person's right", "right_": "on the person's left"}


def explained(name):
    """What a concept's name means, as text: of an action unit (AU_12, au12, AU06) its name in FACS, of a part of one
    side which side that is; empty for others.
    """
    action_unit = re.fullmatch(r"au[_ -]?0*(\d+)", name, re.IGNORECASE)
    if action_unit:
        return ACTION_UNITS.get(int(action_unit[1]), "")
    part = name in LOCAL_CONCEPTS_BY_TYPE[PARTS]
    return next((side for start, side in _SIDES.items() if part and name.startswith(start)), "")


@dataclass(frozen=True)
class Concept:
    """A local concept. type: AU, Parts, Attr or one of the dictionary's own. region: of the face, None for none.

    whole: it holds for whole images alone, so that it has no place in them. also: synonyms.
    """

    name: str
    type: str
    region: str | None = None
    whole: bool = False
    also: tuple = ()


_REGION_OF = {name: region for region, names in REGIONS.items() for name in names}
FACE_CONCEPTS = tuple(
    Concept(name, kind, _REGION_OF.get(name)) for kind, names in LOCAL_CONCEPTS_BY_TYPE.items() for name in names
)
LOCAL_CONCEPTS = tuple(concept.name for concept in FACE_CONCEPTS)

# A name so like a listed one is taken for a slip of the pen, unless concepts.csv lists it: "noes" is 0.75 like "nose".
_SLIP = 0.75

OWN_CONCEPTS, OWN_GROUPS = "concepts.csv", "groups.csv"


def read_rows(path, columns):
    """The rows of a small table at a dictionary's root. Returns list of tuples of text, empty without the file.

    columns: its header; cells may be empty in the last one only. Raises DissectionError.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if any(map(str.strip, line))]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DissectionError(f"cannot read {path}: {error}") from error
    if not lines or tuple(lines[0]) != columns:
        raise DissectionError(f"{path}: the first line must be '{','.join(columns)}'")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(columns) or not all(line[:-1]):
            raise DissectionError(f"{path}: row {number} must have {' and '.join(columns)}, found {','.join(line)!r}")
    return [tuple(line) for line in lines[1:]]


def listed_concepts(root):
    """The concepts that tables list for the dictionary at root, in concept order: {name: Concept}.

    The face format's 38, then those of concepts.csv. Raises DissectionError for a name that is listed already or
    cannot name a file.
    """
    listed = {concept.name: concept for concept in FACE_CONCEPTS}
    for name, kind, region in read_rows(root / OWN_CONCEPTS, ("concept", "type", "region")):
        if name in listed:
            raise DissectionError(f"{root / OWN_CONCEPTS}: {name} is listed already")
        if not re.fullmatch(r"[^/\\;,\0]+", name):
            raise DissectionError(f"{root / OWN_CONCEPTS}: {name!r} cannot be the name of a mask's file")
        listed[name] = Concept(name, kind, region or None)
    return listed


def slip_of(name, listed):
    """The listed concept that a name is probably meant to be, or None for a concept of its own."""
    return next(iter(nearest(name, listed, count=1, cutoff=_SLIP)), None)


# --------------------------------------------------------------------------------------------------- global concepts


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

# The years of a subgroup of age, from the first to below the second.
AGE_RANGES = {
    "zero_to_twenty": (0, 20), "twenty_to_forty": (20, 40), "forty_to_sixty": (40, 60), "sixty_plus": (60, math.inf),
}  # fmt: skip

# Names that the files of saved features, NumPy's functions and the tables use themselves.
_RESERVED = ("p_min", "p_max", "file", "allow_pickle", "unbiased")


def global_concepts(root):
    """The global concepts of the dictionary at root: {concept: GlobalConcept}, known ones first.

    GLOBAL_CONCEPTS and the rows of groups.csv (`concept,group,folder`, the folder under non_localizable/), which may
    also add a subgroup to a known concept. Raises DissectionError for a name that is taken or cannot name a file.
    """
    found = dict(GLOBAL_CONCEPTS)
    for concept, group, place in read_rows(root / OWN_GROUPS, ("concept", "group", "folder")):
        _require_names(concept, group)
        folder, slash, name = place.strip("/").partition("/")
        known = found.setdefault(concept, GlobalConcept(folder, {}))
        if not slash or folder != known.folder or not re.fullmatch(r"\w[\w -]*", name):
            where = f"{known.folder}/<subgroup>"
            raise DissectionError(
                f"{root / OWN_GROUPS}: the folder of {concept} {group} must be {where}, not {place!r}"
            )
        if group in known.groups:
            raise DissectionError(f"{root / OWN_GROUPS}: {group} of {concept} is listed already")
        if name.casefold() in map(str.casefold, known.groups.values()):
            raise DissectionError(f"{root / OWN_GROUPS}: the folder {place} is that of another subgroup of {concept}")
        for other, description in found.items():
            if other != concept and description.folder.casefold() == folder.casefold():
                raise DissectionError(f"{root / OWN_GROUPS}: the folder {folder} of {concept} is that of {other}")
        found[concept] = GlobalConcept(folder, {**known.groups, group: name})
    return found


def _require_names(*names):
    for name in names:
        if not re.fullmatch(r"\w[\w-]*", name) or name in _RESERVED:
            raise DissectionError(
                f"{OWN_GROUPS}: {name!r} cannot be a name here: use letters, digits, '_' and '-', and not "
                + " or ".join(_RESERVED)
            )
