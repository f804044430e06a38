"""Counting on a Broden folder as plainly as it can be written: loops over images, units and labels (docs/broden.md).

Nothing here is taken from the program but method.segmentation.active_pixels, which has a reference of its own: the
folder is read by csv and Pillow, and what a label covers is a set of pixels.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from method.segmentation import active_pixels

RULES = ("category", "touched", "concept")


@dataclass
class PlainCounts:
    """What was counted for one label. category: its primary one. images: how many carry it. covered: |L_c|, pixels.

    intersection: (U,) |M_u ∩ L_c|, pixels. area: {rule: (U,) |M_u| over the images that the rule counts, pixels}.
    iou: {rule: (U,)}.
    """

    category: str
    images: int
    covered: int
    intersection: np.ndarray
    area: dict
    iou: dict


def plain_counts(root, categories, maps, thresholds):
    """Count units against the labels of some categories.

    root: the folder. categories: names, in order. maps: float32 (N, U, H, W) of the rows that plain_rows gives.
    thresholds: float64 (U,). Returns {label name: PlainCounts}, of every label of c_<category>.csv.
    """
    root = Path(root)
    names, primary = plain_labels(root, categories)
    rows = plain_rows(root, categories)
    units = maps.shape[1]
    intersection = {number: [0] * units for number in primary}
    covered, carriers = dict.fromkeys(primary, 0), dict.fromkeys(primary, 0)
    area = {rule: {number: [0] * units for number in primary} for rule in RULES}
    assert len(rows) == len(maps)
    for row, of_image in zip(rows, maps, strict=True):
        grid = int(row["sh"]), int(row["sw"])
        wholes, pixels = labels_of(root, row, categories)
        for number in wholes:
            pixels[number] = np.ones(grid, bool)
        active = active_pixels(of_image, thresholds, grid)
        for unit in range(units):
            size = int(active[unit].sum())
            overlap = {number: int((active[unit] & covers).sum()) for number, covers in pixels.items()}
            there = {primary[number] for number in pixels}
            touched = {primary[number] for number in pixels if overlap[number] or number in wholes}
            for number in primary:
                intersection[number][unit] += overlap.get(number, 0)
                area["category"][number][unit] += size if primary[number] in there else 0
                area["touched"][number][unit] += size if primary[number] in touched else 0
                area["concept"][number][unit] += size if number in pixels else 0
        for number, covers in pixels.items():
            covered[number] += int(covers.sum())
            carriers[number] += 1
    found = {}
    for number in primary:
        iou = {
            rule: np.array([_iou(*counts, covered[number]) for counts in zip(
                intersection[number], area[rule][number], strict=True
            )]) for rule in RULES
        }  # fmt: skip
        found[names[number]] = PlainCounts(
            primary[number], carriers[number], covered[number], np.array(intersection[number]),
            {rule: np.array(area[rule][number]) for rule in RULES}, iou,
        )  # fmt: skip
    return found


def _iou(intersection, area, covered):
    union = area + covered - intersection
    return intersection / union if union else 0.0


def plain_rows(root, categories):
    """The rows of index.csv that have any label of the categories, in its order. Returns list of dict."""
    with open(Path(root) / "index.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if any(labels_of(Path(root), row, categories))]


def plain_labels(root, categories):
    """({number: name}, {number: primary category}) of the labels of the categories: that with the largest coverage."""
    names, largest, primary = {}, {}, {}
    for category in categories:
        with open(Path(root) / f"c_{category}.csv", newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                number, coverage = int(line["number"]), float(line["coverage"])
                names[number] = line["name"]
                if number not in largest or coverage > largest[number]:
                    largest[number], primary[number] = coverage, category
    return names, primary


def labels_of(root, row, categories):
    """What one image shows: (set of labels of the whole image, {label: bool (sh, sw)} of those per pixel)."""
    wholes, pixels = set(), {}
    for category in categories:
        for entry in row[category].split(";"):
            if entry.endswith(".png"):
                red, green, _ = np.moveaxis(np.array(Image.open(root / "images" / entry).convert("RGB"), int), 2, 0)
                numbers = red + 256 * green
                assert numbers.shape == (int(row["sh"]), int(row["sw"]))
                for number in set(numbers.ravel().tolist()) - {0}:
                    pixels[number] = pixels.get(number, False) | (numbers == number)
            elif entry:
                wholes.add(int(entry))
    return wholes, pixels
