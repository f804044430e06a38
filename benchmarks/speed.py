"""How long the stages of main.py take beside the bare forward pass, in one process.

    python -m benchmarks.speed --images 2000

The network is the age model's ResNet-50 at 128 px, untrained, whose layer4 has 512 units of 4x4; --layer layer1 takes
64 units of 32x32. --images says about how many, --batch BATCH_SIZE and --workers WORKERS. The bare forward pass is the
same network, whole, on as many batches of noise made beforehand; image decoding is the reading of all images by the
program's own threads. "main.py without report" is the sum of its stages: checking the dictionary, extraction,
thresholds and tally. The plain loop goes image by image and unit by unit, on --loop-images images.
"""

import os
import platform
import tempfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch

from benchmarks.measuring import read_options, timed
from benchmarks.synthetic_dictionary import make_dictionary
from dictionary.dictionary import open_dictionary
from dictionary.images import load_image
from feature_operation import FeatureOperator
from loader.devices import choose_device, describe_device
from loader.models import load_model
from method.tally import TallyStatistic
from store.dissection import extract, maps_of
from store.layer import LayerStore
from store.stages import MAPS
from util.parallel import ordered_map

QUANTILE = 0.005


def decode(dictionary, grid, workers):
    paths = [dictionary.image_path(row) for row in dictionary.usable_rows]
    for _ in ordered_map(lambda path: load_image(path, grid), paths, workers, ahead=64):
        pass


def bare_forward(model, images, batch_size, grid):
    """Run the whole network over `images` images in batches, nothing else; the batch is made once and reused."""
    batch = model.preprocess(np.random.default_rng(0).integers(0, 256, (batch_size, *grid, 3), np.uint8))
    with torch.inference_mode():
        for start in range(0, images, batch_size):
            model.module(batch[: images - start])
        if batch.is_cuda:
            torch.cuda.synchronize()


def loop_tally(dictionary, features, thresholds, grid, images):
    """The tally as a loop over images, units and masks, as a first program would be: for comparison only."""
    for row in dictionary.usable_rows[:images]:
        maps = features.read(row.index, row.index + 1)[0]
        masks = [
            cv2.resize(cv2.imread(str(dictionary.root / path), cv2.IMREAD_GRAYSCALE), grid[::-1]) > 127
            for path in row.masks.values()
        ]
        for unit, activation in enumerate(maps):
            active = cv2.resize(activation, grid[::-1], interpolation=cv2.INTER_LINEAR) > thresholds[unit]
            for mask in masks:
                np.logical_and(active, mask).sum()
                np.logical_or(active, mask).sum()


def measure(options, folder):
    device = choose_device("auto")
    model = load_model("age", [options.layer], weights="random", device=device)
    grid, layer = model.grid, options.layer
    make_dictionary(folder / "dictionary", options.images, options.workers)
    seconds = {}

    dictionary, seconds["check"] = timed(
        open_dictionary, folder / "dictionary", memory_folder=folder, workers=options.workers
    )
    images = len(dictionary.usable_rows)
    bare_forward(model, 4 * options.batch, options.batch, grid)  # warm-up
    _, seconds["forward"] = timed(bare_forward, model, images, options.batch, grid)
    _, seconds["decode"] = timed(decode, dictionary, grid, options.workers)
    operator = FeatureOperator(model, dictionary, grid=grid, batch_size=options.batch, workers=options.workers)
    config = SimpleNamespace(FEATURE_DTYPE="float32", BATCH_SIZE=options.batch)
    store = LayerStore(folder, layer, dict.fromkeys(MAPS.inputs) | {"feature_dtype": config.FEATURE_DTYPE})
    _, seconds["extraction"] = timed(extract, config, operator, {layer: store})
    maps = maps_of(operator, store)
    thresholds, seconds["threshold"] = timed(operator.quantile_threshold, maps, QUANTILE)
    statistic = TallyStatistic(thresholds, dictionary.concepts, dictionary.carries)
    _, seconds["tally"] = timed(operator.tally, {layer: (maps, [statistic])})
    _, loop_seconds = timed(loop_tally, dictionary, maps, thresholds, grid, options.loop_images)

    print(f"{platform.machine()}, {os.cpu_count()} cores, {describe_device(device)}, torch {torch.__version__}")
    print(f"{images} images, {layer}: {maps.shape[1:]} maps, batches of {options.batch}")
    for stage, duration in seconds.items():
        print(f"  {stage:<12} {duration:8.1f} s   {1000 * duration / images:7.2f} ms per image")
    whole = sum(seconds[stage] for stage in ("check", "extraction", "threshold", "tally"))
    print(f"  tally / forward                      {seconds['tally'] / seconds['forward']:.3f}")
    print(f"  main.py without report / (forward + decode) {whole / (seconds['forward'] + seconds['decode']):.3f}")
    loop_share = (loop_seconds / options.loop_images) / (seconds["forward"] / images)
    print(f"  plain loop / forward                 {loop_share:.3f}   ({options.loop_images} images)")


def main():
    options = read_options(__doc__, images=2000, layer="layer4", batch=64, workers=2, loop_images=20)
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
