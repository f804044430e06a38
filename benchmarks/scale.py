"""What main.py costs per image at 10,000, 100,000 and 1,000,000 rows: seconds of its stages, memory and disk.

    python -m benchmarks.scale --rows 10000,100000,1000000 --out DIR

makes a dictionary of each size (see benchmarks/linked_dictionary.py), runs main.py on it with an untrained network of
three small convolutions at 32 px, 16 units of 4x4, so that the program's own cost is what is measured, and runs it once
more with nothing changed. --maps lists what is kept of the maps: float32, float16, sparse. --words are further settings
for main.py, as "TWINS=1 WORKERS=0". --processes 2 runs two, as torchrun does. --distinct 1 makes all photographs and
masks differ in content; links to a few are all that a disk holds of a million. --profile 1 says, after each run, which
functions take more than 2 % (with WORKERS=0). What lies in DIR is deleted after each size. Prints tables.
"""

import json
import os
import platform
import pstats
import shutil
import subprocess
import sys
import tempfile
from math import nan
from pathlib import Path
from typing import NamedTuple

import torch

import settings
from benchmarks.linked_dictionary import make_linked, rendered
from benchmarks.measuring import launched, read_options, timed
from benchmarks.timed_main import PARTS, STAGES

PROJECT = Path(__file__).resolve().parents[1]
NETWORK = (
    "TASK=convnet", "ARCHITECTURE=8-8-16", "LAYER_NAME=block3", "WEIGHTS=random", "INPUT_SIZE=32", "TWINS=1",
)  # fmt: skip
# How maps are kept: settings of each way.
MAPS = {
    "float32": ("FEATURE_DTYPE=float32",),
    "float16": ("FEATURE_DTYPE=float16",),
    "sparse": ("FEATURE_DTYPE=float32", "FEATURES=sparse"),
}
_MUCH = 0.02  # of a run, the share from which a profile names a function
_LITTLE = 1e-6  # seconds per image from which a stage stands in the table
LIMITS = {"peak": 3 * 1024, "index": 20, "check": 60}  # of Measured, at 1,000,000 rows
_GROWTH = 0.1  # the most by which seconds per image may grow from a smaller size to a larger one


def run(out, words, processes, profile):
    """Run main.py once. Returns (seconds; {stage: [seconds, of all cores, peak of memory in MiB]}).

    Of several processes the seconds are the first one's, those of the cores all processes' and the peak the largest.
    """
    file = out / "run.json"
    options = [str(file), *["--profile"] * profile]
    command = [sys.executable, *launched(processes), "-m", "benchmarks.timed_main", *options, *words]
    ended, seconds = timed(subprocess.run, command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")
    if profile:
        print(profiled(next(out.glob("*.profile"))), flush=True)
    files = sorted(path for path in out.glob("run.json*") if path.suffix != ".profile")
    first, *others = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    for path in out.glob("run.json*"):
        path.unlink()
    for stage, (_, cores, peak) in (item for other in others for item in other.items()):
        before = first.get(stage, (0.0, 0.0, 0.0))
        first[stage] = [before[0], before[1] + cores, max(before[2], peak)]
    return seconds, first


def profiled(path):
    """What took most in a profile, as text: functions of this program with what they call, any functions themselves."""
    stats = pstats.Stats(str(path))
    lines = [f"of {stats.total_tt:.1f} s: calls, seconds with what is called, seconds by itself"]
    of = {function: (calls, whole, own) for function, (_, calls, own, whole, _) in stats.stats.items()}
    for function, (calls, whole, own) in sorted(of.items(), key=lambda item: -item[1][1]):
        ours = str(PROJECT) in function[0] and "/benchmarks/" not in function[0]
        if own > _MUCH * stats.total_tt or (ours and whole > _MUCH * stats.total_tt):
            name = pstats.func_std_string(function).replace(f"{PROJECT}/", "")
            lines.append(f"{calls:12,} {whole:8.1f} {own:8.1f}  {name}")
    return "\n".join(lines)


def size_of(folder, pattern="**/*"):
    """Of the files in a folder, MB."""
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file()) / 1e6


class Measured(NamedTuple):
    """Two runs on one dictionary. maps: one of MAPS. seconds, again: of the first and the second run as a whole. first,
    second: of their stages, see run. disk: MB of the memory maps, of all results and of the cache.
    """

    rows: int
    maps: str
    seconds: float
    first: dict
    again: float
    second: dict
    disk: tuple

    @property
    def cores(self):
        """Seconds of all cores per image of the first run's stages, without the start of Python."""
        return sum(self.first[name][1] for _, name in STAGES if name in self.first) / self.rows

    @property
    def peak(self):
        """Of resident memory, MiB, of both runs."""
        return max(peak for of in (self.first, self.second) for _, _, peak in of.values())

    @property
    def index(self):
        """Seconds in which the index is read."""
        return self.first.get("read_index", (nan,))[0]

    @property
    def check(self):
        """Seconds in which the second run finds that no file of the dictionary has changed."""
        return self.second.get("open_dictionary", (nan,))[0]


def measure(options, out, source, rows, maps):
    """Two runs on one dictionary for each of some ways of keeping maps. Yields Measured."""
    dictionary, result, cache = (out / name for name in ("dictionary", "result", "cache"))
    _, making = timed(make_linked, dictionary, rows, source, options.side, bool(options.distinct))
    print(f"made {rows:,} rows in {making:.0f} s", file=sys.stderr)
    for kept in maps:
        words = [
            *NETWORK, *MAPS[kept], f"DICTIONARY={dictionary}", f"OUTPUT_FOLDER={result}", f"NL_FOLDER={result}",
            f"PLOT_FOLDER={result}", f"CACHE_FOLDER={cache}", *options.words.split(),
        ]  # fmt: skip
        runs = run(out, words, options.processes, options.profile), run(out, words, options.processes, profile=0)
        disk = size_of(result, "*.mmap"), size_of(result), size_of(cache)
        yield Measured(rows, kept, *runs[0], *runs[1], disk)
        for folder in (result, cache):
            shutil.rmtree(folder)
    shutil.rmtree(dictionary)


def tables(measured):
    """What was measured, as lines of Markdown. measured: list of Measured."""
    yield ("| rows | maps | first run | of all cores, per image | peak memory | index read | first check | second run "
           "| its check | map | results | cache |")  # fmt: skip
    yield "|--:|---" + "|--:" * 10 + "|"
    for one in measured:
        disk = " | ".join(f"{size:,.0f} MB" for size in one.disk)
        yield (
            f"| {one.rows:,} | {one.maps} | {one.seconds:.1f} s | {1e6 * one.cores:,.0f} µs | {one.peak:,.0f} MiB "
            f"| {one.index:.1f} s | {one.first.get('open_dictionary', (nan,))[0]:.1f} s | {one.again:.1f} s "
            f"| {one.check:.1f} s | {disk} |"
        )
    yield from ("", "Per image on the clock, of all cores; peak of memory:", "")
    yield "| stage | " + " | ".join(f"{one.rows:,} {one.maps}" for one in measured) + " |"
    yield "|---" + "|--:" * len(measured) + "|"
    for _, name in (*STAGES, *PARTS):
        for title, of_run in ((name, "first"), (f"{name}, second run", "second")):
            found = [getattr(one, of_run).get(name, (0, 0, 0)) for one in measured]
            if any(wall > _LITTLE * one.rows for (wall, *_), one in zip(found, measured, strict=True)):
                cells = [f"{1e6 * wall / one.rows:,.1f} µs, {1e6 * cores / one.rows:,.1f} µs; {peak:,.0f} MiB"
                         for (wall, cores, peak), one in zip(found, measured, strict=True)]  # fmt: skip
                yield f"| {title} | {' | '.join(cells)} |"


def misses(measured):
    """What of the aims is not reached, in sentences. measured: list of Measured, by ascending rows."""
    for kept in dict.fromkeys(one.maps for one in measured):
        cores = [one.cores for one in measured if one.maps == kept]
        grown = max(later / cores[place] for place in range(len(cores)) for later in cores[place:]) - 1
        if grown > _GROWTH:
            yield f"{kept}: seconds of the cores per image grow by {grown:.0%} between sizes"
    for one in measured:
        for name, limit in LIMITS.items():
            if getattr(one, name) > limit:
                yield f"{one.rows:,} rows, {one.maps}: {name} is {getattr(one, name):,.0f}, above {limit:,}"


def known_maps(asked):
    """The ways of keeping maps that this version of the program has."""
    there = [kept for kept in asked if kept != "sparse" or hasattr(settings, "FEATURES")]
    for kept in asked:
        if kept not in there:
            print(f"this version of the program has no {kept} maps: left out", file=sys.stderr)
    return there


def machine():
    """In words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, "
            f"torch {torch.__version__}, {platform.system()}")  # fmt: skip


def main():
    options = read_options(
        __doc__, rows="10000,100000,1000000", out=tempfile.gettempdir(), maps="float32,float16,sparse", source="",
        faces=300, side=64, distinct=0, words="", processes=1, profile=0,
    )  # fmt: skip
    measured = []
    Path(options.out).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        out = Path(folder)
        source = options.source or rendered(out / "rendered", options.faces)
        for rows in map(int, options.rows.split(",")):
            for one in measure(options, out, source, rows, known_maps(options.maps.split(","))):
                measured.append(one)
                print(f"{rows:,} rows, {one.maps}: {one.seconds:.0f} s", file=sys.stderr)
    print(f"{machine()}; {options.processes} process{'es' * (options.processes > 1)}, {options.words or 'no words'}\n")
    print("\n".join(tables(measured)))
    print("\n" + ("\n".join(misses(measured)) or "all aims are reached"))


if __name__ == "__main__":
    main()
