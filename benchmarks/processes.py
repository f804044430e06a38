"""How much faster main.py is in several processes of one thread than in one.

    python -m benchmarks.processes --images 4000 --processes 1,2

ResNet-50 as torchvision has it, untrained, layer4, at the 128 px of the age model (--size), made-up photographs of the
size of the published dictionary's; each process has one thread and reads ahead with none. Counted from the first batch
to the reports, which are left out, as are untrained twins (each costs what the network costs). The results must be the
same to the last byte.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.measuring import launched, read_options
from benchmarks.synthetic_dictionary import make_dictionary

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("extract", "threshold", "tally", "chance", "formulas")


def run(folder, processes, words):
    """Run main.py in so many processes. Returns ({stage: seconds}, {file: digest})."""
    for name in ("result", "cache"):  # masks are decoded anew
        shutil.rmtree(folder / name, ignore_errors=True)
    times = folder / "times.json"
    command = [sys.executable, *launched(processes), "-m", "benchmarks.timed_main", str(times), "--no-reports", *words]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    of_first = times.with_name("times.json.0") if processes > 1 else times
    spent = json.loads(of_first.read_text())
    seconds = {stage: spent[stage][0] for stage in STAGES}
    results = sorted(path for path in (folder / "result").iterdir() if path.suffix in (".mmap", ".npy", ".npz"))
    return seconds, {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in results}


def measure(options, folder):
    make_dictionary(folder / "dictionary", options.images, 2)
    words = [
        "TASK=torchvision", f"ARCHITECTURE={options.architecture}", "WEIGHTS=random", f"LAYER_NAME={options.layer}",
        f"DICTIONARY={folder / 'dictionary'}", f"OUTPUT_FOLDER={folder / 'result'}", f"NL_FOLDER={folder / 'result'}",
        f"CACHE_FOLDER={folder / 'cache'}", "TWINS=0", "WORKERS=0", "DEVICE=cpu", f"INPUT_SIZE={options.size}",
    ]  # fmt: skip
    found = {count: run(folder, count, words) for count in map(int, options.processes.split(","))}
    (first, (alone, expected)), *others = found.items()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    network = f"{options.architecture} {options.layer}, {options.size} px"
    print(f"{options.images} images, {network}, one thread a process; seconds")
    print("  processes   " + " ".join(f"{stage:>13}" for stage in (*alone, "all")) + "   times as fast")
    for count, (seconds, digests) in found.items():
        whole = sum(seconds.values())
        numbers = " ".join(f"{part:13.1f}" for part in (*seconds.values(), whole))
        print(f"  {count:<11} {numbers}   {sum(alone.values()) / whole:.2f}")
        if digests != expected:
            unlike = [name for name in expected if digests.get(name) != expected[name]]
            raise SystemExit(f"{count} processes gave other results than {first}: {', '.join(unlike)}")
    if others:
        print(f"  the same bytes in all of {', '.join(expected)}")


def main():
    options = read_options(__doc__, images=4000, processes="1,2", architecture="resnet50", layer="layer4", size=128)
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
