"""Arrays on disk, `.npz` and `.npy`: written and read back here alone; nothing in them is ever unpickled."""

import zipfile
import zlib
from dataclasses import MISSING, fields

import numpy as np

from util.errors import DissectionError


def save_arrays(path, arrays):
    """Write an .npz file of exactly this name. arrays: {name: array}."""
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def load_arrays(path):
    """Read an .npz file. Returns dict of arrays. Raises DissectionError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
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


def save_array(path, array):
    """Write an .npy file of exactly this name."""
    with open(path, "wb") as file:
        np.save(file, array)


def load_array(path):
    """Read an .npy file. Raises DissectionError."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DissectionError(f"cannot read {path}: {error}") from error
