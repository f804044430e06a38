"""What FEATURES='sparse' leaves of a memory map, how large it is while it is made, and what the writing takes.

    python -m benchmarks.sparse --layer result/Localizable/onet_layer3

--layer: a memory map that main.py has left (FEATURES='dense', FEATURE_DTYPE='float32', CLEAN=False), without its
ending. Its maps are written once more, batch by batch, --times times one after the other as if there were as many
images, both ways, into --out; thresholds included.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measuring import read_options
from loader.batch import Batch
from method.quantile import exact_quantile
from store.arrays import load_arrays
from store.feature_file import FeatureMaps, PartialMaps
from store.layer import LayerStore, Stage
from store.sparse_maps import PartialSparseMaps

MAPS, SIZE = Stage(".mmap", "maps", ("feature_dtype",)), Stage("_feature_size.npy", "size", ("feature_dtype",))
BATCH = 64


def batches(maps, times):
    """The maps of an existing file, as a network's pass would give them, the same images again and again."""
    images = maps.shape[0]
    for first in range(0, images * times, BATCH):
        places = np.arange(first, min(first + BATCH, images * times))
        yield Batch(places, [""] * len(places), np.stack([maps.read(of, of + 1)[0] for of in places % images]))


def written(partial, maps, times):
    """Write maps by a plan. Returns (seconds of the cores, the most bytes that lay in its folder)."""
    most, spent = 0, 0.0
    with partial.place.open(0) as part:
        for batch in batches(maps, times):
            begun = time.process_time()
            part.add(batch)
            spent += time.process_time() - begun
            most = max(most, sum(file.stat().st_blocks * 512 for file in partial.store.folder.iterdir()))
    begun = time.process_time()
    partial.finish(np.ones(partial.place.batches, bool))
    return spent + time.process_time() - begun, most


def measure(options, folder):
    path = Path(options.layer)
    shape = load_arrays(path.with_name(f"{path.name}_feature_size.npy"))
    maps = FeatureMaps(path.with_name(f"{path.name}.mmap"), shape, "float32", np.ones(shape[0], bool))
    whole = (maps.shape[0] * options.times, *maps.shape[1:])
    usable, size = np.ones(whole[0], bool), int(np.prod(whole)) * 4
    given = {"device": "none"}, whole, "float32", BATCH, usable
    dense = PartialMaps(LayerStore(folder / "dense", "case", {"feature_dtype": "float32"}), MAPS, SIZE, *given)
    seconds, _ = written(dense, maps, options.times)
    stored = FeatureMaps(folder / "dense" / "case.mmap", whole, "float32", usable)

    def passes(count):
        for start, stop in stored.blocks(8 << 20):
            values = stored.read(start, stop)
            yield count(values.reshape(*values.shape[:2], -1))

    begun = time.process_time()
    exact_quantile(passes, whole[1], whole[0] * whole[2] * whole[3], 1 - options.quantile)
    seconds += time.process_time() - begun

    facts = {"feature_dtype": {"features": "sparse", "dtype": "float32", "quantile": options.quantile}}
    store = LayerStore(folder / "sparse", "case", facts)
    sparse = PartialSparseMaps(store, MAPS, SIZE, *given, quantile=options.quantile)
    took, most = written(sparse, maps, options.times)
    left = (folder / "sparse" / "case.mmap").stat().st_size
    print(f"{path.name}, {whole[0]} images of {'×'.join(map(str, whole[1:]))}, QUANTILE={options.quantile:g}")
    print(f"  dense {size / 1e6:.1f} MB, sparse {left / 1e6:.1f} MB ({left / size:.1%}), while made {most / size:.0%}")
    print(f"  writing and thresholds, seconds of the cores: dense {seconds:.1f}, sparse {took:.1f}")


def main():
    layer = "result/Localizable/onet_layer3"
    options = read_options(__doc__, layer=layer, times=1, quantile=0.005, out=tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
