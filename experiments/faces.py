"""Rendered faces for studies that train networks: of classes that take turns, each face in several versions."""

from dataclasses import dataclass
from functools import partial
from itertools import product

import cv2
import numpy as np

from dictionary.render import renderer_digest
from dictionary.views import WHOLE
from rendering.face import GENDERS, switched
from rendering.random_face import DRAWN_GROUPS, random_face
from rendering.render import render
from store.arrays import load_as, save_arrays
from store.layer import Stage
from util.parallel import mapped

# A stream of random numbers for each kind of faces, apart from those of dictionaries (see dictionary.render).
_STREAMS = {"train": 101, "test": 102}

FACES = Stage("_faces.npz", "rendered faces", ("faces",), version=1)


def eyeglasses(face):
    """The same face without and with eyeglasses. Returns two pictures, uint8 (H, W, 3), RGB."""
    return [render(switched(face, "Eyeglasses", shown))[0] for shown in (False, True)]


def grayscale(face):
    """The picture of a face in colour and in grey. Returns two pictures, uint8 (H, W, 3), RGB."""
    picture, _ = render(face)
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return [picture, grey]


@dataclass(frozen=True)
class Faces:
    """Faces of one seed. train, test: uint8 (N, V, S, S, 3), RGB, each face in V versions.

    train_class, test_class: int64 (N,). order: int64 (N,), of the faces to train on, the place of each among those of
    its class, at random.
    """

    train: np.ndarray
    train_class: np.ndarray
    order: np.ndarray
    test: np.ndarray
    test_class: np.ndarray

    def training_set(self, percentage):
        """Give the second version to a share of the first class, and to as many of the second as lack it there, %.

        A larger share holds the smaller one. Returns uint8 (N, S, S, 3), and bool (N,), who has it.
        """
        has = np.zeros(len(self.order), bool)
        for number, share in enumerate((percentage, 100 - percentage)):
            of = self.train_class == number
            has[of] = self.order[of] < round(of.sum() * share / 100)
        return self.train[np.arange(len(has)), has.astype(int)], has


def one_version(face):
    """The picture of a face, list of one uint8 (H, W, 3), RGB."""
    return [render(face)[0]]


# The classes of studies: what is known of the faces of each. All else is drawn as in dictionaries.
BY_GENDER = tuple({"gender": gender} for gender in GENDERS)
BY_GROUPS = tuple(
    dict(zip(DRAWN_GROUPS, groups, strict=True)) for groups in product(*DRAWN_GROUPS.values())
)  # fmt: skip


def face_of(kind, seed, number, classes=BY_GENDER):
    """A face of a study. kind: 'train' or 'test'. The classes take turns."""
    return random_face(np.random.default_rng([seed, _STREAMS[kind], number]), **classes[number % len(classes)])


def versions_of(item, versions, seed, classes=BY_GENDER, side_px=None):
    """The pictures of a face, on the grid of a network where side_px is given. item: (kind, number)."""
    pictures = versions(face_of(item[0], seed, item[1], classes))
    return pictures if side_px is None else [WHOLE.image(picture, (side_px, side_px)) for picture in pictures]


def faces_of(config, versions, store, seed, classes=BY_GENDER):
    """Have the faces of one seed rendered. versions: function that draws a face. store: LayerStore. Returns Faces."""
    counts = {"train": config.TRAIN_IMAGES, "test": config.TEST_FACES}
    store.facts["faces"] = [
        versions.__name__, len(classes), seed, config.SIDE_PX, counts, renderer_digest(), cv2.__version__
    ]  # fmt: skip
    if not store.is_current(FACES):
        items = [(kind, number) for kind, count in counts.items() for number in range(count)]
        one = partial(versions_of, versions=versions, seed=seed, classes=classes, side_px=config.SIDE_PX)
        workers = config.WORKERS
        drawn = mapped(one, items, workers, f"rendering faces, seed {seed}", ahead=8, processes=workers > 1)
        pictures = np.array([pair for _, pair in drawn])
        of_class = np.array([number % len(classes) for _, number in items])
        train, rest = slice(0, counts["train"]), slice(counts["train"], None)
        order = np.zeros(counts["train"], np.int64)
        for number in range(len(classes)):
            of = np.flatnonzero(of_class[train] == number)
            order[of] = np.random.default_rng([seed, number]).permutation(len(of))
        faces = Faces(pictures[train], of_class[train], order, pictures[rest], of_class[rest])
        store.make(FACES, save_arrays, vars(faces))
    return load_as(Faces, store.path(FACES.suffix))
