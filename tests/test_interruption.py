"""A run killed at any moment leaves nothing that a later run takes for finished, and the later run ends the same."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loader.batch import Batch
from store import feature_file
from store.feature_file import FeatureWriter
from store.layer import LayerStore, Stage
from tests.conftest import LITTLE_WORDS, made_up_dictionary

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize(("kind", "layers", "least"), [("batches", "layer3,layer4", 6), ("renames", "layer3", 15)])
def test_killed_at_every_moment_and_run_again(tmp_path, kind, layers, least):
    dictionary = made_up_dictionary(tmp_path / "dictionary")
    words = [
        "TASK=onet", f"LAYER_NAME={layers}", "INPUT_SIZE=48", f"DICTIONARY={dictionary}", "BATCH_SIZE=5",
        "TALLY_BATCH_SIZE=4", "TOPN=1", *LITTLE_WORDS,
    ]  # fmt: skip
    command = [sys.executable, "-m", "tests.killed_runs", str(tmp_path), kind, *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    undisturbed, *killed = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    assert {Path(name).suffix for name in undisturbed["digests"]} == {".mmap", ".npy", ".npz", ".csv"}
    assert len(killed) >= least
    for run in killed:
        assert run["killed"], run["allowed"]
        assert run["again"] == 0, run["allowed"]
        assert run["digests"] == undisturbed["digests"], run["allowed"]
    if kind == "batches":
        assert "going on at image 5 of 12" in ended.stderr


FACTS = {"made": ("u", "p")}
MAPS_STAGE, SIZE_STAGE = Stage(".mmap", "maps", ("made",)), Stage("_feature_size.npy", "size", ("made",))


def writer(folder, session="same", shape=(6, 2, 3, 3), batch_size=2):
    store, usable = LayerStore(folder, "case", FACTS), np.ones(shape[0], bool)
    return FeatureWriter(store, MAPS_STAGE, SIZE_STAGE, {"device": session}, shape, "float32", batch_size, usable)


def add(to, start, maps):
    """Hand the maps of the images from start on to a FeatureWriter."""
    images = np.arange(start, start + len(maps))
    to.add(Batch(images, [f"image {image}" for image in images], maps))


def write_all_batches(tmp_path):
    """Write the whole map and stop before it gets its name."""
    first = writer(tmp_path)
    for start in (0, 2, 4):
        add(first, start, MAPS[start : start + 2])
    first.close()


MAPS = np.arange(6 * 2 * 9, dtype=np.float32).reshape(6, 2, 3, 3)


def test_a_part_is_kept_and_what_was_not_noted_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_file, "NOTE_SECONDS", 1e9)
    first = writer(tmp_path)
    add(first, 0, MAPS[:2])
    first._take_note()
    add(first, 2, MAPS[2:4])
    first.file.flush()  # on the disk, perhaps, but nobody vouches for it
    second = writer(tmp_path)
    assert second.done == 2
    add(second, 2, MAPS[2:])
    second.finish()
    assert (tmp_path / "case.mmap").read_bytes() == MAPS.tobytes()
    assert LayerStore(tmp_path, "case", FACTS).is_current(MAPS_STAGE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "case.mmap",
        "case_feature_size.npy",
        "case_manifest.json",
    ]


@pytest.mark.parametrize("change", [{"session": "another"}, {"shape": (6, 1, 3, 3)}, {"batch_size": 3}])
def test_a_part_made_otherwise_is_started_anew(tmp_path, change, caplog):
    first = writer(tmp_path)
    add(first, 0, MAPS[:2])
    first.close()
    with caplog.at_level(logging.INFO):
        assert writer(tmp_path, **change).done == 0
    assert "made under other settings and is started anew" in caplog.text


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"done": "x"}', "\x00", '{"done": 2}', '{"identity": 1, "done": 2}'])
def test_a_damaged_note_means_a_new_start(tmp_path, note):
    first = writer(tmp_path)
    add(first, 0, MAPS[:2])
    first.close()
    (tmp_path / ".case.mmap.partial.json").write_text(note)
    assert writer(tmp_path).done == 0


@pytest.mark.parametrize(("noted", "kept"), [(-1, 0), (1.5, 0), (99, 0), (3, 2), (True, 0), (5, 4)])
def test_a_note_of_odd_numbers_keeps_whole_batches_at_most(tmp_path, noted, kept):
    write_all_batches(tmp_path)
    note = tmp_path / ".case.mmap.partial.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "done": noted}))
    assert writer(tmp_path).done == kept


def test_a_map_that_got_its_name_before_the_manifest_heard_of_it_is_not_lost(tmp_path):
    write_all_batches(tmp_path)
    os.replace(tmp_path / ".case.mmap.partial", tmp_path / "case.mmap")
    second = writer(tmp_path)
    assert second.done == 6
    second.finish()
    assert (tmp_path / "case.mmap").read_bytes() == MAPS.tobytes()


def test_a_whole_map_made_otherwise_is_left_alone_until_the_new_one_is_complete(tmp_path):
    write_all_batches(tmp_path)
    os.replace(tmp_path / ".case.mmap.partial", tmp_path / "case.mmap")
    assert writer(tmp_path, session="another").done == 0
    assert (tmp_path / "case.mmap").read_bytes() == MAPS.tobytes()


def test_a_part_that_was_cut_is_not_believed(tmp_path):
    first = writer(tmp_path)
    add(first, 0, MAPS[:4])
    first.close()
    os.truncate(tmp_path / ".case.mmap.partial", 100)
    assert writer(tmp_path).done == 0


def test_an_unfinished_map_cannot_be_given_its_name(tmp_path):
    first = writer(tmp_path)
    add(first, 0, MAPS[:4])
    with pytest.raises(ValueError, match="image 4 of 6 has no maps"):
        first.finish()
    assert not (tmp_path / "case.mmap").exists()
