"""Which units matter, and for whom? What a network predicts without some of its units (method.md §9).

Ablates every unit of a layer alone, and sets of units: the detectors of each region and the units biased towards each
subgroup, as main.py and nl_bias.py left them, the first by importance, IoU and bias, beside random sets of the same
size; and tells what that does to the predictions on the photographs of the subgroups, per subgroup and for
intersections. Results go to OUTPUT_FOLDER; what is finished is kept.
"""

import sys

import numpy as np

import settings
from dictionary.render import ensure_rendered
from loader.ablation import ablated_pass
from loader.activations import one_pass
from loader.batch import Batches
from loader.predictions import Classes, Years
from method.ablation import MeanMaps, effect_of, importance, spearman, steps
from method.resampling import poisson_weights
from report.ablation import Ablation, ablation_reports, printed
from report.page import write_pages
from store.ablation import (
    UNITS_ABLATED,
    UnitSet,
    ablation_facts,
    bias_sets,
    biases_of,
    dissection_of,
    listed,
    measures_for,
    of_sets,
    photographs_for,
    predicting,
    region_sets,
    sets_stage,
    subgroups_for,
    top_sets,
)
from store.arrays import load_arrays, save_arrays
from store.layer import locked
from store.run import as_list, layer_stores, prepare_device, prepare_dictionary, prepare_model
from util.configuration import read_settings, snapshot
from util.errors import DissectionError, run_script
from util.files import fingerprint, replace_text


def main():
    config = read_settings(settings, sys.argv[1:], __doc__, instead={"TASKS": "TASK", "TASK_LAYERS": "LAYER_NAME"})
    device = prepare_device(config)
    ensure_rendered(config.DICTIONARY)
    models = [prepare_model(config, config.TASK, [layer], device) for layer in as_list(config.LAYER_NAME)]
    for model in models:  # before anything runs
        own_sets(config, units_of(model))
    for model in models:
        ablate_layer(config, model)
    write_pages(config.OUTPUT_FOLDER, config.NL_FOLDER)


def ablate_layer(config, model):
    """All about one layer. model: LoadedModel with that layer."""
    network = predicting(config, model)
    dictionary = prepare_dictionary(config, model)
    subgroups, notes = subgroups_for(config, network)
    photographs, faceless = photographs_for(config, network, dictionary, subgroups)
    (store,) = layer_stores(config, model, dictionary).values()
    store.facts |= ablation_facts(config, network, photographs)
    findings, evidence, missing = dissection_of(config, store)
    biases, more = biases_of(config, model, subgroups)
    store.facts["bias_verdicts"] = fingerprint([of.verdicts.tolist() for of in biases])
    with locked([store]):
        alone = ablate_units(config, network, photographs, store)
        measures = measures_for(network.spec.predicts, photographs, alone)
        matters = np.array([importance(measures[0], rows) for rows in rows_of_halves(photographs)])  # (3, U)
        sets = own_sets(config, len(matters[0])) or known_sets(config, network, findings, biases, matters)
        numbers, distinct, random = ablate_sets(config, network, photographs, store, sets, alone[0])
        found = Ablation(
            store.layer, store.about, [*notes, *faceless, *missing, *more],
            str(network.spec.predicts), config.ABLATE_TO,
            photographs.members(), photographs.contrasts(), sets, random, matters, findings, evidence, biases,
            agreement=spearman(matters[0], findings.top_iou) if findings else (np.nan,) * 3,
            reliability=spearman(matters[1], matters[2]),
            **effects(config, network, photographs, measures, sets, distinct, numbers),
        )  # fmt: skip
        for stage in ablation_reports(own_name(config)):
            if not store.is_current(stage):
                store.make(stage, stage.make, found)
        replace_text(store.path(f"_ablation{own_name(config)}_settings.json"), snapshot(config))
        print("\n".join(printed(found)))
        for stage in ablation_reports(own_name(config)):
            print(f"  {stage.what:<16} {store.path(stage.suffix)}")


# ------------------------------------------------------------------------------------------------------ sets of units


def units_of(model):
    """The number of units of a model's one layer."""
    (layer,) = model.layers
    return len(model.behaviour[layer].outputs)


def own_sets(config, units):
    """The set that the user names. Returns list of UnitSet, empty without. Raises DissectionError for no unit."""
    if config.UNITS is None:
        return []
    own = [config.UNITS] if isinstance(config.UNITS, int) else list(config.UNITS)
    if max(own) >= units or len(set(own)) < len(own):
        raise DissectionError(f"UNITS is {config.UNITS!r}: the layer has units 0 to {units - 1}; name each once")
    return [UnitSet("own", f"unit{'s' * (len(own) > 1)} {', '.join(map(str, own))}", own)]


def own_name(config):
    """What stands in the names of the files on a set that the user names; empty without one."""
    if config.UNITS is None:
        return ""
    own = [config.UNITS] if isinstance(config.UNITS, int) else list(config.UNITS)
    return f"({','.join(map(str, own))})" if len(own) <= 12 else f"({len(own)} units {fingerprint(own)[:8]})"


def known_sets(config, network, findings, biases, matters):
    """The sets by what is known of the units, and those of the curves. matters: float (3, U), see rows_of_halves.

    Returns list of UnitSet.
    """
    units = matters.shape[1]
    orders = {"importance": (falling(matters[2]), falling(matters[1]))}  # each half by what the other one says
    if findings is not None:
        orders["IoU"] = (findings.units_by_iou(),) * 2
    if biases:
        orders["bias"] = (falling(bias_strength(network.spec.predicts, biases)),) * 2
    regions = region_sets(findings) if findings is not None else []
    top = top_sets(orders, [min(config.TOPK, units)])
    return [*regions, *bias_sets(biases), *top, *top_sets(orders, steps(units), "curve")]


def falling(values):
    """Units by falling values, ties by number."""
    return np.argsort(-values, kind="stable")


def bias_strength(predicts, biases):
    """How far each unit's AUC is from 1/2, at most: for the subgroups that the network tells apart where these are
    known, else for any. biases: list of BiasEvidence. Returns float64 (U,).
    """
    told = predicts.concept if isinstance(predicts, Classes) else "age" if isinstance(predicts, Years) else None
    of = [one for one in biases if one.bias.concept == told] or biases
    return np.max([np.abs(one.chance.auc - 0.5).max(axis=1) for one in of], axis=0)


def rows_of_halves(photographs):
    """Which photographs importance is measured on: all, the first half, the second half. Returns bool (3, n)."""
    second = photographs.halves
    return np.array([np.ones(len(second), bool), ~second, second])


# ---------------------------------------------------------------------------------------------------------- ablation


def ablate_units(config, network, photographs, store):
    """Have what is predicted whole and without each unit. Returns float32 (1 + U, n, K)."""
    if not store.is_current(UNITS_ABLATED):
        alone = [[unit] for unit in range(units_of(network))]
        numbers = predictions(config, network, photographs, alone, "single units")
        store.make(UNITS_ABLATED, save_arrays, {"numbers": numbers, "photographs": np.array(photographs.digests)})
    return load_arrays(store.path(UNITS_ABLATED.suffix))["numbers"]


def ablate_sets(config, network, photographs, store, sets, whole):
    """Have what is predicted without sets of units and random ones. whole: float32 (n, K), with all.

    Returns (float32 (1 + S, n, K), the first the whole network's; the S distinct sets; the places of the random ones of
    each size among them).
    """
    distinct, random = listed(sets, config.RANDOM_SETS, units_of(network))
    stage = sets_stage(own_name(config))
    places = {size: list(map(int, at)) for size, at in random.items()}
    store.facts["ablation_sets"] = fingerprint([distinct, [tuple(one) for one in sets], sorted(places.items())])
    if not store.is_current(stage):
        numbers = predictions(config, network, photographs, distinct, "sets of units")[1:]
        store.make(stage, save_arrays, {"numbers": numbers, "photographs": np.array(photographs.digests)})
    return np.concatenate([whole[None], load_arrays(store.path(stage.suffix))["numbers"]]), distinct, random


def predictions(config, network, photographs, sets, what):
    """See loader.ablation.ablated_pass."""
    return ablated_pass(
        network, sets, len(photographs.digests), photographs.loader(config.DICTIONARY, network.grid),
        value=mean_maps(config, network, photographs) if config.ABLATE_TO == "mean" else None,
        batch_size=config.BATCH_SIZE, workers=config.WORKERS, label=f"{network.task}: {what}",
    )  # fmt: skip


def mean_maps(config, network, photographs):
    """The mean of each unit's maps over the photographs. Returns float32 (U, H, W)."""
    (layer,), count, size = network.layers, len(photographs.digests), config.BATCH_SIZE
    mean, batches = MeanMaps(), Batches(count, size, photographs.paths.__getitem__)
    one_pass(
        network, [layer], batches, photographs.loader(config.DICTIONARY, network.grid),
        lambda _: ({layer: [mean]}, range(len(batches))), workers=config.WORKERS, label=f"{network.task}: mean maps",
    )  # fmt: skip
    return mean.result()


def effects(config, network, photographs, measures, sets, distinct, numbers):
    """What ablation does, as report.ablation.Ablation has it: {name: value}. measures: of the single units."""
    members = photographs.members()
    groups, names = np.array([*members.values()]), list(members)
    contrasts = [tuple(map(names.index, pair)) for pair in photographs.contrasts()]
    weights = poisson_weights(photographs.digests, config.BOOTSTRAPS or 0)
    predicts, whole = network.spec.predicts, numbers[:1]
    together = np.concatenate([whole, of_sets(sets, distinct, numbers[1:], photographs.halves)])

    def all_effects(of, intervals):
        return {one.name: effect_of(one, groups, contrasts, weights, intervals) for one in of}

    return {
        "of_units": all_effects(measures, len(measures[0].of) - 1),
        "of_sets": all_effects(measures_for(predicts, photographs, together), len(sets)),
        "of_random": all_effects(measures_for(predicts, photographs, numbers), 0),
    }


if __name__ == "__main__":
    run_script(main, "stopped: what is finished is kept, and the same command goes on from here")
