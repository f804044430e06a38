"""What several tests share: small made-up dictionaries, and running main.py in this process."""

import csv
import os
import sys
from dataclasses import replace
from pathlib import Path

# Tests run in several processes, which must not each take every core; before numpy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest

from dictionary.concepts import REGIONS
from dictionary.face_format import INDEX_FILES
from loader.models import load_model

# Of what is chance as little as shows that it is there; tests of it ask for more.
LITTLE_CHANCE = {"PERMUTATIONS": 20, "BOOTSTRAPS": 5, "TWINS": 1}

LITTLE_WORDS = [f"{name}={value}" for name, value in LITTLE_CHANCE.items()]

LENET = """
from torch import nn
from loader.models import ModelSpec


class LeNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(16 * 5 * 5, num_classes)

    def forward(self, x):
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        return self.fc(x.flatten(1))


MODEL = ModelSpec(
    network="LeNet", build=LeNet, layers={"first": "conv1"}, side_px=32, checkpoint="lenet.pth", source="a friend",
    options=("num_classes",),
)
"""


class DictionaryMaker:
    """Writes a small dictionary in the published layout, row by row.

    add(index_file, image, masks): image uint8 (H, W, 3) RGB, masks {concept: bool or uint8 (H, W)}.
    """

    def __init__(self, root):
        self.root = Path(root)
        self.lines = {}

    def add(self, image, masks, index_file=INDEX_FILES[0]):
        folder = self.root / Path(index_file).stem
        name = f"{sum(len(lines) for lines in self.lines.values()):06d}"
        (folder / name).mkdir(parents=True)
        prefix = f"{folder.name}/{name}"
        cv2.imwrite(str(folder / name / "original.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        for concept, mask in masks.items():
            cv2.imwrite(str(folder / name / f"{concept}.png"), np.uint8(mask) * (255 if mask.dtype == bool else 1))
        labels = ";".join(f"{prefix}/{concept}.png" for concept in masks)
        self.lines.setdefault(index_file, []).append((f"{prefix}/original.png", labels))
        return self

    def write(self):
        """Write the index. Returns the root."""
        self.root.mkdir(exist_ok=True)
        for index_file, lines in self.lines.items():
            with open(self.root / index_file, "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("image", "labels"), *lines])
        return self.root


@pytest.fixture
def checkpoints_go_at_once(tmp_path):
    """pytest keeps the folders of its last three runs, and whole networks would fill the disk."""
    yield
    for path in tmp_path.rglob("*.pt*"):
        path.unlink()


@pytest.fixture
def lenet(tmp_path):
    """A folder with the loader file of a user's LeNet. Calling it loads that task; other tasks by their name."""
    (tmp_path / "model_loader_lenet.py").write_text(LENET)

    def load(layers=("first",), task="lenet", **settings):
        return load_model(task, list(layers), loader_folder=tmp_path, model_folder=tmp_path, **settings)

    load.folder = tmp_path
    return load


@pytest.fixture
def dictionary_maker(tmp_path):
    return DictionaryMaker(tmp_path / "dictionary")


def made_up_dictionary(root, images=12, seed=0):
    """A dictionary of smooth random pictures of several sizes, with one to three rectangular masks each."""
    random = np.random.default_rng(seed)
    maker = DictionaryMaker(root)
    concepts = ("AU_1", "AU_12", "nose", "left_eye", "mouth", "Smiling")
    for number in range(images):
        height, width = 60 + number % 3 * 7, 50 + number % 2 * 5
        image = cv2.resize(random.integers(0, 256, (6, 5, 3), np.uint8), (width, height))
        masks = {}
        for concept in random.choice(concepts, 1 + number % 3, replace=False):
            top, left = random.integers(5, 35), random.integers(5, 30)
            masks[str(concept)] = np.zeros((height, width), bool)
            masks[str(concept)][top : top + 12, left : left + 15] = True
        maker.add(image, masks, INDEX_FILES[number * 3 // images])
    return maker.write()


def spoil(dictionary, pictures):
    """Cut some pictures of a made-up dictionary. pictures: their numbers."""
    for number in pictures:
        (picture,) = dictionary.glob(f"*/{number:06d}/original.png")
        picture.write_bytes(picture.read_bytes()[:50])


@pytest.fixture
def small_dictionary(tmp_path):
    return made_up_dictionary(tmp_path / "dictionary")


@pytest.fixture
def run_main(tmp_path, monkeypatch):
    """A function that runs main.py's main() with settings, on O-Net at 48 px unless they say otherwise."""
    import main

    def run(**words):
        defaults = {
            "TASK": "onet", "LAYER_NAME": "layer3", "INPUT_SIZE": 48, "DICTIONARY": tmp_path / "dictionary",
            "OUTPUT_FOLDER": tmp_path / "result", "CACHE_FOLDER": tmp_path / "cache",
            "MODEL_FOLDER": tmp_path / "model", **LITTLE_CHANCE,
        }  # fmt: skip
        monkeypatch.setattr(
            sys, "argv", ["main.py", *(f"{key}={value}" for key, value in {**defaults, **words}.items())]
        )
        main.main()
        return tmp_path / "result"

    return run


def without_pdfs(reports):
    """REPORTS with a line in place of each PDF. To draw them is most of what a run on a small dictionary does."""
    return tuple(
        replace(stage, make=lambda path, _: path.write_text("not drawn")) if stage.suffix.endswith(".pdf") else stage
        for stage in reports
    )


@pytest.fixture
def no_pdfs(monkeypatch):
    """main.py draws no PDFs: for tests of which files are made when, and of numbers."""
    import main

    monkeypatch.setattr(main, "REPORTS", without_pdfs(main.REPORTS))


def shared(name):
    """An optional data folder beside the checkout; tests that need it are skipped without."""
    folder = Path(__file__).resolve().parents[2] / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"the data folder ../shared/{name} is not there")
    return folder


@pytest.fixture
def congress():
    """Real photographs with landmarks and labels."""
    return shared("congress")


@pytest.fixture
def cases():
    """Inputs that users brought."""
    return shared("cases")


def region_of(concept):
    """The face region of one of the 38 local concepts."""
    return next(region for region, concepts in REGIONS.items() if concept in concepts)
