"""The files that a run leaves, and the proof of what made each of them.

The artifacts of one dissected layer are `<layer><suffix>` in one folder. Beside them lies `<layer>_manifest.json`,
which says for each artifact what it was made from, its size and (for all but the memory map) the digest of its content.
An artifact counts only while the manifest's entry matches what the present settings would make it from; the entry is
struck out before its file is replaced, so that at no moment an old entry can vouch for a new file, or the reverse.
"""

import hashlib
import json
import logging
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from util.errors import DissectionError
from util.files import explained, replace_text, replacing

log = logging.getLogger(__name__)

FEATURES = ".mmap"
FEATURE_SIZE = "_feature_size.npy"
QUANTILE = "_quantile.npy"
TALLY = "_tally.npz"
REPORT = "_conv.pdf"
UNITS = "_units.csv"
IOU_MATRIX = "_iou.csv"
SETTINGS = "_settings.json"
MANIFEST = "_manifest.json"

# Larger artifacts (the memory map) are recognised by their size alone: reading them again would cost a stage's time.
_DIGEST_LIMIT_BYTES = 1 << 28


def fingerprint(made_from):
    """Hex sha256 of what makes an artifact. made_from: dict of JSON values; key order does not matter."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def as_stored(value):
    """A JSON value as it comes back from a file: tuples become lists, so that the two can be compared."""
    return json.loads(json.dumps(value))


class LayerArtifacts:
    """The artifacts of one layer. folder: where they lie; layer: `{TASK}_{LAYER_NAME}`, the start of their names."""

    def __init__(self, folder, layer):
        self.folder = Path(folder)
        self.layer = layer

    def path(self, suffix):
        return self.folder / f"{self.layer}{suffix}"

    def is_current(self, suffix, made_from):
        """Whether the artifact is complete and was made from exactly this. A reason why not is logged."""
        entry = self._manifest().get(suffix)
        path, made_from = self.path(suffix), as_stored(made_from)
        if entry is None:
            return False
        if entry["made_from"] != made_from:
            changed = sorted(
                key for key in {*entry["made_from"], *made_from} if entry["made_from"].get(key) != made_from.get(key)
            )
            log.info("%s: made anew, since this changed: %s", path.name, ", ".join(changed).replace("_", " "))
            return False
        if not path.exists():
            log.info("%s: made anew, since the file is gone", path.name)
            return False
        if [path.stat().st_size, _digest(path)] != [entry["bytes"], entry["sha256"]]:
            log.info("%s: made anew, since the file was changed after it was made", path.name)
            return False
        return True

    @contextmanager
    def writing(self, suffix, made_from):
        """Make an artifact: yields the path to write to, which takes its name and its entry when the block ends.

        Raises DissectionError when the folder cannot be written or the disk is full.
        """
        self.forget(suffix)
        with replacing(self.path(suffix)) as partial:
            yield partial
        self.record(suffix, made_from)

    def record(self, suffix, made_from):
        """Enter a complete artifact in the manifest."""
        path = self.path(suffix)
        entry = {"made_from": made_from, "bytes": path.stat().st_size, "sha256": _digest(path)}
        self._write_manifest({**self._manifest(), suffix: entry})

    def forget(self, suffix):
        """Strike an artifact out of the manifest; the file itself stays."""
        manifest = self._manifest()
        if manifest.pop(suffix, None) is not None:
            self._write_manifest(manifest)

    def remove(self, suffix):
        """Delete an artifact."""
        self.forget(suffix)
        with explained(self.path(suffix)):
            self.path(suffix).unlink(missing_ok=True)

    def made_from(self, suffix):
        """What a complete artifact was made from (dict). Raises DissectionError when there is none."""
        entry = self._manifest().get(suffix)
        if entry is None or not self.path(suffix).exists():
            raise DissectionError(f"{self.path(suffix)} has not been made yet")
        return entry["made_from"]

    @contextmanager
    def locked(self):
        """Keep other runs off this layer while the block lasts; a killed run frees the lock by ending."""
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f".{self.layer}.lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise DissectionError(
                    f"another run is working on {self.path('')}: wait for it, or give this one another OUTPUT_FOLDER"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def _manifest(self):
        try:
            manifest = json.loads(self.path(MANIFEST).read_text(encoding="utf-8"))
            return {
                suffix: entry for suffix, entry in manifest.items() if {"made_from", "bytes", "sha256"} <= set(entry)
            }
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError):
            log.info("%s is damaged: nothing is taken from it", self.path(MANIFEST))
            return {}

    def _write_manifest(self, manifest):
        replace_text(self.path(MANIFEST), json.dumps(manifest, indent=1))


def _digest(path):
    if path.stat().st_size > _DIGEST_LIMIT_BYTES or path.suffix == FEATURES:
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_npz(path):
    """Read an .npz artifact. Returns dict of arrays; nothing in it is unpickled. Raises DissectionError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DissectionError(f"cannot read {path}: {error}") from error
