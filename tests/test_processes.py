"""Several processes of one run: the same bytes as one, and one clear line when one of them ends."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch.distributed import TCPStore

from method.tally import BestImages
from store.run import require_same_network
from tests.conftest import LITTLE_WORDS, made_up_dictionary
from tests.test_analyses import add_subgroup
from util.errors import DissectionError
from util.ranks import ENDED, Ranks

ROOT = Path(__file__).resolve().parents[1]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")


def digests(folder):
    """What of a result has no times in it: {name: digest}."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.suffix in (".mmap", ".npy", ".npz", ".csv", ".txt")
    }  # fmt: skip


@pytest.fixture
def words(tmp_path):
    """The words of a little dissection, and a function that gives those of a result folder."""
    dictionary = made_up_dictionary(tmp_path / "dictionary", images=23)

    def of(name):
        return [
            "TASK=onet", "LAYER_NAME=layer3,layer4", "INPUT_SIZE=48", f"DICTIONARY={dictionary}", "BATCH_SIZE=3",
            "TALLY_BATCH_SIZE=2", "TOPN=1", *LITTLE_WORDS, "TWINS=1", f"OUTPUT_FOLDER={tmp_path / name}",
            f"NL_FOLDER={tmp_path / name}", f"PLOT_FOLDER={tmp_path / name}", f"CACHE_FOLDER={tmp_path / 'cache'}",
        ]  # fmt: skip

    return of


def run(command, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def several(commands):
    """Run the processes of one run as torchrun would, by a command each. Returns their (exit code, output) by rank."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # of torchrun, which outlives them
    environment = {
        "WORLD_SIZE": len(commands), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "OMP_NUM_THREADS": 1,
        "TORCHELASTIC_USE_AGENT_STORE": True,
    }  # fmt: skip
    running = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **{name: str(value) for name, value in environment.items()}, "RANK": str(rank)},
        )
        for rank, command in enumerate(commands)
    ]  # fmt: skip
    outputs = [process.communicate()[0] for process in running]
    return [(process.returncode, output) for process, output in zip(running, outputs, strict=True)]


def test_two_processes_give_the_bytes_of_one(words, tmp_path):
    alone = run([sys.executable, "main.py", *words("one")])
    assert alone.returncode == 0, alone.stderr
    both = run([*TORCHRUN, "--nproc-per-node=2", "main.py", *words("two")])
    assert both.returncode == 0, both.stderr
    expected = digests(tmp_path / "one")
    assert {Path(name).suffix for name in expected} >= {".mmap", ".npy", ".npz", ".csv"}
    assert digests(tmp_path / "two") == expected
    assert both.stdout == alone.stdout.replace(str(tmp_path / "one"), str(tmp_path / "two"))  # the first alone speaks
    assert both.stderr.count("thresholds: layer3, layer4") == 2  # of the network, and of its twin


def test_two_processes_find_the_bias_that_one_finds(words, tmp_path):
    random = np.random.default_rng(7)
    for group, count in {"Gender/Male": 4, "Gender/Female": 7}.items():
        add_subgroup(tmp_path / "dictionary" / "non_localizable" / group, count, random)
    alone = run([sys.executable, "nl_bias.py", "TASKS=onet", *words("one")])
    assert alone.returncode == 0, alone.stderr
    assert [code for code, _ in several([[sys.executable, "nl_bias.py", "TASKS=onet", *words("two")]] * 2)] == [0, 0]
    expected = digests(tmp_path / "one")
    assert len([name for name in expected if "model_bias(gender)" in name]) >= 4  # of two layers, and of twins
    assert digests(tmp_path / "two") == expected


def test_a_killed_process_ends_three_and_one_goes_on_from_there(words, tmp_path):
    def commands(*batches):
        return [[sys.executable, "-m", "tests.one_of_several", of, *words("three")] for of in batches]

    (first, said), (second, nothing), (third, _) = several(commands("never", "never", "1"))
    assert (first, second, third) == (2, 2, -9)
    assert said.splitlines()[-1] == f"error: {ENDED}"
    assert nothing == ""
    alone = [sys.executable, "-m", "tests.one_of_several", "never"]
    again = run([*alone, *words("three")])
    assert again.returncode == 0, again.stderr
    assert "of 23 images there" in again.stderr
    assert run([*alone, *words("one")]).returncode == 0
    assert digests(tmp_path / "three") == digests(tmp_path / "one")
    assert not list((tmp_path / "three").glob(".*partial*"))


def test_the_second_process_speaks_where_the_first_was_killed(words):
    command = [sys.executable, "-m", "tests.one_of_several"]
    (first, _), (second, said) = several([[*command, "1", *words("two")], [*command, "never", *words("two")]])
    assert (first, second) == (-9, 2)
    assert said == f"error: {ENDED}\n"


ONE_FAILS = """
from types import SimpleNamespace
from util.errors import DissectionError, run_script
from util.ranks import started
def fail(image): raise DissectionError(f"image {image} is bad")
def main():
    with started() as ranks:
        ranks.agree(SimpleNamespace(type=KINDS[ranks.rank]))
        if ranks.first:
            ranks.call("fail", 7)
            ranks.gathered(None)
        else:
            ranks.follow({"fail": fail})
run_script(main, together=True)
"""


@pytest.mark.parametrize(
    ("kinds", "message"),
    [(("cpu", "cpu"), "image 7 is bad"),
     (("mps", "cpu"), "the processes of this run would compute on different devices (cpu, mps): set DEVICE to one that "
      "all of them have")],
)  # fmt: skip
def test_what_goes_wrong_in_another_process_is_said_by_the_first(kinds, message):
    command = [sys.executable, "-c", f"KINDS = {kinds}\n{ONE_FAILS}"]
    assert several([command] * 2) == [(2, f"error: {message}\n"), (2, "")]


def test_a_script_for_one_process_says_so():
    found = [run([sys.executable, "cluster_top.py"], RANK=rank, WORLD_SIZE="2") for rank in "01"]
    assert [one.returncode for one in found] == [2, 2]
    assert [one.stderr for one in found] == [
        "error: this runs in one process: start it as python cluster_top.py, without torchrun\n", ""
    ]  # fmt: skip


def test_another_network_in_another_process_is_an_error(lenet):
    model, other = (lenet(weights="random", seed=seed) for seed in (4, 5))
    known = {"first": model.provenance("first")}
    require_same_network(model, known)
    with pytest.raises(DissectionError, match="first of lenet is not the same in all processes"):
        require_same_network(other, known)


def test_processes_that_nobody_brings_together_say_so():
    environment = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "", "MASTER_PORT": "x"}
    ended = run([sys.executable, "main.py"], **environment)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: cannot join the others, start the 2 processes of this run")


# ------------------------------------------------------------------------------------------------------- what is merged


class Of(Ranks):
    """One of several processes, of which the others are made up."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_hold_everything_once(count, size):
    shares = [range(*Of(rank, size).share(count)) for rank in range(size)]
    assert [place for share in shares for place in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_best_images_of_parts_are_those_of_all(seed):
    random = np.random.default_rng(seed)
    whole, parts = BestImages(3, 2, kept=4), [BestImages(3, 2, kept=4) for _ in range(3)]
    for image in random.permutation(30):
        pairs = np.flatnonzero(random.random(6) < 0.6)
        scores = random.choice([0.25, 0.5, 0.75], len(pairs))  # with ties
        for best in (whole, parts[image * 3 // 30]):
            best.add(pairs, scores, image)
    for part in parts[1:]:
        parts[0].merge(part)
    carriers = [np.arange(30), np.arange(0, 30, 3)]
    for expected, found in zip(whole.result(carriers), parts[0].result(carriers), strict=True):
        np.testing.assert_array_equal(found, expected)


