"""How long the analyses' own arithmetic takes at the published sizes, and how much memory, on made-up activations.

    python -m benchmarks.analyses --images 24632

Global bias: the probabilities of 512 units over 15,000 images in four subgroups, on one core. Hierarchy: all of
cluster_top.py's work on a memory map of 512 units of 4x4, reading included; its memory is what the process takes beyond
what it had before.
"""

import argparse
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from dictionary.concepts import FACE_CONCEPTS
from method.bias import BiasFeatures
from method.findings import Findings
from method.hierarchy import Hierarchy
from method.tally import Tally
from store.feature_file import FeatureMaps
from store.peaks_file import PeaksFile, read_peaks

UNITS, SIDE = 512, 4


def peak_mib():
    """Peak resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == "Darwin" else 2**10)


def made_up_layer(folder, images):
    """A memory map and a tally in which every unit is interpretable. Returns (Tally, FeatureMaps)."""
    random = np.random.default_rng(0)
    with open(folder / "maps", "wb") as file:
        for start in range(0, images, 512):
            count = min(512, images - start)
            file.write(random.standard_normal((count, UNITS, SIDE, SIDE), np.float32).tobytes())
    shape = UNITS, len(FACE_CONCEPTS)
    counts = np.ones(shape, int)
    tally = Tally(
        tally=0.05 + random.random(shape) / 4, maps=np.full((*shape, 20), -1), scores=np.zeros((*shape, 20)),
        intersection=counts, union=counts, union_active=counts,
        concepts=np.array([concept.name for concept in FACE_CONCEPTS]),
        types=np.array([concept.type for concept in FACE_CONCEPTS]),
        regions=np.array([concept.region for concept in FACE_CONCEPTS]),
        carries=random.random((images, len(FACE_CONCEPTS))) < 0.11, thresholds=np.zeros(UNITS),
        iou_union=np.array("all"),
    )  # fmt: skip
    return tally, FeatureMaps(folder / "maps", (images, UNITS, SIDE, SIDE), "float32", np.ones(images, bool))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24632, help="of the hierarchy (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="WORKERS (default: %(default)s)")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        tally, maps = made_up_layer(Path(folder), arguments.images)
        before, start = peak_mib(), time.perf_counter()
        findings = Findings(tally, 0.04)
        units = np.flatnonzero(findings.interpretable)
        with PeaksFile(maps.shape[0], len(units), folder) as peaks:
            read_peaks(peaks, maps, units, arguments.workers, "made up")
            hierarchy = Hierarchy.of("made up", findings, peaks)
        seconds = time.perf_counter() - start
    print(f"hierarchy: {arguments.images} images x {UNITS} units of {SIDE}x{SIDE}: {seconds:.1f} s, "
          f"{len(hierarchy.concepts)} units, {peak_mib() - before:.0f} MiB beyond {before:.0f} MiB")  # fmt: skip

    random = np.random.default_rng(0)
    groups = {name: random.random((3750, UNITS), np.float32) for name in "abcd"}
    features = BiasFeatures(groups, np.zeros(UNITS, np.float32), np.ones(UNITS, np.float32))
    start, cpu = time.perf_counter(), time.process_time()
    features.probabilities()
    print(f"global bias: 15000 images x {UNITS} units: {time.perf_counter() - start:.2f} s, "
          f"{time.process_time() - cpu:.2f} s of one core")  # fmt: skip


if __name__ == "__main__":
    main()
