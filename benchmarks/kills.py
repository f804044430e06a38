"""Does main.py end the same, whatever happens to it? Killed at random moments, on a full disk, two at once.

    python -m benchmarks.kills --kills 50 --processes 1,2 --disk-full 10 --together 3 --seed 0

A small dissection (O-Net's layer3 and an untrained twin over a few made-up pictures) is run undisturbed, then again and
again in fresh folders, each time disturbed, and then with the same command until it ends well. Its results must be the
undisturbed run's, byte for byte, but for the dates in PDFs and the times in manifests. All moments are drawn from
--seed.

--kills: so often a signal takes it at a random moment from its first file on (--signals KILL,INT,TERM: one of these; by
default SIGKILL): with one process (--processes 1) itself, with more, as torchrun starts them, one of them or torchrun
and all. --words: further settings, as "FEATURES=sparse". --disk-full: so often a disk of a random size is full; it must
end with exit code 2 and one line that names the place, and, once the disk is larger, go on. That disk is a tmpfs in a
namespace of its own; where the system allows none, it is left out. --together: so often two runs start at once, on one
folder, where one must be refused in one line, and on one cache with a folder each. Prints a table; ends with 1 when
anything is not as it must be.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measuring import launched, read_options
from benchmarks.synthetic_dictionary import make_dictionary

PROJECT = Path(__file__).resolve().parents[1]
SETTINGS = (
    "TASK=onet", "LAYER_NAME=layer3", "INPUT_SIZE=48", "BATCH_SIZE=5", "TALLY_BATCH_SIZE=4", "TOPN=1",
    "PERMUTATIONS=20", "BOOTSTRAPS=5", "TWINS=1",
)  # fmt: skip
IMAGES = 24
_ATTEMPTS = 3  # of the same command, to end well
_PATIENCE = 600.0  # seconds for a run to end, also once one of its processes was killed
_POLL = 0.003  # seconds
_LARGE = "1g"  # a disk that is never full
REFUSED = "another run is working on"
HAD_ENDED = "had ended"
DONE = "\nopen "  # begins the last line
FULL = ("the disk is full", "MB free")


# --------------------------------------------------------------------------------------------------------- comparing


def results_of(folder):
    """The files of a result folder without what tells the time in them: {relative path: hex digest}. Hidden ones are
    left out, see leftovers.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): hashlib.sha256(timeless(path)).hexdigest() for path in files}


def timeless(path):
    """The content of a file without dates of its making and folders of the run. Returns bytes."""
    content = path.read_bytes()
    if path.suffix == ".pdf":
        return re.sub(rb"/CreationDate \([^)]*\)|/ID \[[^]]*\]|startxref\s+\d+", b"", content)
    if path.name.endswith("_manifest.json"):
        return _without(content, {"mtime_ns"}, of_pdf={"bytes", "digest"})
    return _without(content, set()) if path.name.endswith("_settings.json") else content


def _without(content, names, of_pdf=frozenset()):
    """JSON without some names and whatever lies in folders of the run."""

    def stripped(value, names):
        if isinstance(value, dict):
            return {name: stripped(of, names | of_pdf if name.endswith(".pdf") else names)
                    for name, of in value.items() if name not in names and not name.endswith("_FOLDER")}  # fmt: skip
        return [stripped(of, names) for of in value] if isinstance(value, list) else value

    return json.dumps(stripped(json.loads(content), names), sort_keys=True).encode()


def differences(found, expected):
    """The names of files that are missing, too many or another, sorted."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def leftovers(*folders):
    """What a run should have cleared away: hidden files, list of relative paths."""
    return [str(path.relative_to(folder)) for folder in folders for path in folder.rglob(".*") if path.is_file()]


# ---------------------------------------------------------------------------------------------------------- running


class Place(NamedTuple):
    """Where a dissection runs. folder: of its results and cache. dictionary: its folder. cache: by default within."""

    folder: Path
    dictionary: Path
    cache: Path | None = None
    more = ()  # of settings for all runs, see --words

    @property
    def result(self):
        return self.folder / "result"

    def command(self, processes=1):
        folders = [f"{name}_FOLDER={self.result}" for name in ("OUTPUT", "NL", "PLOT")]
        words = [*SETTINGS, *self.more, *folders, f"CACHE_FOLDER={self.cache or self.folder / 'cache'}",
                 f"DICTIONARY={self.dictionary}"]  # fmt: skip
        return [sys.executable, *launched(processes), "main.py", *words]

    def started(self):
        """Whether anything has been written."""
        return any(path.is_file() for path in self.folder.rglob("*"))

    def cleared(self):
        """Have it empty. Returns itself."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self


class Run:
    """A run of a command, begun. Its output goes to a file, text."""

    def __init__(self, command):
        self.output, self.begun = tempfile.TemporaryFile("w+"), time.monotonic()  # noqa: SIM115 - closed with it
        self.process = subprocess.Popen(
            command, cwd=PROJECT, stdout=self.output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def ended(self, known=()):
        """Wait for its end, and that of its processes. known: of those, some, see family. Returns (exit code, output);
        the code is None where one did not end, and was killed.
        """
        processes = {*known, *family(self.process.pid)}
        try:
            code = self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        if not gone(processes):
            code = None
        for process in processes | {*family(self.process.pid)} if code is None else ():
            kill(process)
        self.process.wait()
        gone(processes)
        self.output.seek(0)
        return code, self.output.read()

    def wait_for(self, happened):
        """Wait until something happened or the run ended. Returns seconds since it began."""
        while not happened() and self.process.poll() is None:
            time.sleep(_POLL)
        return time.monotonic() - self.begun


def family(pid):
    """A process, those that it started, and theirs: list of (pid, when it began), which no later one is taken for."""
    parents, begun = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        if fields := _status(place.name):
            parents[int(place.name)], begun[int(place.name)] = int(fields[1]), fields[19]
    found = [pid] if pid in parents else []
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return [(one, begun[one]) for one in found]


def _status(pid):
    """What /proc says of a process behind its name: list of text, None when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def is_alive(process):
    fields = _status(process[0])
    return bool(fields) and fields[19] == process[1] and fields[0] != "Z"


def told(output):
    """The end of what a run said, without what torchrun says behind it."""
    return re.split(r"^[WE]\d{4} .*torch/distributed", output, maxsplit=1, flags=re.MULTILINE)[0].strip()[-800:]


def gone(processes):
    """Wait until processes have ended. Returns whether they did."""
    deadline = time.monotonic() + _PATIENCE
    while (alive := any(map(is_alive, processes))) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return not alive


def kill(process, how=signal.SIGKILL):
    if is_alive(process):
        os.kill(process[0], how)


# ------------------------------------------------------------------------------------------------- what may happen


class Outcome(NamedTuple):
    """What became of one disturbed run. what: of it, in a few words. wrong: what is not as it must be, in words, empty
    when all is well. left: leftovers.
    """

    what: str
    wrong: str = ""
    left: tuple = ()

    @property
    def late(self):
        """Whether the run had ended before it was to be disturbed."""
        return self.what.startswith(HAD_ENDED)


class Trial:
    """Disturbed runs beside an undisturbed one. work: folder for all. seed: of what is drawn. signals: that kill."""

    def __init__(self, work, seed, signals=("KILL",)):
        self.work, self.random, self.signals = work, np.random.default_rng(seed), signals
        self.dictionary = work / "dictionary"
        make_dictionary(self.dictionary, IMAGES, workers=0)
        self.expected, self.first, self.last = {}, {}, {}

    def undisturbed(self, processes):
        """Run it undisturbed; results of several processes must be those of one. Returns Outcome."""
        place = Place(self.work / "run", self.dictionary).cleared()
        run = Run(place.command(processes))
        self.first[processes] = run.wait_for(place.started)
        code, output = run.ended()
        self.last[processes] = time.monotonic() - run.begun
        if code != 0:
            return Outcome("undisturbed", f"ended with {code}: {told(output)}")
        found = results_of(place.result)
        self.expected = self.expected or found
        return self.judged("undisturbed", place)

    def killed(self, processes):
        """Kill it at a random moment. Returns Outcome."""
        place = Place(self.work / "run", self.dictionary).cleared()
        share, victim = self.random.random(), int(self.random.integers(processes + 1 if processes > 1 else 1))
        name = self.signals[self.random.integers(len(self.signals))]
        run = Run(place.command(processes))
        run.wait_for(place.started)
        moment = time.monotonic() + share * (self.last[processes] - self.first[processes])
        lasted = run.wait_for(lambda: time.monotonic() >= moment)
        of_run = family(run.process.pid)
        ranks = of_run[1:] if processes > 1 else of_run
        alone = victim < len(ranks) and victim < processes
        for process in [ranks[victim]] if alone else of_run:
            kill(process, getattr(signal, f"SIG{name}"))
        code, output = run.ended(of_run)
        what = (f"process {victim}" if processes > 1 else "itself") if alone else "torchrun and all"
        what += f" by {name}" * (len(self.signals) > 1)
        if code is None:
            return Outcome(what, f"the others did not end when it was killed, at {share:.0%}")
        what = HAD_ENDED if code == 0 else what
        if code == 0:  # the machine is quicker than it was: the next moment is drawn from less time
            self.last[processes] = min(self.last[processes], lasted)
        said = output.count("\nerror: ")
        # The first process is the one that speaks; what is told to stop as by Ctrl-C says so otherwise.
        must = processes > 1 and alone and victim > 0 and DONE not in output
        if said > 1 or said < must:
            return Outcome(what, f"{said} lines of error: {told(output)}")
        return self.finished(what, place, processes)

    def finished(self, what, place, processes=1):
        """Run the same command until it ends well, and look at what it leaves. Returns Outcome."""
        for _ in range(_ATTEMPTS):
            code, output = Run(place.command(processes)).ended()
            if code == 0:
                return self.judged(what, place)
            what += f", then {code}: {told(output)[-100:]!r}"
        return Outcome(what, f"the same command ended with {code}: {told(output)}")

    def judged(self, what, place):
        """Compare what lies at a place with what the undisturbed run left. Returns Outcome."""
        unlike = differences(results_of(place.result), self.expected)
        left = leftovers(place.folder)
        return Outcome(what, f"not the same: {', '.join(unlike)}" if unlike else "", tuple(left))

    def disk_full(self, needed):
        """Run it on a disk of a random size, at most what it needs, bytes; then on a larger one. Returns Outcome."""
        place = Place(self.work / "disk", self.dictionary)
        size = round(_page() + self.random.random() * (needed - _page()))
        with mounted(place.folder, f"{size}"):
            code, output = Run(place.command()).ended()
            what = "too small a disk" if code else "large enough"
            errors = [line for line in output.splitlines() if line.startswith("error: ")]
            clear = [line for line in errors if str(place.folder) in line and any(word in line for word in FULL)]
            if code and (code != 2 or len(errors) != 1 or not clear):
                return Outcome(what, f"{size:,} bytes: ended with {code}: {told(output)}")
            subprocess.run(["mount", "-o", f"remount,size={_LARGE}", str(place.folder)], check=True)
            return self.finished(what, place)

    def needed(self):
        """What the undisturbed run takes of a disk at its most, bytes."""
        place, most = Place(self.work / "disk", self.dictionary), 0

        def look():
            nonlocal most
            status = os.statvfs(place.folder)
            most = max(most, (status.f_blocks - status.f_bfree) * status.f_frsize)
            return False

        with mounted(place.folder, _LARGE):
            run = Run(place.command())
            run.wait_for(look)
            run.ended()
        return most

    def one_folder(self):
        """Two runs at once on one folder. Returns Outcome."""
        place = Place(self.work / "run", self.dictionary).cleared()
        ends = [run.ended() for run in [Run(place.command()) for _ in range(2)]]
        codes = sorted(code if code is not None else -1 for code, _ in ends)
        refused = [output for code, output in ends if code == 2 and output.count(REFUSED) == 1]
        if codes != [0, 2] or len(refused) != 1:
            told = " / ".join(told(output) for _, output in ends)
            return Outcome("one folder", f"two runs ended with {codes}: {told}")
        return self.judged("one folder", place)

    def one_cache(self):
        """Two runs at once on one cache, each with a folder of its own. Returns Outcome."""
        cache = self.work / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        places = [Place(self.work / name, self.dictionary, cache).cleared() for name in ("one", "other")]
        ends = [run.ended() for run in [Run(place.command()) for place in places]]
        for code, output in ends:
            if code != 0:
                return Outcome("one cache", f"ended with {code}: {told(output)}")
        judged = [self.judged("one cache", place) for place in places]
        left = tuple(leftovers(cache)) + judged[0].left + judged[1].left
        return Outcome("one cache", judged[0].wrong or judged[1].wrong, left)


def _page():
    return os.sysconf("SC_PAGE_SIZE")


@contextmanager
def mounted(folder, size):
    """A disk of some size at a folder while the block lasts, in a namespace of this process's own (see main)."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "disk", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def in_namespace():
    """The words before a command that give it a namespace in which it may mount disks, None where none is allowed."""
    as_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    words = ["unshare", *as_user, "--mount"]
    try:
        allowed = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    return words if allowed else None


# ----------------------------------------------------------------------------------------------------------- report


def summary(title, outcomes):
    """One line of the table, and what is wrong. outcomes: list of Outcome, of which those that had ended before their
    kill are told beside it: what is wrong with them and what they left counts all the same.
    """
    killed = [of for of in outcomes if not of.late]
    good = sum(not of.wrong for of in killed)
    left = sorted({re.sub(r"\d{2,}", "N", name) for of in outcomes for name in of.left})
    what = [f"{name} {count}" for name, count in sorted(Counter(of.what for of in killed).items())]
    what += [f"too late {len(outcomes) - len(killed)}"] * (len(killed) < len(outcomes))
    lines = [f"| {title} | {len(killed)} | {good} | {', '.join(what)} | {', '.join(left) or 'nothing'} |"]
    return lines + [f"  WRONG, {title}, {of.what}: {of.wrong}" for of in outcomes if of.wrong]


def repeated(title, function, times, *arguments):
    """Returns (title, list of Outcome)."""
    outcomes = []
    # One that had ended before its kill is judged and not counted; most may have, as on a machine that has become
    # quicker, and then it is fewer than times.
    while sum(not of.late for of in outcomes) < times and len(outcomes) < 4 * times:
        outcomes.append(function(*arguments))
        told = "as it must be" if not outcomes[-1].wrong else "WRONG"
        print(f"{title} {len(outcomes)}, of {times}: {outcomes[-1].what}, {told}", file=sys.stderr)
    return title, outcomes


def trials(options, trial):
    """Yield (title, list of Outcome) of everything that is asked for."""
    if options.in_namespace:
        yield repeated("undisturbed", trial.undisturbed, 1, 1)
        yield repeated("disk full", trial.disk_full, options.disk_full, trial.needed())
        return
    for processes in map(int, options.processes.split(",")):
        of = f"{processes} process{'es' * (processes > 1)}"
        yield repeated(f"undisturbed, {of}", trial.undisturbed, 1, processes)
        yield repeated(f"killed, {of}", trial.killed, options.kills, processes)
    yield repeated("two on one folder", trial.one_folder, options.together)
    yield repeated("two on one cache", trial.one_cache, options.together)


def main():
    options = read_options(
        __doc__, kills=50, processes="1,2", disk_full=10, together=3, seed=0, folder=tempfile.gettempdir(),
        in_namespace=0, signals="KILL", words="",
    )  # fmt: skip
    wrong, Place.more = False, tuple(options.words.split())
    if not options.in_namespace:
        print("| what | times | same results | of these | left over |\n|---|--:|--:|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for title, outcomes in trials(options, Trial(Path(folder), options.seed, options.signals.split(","))):
            print("\n".join(summary(title, outcomes)) if outcomes else "", end="\n" * bool(outcomes), flush=True)
            wrong |= any(of.wrong for of in outcomes)
    if options.disk_full and not options.in_namespace:
        words = in_namespace()
        again = [sys.executable, "-m", "benchmarks.kills", *sys.argv[1:], "--in-namespace=1"]
        if words is None:
            print("disk full: left out, as this system gives no namespace in which a disk could be mounted")
        else:
            wrong |= subprocess.run([*words, *again], cwd=PROJECT, check=False).returncode != 0
    sys.exit(wrong)


if __name__ == "__main__":
    main()
