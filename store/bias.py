"""What nl_bias.py keeps of a layer, and what decides it: features on a global concept, and what of bias is chance."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dictionary.subgroups import matched_concepts, matched_faces
from method.bias_chance import strata_of
from store.about import about_layer
from store.layer import LayerStore, Stage
from store.run import TWINS_FOLDER, about_of_run, crop_facts, run_name
from util.files import fingerprint


def features_stage(concept):
    """The file of a layer's features on one global concept."""
    inputs = ("network", "input_size", f"images_of_{concept}", f"crop_of_{concept}")
    return Stage(f"_model_bias({concept}).npz", f"features, {concept}", inputs, version=2)


def chance_stage(concept):
    """The file of what of a layer's bias on one global concept is chance."""
    inputs = (features_stage(concept).suffix, f"images_of_{concept}", f"sample_of_{concept}", "bootstraps", "preset")
    return Stage(f"_bias_chance({concept}).npz", f"chance, {concept}", inputs, version=2)


def concept_of(suffix):
    """The global concept that a file is about alone, by the suffix of its name; None for files of all."""
    found = re.fullmatch(r"_(?:model_bias|bias_chance)\((.*)\)\.npz", suffix)
    return found and found[1]


class Sample(NamedTuple):
    """What is known of a global concept's n images beside their subgroup, in their order (see method.bias_chance).

    digests: n texts. strata: int (n,). matched: int (S, G), or None.
    """

    digests: list
    strata: np.ndarray
    matched: np.ndarray | None

    def __str__(self):
        if self.matched is not None:
            return f"p of {len(self.matched)} sets of faces that differ in nothing but the subgroup"
        count = len(np.unique(self.strata))
        agree = "no other label of these photographs is known" if count == 1 else f"{count} strata whose labels agree"
        return f"p within {agree}" if count > 1 else f"p within one stratum: {agree}"


def samples_of(config, subgroups, labels):
    """{concept: Sample}. subgroups: list of Subgroups. labels: see dictionary.subgroups.photographs_of."""
    drawn, samples = matched_concepts(Path(config.DICTIONARY)), {}
    for concept in subgroups:
        digests = list(concept.images.values())
        matched = matched_faces(concept) if concept.concept in drawn else None
        samples[concept.concept] = Sample(digests, strata_of(labels, concept.concept, digests), matched)
    return samples


def bias_stores(config, model, subgroups, views, samples, twin=None):
    """The files of each layer of a task, with the facts that decide them: {layer: LayerStore}.

    samples: see samples_of. twin: the seed of an untrained twin, whose files lie in a folder of their own; None for the
    network itself.
    """
    folder, name = Path(config.NL_FOLDER), run_name(config, model.task)
    if twin is not None:
        folder, name = folder / TWINS_FOLDER, f"{model.task}_random{twin}"
    size = f"{len({path for concept in subgroups for path in concept.images})} images of subgroups"
    about = about_of_run(config, model, size, (subgroups, views)) if twin is None else {}
    facts = {
        "input_size": model.grid, "plots": config.PLOT, "preset": config.PRESET, "alpha": config.ALPHA,
        "bootstraps": config.BOOTSTRAPS or 0, "twins": [],
    }  # fmt: skip
    for concept in subgroups:
        facts[f"images_of_{concept.concept}"] = concept.digest
        numbers = [views[path].numbers for path in concept.images]
        facts[f"crop_of_{concept.concept}"] = crop_facts(config, model, numbers)
        _, strata, matched = samples[concept.concept]
        known = [strata.tolist(), None if matched is None else matched.tolist()]
        facts[f"sample_of_{concept.concept}"] = fingerprint(known)
    return {
        layer: LayerStore(
            folder, f"{name}_{layer}",
            {**facts, "network": model.provenance(layer)}, about={**about_layer(model, layer), **about},
        )
        for layer in model.layers
    }  # fmt: skip


def note_twins(store, twins, subgroups):
    """Let what was found of untrained twins enter the facts of the layer that is compared with them.

    twins: LayerStores of the same layer.
    """
    store.facts["twins"] = [twin.content(chance_stage(of.concept).suffix) for twin in twins for of in subgroups]
