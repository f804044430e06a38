"""The 68 landmarks of each face: reading them from a table, or finding them (method.md §1.4).

Landmarks are in pixels of the image as a viewer shows it, whole numbers at pixel centres; which number is which part
of the face stands in rendering/landmarks.py.
"""

import csv
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dictionary.faces import face_finder
from dictionary.tables import Table
from rendering.landmarks import LANDMARKS, LEFT_EYE, MOUTH, RIGHT_EYE, face_size_px
from util.errors import DissectionError, first_few
from util.files import replacing

BOX_COLUMNS = ("left", "top", "right", "bottom")
POINT_COLUMNS = tuple(f"{axis}{number}" for number in range(LANDMARKS) for axis in "xy")

# What --detect needs: module -> the file that lists its package.
DETECTION_MODULES = {
    "torch": "requirements.txt",
    "facenet_pytorch": "requirements.txt",
    "dlib": "requirements-detect.txt",
    "face_recognition_models": "requirements-detect.txt",
}


@dataclass(frozen=True)
class Face:
    """A face that was found. box: (left, top, right, bottom), int px; landmarks: float64 (68, 2), (x, y) px."""

    box: tuple
    landmarks: np.ndarray


def read_landmarks(path):
    """Read the landmarks of many images. path: CSV, columns image, x0, y0 .. x67, y67; others are not read.

    Returns ({image: float64 (68, 2)}, {image: line of the table}). Raises DissectionError with the first problems.
    """
    table = Table(path)
    missing = [column for column in POINT_COLUMNS if column not in table.columns]
    if missing:
        raise DissectionError(f"{path}: missing column {first_few(missing)}; 68 landmarks need x0,y0 to x67,y67")
    more = [column for column in table.columns if re.fullmatch(r"[xy]\d+", column) and column not in POINT_COLUMNS]
    if more:
        last = max(int(column[1:]) for column in more)
        raise DissectionError(f"{path} has points up to x{last},y{last}: {last + 1} landmarks, not the 68 of iBUG")
    landmarks, lines = {}, {}
    for line, image, values in table.rows():
        numbers = np.array([_number(values[column]) for column in POINT_COLUMNS])
        if not np.isfinite(numbers).all():
            column = POINT_COLUMNS[int(np.argmin(np.isfinite(numbers)))]
            table.problems.append(f"line {line}, column {column}: {values[column]!r} is not a number")
        landmarks[image], lines[image] = numbers.reshape(LANDMARKS, 2), line
    return landmarks, lines


def _number(text):
    try:
        return float(text)
    except ValueError:
        return np.nan


# How far a point may be on the wrong side of another, as a share of the face's size: faces are drawn crooked, too.
_SLACK = 0.15
_LEAST_FACE_PX = 6
# How far outside the image a landmark may lie, as a share of the image's size. A face at the edge has some landmarks
# outside; further out they belong to another image, or to another size of this one.
_MARGIN = 0.5


def doubt_landmarks(points, width, height):
    """What shows that points are not the 68 iBUG landmarks of a face in pixels, in words, or None.

    points: float64 (68, 2), (x, y). width, height: of the image, pixels. Everything is judged along the face's own
    axes, however it is turned in the picture.
    """
    if points.min() >= -1 and points.max() <= 2 and min(width, height) > 20:
        return "lies within 0..2: these look like shares of the picture, not pixels"
    image = np.array((width, height))
    far = ((points < -_MARGIN * image) | (points > (1 + _MARGIN) * image)).any(axis=1)
    inside = ((points >= 0) & (points <= image)).all(axis=1)
    if far.any() or inside.mean() < 0.5:
        number = int(far.argmax() if far.any() else inside.argmin())
        x, y = points[number]
        where = f"landmark {number} at ({x:g}, {y:g}) is far outside the image of {width}x{height}"
        return f"{where}, and {68 - inside.sum()} of 68 points are not within it"
    size = face_size_px(points)
    if size < _LEAST_FACE_PX:
        return f"gives a face of {size:.1f} px from eyes to mouth: too small for pixels of this image"
    left_eye, right_eye, mouth = (points[part].mean(axis=0) for part in (LEFT_EYE, RIGHT_EYE, MOUTH))
    down = mouth - (left_eye + right_eye) / 2
    down /= np.linalg.norm(down)
    across = np.array((down[1], -down[0]))  # to the right of the picture for an upright face
    if (right_eye - left_eye) @ across < -_SLACK * size:
        mirrored = "left and right are exchanged, or y stands before x"
        return f"has the left eye (points 36-41) right of the right one (42-47): {mirrored}"
    levels = {
        "brows (17-26)": points[17:27], "eyes (36-47)": points[36:48], "nostrils (31-35)": points[31:36],
        "mouth (48-67)": points[48:68], "chin (8)": points[8:9],
    }  # fmt: skip
    disorder = "these are not the 68 iBUG points in their order"
    depths = [(name, float((part.mean(axis=0) @ down) / size)) for name, part in levels.items()]
    for (upper, above), (lower, below) in zip(depths, depths[1:], strict=False):
        if above > below + _SLACK:
            return f"has the {upper} below the {lower}: {disorder}"
    if (points[16] - points[0]) @ across < 0.3 * size:
        return f"has an outline (0-16) that does not run from ear to ear: {disorder}"
    return None


def write_landmarks(path, faces):
    """Write landmarks in the format that read_landmarks reads. faces: {image: Face}. Raises DissectionError."""
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", *BOX_COLUMNS, *POINT_COLUMNS))
        for image, face in sorted(faces.items()):
            writer.writerow((image, *face.box, *(f"{number:.10g}" for number in face.landmarks.ravel())))


class FaceLandmarkDetector:
    """MTCNN for the box of the largest face, and dlib's 68-point predictor within it."""

    def __init__(self):
        """Load both networks. Raises DissectionError when the packages they come in are not installed."""
        missing = [name for name in DETECTION_MODULES if importlib.util.find_spec(name) is None]
        if missing:
            files = sorted({DETECTION_MODULES[name] for name in missing})
            commands = " and ".join(f"pip install -r {file}" for file in files)
            raise DissectionError(f"--detect needs {' and '.join(missing)}, not installed here: run {commands}")
        # Here and not above: only --detect needs them, and they take seconds to import.
        import dlib

        self._dlib = dlib
        self._find_face = face_finder("cpu")
        # The package is only a home for the file; importing it would ask for pkg_resources, which Python has dropped.
        package = Path(importlib.util.find_spec("face_recognition_models").origin).parent
        predictor = package / "models" / "shape_predictor_68_face_landmarks.dat"
        if not predictor.is_file():
            raise DissectionError(f"{predictor} is missing: run pip install --force-reinstall face_recognition_models")
        self._predict = dlib.shape_predictor(str(predictor))

    def detect(self, image):
        """Find the landmarks of the largest face. image: uint8 (H, W, 3), RGB. Returns Face, or None without a face."""
        found = self._find_face(image)
        if found is None:
            return None
        box = tuple(int(round(float(edge))) for edge in found.box)
        shape = self._predict(np.ascontiguousarray(image), self._dlib.rectangle(*box))
        return Face(box, np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64))
