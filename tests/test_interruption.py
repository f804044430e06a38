"""A run killed at any moment leaves nothing that a later run takes for finished, and the later run ends the same."""

import json
import logging
import os
import secrets
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loader.batch import Batch
from store import unfinished
from store.feature_file import PartialMaps
from store.layer import LayerStore, Stage
from tests.conftest import LITTLE_WORDS, made_up_dictionary, spoil
from util.errors import DissectionError

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize(("kind", "layers", "least"), [("batches", "layer3,layer4", 6), ("renames", "layer3", 15)])
def test_killed_at_every_moment_and_run_again(tmp_path, kind, layers, least):
    dictionary = made_up_dictionary(tmp_path / "dictionary", images=20)
    spoil(dictionary, range(5, 10))  # a whole batch
    words = [
        "TASK=onet", f"LAYER_NAME={layers}", "INPUT_SIZE=48", f"DICTIONARY={dictionary}", "BATCH_SIZE=5",
        "SKIP_BAD_IMAGES=True", "TALLY_BATCH_SIZE=4", "TOPN=1", *LITTLE_WORDS,
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
        assert "going on with 5 of 20 images there" in ended.stderr


FACTS = {"made": ("u", "p")}
MAPS_STAGE, SIZE_STAGE = Stage(".mmap", "maps", ("made",)), Stage("_feature_size.npy", "size", ("made",))


def partial_maps(folder, session="same", shape=(6, 2, 3, 3), batch_size=2, left_out=()):
    store, usable = LayerStore(folder, "case", FACTS), ~np.isin(np.arange(shape[0]), left_out)
    return PartialMaps(store, MAPS_STAGE, SIZE_STAGE, {"device": session}, shape, "float32", batch_size, usable)


def add(to, *batches):
    """Hand the maps of some batches to a MapsSlice."""
    for number in batches:
        images = np.arange(2 * number, 2 * number + 2)
        to.add(Batch(images, [f"image {image}" for image in images], MAPS[images]))


def write(tmp_path, *batches, rank=0):
    """Begin, write some batches of the map, and stop before it gets its name."""
    maps = partial_maps(tmp_path)
    with maps.place.open(rank) as mine:
        add(mine, *batches)
    return maps


def done(maps):
    return np.flatnonzero(maps.done).tolist()


MAPS = np.arange(6 * 2 * 9, dtype=np.float32).reshape(6, 2, 3, 3)
ALL_BATCHES = np.ones(3, bool)


def test_a_part_is_kept_and_what_was_not_noted_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "NOTE_SECONDS", 1e9)
    first = partial_maps(tmp_path).place.open(0)
    add(first, 0)
    first._take_note()
    add(first, 1)
    first.file.flush()  # on the disk, perhaps, but nobody vouches for it
    second = partial_maps(tmp_path)
    assert done(second) == [0]
    with second.place.open(0) as rest:
        add(rest, 1, 2)
    second.finish(rest.written)
    assert (tmp_path / "case.mmap").read_bytes() == MAPS.tobytes()
    assert LayerStore(tmp_path, "case", FACTS).is_current(MAPS_STAGE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "case.mmap",
        "case_feature_size.npy",
        "case_manifest.json",
    ]


def test_parts_of_several_processes_are_kept_whoever_goes_on(tmp_path):
    maps = partial_maps(tmp_path)
    with maps.place.open(0) as one, maps.place.open(1) as other:
        add(one, 0)
        add(other, 2)
    assert done(partial_maps(tmp_path)) == [0, 2]
    again = partial_maps(tmp_path)  # now by one note
    assert done(again) == [0, 2]
    assert again.missing_bytes == MAPS[2:4].nbytes
    assert len(list(tmp_path.glob(".*.json"))) == 1
    with again.place.open(5) as rest:
        add(rest, 1)
    again.finish(rest.written)
    assert (tmp_path / "case.mmap").read_bytes() == MAPS.tobytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("change", [{"session": "another"}, {"shape": (6, 1, 3, 3)}, {"batch_size": 3}])
def test_a_part_made_otherwise_is_started_anew(tmp_path, change, caplog):
    write(tmp_path, 0)
    with caplog.at_level(logging.INFO):
        assert not partial_maps(tmp_path, **change).done.any()
    assert "made under other settings and is started anew" in caplog.text


@pytest.mark.parametrize(
    "note", ["", "{}", "[]", '{"done": "x"}', "\x00", '{"done": 2}', '{"identity": 1, "done": [[0, 2]]}']
)
def test_a_damaged_note_means_a_new_start(tmp_path, note):
    write(tmp_path, 0)
    for path in tmp_path.glob(".*.json"):
        path.write_text(note)
    assert not partial_maps(tmp_path).done.any()


@pytest.mark.parametrize(
    ("noted", "kept"),
    [([[0, -1]], []), ([[0, 1.5]], []), ([[0, 99]], []), ([[0, 3]], [0]), ([[0, True]], []), ([[0, 5]], [0, 1]),
     ([[1, 6]], [1, 2]), ([[4, 2]], []), ([[0]], []), ([[0, 2], [4, 6]], [0, 2])],
)  # fmt: skip
def test_a_note_of_odd_numbers_keeps_whole_batches_at_most(tmp_path, noted, kept):
    write(tmp_path, 0, 1, 2)
    partial_maps(tmp_path)
    (note,) = tmp_path.glob(".*.json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "done": noted}))
    assert done(partial_maps(tmp_path)) == kept


def killed(*_, **__):
    raise KeyboardInterrupt


def finished_but_for_the_manifest(tmp_path, monkeypatch):
    maps = write(tmp_path, 0, 1, 2)
    with monkeypatch.context() as patched:
        patched.setattr(maps.store, "record", lambda stage, _: stage is MAPS_STAGE and killed())
        with pytest.raises(KeyboardInterrupt):
            maps.finish(ALL_BATCHES)
    assert (tmp_path / "case.mmap").read_bytes() == MAPS.tobytes()


def test_a_map_that_got_its_name_before_the_manifest_heard_of_it_is_not_lost(tmp_path, monkeypatch):
    finished_but_for_the_manifest(tmp_path, monkeypatch)
    second = partial_maps(tmp_path)
    assert done(second) == [0, 1, 2]
    second.finish(~ALL_BATCHES)
    assert (tmp_path / "case.mmap").read_bytes() == MAPS.tobytes()


def test_a_whole_map_made_otherwise_is_left_alone_until_the_new_one_is_complete(tmp_path, monkeypatch):
    finished_but_for_the_manifest(tmp_path, monkeypatch)
    assert not partial_maps(tmp_path, session="another").done.any()
    assert (tmp_path / "case.mmap").read_bytes() == MAPS.tobytes()


def test_a_part_that_was_cut_is_not_believed(tmp_path):
    os.truncate(write(tmp_path, 0, 1).place.path, 100)
    assert not partial_maps(tmp_path).done.any()


@pytest.mark.parametrize("session", ["same", "another"])
@pytest.mark.parametrize("moment", range(9))
def test_killed_while_it_begins_no_map_is_believed_that_is_not_there(tmp_path, monkeypatch, moment, session):
    write(tmp_path, 0, 1, rank=1)
    left = [moment]

    def counting(function):
        def counted(*arguments, **options):
            left[0] -= 1
            return killed() if left[0] < 0 else function(*arguments, **options)

        return counted

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        for owner, name in ((os, "replace"), (os, "fsync"), (Path, "unlink")):
            patched.setattr(owner, name, counting(getattr(owner, name)))
        partial_maps(tmp_path, session)
    again = partial_maps(tmp_path)
    assert done(again) in ([[0, 1]] if session == "same" else [[0, 1], []])
    there = np.fromfile(again.place.path, np.float32).reshape(MAPS.shape)
    for batch in done(again):
        assert np.array_equal(there[2 * batch : 2 * batch + 2], MAPS[2 * batch : 2 * batch + 2])
    with again.place.open(0) as rest:
        add(rest, *np.flatnonzero(~again.done))
    again.finish(rest.written)
    assert (tmp_path / "case.mmap").read_bytes() == MAPS.tobytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("moment", ["make", "forget", "record"])
def test_killed_while_it_is_finished_nothing_is_lost(tmp_path, monkeypatch, moment):
    maps = partial_maps(tmp_path, left_out=[2, 3, 5])
    assert done(maps) == [1]  # nothing is to be done for it
    with maps.place.open(0) as mine:
        add(mine, 0)
        mine.add(Batch(np.array([4]), ["image 4"], MAPS[4:5]))
    monkeypatch.setattr(maps.store, moment, killed)
    with pytest.raises(KeyboardInterrupt):
        maps.finish(mine.written)
    again = partial_maps(tmp_path, left_out=[2, 3, 5])
    assert again.done.all()
    again.finish(~ALL_BATCHES)
    expected = MAPS.copy()
    expected[[2, 3, 5]] = np.nan
    assert (tmp_path / "case.mmap").read_bytes() == expected.tobytes()


@pytest.mark.parametrize("token", ["00000000", "ffffffff"])
def test_an_earlier_map_is_not_taken_for_the_one_that_was_about_to_get_its_name(tmp_path, monkeypatch, token):
    (tmp_path / "case.mmap").write_bytes(b"0" * MAPS.nbytes)
    maps = write(tmp_path, 0, 1, 2)
    with monkeypatch.context() as patched:
        patched.setattr(maps.store, "forget", lambda suffix: patched.setattr(os, "replace", only_to("json")))
        with pytest.raises(KeyboardInterrupt):
            maps.finish(ALL_BATCHES)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        patched.setattr(secrets, "token_hex", lambda _: token)
        with pytest.raises(KeyboardInterrupt):
            partial_maps(tmp_path)
    again = partial_maps(tmp_path)
    again.finish(~ALL_BATCHES)
    assert (tmp_path / "case.mmap").read_bytes() == MAPS.tobytes()


def only_to(suffix, replace=os.replace):
    """os.replace, killed before anything else than files of a suffix get their names."""
    return lambda old, new: replace(old, new) if str(new).endswith((suffix, "npy")) else killed()


@pytest.mark.parametrize("session", ["same", "another"])
def test_a_process_that_outlived_its_run_cannot_spoil_the_next(tmp_path, monkeypatch, session):
    orphan = partial_maps(tmp_path).place.open(1)
    add(orphan, 0)
    orphan._take_note()
    again = partial_maps(tmp_path, session)
    with again.place.open(1) as mine:
        add(mine, 2)
        orphan.add(Batch(np.array([2, 3]), ["", ""], MAPS[2:4] + (session == "another")))
        orphan.file.flush()
        with pytest.raises(DissectionError, match="no other run may have begun in it since"):
            orphan._take_note()
    orphan.place.write_note(ALL_BATCHES, 1)  # had it been about to
    last = partial_maps(tmp_path, session)
    assert done(last) == ([0, 2] if session == "same" else [2])
    assert not partial_maps(tmp_path, "same" if session == "another" else "another").done.any()


def test_a_folder_that_is_another_one_on_another_machine_is_said(tmp_path):
    for name in ("first", "other"):
        write(tmp_path / name, 0)  # the other has what an earlier run left there
    place = partial_maps(tmp_path / "first").place
    for name in ("other", "none"):
        there = replace(place, path=tmp_path / name / place.path.name)
        with pytest.raises(
            DissectionError, match="OUTPUT_FOLDER must be one folder which all machines see under the same"
        ):
            there.open(1)


def test_an_unfinished_map_cannot_be_given_its_name(tmp_path):
    maps = write(tmp_path, 0, 1)
    with pytest.raises(ValueError, match="image 4 of 6 has no maps"):
        maps.finish(np.array([True, True, False]))
    assert not (tmp_path / "case.mmap").exists()
