"""The real run: a dictionary of real photographs, and MTCNN's O-Net, whose units are known to see eyes and noses."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import rendered
from method.chance import Chance
from method.evidence import Twins
from method.findings import Findings
from method.tally import Tally
from store.arrays import load_as

ROOT = Path(__file__).resolve().parents[1]


def run(*words):
    ended = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def dictionary(congress, tmp_path):
    out = tmp_path / "congress"
    run(
        "-m", "dictionary.build", "--images", congress / "images",
        "--landmarks", congress / "landmarks.csv", "--attributes", congress / "attributes.csv",
        "--groups", congress / "groups.csv", "--out", out,
    )  # fmt: skip
    return out


def test_onet_has_eye_nose_and_mouth_units(dictionary, tmp_path):
    result = tmp_path / "result"
    words = [f"DICTIONARY={dictionary}", f"OUTPUT_FOLDER={result}", f"CACHE_FOLDER={tmp_path / 'cache'}",
             "PERMUTATIONS=200", "BOOTSTRAPS=20", "TWINS=1", "FORMULAS=None", "TOPN=1", "PLOT=False"]  # fmt: skip
    summary = run("main.py", "TASK=onet", "LAYER_NAME=layer3", *words)
    assert "units            64" in summary
    tally = load_as(Tally, result / "onet_layer3_tally.npz")
    report = Findings(tally, 0.04)
    assert 12 <= report.detectors <= 35
    best = report.units_by_iou()[0]
    assert report.top_concept(best).endswith("_eye")
    assert report.top_iou[best] == pytest.approx(0.24, abs=0.03)
    found = {}
    for unit in np.nonzero(report.interpretable)[0]:
        region = report.region_of[report.top_concept(unit)]
        found[region] = max(found.get(region, 0), report.top_iou[unit])
    for region in ("Eye_Region", "Nose_Region", "Mouth_Region"):
        assert found[region] > 0.1
    chance(result, tally)
    untrained = load_as(Twins, result / "onet_layer3_twins.npz")  # sees next to nothing
    assert (untrained.top_iou > 0.04).sum() < report.detectors / 2
    assert untrained.top_iou.max() < report.top_iou.max() / 2
    rendered_faces(tmp_path, report)
    analyses(tmp_path, words)


def chance(result, tally):
    """What units would reach if the masks were dealt out at random is what was found by other means."""
    found = load_as(Chance, result / "onet_layer3_chance.npz")
    assert np.array_equal(found.iou, tally.tally)
    levels = {
        5: ("right_eye", 0.033), 19: ("nose", 0.062), 25: ("left_eye", 0.027), 56: ("left_brow", 0.045),
        42: ("Mustache", 0.050),
    }  # fmt: skip
    for unit, (concept, level) in levels.items():
        assert found.location_iou[unit, list(found.concepts).index(concept)] == pytest.approx(level, abs=0.002), unit
    detectors, confirmed = found.iou.max(axis=1) > 0.04, found.confirmed(0.04, 0.05)
    assert confirmed[5] and confirmed[25]
    assert 0 < confirmed.sum() <= detectors.sum()


def rendered_faces(tmp_path, of_photographs):
    """The same units see the same regions of rendered faces (in full in benchmarks/rendered.py)."""
    run("-m", "dictionary.render", "--images", 300, "--per-group", 0, "--out", tmp_path / "rendered")
    report, _ = rendered.dissect(tmp_path / "rendered", tmp_path / "of_rendered")
    assert report.detectors >= 15
    both, same = rendered.agreement(report, of_photographs)
    assert len(both) >= 10
    assert len(same) >= 0.7 * len(both)


def analyses(tmp_path, words):
    """The two analyses on what was dissected."""
    words = [*words, "TASKS=onet", f"NL_FOLDER={tmp_path / 'global'}", f"PLOT_FOLDER={tmp_path / 'plots'}"]
    run("nl_bias.py", *words, "TWINS=0")
    bias = pickle.loads((tmp_path / "global" / "onet_layer3_nl_probs.pkl").read_bytes())
    assert len(bias) == 64
    assert {concept: len(groups) for concept, groups in bias[0].items()} == {"age": 3, "gender": 2, "skin_tone": 2}
    assert all(sum(groups.values()) == pytest.approx(1) for of_unit in bias.values() for groups in of_unit.values())
    run("cluster_top.py", *words)
    concepts = pickle.loads((tmp_path / "result" / "onet_layer3_unit_concept_probs.pkl").read_bytes())
    eye = max(concepts, key=lambda unit: concepts[unit].get("right_eye", 0))
    assert concepts[eye]["right_eye"] > 0.5
    assert sum(concepts[eye].values()) == pytest.approx(1)
