"""Which units of a face model lean towards a subgroup of a global concept, by more than chance? (method.md §5, §8.9)

For every task in TASKS and every global concept of the dictionary (age, gender, ethnic, skin_tone and its own): runs
the network and its untrained twins over the subgroups' images, computes each unit's probabilities, tells what of them
is chance, and compares the models. Results go to NL_FOLDER, pictures to PLOT_FOLDER; saved features that still hold are
reused.
"""

import logging
import sys
from functools import partial
from pathlib import Path

import settings
from dictionary.concepts import global_concepts
from dictionary.render import ensure_rendered
from dictionary.subgroups import photographs_of
from report.bias import Told, bias_reports, notes_of, plot_of, printed
from report.bias_comparison import compare, comparison_plots
from report.comparison_page import BIAS, write_comparison_page
from report.page import write_pages
from report.summary import summary
from store.bias import bias_stores, concept_of, features_stage, note_twins, samples_of
from store.bias_stages import chance, evidence_of, read_features, take_part
from store.layer import locked
from store.run import (
    Networks,
    layers_of,
    prepare_subgroups,
    prepare_twin,
    require_one_checkpoint,
    require_sense,
    run_name,
    tasks_of,
    twin_seeds,
    views_of_subgroups,
)
from util.configuration import AS_PUBLISHED, read_settings, snapshot
from util.errors import run_script
from util.files import moved_aside, replace_text
from util.ranks import started

log = logging.getLogger(__name__)


def main():
    config = read_settings(settings, sys.argv[1:], __doc__, instead={"TASK": "TASKS"})
    with started() as ranks:
        networks = Networks(config, ranks)
        if ranks.first:
            compare_biases(config, networks, ranks)
        else:
            take_part(config, networks, ranks)


def compare_biases(config, networks, ranks):
    """Make what is missing of every task's results, and compare them."""
    require_sense(config)
    require_one_checkpoint(config)
    tasks = tasks_of(config)
    concepts = global_concepts(Path(config.DICTIONARY))
    ensure_rendered(config.DICTIONARY)
    subgroups, notes = prepare_subgroups(config, concepts)
    _, labels = photographs_of(subgroups)
    notes = [*([AS_PUBLISHED] if config.PRESET else []), *notes]
    found, about = {}, {}
    for task in tasks:
        which = task, layers_of(config, task)
        model = networks.of(*which)
        images, views, faceless = views_of_subgroups(config, model, subgroups, ranks=ranks)
        samples = samples_of(config, images, labels)
        stores = bias_stores(config, model, images, views, samples)
        twins = {
            seed: bias_stores(config, prepare_twin(config, model, seed), images, views, samples, twin=seed)
            for seed in twin_seeds(config)
        }
        with locked([*stores.values(), *(store for of in twins.values() for store in of.values())]):
            for seed, of_network in {None: stores, **twins}.items():
                network = partial(networks.of, *which, seed)
                read_features(config, network, images, views, of_network, ranks, (*which, seed))
                chance(config, samples, of_network, ranks)
            for layer, store in stores.items():
                beside = [of_twin[layer] for of_twin in twins.values()]
                note_twins(store, beside, images)
                found[store.layer] = analyse(config, store, beside, samples, concepts, [*notes, *faceless])
                about[store.layer] = about_of(store, samples)
                set_aside(config, [store, *beside], samples)
    twin = run_name(config, "")  # its comparison stands beside the one that it is the baseline of
    pdf, table = compare(found, about, concepts, notes, twin, config.NL_FOLDER, config.PLOT_FOLDER)
    write_pages(config.OUTPUT_FOLDER, config.NL_FOLDER)
    place = Path(config.NL_FOLDER) / f"bias_comparison{twin}.html"
    page = write_comparison_page(place, BIAS, table, config.OUTPUT_FOLDER)
    print(f"\ncomparison: {pdf}\n            {table}\nplots: {config.PLOT_FOLDER}\nopen {page}")
    replace_text(Path(config.NL_FOLDER) / f"nl_bias{twin}_settings.json", snapshot(config))


def about_of(store, concepts):
    """What was dissected, with the date of the features: {what: text}."""
    return store.about_of(features_stage(next(iter(concepts))).suffix)


def analyse(config, store, twins, samples, concepts, notes):
    """Compute, save and show one layer's bias. notes: for its report. Returns list of BiasEvidence, one per concept."""
    evidence = [evidence_of(config, store, twins, concept) for concept in samples]
    found = notes_of(evidence, samples)
    told = Told(store.layer, about_of(store, samples), evidence, [*found, *notes])
    if config.PLOT:
        told.draw(concepts, config.PLOT_FOLDER)
    else:
        for concept in samples:
            set_plot_aside(config, plot_of(store.layer, concept))
    reports = bias_reports(samples)
    for stage in reports:
        store.make(stage, stage.make, told)
    print(f"\n{store.layer}: {told.units} units")
    print(summary(told.about))
    print("\n".join(f"  {line}" for line in printed(evidence, found)))
    for stage in reports:
        print(f"  {store.path(stage.suffix)}")
    return evidence


def set_aside(config, stores, concepts):
    """Take what was found about concepts that are not analysed any more away from the new. stores: of a layer and its
    untrained twins.
    """
    for store in stores:
        for suffix in store.suffixes():
            concept = concept_of(suffix)
            if concept is not None and concept not in concepts:
                place = store.set_aside(suffix)
                told = "%s: %s is not analysed any more: what was found about it lies in %s"
                log.info(told, store.layer, concept, place)
                for name in (plot_of(store.layer, concept), *comparison_plots(concept, run_name(config, ""))):
                    set_plot_aside(config, name)


def set_plot_aside(config, name):
    """Take a plot of other numbers than the present ones away from these."""
    if (Path(config.PLOT_FOLDER) / name).exists():
        moved_aside(Path(config.PLOT_FOLDER) / name)


if __name__ == "__main__":
    run_script(main, "stopped: finished concepts are kept, and the same command goes on from here", together=True)
