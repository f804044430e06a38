"""The images of the subgroups of global concepts (method.md §1.3)."""

import os
from dataclasses import dataclass
from pathlib import Path

from dictionary.concepts import global_concepts
from dictionary.file_memory import FileMemory
from dictionary.rows import Problem, no_dictionary, unusable
from util.errors import DissectionError
from util.files import fingerprint
from util.parallel import mapped

GLOBAL_FOLDER = "non_localizable"


def subgroup_images(root, concepts=None):
    """The images of each subgroup that the dictionary has (method.md §1.3).

    concepts: {concept: GlobalConcept}, by default those of tables (see concepts.global_concepts). Returns {concept:
    {group: [path relative to root, sorted by name]}}, concepts and groups in the table's order, those without a folder
    left out.
    """
    found = {}
    for concept, description in (concepts or global_concepts(Path(root))).items():
        folder = Path(root) / GLOBAL_FOLDER / description.folder
        groups = {group: folder / name for group, name in description.groups.items() if (folder / name).is_dir()}
        if groups:
            found[concept] = {group: _files_in(root, place) for group, place in groups.items()}
    return found


def _files_in(root, folder):
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    return [(folder / name).relative_to(root).as_posix() for name in names]


@dataclass(frozen=True)
class Subgroups:
    """The usable images of one global concept. groups: {group: {image path relative to the root: hex digest}}."""

    concept: str
    groups: dict

    @property
    def digest(self):
        """Fingerprint of the subgroups: it changes with any byte of an image and with its group, not with its name."""
        return fingerprint([(group, list(images.values())) for group, images in self.groups.items()])


def open_subgroups(
    root, *, memory_folder, workers, skip_bad=False, limit=None, concepts=None, required=()
):  # fmt: skip
    """Read the global concepts of a dictionary, decoding each image once (see open_dictionary for the arguments).

    limit: read the first images of each subgroup only. required: concepts whose folders must be there. Returns (list of
    Subgroups, list of Problem). A subgroup whose folder is absent is not there; one without a usable image is an error,
    or left out where skip_bad, as is a concept of which fewer than two subgroups remain. Raises DissectionError.
    """
    root = Path(root)
    if not root.is_dir():
        raise no_dictionary(root)
    concepts = concepts or global_concepts(root)
    for concept in required:
        for name in concepts[concept].groups.values():
            folder = root / GLOBAL_FOLDER / concepts[concept].folder / name
            if not folder.is_dir():
                raise DissectionError(f"there is no folder {folder}, which {concept} in MORE_GLOBAL_CONCEPTS asks for")
    found = subgroup_images(root, concepts)
    if not found:
        raise DissectionError(
            f"{root}/{GLOBAL_FOLDER} holds no subgroup of {', '.join(concepts)}: there is nothing to compare"
        )
    found = {concept: {group: images[:limit] for group, images in groups.items()} for concept, groups in found.items()}
    paths = [image for groups in found.values() for images in groups.values() for image in images]
    with FileMemory(root, memory_folder) as memory:
        facts = dict(mapped(memory.facts, paths, workers, "checking subgroups"))
    problems = [Problem(GLOBAL_FOLDER, of_file.error) for of_file in facts.values() if of_file.error]
    sound = {
        concept: {
            group: {image: facts[image].digest for image in images if not facts[image].error}
            for group, images in groups.items()
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
    if problems and not skip_bad:
        raise unusable(f"{len(problems)} images or subgroups of {root}", problems, root)
    kept = [
        Subgroups(concept, {group: images for group, images in of.items() if images}) for concept, of in found.items()
    ]
    for subgroups in kept:
        if len(subgroups.groups) < 2:
            problems.append(Problem(subgroups.concept, "has fewer than two subgroups to compare", fatal=False))
    kept = [subgroups for subgroups in kept if len(subgroups.groups) >= 2]
    if not kept:
        raise DissectionError(f"no global concept of {root} has two subgroups with usable images")
    return kept, problems
