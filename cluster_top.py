"""Which concepts of a face region does each unit tell apart? The probabilistic hierarchy. (method.md §4)

Reads what main.py left of every task in TASKS (no network, no photographs), computes each interpretable unit's
probabilities over the concepts of its region, and compares the models. Results go to OUTPUT_FOLDER, pictures to
PLOT_FOLDER.
"""

import logging
import shlex
import sys
from collections import Counter
from pathlib import Path

import settings
from util.artifacts import TALLY, LayerArtifacts, fingerprint
from util.bias import write_pickle
from util.configuration import read_settings, snapshot
from util.errors import DissectionError, run_script
from util.files import replace_text, replacing
from util.hierarchy import Hierarchy, load_layer
from util.plots import concept_histogram, grouped_bars, save_png, table_pages, write_pdf
from util.preparation import layers_of, locked, run_name, tasks_of
from util.probability import DETECTION_FACTOR
from visual_dictionary.concepts import CONCEPT_TYPE, LOCAL_CONCEPTS_BY_TYPE, REGIONS, UNLOCALIZABLE, region_of

log = logging.getLogger(__name__)

PROBABILITIES, TEXT = "_unit_concept_probs.pkl", "_unit_concept_probs.txt"
DETECTIONS, REPORT, COMPARISON = "_detected_concepts.csv", "_hierarchy_report.pdf", "hierarchy_comparison.pdf"
SETTINGS_FILE = "hierarchy_settings.json"

# Raise when the code behind the results changes what it computes or shows.
_VERSION = 1

# Settings of this run that do not belong into a command for main.py.
_NOT_FOR_MAIN = {"TASK", "TASKS", "TASK_LAYERS", "LAYER_NAME", "CLEAN", "SKIP_MISSING", "GENERATE", "PLOT"}


def main():
    config = read_settings(settings, sys.argv[1:], __doc__)
    layers = dissected_layers(config)
    remarks = unlike(layers)
    hierarchies = [analyse(config, artifacts) for artifacts in layers]
    compare(config, hierarchies, remarks)
    replace_text(Path(config.OUTPUT_FOLDER) / SETTINGS_FILE, snapshot(config))


def dissected_layers(config):
    """The layers that main.py has dissected. Returns {LayerArtifacts: circumstances} (see load_layer).

    Raises DissectionError when one has not been, naming the command that does it, unless SKIP_MISSING.
    """
    there, missing = {}, []
    for task in tasks_of(config):
        for layer in layers_of(config, task):
            artifacts = LayerArtifacts(config.OUTPUT_FOLDER, f"{run_name(config, task)}_{layer}")
            try:
                *_, there[artifacts] = load_layer(artifacts)
            except DissectionError as error:
                missing.append(f"{artifacts.layer}: {error}; dissect it with\n    {command_for(config, task, layer)}")
    if missing and (not there or not config.SKIP_MISSING):
        advice = "\nOr set SKIP_MISSING=True to go on with the others" if there else ""
        raise DissectionError(f"layers that cannot be used: {len(missing)}\n  " + "\n  ".join(missing) + advice)
    for what in missing:
        log.info("left out: %s", what)
    return there


def command_for(config, task, layer):
    """The command that dissects a layer as this run would have it."""
    words = [f"TASK={task}", f"LAYER_NAME={layer}", "CLEAN=False"]
    words += [word for word in config.words if word.partition("=")[0] not in _NOT_FOR_MAIN]
    return shlex.join(["python", "main.py", *words])


def unlike(layers):
    """Remarks on what differs between layers that are to be compared. layers: {LayerArtifacts: circumstances}."""
    remarks = []
    for what in next(iter(layers.values())):
        values = {artifacts.layer: circumstances[what] for artifacts, circumstances in layers.items()}
        if len(set(values.values())) > 1:
            shown = [layer if "dictionary" in what else f"{layer} {value}" for layer, value in values.items()]
            remarks.append(f"beware: made with different {what}: {', '.join(shown)}")
    for remark in remarks:
        log.info(remark)
    return remarks


def analyse(config, artifacts):
    """Compute, save and show the hierarchy of one layer. Returns Hierarchy."""
    with locked([artifacts]):
        tally, maps, _ = load_layer(artifacts)
        hierarchy = Hierarchy.of(artifacts.layer, tally, maps, config.SCORE_THRESHOLD, config.WORKERS)
        made_from = {
            "version": _VERSION,
            "tally": fingerprint(artifacts.made_from(TALLY)),
            "score_threshold": config.SCORE_THRESHOLD,
        }
        writers = {
            PROBABILITIES: lambda path: write_pickle(hierarchy.as_dict(), path),
            TEXT: hierarchy.write_text,
            DETECTIONS: hierarchy.write_detections,
            REPORT: lambda path: write_report(config, hierarchy, path),
        }
        for suffix, write in writers.items():
            with artifacts.writing(suffix, made_from) as partial:
                write(partial)
    print(f"\n{hierarchy.layer}: {hierarchy.report.units} units, {hierarchy.report.detectors} interpretable")
    for what, counts in counts_of(hierarchy).items():
        print(f"  {what:<28} " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    for note in lonely_regions(hierarchy):
        print(f"  note: {note}")
    for suffix in writers:
        print(f"  {artifacts.path(suffix)}")
    return hierarchy


def counts_of(hierarchy):
    """What is compared between models: {what: {group: count}}.

    A unit belongs to the region and the type of its top concept; a concept is detected by any number of units.
    """
    report = hierarchy.report
    return {
        "units per region": report.count_by(region_of, REGIONS),
        "units per type": report.count_by(CONCEPT_TYPE.get, LOCAL_CONCEPTS_BY_TYPE),
        "detected concepts per region": hierarchy.detections_by(region_of, REGIONS),
        "detected concepts per type": hierarchy.detections_by(CONCEPT_TYPE.get, LOCAL_CONCEPTS_BY_TYPE),
    }


def lonely_regions(hierarchy):
    """Notes on regions with a single concept in the dictionary: its probability is 1, and 1.5 / 1 is out of reach."""
    for region, members in REGIONS.items():
        present = [concept for concept in hierarchy.report.concepts if concept in members]
        if len(present) == 1:
            yield f"{region} has {present[0]} alone in this dictionary, so nothing is told apart or detected in it"


def thresholds_of(config):
    return [
        f"interpretable: IoU above {config.SCORE_THRESHOLD:g}",
        f"detected: P(c|u,R) above {DETECTION_FACTOR:g} / number of the region's concepts in the dictionary",
        f"{UNLOCALIZABLE}: units that are not interpretable or whose concept lies in no region, counted as units",
    ]


def write_report(config, hierarchy, path):
    """Write one layer's PDF: a summary, then the histogram, which also becomes a PNG."""
    top = Counter(unit.concept for unit in hierarchy.concepts)
    detected = hierarchy.detections()
    figure = concept_histogram(
        f"{hierarchy.layer}: interpretable units per concept", {concept: top[concept] for concept in detected}, detected
    )
    save_png(figure, Path(config.PLOT_FOLDER) / f"{hierarchy.layer}_units_per_concept.png")
    notes = [
        f"{hierarchy.report.units} units, {hierarchy.report.detectors} interpretable",
        *thresholds_of(config),
        *lonely_regions(hierarchy),
    ]
    tables = [
        [(what, ""), *((name, str(count)) for name, count in counts.items())]
        for what, counts in counts_of(hierarchy).items()
    ]
    write_pdf(path, [*table_pages(f"Hierarchy of {hierarchy.layer}", notes, tables), figure])


def compare(config, hierarchies, remarks):
    """Compare the models per region and per type: charts, and a first page with the same numbers."""
    counts = {hierarchy.layer: counts_of(hierarchy) for hierarchy in hierarchies}
    figures, tables = [], []
    for what in counts_of(hierarchies[0]):
        of_models = {layer: of_layer[what] for layer, of_layer in counts.items()}
        names = list(next(iter(of_models.values())))
        figure = grouped_bars(what.capitalize(), of_models, names, what.partition(" per")[0])
        save_png(figure, Path(config.PLOT_FOLDER) / f"hierarchy_{what.replace(' ', '_')}.png")
        figures.append(figure)
        tables += [
            [(what, *group), *((name, *(str(of_models[layer][name]) for layer in group)) for name in names)]
            for group in in_columns(list(of_models))
        ]
    path = Path(config.OUTPUT_FOLDER) / COMPARISON
    pages = table_pages("Hierarchies compared", [*remarks, *thresholds_of(config)], tables)
    with replacing(path, shared=True) as partial:
        write_pdf(partial, [*pages, *figures])
    print(f"\ncomparison: {path}\nplots: {config.PLOT_FOLDER}")


def in_columns(layers, count=3):
    """Layers in groups that fit side by side on a page."""
    return [layers[start : start + count] for start in range(0, len(layers), count)]


if __name__ == "__main__":
    run_script(main)
