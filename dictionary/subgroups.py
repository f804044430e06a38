"""The images of the subgroups of global concepts (method.md §1.3)."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dictionary.concepts import OWN_GROUPS, global_concepts
from dictionary.dictionary import no_dictionary, unusable
from dictionary.file_memory import CHECKED_AT_ONCE, IMAGE, FileMemory
from dictionary.rows import Problem
from rendering.random_face import DRAWN_GROUPS
from util.errors import DissectionError, did_you_mean, first_few
from util.files import fingerprint, read_json
from util.parallel import mapped

log = logging.getLogger(__name__)

GLOBAL_FOLDER = "non_localizable"

# What a dictionary of rendered faces was made from.
RECIPE = "rendered.json"


def find_subgroups(root, concepts=None, limit=None):
    """Look for the subgroups of a dictionary (method.md §1.3), whose folders match whatever their capitals.

    concepts: {concept: GlobalConcept}, by default those of tables (see concepts.global_concepts). limit: the first
    images of each subgroup only. Returns (images, problems): {concept: {group: [path relative to root, sorted by
    name]}}, concepts and groups in the table's order, those without a folder left out; list of Problem: a folder that
    no table names and one there twice are fatal, a subgroup that is missing beside others is not.
    """
    root, found = Path(root), {}
    concepts = concepts or global_concepts(root)
    folder_of = {concept: description.folder for concept, description in concepts.items()}
    places, problems = _matching(root, GLOBAL_FOLDER, folder_of, "global concept")
    missing = []
    for concept, place in places.items():
        groups, unlike = _matching(root, place, concepts[concept].groups, f"subgroup of {concept}")
        problems += unlike
        missing += [f"{group} of {concept}" for group in concepts[concept].groups if group not in groups]
        if groups:
            found[concept] = {group: _files_in(root, folder, problems)[:limit] for group, folder in groups.items()}
    if missing:
        problems.append(Problem(GLOBAL_FOLDER, f"no folder for {', '.join(missing)}", fatal=False))
    return found, problems


def _matching(root, where, expected, kind):
    """Which folders below one are the expected. where: path relative to root. expected: {name: folder}.

    Returns ({name: path relative to root}, in the order of expected; list of Problem).
    """
    by_name, problems = {}, []
    for entry in sorted(os.scandir(root / where), key=lambda entry: entry.name) if (root / where).is_dir() else ():
        if entry.is_dir() and not entry.name.startswith((".", "__")):
            by_name.setdefault(entry.name.casefold(), []).append(entry.name)
    known = {folder.casefold() for folder in expected.values()}
    for name, same in by_name.items():
        if name not in known:
            hint = did_you_mean(same[0], expected.values())
            what = f"unknown {kind}, {hint} (one of the dictionary's own needs a line in {OWN_GROUPS})"
            problems.append(Problem(f"{where}/{same[0]}", what))
        elif len(same) > 1:
            what = "differ by capitals alone: put their images into one folder"
            problems.append(Problem(where, f"{' and '.join(same)} {what}"))
    places = {name: by_name.get(folder.casefold(), ()) for name, folder in expected.items()}
    return {name: f"{where}/{same[0]}" for name, same in places.items() if len(same) == 1}, problems


def _files_in(root, folder, problems):
    """The files of a subgroup's folder, by name, relative to root. A folder within it becomes one of problems."""
    entries = [entry for entry in os.scandir(root / folder) if not entry.name.startswith(".")]
    inner = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("__")]  # as __MACOSX
    if inner:
        problems.append(
            Problem(folder, f"images in folders within it are not read: {', '.join(sorted(inner))}", fatal=False)
        )
    return [f"{folder}/{name}" for name in sorted(entry.name for entry in entries if entry.is_file())]


@dataclass(frozen=True)
class Subgroups:
    """The usable images of one global concept. groups: {group: {image path relative to the root: hex digest}}."""

    concept: str
    groups: dict

    @property
    def images(self):
        """{image path: digest} of all its subgroups, in their order."""
        return {path: digest for of in self.groups.values() for path, digest in of.items()}

    def only(self, kept):
        """{group: {path: digest}} of the images for whose path kept says so."""
        return {group: {path: of[path] for path in of if kept(path)} for group, of in self.groups.items()}

    @property
    def digest(self):
        """Fingerprint of the subgroups: it changes with any byte of an image and with its group, not with its name."""
        return fingerprint([(group, list(images.values())) for group, images in self.groups.items()])


def open_subgroups(root, concepts, *, memory_folder, workers, skip_bad=False, limit=None):
    """Read the global concepts of a dictionary, decoding each image once.

    concepts, limit: see find_subgroups; the other arguments: see open_dictionary. Returns (list of Subgroups, list of
    Problem). What is missing is a problem that is not fatal; a folder that no table names is an error, as is a subgroup
    without a usable image, or both are left out where skip_bad, like a concept of which fewer than two subgroups
    remain. Raises DissectionError.
    """
    root = Path(root)
    if not root.is_dir():
        raise no_dictionary(root)
    found, unlike = find_subgroups(root, concepts, limit)
    if not found:
        raise DissectionError(
            f"{root}/{GLOBAL_FOLDER} holds no subgroup of {', '.join(concepts)}: there is nothing to compare"
        )
    paths = [image for groups in found.values() for images in groups.values() for image in images]
    parts = [paths[start : start + CHECKED_AT_ONCE] for start in range(0, len(paths), CHECKED_AT_ONCE)]
    digests, problems = {}, list(unlike)
    with FileMemory(root, memory_folder) as memory:

        def check(part):
            return memory.facts([(path, IMAGE) for path in part])

        for part, facts in mapped(check, parts, workers, "checking subgroups", size=len):
            problems += [Problem(GLOBAL_FOLDER, of_file.error) for of_file in facts if of_file.error]
            digests |= {path: of_file.digest for path, of_file in zip(part, facts, strict=True) if not of_file.error}
            memory.save(at_once=False)
    sound = {
        concept: {
            group: {image: digests[image] for image in images if image in digests} for group, images in groups.items()
        }
        for concept, groups in found.items()
    }
    return settle_subgroups(root, sound, problems, skip_bad)


def settle_subgroups(root, found, problems, skip_bad):
    """Decide about images that cannot be used and subgroups without any (see settle).

    found: {concept: {group: {path: digest}}}, the usable ones. Returns (list of Subgroups, list of Problem).
    """
    problems = problems + [
        Problem(f"subgroup {group} of {concept}", "has no usable images")
        for concept, groups in found.items()
        for group, images in groups.items()
        if not images
    ]
    fatal = [problem for problem in problems if problem.fatal]
    if fatal and not skip_bad:
        raise unusable(f"{len(fatal)} images or subgroups of {root}", fatal, root)
    kept = []
    for concept, groups in found.items():
        usable = {group: images for group, images in groups.items() if images}
        if len(usable) < 2:
            problems.append(Problem(concept, "has fewer than two subgroups to compare", fatal=False))
        else:
            kept.append(Subgroups(concept, usable))
    if not kept:
        raise DissectionError(f"no global concept of {root} has two subgroups with usable images")
    return kept, problems


def photographs_of(subgroups):
    """The photographs of all subgroups, each once, whatever folders it lies in. subgroups: list of Subgroups.

    Returns ({digest: path}, {concept: {digest: group}}); one that lies in two subgroups of a concept has none there.
    """
    paths, labels = {}, {}
    for concept in subgroups:
        of = labels.setdefault(concept.concept, {})
        for group, images in concept.groups.items():
            for path, digest in images.items():
                paths.setdefault(digest, path)
                of[digest] = group if of.get(digest, group) == group else None
        if twice := [paths[digest] for digest, group in of.items() if group is None]:
            log.info("no label of %s, for they lie in several of its subgroups: %s", concept.concept, first_few(twice))
        labels[concept.concept] = {digest: group for digest, group in of.items() if group is not None}
    return paths, labels


def matched_concepts(root):
    """The global concepts of a dictionary of rendered faces whose subgroups show the same faces, as its recipe says.

    root: pathlib.Path. Returns a collection of names, empty for a dictionary that was not rendered.
    """
    try:
        matched = read_json(root / RECIPE).get("matched", DRAWN_GROUPS)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, AttributeError):  # damaged: it was rendered all the same
        return DRAWN_GROUPS
    return matched if isinstance(matched, list | dict) else DRAWN_GROUPS


def matched_faces(subgroups):
    """Rendered faces that differ in nothing but the subgroup of one global concept: they have one file name.

    subgroups: Subgroups of a concept of matched_concepts. Returns int64 (S, G), sets of faces that are in all
    subgroups, as places among the concept's images, a column per subgroup; None where no set is whole.
    """
    places, first = [], 0
    for images in subgroups.groups.values():
        places.append({Path(path).name: first + place for place, path in enumerate(images)})
        first += len(images)
    whole = [name for name in places[0] if all(name in of for of in places)]
    if not whole:
        return None
    return np.array([[of[name] for of in places] for name in whole], np.int64)
