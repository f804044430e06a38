"""Which units of a face model lean towards a subgroup of a global concept? (method.md §5)

For every task in TASKS and every global concept of the dictionary (age, gender, ethnic, skin_tone and those of
MORE_GLOBAL_CONCEPTS): runs the network over the subgroups' images, computes each unit's probabilities, and compares the
models. Results go to NL_FOLDER, pictures to PLOT_FOLDER; saved features that still hold are reused.
"""

import logging
import sys
from pathlib import Path

import numpy as np

import settings
from loader.activations import activation_maps, probe, require_finite
from loader.faces import face_boxes, missing_face
from loader.recorder import ActivationRecorder
from util.artifacts import LayerArtifacts, fingerprint
from util.bias import UNBIASED, BiasFeatures, ConceptBias, as_dict, table, write_pickle, write_text
from util.configuration import read_settings, snapshot
from util.errors import DissectionError, run_script
from util.files import replace_text, replacing
from util.parallel import progress
from util.plots import grouped_bars, save_png, stacked_probabilities, table_pages, write_pdf
from util.preparation import (
    crops_faces,
    input_size,
    layers_of,
    locked,
    prepare_device,
    prepare_model,
    require_one_checkpoint,
    run_name,
    tasks_of,
)
from visual_dictionary.concepts import global_concepts
from visual_dictionary.dictionary import GLOBAL_FOLDER, Problem, open_subgroups, settle_subgroups
from visual_dictionary.render_dictionary import ensure_rendered

log = logging.getLogger(__name__)

PROBABILITIES, TEXT, REPORT, COMPARISON = "_nl_probs.pkl", "_nl_probs.txt", "_nl_report.pdf", "nl_comparison.pdf"
SETTINGS_FILE = "nl_bias_settings.json"

# Raise a number when the code behind it changes what it computes or shows.
_FEATURES_VERSION, _RESULTS_VERSION = 1, 1


def main():
    config = read_settings(settings, sys.argv[1:], __doc__)
    require_one_checkpoint(config)
    tasks = tasks_of(config)
    concepts = global_concepts(config.MORE_GLOBAL_CONCEPTS)
    subgroups = read_subgroups(config, concepts)
    device = prepare_device(config)
    biases = {}
    for task in tasks:
        model = prepare_model(config, task, layers_of(config, task), device)
        artifacts = {
            layer: LayerArtifacts(config.NL_FOLDER, f"{run_name(config, task)}_{layer}") for layer in model.layers
        }
        with locked(artifacts.values()):
            images, boxes = faces_of(config, model, subgroups)
            recipes = read_features(config, model, images, boxes, artifacts)
            for layer in model.layers:
                biases[artifacts[layer].layer] = analyse(config, artifacts[layer], recipes[layer], concepts)
    compare(config, biases, concepts)
    replace_text(Path(config.NL_FOLDER) / SETTINGS_FILE, snapshot(config))


def read_subgroups(config, concepts):
    """The usable images of the dictionary's subgroups: list of Subgroups."""
    ensure_rendered(config.DICTIONARY)
    subgroups, problems = open_subgroups(
        config.DICTIONARY, memory_folder=config.CACHE_FOLDER, workers=config.WORKERS, skip_bad=config.SKIP_BAD_IMAGES,
        limit=config.TEST_IMAGES if config.TEST_MODE else None, global_concepts=concepts,
        required=config.MORE_GLOBAL_CONCEPTS,
    )  # fmt: skip
    for problem in problems:
        log.info("left out: %s", problem)
    for concept in subgroups:
        log.info("%s: %s", concept.concept, ", ".join(f"{group} {len(of)}" for group, of in concept.groups.items()))
    return subgroups


def faces_of(config, model, subgroups):
    """The subgroups as a task sees them: where it crops, without the images in which no face was found.

    Returns (list of Subgroups, {image path: box}), an empty dict where faces are not cropped.
    """
    if not crops_faces(config, model):
        return subgroups, {}
    digests = {path: digest for concept in subgroups for of in concept.groups.values() for path, digest in of.items()}
    boxes = face_boxes(
        config.DICTIONARY, digests, input_size(config, model), config.CACHE_FOLDER, model.device, config.WORKERS,
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
    for problem in problems:
        log.info("left out: %s", problem)
    return subgroups, boxes


# ------------------------------------------------------------------------------------------------------------ features


def features_suffix(concept):
    return f"_model_bias({concept}).npz"


def read_features(config, model, subgroups, boxes, artifacts):
    """Have the features of every layer and concept on disk. Returns {layer: {concept: what they were made from}}."""
    recipes = {layer: {} for layer in model.layers}
    for concept in subgroups:
        suffix = features_suffix(concept.concept)
        for layer in model.layers:
            recipes[layer][concept.concept] = features_made_from(config, model, layer, concept, boxes)
        missing = [
            layer for layer in model.layers if not artifacts[layer].is_current(suffix, recipes[layer][concept.concept])
        ]
        if missing and not config.GENERATE:
            raise DissectionError(
                f"{artifacts[missing[0]].path(suffix)} is missing or was made under other settings: run nl_bias.py "
                "with GENERATE=True"
            )
        if missing:
            log.info("features: %s %s, %s", model.task, ", ".join(missing), concept.concept)
            for layer, features in extract(config, model, missing, concept, boxes).items():
                with artifacts[layer].writing(suffix, recipes[layer][concept.concept]) as partial:  # noqa: SIM117
                    with open(partial, "wb") as file:
                        features.save(file)
    return recipes


def features_made_from(config, model, layer, concept, boxes):
    """What decides every byte of a file of features: JSON values by name."""
    paths = [path for of in concept.groups.values() for path in of]
    return {
        "version": _FEATURES_VERSION,
        **model.provenance(layer),
        "input_size": input_size(config, model),
        "subgroup_images": concept.digest,
        "face_boxes": fingerprint([boxes[path] for path in paths]) if boxes else None,
    }


def extract(config, model, layers, concept, boxes):
    """Run a network over the images of one global concept. Returns {layer: BiasFeatures}."""
    images = [(group, path) for group, of in concept.groups.items() for path in of]
    batches = [images[start : start + config.BATCH_SIZE] for start in range(0, len(images), config.BATCH_SIZE)]
    files = ([(Path(config.DICTIONARY) / path, boxes.get(path)) for _, path in batch] for batch in batches)
    side_px = input_size(config, model)
    with ActivationRecorder(model.module, {layer: model.layers[layer] for layer in layers}) as recorder:
        shapes = probe(recorder, model, side_px)
        peaks = {layer: np.empty((len(images), shapes[layer][0]), np.float32) for layer in layers}
        lowest = {layer: np.full(shapes[layer][0], np.inf, np.float32) for layer in layers}
        start = 0
        with progress(len(images), f"{model.task}: {concept.concept}", "image") as bar:
            recorded = activation_maps(recorder, model, files, side_px, config.WORKERS)
            for batch, maps_of in zip(batches, recorded, strict=True):
                for layer, maps in maps_of.items():
                    require_finite(layer, maps, [path for _, path in batch])
                    peaks[layer][start : start + len(batch)] = maps.max(axis=(2, 3))
                    lowest[layer] = np.minimum(lowest[layer], maps.min(axis=(0, 2, 3)))
                start += len(batch)
                bar.update(len(batch))
    bounds = np.cumsum([0, *(len(of) for of in concept.groups.values())])
    return {
        layer: BiasFeatures(
            {
                group: peaks[layer][first:last]
                for group, first, last in zip(concept.groups, bounds, bounds[1:], strict=False)
            },
            lowest[layer],
            peaks[layer].max(axis=0),
        )
        for layer in layers
    }


# ------------------------------------------------------------------------------------------------------------- results


def analyse(config, artifacts, recipes, concepts):
    """Compute, save and show one layer's bias. Returns list of ConceptBias, a global concept each."""
    biases, sizes = [], []
    for concept in recipes:
        features = BiasFeatures.load(artifacts.path(features_suffix(concept)))
        sizes.append(f"{concept}: " + ", ".join(f"{len(of)} images {group}" for group, of in features.groups.items()))
        biases.append(ConceptBias(concept, tuple(features.groups), features.probabilities()))
    made_from = {
        "version": _RESULTS_VERSION,
        "features": {concept: fingerprint(recipe) for concept, recipe in recipes.items()},
    }
    with artifacts.writing(PROBABILITIES, made_from) as partial:
        write_pickle(as_dict(biases), partial)
    with artifacts.writing(TEXT, made_from) as partial:
        write_text(biases, partial)
    tables = [table(bias) for bias in biases]
    figures = draw_layer(config, artifacts.layer, biases, concepts) if config.PLOT else []
    notes = [f"{len(biases[0].probabilities)} units", *map(threshold_note, biases), *sizes]
    with artifacts.writing(REPORT, {**made_from, "plots": config.PLOT}) as partial:
        write_pdf(partial, [*table_pages(f"Global bias of {artifacts.layer}", notes, tables), *figures])
    print(f"\n{artifacts.layer}: {notes[0]}")
    for rows in tables:
        for row in rows:
            print("  {:<18}{:>14}{:>20}{:>20}".format(*row))
    for suffix in (REPORT, TEXT, PROBABILITIES):
        print(f"  {artifacts.path(suffix)}")
    return biases


def threshold_note(bias):
    return f"{bias.concept}: a unit is biased towards a subgroup from a probability of {bias.threshold:g}"


def draw_layer(config, layer, biases, concepts):
    """Draw every concept's probabilities of one layer; each becomes a PNG. Returns the figures."""
    figures = []
    for bias in biases:
        figure = stacked_probabilities(
            f"{layer}: {bias.concept}", bias.groups, bias.probabilities, list(concepts[bias.concept].groups),
            bias.threshold,
        )  # fmt: skip
        save_png(figure, Path(config.PLOT_FOLDER) / f"{layer}_bias({bias.concept}).png")
        figures.append(figure)
    return figures


def compare(config, biases, concepts):
    """Compare the number of biased units across the models, a chart per global concept.

    biases: {layer: list of ConceptBias}.
    """
    figures, tables = [], []
    for concept, description in concepts.items():
        counts = {
            layer: bias.counts() for layer, of_layer in biases.items() for bias in of_layer if bias.concept == concept
        }
        if not counts:
            continue
        names = [*description.groups, UNBIASED]
        figure = grouped_bars(f"Units biased on {concept}", counts, names, "units")
        save_png(figure, Path(config.PLOT_FOLDER) / f"bias_comparison({concept}).png")
        figures.append(figure)
        shown = [name for name in names if any(name in of_layer for of_layer in counts.values())]
        tables.append(
            [
                (concept, *shown),
                *((layer, *(str(of[name]) if name in of else "-" for name in shown)) for layer, of in counts.items()),
            ]
        )
    path = Path(config.NL_FOLDER) / COMPARISON
    notes = sorted({threshold_note(bias) for of_layer in biases.values() for bias in of_layer})
    with replacing(path, shared=True) as partial:
        write_pdf(partial, [*table_pages("Global bias compared", notes, tables), *figures])
    print(f"\ncomparison: {path}\nplots: {config.PLOT_FOLDER}")


if __name__ == "__main__":
    run_script(main, "stopped: finished concepts are kept, and the same command goes on from here")
