"""Which units of a face model lean towards a subgroup of a global concept? (method.md §5)

For every task in TASKS and every global concept of the dictionary (age, gender, ethnic, skin_tone and its own): runs
the network over the subgroups' images, computes each unit's probabilities, and compares the models. Results go to
NL_FOLDER, pictures to PLOT_FOLDER; saved features that still hold are reused.
"""

import logging
import sys
from pathlib import Path

import settings
from dictionary.concepts import global_concepts
from dictionary.faces import face_boxes, missing_face
from dictionary.images import load_image
from dictionary.render import ensure_rendered
from dictionary.rows import Problem
from dictionary.subgroups import GLOBAL_FOLDER, open_subgroups, settle_subgroups
from loader.activations import one_pass
from method.bias import BiasFeatures, ConceptBias, Peaks
from report.bias import Told, bias_reports, compare, comparison_plot, plot_of, table
from store.arrays import load_arrays, save_arrays
from store.layer import LayerStore, Stage, locked
from store.run import (
    crops_faces,
    layers_of,
    prepare_device,
    prepare_model,
    require_one_checkpoint,
    run_name,
    tasks_of,
)
from util.configuration import AS_PUBLISHED, read_settings, snapshot
from util.errors import DissectionError, run_script
from util.files import fingerprint, moved_aside, replace_text

log = logging.getLogger(__name__)

_NOTED = 8  # of what is missing or left out in a report


def main():
    config = read_settings(settings, sys.argv[1:], __doc__, instead={"TASK": "TASKS"})
    require_one_checkpoint(config)
    tasks = tasks_of(config)
    concepts = global_concepts(Path(config.DICTIONARY))
    subgroups, notes = read_subgroups(config, concepts)
    device = prepare_device(config)
    biases = {}
    for task in tasks:
        model = prepare_model(config, task, layers_of(config, task), device)
        images, boxes, faceless = faces_of(config, model, subgroups)
        stores = layer_stores(config, model, images, boxes)
        with locked(stores.values()):
            read_features(config, model, images, boxes, stores)
            for store in stores.values():
                biases[store.layer] = analyse(config, store, images, concepts, [*notes, *faceless])
                set_aside(config, store, images)
    twin = run_name(config, "")  # its comparison stands beside the one that it is the baseline of
    path = compare(biases, concepts, notes, twin, config.NL_FOLDER, config.PLOT_FOLDER)
    print(f"\ncomparison: {path}\nplots: {config.PLOT_FOLDER}")
    replace_text(Path(config.NL_FOLDER) / f"nl_bias{twin}_settings.json", snapshot(config))


def read_subgroups(config, concepts):
    """The usable images of the dictionary's subgroups: list of Subgroups. Also notes for the reports, texts."""
    ensure_rendered(config.DICTIONARY)
    subgroups, problems = open_subgroups(
        config.DICTIONARY, concepts, memory_folder=config.CACHE_FOLDER, workers=config.WORKERS,
        skip_bad=config.SKIP_BAD_IMAGES, limit=config.TEST_IMAGES if config.TEST_MODE else None,
    )  # fmt: skip
    notes = said(problems)
    absent = ", ".join(sorted(set(concepts) - {concept.concept for concept in subgroups}))
    absent = [f"not analysed, for lack of images: {absent}"] if absent else []
    for text in absent:
        log.info(text)
    for concept in subgroups:
        log.info("%s: %s", concept.concept, ", ".join(f"{group} {len(of)}" for group, of in concept.groups.items()))
    return subgroups, [*([AS_PUBLISHED] if config.PRESET else []), *notes, *absent]


def said(problems):
    """Log what is missing or was left out. Returns the notes on it for the reports, as text: not each single image."""
    for problem in problems:
        log.info("%s: %s", "left out" if problem.fatal else "note", problem)
    told = [f"left out: {problem}" if problem.fatal else str(problem) for problem in problems]
    return told[:_NOTED] + ([f"and {len(told) - _NOTED} more, which the log names"] if len(told) > _NOTED else [])


def faces_of(config, model, subgroups):
    """The subgroups as a task sees them: where it crops, without the images in which no face was found.

    Returns (list of Subgroups; {image path: box}, empty where faces are not cropped; notes for the reports, texts).
    """
    if not crops_faces(config, model):
        return subgroups, {}, []
    digests = {path: digest for concept in subgroups for of in concept.groups.values() for path, digest in of.items()}
    boxes = face_boxes(
        config.DICTIONARY, digests, config.CACHE_FOLDER, model.device, config.WORKERS,
        search=config.GENERATE,
    )  # fmt: skip
    problems = [Problem(GLOBAL_FOLDER, missing_face(path)) for path, box in boxes.items() if box is None]
    seen = {
        concept.concept: {
            group: {path: digest for path, digest in of.items() if boxes[path]} for group, of in concept.groups.items()
        }
        for concept in subgroups
    }
    subgroups, problems = settle_subgroups(config.DICTIONARY, seen, problems, config.SKIP_BAD_IMAGES)
    return subgroups, boxes, said(problems)


def layer_stores(config, model, subgroups, boxes):
    """The files of each layer of a task, with the facts that decide them: {layer: LayerStore}."""
    facts = {"input_size": model.side_px, "plots": config.PLOT, "preset": config.PRESET}
    for concept in subgroups:
        facts[f"images_of_{concept.concept}"] = concept.digest
        paths = [path for of in concept.groups.values() for path in of]
        facts[f"faces_of_{concept.concept}"] = fingerprint([boxes[path] for path in paths]) if boxes else None
    return {
        layer: LayerStore(
            config.NL_FOLDER, f"{run_name(config, model.task)}_{layer}", {**facts, "network": model.provenance(layer)}
        )
        for layer in model.layers
    }


def features_stage(concept):
    """The file of a layer's features on one global concept."""
    inputs = ("network", "input_size", f"images_of_{concept}", f"faces_of_{concept}")
    return Stage(f"_model_bias({concept}).npz", f"features, {concept}", inputs, version=2)


def read_features(config, model, subgroups, boxes, stores):
    """Have the features of every layer and concept on disk, a pass over the images of each concept."""
    for concept in subgroups:
        stage = features_stage(concept.concept)
        missing = [layer for layer, store in stores.items() if not store.is_current(stage)]
        if missing and not config.GENERATE:
            raise DissectionError(
                f"{stores[missing[0]].path(stage.suffix)} is missing or was made under other settings: run nl_bias.py "
                "with GENERATE=True"
            )
        if missing:
            log.info("features: %s %s, %s", model.task, ", ".join(missing), concept.concept)
            for layer, features in extract(config, model, missing, concept, boxes).items():
                with stores[layer].making(stage) as partial:
                    save_arrays(partial, features.arrays())


def extract(config, model, layers, concept, boxes):
    """Run a network over the images of one global concept. Returns {layer: BiasFeatures}."""
    paths = [path for of in concept.groups.values() for path in of]
    images = list(enumerate(paths))
    batches = [images[start : start + config.BATCH_SIZE] for start in range(0, len(images), config.BATCH_SIZE)]
    side_px, peaks = model.side_px, {}

    def begin(shapes):
        peaks.update({layer: Peaks(len(images), units) for layer, (units, *_) in shapes.items()})
        return {layer: [consumer] for layer, consumer in peaks.items()}, 0

    def load(place):
        return load_image(Path(config.DICTIONARY) / paths[place], side_px, boxes.get(paths[place]))

    one_pass(
        model, layers, batches, load, begin, side_px=side_px, workers=config.WORKERS,
        label=f"{model.task}: {concept.concept}", total=len(images),
    )  # fmt: skip
    sizes = {group: len(of) for group, of in concept.groups.items()}
    return {layer: consumer.features(sizes) for layer, consumer in peaks.items()}


def set_aside(config, store, subgroups):
    """Take features and plots of concepts that are not analysed any more away from the new ones."""
    wanted = {features_stage(subgroup.concept).suffix for subgroup in subgroups}
    for suffix in [suffix for suffix in store.suffixes() if suffix.startswith("_model_bias(") and suffix not in wanted]:
        concept = suffix.removeprefix("_model_bias(").removesuffix(").npz")
        place = store.set_aside(suffix)
        log.info("%s: %s is not analysed any more: what was found about it lies in %s", store.layer, concept, place)
        for name in (plot_of(store.layer, concept), comparison_plot(concept, run_name(config, ""))):
            set_plot_aside(config, name)


def set_plot_aside(config, name):
    """Take a plot of other numbers than the present ones away from these."""
    if (Path(config.PLOT_FOLDER) / name).exists():
        moved_aside(Path(config.PLOT_FOLDER) / name)


def analyse(config, store, subgroups, concepts, notes):
    """Compute, save and show one layer's bias. notes: for its report. Returns list of ConceptBias, one per concept."""
    biases, sizes = [], []
    ties = "order" if config.PRESET == "published" else "mean"
    for concept in (subgroup.concept for subgroup in subgroups):
        path = store.path(features_stage(concept).suffix)
        features = BiasFeatures.of_arrays(load_arrays(path), path)
        sizes.append(f"{concept}: " + ", ".join(f"{len(of)} images {group}" for group, of in features.groups.items()))
        biases.append(ConceptBias(concept, tuple(features.groups), features.probabilities(ties)))
    told = Told(store.layer, biases, [*sizes, *notes])
    if config.PLOT:
        told.draw(concepts, config.PLOT_FOLDER)
    else:
        for bias in biases:
            set_plot_aside(config, plot_of(store.layer, bias.concept))
    reports = bias_reports(tuple(features_stage(bias.concept).suffix for bias in biases))
    for stage in reports:
        with store.making(stage) as partial:
            stage.make(partial, told)
    print(f"\n{store.layer}: {told.units} units")
    for row in (row for bias in biases for row in table(bias)):
        print("  {:<18}{:>14}{:>20}{:>20}".format(*row))
    for stage in reports:
        print(f"  {store.path(stage.suffix)}")
    return biases


if __name__ == "__main__":
    run_script(main, "stopped: finished concepts are kept, and the same command goes on from here")
