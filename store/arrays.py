"""Arrays on disk, `.npz` and `.npy`: written and read back here alone; nothing in them is ever unpickled."""

import zipfile
import zlib
from dataclasses import MISSING, fields

import numpy as np

from util.errors import DissectionError


def save_arrays(path, arrays):
    """Write a file of exactly this name: .npy of an array, .npz of {name: array}."""
    with open(path, "wb") as file:
        if isinstance(arrays, dict):
            np.savez(file, **arrays)
        else:
            np.save(file, arrays)


def load_arrays(path):
    """Read what save_arrays wrote. Returns an array or a dict of arrays. Raises DissectionError."""
    try:
        with open(path, "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            return arrays if isinstance(arrays, np.ndarray) else dict(arrays)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DissectionError(f"cannot read {path}: {error}") from error


def load_as(kind, path):
    """Read an .npz file as an object of a dataclass whose fields are its arrays. Raises DissectionError."""
    arrays = load_arrays(path)
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]
    missing = set(needed) - set(arrays)
    if missing:
        raise DissectionError(f"{path} lacks {', '.join(sorted(missing))}: it is not a {kind.__name__} of this program")
    return kind(**{field.name: arrays[field.name] for field in fields(kind) if field.name in arrays})
