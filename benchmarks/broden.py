"""What counting on Broden costs beside the network's forward pass, and how memory grows.

    python -m benchmarks.broden --images 2000

A drawn folder of that many images with the published 1,197 labels (see synthetic_broden.py; --folder takes one that is
there), an untrained ResNet-18 at 224 px, all units of --layer. The bare forward pass is the whole network on as many
batches of noise made beforehand; the tally reads all images of labels and counts by --rule. Chance is the location
level and its significance (docs/broden.md). Memory is that of the process, before the tally
and at most in it.
"""

import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from benchmarks.measuring import peak_of, read_options, timed
from benchmarks.speed import bare_forward
from benchmarks.synthetic_broden import make_broden
from dictionary.dictionary import open_dictionary
from feature_operation import FeatureOperator
from loader.devices import choose_device, describe_device
from loader.models import load_model
from method.tally import TallyStatistic
from store.dissection import extract, maps_of
from store.layer import LayerStore
from store.stages import MAPS

QUANTILE, BATCH = 0.005, 64


def measure(options, folder):
    device = choose_device("auto")
    model = load_model("torchvision", [options.layer], weights="random", device=device, architecture="resnet18")
    root = Path(options.folder) if options.folder else make_broden(folder / "broden", options.images, seed=1)
    seconds = {}
    dictionary, seconds["check"] = timed(
        open_dictionary, root, memory_folder=folder, workers=options.workers, limit=options.images
    )
    images = len(dictionary.usable_rows)
    bare_forward(model, 2 * BATCH, BATCH, model.grid)  # warm-up
    _, seconds["forward"] = timed(bare_forward, model, images, BATCH, model.grid)
    operator = FeatureOperator(model, dictionary, grid=model.grid, batch_size=BATCH, workers=options.workers)
    config = SimpleNamespace(FEATURE_DTYPE="float32", BATCH_SIZE=BATCH)
    store = LayerStore(folder, options.layer, dict.fromkeys(MAPS.inputs) | {"feature_dtype": config.FEATURE_DTYPE})
    _, seconds["extraction"] = timed(extract, config, operator, {options.layer: store})
    maps = maps_of(operator, store)
    thresholds, seconds["threshold"] = timed(operator.quantile_threshold, maps, QUANTILE)
    statistic = TallyStatistic(thresholds, dictionary.concepts, dictionary.carries, images=options.rule)
    timed_tally = partial(timed, operator.tally, {"layer": (maps, [statistic])})
    (results, seconds["tally"]), before, peak = peak_of(timed_tally)
    tally = results["layer"][0]
    if options.permutations:
        _, seconds["chance"] = timed(
            operator.chance, {"layer": (maps, tally)}, permutations=options.permutations, bootstraps=0, images=512
        )
    _, seconds["presence"] = timed(operator.presence, {"layer": maps})

    labels = dictionary.carries.sum(axis=1)
    print(f"{describe_device(device)}: {images} images, {len(dictionary.names)} labels, {labels.mean():.0f} an image, "
          f"{maps.shape[1:]} maps, rule {options.rule}")  # fmt: skip
    for stage, duration in seconds.items():
        print(f"  {stage:<12} {duration:8.1f} s   {1000 * duration / images:7.2f} ms per image")
    print(f"  tally / forward {seconds['tally'] / seconds['forward']:.3f}")
    own = sum(getattr(values, "nbytes", 0) for values in vars(tally).values()) / 2**20
    print(f"  resident MiB: {before:.0f} before the tally, {peak:.0f} at most in it, of which its result has {own:.0f}")


def main():
    options = read_options(
        __doc__, images=2000, layer="layer4", workers=2, rule="category", permutations=1000, folder=""
    )
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
