"""How long the analyses' own arithmetic takes at the published sizes, and how much memory, on made-up activations.

    python -m benchmarks.analyses --images 24632

Global bias: the probabilities of 512 units over 15,000 images in four subgroups, on one core. Hierarchy: all of
cluster_top.py's work on a memory map of --images images x 512 units of 4x4, with --workers WORKERS, reading included;
its memory is what the process takes beyond what it had before.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.measuring import peak_mib, read_options, timed
from dictionary.concepts import FACE_CONCEPTS
from method.bias import BiasFeatures
from method.findings import Findings
from method.hierarchy import Hierarchy
from method.tally import TallyStatistic
from store.feature_file import FeatureMaps
from store.peaks_file import PeaksFile, read_peaks

UNITS, SIDE = 512, 4


def made_up_layer(folder, images):
    """A memory map and a tally in which every unit is interpretable. Returns (Tally, FeatureMaps)."""
    random = np.random.default_rng(0)
    with open(folder / "maps", "wb") as file:
        for start in range(0, images, 512):
            count = min(512, images - start)
            file.write(random.standard_normal((count, UNITS, SIDE, SIDE), np.float32).tobytes())
    carries = random.random((images, len(FACE_CONCEPTS))) < 0.11
    tally = TallyStatistic(np.zeros(UNITS), FACE_CONCEPTS, carries).result()
    tally = replace(tally, tally=0.05 + random.random(tally.tally.shape) / 4)
    return tally, FeatureMaps(folder / "maps", (images, UNITS, SIDE, SIDE), "float32", np.ones(images, bool))


def hierarchy_of(tally, maps, folder, workers):
    """What cluster_top.py does with a layer. Returns Hierarchy."""
    findings = Findings(tally, 0.04)
    units = np.flatnonzero(findings.interpretable)
    with PeaksFile(maps.shape[0], len(units), folder) as peaks:
        read_peaks(peaks, maps, units, workers, "made up")
        return Hierarchy.of("made up", findings, peaks)


def main():
    options = read_options(__doc__, images=24632, workers=2)
    with tempfile.TemporaryDirectory() as folder:
        layer = made_up_layer(Path(folder), options.images)
        before = peak_mib()
        hierarchy, seconds = timed(hierarchy_of, *layer, folder, options.workers)
    print(f"hierarchy: {options.images} images x {UNITS} units of {SIDE}x{SIDE}: {seconds:.1f} s, "
          f"{len(hierarchy.concepts)} units, {peak_mib() - before:.0f} MiB beyond {before:.0f} MiB")  # fmt: skip

    random = np.random.default_rng(0)
    groups = {name: random.random((3750, UNITS), np.float32) for name in "abcd"}
    features = BiasFeatures(groups, np.zeros(UNITS, np.float32), np.ones(UNITS, np.float32))
    cpu = time.process_time()
    _, seconds = timed(features.probabilities)
    print(f"global bias: 15000 images x {UNITS} units: {seconds:.2f} s, {time.process_time() - cpu:.2f} s of one core")


if __name__ == "__main__":
    main()
