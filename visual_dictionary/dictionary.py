"""Reading a Face Dictionary (method.md §1.1): its index, its files, and everything that is wrong with them.

The index is read first (read_index), then every file it names is read and decoded once (open_dictionary). What was
found is remembered (see file_memory.py), so that the next run only decodes what changed; the digest of a file's content
is what the fingerprints of the results are made from.
"""

import csv
import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from util.errors import DissectionError, nearest
from util.parallel import ordered_map, progress
from visual_dictionary.concepts import CONCEPT_TYPE, GLOBAL_CONCEPTS, LOCAL_CONCEPTS
from visual_dictionary.file_memory import FileMemory

# Read in this order; the image index of every artifact is the row number over the three.
INDEX_FILES = ("Attributes.csv", "Action_Units.csv", "Parts.csv")
COLUMNS = ("image", "labels")
GLOBAL_FOLDER = "non_localizable"

_CHECKED_AT_ONCE = 32  # rows per task of the pool: few enough to balance, enough to pay for the hand-over
_PROBLEMS_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a dictionary. where: file and line; what: in words; row: image index, None for the whole.

    fatal: the row cannot be used. What is not fatal deserves a look and changes nothing.
    """

    where: str
    what: str
    row: int | None = None
    fatal: bool = True

    def __str__(self):
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Row:
    """One image of the index. image: path relative to the root; masks: concept -> path; where: file and line."""

    index: int
    where: str
    image: str
    masks: dict


@dataclass
class FaceDictionary:
    """A dictionary whose files have been read and found sound, or were left out.

    rows: every row of the index in order, so rows[i].index == i. usable: bool (N,), False where a row is left out.
    digests: relative path -> hex digest of the file's content. problems: all that were found.
    """

    root: Path
    rows: list
    usable: np.ndarray
    digests: dict
    problems: list = field(default_factory=list)

    @cached_property
    def concepts(self):
        """The local concepts that at least one usable row carries, in concept order (method.md §1.2)."""
        present = {concept for row in self.usable_rows for concept in row.masks}
        return tuple(concept for concept in LOCAL_CONCEPTS if concept in present)

    @cached_property
    def usable_rows(self):
        return [row for row in self.rows if self.usable[row.index]]

    def image_path(self, row):
        return self.root / row.image

    def mask_path(self, row, concept):
        return self.root / row.masks[concept]

    @cached_property
    def images_digest(self):
        """Fingerprint of the images and their order: it changes with any byte of them, not with their place on disk."""
        return _digest((row.index, self.digests[row.image]) for row in self.usable_rows)

    @property
    def image_digests(self):
        """{image path: digest of its content} of the usable rows."""
        return {row.image: self.digests[row.image] for row in self.usable_rows}

    @cached_property
    def masks_digest(self):
        """Fingerprint of which image carries which mask, contents included."""
        return _digest(
            (row.index, concept, self.digests[path]) for row in self.usable_rows for concept, path in row.masks.items()
        )

    def without(self, problems, skip_bad):
        """The same dictionary with the rows of further fatal problems left out, or their error (see settle)."""
        usable = settle(self.root, len(self.rows), self.usable, problems, skip_bad)
        return FaceDictionary(self.root, self.rows, usable, self.digests, self.problems + problems)


def _digest(parts):
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------- the index


def read_index(root):
    """Read the three CSV files. root: folder. Returns (rows, problems): list of Row, list of Problem.

    A row that cannot be understood keeps its place with an empty image or without the mask in question.
    Raises DissectionError when there is no dictionary at root or an index file is not one.
    """
    root = Path(root)
    if not root.is_dir():
        raise _no_dictionary(root)
    files = [name for name in INDEX_FILES if (root / name).exists()]
    if not files:
        raise DissectionError(f"{root} holds none of {', '.join(INDEX_FILES)}: it is not a Face Dictionary")
    rows, problems, first_use = [], [], {}
    for name in files:
        for line, cells in _read_csv(root / name):
            row, found = _read_row(len(rows), f"{name} line {line}", cells)
            if row.image and row.image in first_use:
                found.append(Problem(row.where, f"{row.image} stands already at {first_use[row.image]}", row.index))
            first_use.setdefault(row.image, row.where)
            rows.append(row)
            problems += found
    return rows, problems


def _no_dictionary(root):
    return DissectionError(
        f"no Face Dictionary at {root.absolute()}: set DICTIONARY to its folder, or make one with build_dictionary.py "
        "or render_dictionary.py in visual_dictionary/ (see README.md)"
    )


def _read_csv(path):
    """Yield (line number, {column: cell}) of an index file."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DissectionError(
                    f"{path} has no column {' and no column '.join(map(repr, missing))}: its first line must be "
                    f"'{','.join(COLUMNS)}', found {','.join(reader.fieldnames or ['nothing'])[:80]!r}"
                )
            for cells in reader:
                yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DissectionError(f"cannot read {path}: {error}") from error


def _read_row(index, where, cells):
    problems = []

    def report(what):
        problems.append(Problem(where, what, index))

    image, labels = ((cells[column] or "").strip() for column in COLUMNS)
    if None in cells or cells["labels"] is None:
        report(f"expected the two fields {' and '.join(COLUMNS)}: separate the masks by ';'")
    if not image:
        report("names no image")
    elif _leaves_root(image):
        report(f"{image} leads out of the dictionary")
        image = ""
    masks = {}
    for path in filter(None, (label.strip() for label in labels.split(";"))):
        concept = PurePosixPath(path).stem
        if concept not in CONCEPT_TYPE:
            close = nearest(concept, LOCAL_CONCEPTS)
            report(f"{path}: unknown concept {concept!r}" + (f", did you mean {' or '.join(close)}?" if close else ""))
        elif _leaves_root(path):
            report(f"{path} leads out of the dictionary")
        elif concept in masks:
            report(f"{path}: a second mask of {concept}")
        else:
            masks[concept] = path
    return Row(index, where, image, masks), problems


def _leaves_root(path):
    # Judged by the words of the path alone: a link inside the dictionary is its owner's business.
    return os.path.isabs(path) or PurePosixPath(os.path.normpath(path)).parts[:1] == ("..",) or "\\" in path


# ---------------------------------------------------------------------------------------------------------- the files


def open_dictionary(root, *, memory_folder, workers, skip_bad=False, limit=None):
    """Read a dictionary and decode each of its files once. Returns a FaceDictionary.

    memory_folder: where it is remembered which files were found sound. workers: threads. skip_bad: go on without the
    rows that cannot be used. limit: read the first rows only. Raises DissectionError for a dictionary that cannot be
    used, naming the first problems.
    """
    rows, problems = read_index(root)
    if not rows:
        raise DissectionError(f"the index of {root} has no rows: there is nothing to read")
    rows = rows[:limit]
    problems = [problem for problem in problems if problem.row is None or problem.row < len(rows)]
    digests, found = check_files(root, rows, memory_folder, workers)
    problems += found
    usable = settle(root, len(rows), np.ones(len(rows), bool), problems, skip_bad)
    dictionary = FaceDictionary(Path(root), rows, usable, digests, problems)
    if not dictionary.concepts:
        raise DissectionError(f"{root} has no masks in its {len(rows)} rows: there is no concept to compare units with")
    return dictionary


def settle(root, count, usable, problems, skip_bad):
    """Decide about rows with fatal problems: leave them out (skip_bad) or raise DissectionError.

    count: rows in all. usable: bool (count,) so far. Returns the new bool (count,).
    """
    fatal = [problem for problem in problems if problem.fatal]
    bad = np.zeros(count, bool)
    bad[[problem.row for problem in fatal]] = True
    if fatal and not skip_bad:
        raise _unusable(f"{bad.sum()} of the {count} rows of {root}", fatal, root)
    usable = usable & ~bad
    if not usable.any():
        raise DissectionError(f"none of the {count} rows of {root} can be used")
    return usable


def _unusable(what, problems, root):
    """The error for what cannot be used: the first problems, and what to do."""
    shown = "".join(f"\n  {problem}" for problem in problems[:_PROBLEMS_SHOWN])
    more = f"\n  and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
    return DissectionError(
        f"{what} cannot be used:{shown}{more}\nMend them (python -m visual_dictionary.check {root} lists all), or set "
        "SKIP_BAD_IMAGES=True to go on without them"
    )


def check_files(root, rows, memory_folder, workers):
    """Read and decode every image and mask of rows once, or recall what was found when they last changed.

    Returns (digests, problems): relative path -> hex digest of the content, list of Problem in the order of rows.
    """
    groups = [rows[start : start + _CHECKED_AT_ONCE] for start in range(0, len(rows), _CHECKED_AT_ONCE)]
    digests, problems = {}, []
    with FileMemory(root, memory_folder) as memory, progress(len(rows), "checking the dictionary", "image") as bar:
        for group, checked in zip(
            groups, ordered_map(lambda group: [_check_row(row, memory) for row in group], groups, workers), strict=True
        ):
            for found, sound in checked:
                problems += found
                digests.update(sound)
            bar.update(len(group))
    return digests, problems


def _check_row(row, memory):
    """Returns (list of Problem, {path: digest} of the sound files)."""
    if not row.image:
        return [], {}
    image = memory.facts(row.image)
    problems = [Problem(row.where, image.error, row.index)] if image.error else []
    digests = {} if image.error else {row.image: image.digest}
    for path in row.masks.values():
        mask = memory.facts(path)
        if mask.error:
            problems.append(Problem(row.where, mask.error, row.index))
            continue
        digests[path] = mask.digest
        if not image.error and (mask.width, mask.height) != (image.width, image.height):
            sizes = f"{mask.width}x{mask.height} but its image is {image.width}x{image.height}"
            problems.append(Problem(row.where, f"{path} is {sizes}", row.index))
        elif mask.transparent:
            what = "has transparency, of which masks know nothing: save it with a single channel, 0 and 255"
            problems.append(Problem(row.where, f"{path} {what}", row.index))
        elif mask.brightest == 1:
            what = "holds 0 and 1, which no threshold tells apart: save it with 0 and 255"
            problems.append(Problem(row.where, f"{path} {what}", row.index))
        elif mask.brightest == 0:
            problems.append(Problem(row.where, f"{path} is an empty mask", row.index, fatal=False))
        elif not mask.binary:
            problems.append(Problem(row.where, f"{path} holds greys beside 0 and 255", row.index, fatal=False))
    return problems, digests


# ---------------------------------------------------------------------------------------------------- global concepts


def subgroup_images(root, global_concepts=GLOBAL_CONCEPTS):
    """The images of each subgroup that the dictionary has (method.md §1.3).

    Returns {concept: {group: [path relative to root, sorted by name]}}, concepts and groups in the table's order, those
    without a folder left out.
    """
    found = {}
    for concept, description in global_concepts.items():
        folder = Path(root) / GLOBAL_FOLDER / description.folder
        groups = {group: folder / name for group, name in description.groups.items() if (folder / name).is_dir()}
        if groups:
            found[concept] = {group: _files_in(root, place) for group, place in groups.items()}
    return found


def _files_in(root, folder):
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    return [(folder / name).relative_to(root).as_posix() for name in names]


@dataclass(frozen=True)
class Subgroups:
    """The usable images of one global concept. groups: {group: {image path relative to the root: hex digest}}."""

    concept: str
    groups: dict

    @property
    def digest(self):
        """Fingerprint of the subgroups: it changes with any byte of an image and with its group, not with its name."""
        return _digest((group, list(images.values())) for group, images in self.groups.items())


def open_subgroups(
    root, *, memory_folder, workers, skip_bad=False, limit=None, global_concepts=GLOBAL_CONCEPTS, required=()
):  # fmt: skip
    """Read the global concepts of a dictionary, decoding each image once (see open_dictionary for the arguments).

    limit: read the first images of each subgroup only. required: concepts whose folders must be there. Returns (list of
    Subgroups, list of Problem). A subgroup whose folder is absent is not there; one without a usable image is an error,
    or left out where skip_bad, as is a concept of which fewer than two subgroups remain. Raises DissectionError.
    """
    root = Path(root)
    if not root.is_dir():
        raise _no_dictionary(root)
    for concept in required:
        for name in global_concepts[concept].groups.values():
            folder = root / GLOBAL_FOLDER / global_concepts[concept].folder / name
            if not folder.is_dir():
                raise DissectionError(f"there is no folder {folder}, which {concept} in MORE_GLOBAL_CONCEPTS asks for")
    found = subgroup_images(root, global_concepts)
    if not found:
        raise DissectionError(
            f"{root}/{GLOBAL_FOLDER} holds no subgroup of {', '.join(global_concepts)}: there is nothing to compare"
        )
    found = {concept: {group: images[:limit] for group, images in groups.items()} for concept, groups in found.items()}
    paths = [image for groups in found.values() for images in groups.values() for image in images]
    with FileMemory(root, memory_folder) as memory, progress(len(paths), "checking subgroups", "image") as bar:
        facts = {}
        for path, of_file in zip(paths, ordered_map(memory.facts, paths, workers), strict=True):
            facts[path] = of_file
            bar.update()
    problems = [Problem(GLOBAL_FOLDER, of_file.error) for of_file in facts.values() if of_file.error]
    sound = {
        concept: {
            group: {image: facts[image].digest for image in images if not facts[image].error}
            for group, images in groups.items()
        }
        for concept, groups in found.items()
    }
    return settle_subgroups(root, sound, problems, skip_bad)


def settle_subgroups(root, found, problems, skip_bad):
    """Decide about images that cannot be used and subgroups without any (see settle).

    found: {concept: {group: {path: digest}}}, the usable ones. Returns (list of Subgroups, list of Problem).
    """
    problems = problems + [
        Problem(f"subgroup {group} of {concept}", "has no usable images")
        for concept, groups in found.items()
        for group, images in groups.items()
        if not images
    ]
    if problems and not skip_bad:
        raise _unusable(f"{len(problems)} images or subgroups of {root}", problems, root)
    kept = [
        Subgroups(concept, {group: images for group, images in of.items() if images}) for concept, of in found.items()
    ]
    for subgroups in kept:
        if len(subgroups.groups) < 2:
            problems.append(Problem(subgroups.concept, "has fewer than two subgroups to compare", fatal=False))
    kept = [subgroups for subgroups in kept if len(subgroups.groups) >= 2]
    if not kept:
        raise DissectionError(f"no global concept of {root} has two subgroups with usable images")
    return kept, problems
