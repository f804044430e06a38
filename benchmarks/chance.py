"""How long the chance of local concepts takes beside the bare forward pass, and its memory, in one process.

    python -m benchmarks.chance --images 4000

The network is the age model's ResNet-50 at 128 px, untrained, whose layer4 has 512 units of 4x4, on a made-up
dictionary of about --images images (see synthetic_dictionary.py). --permutations, --bootstraps and --chance-images are
the settings of those names. Beside chance (§8.2 to §8.5, §8.7) stand presence with the plain labels (§8.6) and what an
untrained twin costs beyond its forward pass (§8.8): thresholds, tally and chance without resamples. The peak of
resident memory is that of the whole process, network and all.
"""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import settings
from benchmarks.measuring import peak_mib, read_options, timed
from benchmarks.speed import QUANTILE, bare_forward
from benchmarks.synthetic_dictionary import make_dictionary
from dictionary.dictionary import open_dictionary
from feature_operation import FeatureOperator
from loader.devices import choose_device
from loader.models import load_model
from method.tally import TallyStatistic
from store.dissection import extract, maps_of
from store.layer import LayerStore
from store.stages import MAPS

SCORE_THRESHOLD, ALPHA = 0.04, 0.05


def measure(options, folder):
    model = load_model("age", [options.layer], weights="random", device=choose_device("auto"))
    make_dictionary(folder / "dictionary", options.images, options.workers)
    dictionary = open_dictionary(
        folder / "dictionary", memory_folder=folder, workers=options.workers, mask_cache_mb=settings.MASK_CACHE_MB
    )
    images = len(dictionary.usable_rows)
    operator = FeatureOperator(model, dictionary, grid=model.grid, workers=options.workers)
    bare_forward(model, 256, 64, model.grid)  # warm-up
    _, forward = timed(bare_forward, model, images, 64, model.grid)
    config = SimpleNamespace(FEATURE_DTYPE="float32", BATCH_SIZE=64)
    store = LayerStore(folder, options.layer, dict.fromkeys(MAPS.inputs) | {"feature_dtype": config.FEATURE_DTYPE})
    extract(config, operator, {options.layer: store})
    maps = maps_of(operator, store)
    thresholds = operator.quantile_threshold(maps, QUANTILE)
    counted = tally(operator, maps, thresholds)  # comes first in main.py, too: it decodes the masks, and they are kept
    before = peak_mib()
    found, seconds = timed(
        operator.chance, {options.layer: (maps, counted)}, permutations=options.permutations,
        bootstraps=options.bootstraps, images=options.chance_images,
    )  # fmt: skip

    _, presence = timed(lambda: (operator.presence({options.layer: maps}), operator.wider_concepts))
    _, twin = timed(of_twin, operator, options, maps)
    chance = found[options.layer]
    print(f"{images} images, {options.layer}: {maps.shape[1:]} maps, {len(chance.concepts)} concepts")
    print(f"  forward pass {forward:8.1f} s   {1000 * forward / images:7.2f} ms per image")
    print(f"  chance       {seconds:8.1f} s   {1000 * seconds / images:7.2f} ms per image")
    print(f"  presence     {presence:8.1f} s   {1000 * presence / images:7.2f} ms per image")
    print(f"  of a twin    {twin:8.1f} s   {1000 * twin / images:7.2f} ms per image")
    print(f"  chance / forward {seconds / forward:.3f}")
    print(f"  (chance + presence + a twin) / forward {(seconds + presence + twin) / forward:.3f}")
    print(f"  peak resident memory {peak_mib():.0f} MiB, {before:.0f} MiB before")
    confirmed = int(chance.confirmed(SCORE_THRESHOLD, ALPHA).sum())
    print(f"  {int((chance.iou.max(axis=1) > SCORE_THRESHOLD).sum())} detectors, {confirmed} confirmed")


def tally(operator, maps, thresholds):
    dictionary = operator.dictionary
    statistic = TallyStatistic(thresholds, dictionary.concepts, dictionary.carries)
    return operator.tally({"layer": (maps, [statistic])})["layer"][0]


def of_twin(operator, options, maps):
    """What an untrained twin's layer costs beyond its forward pass; its maps are as large as the network's."""
    thresholds = operator.quantile_threshold(maps, QUANTILE)
    counted = tally(operator, maps, thresholds)
    operator.chance(
        {options.layer: (maps, counted)}, permutations=options.permutations, bootstraps=0,
        images=options.chance_images,
    )  # fmt: skip


def main():
    options = read_options(
        __doc__, images=4000, layer="layer4", workers=2, permutations=1000, bootstraps=200, chance_images=512
    )
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
