"""The tables that name photographs: reading them, and naming everything that is wrong with one at once.

A table is a CSV file whose first column is `image`, or CelebA's own text format (a count, then the column names, then
one line per image, all separated by blanks). Which of the two it is shows in its content.
"""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dictionary.concepts import FACE_CONCEPTS, GLOBAL_CONCEPTS
from util.errors import DissectionError, did_you_mean, first_few

# How a table says that an image shows a concept, does not show it, or that nobody knows.
POSITIVE, NEGATIVE, UNKNOWN = ("1",), ("0", "-1"), ("",)

# The types of concepts that need a label; parts are in every face.
LABELLED_TYPES = ("AU", "Attr")


@dataclass(frozen=True)
class Row:
    """One line of a table. line: counted from 1; image: path relative to the photographs; values: column -> str."""

    line: int
    image: str
    values: dict


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
        if columns[:1] != ["image"]:
            found = ",".join(columns)[:60] or "nothing"
            raise DissectionError(f"{path}: the first line must name the columns, 'image,...', found {found!r}")
        self.columns = tuple(columns[1:])
        repeated = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if repeated:
            raise DissectionError(f"{path}: column {' and '.join(repeated)} occurs more than once")

    def rows(self):
        """Yield the sound rows, once, as Row. Raises DissectionError when there is nothing below the header."""
        first_line = {}
        for line, fields in self._lines:
            if len(fields) != 1 + len(self.columns):
                self.problems.append(f"line {line} has {len(fields)} fields, expected {1 + len(self.columns)}")
                continue
            image, reason = _checked_name(fields[0])
            if reason:
                self.problems.append(f"line {line}: {reason}")
            elif image in first_line:
                self.problems.append(f"line {line}: {image} stands already in line {first_line[image]}")
            else:
                first_line[image] = line
                yield Row(line, image, dict(zip(self.columns, fields[1:], strict=True)))
        if not first_line and not self.problems:
            raise DissectionError(f"{self.path} names no image: there is only a header")
        if self._announced not in (None, len(first_line)) and not self.problems:
            self.problems.append(f"line 1 announces {self._announced} images but {len(first_line)} follow")

    def raise_problems(self):
        """Raise DissectionError, one line with the first problems and the number of the rest, if there are any."""
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
    reader = csv.reader(io.StringIO(text, newline=""))
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

    left_out: the other columns, each with the concept that it may have been meant to be, or None.
    """

    positive: dict
    left_out: dict


def read_attributes(path):
    """Read attribute labels and action units. path: CSV or CelebA's list_attr_celeba.txt. Returns Labels.

    1 means that the image shows the concept, 0 or -1 that it does not, nothing that it is not known. Columns that
    are no labelled concept are left out. Raises DissectionError with the first problems of the table.
    """
    table = Table(path)
    labelled = [concept.name for concept in FACE_CONCEPTS if concept.type in LABELLED_TYPES]
    concepts = [name for name in labelled if name in table.columns]
    if not concepts:
        first = table.columns[0] if table.columns else ""
        raise DissectionError(f"{path}: no column is a concept; {first!r}: {did_you_mean(first, labelled)}")
    positive = {}
    for row in table.rows():
        for concept in concepts:
            if row.values[concept] not in POSITIVE + NEGATIVE + UNKNOWN:
                table.problems.append(
                    f"line {row.line}, column {concept}: {row.values[concept]!r} is none of 1, 0, -1 and empty"
                )
        positive[row.image] = tuple(concept for concept in concepts if row.values[concept] in POSITIVE)
    table.raise_problems()
    meant = {_loosely(name): name for name in labelled if name not in concepts}
    left_out = {name: meant.get(_loosely(name)) for name in table.columns if name not in concepts}
    return Labels(positive, left_out)


def _loosely(name):
    """A name without what people write differently: AU01, au_1 and AU-1 all become au1."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"(?<=[a-z])0+(?=\d)", "", plain)


def read_groups(path):
    """Read subgroups of global concepts (method.md §1.3). path: CSV with one column per global concept.

    Returns {image: {global concept: subgroup}}, images without any subgroup left out. Raises DissectionError for a
    column or a subgroup that is not in GLOBAL_CONCEPTS, naming those that look like it.
    """
    table = Table(path)
    for column in table.columns:
        if column not in GLOBAL_CONCEPTS:
            names = did_you_mean(column, tuple(GLOBAL_CONCEPTS))
            raise DissectionError(f"{path}: column {column!r} is not a global concept; {names}")
    subgroups = {}
    for row in table.rows():
        for concept, group in row.values.items():
            if group in UNKNOWN:
                continue
            if group not in GLOBAL_CONCEPTS[concept].groups:
                names = did_you_mean(group, tuple(GLOBAL_CONCEPTS[concept].groups))
                table.problems.append(f"line {row.line}: {group!r} is not a subgroup of {concept}; {names}")
            subgroups.setdefault(row.image, {})[concept] = group
    table.raise_problems()
    return subgroups
