"""A dictionary whose files have been read and found sound, whatever its format.

The index is read first, then every file it names is read and decoded once. What was found is remembered (see
file_memory.py), so that the next run only decodes what changed; the digest of a file's content is what the fingerprints
of the results are made from. What there is of each row is kept in columns (see rows.py).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from dictionary.broden import BRODEN_FILES, BrodenFormat
from dictionary.face_format import INDEX_FILES, FaceFormat
from dictionary.file_memory import Digests, check_files
from dictionary.images import load_image, load_rgb, read_bytes
from dictionary.mask_cache import MaskCache
from dictionary.rows import Rows, SomeRows
from dictionary.views import WHOLE
from util.errors import DissectionError
from util.files import digest, fingerprint, fingerprint_of_parts
from util.packing import pack, unpack

# The formats that a dictionary may have; the one that recognises a folder reads it.
FORMATS = (FaceFormat, BrodenFormat)

_PROBLEMS_SHOWN = 5
_AT_ONCE = 1024  # rows of which a fingerprint is made at a time


@dataclass
class Dictionary:
    """A dictionary that can be used: its unsound rows have been left out.

    format: object of one of FORMATS. rows: every row of the index in order, so rows[i].index == i. usable: bool (N,),
    False where a row is left out. digests: of the contents of the rows' files. problems: all that were found.
    seg_threshold: see images.load_mask. views: where faces are cropped dictionary.faces.Views of the rows, else None.
    mask_cache: where decoded masks are kept, None for nowhere.
    """

    root: Path
    format: object
    rows: Rows
    usable: np.ndarray
    digests: Digests
    problems: list = field(default_factory=list)
    seg_threshold: float = 0.5
    views: object = None
    mask_cache: MaskCache | None = None

    def __post_init__(self):
        if self.mask_cache:
            self.mask_cache.serve(self)

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.__post_init__()  # in another process of the run

    @cached_property
    def concepts(self):
        """The local concepts that at least one usable row carries, tuple of Concept in concept order."""
        images, places, names = self.format.carried(self.rows)
        carried = {names[place] for place in np.unique(places[self.usable[images]])}
        return self.format.concepts_of(self.usable_rows, carried)

    @cached_property
    def names(self):
        """Their names, tuple of text."""
        return tuple(concept.name for concept in self.concepts)

    @cached_property
    def same_rule(self):
        """Of which concepts the masks are made in the same way, bool (C, C)."""
        return self.format.same_rule(self.names)

    @property
    def bad(self):
        """Number of rows that were left out because they cannot be used."""
        return len({problem.row for problem in self.problems if problem.fatal})

    @cached_property
    def usable_rows(self):
        """The rows that are not left out, made when they are asked for."""
        return SomeRows(self.rows, np.flatnonzero(self.usable))

    @cached_property
    def sources(self):
        """The index file that each row comes from, a number: int (N,)."""
        return self.rows.sources.astype(int)

    def digest_of(self, row):
        """The digest of a row's photograph, hex text, empty for one that cannot be read."""
        return self.digests.image(row.index)

    @cached_property
    def photographs(self):
        """Which photograph each row shows (method.md §8.1): numbers by the ascending digests of their contents, int64
        (N,), -1 for one that cannot be read.
        """
        return self._photographs[0]

    @property
    def photograph_digests(self):
        """The digests of the photographs, in the order of their numbers: sequence of hex texts, made on demand."""
        return self._photographs[1]

    @cached_property
    def _photographs(self):
        return self.digests.numbered()

    @cached_property
    def _number(self):
        return {name: index for index, name in enumerate(self.names)}

    def image_path(self, row):
        return self.root / row.image

    def view(self, row):
        """What the network sees of a row's photograph, see dictionary/views.py."""
        return WHOLE if self.views is None else self.views[row.index]

    def photograph(self, row):
        """The whole photograph of a row. Returns uint8 (H, W, 3), RGB. Raises ImageError."""
        return load_rgb(self.image_path(row))

    def image(self, row, grid):
        """A row's image as the network sees it. Returns uint8 (rows, columns, 3), RGB. Raises ImageError."""
        return load_image(self.image_path(row), grid, self.view(row))

    def grid(self, row, grid):
        """The grid on which a row's pixels are counted, (rows, columns). grid: of the network's input."""
        return self.format.grid(row, grid)

    def masks(self, row, grid):
        """The masks L_c of a row on the counting grid (method.md §3.3). grid: of the network's input.

        Returns (indices of the concepts, int (m,) ascending; masks, bool (m, rows, columns)). Raises ImageError.
        """
        concepts, bits = self.packed_masks(row, grid)
        return concepts, unpack(bits, self.grid(row, grid))

    def packed_masks(self, row, grid):
        """As masks, but packed: uint64 (m, words), see util.packing.pack. Decoded once where a cache keeps them."""
        grid = self.grid(row, grid)
        files = self.format.files(row) if self.mask_cache else ()
        key = self._mask_key(row, grid) if files else None
        kept = self.mask_cache.read(key, grid) if files else None
        if kept is None:
            found = self.format.masks(row, grid, self.view(row), self.seg_threshold)
            kept = list(found), pack(np.array(list(found.values()), bool).reshape(len(found), *grid))
            # Under its digests is kept what has them: a file may have changed since it was checked.
            if files and [digest(read_bytes(self.root / path)) for path in files] == self.digests.of(row.index)[1:]:
                self.mask_cache.keep(key, *kept)
        names, bits = kept
        concepts = np.array([self._number[name] for name in names], int)
        order = np.argsort(concepts)
        return concepts[order], bits[order]

    def _mask_key(self, row, grid):
        """What the masks of a row are kept under: all that decides them, 32 bytes."""
        of_files = self.format.identity(row, self.digests.of(row.index)[1:])
        decided = [of_files, self.format.numbered(row), grid, self.view(row).numbers, self.seg_threshold]
        return bytes.fromhex(fingerprint([type(self.format).__name__, *decided]))

    def whole(self, row):
        """The indices of the concepts that hold for a row's whole image, of which there are no masks: int (w,)."""
        return np.array([self._number[name] for name in self.format.whole(row)], int)

    @cached_property
    def carries(self):
        """bool (N, C): which image carries which concept; False throughout for one that was left out."""
        carries = np.zeros((len(self.rows), len(self.names)), bool)
        images, places, names = self.format.carried(self.rows)
        numbers = np.array([self._number.get(name, -1) for name in names], int)
        kept = self.usable[images]
        carries[images[kept], numbers[places[kept]]] = True
        return carries

    def resampled(self, images):
        """Whether areas are counted anew for each resample and half of the photographs (method.md §8.4, §8.5): not
        where the union has other images than the concept's, or there are too many masks. images: see method.tally.
        """
        return images == "concept" and not self.format.many_labels

    @cached_property
    def told(self):
        """Which concepts a photograph shows or lacks, so that units can tell them (method.md §8.6): bool (C,)."""
        return self.format.told(self.concepts)

    @property
    def compared(self):
        """Among which images units tell which concepts: list of (bool (N,), bool (C,)), see told."""
        if not self.format.by_category:
            return [(self.usable, self.told)]
        types = np.array([concept.type for concept in self.concepts])
        of_told = dict.fromkeys(types[self.told].tolist() or types[:1].tolist())  # or one that asks nothing
        return [(self.carries[:, types == of].any(axis=1), self.told & (types == of)) for of in of_told]

    @cached_property
    def known(self):
        """bool (N, C): which image is annotated for which concept, so that it lacks the concept if it carries none.

        An image is annotated for the concepts that its index file holds, of every type of which it carries one (of all
        types, where it carries nothing: it stands there to say so); False throughout for one that was left out.
        """
        types = np.array([concept.type for concept in self.concepts])
        nothing = self.usable & ~self.carries.any(axis=1)
        known = np.repeat(nothing[:, None], len(types), axis=1)
        for kind in set(types.tolist()):
            known[:, types == kind] |= self.carries[:, types == kind].any(axis=1, keepdims=True)
        for source in np.unique(self.sources):
            known[self.sources == source] &= self.carries[self.sources == source].any(axis=0)
        return known

    @cached_property
    def images_digest(self):
        """Fingerprint of the images and their order: it changes with any byte of them, not with their place on disk."""
        return fingerprint_of_parts(
            [[index, self.digests.image(index)] for index in some.indices.tolist()] for some in self._parts()
        )

    @cached_property
    def views_digest(self):
        """Fingerprint of the views of the usable rows, None where photographs are seen whole."""
        if self.views is None:
            return None
        order = sorted(self.usable_rows.indices.tolist(), key=self.rows.image)
        parts = (order[start : start + _AT_ONCE] for start in range(0, len(order), _AT_ONCE))
        return fingerprint_of_parts(
            ({self.rows.image(index): self.views[index].numbers for index in some} for some in parts), dict
        )

    @cached_property
    def masks_digest(self):
        """Fingerprint of which image carries which mask, contents included."""
        identity, digests = self.format.identity, self.digests
        return fingerprint_of_parts(
            [[row.index, identity(row, digests.of(row.index)[1:])] for row in some] for some in self._parts()
        )

    @cached_property
    def sources_digest(self):
        """Fingerprint of sources."""
        starts = range(0, len(self.rows), _AT_ONCE)
        return fingerprint_of_parts(self.sources[start : start + _AT_ONCE].tolist() for start in starts)

    def _parts(self):
        """The usable rows, some at a time."""
        rows = self.usable_rows
        return (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE))

    def without(self, problems, skip_bad, views=None):
        """The same dictionary through views, less the rows of further fatal problems, or their error (see settle)."""
        usable = settle(self.root, len(self.rows), self.usable, problems, skip_bad)
        return replace(self, usable=usable, problems=self.problems + problems, views=views)


def format_of(root, categories=None):
    """The format of the dictionary at root, as an object for it. Raises DissectionError when there is none.

    categories: those of its concepts' categories that count, by default all; where the format has any.
    """
    root = Path(root)
    if not root.is_dir():
        raise no_dictionary(root)
    fitting = [known for known in FORMATS if known.recognises(root)]
    if len(fitting) > 1:
        raise DissectionError(
            f"{root} holds the tables of a Face Dictionary and those of Broden: each needs a folder of its own"
        )
    if fitting:
        return fitting[0](root, categories)
    raise DissectionError(
        f"{root} is no dictionary: a Face Dictionary has at least one of {', '.join(INDEX_FILES)}, and Broden has "
        f"{', '.join(BRODEN_FILES)}"
    )


def open_dictionary(
    root, *, memory_folder, workers, skip_bad=False, limit=None, seg_threshold=0.5, categories=None, mask_cache_mb=None,
):  # fmt: skip
    """Read a dictionary and decode each of its files once. Returns a Dictionary.

    memory_folder: where it is remembered which files were found sound. workers: threads. skip_bad: go on without the
    rows that cannot be used. limit: read the first rows only. categories: see format_of. mask_cache_mb: MASK_CACHE_MB,
    how much decoded masks may take there, none by default. Raises DissectionError for a dictionary that cannot be used,
    naming the first problems.
    """
    found_format = format_of(root, categories)
    rows, problems = found_format.read_index()
    if not rows:
        raise DissectionError(f"the index of {root} has no rows: there is nothing to read")
    rows.cut(limit or len(rows))
    problems = [problem for problem in problems if problem.row is None or problem.row < len(rows)]
    digests, found = check_files(found_format, rows, memory_folder, workers)
    problems += found
    usable = settle(root, len(rows), found_format.labelled(rows), problems, skip_bad)
    cache = MaskCache(memory_folder, mask_cache_mb) if mask_cache_mb else None
    dictionary = Dictionary(
        Path(root), found_format, rows, usable, digests, problems, seg_threshold, mask_cache=cache
    )
    if not dictionary.concepts:
        raise DissectionError(f"{root} has no masks in its {len(rows)} rows: there is no concept to compare units with")
    return dictionary


def settle(root, count, usable, problems, skip_bad):
    """Decide about rows with fatal problems: leave them out (skip_bad) or raise DissectionError.

    count: rows in all. usable: bool (count,) so far. Returns the new bool (count,).
    """
    fatal = [problem for problem in problems if problem.fatal]
    bad = np.zeros(count, bool)
    bad[[problem.row for problem in fatal]] = True
    if fatal and not skip_bad:
        raise unusable(f"{bad.sum()} of the {count} rows of {root}", fatal, root)
    usable = usable & ~bad
    if not usable.any():
        raise DissectionError(f"none of the {count} rows of {root} can be used")
    return usable


def unusable(what, problems, root):
    """The error for what cannot be used: the first problems, and what to do."""
    shown = "".join(f"\n  {problem}" for problem in problems[:_PROBLEMS_SHOWN])
    more = f"\n  and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
    return DissectionError(
        f"{what} cannot be used:{shown}{more}\nMend them (python -m dictionary.check {root} lists all), or set "
        "SKIP_BAD_IMAGES=True to go on without them"
    )


def no_dictionary(root):
    """The error for a place without a dictionary."""
    return DissectionError(
        f"no Face Dictionary at {root.absolute()}: set DICTIONARY to its folder, or make one with python -m "
        "dictionary.build or python -m dictionary.render (see README.md)"
    )
