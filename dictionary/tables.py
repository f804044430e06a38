"""The tables that name photographs: reading them, and naming everything that is wrong with one at once.

A table is a CSV file with a column of image names, or CelebA's own text format (a count, then the column names, then
one line per image, all separated by blanks). Which of the two it is shows in its content, as does what separates the
cells; people's and programs' ways of spelling the same are data here.
"""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dictionary.concepts import FACE_CONCEPTS, GLOBAL_CONCEPTS, slip_of
from util.errors import DissectionError, did_you_mean, first_few

# What the column of image names is called; columns without a name before it number the lines.
IMAGE_COLUMNS = ("image", "image_id", "image_path", "img", "file", "filename", "file_name", "path")
SEPARATORS = (",", ";", "\t", "|")

# How a table says that an image shows a concept, does not show it, or that nobody knows; capitals do not matter.
POSITIVE = ("1", "1.0", "true", "yes")
NEGATIVE = ("0", "0.0", "-1", "-1.0", "false", "no")
UNKNOWN = ("", "nan", "none", "null", "na", "n/a", "unknown", "?")

# What tables of other projects, FairFace's for one, call global concepts and subgroups. An empty subgroup is one that
# the dictionary does not have: the image then counts as unlabelled.
CONCEPT_NAMES = {"race": "ethnic", "ethnicity": "ethnic", "sex": "gender", "skin tone": "skin_tone"}
GROUP_NAMES = {
    "age": {
        **dict.fromkeys(("0-2", "3-9", "10-19"), "zero_to_twenty"),
        **dict.fromkeys(("20-29", "30-39"), "twenty_to_forty"),
        **dict.fromkeys(("40-49", "50-59"), "forty_to_sixty"),
        **dict.fromkeys(("60-69", "70+", "more than 70"), "sixty_plus"),
    },
    "gender": {"m": "male", "f": "female", "man": "male", "woman": "female"},
    "ethnic": {
        **dict.fromkeys(("east asian", "southeast asian"), "asian"),
        **dict.fromkeys(("latino_hispanic", "middle eastern"), ""),
    },
    "skin_tone": {"light": "bright"},
}
# Years at which the age groups begin.
_AGE_BEGINS = {"zero_to_twenty": 0, "twenty_to_forty": 20, "forty_to_sixty": 40, "sixty_plus": 60}
_OLDEST = 120

# The types of concepts that need a label; parts are in every face.
LABELLED_TYPES = ("AU", "Attr")


class Table:
    """A CSV file or a CelebA text file whose head is sound. columns: all but `image`.

    problems: what is wrong with single rows, in words; rows() adds to it, and so may whoever reads them.
    """

    def __init__(self, path):
        """Read the head. Raises DissectionError for a file that cannot be read or is no table."""
        self.path = Path(path)
        self.problems = []
        text = _read_text(self.path)
        first = io.StringIO(text).readline().strip()
        self._announced = int(first) if first.isdecimal() else None  # CelebA's count
        self._lines = _csv_lines(self.path, text) if self._announced is None else _celeba_lines(text)
        _, columns = next(self._lines, (1, []))
        named = [place for place, column in enumerate(columns) if column.lower() in IMAGE_COLUMNS]
        if not named or any(columns[: named[0]]):
            found = ",".join(columns)[:60] or "nothing"
            raise DissectionError(f"{path}: the first line must name the columns, 'image,...', found {found!r}")
        self._first = named[0]  # what stands before it numbers the lines
        self.columns = tuple(columns[self._first + 1 :])
        repeated = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if repeated:
            raise DissectionError(f"{path}: column {' and '.join(repeated)} occurs more than once")

    def rows(self):
        """Yield the sound rows, once: line, counted from 1; image, relative to the photographs; {column: text}.

        Behind the last one raises DissectionError when there are problems by then, one line with the first ones and
        the number of the rest, and when there is nothing below the header.
        """
        first_line = {}
        for line, fields in self._lines:
            expected = self._first + 1 + len(self.columns)
            if len(fields) != expected:
                self.problems.append(f"line {line} has {len(fields)} fields, expected {expected}")
                continue
            fields = fields[self._first :]
            image, reason = _checked_name(fields[0])
            if reason:
                self.problems.append(f"line {line}: {reason}")
            elif image in first_line:
                self.problems.append(f"line {line}: {image} stands already in line {first_line[image]}")
            else:
                first_line[image] = line
                yield line, image, dict(zip(self.columns, fields[1:], strict=True))
        if not first_line and not self.problems:
            raise DissectionError(f"{self.path} names no image: there is only a header")
        if self._announced not in (None, len(first_line)) and not self.problems:
            self.problems.append(f"line 1 announces {self._announced} images but {len(first_line)} follow")
        if self.problems:
            raise DissectionError(f"{self.path}: {first_few(self.problems, separator='; ')}")


def _read_text(path):
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DissectionError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DissectionError(f"{path} is not a text file in UTF-8: save it as CSV, UTF-8") from error


def _csv_lines(path, text):
    """Yield (line number, fields) of the lines that are not blank."""
    header = next(filter(str.strip, io.StringIO(text)), "")
    separator = max(SEPARATORS, key=header.count)  # a comma where there is none
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for fields in reader:
            if any(fields):
                yield reader.line_num, [value.strip() for value in fields]
    except csv.Error as error:
        raise DissectionError(f"{path} line {reader.line_num}: {error}") from error


def _celeba_lines(text):
    """The same for CelebA's format, whose second line names the columns without the first, `image`."""
    for number, line in enumerate(text.splitlines()[1:], start=2):
        if fields := line.split():
            yield number, fields if number > 2 else ["image", *fields]


def _checked_name(name):
    """(name in its plainest form, None), or (None, why it cannot be the name of a photograph)."""
    path = PurePosixPath(name)
    if not path.stem.strip("."):
        return None, f"{name!r} is not the name of an image"
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        return None, f"{name} leads out of the folder of the photographs"
    if any(sign in name for sign in ";\n\r\0"):
        return None, f"{name!r} holds a sign that a dictionary's index cannot hold: rename the file"
    return path.as_posix(), None


@dataclass(frozen=True)
class Labels:
    """What an attribute table says. positive: image -> its concepts in concept order.

    labelled: image -> the types of concepts of which it says something. left_out: the other columns, each with the
    concept that it may have been meant to be, or None.
    """

    positive: dict
    labelled: dict
    left_out: dict


def read_attributes(path):
    """Read attribute labels and action units. path: CSV or CelebA's list_attr_celeba.txt. Returns Labels.

    1 or true means that the image shows the concept, 0, -1 or false that it does not, nothing or nan that it is not
    known. A column that differs from a concept only by capitals is taken; others that are no labelled concept are left
    out. Raises DissectionError with the first problems of the table.
    """
    table = Table(path)
    labelled = {concept.name: concept.type for concept in FACE_CONCEPTS if concept.type in LABELLED_TYPES}
    by_name = {name.lower(): name for name in labelled}
    concept_of = {column: by_name[column.lower()] for column in table.columns if column.lower() in by_name}
    if not concept_of:
        first = table.columns[0] if table.columns else ""
        raise DissectionError(f"{path}: no column is a concept; {first!r}: {did_you_mean(first, labelled)}")
    twice = sorted({name for name in concept_of.values() if [*concept_of.values()].count(name) > 1})
    if twice:
        raise DissectionError(f"{path}: {' and '.join(twice)} has more than one column")
    positive, known = {}, {}
    for line, image, values in table.rows():
        cells = {concept: values[column].lower() for column, concept in concept_of.items()}
        for column, concept in concept_of.items():
            if cells[concept] not in POSITIVE + NEGATIVE + UNKNOWN:
                what = f"{values[column]!r} is none of 1, 0, -1 and empty"
                table.problems.append(f"line {line}, column {column}: {what}")
        positive[image] = tuple(name for name in labelled if cells.get(name) in POSITIVE)
        said = {labelled[concept] for concept, cell in cells.items() if cell not in UNKNOWN}
        known[image] = tuple(kind for kind in LABELLED_TYPES if kind in said)
    meant = {_loosely(name): name for name in labelled if name not in concept_of.values()}
    left_out = {name: meant.get(_loosely(name)) for name in table.columns if name not in concept_of}
    return Labels(positive, known, left_out)


def _loosely(name):
    """A name without what people write differently: AU01, au_1 and AU-1 all become au1."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"(?<=[a-z])0+(?=\d)", "", plain)


@dataclass(frozen=True)
class GroupLabels:
    """What a table of subgroups says. of_image: {image: {global concept: subgroup}}, images without any left out.

    left_out: columns that are no global concept. without: {(global concept, cell): images}, of cells that name groups
    which the dictionary does not have.
    """

    of_image: dict
    left_out: list
    without: dict


def read_groups(path):
    """Read subgroups of global concepts (method.md §1.3). path: CSV with a column per global concept.

    FairFace's table is understood as it is published; an age may be given in years. Returns GroupLabels. Raises
    DissectionError when no column is a global concept, when one looks like a misspelt one, and for cells that are no
    subgroup.
    """
    table = Table(path)
    concept_of = {column: CONCEPT_NAMES.get(column.lower(), column.lower()) for column in table.columns}
    known = {column: concept for column, concept in concept_of.items() if concept in GLOBAL_CONCEPTS}
    left_out = [column for column in table.columns if column not in known]
    misspelt = [column for column in left_out if slip_of(column, GLOBAL_CONCEPTS)]
    if misspelt or not known:
        column = (misspelt or left_out or [""])[0]
        names = did_you_mean(column, GLOBAL_CONCEPTS)
        raise DissectionError(f"{path}: column {column!r} is not a global concept; {names}")
    subgroups, without = {}, Counter()
    for line, image, values in table.rows():
        for column, concept in known.items():
            cell = values[column]
            if cell.lower() in UNKNOWN:
                continue
            group = _subgroup(concept, cell)
            if group:
                subgroups.setdefault(image, {})[concept] = group
            elif group == "":
                without[concept, cell] += 1
            else:
                names = did_you_mean(cell, GLOBAL_CONCEPTS[concept].groups)
                table.problems.append(f"line {line}: {cell!r} is not a subgroup of {concept}; {names}")
    return GroupLabels(subgroups, left_out, dict(without))


def _subgroup(concept, cell):
    """The subgroup that a cell names: '' for one that the dictionary does not have, None for what is none."""
    name = cell.lower()
    plain = re.sub(r"[ -]+", "_", name)
    if plain in GLOBAL_CONCEPTS[concept].groups:
        return plain
    if concept == "age" and re.fullmatch(r"\d+(\.\d+)?", name) and float(name) <= _OLDEST:
        return max((group for group, years in _AGE_BEGINS.items() if years <= float(name)), key=_AGE_BEGINS.get)
    return GROUP_NAMES[concept].get(name)
