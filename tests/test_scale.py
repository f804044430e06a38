"""The benchmark of scale: its dictionaries are sound, its clock counts, and what is not reached is said."""

from types import SimpleNamespace

import pytest

from benchmarks import linked_dictionary, scale, timed_main
from benchmarks.linked_dictionary import make_linked, numbered
from benchmarks.scale import Measured, misses
from dictionary.dictionary import open_dictionary
from dictionary.images import decode_mask, decode_rgb
from tests.conftest import made_up_dictionary


@pytest.fixture
def source(tmp_path):
    return made_up_dictionary(tmp_path / "source")


def opened(root, tmp_path):
    return open_dictionary(root, memory_folder=tmp_path / "cache", workers=0)


@pytest.mark.parametrize("distinct", [False, True])
def test_a_linked_dictionary_is_sound_and_has_few_files(source, tmp_path, monkeypatch, distinct):
    monkeypatch.setattr(linked_dictionary, "_MOST_LINKS", 5)
    make_linked(tmp_path / "linked", 100, source, 32, distinct)
    dictionary = opened(tmp_path / "linked", tmp_path)
    assert len(dictionary.usable_rows) == 100 and not any(problem.fatal for problem in dictionary.problems)
    assert [row.source for row in dictionary.rows] == [0] * 40 + [1] * 40 + [2] * 20
    assert {len(row.masks) for row in dictionary.rows} == {1, 2}
    files = [path for path in (tmp_path / "linked").rglob("*.*g") if path.is_file()]
    assert max(path.stat().st_nlink for path in files) == (1 if distinct else 5)
    digests = [dictionary.digest_of(row) if hasattr(dictionary, "digest_of") else dictionary.digests[row.image]
               for row in dictionary.rows]  # fmt: skip
    assert len(set(digests)) == (100 if distinct else 12)


def test_a_numbered_file_shows_the_same_and_is_another(source):
    image = source / "Attributes" / "000000" / "original.png"
    for path, decode in ((image, decode_rgb), (next(source.rglob("nose.png")), decode_mask)):
        content = path.read_bytes()
        assert len({content, numbered(content, 1), numbered(content, 22)}) == 3
        assert (decode(numbered(content, 22), "it") == decode(content, "it")).all()


def test_the_clock_adds_up_calls_and_lets_errors_through(monkeypatch):
    def stage(fails):
        if fails:
            raise ValueError("as it was")
        return 7

    monkeypatch.setattr(scale, "size_of", stage)
    spent = {}
    timed_main.attached([("benchmarks.scale", "size_of"), ("benchmarks.scale", "no_longer_there")], spent)
    assert scale.size_of(False) == 7
    with pytest.raises(ValueError, match="as it was"):
        scale.size_of(True)
    assert list(spent) == ["size_of"] and all(found > 0 for found in spent["size_of"])


def test_a_class_has_a_clock_too(monkeypatch):
    from dictionary.face_format import FaceFormat

    monkeypatch.setattr(FaceFormat, "read_index", lambda self: 3)
    spent = {}
    timed_main.attached([("dictionary.face_format.FaceFormat", "read_index")], spent)
    assert FaceFormat.read_index(None) == 3 and list(spent) == ["read_index"]


def measured(rows, cores, peak=100, maps="float32", index=1.0, check=1.0):
    first = {"tally": [99.9, cores, peak], "read_index": [index, 1, peak], "of no stage": [1, 1e9, peak]}
    return Measured(rows, maps, 5.0, first, 3.0, {"open_dictionary": [check, 1, 9]}, (1, 2, 3))


def test_what_is_not_reached_is_said():
    assert not list(misses([measured(1000, 2.0), measured(10000, 10.9)]))
    grown = list(misses([measured(1000, 1.0), measured(10000, 9.0), measured(100000, 110.0)]))
    assert grown == ["float32: seconds of the cores per image grow by 22% between sizes"]
    over = [measured(1000, 1, peak=4000, index=21, check=61)]
    assert [text.removeprefix("1,000 rows, float32: ") for text in misses(over)] == [
        "peak is 4,000, above 3,072", "index is 21, above 20", "check is 61, above 60"
    ]  # fmt: skip
    assert not list(misses([measured(1000, 1.0), measured(10000, 90.0, maps="float16")]))


def test_one_size_from_end_to_end(source, tmp_path):
    options = SimpleNamespace(side=32, distinct=0, words="TWINS=0 PERMUTATIONS=0", processes=1, profile=0)
    (one,) = scale.measure(options, tmp_path, source, 30, ["float16"])
    assert one.disk[0] == pytest.approx(30 * 16 * 4 * 4 * 2 / 1e6)
    assert {"extract", "tally", "chance", "write_reports", "read_index", "open_dictionary"} <= one.first.keys()
    assert all(wall > 0 and peak > 50 for wall, _, peak in one.first.values())
    assert one.second["extract"][0] < one.first["extract"][0] and one.seconds > sum(
        one.first[name][0] for _, name in timed_main.STAGES
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    text = "\n".join(scale.tables([one]))
    assert "| 30 | float16 |" in text and "| extract | " in text
