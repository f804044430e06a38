"""Which concepts of a face region does each unit tell apart? The probabilistic hierarchy. (method.md §4 and §8)

Reads what main.py left of every task in TASKS (no network, no photographs), computes each interpretable unit's
probabilities over the concepts of its region with their intervals, and compares the models, with what of their
differences is beyond chance. Results go to OUTPUT_FOLDER, pictures to PLOT_FOLDER.
"""

import logging
import shlex
import sys
from pathlib import Path

import numpy as np

import settings
from dictionary.concepts import REGIONS
from method.evidence import Evidence, Twins
from method.findings import Findings
from method.hierarchy import Hierarchy
from method.resampling import poisson_weights
from method.tally import Tally
from report.compared import compare
from report.comparison_page import CONCEPTS, write_comparison_page
from report.hierarchy import HIERARCHY_REPORTS, counts_of, found_in, left_out, lonely_notes
from report.page import write_pages
from report.summary import summary
from store.arrays import load_arrays, load_as
from store.layer import LayerStore, locked
from store.maps import open_maps
from store.peaks_file import PeaksFile, read_peaks
from store.run import layers_of, require_sense, run_name, tasks_of, unlike_settings
from store.stages import CHANCE, MAPS, MAPS_SIZE, TALLY, THRESHOLDS, TWINS
from util.configuration import PRESETS, read_settings, snapshot
from util.errors import DissectionError, run_script
from util.files import fingerprint, replace_text

log = logging.getLogger(__name__)

# Settings of this run that do not belong into a command for main.py.
_NOT_FOR_MAIN = {"TASK", "TASKS", "TASK_LAYERS", "LAYER_NAME", "CLEAN", "SKIP_MISSING", "GENERATE", "PLOT"}


def main():
    config = read_settings(settings, sys.argv[1:], __doc__, instead={"TASK": "TASKS"})
    require_sense(config)
    layers = dissected_layers(config)
    remarks = unlike(layers)
    hierarchies = [analyse(config, store) for store in layers]
    twin = run_name(config, "")  # its comparison stands beside the one that it is the baseline of
    about = {store.layer: store.about_of(TALLY.suffix) for store in layers}
    dictionaries = {store.layer: circumstances for store, circumstances in layers.items()}
    path, table, beyond_chance = compare(
        hierarchies, about, remarks, dictionaries, twin, config.OUTPUT_FOLDER, config.PLOT_FOLDER
    )
    print()
    for difference in beyond_chance:
        print(f"beyond chance: {difference}")
    write_pages(config.OUTPUT_FOLDER, config.NL_FOLDER)
    place = Path(config.OUTPUT_FOLDER) / f"concepts_comparison{twin}.html"
    page = write_comparison_page(place, CONCEPTS, table, config.OUTPUT_FOLDER, remarks)
    print(f"comparison: {path}\n            {table}\nplots: {config.PLOT_FOLDER}\nopen {page}")
    used = {store.layer: {name: of[-1] for name, of in store.settings_of(TALLY.suffix).items()} for store in layers}
    text = snapshot(config, **{"dissected with": used})
    replace_text(Path(config.OUTPUT_FOLDER) / f"hierarchy{twin}_settings.json", text)


def dissected_layers(config):
    """The layers that main.py has dissected. Returns {LayerStore: circumstances} (see circumstances_of).

    Raises DissectionError when one has not been, naming the command that does it, unless SKIP_MISSING.
    """
    there, missing = {}, []
    for task in tasks_of(config):
        for layer in layers_of(config, task):
            facts = {"score_threshold": config.SCORE_THRESHOLD, "preset": config.PRESET, "alpha": config.ALPHA}
            store = LayerStore(config.OUTPUT_FOLDER, f"{run_name(config, task)}_{layer}", facts)
            try:
                circumstances, reason = circumstances_of(store), unlike_this_run(config, store)
            except DissectionError as error:
                reason = f"{error}; dissect it"
            if not reason:
                there[store] = circumstances
            else:
                missing.append(f"{store.layer}: {reason} with\n    {command_for(config, task, layer)}")
    if missing and (not there or not config.SKIP_MISSING):
        advice = "\nOr set SKIP_MISSING=True to go on with the others" if there else ""
        raise DissectionError(f"layers that cannot be used: {len(missing)}\n  " + "\n  ".join(missing) + advice)
    for what in missing:
        log.info("left out: %s", what)
    return there


def circumstances_of(store):
    """What layers must share to be compared: {what: value} of the settings and files that main.py made one from.

    Raises DissectionError when something of the layer is missing, was changed, or does not belong to the rest.
    """
    made_from = {stage: store.require(stage) for stage in (MAPS, MAPS_SIZE, THRESHOLDS, TALLY, CHANCE, TWINS)}
    for stage, earlier in ((THRESHOLDS, MAPS), (TALLY, MAPS), (TALLY, THRESHOLDS)):
        if made_from[stage].get(earlier.suffix) != store.content(earlier.suffix):
            raise DissectionError(f"{store.path(TALLY.suffix)} was not made from the memory map beside it")
    shared = (made_from[TALLY].keys() & made_from[CHANCE].keys()) - {"version"}
    if any(made_from[TALLY][name] != made_from[CHANCE][name] for name in shared):
        raise DissectionError(f"{store.path(CHANCE.suffix)} was not made from what the tally beside it was made from")
    return {
        "dictionary images": made_from[MAPS].get("dictionary_images"),
        "dictionary masks": made_from[TALLY].get("dictionary_masks"),
        "concepts": fingerprint(made_from[TALLY].get("concepts")),
    }


def unlike_this_run(config, store):
    """What to say when a layer was dissected under other settings than those in force, else None."""
    differing = {}
    for stage in (TALLY, CHANCE, TWINS):  # of which a run that was stopped has made some
        used = store.settings_of(stage.suffix)
        if not used:
            return "nothing says under which settings it was dissected: dissect it anew"
        differing.update(unlike_settings(config, used))
    if not differing:
        return None
    told = [f"{name}={then!r} and this run has {name}={now!r}" for name, (then, now) in differing.items()]
    words = [f"{name}={then}" for name, (then, _) in differing.items()]
    if PRESETS.get(config.PRESET, {}).keys() & differing:  # which cannot be given beside it
        words.insert(0, "PRESET=None")
    return f"it was dissected with {', '.join(told)}: give this run {shlex.join(words)}, or dissect it anew"


def command_for(config, task, layer):
    """The command that dissects a layer as this run would have it."""
    words = [f"TASK={task}", f"LAYER_NAME={layer}", "CLEAN=False"]
    words += [word for word in config.words if word.partition("=")[0] not in _NOT_FOR_MAIN]
    return shlex.join(["python", "main.py", *words])


def unlike(layers):
    """Remarks on what differs between layers that are to be compared. layers: {LayerStore: circumstances}."""
    remarks = []
    for what in next(iter(layers.values())):
        values = {store.layer: circumstances[what] for store, circumstances in layers.items()}
        if len(set(values.values())) > 1:
            alike = [", ".join(layer for layer in values if values[layer] == value) for value in {*values.values()}]
            remarks.append(f"beware: made with different {what}: {' | '.join(sorted(alike))}")
    for remark in remarks:
        log.info(remark)
    return remarks


def analyse(config, store):
    """Compute, save and show the hierarchy of one layer. Returns Hierarchy."""
    with locked([store]):
        circumstances_of(store)  # another run may have been at it since
        if reason := unlike_this_run(config, store):
            raise DissectionError(f"{store.layer}: {reason}")
        maps = open_maps(store, MAPS, MAPS_SIZE)
        published = config.PRESET == "published"
        tally = load_as(Tally, store.path(TALLY.suffix))
        findings = Findings(tally, config.SCORE_THRESHOLD, inclusive=published)
        if not findings.regions:
            raise DissectionError(
                f"{store.layer}: none of the concepts of its dictionary lies in a region of the face, so there is no "
                "hierarchy within a region"
            )
        evidence, copies = evidence_of(config, store)
        units = np.flatnonzero(findings.interpretable)
        with PeaksFile(maps.shape[0], len(units), store.folder) as peaks:
            read_peaks(peaks, maps, units, config.WORKERS, store.layer)
            hierarchy = Hierarchy.of(
                store.layer, findings, peaks, ties="order" if published else "mean",
                region_sizes={region: len(names) for region, names in REGIONS.items()} if published else None,
                evidence=evidence, copies=copies,
            )  # fmt: skip
        about = store.about_of(TALLY.suffix)
        for stage in HIERARCHY_REPORTS:
            store.make(stage, stage.make, hierarchy, about, config.PLOT_FOLDER)
    print(f"\n{hierarchy.layer}: {found_in(hierarchy)}")
    print(summary(about))
    for what, counts in counts_of(hierarchy).items():
        print(f"  {what:<28} " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    for note in (*left_out(evidence), *lonely_notes(hierarchy)):
        print(f"  note: {note}")
    for stage in HIERARCHY_REPORTS:
        print(f"  {store.path(stage.suffix)}")
    return hierarchy


def evidence_of(config, store):
    """What stands behind the findings on a layer, and how often each image stands in each resample of the photographs:
    (Evidence, uint8 (N, B)).
    """
    arrays, twins = load_arrays(store.path(CHANCE.suffix)), load_as(Twins, store.path(TWINS.suffix))
    evidence = Evidence.of_arrays(arrays, twins, config.SCORE_THRESHOLD, config.ALPHA)
    return evidence, poisson_weights(arrays["photographs"].astype(str), evidence.chance.boot_iou.shape[1])


if __name__ == "__main__":
    run_script(main)
