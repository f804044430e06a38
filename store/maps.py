"""The activation maps of a layer on disk, whole (FEATURES='dense') or what of them decides ('sparse'), in one way for
whoever makes or reads them. A layer's fact `feature_dtype` tells which, see store.run.kept_numbers.
"""

import logging

import numpy as np

from store import unfinished
from store.arrays import load_arrays
from store.feature_file import FeatureMaps, PartialMaps, require_space
from store.sparse_maps import PartialSparseMaps, SparseMaps

log = logging.getLogger(__name__)


def open_maps(store, stage, size_stage, usable=None):
    """The finished memory map of a layer. store: LayerStore; its manifest tells what the file is.

    usable: bool (N,), which images have maps, all by default; a file of sparse maps knows. Returns FeatureMaps or
    SparseMaps. Raises DissectionError.
    """
    shape = load_arrays(store.path(size_stage.suffix))
    numbers = store.require(stage)["feature_dtype"]
    if isinstance(numbers, dict):
        return SparseMaps(store.path(stage.suffix), shape, numbers["dtype"])
    usable = np.ones(shape[0], bool) if usable is None else usable
    return FeatureMaps(store.path(stage.suffix), shape, numbers, usable)


def discard_interrupted(store, stage):
    """Delete what interrupted runs left of a layer's maps, once whole ones hold."""
    unfinished.discard_interrupted(store.path(stage.suffix))


class MemoryMaps:
    """Has one pass fill the memory maps of several layers: what the first process knows of it.

    stores: {layer: LayerStore}, whose facts say which maps are kept; the rest: see Unfinished.
    """

    def __init__(self, stores, stage, size_stage, *, session, dtype, batch_size, usable):
        self.stores, self.stages, self.session = stores, (stage, size_stage), session
        self.dtype, self.batch_size, self.usable = dtype, batch_size, usable
        self.partial = {}

    def begin(self, shapes):
        """Plan the pass. shapes: {layer: (U, H, W)}.

        Returns ({layer: MapsPlace or SparsePlace}, the numbers of the batches to be done, int ascending). Says how much
        it will be. Raises DissectionError when the disk is too small.
        """
        for layer, shape in shapes.items():
            store, shape = self.stores[layer], (len(self.usable), *shape)
            numbers = store.facts["feature_dtype"]
            options = self.session, shape, self.dtype, self.batch_size, self.usable
            self.partial[layer] = (
                PartialSparseMaps(store, *self.stages, *options, quantile=numbers["quantile"])
                if isinstance(numbers, dict) else PartialMaps(store, *self.stages, *options)
            )  # fmt: skip
        missing = sum(of.missing_bytes for of in self.partial.values())
        folder = next(iter(self.stores.values())).folder
        names = [store.layer for store in self.stores.values()]
        free = require_space(folder, missing, names, self._smaller(shapes, missing))
        todo = np.flatnonzero(~np.logical_and.reduce([of.done for of in self.partial.values()]))
        size = "at most " * self._sparse + megabytes(missing)
        images = int(self.usable.sum())
        log.info("%s images: %s of activation maps to write, %s free", f"{images:,}", size, megabytes(free))
        return {layer: of.place for layer, of in self.partial.items()}, todo

    @property
    def _sparse(self):
        return any(isinstance(of, PartialSparseMaps) for of in self.partial.values())

    def _smaller(self, shapes, missing):
        """The settings under which maps that miss so many bytes would take less, list of texts. shapes: see begin."""
        halved = self.dtype != "float16"
        if not self._sparse:
            sparse = "set FEATURES='sparse' to keep what one threshold needs"
            return ["set FEATURE_DTYPE='float16' to halve it"] * halved + [sparse]
        values = sum(len(self.usable) * int(np.prod(shape)) for shape in shapes.values())
        found = ["set FEATURE_DTYPE='float16' to make it smaller"] * halved
        dense = values * np.dtype(self.dtype).itemsize
        return found + [f"set FEATURES='dense', which needs {megabytes(dense)} for maps as small as these"] * (
            dense < missing
        )

    def finish(self, written):
        """Give the complete maps their names. written: {layer: bool, which batches the pass has put there}."""
        for layer, of in self.partial.items():
            of.finish(written[layer])


def megabytes(count):
    """Bytes in words."""
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e6:.2g} MB"
