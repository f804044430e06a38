"""Dissect layers of a face model: which local concepts do its units detect? (method.md §3 and §8)

Extracts every unit's activation maps over the Face Dictionary, thresholds them, tallies the IoU of units and concepts,
tells what of it is chance, does the same with untrained twins of the network, and writes the reports. Results go to
OUTPUT_FOLDER; finished stages are reused.
"""

import logging
import sys
from typing import NamedTuple

import settings
from dictionary.render import ensure_rendered
from feature_operation import FeatureOperator
from method.chance import Chance
from method.evidence import Evidence, Twins, arrays_of
from method.findings import Findings
from method.tally import Tally
from report.dissection import REPORTS, Dissection
from report.summary import found, summary
from store.arrays import load_arrays, load_as, save_arrays
from store.feature_file import discard_interrupted, memory_maps, open_maps
from store.layer import locked
from store.run import as_list, layer_stores, prepare_device, prepare_dictionary, prepare_model, prepare_twin, twin_seeds
from store.stages import CHANCE, MAPS, MAPS_SIZE, STATISTICS, TALLY, THRESHOLDS, TWINS
from util.configuration import read_settings, snapshot
from util.errors import run_script
from util.files import fingerprint, replace_text

log = logging.getLogger(__name__)


def main():
    config = read_settings(settings, sys.argv[1:], __doc__, instead={"TASKS": "TASK", "TASK_LAYERS": "LAYER_NAME"})
    model = prepare_model(config, config.TASK, as_list(config.LAYER_NAME), prepare_device(config))
    ensure_rendered(config.DICTIONARY)
    dictionary = prepare_dictionary(config, model)
    operator = FeatureOperator(
        model, dictionary, grid=model.grid, batch_size=config.BATCH_SIZE,
        tally_batch_size=config.TALLY_BATCH_SIZE, workers=config.WORKERS, keep_images=bool(config.TWINS),
    )  # fmt: skip
    stores = layer_stores(config, model, dictionary)
    twins = [Twin.of(config, model, dictionary, seed) for seed in twin_seeds(config)]
    with locked([*stores.values(), *(store for twin in twins for store in twin.stores.values())]):
        note_twins(stores, twins)
        unfinished = {layer: store for layer, store in stores.items() if not is_finished(config, store)}
        extract(config, operator, unfinished)
        threshold(config, operator, unfinished)
        tally(operator, unfinished)
        chance(config, operator, unfinished)
        dissect_twins(config, operator, twins, unfinished)
        write_reports(config, operator, unfinished)
        tidy_up(config, stores)
        for layer, store in stores.items():
            summarise(config, dictionary, store, reused=layer not in unfinished)


class Twin(NamedTuple):
    """An untrained twin. seed: of its weights. label: where they come from. stores: {layer: LayerStore}."""

    seed: int
    label: str
    stores: dict

    @classmethod
    def of(cls, config, model, dictionary, seed):
        twin = prepare_twin(config, model, seed)
        return cls(seed, twin.weights_label, layer_stores(config, twin, dictionary, twin=seed))


def is_finished(config, store):
    """Whether everything that is to be left of a layer is there; the memory map only where it is to be kept."""
    others = (MAPS_SIZE, THRESHOLDS, *STATISTICS, CHANCE, TWINS, *REPORTS)
    return store.is_current(MAPS, quiet=True, file_needed=not config.CLEAN) and all(
        store.is_current(stage, quiet=True) for stage in others
    )


def extract(config, operator, stores):
    """§3.1: have the activation maps of every layer in its memory map, all in one forward pass."""
    missing = missing_of(stores, "activation maps", (MAPS, MAPS_SIZE))
    if missing:
        with memory_maps(
            missing, MAPS, MAPS_SIZE, session=operator.session, dtype=config.FEATURE_DTYPE,
            batch_size=config.BATCH_SIZE, usable=operator.dictionary.usable,
        ) as begin:  # fmt: skip
            operator.feature_extraction(list(missing), begin)


def threshold(config, operator, stores):
    """§3.2: have every unit's threshold."""
    for store in missing_of(stores, "thresholds", (THRESHOLDS,)).values():
        thresholds = operator.quantile_threshold(maps_of(operator, store), config.QUANTILE)
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
    statistics = [stage.make(thresholds, operator.dictionary, operator.grid, store.facts) for stage in stages]
    return maps_of(operator, store), statistics


def chance(config, operator, stores, presence=True):
    """§8.1 to §8.7: tell what of the tally is chance. presence: also §8.6, what units tell apart."""
    missing = missing_of(stores, CHANCE.what, (CHANCE,))
    if not missing:
        return
    maps = {layer: maps_of(operator, store) for layer, store in missing.items()}
    thresholds = {layer: load_arrays(store.path(THRESHOLDS.suffix)) for layer, store in missing.items()}
    found = operator.chance(
        {layer: (maps[layer], thresholds[layer]) for layer in missing}, permutations=config.PERMUTATIONS or 0,
        bootstraps=next(iter(missing.values())).facts["bootstraps"],
        images=config.CHANCE_IMAGES or len(operator.dictionary.rows),
    )  # fmt: skip
    told = operator.presence(maps) if presence else {}
    for layer, store in missing.items():
        arrays = vars(found[layer])
        if presence:
            arrays = arrays_of(found[layer], told[layer], operator.wider_concepts, operator.photographs)
        store.make(CHANCE, save_arrays, {**arrays, "fingerprint": fingerprint(store.made_from(CHANCE))})


def dissect_twins(config, operator, twins, stores):
    """§8.8: have the same numbers of untrained twins, as far as layers lack them; their memory maps are not kept."""
    stores = {layer: store for layer, store in stores.items() if not store.is_current(TWINS)}
    for twin in twins:
        unfinished = {layer: twin.stores[layer] for layer in stores if not is_counted(twin.stores[layer])}
        if not unfinished:
            continue
        log.info("untrained twin: %s", twin.label)
        of_twin = operator.of(prepare_twin(config, operator.model, twin.seed))
        extract(config, of_twin, unfinished)
        threshold(config, of_twin, unfinished)
        tally(of_twin, unfinished)
        chance(config, of_twin, unfinished, presence=False)
        for store in unfinished.values():
            discard_interrupted(store, MAPS)
            store.remove(MAPS.suffix)
    note_twins(stores, twins)
    for layer, store in stores.items():
        own = load_as(Chance, store.path(CHANCE.suffix))
        found = [
            (twin.seed, twin.label, load_as(Tally, twin.stores[layer].path(TALLY.suffix)),
             load_as(Chance, twin.stores[layer].path(CHANCE.suffix)))
            for twin in twins
        ]  # fmt: skip
        store.make(TWINS, save_arrays, vars(Twins.of(len(own.label), own.map_size, found)))


def is_counted(store):
    """Whether all numbers of an untrained twin's layer are there."""
    return store.is_current(MAPS, quiet=True, file_needed=False) and all(
        store.is_current(stage, quiet=True) for stage in (MAPS_SIZE, THRESHOLDS, TALLY, CHANCE)
    )


def note_twins(stores, twins):
    """Let the untrained twins' numbers enter the facts of the layers that are compared with them."""
    for layer, store in stores.items():
        of = [(twin.seed, twin.stores[layer]) for twin in twins]
        store.facts["twins"] = [
            [seed, *(one.content(stage.suffix) for stage in (TALLY, CHANCE))] if is_counted(one) else [seed]
            for seed, one in of
        ]


def write_reports(config, operator, stores):
    """§3.5: write the tables, the illustrated PDF and whatever else REPORTS lists."""
    for store in stores.values():
        missing = [stage for stage in REPORTS if not store.is_current(stage)]
        if missing:
            dissection = Dissection(
                store.layer, store.about_of(TALLY.suffix), *findings_of(config, store), operator.dictionary,
                maps_of(operator, store), grid=operator.grid, top_images=config.TOPN, workers=config.WORKERS,
                made_with="{} images, input {} x {} px, QUANTILE={:g}, IOU_UNION={}".format(
                    len(operator.dictionary.usable_rows), *operator.grid, config.QUANTILE, config.IOU_UNION
                ),
            )  # fmt: skip
        for stage in missing:
            store.make(stage, stage.make, dissection)


def tidy_up(config, stores):
    """Leave the settings beside the results and, with CLEAN, delete the memory maps."""
    for store in stores.values():
        discard_interrupted(store, MAPS)
        store.remember_run()
        replace_text(store.path("_settings.json"), snapshot(config))
        if config.CLEAN:
            store.remove(MAPS.suffix)


def summarise(config, dictionary, store, reused):
    """Print what was found and where it lies."""
    left_out = len(dictionary.rows) - len(dictionary.usable_rows)
    print(f"\n{store.layer}" + (" (nothing changed: all results are up to date)" if reused else ""))
    images = f"{len(dictionary.usable_rows)}" + (f", {left_out} left out as bad" if left_out else "")
    print(summary({**store.about_of(TALLY.suffix), "images": images, **found(*findings_of(config, store))}))
    for stage in (*REPORTS, *STATISTICS, CHANCE):
        print(f"  {stage.what:<16} {store.path(stage.suffix)}")


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


if __name__ == "__main__":
    run_script(main, "stopped: what is finished is kept, and the same command goes on from here")
