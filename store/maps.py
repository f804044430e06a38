"""The activation maps of a layer on disk, whole (FEATURES='dense') or what of them decides ('sparse'), in one way for
whoever makes or reads them. A layer's fact `feature_dtype` tells which, see store.run.kept_numbers.
"""

from contextlib import contextmanager

import numpy as np

from store import feature_file
from store.arrays import load_arrays
from store.feature_file import FeatureMaps, require_space
from store.sparse_maps import PartialSparseMaps, SparseMaps, leftovers


def open_maps(store, stage, size_stage, usable=None):
    """The finished memory map of a layer. store: LayerStore; its manifest tells what the file is.

    usable: bool (N,), which images have maps, all by default; a file of sparse maps knows. Returns FeatureMaps or
    SparseMaps. Raises DissectionError.
    """
    shape = load_arrays(store.path(size_stage.suffix))
    numbers = store.require(stage)["feature_dtype"]
    if isinstance(numbers, dict):
        return SparseMaps(store.path(stage.suffix), shape, numbers["dtype"], numbers["quantile"])
    usable = np.ones(shape[0], bool) if usable is None else usable
    return FeatureMaps(store.path(stage.suffix), shape, numbers, usable)


def discard_interrupted(store, stage):
    """Delete what interrupted runs left of a layer's maps, once whole ones hold."""
    feature_file.discard_interrupted(store, stage)
    for leftover in leftovers(store.path(stage.suffix)):
        leftover.unlink()


@contextmanager
def memory_maps(stores, stage, size_stage, *, dtype, **options):
    """See store.feature_file.memory_maps."""
    numbers = next(iter(stores.values())).facts["feature_dtype"]
    if not isinstance(numbers, dict):
        with feature_file.memory_maps(stores, stage, size_stage, dtype=dtype, **options) as begin:
            yield begin
        return
    with sparse_maps(stores, stage, size_stage, dtype=dtype, quantile=numbers["quantile"], **options) as begin:
        yield begin


@contextmanager
def sparse_maps(stores, stage, size_stage, *, session, dtype, batch_size, usable, quantile):
    partial, parts = {}, {}

    def begin(shapes):
        for layer, shape in shapes.items():
            partial[layer] = PartialSparseMaps(
                stores[layer], stage, size_stage, session, (len(usable), *shape), dtype, batch_size, usable, quantile
            )
        missing_bytes = sum(of.missing_bytes for of in partial.values())
        require_space(next(iter(stores.values())).folder, missing_bytes, [store.layer for store in stores.values()])
        parts.update({layer: of.place.open() for layer, of in partial.items()})
        done = np.logical_and.reduce([of.done for of in partial.values()])
        first = int(np.argmin(done)) * batch_size if not done.all() else len(usable)
        return {layer: [part] for layer, part in parts.items()}, first

    try:
        yield begin
    finally:
        for part in parts.values():
            part.__exit__()
    for of in partial.values():
        of.finish()
