"""What is kept of dictionaries: columns in memory, and SQLite files of what was checked, found and decoded."""

import json
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from dictionary.dictionary import open_dictionary
from dictionary.faces import Face, Faces, crop_to_faces, find_faces, write_known_faces
from dictionary.file_memory import FileFacts, memory_path
from dictionary.mask_cache import MaskCache
from dictionary.rows import Row, Rows
from loader.crops import read_crop
from tests.conftest import made_up_dictionary
from util.errors import DissectionError, Ended
from util.files import DISK_FULL, JsonFacts, digest, fingerprint, fingerprint_of_parts
from util.memory import Memory
from util.packing import pack, unpack
from util.parallel import ordered_map

ROOT = Path(__file__).resolve().parents[1]
FACE = Face((2.5, 4.0, 40.0, 50.25), ((10.0, 16.0), (30.0, 14.0), (22.0, 24.0), (14.0, 34.0), (28.0, 33.0)), (50, 60))


def opened(root, **options):
    return open_dictionary(root, memory_folder=root.parent / "cache", workers=2, **options)


# ------------------------------------------------------------------------------------------------------------- columns


def some_rows():
    """Rows as either format has them."""
    return [
        Row(0, "Parts.csv line 2", "a/größe.png", {"nose": "a/nose.png", "mouth": "a/mouth.png"}),
        Row(1, "Parts.csv line 3", "", {}, 2),
        Row(2, "index.csv line 9", "b.jpg", {"color": ((), ("l.png", "m.png")), "scene": ((4, 9), ())}, 1, (30, 40)),
        Row(3, "Parts.csv line 4", "a/größe.png", {"nose": "c/nose.png"}),
    ]


def test_rows_of_columns_are_plain_rows():
    plain, rows = some_rows(), Rows.of(some_rows())
    assert list(rows) == plain and rows[-1] == plain[-1]
    assert list(rows[1:3]) == plain[1:3] and list(rows[::2][1:]) == plain[2:3] and len(rows[5:]) == 0
    assert rows.sources.tolist() == [0, 2, 1, 0] and rows.mask_bounds.tolist() == [0, 2, 2, 4, 5]
    assert [rows.names[number] for number in rows.mask_names] == ["nose", "mouth", "color", "scene", "nose"]
    assert rows.repeated() == [(3, 0)]
    with pytest.raises(IndexError):
        rows[4]
    rows.cut(3)
    assert list(rows) == plain[:3] and rows.repeated() == [] and len(rows.mask_names) == 4 and len(Rows.of([])) == 0


def test_fingerprints_in_parts_are_those_of_the_whole():
    listed = [[index, f"ä{index}"] for index in range(7)]
    assert fingerprint_of_parts([listed[:3], [], listed[3:]]) == fingerprint(listed)
    named = {f"{index:02d}": {"b": 1, "a": None} for index in range(7)}
    parts = [dict(list(named.items())[:4]), dict(list(named.items())[4:])]
    assert fingerprint_of_parts(parts, dict) == fingerprint(named)
    assert fingerprint_of_parts([]) == fingerprint([]) and fingerprint_of_parts([], dict) == fingerprint({})


def test_fingerprints_of_a_dictionary_are_those_of_plain_lists(small_dictionary, monkeypatch):
    monkeypatch.setattr("dictionary.dictionary._AT_ONCE", 5)
    (small_dictionary / "Parts/000009/original.png").write_bytes(b"broken")
    dictionary = opened(small_dictionary, skip_bad=True)
    good = [row for row in dictionary.rows if row.index != 9]
    assert list(dictionary.usable_rows) == good
    contents = {row.index: digest(small_dictionary / row.image) for row in good}
    assert dictionary.images_digest == fingerprint(list(contents.items()))
    masks = [(row.index, [(name, digest(small_dictionary / path)) for name, path in row.masks.items()]) for row in good]
    assert dictionary.masks_digest == fingerprint(masks)
    assert dictionary.sources_digest == fingerprint([row.source for row in dictionary.rows])
    carries = np.array([[name in row.masks for name in dictionary.names] for row in dictionary.rows])
    carries[9] = False
    assert np.array_equal(dictionary.carries, carries)
    for row in good:
        assert dictionary.digest_of(row) == contents[row.index]
    assert dictionary.digest_of(dictionary.rows[9]) == ""


def test_photographs_are_numbered_by_their_digests(small_dictionary):
    for number in (1, 7):
        shutil.copy(small_dictionary / "Attributes/000003/original.png", small_dictionary / "other.png")
        for path in small_dictionary.glob(f"*/00000{number}/original.png"):
            shutil.copy(small_dictionary / "other.png", path)
    (small_dictionary / "Parts/000010/original.png").unlink()
    dictionary = opened(small_dictionary, skip_bad=True)
    contents = [dictionary.digest_of(row) for row in dictionary.rows]
    ascending = sorted(set(contents) - {""})
    assert len(ascending) == 9 and list(dictionary.photograph_digests) == ascending
    assert dictionary.photographs.tolist() == [ascending.index(of) if of else -1 for of in contents]
    assert list(dictionary.photograph_digests[2:4]) == ascending[2:4]


def test_faces_as_columns_come_back_to_the_last_bit():
    faces = Faces(3)
    faces[1] = third = FACE._replace(box=(1 / 3, 0.1, 7e-7, 1e5 / 7))
    assert list(faces) == [None, third, None] and list(faces.spread([4, 0, 2], 5)) == [third, None, None, None, None]


def test_views_made_on_demand_have_the_fingerprint_of_all(small_dictionary, monkeypatch):
    monkeypatch.setattr("dictionary.dictionary._AT_ONCE", 5)
    dictionary = opened(small_dictionary)
    faces = {dictionary.digest_of(row): FACE._replace(box=(row.index, 4, 40, 50)) for row in dictionary.rows[1:]}
    write_known_faces(small_dictionary, {**faces, dictionary.digest_of(dictionary.rows[0]): None})
    for crop, jitter in (("box", 0), ("arcface 0.1", 0.1)):
        cropped = crop_to_faces(dictionary, read_crop(crop), jitter, skip_bad=True, device="cpu", workers=0,
                                memory_folder=small_dictionary.parent / "cache", search=False)  # fmt: skip
        assert not cropped.usable[0] and cropped.usable[1:].all()
        views = {row.image: cropped.view(row).numbers for row in cropped.rows[1:]}
        assert len({tuple(numbers) for numbers in views.values()}) == 11
        assert cropped.views_digest == fingerprint(views)


# -------------------------------------------------------------------------------------------------------------- memory


def memory_at(folder, version=1, **options):
    return Memory(folder / "memory.sqlite", version, "all is done again", **options)


def test_what_was_written_is_read_and_replaced(tmp_path):
    with memory_at(tmp_path) as memory:
        memory.write({b"%d" % number: b"v%d" % number for number in range(1200)})
        memory.write({b"7": b"seven"})
    with memory_at(tmp_path) as memory:
        found = memory.read([b"%d" % number for number in range(1300)])
        assert len(found) == 1200 and found[b"7"] == b"seven" and found[b"1199"] == b"v1199"


def test_one_of_another_version_is_forgotten(tmp_path, caplog):
    caplog.set_level("INFO")
    with memory_at(tmp_path) as memory:
        memory.write({b"a": b"b"})
    with memory_at(tmp_path, version=2) as memory:
        assert memory.read([b"a"]) == {}
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'memory.sqlite'} is of another version: all is done again"
    ]


WRITER = """
import sys
from pathlib import Path
from util.memory import Memory
memory = Memory(Path(sys.argv[1]), 1, "")
for turn in range(int(sys.argv[3])):
    memory.write({b"%s %d %d" % (sys.argv[2].encode(), turn, number): b"x" * 50 for number in range(20)})
    print(turn, flush=True)
"""


def writer(path, name, turns):
    words = [sys.executable, "-c", WRITER, str(path), name, str(turns)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_runs_write_at_once_and_a_third_reads(tmp_path):
    writers = [writer(tmp_path / "memory.sqlite", name, 30) for name in ("one", "two")]
    with memory_at(tmp_path) as memory:
        while any(process.poll() is None for process in writers):
            memory.read([b"one 3 3"])
        for process in writers:
            process.communicate()
            assert process.returncode == 0
        keys = [b"%s %d %d" % (name, turn, number) for name in (b"one", b"two") for turn in range(30)
                for number in range(20)]  # fmt: skip
        assert len(memory.read(keys)) == len(keys)


def test_a_run_killed_in_the_middle_leaves_what_it_committed(tmp_path):
    process = writer(tmp_path / "memory.sqlite", "one", 100_000)
    for line in process.stdout:
        if int(line) == 25:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate()
    with memory_at(tmp_path) as memory:
        for turn in range(26):
            assert len(memory.read([b"one %d %d" % (turn, number) for number in range(20)])) == 20
        memory.write({b"more": b"!"})
        assert memory.read([b"more"]) == {b"more": b"!"}


def flip(path, content):
    """Change one byte within a content that a file has once."""
    raw = bytearray(path.read_bytes())
    assert raw.count(content) == 1
    raw[raw.index(content) + 1] ^= 4
    path.write_bytes(raw)


def test_a_changed_byte_of_an_entry_is_noticed(tmp_path):
    with memory_at(tmp_path) as memory:
        memory.write({b"a": b"some value", b"b": b"another one"})
    flip(tmp_path / "memory.sqlite", b"some value")
    with memory_at(tmp_path) as memory:
        assert memory.read([b"a", b"b"]) == {b"b": b"another one"}


def test_a_file_that_shows_its_damage_later_is_forgotten_then(tmp_path, caplog):
    caplog.set_level("INFO")
    with memory_at(tmp_path) as memory:
        memory.write({os.urandom(16): os.urandom(300) for _ in range(300)} | {b"last": b"entry"})
    raw = bytearray((tmp_path / "memory.sqlite").read_bytes())
    raw[4096 * 3 :] = b"\x07" * (len(raw) - 4096 * 3)
    (tmp_path / "memory.sqlite").write_bytes(raw)
    with memory_at(tmp_path) as memory:
        assert memory.read([os.urandom(16) for _ in range(200)] + [b"last"]) == {}
    assert caplog.text.count("all is done again") == 1
    with memory_at(tmp_path) as memory:
        memory.write({b"new": b"entry"})
        assert memory.read([b"new"]) == {b"new": b"entry"}


def garble(path):
    """Damage a page in the middle of a memory, whose first entries can be read all the same."""
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 4096 // 2 * 4096
    raw[middle : middle + 4096] = b"\x07" * 4096
    path.write_bytes(raw)


KEYS = [b"%05d" % number for number in range(600)]


def filled(folder):
    with memory_at(folder) as memory:
        memory.write({key: os.urandom(300) for key in KEYS})
    garble(folder / "memory.sqlite")


def test_a_file_with_one_damaged_page_is_made_anew_by_the_next_run(tmp_path, caplog):
    caplog.set_level("INFO")
    filled(tmp_path)
    with memory_at(tmp_path) as memory:
        assert memory.read(KEYS) == {}
        memory.write({b"dropped": b""})
    assert caplog.text.count("all is done again") == 1 and list(tmp_path.iterdir()) == []
    with memory_at(tmp_path) as memory:
        assert memory.read(KEYS) == {}
        memory.write(dict.fromkeys(KEYS, b"value"))
    with memory_at(tmp_path) as memory:
        assert len(memory.read(KEYS)) == 600
    assert caplog.text.count("all is done again") == 1


def test_damage_of_a_file_that_the_run_made_itself_is_no_exception(tmp_path):
    with memory_at(tmp_path) as memory:
        memory.write({key: os.urandom(300) for key in KEYS})
        garble(memory.path)
        assert list(ordered_map(memory.read, [KEYS], 1)) == [{}]  # by another thread, which opens it anew
    assert list(tmp_path.iterdir()) == []


def test_what_another_run_has_put_in_the_place_of_a_damaged_file_stays(tmp_path):
    filled(tmp_path)
    with memory_at(tmp_path) as memory:
        assert memory.read(KEYS) == {}
        with memory_at(tmp_path) as other:
            assert other.read(KEYS) == {}
        with memory_at(tmp_path) as other:
            other.write({b"new": b"entry"})
    with memory_at(tmp_path) as memory:
        assert memory.read([b"new"]) == {b"new": b"entry"}


def test_what_a_run_of_another_version_still_writes_is_none_of_this_ones(tmp_path):
    with memory_at(tmp_path, version=1) as old, memory_at(tmp_path, version=2) as new:
        old.write({b"key": b"as version 1 means it"})
        assert new.read([b"key"]) == {}


def test_a_file_that_was_deleted_is_done_without(tmp_path):
    with memory_at(tmp_path) as memory:
        memory.write({b"key": b"value"})
        memory.path.unlink()
        memory.write({b"other": b"value"})
    with memory_at(tmp_path) as memory:
        memory.write({b"key": b"value"})
        assert memory.read([b"key"]) == {b"key": b"value"}


def test_numbers_where_bytes_should_be_are_no_entry(tmp_path):
    with memory_at(tmp_path) as memory:
        memory.write({b"key": b"value", b"other": b"value"})
        with sqlite3.connect(memory.path) as connection:
            connection.execute("UPDATE entries SET value = 5 WHERE key = ?", [b"key"])
        connection.close()
        assert memory.read([b"key", b"other"]) == {b"other": b"value"}


def test_connections_of_threads_that_ended_are_closed(tmp_path):
    with memory_at(tmp_path) as memory:
        for _ in range(5):
            list(ordered_map(lambda key: memory.read([key]), [b"key"] * 20, 3))
        assert len(memory._open) <= 3 + 2


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "memory.sqlite").mkdir()
    with pytest.raises(DissectionError, match="cannot write .*memory.sqlite: unable to open"):
        memory_at(tmp_path)


def test_a_full_disk_is_said_as_everywhere(tmp_path):
    with memory_at(tmp_path) as memory:
        memory._told("max_page_count = 10")
        with pytest.raises(DissectionError, match=f"cannot write {memory.path}: {DISK_FULL}"):
            memory.write({b"key": bytes(100_000)})


def test_the_oldest_entries_go_first_and_the_file_stays_small(tmp_path):
    limit = 400_000
    with memory_at(tmp_path, limit=limit) as memory:
        for turn in range(40):
            memory.write({b"%d %d" % (turn, number): os.urandom(1000) for number in range(30)})
        turns = [len(memory.read([b"%d %d" % (turn, number) for number in range(30)])) for turn in range(40)]
    assert (tmp_path / "memory.sqlite").stat().st_size < 1.3 * limit
    assert turns[:20] == [0] * 20 and turns[-5:] == [30] * 5 and turns == sorted(turns)


def full_memory(folder, limit):
    with memory_at(folder, limit=limit) as memory:
        for turn in range(40):
            memory.write({b"%d %d" % (turn, number): os.urandom(1000) for number in range(30)})
    return folder / "memory.sqlite"


def test_a_file_shrinks_to_a_limit_that_was_lowered(tmp_path):
    path = full_memory(tmp_path, None)
    assert path.stat().st_size > 1_200_000
    with memory_at(tmp_path, limit=400_000) as memory:
        assert path.stat().st_size <= 400_000
        found = [len(memory.read([b"%d %d" % (turn, number) for number in range(30)])) for turn in range(40)]
    assert sum(found) > 200 and found == sorted(found)


def test_one_that_is_full_is_not_rewritten_whenever_it_is_opened(tmp_path):
    path = full_memory(tmp_path, 400_000)
    before = path.stat()
    memory_at(tmp_path, limit=400_000).close()
    assert path.stat() == before and before.st_size > 0.9 * 400_000


@pytest.mark.parametrize("work", ["BEGIN IMMEDIATE", "BEGIN; SELECT * FROM entries"])
def test_one_at_which_another_run_works_stays_as_it_is_at_once(tmp_path, caplog, work):
    caplog.set_level("INFO")
    path = full_memory(tmp_path, None)
    other = sqlite3.connect(path, isolation_level=None)
    for step in work.split("; "):
        rows = other.execute(step)
    rows.fetchone()
    begun = time.monotonic()
    with memory_at(tmp_path, limit=400_000) as memory:
        assert time.monotonic() - begun < 20 and path.stat().st_size > 1_200_000
        assert len(memory.read([b"39 %d" % number for number in range(30)])) == 30
        assert memory._told("busy_timeout") == 120_000
        rows.close()
        other.close()
    assert "stays larger than it should be for now (database is locked)" in caplog.text
    memory_at(tmp_path, limit=400_000).close()
    assert path.stat().st_size <= 400_000


def test_one_that_shows_its_damage_when_it_shrinks_is_made_anew(tmp_path):
    garble(full_memory(tmp_path, None))
    with memory_at(tmp_path, limit=400_000) as memory:
        assert memory.read([b"39 1"]) == {}
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------- checked files, found faces


def test_runs_share_what_they_checked_and_keep_it_while_they_check(small_dictionary, monkeypatch):
    inspected = []

    def inspect(file, name, stamp, *_):
        if len(inspected) == 20:
            raise KeyboardInterrupt
        inspected.append(name)
        return FileFacts(stamp, None, digest(file), 50, 60, False, 0.1, 0.1)

    monkeypatch.setattr("dictionary.file_memory._inspect", inspect)
    monkeypatch.setattr("dictionary.file_memory.CHECKED_AT_ONCE", 1)
    with pytest.raises(KeyboardInterrupt):
        opened(small_dictionary)
    before = list(inspected)
    inspected.clear()
    opened(small_dictionary)
    assert len(before) == 20 and inspected and not set(before) & set(inspected)


def test_what_earlier_versions_left_is_removed_but_for_the_faces_that_they_found(small_dictionary):
    cache = small_dictionary.parent / "cache"
    cache.mkdir()
    for what in ("files", "faces"):
        content = {"version": 2, "facts": {digest(b"a"): FACE, digest(b"b"): None} if what == "faces" else {}}
        memory_path(small_dictionary, cache, what).with_suffix(".json").write_text(json.dumps(content))
    opened(small_dictionary)
    digests = [digest(b"a"), digest(b"b")]
    for _ in range(2):
        faces = find_faces(small_dictionary, 2, str, digests.__getitem__, cache, "cpu", 0, search=False)
        assert list(faces) == [FACE, None]
    assert not list(cache.glob("*.json"))


@pytest.mark.parametrize("error", [DissectionError("the disk is full"), Ended("by another one"), None])
def test_faces_of_an_earlier_version_stay_until_they_are_taken_over(small_dictionary, monkeypatch, error):
    cache, key = small_dictionary.parent / "cache", digest(b"a")
    cache.mkdir()
    earlier = memory_path(small_dictionary, cache, "faces").with_suffix(".json")
    earlier.write_text(json.dumps({"version": 2, "facts": {key: FACE}}))

    def write(*_):
        if error:
            raise error  # else it is damaged, and nothing is kept

    def found():
        return list(find_faces(small_dictionary, 1, str, lambda _: key, cache, "cpu", 0, search=False))

    with monkeypatch.context() as failing:
        failing.setattr(Memory, "write", write)
        with pytest.raises((DissectionError, Ended)):
            found()
    assert earlier.exists()
    read = JsonFacts.read
    monkeypatch.setattr(JsonFacts, "read", lambda facts: (read(facts), facts.path.unlink(missing_ok=True))[0])
    assert found() == [FACE] == found() and not earlier.exists()  # whoever of two runs deletes it


def test_faces_of_an_earlier_version_that_cannot_be_read_are_deleted(small_dictionary, caplog):
    caplog.set_level("INFO")
    cache = small_dictionary.parent / "cache"
    cache.mkdir()
    earlier = memory_path(small_dictionary, cache, "faces").with_suffix(".json")
    for content in ("{", json.dumps({"version": 2, "facts": {"no digest": FACE}})):
        earlier.write_text(content)
        assert list(find_faces(small_dictionary, 0, str, str, cache, "cpu", 0)) == [] and not earlier.exists()
    assert "cannot be used" in caplog.text


# --------------------------------------------------------------------------------------------------------- mask cache


@pytest.mark.parametrize("grid", [(8, 8), (5, 13), (1, 1)])
def test_packed_pixels_come_back(grid):
    pixels = np.random.default_rng(1).random((3, *grid)) > 0.5
    assert np.array_equal(unpack(pack(pixels), grid), pixels) and unpack(pack(pixels[:0]), grid).shape == (0, *grid)


@pytest.fixture
def decoded(monkeypatch):
    """The paths of the masks that are decoded, as they are."""
    import dictionary.face_format as room

    paths, load = [], room.load_mask
    monkeypatch.setattr(room, "load_mask", lambda path, *more: paths.append(path.name) or load(path, *more))
    return paths


def masks_of(dictionary, grid=(24, 20)):
    return [dictionary.masks(row, grid) for row in dictionary.usable_rows]


def same(one, other):
    return all(np.array_equal(a, b) for of, to in zip(one, other, strict=True) for a, b in zip(of, to, strict=True))


def test_masks_are_decoded_once_ever(small_dictionary, decoded):
    plain = masks_of(opened(small_dictionary))
    count = len(decoded)
    assert same(masks_of(opened(small_dictionary, mask_cache_mb=1)), plain) and len(decoded) == 2 * count
    again = opened(small_dictionary, mask_cache_mb=1)
    assert same(masks_of(again), plain) and len(decoded) == 2 * count
    elsewhere = opened(shutil.copytree(small_dictionary, small_dictionary.parent / "moved"), mask_cache_mb=1)
    assert same(masks_of(elsewhere), plain) and len(decoded) == 2 * count
    # Whatever else decides them.
    masks_of(again, (20, 24))
    masks_of(opened(small_dictionary, mask_cache_mb=1, seg_threshold=0.4))
    assert len(decoded) == 4 * count


def test_other_processes_of_a_run_keep_what_they_decode(small_dictionary, decoded):
    mine = opened(small_dictionary, mask_cache_mb=1)
    other = pickle.loads(pickle.dumps(mine))
    plain = masks_of(other)
    decoded.clear()
    del other  # as at the end of that process
    assert same(masks_of(mine), plain) and decoded == []


def test_another_mask_is_another_entry(small_dictionary, decoded):
    masks_of(opened(small_dictionary, mask_cache_mb=1))
    decoded.clear()
    path = next(small_dictionary.glob("*/000004/*[!l].png"))
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(path), 255 - mask)
    dictionary = opened(small_dictionary, mask_cache_mb=1)
    plain = masks_of(opened(small_dictionary))
    decoded.clear()
    assert same(masks_of(dictionary), plain)
    assert set(decoded) == {Path(path).name for path in dictionary.rows[4].masks.values()}


def test_a_mask_that_changed_since_it_was_checked_is_not_kept_as_the_old_one(small_dictionary):
    dictionary = opened(small_dictionary, mask_cache_mb=1)
    plain = masks_of(opened(small_dictionary))
    path = next(small_dictionary.glob("*/000004/*[!l].png"))
    content = path.read_bytes()
    cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    assert not same(masks_of(dictionary), plain)
    path.write_bytes(content)
    assert same(masks_of(opened(small_dictionary, mask_cache_mb=1)), plain)


def test_a_changed_byte_of_kept_bits_is_noticed(small_dictionary, decoded):
    dictionary = opened(small_dictionary, mask_cache_mb=1)
    plain = masks_of(dictionary)
    del dictionary
    place = small_dictionary.parent / "cache" / "masks.sqlite"
    connection = sqlite3.connect(place)
    (value,) = connection.execute("SELECT value FROM entries LIMIT 1 OFFSET 5").fetchone()
    connection.close()
    flip(place, value[-12:])
    decoded.clear()
    again = opened(small_dictionary, mask_cache_mb=1)
    assert same(masks_of(again), plain) and 1 <= len(decoded) <= 3


def test_a_run_goes_on_where_masks_cannot_be_kept(small_dictionary, monkeypatch, caplog):
    caplog.set_level("INFO")
    plain = masks_of(opened(small_dictionary))
    (small_dictionary.parent / "cache" / "masks.sqlite").mkdir()
    assert same(masks_of(opened(small_dictionary, mask_cache_mb=1)), plain)
    assert caplog.text.count("decoded masks are not kept: cannot write") == 1
    (small_dictionary.parent / "cache" / "masks.sqlite").rmdir()

    def full(*_):
        raise DissectionError("cannot write: the disk is full")

    caplog.clear()
    dictionary = opened(small_dictionary, mask_cache_mb=1)
    monkeypatch.setattr(Memory, "write", full)
    monkeypatch.setattr("dictionary.mask_cache._WAITING", 2)
    assert same(masks_of(dictionary), plain)
    assert caplog.text.count("decoded masks are not kept: cannot write") == 1


def test_many_threads_share_a_cache(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    cache = MaskCache(tmp_path, 4)
    bits = pack(np.random.default_rng(0).random((300, 2, 9, 9)).reshape(600, 9, 9) > 0.5).reshape(300, 2, -1)

    def both(number):
        cache.keep(b"%d" % number, ["a", "b"], bits[number])
        return cache.read(b"%d" % number, (9, 9))

    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(both, range(300))):
            assert found is None or np.array_equal(found[1], bits[number])
    cache.flush()
    assert all(np.array_equal(cache.read(b"%d" % number, (9, 9))[1], bits[number]) for number in range(300))


def test_a_damaged_cache_is_closed_and_made_anew(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**63, (600, 1, 40)).astype(np.uint64)

    def run():
        """Read all entries, keep those that were not there, as two copies of a dictionary do. Returns what was read."""
        cache, one, other = MaskCache(tmp_path, 4), Faces(0), Faces(0)
        cache.serve(one)
        cache.serve(other)
        del one
        found = [cache.read(key, (40, 64)) for key in KEYS]
        for key, kept, of_row in zip(KEYS, found, bits, strict=True):
            if kept is None:
                cache.keep(key, ["a"], of_row)
        del other
        assert cache.read(KEYS[0], (40, 64)) is None  # closed
        return sum(bool(of) and np.array_equal(of[1], of_row) for of, of_row in zip(found, bits, strict=True))

    assert [run(), run()] == [0, 600]
    garble(tmp_path / "masks.sqlite")
    assert run() < 600 and [run(), run()] == [0, 600]


@pytest.mark.usefixtures("no_pdfs")
def test_a_second_dissection_decodes_no_mask(tmp_path, run_main, decoded):
    made_up_dictionary(tmp_path / "dictionary")
    run_main()
    assert decoded
    before = (tmp_path / "result" / "onet_layer3_tally.npz").read_bytes()
    decoded.clear()
    run_main(OUTPUT_FOLDER=tmp_path / "again")
    assert decoded == []
    assert (tmp_path / "again" / "onet_layer3_tally.npz").read_bytes() == before
    run_main(OUTPUT_FOLDER=tmp_path / "without", MASK_CACHE_MB=0)
    assert decoded
