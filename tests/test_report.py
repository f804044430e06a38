"""The report as it is read: titles, pages, pictures and the highlight, for any number of units."""

import re

import cv2
import numpy as np
import pytest

from dictionary.dictionary import open_dictionary
from dictionary.views import WHOLE, Part
from method.chance import Chance
from method.evidence import Evidence, Twins
from method.findings import Findings
from method.presence import Presence
from method.tally import Tally
from report import pdf as pdf_report
from report.dissection import Dissection
from report.pdf import highlight, unit_title
from report.summary import found, of_layers, summary
from report.tables import write_units
from store.feature_file import FeatureMaps
from tests.conftest import DictionaryMaker, region_of

CONCEPTS, TYPES = ("AU_4", "nose", "mouth", "Smiling"), ("AU", "Parts", "Parts", "Attr")


def made_up_tally(units, images=3, seed=0):
    random = np.random.default_rng(seed)
    scores = random.random((units, len(CONCEPTS))) / 5
    scores[units // 2] = 0
    best = np.full((units, len(CONCEPTS), 20), -1)
    best[:, :, :images] = np.arange(images)
    counts = np.ones((units, len(CONCEPTS)), int)
    return Tally(
        tally=scores, maps=best, scores=np.zeros(best.shape), intersection=counts, union=counts, union_active=counts,
        concepts=np.array(CONCEPTS), types=np.array(TYPES), regions=np.array([region_of(name) for name in CONCEPTS]),
        carries=np.ones((images, len(CONCEPTS)), bool),
        thresholds=np.zeros(units), iou_union=np.array("all"), map_size=np.array((4, 4)),
    )  # fmt: skip


def made_up_evidence(tally, **arrays):
    """What stands behind a made-up tally: every unit has q = p = 0.01 and half its IoU by location."""
    units, concepts = tally.tally.shape
    label = np.where(tally.tally.max(axis=1) > 0, tally.tally.argmax(axis=1), -1)
    of_units, of_pairs = np.full(units, 0.01), np.full((units, concepts), np.nan)
    chance = Chance(
        **{
            "concepts": tally.concepts, "map_size": tally.map_size, "iou": tally.tally,
            "location_iou": tally.tally / 2, "excess": tally.tally / 2, "z": of_pairs, "attainable": of_pairs,
            "label": label, "p_label": of_units, "p_unit": of_units, "q": of_units, "heldout_iou": of_units,
            "label_holds": np.ones(units, bool), "iou_low": of_units, "iou_high": of_units, "label_share": of_units,
            "region_share": of_units, "boot_concept": np.zeros((units, 0), np.int16),
            "boot_iou": np.zeros((units, 0), np.float32),
            "boot_region_iou": np.zeros((units, 0, 0), np.float32), **arrays,
        }
    )  # fmt: skip
    presence = Presence(*[of_pairs] * 5, np.zeros(concepts, int), np.zeros(concepts, int))
    twins = Twins.of(units, tally.map_size, [(7, "random", tally, chance)])
    return Evidence(chance, presence, np.full(concepts, -1), twins, 0.04, 0.05)


@pytest.fixture
def write(tmp_path):
    """A function that writes the PDF of a tally over three small pictures. Returns (path, Findings)."""
    maker = DictionaryMaker(tmp_path / "dictionary")
    for size in ((40, 30), (20, 60), (700, 500)):
        maker.add(np.full((*size, 3), 128, np.uint8), {"nose": np.ones(size, bool)})
    dictionary = open_dictionary(maker.write(), memory_folder=tmp_path, workers=0)

    def write_report(tally, top_images=4):
        units = len(tally.tally)
        np.random.default_rng(0).standard_normal((3, units, 2, 2)).astype(np.float32).tofile(tmp_path / "maps")
        features = FeatureMaps(tmp_path / "maps", (3, units, 2, 2), "float32", np.ones(3, bool))
        report = Findings(tally, 0.04)
        pdf_report.write(
            tmp_path / "a.pdf",
            Dissection("a_layer1", {"network": "one"}, report, made_up_evidence(tally), dictionary, features, (16, 16),
                       top_images, workers=2),
        )
        return tmp_path / "a.pdf", report

    return write_report


def pages(pdf):
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))


@pytest.mark.parametrize(("units", "expected"), [(1, 4), (4, 4), (5, 5), (513, 132)])
def test_every_unit_is_in_the_report_four_to_a_page(write, units, expected, monkeypatch):
    titles = []
    monkeypatch.setattr("report.pdf.unit_title", lambda *words: titles.append(words) or unit_title(*words))
    pdf, report = write(made_up_tally(units), top_images=1)
    assert pages(pdf) == expected
    assert sorted(unit for unit, _, _ in titles) == list(range(units))
    shown = [score for _, _, score in titles]
    assert shown == sorted(shown, reverse=True)
    for unit, concept, score in titles:
        assert concept == report.top_concept(unit) and (concept or score == 0)
        assert score == report.tally.tally[unit].max()


def test_the_title_is_the_published_one():
    assert unit_title(146, "Eyeglasses", 0.24444) == "UNIT - 146,  CLASS - Eyeglasses, IOU - 0.2444"
    assert unit_title(3, None, 0.0) == "UNIT - 3,  CLASS - none, IOU - 0.0000"


def test_a_unit_that_touches_nothing_has_no_concept():
    tally = made_up_tally(3)
    tally.tally[:] = 0
    findings = Findings(tally, 0.0)
    assert [findings.top_concept(unit) for unit in range(3)] == [None] * 3
    assert not findings.interpretable.any() and not Findings(tally, 0.0, inclusive=True).interpretable.any()
    assert findings.units_per_region()["Unlocalizable"] == 3
    assert "best             no unit touches a concept" in summary(found(findings, made_up_evidence(tally)))


def test_maps_without_places_are_said_and_none_of_their_units_is_interpretable(write):
    tally = made_up_tally(3)
    tally.map_size[:] = 1
    findings = Findings(tally, 0.01)
    assert findings.detectors == 0 and tally.tally.max() > 0.01
    assert "warning          1×1 maps: the layer has no places" in summary(found(findings, made_up_evidence(tally)))


@pytest.mark.parametrize("top_images", [1, 4, 20])
def test_as_many_pictures_as_there_are(write, top_images):
    pdf, _ = write(made_up_tally(2), top_images)
    # Three images carry the concept; the second unit has none and shows none.
    assert len(re.findall(rb"/Subtype\s*/Image\b", pdf.read_bytes())) == min(top_images, 3)


def test_ties_go_to_the_first_concept_and_the_lower_unit():
    tally = made_up_tally(3)
    tally.tally[:] = 0.1
    report = Findings(tally, 0.04)
    assert [report.top_concept(unit) for unit in range(3)] == ["AU_4"] * 3
    assert report.units_by_iou().tolist() == [0, 1, 2]


def test_a_unit_at_the_threshold_is_not_interpretable():
    tally = made_up_tally(2)
    tally.tally[:] = 0
    tally.tally[0, 1], tally.tally[1, 1] = 0.04, np.nextafter(0.04, 1)
    assert Findings(tally, 0.04).interpretable.tolist() == [False, True]


def test_the_summary_counts_units_per_region_and_type():
    tally = made_up_tally(5)
    tally.tally[:] = 0
    for unit, concept in enumerate((0, 1, 2, 2)):  # AU_4, nose, mouth, mouth, and a unit without a concept
        tally.tally[unit, concept] = 0.1
    text = summary(found(Findings(tally, 0.04), made_up_evidence(tally)))
    assert "detectors        4 units" in text
    assert "unique detectors 3 concepts" in text
    expected = "Eye_Region 1, Nose_Region 1, Mouth_Region 2, Unlocalizable 1"  # of the regions in this dictionary
    assert f"by region        {expected}" in text
    assert "by type          AU 1 (1 unique), Parts 3 (2 unique), Attr 0, Unlocalizable 1" in text


def test_tables_work_with_a_single_concept(tmp_path):
    tally = made_up_tally(2)
    of_concepts = {name: getattr(tally, name)[:1] for name in ("concepts", "types", "regions")}
    one = Findings(Tally(**{**vars(tally), "tally": tally.tally[:, :1], **of_concepts}), 0.04)
    dissection = Dissection("a", {}, one, made_up_evidence(one.tally), None, None, (16, 16), 4, 0)
    write_units(tmp_path / "units.csv", dissection)
    assert (tmp_path / "units.csv").read_text().splitlines()[1].split(",")[6:10] == ["", "", "", ""]


def test_the_highlight_lies_where_the_unit_is_active():
    image = np.full((20, 40, 3), 100, np.uint8)
    active = np.zeros((4, 4), bool)
    active[1, 2] = True
    lit = highlight(image, active, WHOLE, (40, 20))[:, :, 0]
    expected = np.full((20, 40), 40)
    expected[5:10, 20:30] = 100
    assert np.array_equal(lit, expected)


def test_the_highlight_of_a_cropped_face_lies_in_the_full_photograph():
    active = np.ones((4, 4), bool)
    active[:2] = False
    photograph = np.full((40, 80, 3), 100, np.uint8)
    for scale in (1, 2):  # shown at the photograph's size, and at half of it
        image = cv2.resize(photograph, (80 // scale, 40 // scale))
        lit = highlight(image, active, Part((10, 20, 50, 40)), (80, 40))[:, :, 0]
        expected = np.full(image.shape[:2], 40)
        expected[30 // scale : 40 // scale, 10 // scale : 50 // scale] = 100
        assert np.array_equal(lit, expected)


def test_what_layers_share_is_said_once():
    about = {"a": {"layer": "1", "network": "n"}, "b": {"layer": "2", "network": "n"}}
    assert of_layers(about) == {"a": "layer 1", "b": "layer 2", "network": "n"}
