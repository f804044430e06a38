"""How long the chance of local concepts takes beside the bare forward pass, and its memory, in one process.

    python -m benchmarks.chance --images 4000

The network is the age model's ResNet-50 at 128 px, untrained, whose layer4 has 512 units of 4x4, on a made-up
dictionary of about --images images (see synthetic_dictionary.py). --permutations, --bootstraps and --chance-images are
the settings of those names. The peak of resident memory is that of the whole process, network and all.
"""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import main as program
from benchmarks.measuring import peak_mib, read_options, timed
from benchmarks.speed import QUANTILE, SCORE_THRESHOLD, bare_forward
from benchmarks.synthetic_dictionary import make_dictionary
from dictionary.dictionary import open_dictionary
from feature_operation import FeatureOperator
from loader.devices import choose_device
from loader.models import load_model
from store.layer import LayerStore
from store.stages import MAPS

ALPHA = 0.05


def measure(options, folder):
    model = load_model("age", [options.layer], weights="random", device=choose_device("auto"))
    make_dictionary(folder / "dictionary", options.images, options.workers)
    dictionary = open_dictionary(folder / "dictionary", memory_folder=folder, workers=options.workers)
    images = len(dictionary.usable_rows)
    operator = FeatureOperator(model, dictionary, grid=model.grid, workers=options.workers)
    bare_forward(model, 256, 64, model.grid)  # warm-up
    _, forward = timed(bare_forward, model, images, 64, model.grid)
    config = SimpleNamespace(FEATURE_DTYPE="float32", BATCH_SIZE=64)
    store = LayerStore(folder, options.layer, dict.fromkeys(MAPS.inputs) | {"feature_dtype": config.FEATURE_DTYPE})
    program.extract(config, operator, {options.layer: store})
    maps = program.maps_of(operator, store)
    thresholds = operator.quantile_threshold(maps, QUANTILE)
    before = peak_mib()
    found, seconds = timed(
        operator.chance, {options.layer: (maps, thresholds)}, permutations=options.permutations,
        bootstraps=options.bootstraps, images=options.chance_images,
    )  # fmt: skip

    chance = found[options.layer]
    print(f"{images} images, {options.layer}: {maps.shape[1:]} maps, {len(chance.concepts)} concepts")
    print(f"  forward pass {forward:8.1f} s   {1000 * forward / images:7.2f} ms per image")
    print(f"  chance       {seconds:8.1f} s   {1000 * seconds / images:7.2f} ms per image")
    print(f"  chance / forward {seconds / forward:.3f}")
    print(f"  peak resident memory {peak_mib():.0f} MiB, {before:.0f} MiB before")
    confirmed = int(chance.confirmed(SCORE_THRESHOLD, ALPHA).sum())
    print(f"  {int((chance.iou.max(axis=1) > SCORE_THRESHOLD).sum())} detectors, {confirmed} confirmed")


def main():
    options = read_options(
        __doc__, images=4000, layer="layer4", workers=2, permutations=1000, bootstraps=200, chance_images=512
    )
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
