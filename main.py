"""Dissect layers of a face model: which local concepts do its units detect? (method.md §3 and §8)

Extracts every unit's activation maps over the Face Dictionary, thresholds them, tallies the IoU of units and concepts,
tells what of it is chance, does the same with untrained twins of the network, and writes the reports. Results go to
OUTPUT_FOLDER; finished stages are reused.
"""

import sys
from functools import partial

import settings
from dictionary.render import ensure_rendered
from feature_operation import OPERATION, FeatureOperator
from method.formulas import Formulas
from report.dissection import REPORTS, Dissection
from report.page import write_pages
from report.summary import formulas_of, found, summary
from store.arrays import load_as
from store.dissection import (
    Twin,
    chance,
    dissect_twins,
    extract,
    findings_of,
    formulas,
    maps_of,
    note_twins,
    tally,
    threshold,
)
from store.layer import locked
from store.maps import discard_interrupted
from store.run import (
    Networks,
    as_list,
    follow,
    layer_stores,
    networks_of,
    prepare_dictionary,
    require_same_network,
    twin_seeds,
)
from store.stages import CHANCE, FORMULAS, MAPS, MAPS_SIZE, STATISTICS, TALLY, THRESHOLDS, TWINS
from util.configuration import read_settings, snapshot
from util.errors import run_script
from util.files import replace_text
from util.ranks import started


def main():
    config = read_settings(settings, sys.argv[1:], __doc__, instead={"TASKS": "TASK", "TASK_LAYERS": "LAYER_NAME"})
    with started() as ranks:
        networks = Networks(config, ranks)
        if ranks.first:
            dissect(config, networks, ranks)
        else:
            take_part(config, networks, ranks)


def dissect(config, networks, ranks):
    """Make what is missing of the layers' results and reports."""
    model = network_of(config, networks)
    ensure_rendered(config.DICTIONARY)
    dictionary = prepare_dictionary(config, model, ranks)
    stores = layer_stores(config, model, dictionary)
    twins = [Twin.of(config, model, dictionary, seed) for seed in twin_seeds(config)]
    known = {None: stores, **{twin.seed: twin.stores for twin in twins}}
    ranks.call("dictionary", dictionary, {seed: networks_of(of) for seed, of in known.items()})
    operator = operator_of(config, partial(network_of, config, networks), dictionary, ranks)
    with locked([*stores.values(), *(store for twin in twins for store in twin.stores.values())]):
        note_twins(stores, twins)
        unfinished = {layer: store for layer, store in stores.items() if not is_finished(config, store)}
        extract(config, operator, unfinished)
        threshold(config, operator, unfinished)
        tally(operator, unfinished)
        chance(config, operator, unfinished)
        formulas(config, operator, unfinished)
        dissect_twins(config, operator, twins, unfinished)
        write_reports(config, operator, unfinished)
        tidy_up(config, stores)
    pages = write_pages(config.OUTPUT_FOLDER, config.NL_FOLDER)
    for layer, store in stores.items():
        summarise(config, dictionary, store, reused=layer not in unfinished)
    first = next(iter(stores.values())).layer
    if first in pages:  # and no other run has begun anew with it
        print(f"\nopen {pages[first]}")


def take_part(config, networks, ranks):
    """Take part in what the first process calls, until it is through. Of the other processes of a run."""
    network_of(config, networks)  # loaded while the first one looks at the dictionary
    mine = {}

    def begin(dictionary, known):
        def network(seed=None):
            model = network_of(config, networks, seed)
            require_same_network(model, known[seed])
            return model

        mine["operator"] = operator_of(config, network, dictionary, ranks)

    follow(config, networks, ranks, {
        "dictionary": begin, OPERATION: lambda *called: mine["operator"].take_part(*called),
    })  # fmt: skip


def network_of(config, networks, seed=None):
    """The network of the run, or its untrained twin of a seed."""
    return networks.of(config.TASK, as_list(config.LAYER_NAME), seed)


def operator_of(config, network, dictionary, ranks):
    """What every process of the run dissects with. network: function that gives that of the run or, for a seed, its
    untrained twin.
    """
    model = network()
    return FeatureOperator(
        model, dictionary, grid=model.grid, batch_size=config.BATCH_SIZE, tally_batch_size=config.TALLY_BATCH_SIZE,
        workers=config.WORKERS, keep_images=bool(config.TWINS), ranks=ranks, twin_of=network,
    )  # fmt: skip


def is_finished(config, store):
    """Whether everything that is to be left of a layer is there; the memory map only where it is to be kept."""
    others = (MAPS_SIZE, THRESHOLDS, *STATISTICS, CHANCE, FORMULAS, TWINS, *REPORTS)
    return store.is_current(MAPS, quiet=True, file_needed=not config.CLEAN) and all(
        store.is_current(stage, quiet=True) for stage in others
    )


def write_reports(config, operator, stores):
    """§3.5: write the tables, the illustrated PDF and whatever else REPORTS lists."""
    for store in stores.values():
        missing = [stage for stage in REPORTS if not store.is_current(stage)]
        if missing:
            dissection = Dissection(
                store.layer, store.about_of(TALLY.suffix), *findings_of(config, store), operator.dictionary,
                maps_of(operator, store), grid=operator.grid, top_images=config.TOPN, workers=config.WORKERS,
                photographs=config.PAGE_PHOTOGRAPHS, masks_of=operator.masks_of,
                formulas=load_as(Formulas, store.path(FORMULAS.suffix)),
                made_with="{} images, input {} x {} px, QUANTILE={:g}, IOU_UNION={}, IMAGES={}".format(
                    len(operator.dictionary.usable_rows), *operator.grid, config.QUANTILE, config.IOU_UNION,
                    store.facts["images"],
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
    print(f"\n{store.layer}" + (" (nothing changed: all results are up to date)" if reused else ""))
    images = f"{len(dictionary.usable_rows)}" + (f", {dictionary.bad} left out as bad" if dictionary.bad else "")
    findings = findings_of(config, store)
    followed = formulas_of(load_as(Formulas, store.path(FORMULAS.suffix)), *findings)
    print(summary({**store.about_of(TALLY.suffix), "images": images, **found(*findings), "formulas": followed}))
    for stage in (*REPORTS, *STATISTICS, CHANCE, FORMULAS):
        print(f"  {stage.what:<16} {store.path(stage.suffix)}")


if __name__ == "__main__":
    run_script(main, "stopped: what is finished is kept, and the same command goes on from here", together=True)
