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
from dictionary.images import load_image
from dictionary.render import ensure_rendered
from loader.activations import one_pass
from method.bias import BiasFeatures, ConceptBias, Peaks
from report.bias import Told, bias_reports, compare, comparison_plot, plot_of, table
from report.summary import summary
from store.about import about_layer
from store.arrays import load_arrays, save_arrays
from store.layer import LayerStore, Stage, locked
from store.run import (
    about_of_run,
    crop_facts,
    layers_of,
    prepare_device,
    prepare_model,
    prepare_subgroups,
    require_one_checkpoint,
    require_sense,
    run_name,
    tasks_of,
    views_of_subgroups,
)
from util.configuration import AS_PUBLISHED, read_settings, snapshot
from util.errors import DissectionError, run_script
from util.files import moved_aside, replace_text

log = logging.getLogger(__name__)


def main():
    config = read_settings(settings, sys.argv[1:], __doc__, instead={"TASK": "TASKS"})
    require_sense(config)
    require_one_checkpoint(config)
    tasks = tasks_of(config)
    concepts = global_concepts(Path(config.DICTIONARY))
    ensure_rendered(config.DICTIONARY)
    subgroups, notes = prepare_subgroups(config, concepts)
    notes = [*([AS_PUBLISHED] if config.PRESET else []), *notes]
    device = prepare_device(config)
    biases, about = {}, {}
    for task in tasks:
        model = prepare_model(config, task, layers_of(config, task), device)
        images, views, faceless = views_of_subgroups(config, model, subgroups)
        stores = layer_stores(config, model, images, views)
        with locked(stores.values()):
            read_features(config, model, images, views, stores)
            for store in stores.values():
                biases[store.layer] = analyse(config, store, images, concepts, [*notes, *faceless])
                about[store.layer] = about_of(store, images)
                set_aside(config, store, images)
    twin = run_name(config, "")  # its comparison stands beside the one that it is the baseline of
    path = compare(biases, about, concepts, notes, twin, config.NL_FOLDER, config.PLOT_FOLDER)
    print(f"\ncomparison: {path}\nplots: {config.PLOT_FOLDER}")
    replace_text(Path(config.NL_FOLDER) / f"nl_bias{twin}_settings.json", snapshot(config))


def layer_stores(config, model, subgroups, views):
    """The files of each layer of a task, with the facts that decide them: {layer: LayerStore}."""
    size = f"{len({path for concept in subgroups for path in concept.images})} images of subgroups"
    about = about_of_run(config, model, size, (subgroups, views))
    facts = {"input_size": model.grid, "plots": config.PLOT, "preset": config.PRESET}
    for concept in subgroups:
        facts[f"images_of_{concept.concept}"] = concept.digest
        numbers = [views[path].numbers for path in concept.images]
        facts[f"crop_of_{concept.concept}"] = crop_facts(config, model, numbers)
    return {
        layer: LayerStore(
            config.NL_FOLDER, f"{run_name(config, model.task)}_{layer}",
            {**facts, "network": model.provenance(layer)}, about={**about_layer(model, layer), **about},
        )
        for layer in model.layers
    }


def about_of(store, subgroups):
    """What was dissected, with the date of the features: {what: text}."""
    return store.about_of(features_stage(subgroups[0].concept).suffix)


def features_stage(concept):
    """The file of a layer's features on one global concept."""
    inputs = ("network", "input_size", f"images_of_{concept}", f"crop_of_{concept}")
    return Stage(f"_model_bias({concept}).npz", f"features, {concept}", inputs, version=2)


def read_features(config, model, subgroups, views, stores):
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
            for layer, features in extract(config, model, missing, concept, views).items():
                stores[layer].make(stage, save_arrays, features.arrays())


def extract(config, model, layers, concept, views):
    """Run a network over the images of one global concept. Returns {layer: BiasFeatures}."""
    paths = list(concept.images)
    images = list(enumerate(paths))
    batches = [images[start : start + config.BATCH_SIZE] for start in range(0, len(images), config.BATCH_SIZE)]
    peaks = {}

    def begin(shapes):
        peaks.update({layer: Peaks(len(images), units) for layer, (units, *_) in shapes.items()})
        return {layer: [consumer] for layer, consumer in peaks.items()}, 0

    def load(place):
        return load_image(Path(config.DICTIONARY) / paths[place], model.grid, views[paths[place]])

    one_pass(
        model, layers, batches, load, begin, workers=config.WORKERS,
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
    told = Told(store.layer, about_of(store, subgroups), biases, [*sizes, *notes])
    if config.PLOT:
        told.draw(concepts, config.PLOT_FOLDER)
    else:
        for bias in biases:
            set_plot_aside(config, plot_of(store.layer, bias.concept))
    reports = bias_reports(tuple(features_stage(bias.concept).suffix for bias in biases))
    for stage in reports:
        store.make(stage, stage.make, told)
    print(f"\n{store.layer}: {told.units} units")
    print(summary(told.about))
    for row in (row for bias in biases for row in table(bias)):
        print("  {:<18}{:>14}{:>20}{:>20}".format(*row))
    for stage in reports:
        print(f"  {store.path(stage.suffix)}")
    return biases


if __name__ == "__main__":
    run_script(main, "stopped: finished concepts are kept, and the same command goes on from here")
