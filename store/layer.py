"""The files that a run leaves of one layer, and the proof of what made each of them.

A stage makes `<layer><suffix>` from named inputs. Beside the files lies `<layer>_manifest.json`, which says for each
what it was made from, its size, its time and the digest of its content. A file counts only while its entry matches it
and what the present run would make it from. An input that is another stage's file enters with the digest of that file's
content, so that whatever changes runs through to the end and no further. An entry is struck out before its file is
replaced: at no moment an old entry can vouch for a new file, or the reverse.
"""

import json
import logging
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from loader.tasks import BEHAVIOUR
from util.errors import DissectionError
from util.files import alone, digest, explained, moved_aside, read_json, replace_text, replacing

log = logging.getLogger(__name__)

MANIFEST = "_manifest.json"
_FORMAT = 2  # of the manifest; another one was written by another version of the program

# Of what a unit computes, as a share of its size: what differs by less is rounded otherwise.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Stage:
    """A file of a layer and what it is made from.

    suffix: of its name. what: it is, in a few words. inputs: suffixes of other stages, and names of facts about the run
    (see LayerStore). version: raised when the code behind it changes what it computes or shows. make: what computes or
    writes it, as whoever keeps the table calls it.
    """

    suffix: str
    what: str
    inputs: tuple
    version: int = 1
    make: object = None


class LayerStore:
    """The files of one layer. folder: where they lie. layer: `{TASK}_{LAYER_NAME}`, the start of their names.

    facts: {name: JSON value} about the run, of which stages name the ones that decide their bytes. settings: {name:
    [values that say the same]} of the run, and about: {what: text} on what was dissected, are remembered with every
    file for people and for those who read it later; for files that show it, "about" is a fact, too.
    """

    def __init__(self, folder, layer, facts=None, settings=None, about=None):
        self.folder, self.layer = Path(folder), layer
        self.settings, self.about = settings or {}, about or {}
        self.facts = {**(facts or {}), "about": self.about}
        self._told = False  # whether it was said that nothing is taken from the manifest

    def path(self, suffix):
        return self.folder / f"{self.layer}{suffix}"

    # ------------------------------------------------------------------------------------------------ what is current

    def made_from(self, stage):
        """What the present run would make a stage's file from (dict), None while a file that it needs is not known."""
        found = {"version": stage.version}
        for name in stage.inputs:
            if name not in self.facts and not name.startswith((".", "_")):
                raise KeyError(f"{stage.suffix} is made from {name!r}, which is neither a fact of the run nor a file")
            found[name] = self.content(name) if name not in self.facts else self.facts[name]
            if name not in self.facts and found[name] is None:
                return None
        return json.loads(json.dumps(found))

    def is_current(self, stage, quiet=False, file_needed=True):
        """Whether a stage's file is complete and was made from exactly this. A reason why not is logged, unless quiet.

        file_needed: False is content with the memory of a file that was deleted since.
        """
        reason = self._why_not_current(stage, file_needed)
        if reason and not quiet:
            log.info("%s: made anew, since %s", self.path(stage.suffix).name, reason)
        return reason is None

    def require_current(self, stage, file_needed=True):
        """Raise DissectionError where is_current is False."""
        reason = self._why_not_current(stage, file_needed)
        if reason is not None:
            raise DissectionError(f"{self.path(stage.suffix)} does not hold: {reason or 'it has not been made yet'}")

    def _why_not_current(self, stage, file_needed):
        """None for a current file, an empty text for one that was never made, else what has changed, in words."""
        entry, made_from = self._entries().get(stage.suffix), self.made_from(stage)
        if entry is None or made_from is None:
            return ""
        changed = differences(entry["made_from"], made_from)
        if changed:
            return "this changed: " + ", ".join(changed)
        if not file_needed and not self.path(stage.suffix).exists():
            return None
        reason = self._why_not_whole(stage.suffix, entry)
        if reason is None and entry["mtime_ns"] != self.path(stage.suffix).stat().st_mtime_ns:
            # Copied, or touched: its content was read once, and need not be again.
            now = {**entry, "mtime_ns": self.path(stage.suffix).stat().st_mtime_ns}
            self._write({**self._entries(), stage.suffix: now})
        return reason

    def _why_not_whole(self, suffix, entry):
        path = self.path(suffix)
        if not path.is_file():
            return "the file is gone"
        status = path.stat()
        # A memory map takes minutes to read, so the file's time vouches for its content; where that differs, as after
        # copying, the content decides.
        unchanged = (status.st_size, status.st_mtime_ns) == (entry["bytes"], entry["mtime_ns"])
        if not unchanged and (status.st_size != entry["bytes"] or digest(path) != entry["digest"]):
            return "the file was changed after it was made"
        return None

    def content(self, suffix):
        """Digest of the content of a file as it was made, None when it never was.

        It is still known after the file was deleted, so that what was made from it still holds.
        """
        entry = self._entries().get(suffix)
        return entry and entry["digest"]

    def require(self, stage):
        """What a stage's complete file was made from (dict).

        Raises DissectionError when it is missing, was changed, or is of another version of the program.
        """
        path, entry = self.path(stage.suffix), self._entries().get(stage.suffix)
        if entry is None:
            raise DissectionError(f"{path} has not been made yet")
        if not path.is_file():
            raise DissectionError(f"{path} was made and is not there any more (CLEAN=True deletes memory maps)")
        if self._why_not_whole(stage.suffix, entry):
            raise DissectionError(f"{path} was changed after it was made")
        if entry["made_from"].get("version") != stage.version:
            raise DissectionError(f"{path} was made by another version of the program")
        return entry["made_from"]

    # ----------------------------------------------------------------------------------------------------- making

    def make(self, stage, write, *content):
        """Make a stage's file: write(path, *content) writes it beside its place, then it takes its name and its entry.

        Raises DissectionError when the folder cannot be written or the disk is full.
        """
        made_from = self.made_from(stage)
        self.forget(stage.suffix)
        with replacing(self.path(stage.suffix)) as partial:
            write(partial, *content)
        self.record(stage, made_from)

    def record(self, stage, made_from):
        """Enter a complete file in the manifest."""
        path = self.path(stage.suffix)
        status = path.stat()
        entry = {
            "made_from": made_from, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "digest": digest(path),
            "settings": self.settings, "about": {**self.about, "date": date.today().isoformat()},
        }  # fmt: skip
        self._write({**self._entries(), stage.suffix: entry})

    def suffixes(self):
        """The suffixes of the files that were made, list of text."""
        return list(self._entries())

    def set_aside(self, suffix):
        """Move a file that no longer belongs beside the others into a folder `earlier`. Returns its new path."""
        place = moved_aside(self.path(suffix))
        self.forget(suffix)
        return place

    def remember_run(self):
        """Note the present settings, and what is said of the run, with every file that a run made, once all are known
        to hold.
        """
        before = self._entries()
        entries = {
            suffix: {**entry, "settings": self.settings, "about": {**entry.get("about", {}), **self.about}}
            if entry.get("settings") else entry  # a page is made of files alone
            for suffix, entry in before.items()
        }  # fmt: skip
        if entries != before:
            self._write(entries)

    def settings_of(self, suffix):
        """The settings that a file was made under or was last found to hold under: {name: [values]}."""
        return self._entries()[suffix].get("settings", {})

    def about_of(self, suffix):
        """What was dissected for a file that was made: {what: text}, with the date on which it was made."""
        return {**self._entries()[suffix].get("about", {}), **self.about}

    def forget(self, suffix):
        """Strike a file out of the manifest; the file itself stays."""
        entries = self._entries()
        if entries.pop(suffix, None) is not None:
            self._write(entries)

    def remove(self, suffix):
        """Delete a file; the manifest remembers what it was."""
        with explained(self.path(suffix)):
            self.path(suffix).unlink(missing_ok=True)

    # -------------------------------------------------------------------------------------------------- the manifest

    def _entries(self):
        path = self.path(MANIFEST)
        try:
            manifest = read_json(path)
            if manifest.get("format") != _FORMAT and all("made_from" in entry for entry in manifest.values()):
                return self._nothing("%s was made by another version of the program: all is made anew", self.layer)
            return {suffix: entry for suffix, entry in manifest["files"].items() if _is_entry(entry)}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DissectionError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, AttributeError, KeyError, TypeError):
            return self._nothing("%s is damaged: nothing is taken from it", path)

    def _nothing(self, why, what):
        if not self._told:
            log.info(why, what)
            self._told = True
        return {}

    def _write(self, entries):
        replace_text(self.path(MANIFEST), json.dumps({"format": _FORMAT, "files": entries}, indent=1))


_ENTRY = {"made_from": dict, "bytes": int, "mtime_ns": int, "digest": str}


def _is_entry(entry):
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in _ENTRY.items())


def differences(old, new):
    """The names under which two dicts of JSON values differ, in words, sorted; nested dicts say which part."""
    found = []
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if name == BEHAVIOUR and _same_numbers(one, other):
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            found += [f"{name} {part}" for part in differences(one, other)]
        elif one != other:
            found.append(name)
    return [name if name.startswith((".", "_")) else name.replace("_", " ") for name in found]


def _same_numbers(one, other):
    """Whether units computed the same up to rounding: lists of [number, size of what was added up to it]."""
    if not (isinstance(one, list) and isinstance(other, list) and len(one) == len(other)):
        return False
    pairs = [(*first, *second) for first, second in zip(one, other, strict=True)]
    return all(max(abs(a - b), abs(size - size2)) <= _TOLERANCE * max(size, size2) for a, size, b, size2 in pairs)


@contextmanager
def locked(stores):
    """Keep other runs off some layers while the block lasts; a killed run frees them by ending. stores: LayerStores."""
    with ExitStack() as stack:
        for place in (store.path("") for store in stores):
            refusal = f"another run is working on {place}: wait for it, or give this one a folder of its own"
            stack.enter_context(alone(place, refusal))
        yield
