"""Dictionaries in the format of Broden: what is read, what is refused, and how it is counted (method.md §10)."""

import csv
import re
import shutil
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

import cluster_top
import main
import nl_bias
from benchmarks.synthetic_broden import make_broden
from dictionary.check import find_problems
from dictionary.dictionary import open_dictionary
from feature_operation import FeatureOperator
from method.findings import Findings
from method.segmentation import active_pixels
from method.tally import IMAGES, Tally, TallyStatistic
from report import labels
from store.arrays import load_arrays, load_as
from store.feature_file import FeatureMaps
from tests.conftest import LITTLE_CHANCE
from tests.plain_broden import labels_of, plain_counts, plain_labels, plain_rows
from tests.test_chance import chance
from tests.test_presence import presence
from util.errors import DissectionError

ALL = ("object", "part", "scene", "material", "texture", "color")
UNITS = 5


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two drawn folders, {mixed_grids: path}: images of labels of one size and of several."""
    root = tmp_path_factory.mktemp("broden")
    for mixed in (False, True):
        make_broden(root / str(mixed), 30, labels=70, side=64, seed=1, mixed_grids=mixed)
    return {mixed: root / str(mixed) for mixed in (False, True)}


@pytest.fixture
def folder(folders, tmp_path):
    """One that may be damaged."""
    return shutil.copytree(folders[False], tmp_path / "broden")


def opened(root, folder, categories=ALL, **options):
    return open_dictionary(root, memory_folder=folder / "cache", workers=0, categories=categories, **options)


def maps_of(dictionary, folder, seed=3):
    """Made-up maps of a dictionary's images. Returns (FeatureMaps, float32 (N, U, 5, 4))."""
    random = np.random.default_rng(seed)
    maps = random.gamma(0.6, 1.0, (len(dictionary.rows), UNITS, 5, 4)).astype(np.float32)
    maps[random.random(maps.shape[:2]) < 0.3] = 0  # silent units
    maps.tofile(folder / "maps")
    return FeatureMaps(folder / "maps", maps.shape, "float32", dictionary.usable), maps


def tallied(operator, maps, thresholds, images):
    dictionary = operator.dictionary
    statistic = TallyStatistic(thresholds, dictionary.concepts, dictionary.carries, images=images)
    return operator.tally({"layer": (maps, [statistic])})["layer"][0]


def rewrite(path, change):
    """Change the cells of a table. change: function of the lines, a list of dict."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names, lines = reader.fieldnames, list(reader)
    lines = change(lines) or lines
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(lines)


# ------------------------------------------------------------------------------------------------------------ counting


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("categories", [ALL, ("part", "scene"), ("texture",)])
def test_all_rules_count_as_the_plain_loops(folders, tmp_path, mixed, categories):
    root = folders[mixed]
    dictionary = opened(root, tmp_path, categories)
    assert [row.image.removeprefix("images/") for row in dictionary.usable_rows] == [
        line["image"] for line in plain_rows(root, categories)
    ]
    features, maps = maps_of(dictionary, tmp_path)
    thresholds = np.quantile(maps.astype(np.float64), 0.9, axis=(0, 2, 3))
    plain = plain_counts(root, categories, maps[dictionary.usable], thresholds)
    carried = {name for name, of in plain.items() if of.images}
    assert set(dictionary.names) == carried
    assert {concept.name: concept.type for concept in dictionary.concepts} == {
        name: plain[name].category for name in carried
    }
    operator = FeatureOperator(None, dictionary, grid=(64, 64), tally_batch_size=4)
    for rule in IMAGES:
        found = tallied(operator, features, thresholds, rule)
        for place, name in enumerate(dictionary.names):
            of = plain[name]
            assert np.array_equal(found.intersection[:, place], of.intersection), (rule, name)
            assert np.array_equal(found.union[:, place], of.area[rule] + of.covered - of.intersection), (rule, name)
            assert np.array_equal(found.tally[:, place], of.iou[rule]), (rule, name)
        assert (found.carries.sum(axis=0) == [plain[name].images for name in dictionary.names]).all()


def test_the_rules_differ_where_they_should(folders, tmp_path):
    dictionary = opened(folders[False], tmp_path)
    features, maps = maps_of(dictionary, tmp_path)
    operator = FeatureOperator(None, dictionary, grid=(64, 64))
    thresholds = np.quantile(maps.astype(np.float64), 0.9, axis=(0, 2, 3))
    unions = {rule: tallied(operator, features, thresholds, rule).union for rule in IMAGES}
    assert (unions["concept"] <= unions["category"]).all() and (unions["touched"] <= unions["category"]).all()
    assert not np.array_equal(unions["touched"], unions["category"])
    assert not np.array_equal(unions["concept"], unions["touched"])


def test_batches_and_workers_change_nothing(folders, tmp_path):
    dictionary = opened(folders[True], tmp_path)
    features, _ = maps_of(dictionary, tmp_path)
    found = [
        tallied(FeatureOperator(None, dictionary, grid=(64, 64), **options), features, np.full(UNITS, 1.5), "touched")
        for options in ({"workers": 0, "tally_batch_size": 1}, {"workers": 3, "tally_batch_size": 7}, {})
    ]
    for other in found[1:]:
        for name in Tally.__dataclass_fields__:
            assert getattr(found[0], name).tobytes() == getattr(other, name).tobytes(), name


def test_best_images_of_a_label_of_whole_images_are_those_where_the_unit_covers_most(folders, tmp_path):
    dictionary = opened(folders[False], tmp_path, ("scene",))
    features, maps = maps_of(dictionary, tmp_path)
    operator = FeatureOperator(None, dictionary, grid=(64, 64))
    found = tallied(operator, features, np.full(UNITS, 1.0), "category")
    scene = int(dictionary.carries.sum(axis=0).argmax())
    for unit in range(UNITS):
        scores = found.scores[unit, scene]
        assert (np.diff(scores) <= 0).all() and (scores <= 1).all()
        assert set(found.maps[unit, scene][scores > 0]) <= set(np.flatnonzero(dictionary.carries[:, scene]))


# -------------------------------------------------------------------------------------------------------------- chance


def test_chance_on_counted_unions_is_that_of_the_concepts_images_where_these_are_counted(folders, tmp_path):
    dictionary = opened(folders[False], tmp_path, ("object", "part"))
    features, maps = maps_of(dictionary, tmp_path)
    operator = FeatureOperator(None, dictionary, grid=(64, 64))
    tally = tallied(operator, features, np.full(UNITS, 1.0), "concept")
    found = operator.chance({"layer": (features, tally)}, permutations=50, bootstraps=0, images=512)["layer"]
    assert operator.counting_grid == (32, 32)

    labelled = np.flatnonzero(dictionary.carries.any(axis=1))
    active = np.array([active_pixels(of_image, tally.thresholds, (32, 32)) for of_image in maps])
    masks = {name: ([], []) for name in dictionary.names}
    for image in labelled:
        concepts, of_image = dictionary.masks(dictionary.rows[image], (64, 64))
        for concept, mask in zip(concepts, of_image, strict=True):
            masks[dictionary.names[concept]][0].append(image)
            masks[dictionary.names[concept]][1].append(mask)
    masks = {name: (np.array(images), np.array(pixels)) for name, (images, pixels) in masks.items()}
    counted = chance(active, masks, operator.photographs.astype(str), permutations=50)
    assert np.array_equal(found.iou, counted.iou) and np.array_equal(found.label, counted.label)
    assert np.allclose(found.location_iou, counted.location_iou, rtol=1e-12)
    assert np.array_equal(found.z, counted.z)
    assert np.array_equal(found.p_label, counted.p_label)
    assert np.allclose(found.p_unit, counted.p_unit, rtol=1e-9)


def test_the_location_level_by_category_is_that_of_masks_dealt_out_among_the_images_that_carry_them(folders, tmp_path):
    dictionary = opened(folders[False], tmp_path, ("object",))
    features, maps = maps_of(dictionary, tmp_path)
    operator = FeatureOperator(None, dictionary, grid=(64, 64))
    tally = tallied(operator, features, np.full(UNITS, 1.0), "category")
    found = operator.chance({"layer": (features, tally)}, permutations=30, bootstraps=0, images=512)["layer"]
    concept = int(dictionary.carries.sum(axis=0).argmax())
    carriers = np.flatnonzero(dictionary.carries[:, concept])
    masks = {}
    for image in carriers:
        concepts, of_image = dictionary.masks(dictionary.rows[image], (64, 64))
        masks[image] = of_image[list(concepts).index(concept)]
    for unit in range(UNITS):
        shared = 0
        for image in carriers:
            (pixels,) = active_pixels(maps[image, [unit]], tally.thresholds[[unit]], (32, 32))
            shared += sum(int((pixels & mask).sum()) for mask in masks.values())
        expected = shared / len(carriers)
        total = (tally.union + tally.intersection)[unit, concept]
        assert found.location_iou[unit, concept] == pytest.approx(expected / (total - expected), rel=1e-12)
    assert np.array_equal(found.iou, tally.tally)
    assert np.isnan(found.heldout_iou).all() and np.isnan(found.iou_low).all()


def test_what_labels_whole_images_has_no_location_level_and_is_told_among_images_of_its_category(folders, tmp_path):
    dictionary = opened(folders[False], tmp_path)
    features, maps = maps_of(dictionary, tmp_path)
    operator = FeatureOperator(None, dictionary, grid=(64, 64))
    tally = tallied(operator, features, np.full(UNITS, 1.0), "category")
    found = operator.chance({"layer": (features, tally)}, permutations=30, bootstraps=0, images=512)["layer"]
    whole = np.array([concept.whole for concept in dictionary.concepts])
    assert whole.any() and not whole.all()
    assert np.isnan(found.location_iou[:, whole]).all() and not np.isnan(found.location_iou[:, ~whole]).any()
    labelled = found.label >= 0
    assert np.isnan(found.p_label[labelled]).tolist() == whole[found.label[labelled]].tolist()

    told = operator.presence({"layer": features})["layer"]
    assert np.isnan(told.auc[:, ~whole]).all()
    scenes = np.array([concept.type == "scene" for concept in dictionary.concepts])
    rows = dictionary.carries[:, scenes].any(axis=1)
    of_scenes = presence(
        maps[rows].max(axis=(2, 3)), dictionary.carries[rows], np.zeros(rows.sum()),
        np.flatnonzero(rows), scenes & whole,
    )  # fmt: skip
    asked = scenes & whole
    assert np.array_equal(told.auc[:, asked], of_scenes.auc[:, asked], equal_nan=True)
    assert (told.showing[asked] + told.lacking[asked] <= rows.sum()).all()


# ------------------------------------------------------------------------------------------------------------- reading


def test_a_sound_folder_has_nothing_wrong(folders):
    for root in folders.values():
        problems, summary = find_problems(root, 0)
        assert problems == []
        assert "30 images" in summary[0] and "64 concepts" in summary[0]
        assert [line.partition(":")[0] for line in summary[-6:]] == list(find_categories(root))


def find_categories(root):
    return [line["name"] for line in rows_of(root / "category.csv")]


def test_images_that_are_not_there_show_in_the_frequencies(folder):
    rewrite(folder / "index.csv", lambda lines: lines[:-4])
    problems, _ = find_problems(folder, 0)
    told = [str(problem) for problem in problems]
    assert any("another number of images than there are" in one and one.startswith("c_object.csv") for one in told)
    assert not any(problem.fatal for problem in problems)


def label_file(folder, category="object"):
    with open(folder / "index.csv", newline="", encoding="utf-8") as file:
        cell = next(line[category] for line in csv.DictReader(file) if line[category].endswith(".png"))
    return folder / "images" / cell.split(";")[0]


def grey(path):
    cv2.imwrite(str(path), cv2.imread(str(path))[:, :, 2])


def as_jpeg(path):
    path.write_bytes(cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes())


def blue(path):
    image = cv2.imread(str(path))
    image[0, 0, 0] = 7
    cv2.imwrite(str(path), image)


def smaller(path):
    cv2.imwrite(str(path), cv2.imread(str(path))[:-1])


def unknown(path):
    image = cv2.imread(str(path))
    image[0, 0] = (0, 250, 250)
    cv2.imwrite(str(path), image)


@pytest.mark.parametrize(("damage", "expected"), [
    (grey, "mode L: labels are R \\+ 256 G of a PNG in RGB"),
    (as_jpeg, "is a JPEG of mode RGB"),
    (blue, "has blue pixels"),
    (smaller, "is 32x31, but sw and sh are 32 and 32"),
    (unknown, "no table has the labels 64250"),
    (lambda path: path.unlink(), "is missing"),
    (lambda path: path.write_bytes(path.read_bytes()[:60]), "damaged|not a readable"),
])  # fmt: skip
def test_an_image_of_labels_that_is_none_is_refused(folder, tmp_path, damage, expected):
    damage(label_file(folder))
    with pytest.raises(DissectionError, match=expected):
        opened(folder, tmp_path)
    left = opened(folder, tmp_path, skip_bad=True)
    assert (~left.usable).sum() >= 1
    assert any(problem.fatal for problem in find_problems(folder, 0)[0])


def set_cell(number, name, value):
    def change(lines):
        lines[number][name] = value

    return change


@pytest.mark.parametrize(("table", "change", "expected"), [
    ("index.csv", set_cell(0, "sh", ""), "sh and sw are '' and"),
    ("index.csv", set_cell(0, "image", "../other.jpg"), "leads out of the dictionary"),
    ("index.csv", set_cell(0, "object", "/etc/passwd.png"), "leads out of the dictionary"),
    ("index.csv", set_cell(0, "scene", "4000"), "scene: no table has a label 4000"),
    ("index.csv", set_cell(1, "image", "scenes/000000.jpg"), "stands already at index.csv line 2"),
        ("index.csv", set_cell(1, "image", "./scenes//000000.jpg"), "stands already at index.csv line 2"),
        ("index.csv", set_cell(0, "scene", "-5"), "'-5' is neither the number of a label nor a PNG"),
        ("index.csv", set_cell(0, "scene", "9" * 5000), "is neither the number of a label nor a PNG"),
        ("index.csv", set_cell(0, "sh", "99999999999"), "more than 67,108,864 pixels"),
])  # fmt: skip
def test_a_line_of_the_index_that_cannot_be_used_is_named(folder, tmp_path, table, change, expected):
    rewrite(folder / table, change)
    with pytest.raises(DissectionError, match=expected):
        opened(folder, tmp_path)


def test_notes_on_the_tables_name_the_line(folder):
    rewrite(folder / "label.csv", lambda lines: lines[:-1] + [lines[0]])
    rewrite(folder / "c_scene.csv", set_cell(0, "coverage", "nan"))
    rewrite(folder / "c_color.csv", set_cell(2, "name", "pale"))
    problems, _ = find_problems(folder, 0)
    told = [str(problem) for problem in problems]
    assert any("stands already in label.csv line 2" in one for one in told)
    assert any("c_scene.csv line 2: number and coverage must be numbers" in one for one in told)
    assert any("names 1 labels otherwise than their categories' tables" in one for one in told)
    assert any(one.startswith("label.csv: has no label 70") for one in told)


@pytest.mark.parametrize(("categories", "expected"), [
    (("colour",), "has no 'colour': did you mean color"),
    ((), None),
])  # fmt: skip
def test_categories_are_those_of_the_folder(folder, tmp_path, categories, expected):
    if expected:
        with pytest.raises(DissectionError, match=expected):
            opened(folder, tmp_path, categories)
    else:
        assert {concept.type for concept in opened(folder, tmp_path, None).concepts} == set(ALL)


def test_a_folder_without_a_table_or_a_column_says_which(folder, tmp_path):
    (folder / "c_part.csv").unlink()
    with pytest.raises(DissectionError, match="cannot read .*c_part.csv: No such file"):
        opened(folder, tmp_path)
    assert len(opened(folder, tmp_path, ("object",)).concepts)
    rewrite(folder / "index.csv", lambda lines: lines)
    text = (folder / "index.csv").read_text().replace(",sh,", ",rows,", 1)
    (folder / "index.csv").write_text(text)
    with pytest.raises(DissectionError, match="index.csv has no column sh: found 'image,split"):
        opened(folder, tmp_path, ("object",))


def test_numbers_as_other_programs_write_them_are_read(folder, tmp_path):
    before = opened(folder, tmp_path)
    for table, columns in (
        ("index.csv", ("sh", "sw", "ih", "scene")),
        ("label.csv", ("number",)),
        ("c_scene.csv", ("number",)),
    ):
        rewrite(folder / table, lambda lines, columns=columns: [
            {name: f" {cell}.0 " if name in columns and cell.isdecimal() else cell for name, cell in line.items()}
            for line in lines
        ])  # fmt: skip
    after = opened(folder, tmp_path)
    assert after.masks_digest == before.masks_digest and after.names == before.names


def test_a_table_in_another_encoding_is_named(folder, tmp_path):
    (folder / "index.csv").write_bytes((folder / "index.csv").read_text().encode("utf-16"))
    with pytest.raises(DissectionError, match="cannot read .*index.csv"):
        opened(folder, tmp_path)


def test_a_folder_with_the_tables_of_two_formats_is_refused(folder, tmp_path):
    (folder / "Attributes.csv").write_text("image,labels\n")
    with pytest.raises(DissectionError, match="holds the tables of a Face Dictionary and those of Broden"):
        opened(folder, tmp_path)


def test_the_order_of_the_categories_changes_no_masks(folder, tmp_path):
    one, other = (opened(folder, tmp_path, order) for order in (ALL, ALL[::-1]))
    assert one.masks_digest == other.masks_digest and one.names == other.names


def test_a_label_in_the_cell_of_another_category_is_noted(folder):
    with open(folder / "index.csv", newline="", encoding="utf-8") as file:
        scene = next(line["scene"] for line in csv.DictReader(file) if line["scene"])
    rewrite(folder / "index.csv", set_cell(3, "texture", scene))
    told = [str(problem) for problem in find_problems(folder, 0)[0]]
    assert any(one.startswith("c_texture.csv: lacks 1 labels that index.csv has in this category") for one in told)


def test_an_image_without_labels_is_not_called_bad(folder, tmp_path):
    rewrite(folder / "index.csv", lambda lines: [
        {**line, **{name: "" for name in ALL if place == 2}} for place, line in enumerate(lines)
    ])  # fmt: skip
    dictionary = opened(folder, tmp_path)
    assert (len(dictionary.rows), dictionary.bad) == (29, 0)
    assert "1 images have no label" in " ".join(map(str, dictionary.problems))


def test_two_labels_of_one_name_are_told_apart_by_their_numbers(folder, tmp_path):
    rewrite(folder / "label.csv", set_cell(1, "name", "black-c"))
    names = opened(folder, tmp_path, ("color",)).names
    assert names[:2] == ("black-c (1)", "black-c (2)")
    rewrite(folder / "label.csv", set_cell(2, "name", "black-c (2)"))
    names = opened(folder, tmp_path, ("color",)).names
    assert names[:3] == ("black-c (1)", "black-c (2) (2)", "black-c (2) (3)")


def test_an_image_whose_labels_are_all_zero_takes_no_part(folder, tmp_path):
    path = label_file(folder)
    before = opened(folder, tmp_path, ("object",))
    for row in before.rows:
        if f"images/{path.relative_to(folder / 'images')}" in row.masks["object"][1]:
            image = row
    for one in image.masks["object"][1]:
        cv2.imwrite(str(folder / one), 0 * cv2.imread(str(folder / one)))
    after = opened(folder, tmp_path, ("object",))
    assert after.usable.sum() == before.usable.sum() - 1 and not after.usable[image.index]
    assert "has no label" in " ".join(map(str, after.problems))


def test_only_changed_files_are_read_again_and_what_changed_is_told(folder, tmp_path):
    before = opened(folder, tmp_path)
    again = opened(folder, tmp_path)
    assert again.masks_digest == before.masks_digest and np.array_equal(again.carries, before.carries)
    unlike = label_file(folder)
    image = cv2.imread(str(unlike))
    image[0, 0] = image[-1, -1]
    image[1, 1] = 0
    cv2.imwrite(str(unlike), image)
    after = opened(folder, tmp_path)
    assert after.masks_digest != before.masks_digest and after.images_digest == before.images_digest


def test_synonyms_and_primary_categories_come_from_the_tables(folder, tmp_path):
    rewrite(folder / "label.csv", set_cell(0, "syns", "black-c;ebony, jet"))
    concept = opened(folder, tmp_path, ("color",)).concepts[0]
    assert replace(concept, also=()) == type(concept)("black-c", "color")
    assert concept.also == ("ebony", "jet")


# ------------------------------------------------------------------------------------------------------------- reports


def run_main(root, folder, **words):
    settings = {
        "TASK": "onet", "LAYER_NAME": "layer3", "INPUT_SIZE": 48, "CROP": "whole", "DICTIONARY": root,
        "OUTPUT_FOLDER": folder / "local", "NL_FOLDER": folder / "global", "PLOT_FOLDER": folder / "plots",
        "CACHE_FOLDER": folder / "cache", **LITTLE_CHANCE, **words,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["main.py", *(f"{name}={value}" for name, value in settings.items())])
        main.main()
    return folder / "local"


@pytest.fixture(scope="module")
def dissected(folders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dissected")
    return run_main(folders[True], folder)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_dissected_and_leaves_netdissects_table(dissected, folders):
    lines = rows_of(dissected / "onet_layer3_tally.csv")
    tally = load_as(Tally, dissected / "onet_layer3_tally.npz")
    names, types = tally.concepts.tolist(), tally.types
    assert list(lines[0])[:4] == ["unit", "category", "label", "score"]
    assert [line["unit"] for line in lines] == [str(number) for number in range(1, 65)]
    shape = load_arrays(dissected / "onet_layer3_feature_size.npy")
    features = np.fromfile(dissected / "onet_layer3.mmap", np.float32).reshape(shape)
    plain = plain_counts(folders[True], ALL, features, tally.thresholds)
    for line, values, unit in zip(lines, tally.tally, range(64), strict=True):
        best = int(values.argmax())
        if values[best] > 0:
            assert (line["label"], line["category"], float(line["score"])) == (names[best], types[best], values[best])
        for category in dict.fromkeys(types.tolist()):
            if name := line[f"{category}-label"]:
                of = plain[name]
                assert of.category == category
                expected = (of.covered, of.area["category"][unit], of.intersection[unit], of.iou["category"][unit])
                found = [float(line[f"{category}-{what}"]) for what in ("truth", "activation", "intersect", "iou")]
                assert found == [*map(float, expected)]
                assert of.iou["category"][unit] == values[types == category].max()
            else:
                assert not values[types == category].any()


def test_the_chart_counts_units_from_the_threshold_on(dissected):
    findings = Findings(load_as(Tally, dissected / "onet_layer3_tally.npz"), 0.04)
    counted = labels.labels_of(findings)
    lines = rows_of(dissected / "onet_layer3_tally.csv")
    assert sum(sum(of.values()) for of in counted.values()) == sum(float(line["score"]) >= 0.04 for line in lines)
    axes = labels.label_bars("layer", counted, 64, 0.04).axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [count for of in counted.values() for count in of.values()]
    many = {"object": {f"object {number}": 300 - number for number in range(300)}, "scene": {"hall": 2}}
    axes = labels.label_bars("layer", many, 512, 0.04).axes[0]
    assert len(axes.patches) == 160 and "141 rarest labels are left out" in axes.get_title()


def test_what_needs_regions_or_subgroups_says_that_there_are_none(dissected, folders, tmp_path):
    words = {"TASKS": "onet", "LAYER_NAME": "layer3", "DICTIONARY": folders[True], "OUTPUT_FOLDER": dissected,
             "NL_FOLDER": tmp_path, "PLOT_FOLDER": tmp_path, "CACHE_FOLDER": tmp_path, "INPUT_SIZE": 48,
             "CROP": "whole", **LITTLE_CHANCE}  # fmt: skip
    for script, expected in (
        (cluster_top, "none of the concepts of its dictionary lies in a region"),
        (nl_bias, "holds no subgroup"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["script", *(f"{name}={value}" for name, value in words.items())])
            with pytest.raises(DissectionError, match=expected):
                script.main()


def test_a_crop_and_rules_that_exclude_each_other_are_refused(folders, tmp_path):
    with pytest.raises(DissectionError, match="no faces to crop .*CROP=whole"):
        run_main(folders[False], tmp_path, CROP="box")
    with pytest.raises(DissectionError, match="IOU_UNION=active .*IMAGES=concept"):
        run_main(folders[False], tmp_path, IOU_UNION="active")


def test_formulas_are_counted_where_an_image_is_annotated_for_their_categories(dissected, folders):
    lines = rows_of(dissected / "onet_layer3_formulas.csv")
    tally = load_as(Tally, dissected / "onet_layer3_tally.npz")
    types = dict(zip(tally.concepts.tolist(), tally.types.tolist(), strict=True))
    features = np.fromfile(dissected / "onet_layer3.mmap", np.float32)
    features = features.reshape(load_arrays(dissected / "onet_layer3_feature_size.npy"))
    names, _ = plain_labels(folders[True], ALL)
    images = plain_rows(folders[True], ALL)
    seen = 0
    for line in lines:
        used = re.findall("|".join(sorted(map(re.escape, types), key=len, reverse=True)), line["formula"])
        assert len(used) == int(line["concepts"])
        seen += 1
        unit, inside, either, counted = int(line["unit"]), 0, 0, 0
        for row, maps in zip(images, features, strict=True):
            wholes, pixels = labels_of(folders[True], row, ALL)
            grid = int(row["sh"]), int(row["sw"])
            lies = {names[number]: pixels[number] for number in pixels}
            lies |= {names[number]: np.ones(grid, bool) for number in wholes}
            there = {types[name] for name in lies}
            if not {types[name] for name in (*used, line["label"])} <= there:
                continue
            counted += 1
            (active,) = active_pixels(maps[[unit]], tally.thresholds[[unit]], grid)
            fulfilled = evaluated(line["formula"], {name: lies.get(name, np.zeros(grid, bool)) for name in used})
            inside += int((active & fulfilled).sum())
            either += int((active | fulfilled).sum())
        assert counted == int(line["images"])
        assert float(line["iou"]) == inside / either
    assert seen == len(lines) > 3
    assert any(int(line["concepts"]) > 1 for line in lines)


def evaluated(formula, lies):
    """A formula in words on masks. lies: {name: bool (rows, columns)}."""
    names = sorted(lies, key=len, reverse=True)
    words = re.sub("|".join(map(re.escape, names)), lambda word: f"lies[{names.index(word[0])}]", formula)
    for word, operator in (("AND", "&"), ("OR", "|"), ("NOT", "~")):
        words = words.replace(word, operator)
    return eval(words, {"lies": [lies[name] for name in names]})
