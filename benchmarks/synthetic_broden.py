"""A Broden folder of drawn pictures, in the format of dataset/broden1_224 (docs/broden.md), for measuring and tests.

    python -m benchmarks.synthetic_broden --images 2000 --out visual_dictionary/synthetic_broden

Four subsets, as unlike each other as those of the published set: `scenes` (objects, parts, materials and colours per
pixel, a scene per image), `things` (objects in two layers, parts), `materials` and `textures` (a texture per image).
What a label looks like is drawn once from the seed, so that a unit can come to detect it. Picture k of a seed is the
same in a folder of any size.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measuring import read_options
from util.errors import DissectionError, run_script
from util.files import replacing_folder
from util.parallel import mapped

CATEGORIES = ("color", "object", "part", "material", "scene", "texture")  # the order of index.csv
# Which subset pictures 0, 1, ..., 9 belong to, and so on.
_CYCLE = (
    "scenes", "materials", "scenes", "textures", "scenes", "materials", "scenes", "things", "scenes", "materials",
)  # fmt: skip
# Rows and columns of a subset's masks, in shares of the picture's side; with mixed_grids the others.
_GRID = (1 / 2, 1 / 2)
_MIXED_GRIDS = {"scenes": _GRID, "things": (1, 1), "materials": (3 / 8, 3 / 8), "textures": (3 / 8, 1 / 2)}
_COLORS = {
    "black": (0, 0, 0), "blue": (40, 70, 200), "brown": (120, 75, 35), "grey": (128, 128, 128),
    "green": (50, 150, 60), "orange": (240, 140, 30), "pink": (245, 160, 190), "purple": (130, 60, 160),
    "red": (200, 35, 40), "white": (255, 255, 255), "yellow": (245, 225, 60),
}  # fmt: skip
# Of the labels that are no colours. The rarest sixth of the objects are parts of other objects as well.
_SHARES = {"scene": 0.28, "part": 0.18, "material": 0.027, "texture": 0.04, "object": None}
_ALSO_PARTS = 1 / 6
FEWEST_LABELS = 60
_BACKDROP = ("sky", "ground", "wall")  # the first objects
_WORDS = {
    "scene": ("hall", "yard", "street", "field"), "part": ("lid", "core", "panel", "knob"),
    "material": ("cloth", "stone", "wood", "metal"), "texture": ("striped", "chequered", "dotted", "wavy"),
    "object": ("box", "disc", "tent", "sheet", "gem"),
}  # fmt: skip
_ROUND = np.linspace(0, 2 * np.pi, 24, endpoint=False)
# Outlines within the unit square, (x, y).
_SHAPES = (
    ((0, 0), (1, 0), (1, 1), (0, 1)),
    tuple(zip(0.5 + 0.5 * np.cos(_ROUND), 0.5 + 0.5 * np.sin(_ROUND), strict=True)),
    ((0.5, 0), (1, 1), (0, 1)),
    ((0.3, 0), (1, 0), (0.7, 1), (0, 1)),
    ((0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)),
)
_WHOLE = (0, 0, 1, 1)


@dataclass(frozen=True)
class Vocabulary:
    """The labels. numbers: {category: list of int}, the most frequent first; names: {number: str}. seed: of looks."""

    numbers: dict
    names: dict
    seed: int

    @classmethod
    def of(cls, labels, seed):
        """labels: how many there are in all."""
        random = np.random.default_rng([seed, labels])
        free = list(len(_COLORS) + 1 + random.permutation(labels - len(_COLORS)))
        numbers = {"color": list(range(1, len(_COLORS) + 1))}
        names = dict(zip(numbers["color"], (f"{color}-c" for color in _COLORS), strict=True))
        for category, share in _SHARES.items():
            count = len(free) if share is None else round(share * (labels - len(_COLORS)))
            numbers[category], free = [int(number) for number in free[:count]], free[count:]
            for place, number in enumerate(numbers[category]):
                word = f"{_WORDS[category][place % len(_WORDS[category])]} {place}"
                names[number] = f"{word}-s" if category == "scene" else word
        names.update(zip(numbers["object"], _BACKDROP, strict=False))
        numbers["part"] += numbers["object"][-round(_ALSO_PARTS * len(numbers["object"])) :]
        return cls(numbers, names, seed)

    def turn(self, category, place):
        """The label whose turn it is at some place: all come round."""
        return self.numbers[category][place % len(self.numbers[category])]

    def drawn(self, random, category, first=0):
        """A label by chance, the first ones more often, about as Zipf has it."""
        count = len(self.numbers[category]) - first
        weights = 1 / (20 + np.arange(count))
        return self.numbers[category][first + int(random.choice(count, p=weights / weights.sum()))]

    def parts_of(self, number):
        """The two parts that an object has: an outer one, and one within it."""
        place = 2 * self.numbers["object"].index(number)
        return self.turn("part", place), self.turn("part", place + 1)

    def material_of(self, number):
        return self.turn("material", self.numbers["object"].index(number))


class Picture:
    """A photograph and the layers of its labels while they are drawn.

    photograph: uint8 (side, side, 3), RGB. layers: {name: uint16 (sh, sw)}, label numbers, 0 where there is none.
    """

    def __init__(self, vocabulary, side, grid, layers):
        self.vocabulary = vocabulary
        self.photograph = np.zeros((side, side, 3), np.uint8)
        self.layers = {layer: np.zeros(grid, np.uint16) for layer in layers}

    def paint(self, shape, box, look, numbers, hides=True):
        """Draw one thing. shape: place in _SHAPES. box: (left, top, width, height), shares of the picture. look: the
        label that it looks like. numbers: {layer: label}. hides: whether it takes what lies behind out of the other
        layers.
        """
        pixels = _filled(shape, box, self.photograph.shape[:2])
        self.photograph[pixels] = _pattern(self.vocabulary.seed, look, np.argwhere(pixels) / len(pixels))
        for layer, labels in self.layers.items():
            if layer in numbers or hides:
                labels[_filled(shape, box, labels.shape)] = numbers.get(layer, 0)

    def paint_object(self, random, number, box):
        """Draw an object of a material, and mostly its parts."""
        shape = self.vocabulary.numbers["object"].index(number) % len(_SHAPES)
        self.paint(shape, box, number, {"object": number, "material": self.vocabulary.material_of(number)})
        if random.random() < 0.7:
            left, top, width, height = box
            for depth, part in enumerate(self.vocabulary.parts_of(number), 1):
                inset = 0.17 * depth
                inner = (left + inset * width, top + inset * height, (1 - 2 * inset) * width, (1 - 2 * inset) * height)
                self.paint(shape, inner, part, {f"part_{depth}": part}, hides=False)

    def colors(self):
        """The colour of each pixel of the grid: the nearest of the eleven. Returns uint16 (sh, sw)."""
        rows, columns = next(iter(self.layers.values())).shape
        small = cv2.resize(self.photograph, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.int32)
        distances = [((small - color) ** 2).sum(axis=2) for color in _COLORS.values()]
        return (np.argmin(distances, axis=0) + 1).astype(np.uint16)


def _filled(shape, box, grid):
    """The pixels of a shape. box: see Picture.paint. grid: (rows, columns). Returns bool (rows, columns)."""
    left, top, width, height = box
    corners = [((left + x * width) * grid[1], (top + y * height) * grid[0]) for x, y in _SHAPES[shape]]
    pixels = np.zeros(grid, np.uint8)
    cv2.fillPoly(pixels, [np.int32(np.round(corners))], 1)
    return pixels.astype(bool)


def _pattern(seed, number, places):
    """What a label looks like: two colours in one of four patterns. places: float (n, 2), row and column in shares of
    the picture. Returns uint8 (n, 3).
    """
    random = np.random.default_rng([seed, number])
    colors, (angle, period) = random.integers(0, 256, (2, 3), np.uint8), random.uniform((0, 0.04), (np.pi, 0.16))
    y, x = (2 * np.pi / period * places).T.astype(np.float32)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    waves = (
        lambda: np.sin(u),
        lambda: np.sin(u) * np.sin(v),
        lambda: np.cos(u) + np.cos(v) - 1,
        lambda: np.sin(u + 2 * np.sin(v)),
    )
    return colors[(waves[number % len(waves)]() > 0).astype(int)]


# --------------------------------------------------------------------------------------------------- the four subsets
# Each draws picture `place` of its subset. Returns (Picture, {category: list of entries}); an entry is a label of the
# whole image, int, or the name of a layer, str.


def _draw_scene(random, vocabulary, place, new_picture):
    picture = new_picture(("object", "part_1", "part_2", "material"))
    sky, ground, wall = vocabulary.numbers["object"][: len(_BACKDROP)]
    horizon = random.uniform(0.3, 0.7)
    for number, box in ((sky, _WHOLE), (ground, (0, horizon, 1, 1 - horizon)), (wall, (0, horizon / 2, 0.3, horizon))):
        picture.paint(0, box, number, {"object": number, "material": vocabulary.material_of(number)})
    wanted = [vocabulary.drawn(random, "object", len(_BACKDROP)) for _ in range(random.integers(6, 15))]
    for number in [*wanted, vocabulary.turn("object", 2 * place), vocabulary.turn("object", 2 * place + 1)]:
        width, height = random.uniform(0.12, 0.4, 2)
        picture.paint_object(random, number, (*random.uniform(0, (1 - width, 1 - height)), width, height))
    scenes = [vocabulary.drawn(random, "scene") if place % 2 else vocabulary.turn("scene", place // 2)]
    if place % 11 == 3:
        scenes = sorted({*scenes, vocabulary.drawn(random, "scene")})
    entries = {"object": ["object"], "part": ["part_1", "part_2"], "material": ["material"], "scene": scenes}
    if place % 4 == 1:
        del entries["material"]
    return picture, entries


def _draw_things(random, vocabulary, place, new_picture):
    """Objects in two layers, of which the second repeats one of the first at the same pixels."""
    picture = new_picture(("object", "part_1", "part_2", "material", "again"))
    wanted = [vocabulary.drawn(random, "object", len(_BACKDROP)) for _ in range(3)]
    last = vocabulary.turn("object", place)
    for number in [*wanted, last]:
        width, height = random.uniform(0.3, 0.6, 2)
        picture.paint_object(random, number, (*random.uniform(0, (1 - width, 1 - height)), width, height))
    again = picture.layers["again"]
    again[_filled(1, (0.2, 0.2, 0.6, 0.6), again.shape)] = vocabulary.drawn(random, "object", len(_BACKDROP))
    again[picture.layers["object"] == last] = last
    return picture, {"object": ["object", "again"], "part": ["part_1", "part_2"]}


def _draw_materials(random, vocabulary, place, new_picture):
    """Patches of materials, with places between them that nobody labelled."""
    picture = new_picture(("material",))
    picture.paint(0, _WHOLE, 0, {})
    wanted = [vocabulary.drawn(random, "material") for _ in range(random.integers(2, 6))]
    for number in [*wanted, vocabulary.turn("material", place)]:
        width, height = random.uniform(0.25, 0.6, 2)
        box = (*random.uniform(0, (1 - width, 1 - height)), width, height)
        picture.paint(int(random.integers(len(_SHAPES))), box, number, {"material": number})
    return picture, {"material": ["material"]}


def _draw_texture(random, vocabulary, place, new_picture):
    """One texture all over, mostly; some pictures have a second one, and some show in a mask where."""
    picture = new_picture(("texture",))
    number = vocabulary.turn("texture", place)
    picture.paint(0, _WHOLE, number, {})
    if place % 3 == 1:
        return picture, {"texture": sorted({number, vocabulary.drawn(random, "texture")})}
    if place % 5 == 2:
        other = vocabulary.drawn(random, "texture")
        picture.paint(1, (0.1, 0.2, 0.5, 0.6), other, {"texture": other})
        picture.layers["texture"][_filled(0, (0.6, 0, 0.4, 0.3), picture.layers["texture"].shape)] = number
        return picture, {"texture": [number, "texture"]}
    return picture, {"texture": [number]}


_DRAW = {"scenes": _draw_scene, "things": _draw_things, "materials": _draw_materials, "textures": _draw_texture}


# ----------------------------------------------------------------------------------------------------------- the folder


def make_broden(folder, images, *, labels=1197, side=224, seed=0, workers=2, mixed_grids=False):
    """Write a Broden folder of drawn pictures, whole or not at all, always the same one for a seed.

    folder: that does not exist yet. images: how many. labels: how many there are, the eleven colours among them; of
    1,197 all are used from about 1,400 images on, and fewer images have fewer. side: of the pictures, pixels. workers:
    threads. mixed_grids: masks of three subsets are not half as large as their pictures, of one not square. Returns the
    folder as pathlib.Path. Raises DissectionError.
    """
    folder = Path(folder)
    if folder.exists():
        raise DissectionError(f"{folder} is there already: delete it or name another folder")
    if labels < FEWEST_LABELS or images < 1:
        raise DissectionError(f"expected an image and {FEWEST_LABELS} labels or more, not {images} and {labels}")
    vocabulary = Vocabulary.of(labels, seed)
    with replacing_folder(folder) as root:
        for subset in _DRAW:
            (root / "images" / subset).mkdir(parents=True)
        make_row = partial(_make_row, root, vocabulary, side, mixed_grids)
        made = [result for _, result in mapped(make_row, range(images), workers, "drawn pictures", ahead=64)]
        header = ("image", "split", "ih", "iw", "sh", "sw", *CATEGORIES)
        _write_csv(root / "index.csv", header, [row for row, _ in made])
        _write_labels(root, vocabulary, [shares for _, shares in made])
    return folder


def _make_row(root, vocabulary, side, mixed_grids, number):
    """Draw and write one picture. Returns (row of index.csv, {category or "any": {label: share of the pixels}})."""
    subset, (cycle, step) = _CYCLE[number % len(_CYCLE)], divmod(number, len(_CYCLE))
    place = cycle * _CYCLE.count(subset) + _CYCLE[:step].count(subset)
    shares = _MIXED_GRIDS[subset] if mixed_grids else _GRID
    grid = (round(shares[0] * side), round(shares[1] * side))
    random = np.random.default_rng([vocabulary.seed, number, 1])
    picture, entries = _DRAW[subset](random, vocabulary, place, partial(Picture, vocabulary, side, grid))
    if number % 23 != 5:  # some have no colours
        entries["color"], picture.layers["color"] = ["color"], picture.colors()
    used = {layer for of_category in entries.values() for layer in of_category if isinstance(layer, str)}
    layers = {layer: labels for layer, labels in picture.layers.items() if layer in used and labels.any()}
    stem = f"{subset}/{number:06d}"
    _write_image(root / "images" / f"{stem}.jpg", picture.photograph)
    for layer, labels in layers.items():  # R + 256 G
        red, green = labels % 256, labels // 256
        _write_image(root / "images" / f"{stem}_{layer}.png", np.dstack([red, green, 0 * red]).astype(np.uint8))
    cells, found = [], {}
    for category in CATEGORIES:
        present = [entry for entry in entries.get(category, ()) if entry in layers or not isinstance(entry, str)]
        cells.append(";".join(f"{stem}_{entry}.png" if isinstance(entry, str) else str(entry) for entry in present))
        found[category] = [layers.get(entry, entry) for entry in present]
    found["any"] = [labels for of_category in found.values() for labels in of_category]
    row = (f"{stem}.jpg", "val" if number % 5 == 4 else "train", side, side, *grid, *cells)
    return row, {category: _shares_of(found[category], grid) for category in found}


def _write_image(path, image):
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        raise OSError(None, "the picture could not be written", str(path))


def _shares_of(found, grid):
    """Which share of an image each label covers, a pixel counting once per label. found: layers and labels of the whole
    image. Returns {label: share}.
    """
    layers, counts = [entry for entry in found if not isinstance(entry, int)], np.zeros(2**16, np.int64)
    for place, labels in enumerate(layers):
        repeated = np.any([labels == earlier for earlier in layers[:place]], axis=0)
        counts += np.bincount(np.where(repeated, 0, labels).ravel(), minlength=len(counts))
    shares = {int(number): counts[number] / (grid[0] * grid[1]) for number in np.flatnonzero(counts) if number}
    return shares | {entry: 1.0 for entry in found if isinstance(entry, int)}


def _write_labels(root, vocabulary, images):
    """Write label.csv, category.csv and c_<category>.csv. images: list of what _make_row gives of the labels."""
    frequency, coverage = defaultdict(lambda: defaultdict(int)), defaultdict(lambda: defaultdict(float))
    with_any = defaultdict(int)
    for image in images:
        for category, shares in image.items():
            with_any[category] += bool(shares)
            for number, share in shares.items():
                frequency[category][number] += 1
                coverage[category][number] += share
    names, of_categories = vocabulary.names, []
    for category in CATEGORIES:
        numbers = sorted(frequency[category], key=lambda number: (-frequency[category][number], number))
        if numbers:
            of_categories.append((category, min(numbers), max(numbers), len(numbers), with_any[category]))
        rows = [
            (code, number, names[number], frequency[category][number], f"{coverage[category][number]:.6f}")
            for code, number in enumerate(numbers, 1)
        ]
        _write_csv(root / f"c_{category}.csv", ("code", "number", "name", "frequency", "coverage"), rows)
    _write_csv(root / "category.csv", ("name", "first", "last", "count", "frequency"), of_categories)
    rows = []
    for number in sorted(frequency["any"]):
        counts = {category: frequency[category][number] for category in CATEGORIES if number in frequency[category]}
        cell = ";".join(f"{category}({count})" for category, count in sorted(counts.items(), key=lambda c: -c[1]))
        synonyms = f"{names[number]};{names[number].split()[0]}" if number % 7 == 0 else ""
        total = f"{coverage['any'][number]:.6f}"
        rows.append((number, names[number], cell, frequency["any"][number], total, synonyms))
    _write_csv(root / "label.csv", ("number", "name", "category", "frequency", "coverage", "syns"), rows)


def _write_csv(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def main():
    defaults = {"images": 2000, "out": "visual_dictionary/synthetic_broden", "labels": 1197, "side": 224, "seed": 0}
    options = read_options(__doc__, **defaults, workers=2)
    folder = make_broden(
        options.out, options.images, labels=options.labels, side=options.side, seed=options.seed,
        workers=options.workers,
    )  # fmt: skip
    print(folder)


if __name__ == "__main__":
    run_script(main)
