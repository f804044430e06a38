"""Peak resident memory of `python main.py`, from start to end, at a chosen number of images.

    python -m benchmarks.memory --images 24632 --layer layer1

Runs the program on a made-up dictionary with the untrained age model (ResNet-50 at 128 px) and prints what
/usr/bin/time -v would: the maximum resident set size, mapped pages of files included.
"""

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.synthetic_dictionary import make_dictionary


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="about how many (default: %(default)s)")
    parser.add_argument("--layer", default="layer1", help="layer of the age model (default: %(default)s)")
    parser.add_argument("--folder", help="where to put the dictionary and the results (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        folder = Path(folder)
        make_dictionary(folder / "dictionary", arguments.images, workers=2)
        words = {
            "TASK": "age", "WEIGHTS": "random", "LAYER_NAME": arguments.layer, "DICTIONARY": folder / "dictionary",
            "OUTPUT_FOLDER": folder / "result", "CACHE_FOLDER": folder / "cache",
        }  # fmt: skip
        start = time.perf_counter()
        subprocess.run([sys.executable, "main.py", *(f"{key}={value}" for key, value in words.items())], check=True)
        seconds = time.perf_counter() - start
        # Kilobytes on Linux, bytes on macOS.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
        size = next((folder / "result").glob("*.mmap")).stat().st_size
        print(
            f"{arguments.images} images, {arguments.layer}: peak resident memory {peak / 2**20:.0f} MiB, "
            f"memory map {size / 2**20:.0f} MiB, {seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
