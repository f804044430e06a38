"""The faces of a dictionary's photographs: found once by MTCNN, kept in a file (method.md §2)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dictionary.file_memory import memory_path
from dictionary.images import load_rgb
from dictionary.rows import Problem
from dictionary.views import similarity, view_of
from loader.crops import Crop
from util.errors import DissectionError
from util.files import JsonFacts
from util.memory import Memory
from util.parallel import mapped
from util.ranks import ALONE

log = logging.getLogger(__name__)

# Raise when a face would come out differently for the same photograph.
_VERSION = 2
# MTCNN's own default: its first network looks for faces of this size and more.
LEAST_FACE_PX = 20
# What a dictionary may bring along: its faces by the content of the photographs, where they are known anyway.
KNOWN_FACES = "faces.json"
# The most that a template's square may span when it lies over the points of a face, in longer sides of the photograph.
_MOST_SIDE = 4
_SAVE_EVERY = 100  # images between two transactions
_AT_ONCE = 500  # photographs whose faces are looked up at a time


class Face(NamedTuple):
    """The largest face of a photograph, in its pixels.

    box: (left, top, right, bottom), float, perhaps beyond the photograph. points: five (x, y): the eyes, the nose, the
    corners of the mouth, those on the left of the picture first. size: (width, height) of the photograph.
    """

    box: tuple
    points: tuple
    size: tuple


class Faces(Sequence):
    """The faces of n photographs as columns: Face, or None without one; all None at first."""

    def __init__(self, count):
        self._numbers = np.full((count, _NUMBERS), np.nan)

    def __len__(self):
        return len(self._numbers)

    def __getitem__(self, place):
        return _of_numbers(self._numbers[place].tolist())

    def __setitem__(self, place, face):
        self._numbers[place] = np.nan if face is None else _as_numbers(face)

    def set(self, places, faces):
        """Put in faces, Faces of n. places: n of them."""
        self._numbers[places] = faces._numbers

    @classmethod
    def joined(cls, parts):
        """One after the other. parts: list of Faces."""
        joined = cls(0)
        joined._numbers = np.concatenate([part._numbers for part in parts])
        return joined

    def spread(self, places, count):
        """The same among count photographs, at places, int (n,)."""
        spread = Faces(count)
        spread._numbers[places] = self._numbers
        return spread


_NUMBERS = 16  # of a Face


def _as_numbers(face):
    return [*face.box, *(number for point in face.points for number in point), *face.size]


def _packed(face):
    return np.array([np.nan] * _NUMBERS if face is None else _as_numbers(face), "<f8").tobytes()


def _of_numbers(numbers):
    """Face of its numbers, None for the like of [NaN, ...]."""
    if numbers[0] != numbers[0]:
        return None
    points = tuple(zip(numbers[4:14:2], numbers[5:14:2], strict=True))
    return Face(tuple(numbers[:4]), points, (int(numbers[14]), int(numbers[15])))


def find_faces(root, count, image_of, digest_of, memory_folder, device, workers, search=True, ranks=ALONE):
    """The largest face in each of count images: as the dictionary itself knows it, else by MTCNN as it is.

    root: of the dictionary. image_of, digest_of: functions of a place 0..count-1, its path relative to root and the
    digest of its content, hex. memory_folder: where MTCNN's are kept, by the content of the photographs, so that only
    new ones are searched. workers: threads that read ahead. search: False raises DissectionError rather than look for a
    face. ranks: util.ranks.Ranks, of which others know search_faces as "faces". Returns Faces. Raises DissectionError
    for faces of the dictionary that cannot be used.
    """
    root, known, faces = Path(root), known_faces(root), Faces(count)
    with _memory(root, memory_folder) as memory:
        unseen = []
        for start in range(0, count, _AT_ONCE):
            digests = [digest_of(place) for place in range(start, min(start + _AT_ONCE, count))]
            found = memory.read(list({bytes.fromhex(digest) for digest in digests}))
            for place, digest in enumerate(digests, start):
                if digest in known:
                    faces[place] = known[digest]
                elif len(kept := found.get(bytes.fromhex(digest), b"")) == 8 * _NUMBERS:
                    faces[place] = _of_numbers(np.frombuffer(kept, "<f8").tolist())
                else:
                    unseen.append(place)
        if unseen and not search:
            raise DissectionError(
                f"the faces of {len(unseen)} images have not been looked for yet: run with GENERATE=True"
            )
    if unseen:
        images = [(str(image_of(place)), digest_of(place)) for place in unseen]
        ranks.call("faces", root, memory_folder, images)
        faces.set(unseen, search_faces(ranks, root, memory_folder, images, device, workers))
    return faces


def search_faces(ranks, root, memory_folder, images, device, workers):
    """Look for faces, every process in its share of the photographs, and keep them. images: list of (path relative to
    root, digest). Returns Faces of all in the first process, None in others. The rest: see find_faces.
    """
    mine = images[slice(*ranks.share(len(images)))]
    faces, find = Faces(len(mine)), face_finder(device)
    read = mapped(lambda place: load_rgb(root / mine[place][0]), range(len(mine)), workers, "faces")
    with _memory(root, memory_folder) as memory:
        _search(((place, mine[place][1], find(photograph)) for place, photograph in read), faces, memory)
    return Faces.joined(ranks.gathered(faces)) if ranks.first else ranks.gathered(faces)


def _search(found, faces, memory):
    """Keep faces as they are found. found: iterable of (place, digest, Face or None)."""
    new = {}
    try:
        for place, digest, face in found:
            faces[place] = face
            new[bytes.fromhex(digest)] = _packed(face)
            if len(new) == _SAVE_EVERY:
                memory.write(new)
                new.clear()
    finally:
        memory.write(new)


def _memory(root, folder):
    path = memory_path(root, folder, "faces")
    memory, earlier = Memory(path, _VERSION, _OTHERWISE), path.with_suffix(".json")
    if earlier.exists():  # of earlier versions: looking for faces takes too long to do it twice
        faces = _of_earlier(earlier)
        memory.write(faces)
        if len(memory.read(list(faces))) == len(faces):  # it may have turned out to be damaged
            earlier.unlink(missing_ok=True)  # by another run
    return memory


def _of_earlier(path):
    """The entries that a file of an earlier version comes to, none where it cannot be used."""
    try:
        return {bytes.fromhex(digest): _packed(face) for digest, face in _brought(path).read().items()}
    except (DissectionError, ValueError) as error:
        log.info("%s", error)
        return {}


_OTHERWISE = "the faces are looked for anew"


def _brought(path):
    return JsonFacts(path, _VERSION, _face, _OTHERWISE)


def known_faces(folder):
    """The faces that a dictionary brings along: {digest of the photograph's content: Face}, empty without a file.

    Raises DissectionError for a file with anything that is no face.
    """
    return _brought(Path(folder) / KNOWN_FACES).read()


def write_known_faces(folder, faces):
    """Have a dictionary bring its faces along. faces: {digest of the photograph's content: Face}."""
    _brought(folder / KNOWN_FACES).write(faces)


class Views:
    """What a network that crops sees of photographs, made when it is asked for: None without a face.

    faces: Faces. digest_of: function of a place, as of find_faces. crop: loader.crops.Crop. jitter: see views.view_of.
    """

    def __init__(self, faces, digest_of, crop, jitter):
        self._faces, self._digest_of, self._crop, self._jitter = faces, digest_of, crop, jitter

    def __getitem__(self, place):
        face = self._faces[place]
        return face and view_of(face, self._crop, self._jitter, self._digest_of(place))


def find_views(root, digest_of, crop, jitter, **finding):
    """What a network that crops sees of each image. digest_of: {image path relative to root: digest of its content}.

    crop, jitter: see Views. finding: memory_folder and what else find_faces takes. Returns {image path: view}, None
    without a face.
    """
    images, digests = list(digest_of), list(digest_of.values())
    faces = find_faces(root, len(images), images.__getitem__, digests.__getitem__, **finding)
    views = Views(faces, digests.__getitem__, crop, jitter)
    return {image: views[place] for place, image in enumerate(images)}


def crop_to_faces(dictionary, crop, jitter, *, skip_bad, **finding):
    """The same Dictionary through the views of its faces, an image without a face left out as unusable (settle).

    See find_views. Raises DissectionError.
    """
    rows, digest_of = dictionary.usable_rows, dictionary.digests.image
    indices = rows.indices
    faces = find_faces(dictionary.root, len(rows), lambda place: dictionary.rows.image(indices[place]),
                       lambda place: digest_of(indices[place]), **finding)  # fmt: skip
    views = Views(faces.spread(indices, len(dictionary.rows)), digest_of, crop, jitter)
    faceless = (row for row in rows if views[row.index] is None)
    problems = [Problem(row.where, missing_face(row.image), row.index) for row in faceless]
    return dictionary.without(problems, skip_bad, views)


def face_finder(device, **options):
    """MTCNN as a function: image uint8 (H, W, 3), RGB -> the largest Face, None without one.

    options: of facenet_pytorch.MTCNN, whose defaults stand otherwise.
    """
    # Here and not above: most runs look for no face, and it takes seconds to import.
    from facenet_pytorch import MTCNN

    detector = MTCNN(min_face_size=LEAST_FACE_PX, select_largest=True, device=device, **options)

    def find(image):
        if min(image.shape[:2]) < LEAST_FACE_PX:  # MTCNN fails on what is smaller than the smallest face
            return None
        boxes, _, points = detector.detect(image, landmarks=True)
        if boxes is None:
            return None
        try:
            return _face([boxes[0].tolist(), points[0].tolist(), image.shape[1::-1]])  # the largest comes first
        except (ValueError, ArithmeticError):  # points that all but coincide, or in no order of a face
            return None

    return find


def missing_face(image):
    """What is wrong with an image without a face, in words: a task that crops cannot use it."""
    return f"no face was found in {image}, and this task crops faces (CROP=whole takes whole images)"


def _face(value):
    """A Face of the memory, or None for an image without. Raises JsonFacts.NO_FACT for what is neither."""
    if value is None:
        return None
    box, points, (width, height) = value
    face = Face(tuple(map(float, box)), tuple((float(x), float(y)) for x, y in points), (int(width), int(height)))
    (left, top, right, bottom), reach = face.box, max(face.size)
    near = all(
        -reach <= x <= face.size[0] + reach and -reach <= y <= face.size[1] + reach
        for x, y in (*face.points, (left, top), (right, bottom))
    )
    # Written so that NaN is refused as well.
    if not (len(points) == 5 and left < right and top < bottom and min(face.size) > 0 and near and _fit(face)):
        raise ValueError(f"no face of a photograph: {value}")
    return face


def _fit(face):
    """Whether five points lie as those of a face do, in the roughest way: the views of others would be without end."""
    scale, _ = similarity(face.points, Crop("dlib"))
    return abs(scale) < 1 < _MOST_SIDE * max(face.size) * abs(scale)
