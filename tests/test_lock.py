"""requirements.lock: every requirement is in it, at a version that they allow, and CI tests those versions."""

import os
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def read(path):
    """The requirements of a file, comments and options left out: list of Requirement."""
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def canonical(name):
    return name.lower().replace("_", "-").replace(".", "-")


LOCKED = {canonical(requirement.name): str(requirement.specifier) for requirement in read(ROOT / "requirements.lock")}


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_every_requirement_is_locked_at_a_version_that_it_allows(path):
    for requirement in read(path):
        locked = LOCKED[canonical(requirement.name)]
        assert locked.startswith("=="), locked
        assert requirement.specifier.contains(locked.removeprefix("==")), (requirement, locked)


@pytest.mark.skipif(not os.environ.get("CI"), reason="only CI installs the locked versions")
def test_ci_runs_the_locked_versions():
    for name, locked in LOCKED.items():
        installed = metadata.version(name).partition("+")[0]  # torch's build stands behind the plus
        assert f"=={installed}" == locked, name
