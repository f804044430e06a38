"""O-Net's first three layers give the very values that the program gave before its house was rebuilt (commit 8fe7c11).

recorded/onet.npz holds thresholds, counts, best images and probabilities on a small rendered dictionary, and the first
three on the photographs of ../shared/congress, with the digests of the memory maps that they were counted from. Where
this machine computes the same maps, every value is equal to the last digit; where its processor or its torch rounds
otherwise, values are as close as rounding leaves them.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

import main
import nl_bias
from dictionary import build, render
from method.bias import BiasFeatures
from method.findings import Findings
from method.hierarchy import Hierarchy
from method.tally import Tally
from store.arrays import load_arrays, load_as
from store.layer import LayerStore
from store.maps import open_maps
from store.peaks_file import PeaksFile, read_peaks
from store.stages import MAPS, MAPS_SIZE

ROOT = Path(__file__).resolve().parents[1]
RECORDED = np.load(Path(__file__).parent / "recorded" / "onet.npz")
LAYERS = ("layer1", "layer2", "layer3")


class Enough(Exception):
    """Raised where nothing of what a script still would make is recorded."""


def run(script, words, behind=None):
    """Run a script's main() in this process, as far as its function of the name `behind`, which is not called."""

    def enough(*_, **__):
        raise Enough

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script.__name__, *map(str, words)])
        if behind is None:
            script.main()
            return
        patch.setattr(script, behind, enough)
        with pytest.raises(Enough):
            script.main()


def words_for(folder, dictionary):
    folders = {"OUTPUT_FOLDER": "result", "NL_FOLDER": "global", "PLOT_FOLDER": "plots", "CACHE_FOLDER": "cache"}
    return [
        "TASK=onet", "TASKS=onet", f"LAYER_NAME={','.join(LAYERS)}", f"DICTIONARY={dictionary}", "TOPN=1", "PLOT=False",
        "PERMUTATIONS=0", "BOOTSTRAPS=0", "TWINS=0", "FORMULAS=None",
        *(f"{name}={folder / place}" for name, place in folders.items()),
    ]  # fmt: skip


def same_maps(result, layer, prefix=""):
    digest = hashlib.sha256((result / f"onet_{layer}.mmap").read_bytes()).hexdigest()
    return digest == str(RECORDED[f"{prefix}{layer}_mmap_sha256"])


def assert_tally(result, layer, names, prefix=""):
    tally = load_as(Tally, result / f"onet_{layer}_tally.npz")
    exact = same_maps(result, layer, prefix)
    for name in names:
        found, expected = getattr(tally, name), RECORDED[f"{prefix}{layer}_{name}"]
        assert found.shape == expected.shape
        if exact:
            assert np.array_equal(found, expected), (layer, name)
        elif name == "maps":
            assert (found == expected).mean() > 0.97, (layer, name)
        else:
            assert np.allclose(found, expected, rtol=0.01, atol=1e-4 if found.dtype.kind == "f" else 12), (layer, name)
    return exact


@pytest.fixture(scope="module")
def dissected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    run(render, ["--images", 60, "--per-group", 8, "--seed", 3, "--out", folder / "dictionary"])
    words = words_for(folder, folder / "dictionary")
    run(main, words, behind="chance")
    run(nl_bias, words)
    return folder


@pytest.mark.parametrize("layer", LAYERS)
def test_rendered_faces_give_the_recorded_values(dissected, layer):
    names = ("thresholds", "intersection", "union", "union_active", "tally", "maps")
    exact = assert_tally(dissected / "result", layer, names)
    tolerance = 0 if exact else 1e-3
    # Equal peaks were ranked in the order of the images then; all else is as it was.
    bias = [
        BiasFeatures.of_arrays(load_arrays(dissected / "global" / f"onet_{layer}_model_bias({concept}).npz"), layer)
        for concept in ("age", "gender", "skin_tone")
    ]
    found = np.concatenate([of.probabilities("order") for of in bias], axis=1)
    assert np.abs(found - RECORDED[f"{layer}_bias"]).max() <= tolerance
    store = LayerStore(dissected / "result", f"onet_{layer}")
    maps = open_maps(store, MAPS, MAPS_SIZE)
    findings = Findings(load_as(Tally, dissected / "result" / f"onet_{layer}_tally.npz"), 0.04)
    units = np.flatnonzero(findings.interpretable)
    with PeaksFile(maps.shape[0], len(units), store.folder) as peaks:
        read_peaks(peaks, maps, units, 2, layer)
        concepts = Hierarchy.of(layer, findings, peaks, ties="order").as_dict()
    found = np.array([[unit, place, share] for unit, of in concepts.items() for place, share in enumerate(of.values())])
    assert not exact or np.array_equal(found, RECORDED[f"{layer}_hierarchy"])


def test_photographs_give_the_recorded_values(congress, tmp_path):
    tables = [
        word for name in ("landmarks", "attributes", "groups") for word in (f"--{name}", congress / f"{name}.csv")
    ]
    run(build, ["--images", congress / "images", *tables, "--out", tmp_path / "dictionary"])
    run(main, words_for(tmp_path, tmp_path / "dictionary"), behind="chance")
    for layer in LAYERS:
        names = ("thresholds", "intersection", "union", "union_active", "maps")
        assert_tally(tmp_path / "result", layer, names, prefix="congress_")
