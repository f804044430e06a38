"""Formulas of concepts against brute force over all of them, pixel by pixel, and units that follow a known one."""

import csv

import numpy as np
import pytest

from dictionary.dictionary import open_dictionary
from dictionary.face_format import INDEX_FILES
from feature_operation import FeatureOperator
from method import pixel_kinds
from method.formulas import (
    AND,
    AND_NOT,
    OR,
    Formula,
    Formulas,
    _longer,
    best_formula,
    compared,
    concepts_of,
    row_of,
    text_of,
)
from method.pixel_kinds import Groups, PixelKinds, merged
from store.feature_file import FeatureMaps
from tests import plain_reference
from tests.conftest import DictionaryMaker

EVERY = 10**9  # a beam that holds all formulas
SIDE = 6


class Case:
    """P photographs of SIDE x SIDE pixels: inside bool (P, C, S, S), where concepts lie; known bool (P, C), what is
    annotated; active bool (P, S, S), of one unit; half bool (P,). label: the unit's.
    """

    def __init__(self, inside, known, active, half, label):
        self.inside, self.known, self.active = inside & known[:, :, None, None], known, active
        self.half, self.label = half, label

    @classmethod
    def random(cls, seed, photographs=9, concepts=5):
        """Random patches; every photograph is annotated for most concepts, the unit follows two of them."""
        random = np.random.default_rng(seed)
        inside = np.zeros((photographs, concepts, SIDE, SIDE), bool)
        for photograph, concept in np.argwhere(random.random((photographs, concepts)) < 0.7):
            top, left = random.integers(0, SIDE - 2, 2)
            inside[photograph, concept, top : top + 3, left : left + random.integers(1, 4)] = True
        known = random.random((photographs, concepts)) < 0.8
        active = (inside[:, 0] | inside[:, 1] & ~inside[:, 2]) ^ (random.random((photographs, SIDE, SIDE)) < 0.1)
        return cls(inside, known, active, random.random(photographs) < 0.5, label=int(seed % 2))

    def counted(self, order=None):
        """The UnitPixels of the unit, whose maps are 1 where it is active: the fast path."""
        iou = np.full((1, self.known.shape[1]), 0.1)
        iou[0, self.label] = 0.2
        groups = Groups.of_photographs(self.known, self.half)
        kinds = PixelKinds(np.array([0.5]), iou, [0], groups)
        for photograph in order if order is not None else range(len(self.known)):
            carried = np.flatnonzero(self.inside[photograph].any(axis=(1, 2)))
            maps = self.active[photograph][None].astype(np.float32)
            kinds.add(kinds.measure(maps, photograph, carried, self.inside[photograph, carried]))
        return kinds.result()[0]

    def used(self, concepts, photographs):
        """Which photographs count."""
        return [one for one in photographs if self.known[one, [self.label, *concepts]].all()]

    def found(self, concepts, photographs):
        """What the unit finds of its label on the photographs that count, pixels."""
        used = self.used(concepts, photographs)
        return int((self.active[used] & self.inside[used, self.label]).sum())

    def excess(self, concepts, lies, photographs):
        """(IoU of what lies in a formula, IoU of the label) on the photographs that count. lies: bool (P, S, S)."""
        both, either, both_label, either_label = 0, 0, 0, 0
        for one in self.used(concepts, photographs):
            active, label = self.active[one], self.inside[one, self.label]
            both, either = both + (active & lies[one]).sum(), either + (active | lies[one]).sum()
            both_label, either_label = both_label + (active & label).sum(), either_label + (active | label).sum()
        return (both / either if either else 0.0), (both_label / either_label if either_label else 0.0)

    def all_formulas(self, most, photographs):
        """Yield (concepts, pixels) of every formula none of whose steps is idle: bool (P, S, S)."""
        formulas = [([concept], self.inside[:, concept]) for concept in range(self.known.shape[1])]
        for length in range(1, most + 1):
            yield from formulas
            longer = []
            for concepts, lies in formulas if length < most else ():
                for concept in set(range(self.known.shape[1])) - set(concepts):
                    used, more = self.used([*concepts, concept], photographs), self.inside[:, concept]
                    for joined in (lies | more, lies & more, lies & ~more, more & ~lies):
                        here = joined[used]
                        if here.any() and (here != lies[used]).any() and (here != more[used]).any():
                            longer.append(([*concepts, concept], joined))
            formulas = longer

    def best(self, most, photographs=None):
        """(excess, concepts, pixels) of the best formula, by brute force; the label where none is better."""
        photographs = range(len(self.known)) if photographs is None else photographs
        best = 0.0, [self.label], self.inside[:, self.label]
        for concepts, lies in self.all_formulas(most, photographs):
            excess = np.subtract(*self.excess(concepts, lies, photographs))
            if self.found(concepts, photographs) < self.found([], photographs) / 2:
                continue
            if excess > best[0]:
                best = excess, concepts, lies
        return best


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_the_search_equals_brute_force_over_all_formulas(seed, most):
    case = Case.random(seed)
    of_unit = case.counted()
    formula = best_formula(of_unit, most, EVERY)
    excess, concepts, _ = case.best(most)
    assert np.subtract(*compared(of_unit, formula)) == excess
    assert len(concepts_of(formula)) == len(concepts)  # no longer than the shortest that is as good
    assert of_unit.photographs(concepts_of(formula)) == len(case.used(concepts_of(formula), range(9)))


def test_brute_force_has_something_to_find():
    lengths = [len(Case.random(seed).best(3)[1]) for seed in range(6)]
    assert lengths.count(3) >= 3
    assert any(not Case.random(seed).known.all() for seed in range(6))


@pytest.mark.parametrize("seed", range(4))
def test_either_half_is_tested_on_the_other(seed):
    case = Case.random(seed, photographs=12)
    heldout = []
    for half in (False, True):
        here, there = np.flatnonzero(case.half == half), np.flatnonzero(case.half != half)
        heldout.append(case.excess(*case.best(2, here)[1:], there))
    *_, iou, label_iou, holds = row_of(case.counted(), "abcde", 2, EVERY)
    assert (iou, label_iou) == tuple(np.mean(heldout, axis=0))
    assert holds == all(of_formula > of_label for of_formula, of_label in heldout)


def planted(follow, label=0, seed=3, photographs=40):
    """A unit that is active exactly where a function of three concepts' pixels says so."""
    case = Case.random(seed, photographs, concepts=4)
    case.known[:] = True
    active = follow(*case.inside.transpose(1, 0, 2, 3))
    return Case(case.inside, case.known, active, np.arange(photographs) % 2 == 0, label)


@pytest.mark.parametrize(
    ("follow", "text"),
    [
        (lambda a, b, c, d: a, "a"),
        (lambda a, b, c, d: b, "b"),
        (lambda a, b, c, d: a | b, "a OR b"),
        (lambda a, b, c, d: a & ~b, "a AND NOT b"),
        (lambda a, b, c, d: b & d, "b AND d"),
        (lambda a, b, c, d: (a | c) & ~d, "(a OR c) AND NOT d"),
        (lambda a, b, c, d: a | b & ~c, "(b AND NOT c) OR a"),
        (lambda a, b, c, d: a & ~(b & c), "a AND NOT (b AND c)"),
        (lambda a, b, c, d: a | b | d, "a OR b OR d"),
    ],
)
def test_a_unit_that_follows_a_formula_exactly_is_found(follow, text):
    case = planted(follow, photographs=80)
    _, _, found, concepts, photographs, iou, label_iou, heldout, heldout_label, holds = row_of(
        case.counted(), "abcd", 3, beam=100
    )
    assert sorted(found) == sorted(text)  # what AND and OR join may stand in either order
    assert iou == 1 and photographs == 80 and concepts == sum(map(text.count, "abcd"))
    assert heldout > 0.95 and holds == (text != "a") and (label_iou == 1) == (heldout_label == 1) == (text == "a")


def test_a_longer_formula_that_is_only_as_good_is_not_taken():
    inside = np.zeros((2, 2, SIDE, SIDE), bool)
    inside[:, 0, 0, :2], inside[:, 1, 1:3, :2] = True, True  # 2 and 4 pixels, in each of which the unit has 1
    active = np.zeros((2, SIDE, SIDE), bool)
    active[:, 0, 0], active[:, 1, 0] = True, True
    of_unit = Case(inside, np.ones((2, 2), bool), active, np.array([True, False]), 0).counted()
    assert compared(of_unit, Formula(0, OR, 1)) == (2 / 6, 1 / 3)
    assert best_formula(of_unit, 2) == 0


def test_formulas_that_mean_the_same_take_one_place_in_the_beam():
    of_unit = planted(lambda a, b, c, d: a | b).counted()
    longer, _ = _longer(of_unit, [0, 1], 2)
    assert longer[0] in (Formula(0, OR, 1), Formula(1, OR, 0)) and set(concepts_of(longer[1])) != {0, 1}


def test_what_one_half_alone_shows_does_not_hold():
    case = planted(lambda a, b, c, d: a, photographs=20)
    case.inside[:, 1] = False
    case.inside[0, 1], case.active[0] = True, True  # on one photograph it is active where b lies
    _, _, found, _, _, iou, label_iou, _, _, holds = row_of(case.counted(), "abcd", 2)
    assert found == "a OR b" and iou > label_iou and not holds


def test_a_concept_that_is_annotated_elsewhere_takes_no_part():
    case = planted(lambda a, b, c, d: a | b)
    case.known[:, 1] = False
    case.known[30:] = [False, True, True, True]  # of ten photographs nobody knows whether they show the label
    case = Case(case.inside, case.known, case.active, case.half, 0)
    of_unit = case.counted()
    assert of_unit.concepts.tolist() == [0, 2, 3]  # no photograph is annotated for a and b
    assert of_unit.pixels.sum() == 30 * SIDE**2


def test_counts_depend_on_no_order_and_no_merging(monkeypatch):
    case = Case.random(1)
    expected = case.counted()
    for order, merge_at in ((range(8, -1, -1), 1 << 22), (range(9), 0), ((4, 0, 8, 1, 7, 2, 6, 3, 5), 40)):
        monkeypatch.setattr(pixel_kinds, "_MERGE_AT", merge_at)
        found = case.counted(order)
        for name in ("inside", "group", "pixels", "active"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert expected.pixels.sum() == SIDE**2 * expected.groups.photographs[expected.groups.known[:, 1]].sum()


def test_only_the_best_concepts_are_tried(monkeypatch):
    monkeypatch.setattr(pixel_kinds, "CANDIDATES", 2)
    groups = Groups.of_photographs(np.ones((1, 4), bool), np.zeros(1, bool))
    kinds = PixelKinds(np.zeros(2), np.array([[0.1, 0.3, 0, 0.2], [0.5, 0.5, 0.5, 0.1]]), [0, 1], groups)
    assert [of.tolist() for of in kinds.candidates] == [[1, 3], [0, 1]]  # ties in concept order


def test_equal_keys_become_one_row():
    keys, counts = merged(np.array([[2, 0], [1, 255], [2, 0]], np.uint8), np.array([[1, 2], [3, 4], [5, 6]]))
    assert keys.tolist() == [[1, 255], [2, 0]] and counts.tolist() == [[3, 4], [6, 8]]


def test_formulas_read_as_people_write_them():
    names = ("nose", "mouth", "left eye")
    assert text_of(1, names) == "mouth"
    assert text_of(Formula(Formula(0, OR, 1), AND_NOT, 2), names) == "(nose OR mouth) AND NOT left eye"
    assert text_of(Formula(0, AND_NOT, Formula(1, AND_NOT, 2)), names) == "nose AND NOT (mouth AND NOT left eye)"
    assert text_of(Formula(Formula(0, AND, 1), AND, 2), names) == "nose AND mouth AND left eye"


# ---------------------------------------------------------------------------------- from files to the table of formulas


def test_what_is_annotated(tmp_path):
    maker, picture = DictionaryMaker(tmp_path / "dictionary"), np.zeros((20, 20, 3), np.uint8)
    masks = {name: np.ones((20, 20), bool) for name in ("Smiling", "Goatee", "AU_1", "AU_2", "nose", "Freckles")}
    for index_file, names in (
        (INDEX_FILES[0], ["Smiling"]), (INDEX_FILES[0], []), (INDEX_FILES[0], ["Goatee", "Freckles"]),
        (INDEX_FILES[1], ["AU_1"]), (INDEX_FILES[2], ["nose", "AU_2"]), (INDEX_FILES[2], ["nose"]),
    ):  # fmt: skip
        maker.add(picture, {name: masks[name] for name in names}, index_file)
    dictionary = open_dictionary(maker.write(), memory_folder=tmp_path, workers=0)
    known = [{dictionary.names[index] for index in np.flatnonzero(row)} for row in dictionary.known]
    assert known == [
        {"Smiling", "Goatee"},  # of the type that it carries; nobody says that it lacks freckles, of another type
        {"Smiling", "Goatee", "Freckles"},  # carries nothing: it is there to lack what its file holds
        {"Smiling", "Goatee", "Freckles"},
        {"AU_1"},  # no image of its file carries AU_2
        {"nose", "AU_2"}, {"nose"},
    ]  # fmt: skip


def across_two_files(folder, order=range(8)):
    """Eight photographs that stand in two files: smiles in one, noses in the other, in an order.

    Returns (dictionary, FeatureMaps, maps).
    """
    folder.mkdir(exist_ok=True)
    maker, random = DictionaryMaker(folder / "dictionary"), np.random.default_rng(5)
    pictures = random.integers(0, 256, (8, 12, 12, 3), np.uint8)
    patches = random.random((8, 3, 12, 12)) < 0.3
    for index_file, concepts in ((INDEX_FILES[0], ("Smiling", "Goatee")), (INDEX_FILES[2], (None, None, "nose"))):
        for number in order:
            masks = {name: patches[number, place] for place, name in enumerate(concepts)
                     if name and (name != "Goatee" or number % 2)}  # fmt: skip
            maker.add(pictures[number], masks, index_file)
    dictionary = open_dictionary(maker.write(), memory_folder=folder, workers=0)
    maps = np.tile(random.standard_normal((8, 3, 5, 5)).astype(np.float32)[list(order)], (2, 1, 1, 1))
    maps.tofile(folder / "maps")
    return dictionary, FeatureMaps(folder / "maps", maps.shape, "float32", dictionary.usable), maps


def test_labels_of_one_photograph_count_together_and_equal_plain_loops(tmp_path):
    dictionary, features, maps = across_two_files(tmp_path / "one")
    other, other_features, _ = across_two_files(tmp_path / "another", (3, 1, 7, 0, 6, 2, 5, 4))
    iou = np.array([[0.3, 0.2, 0.1], [0.1, 0.3, 0.2], [0.2, 0.1, 0.3]])
    thresholds, found = np.array([0.5, 0.6, 0.7]), []
    for workers, of, read in ((0, dictionary, features), (2, dictionary, features), (0, other, other_features)):
        operator = FeatureOperator(None, of, grid=(12, 12), workers=workers)
        found.append(operator.formulas({"layer": (read, thresholds, iou, [0, 1, 2])}, 3)["layer"])
    for again in found[1:]:  # also in another order of the rows, whose photographs fall into the same halves
        assert all(np.array_equal(getattr(found[0], name), getattr(again, name)) for name in vars(again))
    assert found[0].unit.tolist() == [0, 1, 2] and found[0].photographs.tolist() == [8, 8, 8]  # not 16
    for unit, label, of_formula, text in zip(*(vars(found[0])[name] for name in ("unit", "label", "iou", "formula")),
                                             strict=True):  # fmt: skip
        both = either = both_label = either_label = 0
        for number in range(8):
            active = plain_reference.upsample(maps[number, unit], (12, 12)).astype(np.float64) > thresholds[unit]
            lies = {name: np.zeros((12, 12), bool) for name in dictionary.names}
            for row in (dictionary.rows[number], dictionary.rows[number + 8]):
                concepts, masks = dictionary.masks(row, (12, 12))
                lies.update({dictionary.names[concept]: mask for concept, mask in zip(concepts, masks, strict=True)})
            python = text.replace("AND NOT", "& ~").replace("AND", "&").replace("OR", "|")
            there, label_there = eval(python, {}, lies), lies[dictionary.names[label]]
            both, either = both + (active & there).sum(), either + (active | there).sum()
            both_label += (active & label_there).sum()
            either_label += (active | label_there).sum()
        assert of_formula == both / either
        assert found[0].label_iou[unit] == both_label / either_label
    assert any("nose" in text and text != "nose" for text in found[0].formula)  # from both files


def lines_of(result):
    with open(result / "onet_layer3_formulas.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("no_pdfs")
def test_main_leaves_a_table_of_formulas(small_dictionary, run_main, capsys, caplog):
    caplog.set_level("INFO")
    result = run_main(SCORE_THRESHOLD=0.02)
    rows, arrays = lines_of(result), np.load(result / "onet_layer3_formulas.npz")
    assert rows and set(map(int, arrays["unit"])) >= {int(row["unit"]) for row in rows}
    for row in rows:
        assert float(row["excess"]) == float(row["iou"]) - float(row["label_iou_there"]) >= 0
        assert 1 <= int(row["concepts"]) <= 3 and float(row["label_iou"]) > 0.02
        assert (float(row["excess"]) == 0) == (row["formula"] == row["label"])
    assert any(int(row["concepts"]) > 1 for row in rows)
    assert f"of {len(rows)} detectors follow one better than their label" in capsys.readouterr().out
    twins = np.load(result / "onet_layer3_twins.npz")
    assert len(twins["formula_unit"]) == len(twins["formula_holds"]) > 0
    caplog.clear()
    run_main(SCORE_THRESHOLD=0.05)  # fewer lines of the same formulas; the twin is not run again
    assert "onet_layer3: formulas up to date" in caplog.text and "untrained twin" not in caplog.text
    fewer = [row for row in rows if float(row["label_iou"]) > 0.05]
    assert lines_of(result) == fewer and 0 < len(fewer) < len(rows)
    capsys.readouterr()
    run_main(SCORE_THRESHOLD=0.02, FORMULAS=None)
    assert not lines_of(result) and "formulas         none was sought" in capsys.readouterr().out


def test_no_units_no_formulas():
    case = Case.random(0)
    kinds = PixelKinds(np.array([0.5]), np.ones((1, 5)), [], Groups.of_photographs(case.known, case.half))
    kinds.add(kinds.measure(np.ones((1, SIDE, SIDE), np.float32), 0, [0], case.inside[0, :1]))
    assert kinds.result() == []
    empty = Formulas.of([])
    assert empty.unit.shape == (0,) and empty.only(np.ones(3, bool)).formula.shape == (0,)
