"""Peak resident memory of `python main.py`, from start to end, at a chosen number of images.

    python -m benchmarks.memory --images 24632 --layer layer1

Runs the program on a made-up dictionary of about --images images with a --layer of the untrained age model (ResNet-50
at 128 px), both kept below --folder for the while. Prints what /usr/bin/time -v would: the maximum resident set size,
mapped pages of files included.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import peak_mib, read_options, timed
from benchmarks.synthetic_dictionary import make_dictionary


def main():
    options = read_options(__doc__, images=2000, layer="layer1", folder=tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        folder = Path(folder)
        make_dictionary(folder / "dictionary", options.images, workers=2)
        command = [
            sys.executable, "main.py", "TASK=age", "WEIGHTS=random", f"LAYER_NAME={options.layer}",
            f"DICTIONARY={folder / 'dictionary'}", f"OUTPUT_FOLDER={folder / 'result'}",
            f"CACHE_FOLDER={folder / 'cache'}",
        ]  # fmt: skip
        _, seconds = timed(subprocess.run, command, check=True)
        size = next((folder / "result").glob("*.mmap")).stat().st_size
    peak = peak_mib(resource.RUSAGE_CHILDREN)
    print(f"{options.images} images, {options.layer}: peak resident memory {peak:.0f} MiB, "
          f"memory map {size / 2**20:.0f} MiB, {seconds:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
