"""The files of what main.py makes of layers: having each made by an operator where it is missing (method.md §3, §8).

operator: feature_operation.FeatureOperator. stores: {layer: LayerStore}, of all layers that go through one pass.
"""

import logging
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from method.chance import Chance
from method.evidence import Evidence, Twins, arrays_of
from method.findings import Findings
from method.formulas import Formulas
from method.tally import Tally, iou
from store.arrays import load_arrays, load_as, save_arrays
from store.maps import MemoryMaps, discard_interrupted, open_maps
from store.run import layer_stores, prepare_twin
from store.sparse_maps import SparseMaps
from store.stages import CHANCE, FORMULAS, MAPS, MAPS_SIZE, STATISTICS, TALLY, THRESHOLDS, TWINS
from util.files import fingerprint

log = logging.getLogger(__name__)


class Twin(NamedTuple):
    """An untrained twin. seed: of its weights. label: where they come from. stores: {layer: LayerStore}."""

    seed: int
    label: str
    stores: dict

    @classmethod
    def of(cls, config, model, dictionary, seed):
        twin = prepare_twin(config, model, seed)
        return cls(seed, twin.weights_label, layer_stores(config, twin, dictionary, twin=seed))


def extract(config, operator, stores):
    """§3.1: have the activation maps of every layer in its memory map, all in one forward pass."""
    missing = missing_of(stores, "activation maps", (MAPS, MAPS_SIZE))
    if missing:
        maps = MemoryMaps(
            missing, MAPS, MAPS_SIZE, session=operator.session, dtype=config.FEATURE_DTYPE,
            batch_size=config.BATCH_SIZE, usable=operator.dictionary.usable,
        )  # fmt: skip
        maps.finish(operator.feature_extraction(list(missing), begin=maps.begin))


def threshold(config, operator, stores):
    """§3.2: have every unit's threshold."""
    for store in missing_of(stores, "thresholds", (THRESHOLDS,)).values():
        maps = maps_of(operator, store)
        known = isinstance(maps, SparseMaps)  # without which none of them could have been dropped
        thresholds = maps.thresholds if known else operator.quantile_threshold(maps, config.QUANTILE)
        store.make(THRESHOLDS, save_arrays, thresholds)


def tally(operator, stores):
    """§3.3, §3.4: have the tally and whatever else is counted over maps and masks, all in one pass."""
    missing = {stage: missing_of(stores, stage.what, (stage,)) for stage in STATISTICS}
    wanted = {layer: [stage for stage in STATISTICS if layer in missing[stage]] for layer in stores}
    begun = {layer: begin_statistics(operator, stores[layer], stages) for layer, stages in wanted.items() if stages}
    for layer, results in operator.tally(begun).items() if begun else ():
        for stage, result in zip(wanted[layer], results, strict=True):
            made_from = fingerprint(stores[layer].made_from(stage))
            stores[layer].make(stage, save_arrays, {**vars(result), "fingerprint": made_from})


def begin_statistics(operator, store, stages):
    thresholds = load_arrays(store.path(THRESHOLDS.suffix))
    statistics = [stage.make(thresholds, operator.dictionary, store.facts) for stage in stages]
    return maps_of(operator, store), statistics


def chance(config, operator, stores, presence=True):
    """§8.1 to §8.7: tell what of the tally is chance. presence: also §8.6, what units tell apart."""
    missing = missing_of(stores, CHANCE.what, (CHANCE,))
    if not missing:
        return
    maps = {layer: maps_of(operator, store) for layer, store in missing.items()}
    tallies = {layer: load_as(Tally, store.path(TALLY.suffix)) for layer, store in missing.items()}
    found = operator.chance(
        {layer: (maps[layer], tallies[layer]) for layer in missing}, permutations=config.PERMUTATIONS or 0,
        bootstraps=next(iter(missing.values())).facts["bootstraps"],
        images=config.CHANCE_IMAGES or len(operator.dictionary.rows),
    )  # fmt: skip
    told = operator.presence(maps) if presence else {}
    for layer, store in missing.items():
        arrays = vars(found[layer])
        if presence:
            arrays = arrays_of(found[layer], told[layer], operator.wider_concepts, operator.photographs)
        store.make(CHANCE, save_arrays, {**arrays, "fingerprint": fingerprint(store.made_from(CHANCE))})


def formulas(config, operator, stores):
    """§3.6: have the formula of concepts that every unit with a label follows best."""
    missing = missing_of(stores, FORMULAS.what, (FORMULAS,))
    asked = {layer: _asked_for_formulas(operator, store) for layer, store in missing.items() if config.FORMULAS}
    asked = {layer: of for layer, of in asked.items() if len(of[-1])}
    found = operator.formulas(asked, config.FORMULAS) if asked else {}
    for layer, store in missing.items():
        arrays = vars(found.get(layer, Formulas.of([])))
        store.make(FORMULAS, save_arrays, {**arrays, "fingerprint": fingerprint(store.made_from(FORMULAS))})


def _asked_for_formulas(operator, store):
    """A layer as FeatureOperator.formulas takes it. IoU is that of all images, whatever the report shows."""
    tallied = load_as(Tally, store.path(TALLY.suffix))
    tallied = replace(tallied, tally=iou(tallied.intersection, tallied.union))
    units = np.flatnonzero(Findings(tallied, store.facts["formulas"][1]).interpretable)
    return maps_of(operator, store), tallied.thresholds, tallied.tally, units


def dissect_twins(config, operator, twins, stores):
    """§8.8: have the same numbers of untrained twins, as far as layers lack them; their memory maps are not kept."""
    stores = {layer: store for layer, store in stores.items() if not store.is_current(TWINS)}
    for twin in twins:
        first = twin is twins[0]
        unfinished = {layer: twin.stores[layer] for layer in stores if not is_counted(twin.stores[layer], first)}
        if unfinished:
            log.info("untrained twin: %s", twin.label)
            of_twin = operator.of_twin(twin.seed)
            extract(config, of_twin, unfinished)
            threshold(config, of_twin, unfinished)
            tally(of_twin, unfinished)
            chance(config, of_twin, unfinished, presence=False)
            if first:
                formulas(config, of_twin, unfinished)
        for layer in stores:  # also of one that a killed run had counted and not yet cleared away
            discard_interrupted(twin.stores[layer], MAPS)
            twin.stores[layer].remove(MAPS.suffix)
    note_twins(stores, twins)
    for layer, store in stores.items():
        own = load_as(Chance, store.path(CHANCE.suffix))
        found = [
            (twin.seed, twin.label, load_as(Tally, twin.stores[layer].path(TALLY.suffix)),
             load_as(Chance, twin.stores[layer].path(CHANCE.suffix)))
            for twin in twins
        ]  # fmt: skip
        followed = [load_as(Formulas, twin.stores[layer].path(FORMULAS.suffix)) for twin in twins[:1]]
        store.make(TWINS, save_arrays, vars(Twins.of(len(own.label), own.map_size, found, followed)))


def is_counted(store, first):
    """Whether all numbers of an untrained twin's layer are there. first: of the twins, which has formulas, too."""
    return store.is_current(MAPS, quiet=True, file_needed=False) and all(
        store.is_current(stage, quiet=True) for stage in (MAPS_SIZE, THRESHOLDS, TALLY, CHANCE, *[FORMULAS] * first)
    )


def note_twins(stores, twins):
    """Let the untrained twins' numbers enter the facts of the layers that are compared with them."""
    for layer, store in stores.items():
        of = [(twin.seed, twin.stores[layer]) for twin in twins]
        store.facts["twins"] = [
            [seed, *(one.content(stage.suffix) for stage in (TALLY, CHANCE, *[FORMULAS] * (place == 0)))]
            if is_counted(one, place == 0) else [seed]
            for place, (seed, one) in enumerate(of)
        ]


def missing_of(stores, what, stages):
    """The layers whose files of some stages are to be made: {layer: LayerStore}. Says which, and which are there."""
    missing = {}
    for layer, store in stores.items():
        if all(store.is_current(stage) for stage in stages):
            log.info("%s: %s up to date", store.layer, what)
        else:
            missing[layer] = store
    if missing:
        log.info("%s: %s", what, ", ".join(missing))
    return missing


def maps_of(operator, store):
    return open_maps(store, MAPS, MAPS_SIZE, operator.dictionary.usable)


def findings_of(config, store):
    """What was found in a layer, and what stands behind it: (Findings, Evidence)."""
    threshold, alpha = config.SCORE_THRESHOLD, config.ALPHA
    twins = load_as(Twins, store.path(TWINS.suffix))
    evidence = Evidence.of_arrays(load_arrays(store.path(CHANCE.suffix)), twins, threshold, alpha)
    return Findings(load_as(Tally, store.path(TALLY.suffix)), threshold), evidence
