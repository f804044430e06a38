"""Writing a Face Dictionary in the published layout (method.md §1.1 and §1.4), whatever its pictures come from.

Photographs (build.py) and rendered faces (render.py) come here with their landmarks and labels;
masks, files and index are made the same way for both.
"""

import csv
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from dictionary.concepts import GLOBAL_CONCEPTS, LOCAL_CONCEPTS, OWN_CONCEPTS, OWN_GROUPS, global_concepts
from dictionary.face_format import COLUMNS, INDEX_FILES
from dictionary.faces import KNOWN_FACES
from dictionary.images import darken_outside
from dictionary.subgroups import GLOBAL_FOLDER, RECIPE
from rendering.landmarks import draw_mask, face_size_px
from util.errors import DissectionError, first_few
from util.files import alone, clear_leftovers, explained

log = logging.getLogger(__name__)

# Type of concept -> its index file and the folder of its images.
PLACES = {"Attr": ("Attributes.csv", "attributes"), "AU": ("Action_Units.csv", "AU"), "Parts": ("Parts.csv", "parts")}

# A picture of some images with their masks, for people to look at.
CONTACT_SHEET = "contact_sheet.png"

# All that a dictionary consists of; a folder that holds anything else is not replaced.
DICTIONARY_ENTRIES = {
    *INDEX_FILES, *(folder for _, folder in PLACES.values()), OWN_CONCEPTS, OWN_GROUPS, GLOBAL_FOLDER, CONTACT_SHEET,
    RECIPE, KNOWN_FACES,
}  # fmt: skip

# What file managers leave in a folder without being asked.
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini", ".directory")

# Of the pictures for people.
LANDMARK_COLOUR = (255, 0, 0)


@dataclass
class Written:
    """What became of one image. rows: index file -> (image path, mask paths), all relative to the dictionary.

    outside: concepts whose mask is left out because it lies wholly outside the image. groups: global concept -> the
    subgroup in which it lies. faces: digest of the image -> its Face, where that is known. problem: why it cannot be
    used.
    """

    rows: dict = field(default_factory=dict)
    outside: list = field(default_factory=list)
    groups: dict = field(default_factory=dict)
    faces: dict = field(default_factory=dict)
    problem: str | None = None


def place_of(out):
    """Where a dictionary that the user calls out lies. Returns pathlib.Path, absolute, links followed.

    Raises DissectionError for a place that cannot be one.
    """
    try:
        place, here = out.resolve(), Path.cwd()
    except (OSError, RuntimeError) as error:  # a folder that was deleted, links that go round
        raise DissectionError(f"cannot tell where --out {out} is ({error}): choose another") from error
    if here.is_relative_to(place):
        raise DissectionError(f"--out {str(out)!r} is the folder you are in, or holds it: choose another")
    return place


def sole_maker(place):
    """Keep other runs from making the dictionary at place (resolved) while the block lasts. Raises DissectionError."""
    refusal = f"another run is making {place}: wait for it, or choose another folder"
    return alone(place, refusal, timeout=1)  # wait_until_free may hold it for an instant


def check_replaceable(out, overwrite):
    """Raise DissectionError unless a dictionary may appear at out. Clears what a killed run left beside it.

    out: pathlib.Path, as the user named it. overwrite: whether a dictionary that stands there may be replaced.
    """
    place = place_of(out)
    clear_leftovers(place)
    with explained(place):
        if place.exists() and not place.is_dir():
            raise DissectionError(f"--out {out} is a file: choose another")
        entries = visible(place)
        foreign = foreign_entries(place)
    if entries and not overwrite:
        raise DissectionError(f"--out {out} is not empty: choose another, or add --overwrite to replace it")
    if foreign:
        raise DissectionError(f"--out {out} is not replaced: {first_few(foreign)} is no part of a dictionary")
    if entries and not {entry.name for entry in entries} & {*INDEX_FILES, GLOBAL_FOLDER}:
        raise DissectionError(f"--out {out} is not replaced: it does not look like a dictionary")


def visible(folder):
    """What lies in a folder but the litter of file managers. Returns a sorted list of paths, empty without a folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if path.name not in LITTER and not path.name.startswith("._"))


def foreign_entries(root):
    """What lies in the folder of a dictionary and is none of its own. Returns paths relative to root, as text."""
    foreign = [entry for entry in visible(root) if entry.name not in DICTIONARY_ENTRIES]
    for _, place in PLACES.values():  # a folder per image, with nothing but pictures in it
        for entry in visible(root / place):
            if not entry.is_dir():
                foreign.append(entry)
            foreign += [file for file in visible(entry) if file.is_dir() or file.suffix != ".png"]
    concepts = {description.folder: description.groups.values() for description in global_concepts(root).values()}
    for entry in visible(root / GLOBAL_FOLDER):  # whatever images lie in the subgroups
        groups = visible(entry) if entry.name in concepts else [entry]
        foreign += [group for group in groups if group.name not in concepts.get(entry.name, ()) or not group.is_dir()]
    return [path.relative_to(root).as_posix() for path in foreign]


def write_group_images(name, content, groups, folder):
    """Write an image into its subgroups. name: of the file; content: bytes; groups: {global concept: subgroup}.

    Returns Written.
    """
    for concept, group in groups.items():
        description = GLOBAL_CONCEPTS[concept]
        place = folder / GLOBAL_FOLDER / description.folder / description.groups[group]
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return Written(groups=groups)


def write_entries(stem, original, image, landmarks, concepts, folder, pictures=False, labelled=()):
    """Write an image with its masks: one entry per type of the concepts that it shows.

    stem: name of the entries' folders. original: bytes of original.png. image: uint8 (H, W, 3), RGB, its pixels.
    landmarks: (68, 2), px. concepts: {Concept: its mask's ellipses}. folder: the dictionary. pictures: add
    *_overlap.png and lm.png. labelled: types of which the image gets a row also when it shows none of their concepts,
    so that there are images that lack them. Returns Written; masks that would be empty are left out and noted in it.
    """
    written = Written()
    for kind, (index, place) in PLACES.items():
        rules = {concept.name: ellipses for concept, ellipses in concepts.items() if concept.type == kind}
        masks = {name: draw_mask(ellipses, landmarks, *image.shape[:2]) for name, ellipses in rules.items()}
        written.outside += [concept for concept, mask in masks.items() if not mask.any()]
        masks = {concept: mask for concept, mask in masks.items() if mask.any()}
        if not masks and kind not in labelled:
            continue
        entry = f"{place}/{stem}"
        files = dict(masks)
        if pictures:
            files |= {f"{concept}_overlap": darken_outside(image, mask > 0) for concept, mask in masks.items()}
            files["lm"] = draw_landmarks(image, landmarks)
        (folder / entry).mkdir(parents=True)
        (folder / entry / "original.png").write_bytes(original)
        for name, pixels in files.items():
            (folder / entry / f"{name}.png").write_bytes(encode_png(pixels))
        written.rows[index] = (f"{entry}/original.png", [f"{entry}/{concept}.png" for concept in masks])
    return written


def draw_landmarks(image, landmarks):
    """The image with a disc on each landmark. image: uint8 (H, W, 3), RGB; landmarks: (68, 2). A new image."""
    picture = image.copy()
    radius = max(1, round(face_size_px(landmarks) / 20))
    for x, y in np.rint(landmarks).astype(int).tolist():
        cv2.circle(picture, (x, y), radius, LANDMARK_COLOUR, -1)
    return picture


def encode_png(pixels):
    """Encode pixels, uint8 (H, W) or RGB (H, W, 3), as PNG. Returns bytes."""
    ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    return cv2.imencode(".png", ordered)[1].tobytes()


def write_indexes(folder, written):
    """Write the index files that have rows. written: list of Written. Returns {index file: its rows}."""
    indexes = {}
    for index in INDEX_FILES:
        rows = [result.rows[index] for result in written if index in result.rows]
        if rows:
            indexes[index] = rows
            with open(folder / index, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([COLUMNS, *((image, ";".join(masks)) for image, masks in rows)])
    return indexes


def log_contents(out, images, written, indexes):
    """Say what a dictionary holds and where it lies.

    out: its place. images: what its images are. written: list of Written. indexes: as write_indexes returns them.
    """
    log.info("%s: a dictionary of %d %s", out, len(written), images)
    for index, rows in indexes.items():
        counts = Counter(Path(mask).stem for _, masks in rows for mask in masks)
        order = dict.fromkeys((*LOCAL_CONCEPTS, *counts))
        names = ", ".join(f"{concept} {counts[concept]}" for concept in order if counts[concept])
        log.info("  %s: %d images, %d masks: %s", index, len(rows), counts.total(), names)
    for concept, description in GLOBAL_CONCEPTS.items():
        counts = Counter(one.groups.get(concept) for one in written)
        if names := ", ".join(f"{group} {counts[group]}" for group in description.groups if counts[group]):
            log.info("  %s/%s: %s", GLOBAL_FOLDER, description.folder, names)
