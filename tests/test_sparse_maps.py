"""FEATURES='sparse': what is dropped is silent, and nothing that is found differs from what all maps give."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import cluster_top
from experiments import sweep
from loader.batch import Batch
from method import sampled
from method.quantile import exact_quantile
from method.segmentation import active_pixels
from method.top_values import kept_values, raised_bound, top_quantile
from store import sparse_maps, unfinished
from store.arrays import load_arrays
from store.layer import LayerStore, Stage
from store.maps import MemoryMaps, open_maps
from store.sparse_maps import PartialSparseMaps, SparsePart
from tests.conftest import LITTLE_WORDS, made_up_dictionary, spoil
from tests.test_analyses import run  # noqa: F401 - a fixture
from tests.test_processes import TORCHRUN, words  # noqa: F401 - a fixture
from tests.test_processes import digests as digests_of
from tests.test_processes import run as run_command
from util.errors import DissectionError

MAPS_STAGE, SIZE_STAGE = Stage(".mmap", "maps", ("feature_dtype",)), Stage("_feature_size.npy", "size", ())
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def often(monkeypatch, few):
    """A note is taken after every batch, and little is read at a time."""
    monkeypatch.setattr(unfinished, "NOTE_SECONDS", -1)
    monkeypatch.setattr(sparse_maps, "_BLOCK_BYTES", 300)


@pytest.fixture
def few(monkeypatch):
    """The maps of one image alone are kept for the page."""
    monkeypatch.setattr(sampled, "SAMPLED_IMAGES", 1)
    monkeypatch.setattr(sampled, "_SAMPLED_VALUES", 1)


def made_up(kind, random, shape=(30, 3, 5, 4)):
    """Maps of one kind, float32. The third unit differs from the others."""
    maps = random.normal(size=shape).astype(np.float32)
    if kind == "relu":
        maps[maps < 1] = 0
    elif kind == "ties":
        maps = maps.round()
    elif kind == "constant":
        maps[:] = random.normal(size=shape[1])[:, None, None]
    elif kind == "zeros":
        maps = np.where(maps > 0, np.float32(0), np.float32(-0.0))
    elif kind == "falling":
        maps = -np.sort(-maps, axis=0)
    elif kind == "rising":
        maps.sort(axis=0)
    maps[:, 2] = 3 * maps[:, 2] - 1
    return maps


KINDS = ("normal", "relu", "ties", "constant", "zeros", "falling", "rising")


class Layer:
    """Writes the sparse maps of a made-up layer as runs do."""

    def __init__(self, folder, maps, usable=None, dtype="float32", quantile=0.1, batch_size=4):
        self.maps, self.batch_size = maps, batch_size
        self.usable = np.ones(len(maps), bool) if usable is None else usable
        self.dtype, self.quantile = dtype, quantile
        numbers = {"features": "sparse", "dtype": dtype, "quantile": quantile}
        self.store = LayerStore(folder, "case", {"feature_dtype": numbers})

    def partial(self, session="same"):
        return PartialSparseMaps(
            self.store, MAPS_STAGE, SIZE_STAGE, {"device": session}, self.maps.shape, self.dtype, self.batch_size,
            self.usable, quantile=self.quantile,
        )  # fmt: skip

    def batch(self, number):
        images = np.arange(number * self.batch_size, min((number + 1) * self.batch_size, len(self.maps)))
        images = images[self.usable[images]]
        return Batch(images, [f"image {image}" for image in images], self.maps[images])

    def add(self, part, numbers):
        for number in numbers:
            batch = self.batch(number)
            if len(batch.images):
                part.add(batch)

    def write(self, parts=1):
        """Write and finish it. parts: processes, each with a range of batches. Returns the file's bytes."""
        partial = self.partial()
        for rank, numbers in enumerate(np.array_split(np.arange(partial.place.batches), parts)):
            with partial.place.open(rank) as part:
                self.add(part, numbers)
        partial.finish()
        return self.bytes

    @property
    def bytes(self):
        return (self.store.folder / "case.mmap").read_bytes()

    def read(self):
        return open_maps(self.store, MAPS_STAGE, SIZE_STAGE)

    @property
    def stored(self):
        """As all maps are stored, float32."""
        return self.maps.astype(self.dtype).astype(np.float32)

    def thresholds(self):
        maps = self.stored[self.usable]
        flat = maps.reshape(*maps.shape[:2], -1)
        return exact_quantile(lambda f: [f(flat)], maps.shape[1], len(maps) * flat.shape[2], 1 - self.quantile)


# ------------------------------------------------------------------------------------------------------ the values


@pytest.mark.parametrize("seed", range(60))
def test_the_largest_values_give_numpys_quantile_whatever_is_dropped_on_the_way(seed):
    random = np.random.default_rng(seed)
    count, q = int(random.integers(1, 60)), float(random.choice([random.random(), 0.001, 0.5, 0.995]))
    values = random.normal(size=(count, 2)).astype(np.float32)
    if seed % 3 == 0:
        values = np.maximum(values.round(), np.float32(random.choice([-1, 0])))
    elif seed % 3 == 1:
        values[:, 1] = -0.0
    bound, kept, largest = np.full(2, -np.inf, np.float32), np.zeros((0, 3)), kept_values(count, q)

    def passes(f):
        yield f(np.ascontiguousarray(kept[:, 1:2], np.float32), kept[:, 0].astype(int))

    for start in range(0, count, 7):
        for unit in (0, 1):
            few = values[start : start + 7, unit]
            kept = np.vstack([kept, np.column_stack([np.full(len(few), unit), few, few])[few > bound[unit]]])
        bound = raised_bound(passes, bound, largest)
        seen = np.sort(values[: start + 7], axis=0)
        expected = seen[-largest] if len(seen) >= largest else np.full(2, -np.inf)
        assert np.array_equal(bound, expected)
        assert not np.signbit(bound[bound == 0]).any()
        kept = kept[kept[:, 1] > bound[kept[:, 0].astype(int)]]
    found = top_quantile(passes, bound, count, q)
    assert np.array_equal(found, np.quantile(values.astype(np.float64), q, axis=0))
    assert np.array_equal(found, exact_quantile(lambda f: [f(values.T[None])], 2, count, q))


# -------------------------------------------------------------------------------------------------------- the file


def plainly_kept(stored, thresholds, whole):
    """Which values are kept: bool (N, U, H, W). whole: images of which all are."""
    kept = np.zeros(stored.shape, bool)
    for image, unit, row, column in np.argwhere(stored > thresholds[:, None, None]):
        kept[image, unit, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    kept[whole] = True
    return kept


def assert_same(layer):
    """That a file gives what all maps give, but for values that decide nothing."""
    maps, stored, thresholds = layer.read(), layer.stored, layer.thresholds()
    assert maps.thresholds.tobytes() == thresholds.tobytes()
    usable, count = layer.usable, len(layer.maps)
    assert np.array_equal(maps.usable, usable)
    kept = plainly_kept(stored, thresholds, sampled.images_of_histograms(usable, stored.shape))
    lowest, highest = (of(stored[usable], axis=(0, 2, 3)) for of in (np.min, np.max))
    expected = np.where(kept.any(axis=(2, 3), keepdims=True), lowest[:, None, None], -np.inf)
    expected = np.where(kept, stored, expected)
    expected[~usable] = np.nan
    assert np.array_equal(maps.read(0, count), expected, equal_nan=True)
    assert len(maps.offsets) == count + 1 and maps.offsets[-1] == kept[usable].sum()
    found, *bounds = maps.peaks(0, count)
    peaks = stored.max(axis=(2, 3))
    assert np.array_equal(found, np.where(usable[:, None], peaks, np.nan), equal_nan=True)
    assert np.array_equal(bounds, [lowest, highest])
    limits = np.broadcast_to(thresholds, peaks.shape)
    with np.errstate(invalid="raise"):
        awake = (peaks > thresholds) & usable[:, None]
        of_all, of_kept = (active_pixels(of[awake], limits[awake], (9, 7)) for of in (stored, expected.astype("f4")))
    assert np.array_equal(of_all, of_kept)
    images = np.arange(0, count, 3)
    assert np.array_equal(maps.read_units(images, 1, 3), expected[images, 1:3], equal_nan=True)
    assert np.array_equal(maps.read_map(count - 1, 1), expected[count - 1, 1], equal_nan=True)
    assert np.array_equal(maps.read(count // 3, count // 2 + 1), expected[count // 3 : count // 2 + 1], equal_nan=True)
    some = maps.peaks(count // 2, count, np.array([2, 0]))
    assert np.array_equal(some[0], found[count // 2 :, [2, 0]], equal_nan=True)
    assert np.array_equal(some[1], lowest[[2, 0]])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_can_be_active_is_kept_and_the_thresholds_are_those_of_all_values(tmp_path, often, kind, dtype):
    random = np.random.default_rng(3)
    for number, quantile in enumerate((0.005, 0.1, 0.6)):
        usable = random.random(30) < (1, 0.8, 0.5)[number]
        layer = Layer(tmp_path / str(number), made_up(kind, random), usable, dtype, quantile)
        layer.write()
        assert_same(layer)
        assert [path.name for path in sorted((tmp_path / str(number)).iterdir())] == [
            "case.mmap", "case_feature_size.npy", "case_manifest.json",
        ]  # fmt: skip


def test_one_image_and_batches_without_an_image_that_can_be_used(tmp_path, often):
    random = np.random.default_rng(0)
    one = Layer(tmp_path / "one", made_up("normal", random, (1, 3, 2, 2)), quantile=0.3)
    one.write()
    assert_same(one)
    usable = np.ones(30, bool)
    usable[[*range(4), *range(12, 20), 28, 29]] = False
    some = Layer(tmp_path / "some", made_up("normal", random), usable)
    some.write(2)
    assert_same(some)
    points = Layer(tmp_path / "points", made_up("normal", random, (30, 3, 1, 1)))
    points.write()
    assert_same(points)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_batches_and_their_order_do_not_change_a_byte(tmp_path, often, monkeypatch, kind):
    maps = made_up(kind, np.random.default_rng(5))
    usable = np.arange(30) % 7 != 3
    once = Layer(tmp_path / "1", maps, usable).write()
    for parts in (2, 3, 8):
        assert Layer(tmp_path / str(parts), maps, usable).write(parts) == once
    assert Layer(tmp_path / "batches", maps, usable, batch_size=7).write(2) == once
    monkeypatch.setattr(sparse_maps, "_BLOCK_BYTES", 1 << 20)
    assert Layer(tmp_path / "blocks", maps, usable).write() == once
    mixed = Layer(tmp_path / "mixed", maps, usable)
    partial = mixed.partial()
    for rank, numbers in enumerate(([5, 1, 7], [6, 0], [4, 2, 3])):
        with partial.place.open(rank) as part:
            mixed.add(part, numbers)
    partial.finish()
    assert mixed.bytes == once


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_more_lies_on_the_disk_at_any_moment_than_is_said_before(tmp_path, often, monkeypatch, kind, dtype):
    maps, lain = made_up(kind, np.random.default_rng(2), (60, 5, 3, 3)), []
    layer = Layer(tmp_path, maps, dtype=dtype, quantile=0.02)
    fsync = os.fsync

    def watched(file):
        fsync(file)
        lain.append(sum(path.stat().st_size for path in tmp_path.glob(".case.*[!n]")))  # no notes

    for images in (1, 20, 60):  # of which all values are kept
        monkeypatch.setattr(sampled, "SAMPLED_IMAGES", images)
        partial = layer.partial()
        said = partial.missing_bytes
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", watched)
            with partial.place.open() as part:
                layer.add(part, range(10))
            again = layer.partial()
            there = lain[-1] - int((~again.done).mean() * again.place.path.stat().st_size)
            with again.place.open() as part:
                layer.add(part, range(15))
            again.finish()
        assert max(lain) <= said
        assert images < 60 or said < 1.2 * max(lain)
        assert max(lain) <= there + again.missing_bytes
        lain.clear()


def test_a_disk_too_small_is_told_what_would_be_smaller(tmp_path, monkeypatch):
    numbers = {"features": "sparse", "dtype": "float32", "quantile": 0.1}
    usable = np.ones(9999, bool)

    def refusal(kept, dtype, shape):
        stores = {"layer": LayerStore(tmp_path, "case", {"feature_dtype": kept})}
        maps = MemoryMaps(stores, MAPS_STAGE, SIZE_STAGE, session={}, dtype=dtype, batch_size=4, usable=usable)
        with pytest.raises(DissectionError, match="free some space.* or (set|choose)") as raised:
            maps.begin({"layer": shape})
        return [word for word in ("'dense'", "'sparse'", "'float16'") if word in str(raised.value)]

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    assert refusal("float32", "float32", (3, 4, 4)) == ["'sparse'", "'float16'"]
    assert refusal("float16", "float16", (3, 4, 4)) == ["'sparse'"]
    assert refusal(numbers, "float32", (3, 4, 4)) == ["'dense'", "'float16'"]
    assert refusal({**numbers, "quantile": 0.001}, "float16", (64, 56, 56)) == []


class KilledError(Exception):
    pass


@pytest.mark.parametrize("call", ["replace", "fsync", "unlink", "write"])
def test_killed_at_any_moment_and_gone_on_with_gives_the_same_bytes(tmp_path, often, monkeypatch, call):
    maps = made_up("rising", np.random.default_rng(7), (40, 3, 3, 2))
    settings = {"quantile": 0.02, "batch_size": 3}
    once = Layer(tmp_path / "once", maps, **settings).write(2)
    kills = 0
    while True:
        layer = Layer(tmp_path / f"killed{kills}", maps, **settings)
        with monkeypatch.context() as patched:
            killed = _kill(patched, call, kills)
            with suppress(KilledError):
                layer.write(2)
        if not killed:
            assert layer.bytes == once
            break
        kills += 1 if call in ("unlink", "write") else 3
        for parts in (1, 3):
            partial = layer.partial()
            todo = np.flatnonzero(~partial.done)
            for rank, numbers in enumerate(np.array_split(todo, parts)):
                with partial.place.open(rank) as part:
                    layer.add(part, numbers[: 1 if parts == 1 else None])
        partial.finish()
        assert layer.bytes == once
        assert_same(layer)
        assert not [path for path in layer.store.folder.iterdir() if path.name.startswith(".")]
    assert kills >= 8


def _kill(patched, call, after):
    """Have nothing more reach the disk after so many calls. Returns a list that is not empty once it is so."""
    killed, done = [], []

    def counting(function, raises):
        def counted(*arguments, **options):
            if killed or len(done) == after:
                killed.append(True)
                if raises:
                    raise KilledError
                return None
            done.append(True)
            return function(*arguments, **options)

        return counted

    def dead(function):
        def counted(*arguments, **options):
            if killed:
                raise KilledError
            return function(*arguments, **options)

        return counted

    watched = {"replace": (os, "replace"), "fsync": (os, "fsync"), "unlink": (Path, "unlink"),
               "write": (SparsePart, "_write_peaks")}  # fmt: skip
    for name, (owner, of) in watched.items():
        patched.setattr(owner, of, (counting if name == call else dead)(getattr(owner, of), *[True] * (name == call)))
    return killed


def test_ctrl_c_within_a_batch_does_not_count_it_twice(tmp_path, often, monkeypatch):
    maps, settings = made_up("rising", np.random.default_rng(7), (40, 3, 3, 2)), {"quantile": 0.02, "batch_size": 3}
    whole = Layer(tmp_path / "whole", maps, **settings).write(1)
    layer, left = Layer(tmp_path / "stopped", maps, **settings), [12]

    class Numpy:
        def __getattr__(self, name):
            return getattr(np, name)

        def minimum(self, *arguments):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return np.minimum(*arguments)

    def interrupted():
        with layer.partial().place.open(0) as part, monkeypatch.context() as patched:
            patched.setattr(sparse_maps, "np", Numpy())
            layer.add(part, range(14))

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    partial = layer.partial()
    assert 0 < (~partial.done).sum() < 14
    with partial.place.open(0) as part:
        layer.add(part, np.flatnonzero(~partial.done))
    partial.finish()
    assert layer.bytes == whole


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_no_next_file_to_go_on_with_is_said_in_one_line_and_loses_nothing(tmp_path, often, monkeypatch, error):
    maps, settings = made_up("rising", np.random.default_rng(7), (40, 3, 3, 2)), {"quantile": 0.02, "batch_size": 3}
    layer = Layer(tmp_path, maps, **settings)

    def opened(path, mode):
        if mode == "w+b":
            raise error
        return open(path, mode)

    def stopped():
        with monkeypatch.context() as patched, part:
            patched.setattr(sparse_maps, "open", opened, raising=False)
            layer.add(part, range(14))

    part = layer.partial().place.open(0)
    with pytest.raises((DissectionError, KeyboardInterrupt), match="the disk is full" if error.args else None):
        stopped()
    assert part.written.any() and not part.written.all()
    assert layer.write() == Layer(tmp_path / "once", maps, **settings).write()


def test_what_was_made_otherwise_or_is_damaged_is_started_anew(tmp_path, often, caplog):
    maps = made_up("normal", np.random.default_rng(1))
    once = Layer(tmp_path / "once", maps).write()
    for number, damage in enumerate(("session", "note", "records", "peaks")):
        layer = Layer(tmp_path / damage, maps)
        with layer.partial().place.open() as part:
            layer.add(part, range(5))
        assert layer.partial().done.tolist() == [True] * 5 + [False] * 3
        part = layer.partial()
        (records,) = layer.store.folder.glob(".case.mmap.sparse.*.0.[0-9]*")
        if damage == "note":
            part.place.note(0).write_text("[" * 99)
        elif damage == "records":
            os.truncate(records, 1)
        elif damage == "peaks":
            part.place.path.unlink()
        assert not layer.partial("another" if damage == "session" else "same").done.any(), number
        assert layer.write() == once


@pytest.mark.parametrize("left_out", [[], [4, 5, 6, 7]])
def test_a_whole_file_that_the_manifest_had_not_heard_of_is_not_lost(tmp_path, often, monkeypatch, left_out):
    usable = np.ones(30, bool)
    usable[left_out] = False  # of a whole batch
    layer = Layer(tmp_path, made_up("normal", np.random.default_rng(1)), usable)
    with monkeypatch.context() as patched:
        patched.setattr(LayerStore, "record", killed_at_a_map(LayerStore.record))
        with pytest.raises(KilledError):
            layer.write()
    assert (tmp_path / "case.mmap").exists()
    again = layer.partial()
    assert again.done.all()
    again.finish()
    assert_same(layer)


def killed_at_a_map(record):
    def recorded(store, stage, made_from):
        if stage is MAPS_STAGE:
            raise KilledError
        record(store, stage, made_from)

    return recorded


def test_what_a_process_that_outlived_its_run_notes_meanwhile_is_not_done_twice(tmp_path, often, monkeypatch):
    maps = made_up("rising", np.random.default_rng(7), (40, 3, 3, 2))
    whole = Layer(tmp_path / "whole", maps, batch_size=3).write()
    layer = Layer(tmp_path / "case", maps, batch_size=3)
    orphan, take_over = layer.partial().place.open(1), PartialSparseMaps.take_over
    layer.add(orphan, range(3))

    def taken_over(self, before):
        layer.add(orphan, [13])  # the highest values
        take_over(self, before)

    with monkeypatch.context() as patched:
        patched.setattr(PartialSparseMaps, "take_over", taken_over)
        again = layer.partial()
    with again.place.open(0) as part:
        layer.add(part, np.flatnonzero(~again.done))
    again.finish()
    assert layer.bytes == whole


@pytest.mark.parametrize("session", ["same", "another"])
def test_a_process_that_outlived_its_run_cannot_spoil_the_next(tmp_path, often, session):
    maps = made_up("rising", np.random.default_rng(7), (40, 3, 3, 2))
    whole = Layer(tmp_path / "whole", maps, batch_size=3).write()
    layer = Layer(tmp_path / "case", maps, batch_size=3)
    orphan = layer.partial().place.open(0)
    layer.add(orphan, range(3))
    again = layer.partial(session)
    with again.place.open(0) as part:
        layer.add(part, [11, 12])
        with pytest.raises(DissectionError, match="no other run may have begun in it since"):
            layer.add(orphan, [3])
        orphan.file.flush()  # it had got as far as that
        orphan.state.write(orphan.place, 0)
        layer.add(part, [13])
    last = layer.partial(session)
    assert np.flatnonzero(last.done).tolist() == [0, 1, 2] * (session == "same") + [11, 12, 13]
    with last.place.open(1) as rest:
        layer.add(rest, np.flatnonzero(~last.done))
    last.finish()
    assert layer.bytes == whole


# ------------------------------------------------------------------------------------------------------ whole runs


def contents(folder):
    """What lies in a folder of results and has neither times nor the maps in it: {name: content}."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".npz":
            arrays = load_arrays(path)
            arrays.pop("fingerprint", None)  # which tells what it was made from
            found.update({f"{name} {key}": (array.dtype.str, array.tobytes()) for key, array in arrays.items()})
        elif path.suffix in (".npy", ".csv") or name.endswith("_shown.json"):
            found[name] = path.read_bytes()
    return found


@pytest.mark.usefixtures("no_pdfs")
@pytest.mark.parametrize(("dtype", "twins"), [("float32", 1), ("float16", 0)])
def test_whole_runs_find_the_same_with_sparse_and_with_all_maps(
    tmp_path, run_main, run, few, dtype, twins, caplog  # noqa: F811
):  # fmt: skip
    made_up_dictionary(tmp_path / "dictionary", images=24)
    picture = next((tmp_path / "dictionary").rglob("original.png"))
    picture.write_bytes(picture.read_bytes()[:50])
    chosen = {"LAYER_NAME": "[layer3,layer4]", "FEATURE_DTYPE": dtype, "SKIP_BAD_IMAGES": True, "BATCH_SIZE": 5,
              "TWINS": twins}  # fmt: skip
    found = {}
    for features in ("dense", "sparse"):
        folder = tmp_path / features
        run_main(**chosen, FEATURES=features, OUTPUT_FOLDER=folder)
        run(cluster_top, **chosen, TASKS="onet", OUTPUT_FOLDER=folder, PLOT_FOLDER=folder / "plots")
        found[features] = contents(folder)
    assert found["sparse"].keys() == found["dense"].keys()
    assert [name for name, content in found["dense"].items() if found["sparse"][name] != content] == []
    assert any("hierarchy" in name for name in found["dense"]) and any("/" in name for name in found["dense"]) == twins
    sizes = {path.parent.name: path.stat().st_size for path in tmp_path.rglob("onet_layer3.mmap")}
    assert sizes["sparse"] < 0.6 * sizes["dense"]
    with caplog.at_level(logging.INFO):
        run_main(**chosen, FEATURES="sparse", OUTPUT_FOLDER=folder)
    assert "onet_layer3: activation maps up to date" not in caplog.text  # nothing is looked at anew
    assert not [path for path in folder.rglob(".*") if path.suffix != ".lock"]


@pytest.mark.usefixtures("no_pdfs")
def test_going_from_one_kind_of_maps_to_the_other_takes_neither_for_the_other(small_dictionary, run_main, caplog):
    result = run_main(TWINS=0)
    dense = (result / "onet_layer3.mmap").read_bytes()
    for features, quantile, changed in (
        ("sparse", 0.005, "feature dtype"), ("sparse", 0.01, "feature dtype quantile"),
        ("dense", 0.01, "feature dtype"), ("sparse", 0.005, "feature dtype"), ("dense", 0.005, "feature dtype"),
    ):  # fmt: skip
        caplog.clear()
        with caplog.at_level(logging.INFO):
            run_main(TWINS=0, FEATURES=features, QUANTILE=quantile)
        assert f"onet_layer3.mmap: made anew, since this changed: {changed}" in caplog.text
        kept = (result / "onet_layer3.mmap").read_bytes()
        assert kept.startswith(sparse_maps.MAGIC) == (features == "sparse")
        assert not list(result.glob(".onet*"))
    assert kept == dense


def test_a_study_of_other_thresholds_says_that_it_needs_all_maps():
    with (
        pytest.raises(DissectionError, match="FEATURES='sparse' keeps what one threshold needs"),
        sweep.dissected_layers(["FEATURES=sparse"], "a study"),
    ):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_run_killed_before_any_batch_gives_the_same_bytes(tmp_path):
    dictionary = made_up_dictionary(tmp_path / "dictionary", images=20)
    spoil(dictionary, range(5, 10))  # a whole batch
    chosen = [
        "TASK=onet", "LAYER_NAME=layer3", "INPUT_SIZE=48", f"DICTIONARY={dictionary}", "BATCH_SIZE=5", "TOPN=1",
        "FEATURES=sparse", "SKIP_BAD_IMAGES=True", *LITTLE_WORDS, "TWINS=0", "PERMUTATIONS=0", "BOOTSTRAPS=0",
        "FORMULAS=0",
    ]  # fmt: skip
    command = [sys.executable, "-m", "tests.killed_runs", str(tmp_path), "batches", *chosen]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    undisturbed, *killed = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    assert "left over" not in undisturbed["digests"].values()
    assert len(killed) == 3
    for one in killed:
        assert one["killed"] and one["again"] == 0, one["allowed"]
        assert one["digests"] == undisturbed["digests"], one["allowed"]


def test_three_processes_give_the_bytes_of_one(words, tmp_path):  # noqa: F811
    few = ["FEATURES=sparse", "TWINS=0", "PERMUTATIONS=0", "BOOTSTRAPS=0", "FORMULAS=0"]
    for name, started in (("one", [sys.executable]), ("three", [*TORCHRUN, "--nproc-per-node=3"])):
        own = [word for word in words(name) if not word.startswith(("TWINS", "PERMUTATIONS", "BOOTSTRAPS"))]
        ended = run_command([*started, "main.py", *own, *few])
        assert ended.returncode == 0, ended.stderr
    assert digests_of(tmp_path / "three") == digests_of(tmp_path / "one")
    assert (tmp_path / "one" / "onet_layer4.mmap").read_bytes().startswith(sparse_maps.MAGIC)
