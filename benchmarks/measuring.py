"""What the measurements share: a command line, a clock, and the memory of processes."""

import argparse
import platform
import resource
import time
from pathlib import Path


def read_options(description, **defaults):
    """The options of the command line. defaults: name -> value, whose type is the option's. Returns Namespace."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help="default: %(default)s")
    return parser.parse_args()


def timed(function, *arguments, **options):
    """Returns (result, seconds)."""
    start = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - start


def peak_of(function, *arguments, **options):
    """Returns (result, resident memory before the call, its peak during the call, MiB). See forget_peak."""
    forget_peak()
    before = status_mib("VmRSS")
    return function(*arguments, **options), before, status_mib("VmHWM")


def forget_peak():
    """Have this process's peak of resident memory, VmHWM, begin anew. On Linux, where the system lets it."""
    Path("/proc/self/clear_refs").write_text("5")


def status_mib(name):
    """What Linux says of this process's memory: 'VmRSS', resident now, 'VmHWM', its peak. MiB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 2**10


def peak_mib(whose=resource.RUSAGE_SELF):
    """Peak resident memory of this process, or of those that it ran (resource.RUSAGE_CHILDREN), so far, MiB."""
    return resource.getrusage(whose).ru_maxrss / (2**20 if platform.system() == "Darwin" else 2**10)
