"""The 68 landmarks of each face: reading them from a table, or finding them (method.md §1.4).

Landmarks are in pixels of the image as a viewer shows it, whole numbers at pixel centres; which number is which part
of the face stands in rendering/landmarks.py.
"""

import csv
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dictionary.faces import face_finder
from dictionary.tables import Table
from rendering.landmarks import LANDMARKS
from util.errors import DissectionError, first_few
from util.files import replace_text

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

    Returns {image: float64 (68, 2)}. Raises DissectionError with the first problems of the table.
    """
    table = Table(path)
    missing = [column for column in POINT_COLUMNS if column not in table.columns]
    if missing:
        raise DissectionError(f"{path}: missing column {first_few(missing)}; 68 landmarks need x0,y0 to x67,y67")
    landmarks = {}
    for row in table.rows():
        numbers = np.array([_number(row.values[column]) for column in POINT_COLUMNS])
        if not np.isfinite(numbers).all():
            column = POINT_COLUMNS[int(np.argmin(np.isfinite(numbers)))]
            table.problems.append(f"line {row.line}, column {column}: {row.values[column]!r} is not a number")
        landmarks[row.image] = numbers.reshape(LANDMARKS, 2)
    table.raise_problems()
    return landmarks


def _number(text):
    try:
        return float(text)
    except ValueError:
        return np.nan


def write_landmarks(path, faces):
    """Write landmarks in the format that read_landmarks reads. faces: {image: Face}. Raises DissectionError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", *BOX_COLUMNS, *POINT_COLUMNS))
    for image, face in sorted(faces.items()):
        writer.writerow((image, *face.box, *(f"{number:.10g}" for number in face.landmarks.ravel())))
    replace_text(path, text.getvalue())


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
        self._find_box = face_finder("cpu")
        # The package is only a home for the file; importing it would ask for pkg_resources, which Python has dropped.
        package = Path(importlib.util.find_spec("face_recognition_models").origin).parent
        predictor = package / "models" / "shape_predictor_68_face_landmarks.dat"
        if not predictor.is_file():
            raise DissectionError(f"{predictor} is missing: run pip install --force-reinstall face_recognition_models")
        self._predict = dlib.shape_predictor(str(predictor))

    def detect(self, image):
        """Find the landmarks of the largest face. image: uint8 (H, W, 3), RGB. Returns Face, or None without a face."""
        found = self._find_box(image)
        if found is None:
            return None
        box = tuple(int(round(float(edge))) for edge in found)
        shape = self._predict(np.ascontiguousarray(image), self._dlib.rectangle(*box))
        return Face(box, np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64))
