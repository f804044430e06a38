"""The face format: the published three CSV files, a PNG file for each mask (method.md §1.1)."""

import csv
from pathlib import PurePosixPath

import numpy as np

from dictionary.concepts import OWN_CONCEPTS, PARTS, UNLISTED, Concept, listed_concepts, slip_of
from dictionary.ellipses import ELLIPSE_RULES
from dictionary.images import load_mask
from dictionary.rows import Format, Problem, Row, Rows, in_order, leaves_root, stands_already
from util.errors import DissectionError

# Read in this order; the image index of every artifact is the row number over the three.
INDEX_FILES = ("Attributes.csv", "Action_Units.csv", "Parts.csv")
COLUMNS = ("image", "labels")


class FaceFormat(Format):
    """Reads one dictionary in the face format. root: pathlib.Path. listed: {name: Concept}, of tables (see concepts).
    What it does not do itself it has from Format. It has no categories to choose from.
    """

    def __init__(self, root, categories=None):
        self.root = root
        self.listed = listed_concepts(root)

    @staticmethod
    def recognises(root):
        """Whether a folder holds a dictionary of this format."""
        return any((root / name).exists() for name in INDEX_FILES)

    def read_index(self):
        """Read the index. Returns (Rows, list of Problem).

        A row that cannot be understood keeps its place with an empty image or without the mask in question. Raises
        DissectionError for an index file that is none.
        """
        rows, problems = Rows(), []
        for source, name in enumerate(INDEX_FILES):
            for line, cells in _read_csv(self.root / name) if (self.root / name).exists() else ():
                row, found = self._read_row(len(rows), f"{name} line {line}", cells, source)
                rows.append(row)
                problems += found
        problems = in_order(problems + stands_already(rows))
        counts = np.bincount(rows.mask_names, minlength=len(rows.names))
        for concept, count in sorted(zip(rows.names, counts.tolist(), strict=True)):
            if concept not in self.listed:
                what = f"new concept {concept!r} on {count} images: it lies in no region, unless a line of "
                what += f"{OWN_CONCEPTS} (concept,type,region) says more"
                problems.append(Problem(OWN_CONCEPTS, what, fatal=False))
        return rows, problems

    def concepts_of(self, _, carried):
        """The concepts that rows carry, as tuple of Concept: listed ones in their order, new ones by name.

        carried: set of their names.
        """
        new = sorted(carried - set(self.listed))
        listed = [concept for name, concept in self.listed.items() if name in carried]
        return (*listed, *(Concept(name, UNLISTED) for name in new))

    def told(self, concepts):
        """Every face has its parts: no photograph shows or lacks one. Returns bool (C,)."""
        return np.array([concept.type != PARTS for concept in concepts], bool)

    def same_rule(self, names):
        """Of which concepts the masks are drawn from landmarks by one rule (method.md §1.4). Returns bool (C, C)."""
        rules = [ELLIPSE_RULES.get(name) for name in names]
        return np.array([[one is not None and one == other for other in rules] for one in rules], bool)

    def masks(self, row, grid, view, seg_threshold):
        """The masks L_c of one row on the counting grid (method.md §3.3): {concept: bool (rows, columns)}.

        view: see dictionary/views.py. seg_threshold: see images.load_mask. Raises ImageError.
        """
        return {concept: load_mask(self.root / path, grid, view, seg_threshold) for concept, path in row.masks.items()}

    def _read_row(self, index, where, cells, source):
        problems = []

        def report(what):
            problems.append(Problem(where, what, index))

        image, labels = ((cells[column] or "").strip() for column in COLUMNS)
        if None in cells or cells["labels"] is None:
            report(f"expected the two fields {' and '.join(COLUMNS)}: separate the masks by ';'")
        if not image:
            report("names no image")
        elif leaves_root(image):
            report(f"{image} leads out of the dictionary")
            image = ""
        masks = {}
        for path in filter(None, (label.strip() for label in labels.split(";"))):
            concept = _stem(path)
            if concept not in self.listed and (meant := slip_of(concept, self.listed)):
                own = f"a concept of its own needs a line in {OWN_CONCEPTS}"
                report(f"{path}: unknown concept {concept!r}, did you mean {meant}? {own}")
            elif leaves_root(path):
                report(f"{path} leads out of the dictionary")
            elif concept in masks:
                report(f"{path}: a second mask of {concept}")
            else:
                masks[concept] = path
        return Row(index, where, image, masks, source), problems

    def check(self, row, image, files):
        """What is wrong with the files of a row. image, files: FileFacts of its image, and of each of its masks.

        Returns list of Problem.
        """
        problems = [Problem(row.where, image.error, row.index)] if image.error else []
        for path, mask in zip(row.masks.values(), files, strict=True):
            if mask.error:
                problems.append(Problem(row.where, mask.error, row.index))
                continue
            if not image.error and (mask.width, mask.height) != (image.width, image.height):
                sizes = f"{mask.width}x{mask.height} but its image is {image.width}x{image.height}"
                problems.append(Problem(row.where, f"{path} is {sizes}", row.index))
            elif mask.transparent:
                what = "has transparency, of which masks know nothing: save it with a single channel, 0 and 255"
                problems.append(Problem(row.where, f"{path} {what}", row.index))
            elif doubt := _doubt(mask):
                problems.append(Problem(row.where, f"{path} {doubt}", row.index, fatal=False))
        return problems


def _stem(path):
    """PurePosixPath(path).stem, of a million paths in a fifth of the time."""
    name = path.rpartition("/")[2]
    if name in ("", "."):
        return PurePosixPath(path).stem
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


# Shares of the picture: a mask that covers more is said to, and inverted when it has most of the border as well.
_MOST_COVERED = 0.5


def _doubt(mask):
    """What looks wrong with a readable mask, in words, or None. mask: FileFacts."""
    if mask.covered == 0:
        return "is an empty mask: every pixel is background"
    if mask.covered > _MOST_COVERED and mask.border > _MOST_COVERED:
        return f"looks inverted: it covers {mask.covered:.0%} of the picture and {mask.border:.0%} of its border"
    return f"covers {mask.covered:.0%} of the picture" if mask.covered > _MOST_COVERED else None


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
