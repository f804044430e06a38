"""Make a Face Dictionary of rendered faces, whose landmarks and labels are exact by construction.

    python -m dictionary.render --images 1000 --seed 0 --out visual_dictionary/mine

writes the published layout: --images faces, two fifths of them with masks of attributes, two fifths with action units
and one fifth with the parts of the face, and --per-group faces for each subgroup of age, gender and skin tone. The same
numbers give the same bytes. contact_sheet.png shows faces of every concept with their masks. Ethnic subgroups are not
drawn: a cartoon of them would teach nothing true.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, cycle, product
from pathlib import Path

import cv2
import numpy as np
import PIL

from dictionary import entries
from dictionary.concepts import FACE_CONCEPTS, OWN_CONCEPTS, Concept
from dictionary.contact_sheet import write_contact_sheet
from dictionary.ellipses import ELLIPSE_RULES
from dictionary.faces import Face, write_known_faces
from rendering.concepts import ALWAYS, DRAWN
from rendering.face import switched
from rendering.random_face import DRAWN_GROUPS, can_show, random_face
from rendering.render import render
from util.errors import DissectionError, run_script
from util.files import clear_leftovers, digest, explained, read_json, replacing_folder, wait_until_free
from util.parallel import mapped, usable_cores

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent

# The dictionary of settings.py, which main.py and nl_bias.py have made when it isn't there.
DEFAULT_FOLDER = PROJECT / "visual_dictionary" / "rendered"
DEFAULT_IMAGES, DEFAULT_PER_GROUP, DEFAULT_SEED = 1000, 200, 0

# What a dictionary is made from, by the names of the options.
RECIPE_OPTIONS = ("images", "per_group", "seed")

# What the options may be.
BOUNDS = {"images": (1, 10**6), "per_group": (0, 10**6), "seed": (0, 2**63 - 1), "workers": (1, 256)}

# The modules beside rendering/ that decide what a rendered dictionary holds.
_SOURCES = ("ellipses.py", "concepts.py", "contact_sheet.py", "entries.py", "render.py")

# Types of concepts in the order in which faces get their masks: two attributes and two action units to one of parts.
KINDS = ("Parts", "Attr", "AU", "Attr", "AU")

# The least box around the 68 landmarks ends at the brows, MTCNN's on the forehead: higher by this share of its height.
_FOREHEAD = 0.3

# Of all concepts that are drawn, the ellipses of their masks: the face format's in its order, then those that
# rendering adds.
OWN = {Concept(name, drawn.type, drawn.region or None): drawn.mask for name, drawn in DRAWN.items() if drawn.mask}
RULES = {
    **{concept: ELLIPSE_RULES[concept.name] for concept in FACE_CONCEPTS if concept.name in (*ALWAYS, *DRAWN)}, **OWN,
}  # fmt: skip


@dataclass(frozen=True)
class LocalJob:
    """A face with masks of one type. must_show: a concept that it shows beside those drawn, None for parts."""

    number: int
    kind: str
    must_show: str | None


@dataclass(frozen=True)
class GroupJob:
    """A face of one subgroup. subgroups: {global concept: subgroup}, of all drawn ones."""

    number: int
    concept: str
    subgroups: dict


def main(arguments=None):
    """Render the dictionary that the command line asks for. arguments: list of str, by default the process's own."""
    options = parse_arguments(arguments)
    check_options(options)
    out, jobs = entries.place_of(options.out), [*local_jobs(options.images), *group_jobs(options.per_group)]
    with entries.sole_maker(out):
        entries.check_replaceable(options.out, options.overwrite)
        with replacing_folder(out) as folder:
            written = write_faces(jobs, folder, options)
            indexes = entries.write_indexes(folder, written)
            write_own_concepts(folder)
            write_known_faces(folder, {content: face for one in written for content, face in one.faces.items()})
            write_contact_sheet(folder, folder / entries.CONTACT_SHEET)
            (folder / entries.RECIPE).write_text(recipe(options), encoding="utf-8")
    entries.log_contents(options.out, "rendered faces", written, indexes)


def parse_arguments(arguments=None):
    """Read the command line. Returns argparse.Namespace; ends the process on --help and on unknown options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--images", type=int, default=DEFAULT_IMAGES, metavar="N", help="faces with masks (default: %(default)s)")
    add("--per-group", type=int, default=DEFAULT_PER_GROUP, metavar="N",
        help="faces of each subgroup, 0 for none (default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=DEFAULT_SEED, metavar="S", help="other numbers, other faces (default: %(default)s)")
    add("--out", type=Path, default=DEFAULT_FOLDER, metavar="DIR", help="the dictionary (default: %(default)s)")
    add("--pictures", action="store_true", help="add *_overlap.png and lm.png, for people to look at")
    add("--overwrite", action="store_true", help="replace the dictionary at --out once the new one is complete")
    add("--workers", type=int, default=usable_cores(), metavar="N", help="processes (default: %(default)s)")
    return parser.parse_args(arguments)


def check_options(options):
    """Raise DissectionError for numbers that make no sense, before any work is done."""
    for name, (least, most) in BOUNDS.items():
        if not least <= getattr(options, name) <= most:
            option = f"--{name.replace('_', '-')}"
            raise DissectionError(f"{option} is {getattr(options, name)}: it must be from {least} to {most}")


def local_jobs(images):
    """The faces with masks. Every concept of a type takes its turn, so that few faces already show all of them."""
    drawn = [concept for concept in RULES if concept.name in DRAWN]
    turns = {kind: cycle([concept.name for concept in drawn if concept.type == kind] or [None]) for kind in KINDS}
    return [LocalJob(number, kind, next(turns[kind])) for number, kind in zip(range(images), cycle(KINDS))]


def group_jobs(per_group):
    """The faces of subgroups. Within each, the subgroups of the other global concepts come in turn, and so in equal
    numbers when per_group is a multiple of their combinations (8).

    Faces of the same number in the subgroups of one concept are twins (see random_face).
    """
    jobs = []
    for concept, groups in DRAWN_GROUPS.items():
        others = {name: of for name, of in DRAWN_GROUPS.items() if name != concept}
        for group in groups:
            for number, mix in zip(range(per_group), cycle(product(*others.values()))):
                jobs.append(GroupJob(number, concept, {concept: group, **dict(zip(others, mix, strict=True))}))
    return jobs


def write_faces(jobs, folder, options):
    """Render the faces of all jobs and write their files below folder. Returns list of Written, in order."""
    write = partial(write_face, folder=folder, seed=options.seed, pictures=options.pictures)
    # Several jobs ahead, so that no process waits for this one to take up results.
    written = mapped(write, jobs, options.workers, "rendering faces", ahead=8, processes=options.workers > 1)
    return [result for _, result in written]


def write_face(job, folder, seed, pictures):
    """Render one face and write its files. Returns Written."""
    face = group_face(job, seed) if isinstance(job, GroupJob) else local_face(job, seed)
    image, landmarks = render(face)
    original = entries.encode_png(image)
    faces = {digest(original): face_of_landmarks(np.asarray(landmarks), image.shape[1::-1])}
    if isinstance(job, GroupJob):
        group = {job.concept: job.subgroups[job.concept]}
        written = entries.write_group_images(f"{job.number:06d}.png", original, group, folder)
        return replace(written, faces=faces)
    seen = (*ALWAYS, *face.shown)
    rules = {concept: mask for concept, mask in RULES.items() if concept.type == job.kind and concept.name in seen}
    written = entries.write_entries(f"{job.number:06d}", original, image, landmarks, rules, folder, pictures)
    return replace(written, faces=faces)


def face_of_landmarks(landmarks, size):
    """The face of 68 landmarks, as MTCNN would find it. landmarks: (68, 2), px. size: (width, height). Returns Face."""
    (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
    points = [landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0), *landmarks[[30, 48, 54]]]
    box = (left, top - _FOREHEAD * (bottom - top), right, bottom)
    return Face(tuple(np.round(box, 2).tolist()), tuple(tuple(np.round(point, 2).tolist()) for point in points), size)


def write_own_concepts(folder):
    """List what is drawn and stands in no table of the face format, where there is such a thing."""
    lines = [f"{concept.name},{concept.type},{concept.region or ''}" for concept in OWN]
    if lines:
        (folder / OWN_CONCEPTS).write_text("\n".join(["concept,type,region", *lines, ""]), encoding="utf-8")


def local_face(job, seed):
    """The face of a job with masks: the first one drawn that can show what it must."""
    faces = (random_face(np.random.default_rng([seed, 0, job.number, attempt])) for attempt in count())
    if job.must_show is None:
        return next(faces)
    able = (face for face in faces if can_show(job.must_show, face.years, face.gender))
    return switched(next(able), job.must_show, shown=True)


def group_face(job, seed):
    """The face of a job of a subgroup."""
    stream = 1 + list(DRAWN_GROUPS).index(job.concept)
    return random_face(np.random.default_rng([seed, stream, job.number]), **job.subgroups)


# ------------------------------------------------------------------------------------------------- what made the files


def recipe(options):
    """What a rendered dictionary was made from, as JSON text: options, code, and the libraries that set the bytes."""
    made_from = {name: getattr(options, name) for name in RECIPE_OPTIONS}
    libraries = {library.__name__: library.__version__ for library in (np, cv2, PIL)}
    return json.dumps({**made_from, "renderer": renderer_digest(), "libraries": libraries}, indent=1) + "\n"


def renderer_digest():
    """Fingerprint of the code that decides what a rendered dictionary holds."""
    files = [*sorted((PROJECT / "rendering").glob("*.py"))]
    files += [PROJECT / "dictionary" / name for name in _SOURCES]
    return digest(b"\0".join(path.read_bytes() for path in files))


# -------------------------------------------------------------------------------------------------- made on first use


def ensure_rendered(root):
    """Have the rendered dictionary made if root is its place and nothing is there. root: DICTIONARY of the settings.

    Waits for another run that is making it. Says so when the one that is there was rendered by another version of the
    program. Raises DissectionError when it cannot be made.
    """
    if not is_default(root):
        return
    if not is_there(root):
        log.info("%s is not there yet: rendering it, once", root)
        # A process of its own: its workers need not load what this one has loaded.
        renderer = subprocess.Popen([sys.executable, "-m", "dictionary.render", "--out", DEFAULT_FOLDER], cwd=PROJECT)
        try:
            failed = renderer.wait()
        except KeyboardInterrupt:
            stop(renderer)
            raise
        if failed and not is_there(root):  # another run may have been the first to begin
            raise DissectionError(f"{root} was not made, for the reason above")


def is_there(root):
    """Whether anything stands at the place of the rendered dictionary, once no run is making it."""
    with explained(DEFAULT_FOLDER):
        try:
            place = DEFAULT_FOLDER.resolve()
        except RuntimeError:  # links that go round: whoever reads it will say so
            return True
        wait_until_free(place)
        if not entries.visible(place) and place.parent.is_dir():
            with entries.sole_maker(place):
                clear_leftovers(place)  # a killed run may have left the dictionary aside that it was replacing
        if place.is_file() or entries.visible(place):
            notice_other_version(place, root)
            return True
        return False


def stop(renderer):
    """Have a process tidy up and end that a Ctrl-C in the terminal has reached too. renderer: subprocess.Popen."""
    try:
        renderer.wait(timeout=3)
    except subprocess.TimeoutExpired:  # it reached this process alone
        renderer.send_signal(signal.SIGINT)
        renderer.wait()


def is_default(root):
    """Whether a path is the place of the rendered dictionary, by its name or by where links lead."""
    try:
        return Path(os.path.abspath(root)) == DEFAULT_FOLDER or Path(root).resolve() == DEFAULT_FOLDER.resolve()
    except (OSError, RuntimeError):  # whoever reads it will say what is wrong
        return False


def notice_other_version(folder, root):
    """Say so when a dictionary was rendered by other code than this, and how to have it anew."""
    try:
        made_from = read_json(folder / entries.RECIPE)
        if made_from["renderer"] == renderer_digest():
            return
        words = [f"--{name.replace('_', '-')} {int(made_from[name])}" for name in RECIPE_OPTIONS]
    except (FileNotFoundError, NotADirectoryError):
        return  # somebody's own dictionary, not a rendered one
    except (OSError, ValueError, KeyError, TypeError):
        log.info("%s cannot be read: it is not known which version of the program rendered the faces",
                 f"{root}/{entries.RECIPE}")  # fmt: skip
        return
    log.info(
        "%s was rendered by another version of the program. To have it anew: "
        "python -m dictionary.render %s --overwrite",
        root, " ".join(words),
    )  # fmt: skip


if __name__ == "__main__":
    run_script(main)
