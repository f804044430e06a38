"""List everything that is wrong with a dictionary, in one pass.

    python -m dictionary.check visual_dictionary/mine

Reads the index, decodes every image and mask, and looks through the subgroups of the global concepts; or, of Broden,
reads its tables and every image of labels. Exit code 0 when
the dictionary is sound, 1 when something has to be mended, 2 when there is no dictionary to check.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from dictionary.concepts import global_concepts
from dictionary.dictionary import format_of
from dictionary.faces import KNOWN_FACES, known_faces
from dictionary.file_memory import check_files
from dictionary.images import ImageError, inspect_image, read_bytes
from dictionary.rows import Problem
from dictionary.subgroups import GLOBAL_FOLDER, find_subgroups
from util.errors import DissectionError, first_few, run_script
from util.parallel import mapped


def find_problems(root, workers):
    """Check a dictionary. root: folder. workers: threads.

    Returns (problems, summary): list of Problem, and lines of text that say what the dictionary holds.
    Raises DissectionError when there is no dictionary at root.
    """
    found_format = format_of(root)
    rows, problems = found_format.read_index()
    with tempfile.TemporaryDirectory() as forgotten:  # a check looks at every file, whatever was found before
        problems += check_files(found_format, rows, forgotten, workers)[1]
    _, concepts, names = found_format.carried(rows)
    counts = np.bincount(concepts, minlength=len(names)).tolist()
    carried = {name: count for name, count in zip(names, counts, strict=True) if count}
    reviewed, lines = found_format.review(rows) if rows else ([], [])
    problems += reviewed
    if not carried:
        problems.append(Problem(str(root), "has no masks at all: there is no concept to compare units with"))
    absent = [concept for concept in found_format.listed if concept not in carried]
    summary = [
        f"{len(rows)} images, {sum(carried.values())} masks of {len(carried)} concepts",
        *(["concepts without a mask: " + first_few(absent, 40)] if absent else []),
        *lines,
    ]
    if not found_format.faces:
        return problems, summary
    try:
        known_faces(root)
    except DissectionError as error:
        problems.append(Problem(KNOWN_FACES, str(error)))
    groups, unlike = find_subgroups(root)
    absent = [concept for concept in global_concepts(Path(root)) if concept not in groups]
    summary += ["global concepts without images: " + ", ".join(absent)] if absent else []
    for concept, images_of in groups.items():
        summary.append(f"{concept}: " + ", ".join(f"{group} {len(images)}" for group, images in images_of.items()))
        for group in (group for group, images in images_of.items() if not images):
            unlike.append(Problem(GLOBAL_FOLDER, f"subgroup {group} of {concept} has no images", fatal=False))
    images = [image for images_of in groups.values() for group in images_of.values() for image in group]
    checked = mapped(lambda image: _image_problem(Path(root), image), images, workers, "checking subgroups")
    return problems + unlike + [problem for _, problem in checked if problem], summary


def _image_problem(root, image):
    try:
        inspect_image(read_bytes(root / image), image)
    except ImageError as error:
        return Problem(GLOBAL_FOLDER, str(error))
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dictionary", help="folder of the dictionary")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads (default: %(default)s)")
    arguments = parser.parse_args()
    if not 0 <= arguments.workers <= 256:
        parser.error(f"--workers is {arguments.workers}: it must be a whole number from 0 to 256")
    problems, summary = find_problems(arguments.dictionary, arguments.workers)
    fatal = [problem for problem in problems if problem.fatal]
    for problem in problems:
        print(f"{'error' if problem.fatal else 'note '}  {problem}")
    print(*summary, sep="\n")
    print(f"{len(fatal)} errors, {len(problems) - len(fatal)} notes")
    sys.exit(1 if fatal else 0)


if __name__ == "__main__":
    run_script(main)
