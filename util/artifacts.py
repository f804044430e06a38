"""The files that a run leaves, and the proof of what made each of them.

The artifacts of one dissected layer are `<layer><suffix>` in one folder. Beside them lies `<layer>_manifest.json`,
which says for each artifact what it was made from, its size, its time and the digest of its content. An artifact counts
only while the manifest's entry matches the file and what the present settings would make it from; the entry is struck
out before its file is replaced, so that at no moment an old entry can vouch for a new file, or the reverse.
"""

import hashlib
import json
import logging
import zipfile
import zlib
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

    def is_current(self, suffix, made_from, quiet=False):
        """Whether the artifact is complete and was made from exactly this. A reason why not is logged, unless quiet."""
        reason = self._why_not_current(suffix, as_stored(made_from))
        if reason and not quiet:
            log.info("%s: made anew, since %s", self.path(suffix).name, reason)
        return reason is None

    def _why_not_current(self, suffix, made_from):
        """None for a current artifact, an empty text for one that was never made, else what has changed, in words."""
        entry, path = self._manifest().get(suffix), self.path(suffix)
        if entry is None:
            return ""
        if entry["made_from"] != made_from:
            old = entry["made_from"]
            changed = sorted(key for key in {*old, *made_from} if old.get(key) != made_from.get(key))
            return "this changed: " + ", ".join(changed).replace("_", " ")
        if not path.is_file():
            return "the file is gone"
        status = path.stat()
        # A memory map takes minutes to read, so the file's time vouches for its content; where that differs, as after
        # copying, the content decides.
        unchanged = (status.st_size, status.st_mtime_ns) == (entry["bytes"], entry["mtime_ns"])
        if not unchanged and (status.st_size != entry["bytes"] or _digest(path) != entry["sha256"]):
            return "the file was changed after it was made"
        return None

    def content(self, suffix, made_from):
        """Digest of the content of what was last made from exactly this, None when nothing was.

        It is still known after the file was deleted, so that what was made from it still holds.
        """
        entry = self._manifest().get(suffix)
        return entry["sha256"] if entry and entry["made_from"] == as_stored(made_from) else None

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
        status = path.stat()
        entry = {
            "made_from": made_from, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": _digest(path),
        }  # fmt: skip
        self._write_manifest({**self._manifest(), suffix: entry})

    def forget(self, suffix):
        """Strike an artifact out of the manifest; the file itself stays."""
        manifest = self._manifest()
        if manifest.pop(suffix, None) is not None:
            self._write_manifest(manifest)

    def remove(self, suffix):
        """Delete an artifact's file; the manifest remembers what it was."""
        with explained(self.path(suffix)):
            self.path(suffix).unlink(missing_ok=True)

    def made_from(self, suffix):
        """What a complete artifact was made from (dict). Raises DissectionError when there is none."""
        entry = self._manifest().get(suffix)
        if entry is None or not self.path(suffix).is_file():
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
                    f"another run is working on {self.path('')}: wait for it, or give this one a folder of its own"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def _manifest(self):
        path = self.path(MANIFEST)
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            return {suffix: entry for suffix, entry in manifest.items() if _is_entry(entry)}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DissectionError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, AttributeError):
            log.info("%s is damaged: nothing is taken from it", path)
            return {}

    def _write_manifest(self, manifest):
        replace_text(self.path(MANIFEST), json.dumps(manifest, indent=1))


_ENTRY = {"made_from": dict, "bytes": int, "mtime_ns": int, "sha256": str}


def _is_entry(entry):
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in _ENTRY.items())


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_npz(path):
    """Read an .npz artifact. Returns dict of arrays; nothing in it is unpickled. Raises DissectionError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DissectionError(f"cannot read {path}: {error}") from error
