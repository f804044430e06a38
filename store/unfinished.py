"""The files in which a layer's activation maps are made, all of them or sparse ones, and what a kill leaves of them.

Beside the place of the map, `<layer>.mmap`, lie, all hidden:

    .<map>.<kind>.<token>               the unfinished file. kind: "partial" of all maps, "sparse" of sparse ones
    .<map>.<kind>.<token>.json          note of the first process: what earlier runs had put there; in the end: all
    .<map>.<kind>.<token>.<rank>.json   note of a process: what it has put there and is safely on the disk

A note speaks of the file of its token alone. Each run draws a token of its own and, where it goes on, gives that to the
earlier run's file. So a process that outlived its run (stopped, or cut off from the others) no longer finds the file
under its name and ends, and nobody reads what it notes; what it still writes is in a file that was deleted, or, made
from the same, what lies there anyway. And where a machine sees another folder, nothing of that name is there.
"""

import glob
import json
import logging
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from store.arrays import save_arrays
from util.errors import DissectionError
from util.files import beside, explained, read_json, replace_text, sync

log = logging.getLogger(__name__)

# How much work a kill may cost. Each note of the progress waits for the disk, which is why it is not taken per batch.
NOTE_SECONDS = 5
KINDS = ("partial", "sparse")


@dataclass(frozen=True)
class Place:
    """Where processes put the maps of a layer, and what they are; picklable.

    layer: its name in messages. path: of the unfinished file. identity: JSON of what the bytes depend on. shape: (N, U,
    H, W). dtype: of the maps. batch_size: images at a time. usable: bool (N,), the images that have maps.
    """

    layer: str
    path: Path
    identity: dict
    shape: tuple
    dtype: str
    batch_size: int
    usable: np.ndarray

    @property
    def batches(self):
        """Their number."""
        return -(-self.shape[0] // self.batch_size)

    @property
    def empty(self):
        """Which batches have no image with maps, bool: there is nothing to be done for them."""
        return ~np.logical_or.reduceat(self.usable, np.arange(0, self.shape[0], self.batch_size))

    def runs(self, batches):
        """Consecutive batches as ranges of images: list of (start, stop). batches: bool, of each batch."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], batches, [False]]).astype(np.int8)))
        size, count = self.batch_size, self.shape[0]
        return [(int(start) * size, min(int(stop) * size, count)) for start, stop in edges.reshape(-1, 2)]

    def batches_of(self, ranges):
        """Which batches lie in some ranges of images as a whole, bool. Raises TypeError or ValueError for no ranges."""
        count, done = self.shape[0], np.zeros(self.batches, bool)
        for start, stop in ranges:
            if not (type(start) is type(stop) is int and 0 <= start <= stop <= count):
                raise ValueError(f"{start} to {stop} are no images of {count}")
            # Only whole batches are the same as in a run that was not interrupted.
            done[-(-start // self.batch_size) : self.batches if stop == count else stop // self.batch_size] = True
        return done

    def block(self, images, rows):
        """(the first image of a batch, the rows of all its images, NaN for those that were left out).

        images: int, those that have rows. Raises ValueError where another one should have.
        """
        first = int(images[0]) // self.batch_size * self.batch_size
        stop = min(first + self.batch_size, self.shape[0])
        has = np.zeros(stop - first, bool)
        has[images - first] = True
        self._require(np.append(np.ones(first, bool), has))
        block = np.full((stop - first, *rows.shape[1:]), np.nan, self.dtype)
        block[images - first] = rows
        return first, block

    def require_all(self, done):
        """Raise ValueError where an image has no maps. done: bool, which batches are there."""
        self._require(np.repeat(done, self.batch_size)[: self.shape[0]])

    def _require(self, has):
        missing = np.flatnonzero(self.usable[: len(has)] & ~has)
        if len(missing):
            raise ValueError(f"image {missing[0]} of {self.shape[0]} has no maps")

    def leave_out(self, file, begin, shape):
        """Give all images that were left out NaN. begin: of the images in the file, bytes. shape: of what one has."""
        row = np.full(shape, np.nan, self.dtype)
        for image in np.flatnonzero(~self.usable).tolist():
            file.seek(begin + image * row.nbytes)
            file.write(row.data)

    def opened(self):
        """The unfinished file, for a process to write to."""
        self.require_here()
        return open(self.path, "r+b")

    def require_here(self):
        """Raise DissectionError where the file is no longer, or never was, under the name that this run gave it."""
        if not self.path.exists():
            raise DissectionError(
                f"{self.path} of the first process is not there: OUTPUT_FOLDER must be one folder which all machines "
                "see under the same path, and no other run may have begun in it since"
            )

    def note(self, rank=None):
        """The path of the note of a process, or of that on what earlier runs had put there."""
        return self.path.with_name(f"{self.path.name}.json" if rank is None else f"{self.path.name}.{rank}.json")

    def notes(self):
        """The notes that processes left: {rank: path}, by rank."""
        found = self.path.parent.glob(f"{glob.escape(self.path.name)}.*.json")
        ranks = (path.name.removeprefix(f"{self.path.name}.").removesuffix(".json") for path in found)
        return {rank: self.note(rank) for rank in sorted(int(rank) for rank in ranks if rank.isdecimal())}

    def write_note(self, done, rank=None, **more):
        """Note which batches are safely on the disk, bool. more: JSON values."""
        note = {"identity": self.identity, "done": self.runs(done), **more}
        replace_text(self.note(rank), json.dumps(note))

    def read_note(self, rank=None):
        """(which batches a note says are there, bool; the note), None for one that is missing, damaged or of others."""
        try:
            note = read_json(self.note(rank))
            return (self.batches_of(note["done"]), note) if note["identity"] == self.identity else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


class Unfinished:
    """The unfinished maps of a layer, as the first process plans and finishes them; where a killed run stopped, it goes
    on. What is of one kind of maps is the business of PartialMaps and PartialSparseMaps.

    store: LayerStore. stage, size_stage: the Stages of the map and of `<layer>_feature_size.npy`. session: dict of what
    else the bytes depend on (the device): a part made under another session or batch size is started anew, since a
    batch of another size rounds differently. The rest: see Place.

    done: bool, which batches are there. place: Place, see there for what processes are to do.
    """

    kind = None  # see KINDS
    of_place = Place

    def __init__(self, store, stage, size_stage, session, shape, dtype, batch_size, usable, **more):
        self.store, self.stage, self.size_stage = store, stage, size_stage
        self.whole, dtype, shape = store.path(stage.suffix), str(np.dtype(dtype)), tuple(shape)
        identity = json.loads(json.dumps(
            {"made_from": store.made_from(stage), "session": session, "shape": shape, "dtype": dtype,
             "batch_size": batch_size, **more}
        ))  # fmt: skip
        path = beside(self.whole, f"{self.kind}.{secrets.token_hex(4)}")
        self.place = self.of_place(store.layer, path, identity, shape, dtype, batch_size, usable, **more)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.done = self._begun() | self.place.empty

    def _begun(self):
        """Have the unfinished file, an earlier run's if that can be gone on with. Returns which batches are there."""
        place, others = self.place, leftovers(self.whole)
        before, noted = self._earlier()
        if noted.any():
            place.write_note(noted)
            self.take_over(before)
            os.replace(before.path, place.path)  # from here on, what is noted under this token is what counts
            noted = self.noted(place)  # a process that outlived its run may have noted more meanwhile
            images = sum(stop - start for start, stop in place.runs(noted))
            log.info("%s: going on with %d of %d images there", self.whole.name, images, place.shape[0])
        else:
            with open(place.path, "xb") as file:
                file.truncate(self.begun_bytes)
            if others:
                log.info("%s: the interrupted part was made under other settings and is started anew", self.whole.name)
        discard_interrupted(self.whole, but=place.path)
        return noted

    def _earlier(self):
        """(Place, which batches are there, bool) of the earlier run that got furthest in making the same."""
        best, most = None, np.zeros(self.place.batches, bool)
        for path in unfinished_files(self.whole, self.kind):
            before = replace(self.place, path=path)
            noted = self.noted(before)
            if self._got_its_name(before, noted):
                os.replace(self.whole, path)
            if path.exists() and path.stat().st_size >= self.begun_bytes and noted.sum() > most.sum():
                best, most = before, noted
        return best, most

    def _got_its_name(self, before, noted):
        """Whether an earlier run was killed after its map got its name, before the manifest heard of it."""
        own = before.read_note()
        if own is None or not (noted | before.empty).all() or before.path.exists() or not self.whole.exists():
            return False
        return own[1].get("whole") == self.whole.stat().st_ino

    def finish(self, written=None):
        """Give the complete map its name and enter it in the manifest, with `<layer>_feature_size.npy`.

        written: bool, which batches the pass has put there; of sparse maps the notes tell. Raises ValueError where an
        image has no maps.
        """
        place = self.place
        done = place.empty | (self.noted(place) if written is None else self.done | written)
        place.require_all(done)
        made_from = place.identity["made_from"]
        self.store.forget(self.stage.suffix)
        self.store.make(self.size_stage, save_arrays, np.array(place.shape, np.int64))
        with explained(place.path):
            self.complete()
            sync(place.path)
            place.write_note(done, whole=place.path.stat().st_ino)
            os.replace(place.path, self.whole)
        self.store.record(self.stage, made_from)
        discard_interrupted(self.whole)


def unfinished_files(whole, kind):
    """The paths of unfinished files of which there are notes, sorted. whole: path of the finished file."""
    begin = f".{whole.name}.{kind}."
    notes = whole.parent.glob(f"{glob.escape(begin)}*.json")
    return sorted({whole.with_name(begin + note.name.removeprefix(begin).split(".")[0]) for note in notes})


def leftovers(whole):
    """What runs made a map in, and the notes that they had only begun to write. whole: path of the finished file."""
    names = (f".{glob.escape(whole.name)}.{kind}" for kind in KINDS)
    return [path for name in names for pattern in (f"{name}*", f".{name}*") for path in whole.parent.glob(pattern)]


def discard_interrupted(whole, but=None):
    """Delete what runs made a map in. whole: path of the finished file. but: of an unfinished file that is kept, with
    what belongs to it.
    """
    for leftover in leftovers(whole):
        if but is None or not leftover.name.startswith((but.name, f".{but.name}")):
            leftover.unlink(missing_ok=True)
