"""Having the files of what nl_bias.py makes of layers: features, what of the bias is chance (method.md §5, §8.9).

ranks: util.ranks.Ranks, the processes of the run, see take_part.
"""

import logging
from pathlib import Path

import numpy as np

from dictionary.images import load_image
from loader.activations import one_pass
from loader.batch import Batches
from method.bias import BiasFeatures, ConceptBias, Peaks
from method.bias_chance import BiasChance, bias_chance, resampled_features
from method.bias_evidence import BiasEvidence
from store.arrays import load_arrays, load_as, save_arrays
from store.bias import chance_stage, features_stage
from store.run import TWINS_FOLDER, follow, networks_of, require_same_network
from util.errors import DissectionError
from util.ranks import ALONE

log = logging.getLogger(__name__)


def take_part(config, networks, ranks):
    """Take part in what the first process calls, until it is through. Of the other processes of a run."""

    def peaks(which, known, *arguments):
        model = networks.of(*which)
        require_same_network(model, known)
        peaks_of(ranks, config, model, *arguments)

    follow(config, networks, ranks, {
        "peaks": peaks, "resamples": lambda *arguments: resamples_of(ranks, *arguments),
    })  # fmt: skip


def read_features(config, network, subgroups, views, stores, ranks=ALONE, which=None):
    """Have the features of every layer and concept on disk, a pass over the images of each concept.

    network: function that gives the LoadedModel, where anything is to be done. which: its (task, layers, seed of an
    untrained twin or None), by which the other processes know it.
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
        paths, label = list(concept.images), f"{model.task}: {concept.concept}"
        arguments = layers, paths, [views[path] for path in paths], label
        ranks.call("peaks", which, networks_of({layer: stores[layer] for layer in layers}), *arguments)
        sizes = {group: len(of) for group, of in concept.groups.items()}
        for layer, peaks in peaks_of(ranks, config, model, *arguments).items():
            stores[layer].make(stage, save_arrays, peaks.features(sizes).arrays())


def peaks_of(ranks, config, model, layers, paths, views, label):
    """Run a network over images, every process its share. Returns {layer: Peaks}, which hold in the first process.

    paths: of n images relative to the dictionary. views: of n. label: of the progress bar.
    """
    batches = Batches(len(paths), config.BATCH_SIZE, paths.__getitem__)
    first, last = ranks.share(len(batches))
    peaks = {}

    def begin(shapes):
        peaks.update({layer: Peaks(len(paths), units) for layer, (units, *_) in shapes.items()})
        return {layer: [consumer] for layer, consumer in peaks.items()}, range(first, last)

    def load(place):
        return load_image(Path(config.DICTIONARY) / paths[place], model.grid, views[place])

    one_pass(model, layers, batches, load, begin, workers=config.WORKERS, label=label)
    for consumer in peaks.values():
        consumer.merge(ranks, slice(first * config.BATCH_SIZE, last * config.BATCH_SIZE))
    return peaks


def chance(config, samples, stores, ranks=ALONE):
    """§8.9: have what of the bias of every layer is chance. samples: {concept: Sample}."""
    for concept, sample in samples.items():
        stage = chance_stage(concept)
        for store in stores.values():
            if not store.is_current(stage):
                log.info("%s: chance, %s", store.layer, concept)
                features, bootstraps = features_of(store, concept), store.facts["bootstraps"]
                arguments = features, sample.digests, bootstraps, ties_of(config)
                ranks.call("resamples", *arguments)
                found = bias_chance(
                    features, sample.digests, sample.strata, bootstraps, sample.matched, ties_of(config),
                    resamples_of(ranks, *arguments),
                )  # fmt: skip
                groups = np.array(list(features.groups))
                store.make(stage, save_arrays, {"groups": groups, **vars(found)})


def resamples_of(ranks, features, *options):
    """See method.bias_chance.resampled_features, of which every process has its share of the units."""
    units = slice(*ranks.share(len(features.p_min)))
    found = ranks.gathered(resampled_features(features, *options, units))
    return found and tuple(map(np.concatenate, zip(*found, strict=True)))


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
