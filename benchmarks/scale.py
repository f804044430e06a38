"""What main.py costs per image at 10,000, 100,000 and 1,000,000 rows: seconds of its stages, memory and disk.

    python -m benchmarks.scale --rows 10000,100000,1000000 --out DIR

makes a dictionary of each size (see benchmarks/linked_dictionary.py), runs main.py on it with an untrained network of
three small convolutions at 32 px, 16 units of 4x4, so that the program's own cost is what is measured, and runs it once
more with nothing changed. --maps lists what is kept of the maps: float32, float16, sparse. --words are further settings
for main.py, as "TWINS=1 WORKERS=0". --processes 2 runs two, as torchrun does. --distinct 1 makes all photographs and
masks differ in content; links to a few are all that a disk holds of a million. --profile 1 says, after each run, which
functions take more than 3 % (with WORKERS=0). What lies in DIR is deleted after each size. Prints tables.
"""

import io
import json
import os
import platform
import pstats
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import settings
from benchmarks.linked_dictionary import make_linked, rendered
from benchmarks.measuring import read_options, timed
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
_MUCH = 0.03  # of a run, a function's own share that the profile names
LIMITS = {"peak_mib": 3 * 1024, "index": 20, "second check": 60}  # at 1,000,000 rows; the rest within 10 % per image


def run(out, words, processes, profile):
    """Run main.py once. Returns {"seconds": ..., "peak_mib": ..., "stages": {stage: [seconds, of all cores]}}.

    Of several processes seconds of the first one's stages, those of the cores of all together, the largest peak.
    """
    file = out / "run.json"
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "benchmarks.timed_main", str(file), *["--profile"] * profile, *words]
    ended, seconds = timed(subprocess.run, command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")
    files = sorted(path for path in out.glob("run.json*") if path.suffix != ".profile")
    first, *others = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    for other in others:
        for stage, (_, cores) in other["stages"].items():
            first["stages"].setdefault(stage, [0.0, 0.0])[1] += cores
    if profile:
        print(profiled(next(out.glob("*.profile"))), flush=True)
    for path in out.glob("run.json*"):
        path.unlink()
    return {**first, "seconds": seconds, "peak_mib": max(of["peak_mib"] for of in (first, *others))}


def profiled(path):
    """The functions of a profile that took most themselves, as text."""
    text = io.StringIO()
    stats = pstats.Stats(str(path), stream=text)
    stats.sort_stats("tottime")
    most = [name for name in stats.fcn_list if stats.stats[name][2] > _MUCH * stats.total_tt]
    lines = [f"  of {stats.total_tt:.1f} s, more than {_MUCH:.0%} themselves: calls, seconds, those called included"]
    for name in most:
        calls, _, own, whole, _ = stats.stats[name]
        lines.append(f"  {calls:12,} {own:8.1f} {whole:8.1f}  {pstats.func_std_string(name)}")
    return "\n".join(lines)


def size_of(folder, pattern="**/*"):
    """Of the files in a folder, MB."""
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file()) / 1e6


def measure(options, out, source, rows, maps):
    """Two runs on one dictionary with maps kept in some ways. Yields the facts of each way (dict)."""
    dictionary = out / "dictionary"
    _, making = timed(make_linked, dictionary, rows, source, options.side, bool(options.distinct))
    print(f"made {rows:,} rows in {making:.0f} s", file=sys.stderr)
    for kept in maps:
        words = [
            *NETWORK, *MAPS[kept], f"DICTIONARY={dictionary}", f"OUTPUT_FOLDER={out / 'result'}",
            f"NL_FOLDER={out / 'result'}", f"PLOT_FOLDER={out / 'result'}", f"CACHE_FOLDER={out / 'cache'}",
            *options.words.split(),
        ]  # fmt: skip
        first = run(out, words, options.processes, options.profile)
        second = run(out, words, options.processes, profile=0)
        yield {
            "rows": rows, "maps": kept, "first": first, "second": second, "map_mb": size_of(out / "result", "*.mmap"),
            "result_mb": size_of(out / "result"), "cache_mb": size_of(out / "cache"),
        }  # fmt: skip
        for folder in (out / "result", out / "cache"):
            shutil.rmtree(folder)
    shutil.rmtree(dictionary)


def of_stages(found, place=0):
    """Seconds of a run's stages together, without the start of Python. place: 1 for those of all cores."""
    return sum(of[place] for name, of in found["stages"].items() if name in {name for _, name in STAGES})


def of_stage(found, name, place=0):
    return found["stages"].get(name, (float("nan"),) * 2)[place]


def tables(measured):
    """What was measured, as Markdown."""
    yield ("| rows | maps | whole run | stages, per image | cores, per image | peak memory | index read | first check "
           "| second run | its check | map | results | cache |")  # fmt: skip
    yield "|--:|---" + "|--:" * 11 + "|"
    for one in measured:
        first, second, rows = one["first"], one["second"], one["rows"]
        yield (
            f"| {rows:,} | {one['maps']} | {first['seconds']:.1f} s | {1e6 * of_stages(first) / rows:.0f} µs "
            f"| {1e6 * of_stages(first, 1) / rows:.0f} µs | {max(first['peak_mib'], second['peak_mib']):.0f} MiB "
            f"| {of_stage(first, 'read_index'):.2f} s | {of_stage(first, 'check_files'):.1f} s "
            f"| {second['seconds']:.1f} s | {of_stage(second, 'open_dictionary'):.1f} s | {one['map_mb']:.0f} MB "
            f"| {one['result_mb']:.0f} MB | {one['cache_mb']:.0f} MB |"
        )
    yield ""
    yield "µs per image, on the clock (of all cores):"
    yield ""
    yield "| stage | " + " | ".join(f"{one['rows']:,} {one['maps']}" for one in measured) + " |"
    yield "|---" + "|--:" * len(measured) + "|"
    named = dict.fromkeys(name for one in measured for run in ("first", "second") for name in one[run]["stages"])
    for which, of_run in (("first", ""), ("second", "second run: ")):
        for name in named:
            cells = [[1e6 * of_stage(one[which], name, place) / one["rows"] for place in (0, 1)] for one in measured]
            if any(wall > 0.5 for wall, _ in cells):  # the second run leaves most out
                part = "- " if name in {name for _, name in PARTS} else ""
                row = " | ".join(f"{wall:.1f} ({cores:.1f})" for wall, cores in cells)
                yield f"| {part}{of_run}{name} | {row} |"


def misses(measured):
    """What of the aims of docs/scale.md is not reached, in sentences."""
    for kept in dict.fromkeys(one["maps"] for one in measured):
        of_kept = [one for one in measured if one["maps"] == kept]
        cores = [of_stages(one["first"], 1) / one["rows"] for one in of_kept]
        grown = max(later / cores[place] for place in range(len(cores)) for later in cores[place:]) - 1
        if grown > 0.1:
            yield f"{kept}: seconds of the cores per image grow by {grown:.0%} between sizes"
    for one in measured:
        found = {
            "peak_mib": max(one[which]["peak_mib"] for which in ("first", "second")),
            "index": of_stage(one["first"], "read_index"),
            "second check": of_stage(one["second"], "open_dictionary"),
        }
        for name, limit in LIMITS.items():
            if found[name] > limit:
                yield f"{one['rows']:,} rows, {one['maps']}: {name} is {found[name]:.0f}, above {limit}"


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
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        out = Path(folder)
        source = options.source or rendered(out / "rendered", options.faces)
        for rows in map(int, options.rows.split(",")):
            for one in measure(options, out, source, rows, known_maps(options.maps.split(","))):
                measured.append(one)
                print(f"{one['rows']:,} rows, {one['maps']}: {one['first']['seconds']:.1f} s", file=sys.stderr)
    print(f"{machine()}; {options.processes} process{'es' * (options.processes > 1)}, {options.words or 'no words'}\n")
    print("\n".join(tables(measured)))
    print("\n" + ("\n".join(misses(measured)) or "all aims are reached"))


if __name__ == "__main__":
    main()
