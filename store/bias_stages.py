"""Having the files of what nl_bias.py makes of layers: features, what of the bias is chance (method.md §5, §8.9)."""

import logging
from pathlib import Path

import numpy as np

from dictionary.images import load_image
from loader.activations import one_pass
from method.bias import BiasFeatures, ConceptBias, Peaks
from method.bias_chance import BiasChance, bias_chance
from method.bias_evidence import BiasEvidence
from store.arrays import load_arrays, load_as, save_arrays
from store.bias import chance_stage, features_stage
from store.run import TWINS_FOLDER
from util.errors import DissectionError

log = logging.getLogger(__name__)


def read_features(config, network, subgroups, views, stores):
    """Have the features of every layer and concept on disk, a pass over the images of each concept.

    network: function that gives the LoadedModel, where anything is to be done.
    """
    of_concepts = [(concept, features_stage(concept.concept)) for concept in subgroups]
    missing = [
        (concept, stage, layers) for concept, stage in of_concepts
        if (layers := [layer for layer, store in stores.items() if not store.is_current(stage)])
    ]  # fmt: skip
    if not missing:
        return
    if not config.GENERATE:
        _, stage, (layer, *_) = missing[0]
        otherwise = ", or TWINS=0 to go without untrained twins" if stores[layer].folder.name == TWINS_FOLDER else ""
        raise DissectionError(
            f"{stores[layer].path(stage.suffix)} is missing or was made under other settings: run nl_bias.py with "
            f"GENERATE=True{otherwise}"
        )
    model = network()
    for concept, stage, layers in missing:
        log.info("features: %s %s, %s; %s", model.task, ", ".join(layers), concept.concept, model.weights_label)
        for layer, features in extract(config, model, layers, concept, views).items():
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


def chance(config, samples, stores):
    """§8.9: have what of the bias of every layer is chance. samples: {concept: Sample}."""
    for concept, sample in samples.items():
        stage = chance_stage(concept)
        for store in stores.values():
            if not store.is_current(stage):
                log.info("%s: chance, %s", store.layer, concept)
                features = features_of(store, concept)
                found = bias_chance(
                    features, sample.digests, sample.strata, store.facts["bootstraps"], sample.matched, ties_of(config)
                )
                groups = np.array(list(features.groups))
                store.make(stage, save_arrays, {"groups": groups, **vars(found)})


def features_of(store, concept):
    path = store.path(features_stage(concept).suffix)
    return BiasFeatures.of_arrays(load_arrays(path), path)


def ties_of(config):
    """How equal peaks are ranked."""
    return "order" if config.PRESET == "published" else "mean"


def evidence_of(config, store, twins, concept):
    """What was found about a layer's bias on one global concept: BiasEvidence. twins: LayerStores of the same layer."""
    (bias, found), *of_twins = (
        (ConceptBias(concept, tuple(features.groups), features.probabilities(ties_of(config))),
         load_as(BiasChance, one.path(chance_stage(concept).suffix)))
        for one in (store, *twins) for features in [features_of(one, concept)]
    )  # fmt: skip
    return BiasEvidence(bias, found, of_twins, config.ALPHA)
