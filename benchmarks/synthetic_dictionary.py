"""A dictionary of any size with the proportions of the published one, for measuring: made-up pictures and masks.

The three index files keep their shares of rows and of masks per row (method.md §1.1), pictures are 178x218 JPEG data in
files named .png, masks are 178x218 PNG files.
"""

import csv
from pathlib import Path

import cv2
import numpy as np

from dictionary.concepts import LOCAL_CONCEPTS_BY_TYPE
from dictionary.face_format import INDEX_FILES
from util.parallel import ordered_map, progress

WIDTH, HEIGHT = 178, 218
# Index file -> (folder, concept type, rows and masks of the published dictionary).
_PUBLISHED = dict(
    zip(
        INDEX_FILES,
        (("attributes", "Attr", 9969, 50031), ("AU", "AU", 10663, 21822), ("parts", "Parts", 4000, 32000)),
        strict=True,
    )
)
_PUBLISHED_ROWS = sum(rows for _, _, rows, _ in _PUBLISHED.values())


def make_dictionary(root, images, workers, seed=0):
    """Write a dictionary of about `images` rows to root (a folder that does not exist yet)."""
    root = Path(root)
    root.mkdir(parents=True)
    with progress(images, "made-up dictionary", "image") as bar:
        for index_file, (folder, kind, rows, masks) in _PUBLISHED.items():
            count = max(1, round(images * rows / _PUBLISHED_ROWS))
            concepts, per_row = LOCAL_CONCEPTS_BY_TYPE[kind], masks / rows
            jobs = [(root, folder, number, concepts, per_row, seed) for number in range(count)]
            with open(root / index_file, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(("image", "labels"))
                for row in ordered_map(_make_row, jobs, workers, ahead=64):
                    writer.writerow(row)
                    bar.update()


def _make_row(job):
    """Write one picture and its masks. Returns the row of the index."""
    root, folder, number, concepts, masks_per_row, seed = job
    random = np.random.default_rng([seed, number, len(concepts)])
    place = root / folder / f"{number:06d}"
    place.mkdir(parents=True)
    coarse = random.integers(0, 256, (14, 11, 3), np.uint8)
    picture = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    picture = cv2.add(picture, random.integers(0, 24, (HEIGHT, WIDTH, 3), np.uint8))
    (place / "original.png").write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
    count = min(len(concepts), int(masks_per_row) + int(random.random() < masks_per_row % 1))
    chosen = sorted(random.choice(len(concepts), count, replace=False))
    for concept in (concepts[index] for index in chosen):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        centre = (int(random.integers(50, 130)), int(random.integers(80, 180)))
        axes = (int(random.integers(8, 30)), int(random.integers(4, 20)))
        cv2.ellipse(mask, centre, axes, int(random.integers(0, 180)), 0, 360, 255, -1)
        cv2.imwrite(str(place / f"{concept}.png"), mask)
    name = f"{folder}/{number:06d}"
    return f"{name}/original.png", ";".join(f"{name}/{concepts[index]}.png" for index in chosen)
