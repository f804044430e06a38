"""How long ablating every unit alone takes, from kept maps and with the whole network.

    python -m benchmarks.ablation --architecture resnet18 --layer layer4 --images 2000 --side 128

Made-up images; the network is untrained, which takes as long as a trained one. --whole images are run whole with --sets
of the units, the time of all being extrapolated from them.
"""

import time
from dataclasses import replace

import numpy as np

from benchmarks.measuring import peak_mib, timed
from benchmarks.measuring import read_options as options_of
from loader.ablation import NetworkBehind, ablated_pass
from loader.models import load_model
from loader.predictions import Classes


def main():
    options = options_of(
        __doc__, architecture="resnet18", layer="layer4", images=2000, side=128, batch=64, whole=64, sets=8
    )
    model = load_model(
        "torchvision", [options.layer], weights="random", architecture=options.architecture, num_classes=2,
        input_size=options.side,
    )  # fmt: skip
    model = replace(model, spec=replace(model.spec, predicts=Classes("gender", ("female", "male"))))
    images = np.random.default_rng(0).integers(0, 256, (options.batch, *model.grid, 3), np.uint8)
    behind = NetworkBehind(model, images)
    sets = [[unit] for unit in range(behind.units)]
    seconds, cores = measured(
        ablated_pass, model, sets, options.images, lambda place: images[place % options.batch], value=None,
        batch_size=options.batch, workers=0, label="split",
    )  # fmt: skip
    kept = behind.keep(images[: options.whole])
    behind.split = False
    whole, of_whole = measured(lambda: [behind.run(kept, units) for units in sets[: options.sets]])
    share = options.images / len(kept.inputs) * len(sets) / options.sets
    print(
        f"{options.architecture} {options.layer}, {options.side} px, {len(sets)} units x {options.images} images: from "
        f"kept maps {seconds:.0f} s ({cores:.0f} s of cores); whole {whole * share:.0f} s ({of_whole * share:.0f} s), "
        f"extrapolated from {options.sets} units x {len(kept.inputs)} images; {peak_mib():.0f} MiB"
    )


def measured(function, *arguments, **options):
    """Seconds on the clock, and those of all cores."""
    cores = time.process_time()
    _, seconds = timed(function, *arguments, **options)
    return seconds, time.process_time() - cores


if __name__ == "__main__":
    main()
