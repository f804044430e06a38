"""Make a Face Dictionary in the published layout from photographs, landmarks and labels (method.md §1.1 and §1.4).

    python -m dictionary.build --images photographs --landmarks landmarks.csv \\
        --attributes attributes.csv --groups groups.csv --out visual_dictionary/mine

Every photograph with landmarks goes into Parts.csv, with the masks of the eight parts of its face; those with labels
also into Attributes.csv and Action_Units.csv, with a mask per positive label; those with subgroups are copied to
non_localizable/. The tables are CSV files whose first column is `image`, a path relative to --images:
    --landmarks    image,x0,y0,...,x67,y67        the 68 iBUG points in pixels
    --attributes   image,Smiling,AU_12,...        1 shown, 0 or -1 not shown, empty unknown
    --groups       image,age,gender,...           names of subgroups, empty unknown
CelebA's list_attr_celeba.txt and FairFace's label files are understood as they are.
"""

import argparse
import io
import logging
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from dictionary import entries
from dictionary.concepts import FACE_CONCEPTS, PARTS
from dictionary.ellipses import ELLIPSE_RULES
from dictionary.images import PICTURE_FORMATS, ImageError, decode_rgb, inspect_image, load_rgb, read_bytes
from dictionary.landmarks import FaceLandmarkDetector, doubt_landmarks, read_landmarks, write_landmarks
from dictionary.tables import GroupLabels, Labels, read_attributes, read_groups
from util.errors import DissectionError, first_few, run_script
from util.files import replacing_folder
from util.parallel import mapped, usable_cores

log = logging.getLogger(__name__)

# What readers of the layout can be trusted to know; a photograph of another format is stored as PNG.
KEPT_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


@dataclass(frozen=True)
class Photograph:
    """What is known of one photograph. name: path relative to --images; path: where it lies.

    landmarks: float64 (68, 2) or None; source: where they stand. concepts: of its positive labels; labelled: the types
    of concepts of which its labels say something. groups: global concept -> subgroup.
    """

    name: str
    path: Path
    landmarks: np.ndarray | None = None
    source: str = ""
    concepts: tuple = ()
    labelled: tuple = ()
    groups: dict = field(default_factory=dict)


def main(arguments=None):
    """Build the dictionary that the command line asks for. arguments: list of str, by default the process's own."""
    options = parse_arguments(arguments)
    check_options(options)
    out = entries.place_of(options.out)
    check_out(out, options)
    with entries.sole_maker(out):
        entries.check_replaceable(options.out, options.overwrite)
        build(options, out)


def build(options, out):
    """Read the tables, draw the masks and have the dictionary appear at out (resolved)."""
    labels = read_attributes(options.attributes) if options.attributes else Labels({}, {}, {})
    groups = read_groups(options.groups) if options.groups else GroupLabels({}, [], {})
    landmarks, lines = read_landmarks(options.landmarks) if options.landmarks else ({}, {})
    if options.detect:
        landmarks = detect_landmarks(options)
    photographs = plan(options, landmarks, lines, labels, groups.of_image)
    notice_what_is_left_out(options, photographs, landmarks, labels, groups)

    with replacing_folder(out) as folder:
        written = write_photographs(photographs, folder, options)
        indexes = entries.write_indexes(folder, written)
        if not indexes and not any(one.groups for one in written):
            raise DissectionError("nothing to build: no photograph is left, or every mask lies outside its image")
    entries.log_contents(options.out, "photographs", [one for one in written if not one.problem], indexes)


# ------------------------------------------------------------------------------------------------------ the arguments


def parse_arguments(arguments=None):
    """Read the command line. Returns argparse.Namespace; ends the process on --help and on unknown options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="FOLDER", help="the photographs")
    add("--out", type=Path, required=True, metavar="FOLDER", help="the dictionary, a folder that does not exist yet")
    add("--landmarks", type=Path, metavar="FILE", help="68 landmarks per photograph")
    add("--detect", action="store_true", help="find the landmarks in all photographs (needs requirements-detect.txt)")
    add("--save-landmarks", type=Path, metavar="FILE", help="with --detect: write what was found, for --landmarks")
    add("--attributes", type=Path, metavar="FILE", help="labels of attributes and action units")
    add("--groups", type=Path, metavar="FILE", help="subgroups of global concepts")
    add("--skip-bad", action="store_true", help="go on without photographs that cannot be used, and list them")
    add("--pictures", action="store_true", help="add *_overlap.png and lm.png, for people to look at")
    add("--overwrite", action="store_true", help="replace the dictionary at --out once the new one is complete")
    add("--workers", type=int, default=usable_cores(), metavar="N", help="threads (default: %(default)s)")
    return parser.parse_args(arguments)


def check_options(options):
    """Raise DissectionError for options that do not go together, before any work is done."""
    if not options.images.is_dir():
        raise DissectionError(f"--images {options.images} is not a folder")
    if options.workers < 1:
        raise DissectionError(f"--workers {options.workers}: at least one thread is needed")
    if options.detect and options.landmarks:
        raise DissectionError("--detect finds the landmarks that --landmarks reads: give one of the two")
    if options.attributes and not (options.detect or options.landmarks):
        raise DissectionError("--attributes needs landmarks to draw the masks from: add --landmarks FILE or --detect")
    if not (options.detect or options.landmarks or options.groups):
        raise DissectionError("nothing to build: give --landmarks or --detect for masks, or --groups for subgroups")
    if options.save_landmarks and not options.detect:
        raise DissectionError("--save-landmarks keeps what --detect finds: add --detect")
    if options.save_landmarks and options.save_landmarks.exists() and not options.overwrite:
        raise DissectionError(f"--save-landmarks {options.save_landmarks} exists: choose another or add --overwrite")


def check_out(out, options):
    """Raise DissectionError when --out (resolved) and the folders that are read do not go together."""
    for name in ("images", "landmarks", "attributes", "groups", "save_landmarks"):
        path = getattr(options, name)
        if path and path.resolve().is_relative_to(out):
            option = f"--{name.replace('_', '-')}"
            raise DissectionError(f"{option} {path} lies inside --out {options.out}: choose another --out")
    if options.detect and out.is_relative_to(options.images.resolve()):
        raise DissectionError(f"--out {options.out} lies inside --images, where --detect takes every image for a face")


# --------------------------------------------------------------------------------------------- what is to be built


def detect_landmarks(options):
    """Find the face in every photograph of --images. Returns {name: float64 (68, 2)}, without those that show none.

    What is no picture is named and passed over. Raises DissectionError for pictures that cannot be read, before the
    long search begins, unless --skip-bad.
    """
    detector = FaceLandmarkDetector()
    names = files_below(options.images)
    # A file of such a name should be a picture; if it cannot be read, that is an error.
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in PICTURE_FORMATS}
    pictures = [name for name in names if Path(name).suffix.lower() in endings or is_picture(options.images / name)]
    others = sorted({*names} - {*pictures})
    if others:
        log.info("%d files are no pictures that Pillow reads, and left out: %s", len(others), first_few(others))
    if not pictures:
        raise DissectionError(f"--images {options.images} holds no photographs among its {len(names)} files")
    names = sound_photographs(pictures, options)
    # Decoded ahead by one thread: the networks use the processor's cores by themselves.
    decoded = mapped(lambda name: load_rgb(options.images / name), names, 1, "finding faces")
    faces = {name: face for name, image in decoded if (face := detector.detect(image))}
    faceless = [name for name in names if name not in faces]
    if faceless:
        log.info("no face found in %d of %d photographs: %s", len(faceless), len(names), first_few(faceless))
    if options.save_landmarks:
        write_landmarks(options.save_landmarks, faces)
        log.info("landmarks of %d faces written to %s", len(faces), options.save_landmarks)
    return {name: face.landmarks for name, face in faces.items()}


def files_below(folder):
    """The files of a folder and those in it, hidden ones left out. Returns sorted list of paths relative to folder."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))


def is_picture(path):
    """Whether a file begins as a picture that Pillow reads, whatever its name."""
    try:
        with Image.open(path, formats=PICTURE_FORMATS):
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def sound_photographs(names, options):
    """The photographs of --images that can be read to their last byte, among names.

    Raises DissectionError for the others, or with --skip-bad lists them.
    """

    def problem_of(name):
        try:
            read_photograph(options.images / name)
        except ImageError as error:
            return str(error)
        return None

    problems = dict(mapped(problem_of, names, options.workers, "checking the photographs"))
    settle_problems([problem for problem in problems.values() if problem], options)
    return [name for name, problem in problems.items() if not problem]


def read_photograph(path):
    """Read and check one photograph. Returns its content, bytes, and its pixels, uint8 (H, W, 3), RGB.

    Raises ImageError for what is missing, empty, damaged, cut off or no image.
    """
    content = read_bytes(path)
    inspect_image(content, path)
    return content, decode_rgb(content, path)


def settle_problems(problems, options):
    """Raise DissectionError, one line with the first problems and the number of the rest; list all with --skip-bad."""
    if problems and not options.skip_bad:
        raise DissectionError(first_few(problems, separator="; ") + " (--skip-bad goes on without them)")
    for problem in problems:
        log.info("left out: %s", problem)


def plan(options, landmarks, lines, labels, groups):
    """Join the tables. Returns the list of Photograph that the dictionary will hold, sorted by name.

    landmarks: {name: (68, 2)}; lines: {name: line of their table}; labels: Labels; groups: {name: {global concept:
    subgroup}}. Raises DissectionError for names that are not in --images, and for names that would share a folder of
    the dictionary.
    """
    names = sorted({*landmarks, *groups})
    if not names:
        raise DissectionError("nothing to build: no photograph has landmarks, and none has a subgroup")
    for table, named in ((options.landmarks, landmarks), (options.groups, groups)):
        missing = [name for name in sorted(named) if table and not (options.images / name).is_file()]
        if missing:
            raise DissectionError(f"{table} names {len(missing)} images not in {options.images}: {first_few(missing)}")
    by_stem = {}
    for name in names:
        by_stem.setdefault(Path(name).stem, []).append(name)
    clashes = [" and ".join(same) for same in by_stem.values() if len(same) > 1]
    if clashes:
        raise DissectionError(f"images share a name and would share a folder, rename them: {first_few(clashes)}")
    return [
        Photograph(
            name, options.images / name, landmarks.get(name),
            f"{options.landmarks} line {lines[name]} ({name})" if name in lines else name,
            labels.positive.get(name, ()), labels.labelled.get(name, ()), groups.get(name, {}),
        )
        for name in names
    ]  # fmt: skip


def notice_what_is_left_out(options, photographs, landmarks, labels, groups):
    """Say once which columns, cells, images of the tables and files do not come into the dictionary."""
    if groups.left_out:
        log.info("%s: no global concept, left out: %s", options.groups, ", ".join(groups.left_out))
    if groups.without:
        cells = ", ".join(f"{cell} ({count} images)" for (_, cell), count in groups.without.items())
        log.info("%s: no subgroup of the dictionary, left out: %s", options.groups, cells)
    if not options.detect:
        unused = sorted({*files_below(options.images)} - {photograph.name for photograph in photographs})
        if unused:
            log.info("%d files of --images stand in no table, left out: %s", len(unused), first_few(unused))
    if labels.left_out:
        columns = ", ".join(f"{name} ({meant}?)" if meant else name for name, meant in labels.left_out.items())
        log.info("%s: no attribute and no action unit, left out: %s", options.attributes, columns)
    without = sorted(name for name, concepts in labels.positive.items() if concepts and name not in landmarks)
    if without:
        log.info("%d images have labels but no landmarks, and get no masks: %s", len(without), first_few(without))
    unlabelled = sorted(set(landmarks) - set(labels.positive)) if options.attributes else []
    if unlabelled:
        names = first_few(unlabelled)
        log.info("%d images have landmarks but no labels, and get parts alone: %s", len(unlabelled), names)


# ------------------------------------------------------------------------------------------------------- the files


def write_photographs(photographs, folder, options):
    """Write the files of all photographs below folder. Returns the list of Written, in order.

    Raises DissectionError naming the first of the photographs that cannot be used, unless --skip-bad.
    """
    write = partial(write_photograph, folder=folder, pictures=options.pictures)
    written = [result for _, result in mapped(write, photographs, options.workers, "building the dictionary")]
    settle_problems([result.problem for result in written if result.problem], options)
    outside = [
        f"{photograph.name} {concept}"
        for photograph, result in zip(photographs, written, strict=True)
        for concept in result.outside
    ]
    if outside:
        log.info("%d masks lie wholly outside their image and are left out: %s", len(outside), first_few(outside))
    return written


def write_photograph(photograph, folder, pictures):
    """Write one photograph's masks and copies below folder. pictures: also those for people. Returns Written."""
    try:
        content, image = read_photograph(photograph.path)
    except ImageError as error:
        return entries.Written(problem=str(error))
    doubt = photograph.landmarks is not None and doubt_landmarks(photograph.landmarks, *image.shape[1::-1])
    if doubt:
        return entries.Written(problem=f"{photograph.source} {doubt}")
    in_groups = entries.write_group_images(photograph.path.name, content, photograph.groups, folder)
    if photograph.landmarks is None:
        return in_groups
    shown = [concept for concept in FACE_CONCEPTS if concept.type == PARTS or concept.name in photograph.concepts]
    rules = {concept: ELLIPSE_RULES[concept.name] for concept in shown}
    written = entries.write_entries(
        photograph.path.stem, original_bytes(content, image), image, photograph.landmarks, rules, folder, pictures,
        photograph.labelled,
    )  # fmt: skip
    return replace(written, groups=in_groups.groups)


def original_bytes(content, image):
    """What to store as original.png. content: bytes of the photograph; image: uint8 (H, W, 3), RGB, its pixels.

    A photograph's own content is kept: readers of the layout go by content. Only what not every reader shows alike is
    encoded anew: rarer formats, what its EXIF orientation turns, and what is not 8-bit gray or RGB.
    """
    header = Image.open(io.BytesIO(content), formats=PICTURE_FORMATS)
    upright = header.getexif().get(ExifTags.Base.Orientation, 1) == 1
    as_it_is = header.format in KEPT_FORMATS and header.mode in ("L", "RGB") and upright
    return content if as_it_is else entries.encode_png(image)


if __name__ == "__main__":
    run_script(main)
