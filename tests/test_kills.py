"""The benchmark of kills: it sees every byte that differs, and kills what it says."""

import errno
import json
import sys
import time

import pytest

from benchmarks import kills
from benchmarks.kills import Place, Run, Trial, differences, leftovers, results_of
from report import page
from util.errors import DissectionError

# A program that writes six files and goes on where it was killed. To be killed it waits, where `stop` lies beside its
# folder and it did not begin before; as `wrong` says, it goes on otherwise than it should.
STEPS = """
import os, sys, time
folder, wrong = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
if os.path.exists(f"{folder}/.lock") and wrong == "refuses":
    sys.exit("error: it was killed")
open(f"{folder}/.lock", "w").close()
resumed = os.path.exists(f"{folder}/0.npy")
for step in range(6):
    if not os.path.exists(f"{folder}/{step}.npy"):
        with open(f"{folder}/{step}.npy.new", "w") as file:
            file.write(str(step) + "x" * (resumed and wrong == "differs"))
        os.replace(f"{folder}/{step}.npy.new", f"{folder}/{step}.npy")
    if step == 3 and not resumed and os.path.exists(f"{folder}/../../stop"):
        time.sleep(60)
if wrong != "litters":
    os.unlink(f"{folder}/.lock")
"""


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """A function that makes a Trial of the program above. wrong: how it is."""

    def make(wrong="nothing"):
        monkeypatch.setattr(kills, "make_dictionary", lambda *_, **__: None)
        monkeypatch.setattr(Place, "command", lambda self, _=1: [sys.executable, "-c", STEPS, str(self.result), wrong])
        monkeypatch.setattr(Place, "started", lambda self: (self.result / "0.npy").exists())
        made = Trial(tmp_path, seed=0)
        assert not made.undisturbed(1).wrong
        (tmp_path / "stop").touch()
        return made

    return make


def test_a_program_that_goes_on_as_it_should_ends_the_same(trial):
    of = trial()
    outcomes = [of.killed(1) for _ in range(3)]
    assert {(outcome.what, outcome.wrong, outcome.left) for outcome in outcomes} == {("itself", "", ())}


@pytest.mark.parametrize(
    ("wrong", "said"), [("differs", "not the same: "), ("refuses", "the same command ended with 1: error: it was")]
)
def test_one_that_does_not_is_found_out(trial, wrong, said):
    outcome = trial(wrong).killed(1)
    assert outcome.what.startswith("itself") and outcome.wrong.startswith(said)
    assert f"WRONG, title, {outcome.what}: {said}" in "\n".join(kills.summary("title", [outcome]))


def test_what_is_left_over_is_listed(trial):
    outcome = trial("litters").killed(1)
    assert outcome.left == ("result/.lock",) and not outcome.wrong
    assert kills.summary("title", [outcome]) == ["| title | 1 | 1 | itself 1 | result/.lock |"]


def test_kills_that_came_too_late_are_judged_and_not_counted(trial, tmp_path):
    of = trial()
    (tmp_path / "stop").unlink()  # now it has ended before any moment that was drawn
    of.last[1] += 60
    late = of.killed(1)
    assert late.late and not late.wrong
    outcomes = [kills.Outcome("itself"), late, kills.Outcome("itself", "not the same: a"), late]
    assert kills.summary("title", outcomes)[0] == "| title | 2 | 1 | itself 2, too late 2 | nothing |"
    worse = kills.Outcome(late.what, "not the same: a", ("b",))
    assert kills.summary("title", [worse]) == [
        "| title | 0 | 0 | too late 1 | b |", f"  WRONG, title, {late.what}: not the same: a"
    ]  # fmt: skip
    ends = iter([late, kills.Outcome("itself"), late, kills.Outcome("itself"), late])
    assert [outcome.late for outcome in kills.repeated("title", lambda: next(ends), 2)[1]] == [True, False, True, False]


def test_the_same_seed_draws_the_same_moments(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "make_dictionary", lambda *_, **__: None)
    one, same, other = (Trial(tmp_path, seed).random.random(5).tolist() for seed in (3, 3, 4))
    assert one == same != other


def test_every_byte_counts_but_for_the_time(tmp_path):
    one, other = (tmp_path / name for name in ("one", "other"))
    for folder, day, digest in ((one, b"1", "a"), (other, b"2", "b")):
        folder.mkdir()
        (folder / "x_conv.pdf").write_bytes(b"%PDF /CreationDate (D:" + day + b") page")
        made = {"mtime_ns": int(day), "digest": digest}
        entries = {"_conv.pdf": made, ".mmap": {**made, "digest": "c"}}
        (folder / "x_manifest.json").write_text(json.dumps({"files": entries}))
        (folder / "x_settings.json").write_text(json.dumps({"OUTPUT_FOLDER": str(folder), "SEED": 0}))
        (folder / "x.mmap").write_bytes(b"maps")
        (folder / ".x.partial").write_bytes(day)
    assert len(results_of(one)) == 4 and results_of(one) == results_of(other)
    assert leftovers(one) == [".x.partial"]
    for name, content in (
        ("x.mmap", b"mapz"), ("x_conv.pdf", b"%PDF /CreationDate (D:2) pag"), ("x_settings.json", b'{"SEED": 1}'),
        ("x_manifest.json", json.dumps({"files": {**entries, ".mmap": {"digest": "d"}}}).encode()),
    ):  # fmt: skip
        before = (other / name).read_bytes()
        (other / name).write_bytes(content)
        assert differences(results_of(other), results_of(one)) == [name]
        (other / name).write_bytes(before)
    (other / "new.csv").touch()
    assert differences(results_of(other), results_of(one)) == ["new.csv"]


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
sys.exit(child.wait() and 1)
"""


def test_killing_one_process_of_a_family_ends_the_run_and_is_told_from_killing_all(monkeypatch):
    for which in (1, 0):
        run = Run([sys.executable, "-c", PARENT])
        deadline = time.monotonic() + 20
        while len(of := kills.family(run.process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(of) == 2 and all(map(kills.is_alive, of))
        kills.kill(of[which])
        if which == 0:  # its child lives on, which must be said and ended
            monkeypatch.setattr(kills, "_PATIENCE", 0.2)
        code, _ = run.ended(of)
        assert code == (1 if which else None)
        assert not any(map(kills.is_alive, of))


def test_a_disk_that_is_full_when_the_page_is_written_is_said(small_dictionary, run_main, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(page, "write_page", full)
    with pytest.raises(DissectionError, match=r"onet_layer3.html.*: the disk is full"):
        run_main(TWINS=0, PERMUTATIONS=0, BOOTSTRAPS=0)
