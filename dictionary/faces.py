"""The faces of a dictionary's photographs: found once by MTCNN, kept in a file (method.md §2)."""

from pathlib import Path
from typing import NamedTuple

from dictionary.file_memory import memory_path
from dictionary.images import load_rgb
from dictionary.rows import Problem
from dictionary.views import similarity, view_of
from loader.crops import Crop
from util.errors import DissectionError
from util.files import JsonMemory
from util.parallel import mapped

# Raise when a face would come out differently for the same photograph.
_VERSION = 2
# MTCNN's own default: its first network looks for faces of this size and more.
LEAST_FACE_PX = 20
# What a dictionary may bring along: its faces by the content of the photographs, where they are known anyway.
KNOWN_FACES = "faces.json"
# The most that a template's square may span when it lies over the points of a face, in longer sides of the photograph.
_MOST_SIDE = 4
_SAVE_EVERY = 500  # images between two savings of the file


class Face(NamedTuple):
    """The largest face of a photograph, in its pixels.

    box: (left, top, right, bottom), float, perhaps beyond the photograph. points: five (x, y): the eyes, the nose, the
    corners of the mouth, those on the left of the picture first. size: (width, height) of the photograph.
    """

    box: tuple
    points: tuple
    size: tuple


def find_faces(root, digest_of, memory_folder, device, workers, search=True):
    """The largest face in each image: as the dictionary itself knows it, else by MTCNN with its default settings.

    root: of the dictionary. digest_of: {image path relative to root: digest of its content}.
    memory_folder: where MTCNN's are kept, by the content of the photographs, so that only new ones are searched.
    workers: threads that read ahead. search: False raises DissectionError rather than look for a face.
    Returns {image path: Face}; None for an image in which no face was found. Raises DissectionError for faces of the
    dictionary that cannot be used.
    """
    root, known = Path(root), known_faces(root)
    memory = _memory(memory_path(root, memory_folder, "faces"))
    found = memory.read()
    unseen = [image for image, digest in digest_of.items() if digest not in known and digest not in found]
    if unseen and not search:
        raise DissectionError(f"the faces of {len(unseen)} images have not been looked for yet: run with GENERATE=True")
    if unseen:
        find = face_finder(device)
        try:
            read = mapped(lambda image: load_rgb(root / image), unseen, workers, "faces")
            for count, (image, photograph) in enumerate(read, 1):
                found[digest_of[image]] = find(photograph)
                if count % _SAVE_EVERY == 0:
                    memory.write(found)
        finally:
            memory.write(found)
    found |= known
    return {image: found[digest] for image, digest in digest_of.items()}


def _memory(path):
    return JsonMemory(path, _VERSION, _face, "the faces are looked for anew")


def known_faces(folder):
    """The faces that a dictionary brings along: {digest of the photograph's content: Face}, empty without a file.

    Raises DissectionError for a file with anything that is no face.
    """
    return _memory(Path(folder) / KNOWN_FACES).require()


def write_known_faces(folder, faces):
    """Have a dictionary bring its faces along. faces: {digest of the photograph's content: Face}."""
    _memory(folder / KNOWN_FACES).write(faces)


def find_views(root, digest_of, crop, jitter, **finding):
    """What a network that crops sees of each image. crop: loader.crops.Crop. jitter: see views.view_of.

    finding: memory_folder and what else find_faces takes. Returns {image path: view}, None without a face.
    """
    faces = find_faces(root, digest_of, **finding)
    return {image: face and view_of(face, crop, jitter, digest_of[image]) for image, face in faces.items()}


def crop_to_faces(dictionary, crop, jitter, *, skip_bad, **finding):
    """The same Dictionary through the views of its faces, an image without a face left out as unusable (settle).

    See find_views. Raises DissectionError.
    """
    views = find_views(dictionary.root, dictionary.image_digests, crop, jitter, **finding)
    faceless = [row for row in dictionary.usable_rows if views[row.image] is None]
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
    """A Face of the memory, or None for an image without. Raises JsonMemory.NO_FACT for what is neither."""
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
