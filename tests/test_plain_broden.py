"""The plain reference of counting on Broden against a case counted by hand, and the drawn folder against its format."""

import csv
from collections import defaultdict
from filecmp import dircmp

import cv2
import numpy as np
import pytest

from benchmarks.synthetic_broden import CATEGORIES, make_broden
from tests.plain_broden import labels_of, plain_counts, plain_labels, plain_rows
from util.errors import DissectionError

# --------------------------------------------------------------------------------------------------- counted by hand


def write_csv(path, text):
    path.write_text("\n".join(text.split()) + "\n", encoding="utf-8")


def write_png(path, rows):
    numbers = np.array(rows)
    cv2.imwrite(str(path), np.dstack([0 * numbers, numbers // 256, numbers % 256]).astype(np.uint8))  # BGR


@pytest.fixture
def by_hand(tmp_path):
    """Four images of 4 x 4 px: car 1, door 300 (object and part, more of it as part), street-s 2, dotted 3."""
    (tmp_path / "images").mkdir()
    write_csv(
        tmp_path / "index.csv",
        """image,split,ih,iw,sh,sw,color,object,part,material,scene,texture
        a.jpg,train,8,8,4,4,,a_1.png;a_2.png,a_part.png,,2,
        b.jpg,train,8,8,4,4,,b.png,,,,
        c.jpg,train,8,8,4,4,,,,,2,3;c.png
        d.jpg,train,8,8,4,4,,d.png,,,,""",
    )
    for category, lines in {
        "object": "1,1,car,2,0.5 2,300,door,1,0.125", "part": "1,300,door,1,0.25", "scene": "1,2,street-s,2,2.0",
        "texture": "1,3,dotted,1,1.0",
    }.items():  # fmt: skip
        write_csv(tmp_path / f"c_{category}.csv", f"code,number,name,frequency,coverage {lines}")
    images = tmp_path / "images"
    write_png(images / "a_1.png", [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    # car again at one pixel that it has already and one new: 5 pixels of car in all; door as object at 2 pixels.
    write_png(images / "a_2.png", [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 300, 300]])
    # door as part: one pixel that it has as object, 2 new ones: 4 pixels of door in all.
    write_png(images / "a_part.png", [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 300, 300], [0, 0, 300, 0]])
    write_png(images / "b.png", [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    write_png(images / "c.png", [[3, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    write_png(images / "d.png", np.zeros((4, 4), int))  # nothing is labelled: the image counts for nothing
    return tmp_path


TOP = [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
CORNER = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
NOWHERE = np.zeros((4, 4))
MAPS = np.array([[TOP, CORNER], [TOP, CORNER], [NOWHERE, CORNER]], np.float32)  # of a, b and c; two units
ALL = ("object", "part", "scene", "texture")


def test_what_was_counted_by_hand(by_hand):
    assert [row["image"] for row in plain_rows(by_hand, ALL)] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [row["image"] for row in plain_rows(by_hand, ["texture"])] == ["c.jpg"]
    counts = plain_counts(by_hand, ALL, MAPS, np.array([0.5, 0.5]))
    found = {
        name: (of.category, of.images, of.covered, *(of.intersection.tolist(), *(a.tolist() for a in of.area.values())))
        for name, of in counts.items()
    }
    assert found == {
        # car: 5 px of a, 4 of b. TOP meets 3 of a's five (columns 0, 1, 2), none of b; CORNER none of a's, 2 of b's.
        # Objects are in a and b: 4 + 4 px of either unit. Touched: TOP has a car in a alone. CORNER's pixels in a bear
        # nothing but door, whose category is part: b alone.
        "car": ("object", 2, 9, [3, 2], [8, 8], [4, 4], [8, 8]),
        # door: 4 px of a, no matter in which layer. TOP meets none, CORNER's four are all door.
        "door": ("part", 1, 4, [0, 4], [4, 4], [0, 4], [4, 4]),
        # street-s: all 16 px of a and of c, so all that is active there.
        "street-s": ("scene", 2, 32, [4, 8], [4, 8], [4, 8], [4, 8]),
        # dotted: all 16 px of c, also where a mask has it at two.
        "dotted": ("texture", 1, 16, [0, 4], [0, 4], [0, 4], [0, 4]),
    }
    iou = {name: {rule: values.tolist() for rule, values in of.iou.items()} for name, of in counts.items()}
    assert iou["car"] == {"category": [3 / 14, 2 / 15], "touched": [3 / 10, 2 / 11], "concept": [3 / 14, 2 / 15]}
    assert iou["door"] == {"category": [0, 1], "touched": [0, 1], "concept": [0, 1]}
    assert iou["street-s"]["category"] == [4 / 32, 8 / 32] and iou["dotted"]["touched"] == [0, 4 / 16]


def test_the_chosen_categories_decide_what_is_counted(by_hand):
    objects = plain_counts(by_hand, ["object"], MAPS[:2], np.array([0.5, 0.5]))
    assert set(objects) == {"car", "door"}
    # door is an object now, of 2 px. CORNER has both of them: its 4 px in a count as touched for car as well.
    assert (objects["door"].category, objects["door"].covered) == ("object", 2)
    assert objects["door"].intersection.tolist() == [0, 2]
    assert objects["car"].area["touched"].tolist() == [4, 8]
    assert objects["door"].area["concept"].tolist() == [4, 4]


# -------------------------------------------------------------------------------------------------- the drawn folder


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("mixed_grids", [False, True])
def test_the_drawn_folder_is_what_its_tables_say(tmp_path, mixed_grids):
    root = make_broden(tmp_path / "broden", 40, labels=400, side=64, workers=2, mixed_grids=mixed_grids)
    index = read(root / "index.csv")
    assert list(index[0]) == ["image", "split", "ih", "iw", "sh", "sw", *CATEGORIES] and len(index) == 40
    frequency, coverage, all_frequency = defaultdict(int), defaultdict(float), defaultdict(int)
    with_any = defaultdict(int)
    for row in index:
        photograph = cv2.imread(str(root / "images" / row["image"]))
        assert photograph.shape == (int(row["ih"]), int(row["iw"]), 3) == (64, 64, 3)
        seen = set()
        for category in CATEGORIES:
            wholes, pixels = labels_of(root, row, [category])
            pixels.update((number, np.ones((int(row["sh"]), int(row["sw"])), bool)) for number in wholes)
            with_any[category] += bool(pixels)
            seen |= set(pixels)
            for number, covered in pixels.items():
                frequency[category, number] += 1
                coverage[category, number] += covered.mean()
        for number in seen:
            all_frequency[number] += 1
    categories = read(root / "category.csv")
    assert [(c["name"], int(c["frequency"])) for c in categories] == [(c, with_any[c]) for c in CATEGORIES]
    labels = {int(line["number"]): line for line in read(root / "label.csv")}
    assert {number: int(line["frequency"]) for number, line in labels.items()} == all_frequency
    for category in categories:
        lines = read(root / f"c_{category['name']}.csv")
        numbers = [int(line["number"]) for line in lines]
        assert [int(line["code"]) for line in lines] == list(range(1, int(category["count"]) + 1))
        assert (min(numbers), max(numbers)) == (int(category["first"]), int(category["last"]))
        assert set(numbers) == {number for name, number in frequency if name == category["name"]}
        for number, line in zip(numbers, lines, strict=True):
            pair = category["name"], number
            assert line["name"] == labels[number]["name"] and int(line["frequency"]) == frequency[pair]
            assert float(line["coverage"]) == pytest.approx(coverage[pair], abs=1e-6)
            assert f"{category['name']}({frequency[pair]})" in labels[number]["category"].split(";")
    assert len({line["name"] for line in labels.values()}) == len(labels)


def test_the_drawn_folder_has_every_form_of_a_cell(tmp_path):
    root = make_broden(tmp_path / "broden", 60, labels=400, side=64, workers=2, mixed_grids=True)
    index = read(root / "index.csv")
    cells = {category: [row[category] for row in index] for category in CATEGORIES}
    forms = {
        category: {tuple("png" if entry.endswith("png") else "number" for entry in cell.split(";") if entry)
                   for cell in of_category}
        for category, of_category in cells.items()
    }  # fmt: skip
    assert forms == {
        "color": {(), ("png",)}, "object": {(), ("png",), ("png", "png")}, "part": {(), ("png", "png")},
        "material": {(), ("png",)}, "scene": {(), ("number",), ("number", "number")},
        "texture": {(), ("number",), ("number", "number"), ("number", "png")},
    }  # fmt: skip
    assert {(row["sh"], row["sw"]) for row in index} == {("32", "32"), ("64", "64"), ("24", "24"), ("24", "32")}
    repeated, both = 0, 0
    for row in index:
        one, other = ([labels_of(root, row | {"object": layer}, ["object"])[1] for layer in row["object"].split(";")]
                      if ";" in row["object"] else ({}, {}))  # fmt: skip
        repeated += any((one[number] & other[number]).any() for number in one.keys() & other.keys())
        wholes, pixels = labels_of(root, row, ["texture"])
        both += bool(wholes & set(pixels))
    assert repeated and both
    labels = read(root / "label.csv")
    assert any(
        {"object", "part"} <= {entry.partition("(")[0] for entry in line["category"].split(";")} for line in labels
    )
    assert max(int(line["number"]) for line in labels) > 255
    names, primary = plain_labels(root, CATEGORIES)
    assert all(name.endswith("-s") == (primary[number] == "scene") for number, name in names.items())
    assert [names[number] for number in range(1, 12)][::5] == ["black-c", "orange-c", "yellow-c"]


def test_the_drawn_folder_is_the_same_with_any_number_of_workers_and_of_images(tmp_path):
    few = make_broden(tmp_path / "few", 12, labels=80, side=32, workers=0)
    again = make_broden(tmp_path / "again", 12, labels=80, side=32, workers=3)
    more = make_broden(tmp_path / "more", 15, labels=80, side=32)
    for name in [*(path.name for path in few.glob("*.csv")), *(str(p.relative_to(few)) for p in few.rglob("*.*g"))]:
        assert (few / name).read_bytes() == (again / name).read_bytes(), name
    assert not dircmp(few / "images/scenes", more / "images/scenes").diff_files
    other = make_broden(tmp_path / "other", 12, labels=80, side=32, seed=1)
    assert (few / "label.csv").read_bytes() != (other / "label.csv").read_bytes()
    for images, labels, message in ((0, 80, "an image"), (3, 20, "60 labels"), (3, 80, "is there already")):
        with pytest.raises(DissectionError, match=message):
            make_broden(few if message.startswith("is") else tmp_path / "none", images, labels=labels)
