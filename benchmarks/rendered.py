"""Are rendered faces good enough to stand in for photographs? The figures of README's section on them.

    python -m benchmarks.rendered --faces 500 --per-concept 50 --photographs ../shared/congress

1. MTCNN, with its default settings, on --faces faces: in how many it finds exactly one with a probability of 0.95 or
   more, and how far its five landmarks lie from the true ones.
2. For each concept that can be switched, over --per-concept faces: the share of the change that lies within its mask,
   widened by 10 %, and how strong it is within the mask.
3. O-Net, layer3, on the rendered dictionary and on one built from --photographs (a folder with images, landmarks.csv,
   attributes.csv and groups.csv; left out without it): interpretable units, and how many of those interpretable on both
   fall in the same face region. The untrained twin is the baseline.
4. The seconds that rendering the dictionary takes. 5. Those of rendering and dissection together.
"""

import subprocess
import sys
import tempfile
from itertools import count, islice
from pathlib import Path

import numpy as np

from benchmarks.measuring import read_options, timed
from dictionary.ellipses import ELLIPSE_RULES
from method.findings import Findings
from method.tally import Tally
from rendering.face import SWITCHES, switched
from rendering.landmarks import LEFT_EYE, RIGHT_EYE, draw_mask, fill_ellipse, fit_ellipse
from rendering.random_face import can_show, random_face
from rendering.render import render
from store.arrays import load_as
from util.parallel import mapped

PROJECT = Path(__file__).resolve().parent.parent
LEAST_PROBABILITY = 0.95
WIDENED_BY = 1.10

# Streams of random numbers of this script, apart from those of dictionary/render.py.
DETECTED, SWITCHED = 1001, 1002


def random_faces(stream):
    """Yield random faces without end, always the same ones."""
    for number in count():
        yield random_face(np.random.default_rng([0, stream, number]))


def detect(faces):
    """Have MTCNN look at some faces. Returns (share in which it finds exactly one with LEAST_PROBABILITY, errors).

    errors: float64 (M, 5), for the faces with any box, how far the first's landmarks lie off, in distances of the eyes.
    """
    from facenet_pytorch import MTCNN

    detector, found, errors = MTCNN(), 0, []
    for _, (image, landmarks) in mapped(render, islice(random_faces(DETECTED), faces), 0, "detecting", "face"):
        boxes, probabilities, points = detector.detect(image, landmarks=True)
        if boxes is not None:
            found += len(boxes) == 1 and probabilities[0] >= LEAST_PROBABILITY
            eyes = landmarks[LEFT_EYE].mean(axis=0), landmarks[RIGHT_EYE].mean(axis=0)
            true = np.array([*eyes, landmarks[30], landmarks[48], landmarks[54]])  # what MTCNN looks for
            off = np.linalg.norm(np.asarray(points[0], float) - true, axis=1)
            errors.append(off / np.linalg.norm(eyes[1] - eyes[0]))
    return found / faces, np.array(errors)


def change(face, concept):
    """What switching a concept on changes. Returns the whole change, that within the widened mask, and its mean inside.

    In grey levels, 0..255, mean of the three channels: summed, summed, and per pixel of the mask.
    """
    without, _ = render(switched(face, concept, shown=False))
    shown, landmarks = render(switched(face, concept, shown=True))
    changed = np.abs(shown.astype(float) - without).mean(axis=2)
    inside = draw_mask(ELLIPSE_RULES[concept], landmarks, *changed.shape)
    widened = np.zeros_like(inside)
    for ellipse in ELLIPSE_RULES[concept]:
        centre, semi_axes, directions = fit_ellipse(ellipse, landmarks)
        fill_ellipse(widened, centre, WIDENED_BY * semi_axes, directions)
    return changed.sum(), changed[widened > 0].sum(), changed[inside > 0].mean()


def changes(concept, faces):
    """Switch a concept on some faces that can show it. Returns (share of the change within the mask, mean inside).

    The share is that of the change of all faces together; the mean is over the faces.
    """
    able = (face for face in random_faces(SWITCHED) if can_show(concept, face.years, face.gender))
    whole, within, inside = np.array([change(face, concept) for face in islice(able, faces)]).T
    return within.sum() / whole.sum(), inside.mean()


def run(*words):
    """Run a script of the project. Returns seconds; ends this one when it fails."""
    command = [sys.executable, *map(str, words)]
    ended, seconds = timed(subprocess.run, command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr)
    return seconds


def dissect(dictionary, folder, untrained=False):
    """Dissect O-Net's layer3, or that of its untrained twin. Returns (Findings, seconds)."""
    seconds = run(
        "main.py", "TASK=onet", "LAYER_NAME=layer3", f"DICTIONARY={dictionary}", f"OUTPUT_FOLDER={folder / 'result'}",
        f"CACHE_FOLDER={folder / 'cache'}", f"WEIGHTS={'random' if untrained else None}",
        "PERMUTATIONS=0", "BOOTSTRAPS=0", "TWINS=0", "FORMULAS=0",
    )  # fmt: skip
    tally = load_as(Tally, folder / "result" / f"onet_{'random_' if untrained else ''}layer3_tally.npz")
    return Findings(tally, score_threshold=0.04), seconds


def agreement(first, second):
    """The units that two Findingss both call interpretable, and those of them whose top concepts share a region."""
    both = np.nonzero(first.interpretable & second.interpretable)[0].tolist()
    regions = [[report.region_of[report.top_concept(unit)] for unit in both] for report in (first, second)]
    return both, [unit for unit, one, other in zip(both, *regions, strict=True) if one == other]


def main():
    options = read_options(__doc__, faces=500, per_concept=50, photographs="")
    share, errors = detect(options.faces)
    print(f"1. {options.faces} faces: exactly one found with p >= {LEAST_PROBABILITY} in {100 * share:.1f} %")
    medians = " ".join(f"{100 * error:.1f}" for error in np.median(errors, axis=0))
    print(f"   landmarks: median {100 * np.median(errors):.1f} % of the distance between the eyes; each {medians}")

    print(f"2. {options.per_concept} faces per concept: share of the change within the mask, mean change inside")
    found = {concept: changes(concept, options.per_concept) for concept in SWITCHES}
    for concept, (within, inside) in sorted(found.items(), key=lambda item: item[1]):
        print(f"   {concept:<20} {100 * within:5.1f} %  {inside:5.1f} grey levels")

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rendering = run("-m", "dictionary.render", "--out", folder / "rendered")
        report, dissection = dissect(folder / "rendered", folder / "of_rendered")
        untrained, _ = dissect(folder / "rendered", folder / "of_rendered", untrained=True)
        print(f"3. rendered: {report.detectors} interpretable units of {report.units}, untrained {untrained.detectors}")
        if options.photographs:
            given = Path(options.photographs)
            tables = [f"--{name}={given / name}.csv" for name in ("landmarks", "attributes", "groups")]
            run("-m", "dictionary.build", f"--images={given / 'images'}", *tables, f"--out={folder / 'built'}")
            other, _ = dissect(folder / "built", folder / "of_built")
            both, same = agreement(report, other)
            print(f"   photographs: {other.detectors}; both: {len(both)}, in the same region {len(same)}")
        print(f"4. rendering: {rendering:.0f} s")
        print(f"5. rendering and dissection: {rendering + dissection:.0f} s")


if __name__ == "__main__":
    main()
