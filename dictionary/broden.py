"""The format of Broden, the dictionary of Network Dissection: objects, parts, scenes, materials, textures and colours
(method.md §10).
"""

import csv
import re
from array import array
from collections import Counter
from dataclasses import replace
from functools import cached_property
from math import isfinite
from posixpath import normpath

import numpy as np

from dictionary.concepts import Concept
from dictionary.images import decode_labels, read_bytes
from dictionary.rows import Format, Problem, Row, Rows, in_order, leaves_root, stands_already
from util.errors import DissectionError, did_you_mean, first_few

INDEX_FILE, LABEL_FILE, CATEGORY_FILE = "index.csv", "label.csv", "category.csv"
BRODEN_FILES = (INDEX_FILE, LABEL_FILE, CATEGORY_FILE)
IMAGE_FOLDER = "images"

# The categories of the published dictionary.
CATEGORIES = ("object", "part", "scene", "material", "texture", "color")

_OF_INDEX = ("image", "ih", "iw", "sh", "sw")
MOST_PIXELS = 1 << 26  # of an image of labels


class BrodenFormat(Format):
    """Reads one dictionary in the format of Broden. root: pathlib.Path. categories: names, those whose labels count;
    all that the folder has where None is given.

    A concept is a label; its type is its primary category, of the chosen ones that in which it has the largest
    coverage. Raises DissectionError for tables that cannot be read and for a category that is none.
    """

    images, by_category, many_labels, faces, as_labels = "category", True, True, False, True

    def __init__(self, root, categories=None):
        self.root = root
        self.problems = []  # of the tables
        self.categories = self._chosen(categories)
        self.listed = {concept.name: concept for concept in self._labels.values()}
        # Of each image of labels of each row, as they were checked, the numbers in it: those of row r have the bounds
        # from _files_before[r] on.
        self._occurring, self._bounds, self._files_before = array("H"), array("q", [0]), array("q", [0])

    @staticmethod
    def recognises(root):
        """Whether a folder holds a dictionary of this format: an index and any other of its tables."""
        return (root / INDEX_FILE).exists() and (
            any((root / name).exists() for name in BRODEN_FILES[1:]) or any(root.glob("c_*.csv"))
        )

    def _chosen(self, asked):
        """Those of the asked categories that the folder has."""
        there = [line["name"] for _, line in self._table(CATEGORY_FILE, ("name",)) if line["name"]]
        for name in asked or ():
            if name not in there and name not in CATEGORIES:
                raise DissectionError(f"CATEGORIES: {self.root} has no {name!r}: {did_you_mean(name, there)}")
        chosen = tuple(name for name in dict.fromkeys(asked or there) if name in there)
        if not chosen:
            raise DissectionError(
                f"CATEGORIES: {self.root} has none of them; it has {', '.join(there) or 'none at all'}"
            )
        return chosen

    @cached_property
    def _labels(self):
        """{number: Concept} of the labels of the chosen categories, by ascending number."""
        coverage, elsewhere = self._of_categories()
        named, also = self._named()
        for number in sorted(set(coverage) - set(named)):
            tables = first_few(f"c_{category}.csv" for category in coverage[number])
            self._note(LABEL_FILE, f"has no label {number}, which {tables} names")
        unlike = [
            f"{number} is {named[number]} and {other}"
            for number in sorted(set(named) & set(coverage))
            for other in dict.fromkeys(elsewhere[number]) if other not in ("", named[number])
        ]  # fmt: skip
        if unlike:
            what = f"names {len(unlike)} labels otherwise than their categories' tables: {first_few(unlike)}"
            self._note(LABEL_FILE, what)
        found = {}
        for number, name in _told_apart(named).items():
            if of := coverage.get(number):
                primary = max(of, key=lambda category: (of[category], -self.categories.index(category)))
                found[number] = Concept(name, primary, also=also[number])
        return found

    def _of_categories(self):
        """What the tables of the chosen categories say of labels: {number: {category: coverage}}, {number: names}."""
        coverage, names = {}, {}
        for category in self.categories:
            for where, line in self._table(f"c_{category}.csv", ("number", "coverage")):
                number, share = _whole(line["number"]), _number(line["coverage"])
                if number is None or share is None:
                    found = f"found {line['number']!r}, {line['coverage']!r}"
                    self._note(where, f"number and coverage must be numbers, {found}")
                else:
                    coverage.setdefault(number, {})[category] = share
                    names.setdefault(number, []).append(line.get("name", ""))
        return coverage, names

    def _named(self):
        """What the table of all labels says: {number: name}, {number: synonyms}."""
        named, lines, also = {}, {}, {}
        for where, line in self._table(LABEL_FILE, ("number", "name")):
            number, name = _whole(line["number"]), line["name"]
            if not number or not name:
                self._note(where, f"expected a number from 1 on and a name, found {line['number']!r}, {line['name']!r}")
            elif number in named:
                self._note(where, f"label {number} stands already in {lines[number]}")
            else:
                named[number], lines[number] = name, where
                words = line.get("syns", "").replace(",", ";").split(";")
                also[number] = tuple(word.strip() for word in words if word.strip() not in ("", name))
        return named, also

    def _note(self, where, what):
        self.problems.append(Problem(where, what, fatal=False))

    def read_index(self):
        """Read the index. Returns (rows, problems): Rows, of the images with an entry in a chosen category, and list of
        Problem. Raises DissectionError for a table that is none.
        """
        rows, problems, without = Rows(), [], 0
        for where, line in self._table(INDEX_FILE, (*_OF_INDEX, *self.categories)):
            cells = {name: line[name] for name in self.categories if line[name].strip("; ")}
            if not cells:
                without += 1
                continue
            row, found = self._read_row(len(rows), where, line, cells)
            rows.append(row)
            problems += found
        problems = self.problems + in_order(problems + stands_already(rows))
        if without:
            what = f"{without} images have no label of {', '.join(self.categories)}: they are left out"
            problems.append(Problem(INDEX_FILE, what, fatal=False))
        return rows, problems

    def _read_row(self, index, where, line, cells):
        problems = []

        def report(what, fatal=True):
            problems.append(Problem(where, what, index, fatal))

        image, grid = line["image"], (_whole(line["sh"]), _whole(line["sw"]))
        if not image or leaves_root(image):
            report(f"{image} leads out of the dictionary" if image else "names no image")
        if not all(grid):
            report(f"sh and sw are {line['sh']!r} and {line['sw']!r}: they must be whole numbers from 1 on")
        elif grid[0] * grid[1] > MOST_PIXELS:
            report(f"sh x sw are {grid[0]:,} x {grid[1]:,}: more than {MOST_PIXELS:,} pixels")
        elif grid[0] > (_whole(line["ih"]) or grid[0]) or grid[1] > (_whole(line["iw"]) or grid[1]):
            report(f"sh x sw, {grid[0]} x {grid[1]}, are more than ih x iw, {line['ih']} x {line['iw']}", fatal=False)
        masks = {name: self._read_cell(name, cell, report) for name, cell in cells.items()}
        if any(problem.fatal for problem in problems):
            return Row(index, where, "", masks), problems
        return Row(index, where, normpath(f"{IMAGE_FOLDER}/{image}"), masks, grid=grid), problems

    def _read_cell(self, category, cell, report):
        """The entries of a cell: (numbers of labels of the whole image, paths of images of labels), tuples."""
        numbers, paths = [], []
        for entry in filter(None, (entry.strip() for entry in cell.split(";"))):
            number = _whole(entry)
            if number is not None:
                numbers.append(number)
                if number not in self._labels:
                    report(f"{category}: no table has a label {entry}")
            elif not entry.lower().endswith(".png"):
                report(f"{category}: {entry[:80]!r} is neither the number of a label nor a PNG")
            elif leaves_root(entry):
                report(f"{entry} leads out of the dictionary")
            else:
                paths.append(normpath(f"{IMAGE_FOLDER}/{entry}"))
        return tuple(numbers), tuple(paths)

    def files(self, row):
        """The paths of a row's images of labels, list of text."""
        return [path for _, paths in row.masks.values() for path in paths]

    def check(self, row, image, files):
        """What is wrong with the files of a row. image, files: FileFacts of its image, and of each image of labels.

        Returns list of Problem.
        """
        problems = []

        def report(what):
            problems.append(Problem(row.where, what, row.index))

        if image.error:
            report(image.error)
        for path, found in zip(self.files(row), files, strict=True):
            if found.error:
                report(found.error)
                continue
            if (found.height, found.width) != row.grid:
                report(f"{path} is {found.width}x{found.height}, but sw and sh are {row.grid[1]} and {row.grid[0]}")
            if unknown := [number for number in found.labels if number not in self._labels]:
                report(f"{path}: no table has the labels {first_few(unknown)}")
        if not problems and not _numbers(row) | {number for found in files for number in found.labels}:
            problems.append(
                Problem(row.where, "has no label in its images of labels: it is left out", row.index, False)
            )
        return problems

    def remember(self, row, files):
        """Keep which labels occur in a row's images of labels, as check found them."""
        for found in files:
            self._occurring.extend(found.labels or ())
            self._bounds.append(len(self._occurring))
        self._files_before.append(len(self._bounds) - 1)

    def _occurring_in(self, row):
        """The numbers in each of a row's images of labels, list of lists; none for what was not checked."""
        if row.index + 1 >= len(self._files_before):
            return [[] for _ in self.files(row)]
        of_row = range(self._files_before[row.index], self._files_before[row.index + 1])
        return [self._occurring[self._bounds[file] : self._bounds[file + 1]].tolist() for file in of_row]

    def numbered(self, row):
        """The labels of a row, which must have been checked, by ascending number: list of (number, name)."""
        numbers = _numbers(row).union(*self._occurring_in(row))
        return [(number, self._labels[number].name) for number in sorted(numbers) if number in self._labels]

    def carried(self, rows):
        """Which rows carry which labels, see Format.carried."""
        images, labels = array("q"), array("q")
        for row in rows:
            numbers = [number for number, _ in self.numbered(row)]
            images.extend([row.index] * len(numbers))
            labels.extend(numbers)
        numbers = np.array(list(self._labels), int)
        places = np.searchsorted(numbers, np.array(labels, int))
        return np.array(images, int), places, [concept.name for concept in self._labels.values()]

    def labelled(self, rows):
        """Which rows have any label of the chosen categories: the others are none of the dictionary's images (§10)."""
        return np.fromiter((not row.image or bool(self.numbered(row)) for row in rows), bool, len(rows))

    def whole(self, row):
        """The names of the labels of the whole image, by ascending number."""
        return [self._labels[number].name for number in sorted(_numbers(row))]

    def grid(self, row, grid):
        """The grid of a row's images of labels, sh x sw."""
        return row.grid

    def told(self, concepts):
        """A label of whole images has no place, but images show or lack it. Returns bool (C,)."""
        return np.array([concept.whole for concept in concepts], bool)

    def concepts_of(self, rows, carried):
        """The labels that rows carry, tuple of Concept by ascending number. carried: set of their names."""
        local = set()
        for row in rows:
            local |= set().union(*self._occurring_in(row)) - _numbers(row)
        local = {self._labels[number].name for number in local}
        return tuple(
            replace(concept, whole=name not in local)
            for name, concept in self.listed.items() if name in carried
        )  # fmt: skip

    def masks(self, row, grid, view, seg_threshold):
        """The masks of one row on its own grid: {name: bool (sh, sw)}, without labels of the whole image.

        A pixel belongs to a label that any of the row's images of labels has there. Raises ImageError.
        """
        found, whole = {}, _numbers(row)
        for path, numbers in dict(zip(self.files(row), self._occurring_in(row), strict=True)).items():
            labels = decode_labels(read_bytes(self.root / path), path)
            for number in numbers:
                if number not in whole:
                    name, mask = self._labels[number].name, labels == number
                    found[name] = found[name] | mask if name in found else mask
        return found

    def review(self, rows):
        """How many images and labels each category has; where the tables say another number of images of a label."""
        problems, lines = [], []
        for category in self.categories:
            found, images = Counter(), 0
            for row in rows:
                numbers, paths = row.masks.get(category, ((), ()))
                occurring = dict(zip(self.files(row), self._occurring_in(row), strict=False))
                found.update(set(numbers).union(*(occurring.get(path, ()) for path in paths)))
                images += category in row.masks
            lines.append(f"{category}: {images} images, {len(found)} labels")
            unlike, listed = [], set()
            for _, line in self._table(f"c_{category}.csv", ("number", "frequency")):
                number, said = _whole(line["number"]), _whole(line["frequency"])
                listed.add(number)
                if number is not None and said is not None and said != found[number]:
                    unlike.append(f"{line.get('name') or number} {said}, found {found[number]}")
            if strange := sorted(set(found) - listed):
                what = f"lacks {len(strange)} labels that {INDEX_FILE} has in this category: {first_few(strange)}"
                problems.append(Problem(f"c_{category}.csv", what, fatal=False))
            if unlike:
                what = f"says of {len(unlike)} labels another number of images than there are: {first_few(unlike)}"
                problems.append(Problem(f"c_{category}.csv", what, fatal=False))
        return problems, lines

    def identity(self, row, digests):
        """What decides the masks of a row, as JSON."""
        digest_of = dict(zip(self.files(row), digests, strict=True))
        entries = [(name, numbers, [digest_of[path] for path in paths]) for name, (numbers, paths) in row.masks.items()]
        return [row.grid, sorted(entries)]

    def _table(self, name, columns):
        """Yield (file and line, {column: cell}) of a table, without blanks around cells and names of columns.

        columns: those that it must have.
        """
        try:
            with open(self.root / name, newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file)
                header = [column.strip() for column in next(reader, [])]
                missing = [column for column in columns if column not in header]
                if missing:
                    found = f"found {','.join(header)[:80]!r}" if header else "it is empty"
                    raise DissectionError(f"{self.root / name} has no column {first_few(missing)}: {found}")
                for cells in reader:
                    cells = [*map(str.strip, cells), *[""] * (len(header) - len(cells))]
                    yield f"{name} line {reader.line_num}", dict(zip(header, cells, strict=False))
        except OSError as error:
            raise DissectionError(f"cannot read {self.root / name}: {error.strerror}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise DissectionError(f"cannot read {self.root / name}: {error}") from error


def _told_apart(named):
    """{number: name}, by ascending number, a name for each: where labels share one, with the number behind it."""
    names = dict(sorted(named.items()))
    while twice := {name for name, count in Counter(names.values()).items() if count > 1}:
        names = {number: f"{name} ({number})" if name in twice else name for number, name in names.items()}
    return names


def _numbers(row):
    return {number for numbers, _ in row.masks.values() for number in numbers}


def _whole(text):
    """A whole number as tables have it, also as 12.0; None for anything else."""
    found = re.fullmatch(r"(\d{1,12})(\.0+)?", text)
    return int(found[1]) if found else None


def _number(text):
    try:
        return float(text) if isfinite(float(text)) else None
    except ValueError:
        return None
