"""A dictionary of any size with the proportions of the published one, for measuring: made-up pictures and masks.

The three index files keep their shares of rows and of masks per row (method.md §1.1), pictures are 178x218 JPEG data in
files named .png, masks are 178x218 PNG files.
"""

import csv
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dictionary.concepts import LOCAL_CONCEPTS_BY_TYPE
from dictionary.face_format import INDEX_FILES
from util.parallel import mapped

WIDTH, HEIGHT = 178, 218
# For each index file: folder, concept type, rows and masks of the published dictionary.
_PUBLISHED = (("attributes", "Attr", 9969, 50031), ("AU", "AU", 10663, 21822), ("parts", "Parts", 4000, 32000))


def make_dictionary(root, images, workers):
    """Write a dictionary of about `images` rows to root (a folder that does not exist yet), always the same one."""
    root = Path(root)
    root.mkdir(parents=True)
    published_rows = sum(rows for _, _, rows, _ in _PUBLISHED)
    for index_file, (folder, kind, rows, masks) in zip(INDEX_FILES, _PUBLISHED, strict=True):
        numbers = range(max(1, round(images * rows / published_rows)))
        make_row = partial(_make_row, root, folder, LOCAL_CONCEPTS_BY_TYPE[kind], masks / rows)
        made = mapped(make_row, numbers, workers, f"made-up {folder}", ahead=64)
        with open(root / index_file, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("image", "labels"), *(row for _, row in made)])


def _make_row(root, folder, concepts, masks_per_row, number):
    """Write one picture and its masks. Returns the row of the index."""
    random = np.random.default_rng([0, number, len(concepts)])
    place = root / folder / f"{number:06d}"
    place.mkdir(parents=True)
    coarse = random.integers(0, 256, (14, 11, 3), np.uint8)
    picture = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    picture = cv2.add(picture, random.integers(0, 24, (HEIGHT, WIDTH, 3), np.uint8))
    (place / "original.png").write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
    count = min(len(concepts), int(masks_per_row) + int(random.random() < masks_per_row % 1))
    chosen = sorted(random.choice(len(concepts), count, replace=False))
    masks = [f"{folder}/{number:06d}/{concepts[index]}.png" for index in chosen]
    for path in masks:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        centre = (int(random.integers(50, 130)), int(random.integers(80, 180)))
        axes = (int(random.integers(8, 30)), int(random.integers(4, 20)))
        cv2.ellipse(mask, centre, axes, int(random.integers(0, 180)), 0, 360, 255, -1)
        cv2.imwrite(str(root / path), mask)
    return f"{folder}/{number:06d}/original.png", ";".join(masks)
