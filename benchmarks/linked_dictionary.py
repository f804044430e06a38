"""A Face Dictionary of any number of rows that takes hardly any disk: its files are links to those of 300 faces.

    python -m benchmarks.linked_dictionary --rows 1000000 --out DIR

Rows take the faces in turn, two fifths of them with masks of attributes, two fifths with action units, one fifth with
parts, one or two masks each. --source is the Face Dictionary whose files are taken, made smaller to --side pixels; by
default --faces faces are rendered. --distinct 1 writes every file instead, with its number in it, so that no two have
the same content: for what depends on the number of photographs rather than rows.
"""

import csv
import os
import struct
import tempfile
import zlib
from itertools import count
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from benchmarks.measuring import read_options
from dictionary import render
from dictionary.face_format import COLUMNS, INDEX_FILES
from dictionary.images import load_rgb, read_mask
from dictionary.views import resize_image, resize_mask

# For each index file, its folder and its share of the rows, in fifths.
_PLACES = tuple(zip(INDEX_FILES, ("attributes", "AU", "parts"), (2, 2, 1), strict=True))
_MOST_LINKS = 60_000  # of one file; ext4 takes 65,000
_PER_FOLDER = 1000  # folders within one


class Copies:
    """Places one content at many paths: as links to one file as long as a file system takes them, then to the next.

    content: bytes of a JPEG or PNG file. distinct: every path gets a file of its own, unlike all others.
    """

    def __init__(self, content, distinct):
        self.content, self.distinct, self.original, self.links = content, distinct, None, 0

    def put(self, path, number):
        """number: that no other path of this content has."""
        if self.distinct:
            path.write_bytes(numbered(self.content, number))
        elif self.original is None or self.links == _MOST_LINKS:
            path.write_bytes(self.content)
            self.original, self.links = path, 1
        else:
            os.link(self.original, path)
            self.links += 1


def numbered(content, number):
    """A JPEG or PNG file with a comment near its start that holds a number: the same picture. Returns bytes."""
    comment = str(number).encode()
    if content.startswith(b"\xff\xd8"):
        return content[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment + content[2:]
    chunk = b"tEXtnumber\0" + comment
    header = 8 + 25  # the signature and the first chunk
    return (content[:header] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
            + content[header:])  # fmt: skip


def make_linked(root, rows, source, side, distinct=False):
    """Write a dictionary of `rows` rows to root (a folder that does not exist yet), always the same one.

    source: folder of a Face Dictionary, every index file of which has rows. side: of the photographs' longer side,
    pixels.
    """
    shares = sum(share for *_, share in _PLACES)
    first = 0
    for name, folder, share in _PLACES:
        last = min(rows, first + -(-rows * share // shares))
        faces = _faces(Path(source), name, side, distinct)
        root.mkdir(parents=True, exist_ok=True)
        with open(root / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_rows(root, folder, faces, last - first))
        first = last


def _faces(source, index_file, side, distinct):
    """The faces of an index file, smaller: list of (Copies of the photograph, {name of a mask's file: its Copies})."""
    with open(source / index_file, newline="", encoding="utf-8") as file:
        lines = [(line["image"], line["labels"].split(";")) for line in csv.DictReader(file) if line["labels"]]
    faces = []
    for image, labels in lines:
        photograph = load_rgb(source / image)
        share = side / max(photograph.shape[:2])
        grid = tuple(max(8, round(length * share)) for length in photograph.shape[:2])
        small = cv2.cvtColor(resize_image(photograph, grid), cv2.COLOR_RGB2BGR)
        masks = {PurePosixPath(path).name: _mask(source / path, grid) for path in labels}
        faces.append((
            Copies(cv2.imencode(".jpg", small)[1].tobytes(), distinct),
            {name: Copies(content, distinct) for name, content in masks.items()},
        ))  # fmt: skip
    return faces


def _mask(path, grid):
    return cv2.imencode(".png", 255 * resize_mask(read_mask(path), grid).astype(np.uint8))[1].tobytes()


def _rows(root, folder, faces, number_of_rows):
    """Place the files of rows, yielding each one's line. A mask's name is its concept: rows share a folder, so that
    there are not as many folders as rows, until they have the same concepts.
    """
    places = (f"{folder}/{number // _PER_FOLDER:04d}/{number % _PER_FOLDER:03d}" for number in count())
    place, taken = None, set()
    for row in range(number_of_rows):
        photograph, masks = faces[row % len(faces)]
        turn = row // len(faces) % len(masks)
        in_turn = [*list(masks)[turn:], *list(masks)[:turn]]
        if place is None or taken.issuperset(masks):
            place, taken = next(places), set()
            (root / place).mkdir(parents=True)
        names = [name for name in in_turn if name not in taken][: 1 + row % 2]
        taken.update(names)
        image = f"{place}/{row:07d}.jpg"
        photograph.put(root / image, row)
        for name in names:
            masks[name].put(root / place / name, row)
        yield image, ";".join(f"{place}/{name}" for name in names)


def rendered(folder, faces):
    """Render faces for a source. Returns its folder."""
    render.main([f"--images={faces}", "--per-group=0", f"--out={folder}", "--workers=2"])
    return folder


def main():
    options = read_options(__doc__, rows=10_000, out="", source="", faces=300, side=64, distinct=0)
    with tempfile.TemporaryDirectory() as folder:
        source = options.source or rendered(Path(folder) / "rendered", options.faces)
        make_linked(Path(options.out), options.rows, source, options.side, bool(options.distinct))


if __name__ == "__main__":
    main()
