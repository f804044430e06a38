"""The reports on the hierarchy of a layer and on layers compared: rows of HIERARCHY_REPORTS, and compare()."""

from collections import Counter
from pathlib import Path

from method.findings import UNLOCALIZABLE
from method.probability import DETECTION_FACTOR
from report.plots import concept_histogram, grouped_bars, save_png, write_pdf
from report.summary import of_layers
from report.tables import write_csv, write_pickle
from store.layer import Stage
from store.stages import MAPS, TALLY
from util.configuration import AS_PUBLISHED
from util.files import replacing


def write_probabilities(path, hierarchy, *_):
    write_pickle(hierarchy.as_dict(), path)


def write_text(path, hierarchy, *_):
    """Write every interpretable unit with its probabilities as text (method.md §4)."""
    with open(path, "w", encoding="utf-8") as file:
        for unit in hierarchy.concepts:
            file.write(f"Unit : {unit.unit}\n")
            file.write(f"\tConcept : {unit.concept}, IoU : {unit.iou:.4f}, Cluster : {unit.region}\n\t{{\n")
            for concept, probability in unit.probabilities.items():
                file.write(f"\t\t{concept} : {probability}\n")
            file.write("\t}\n")


def write_detections(path, hierarchy, *_):
    """Write a line per concept (CSV): how many units have it as top concept, and how many detect it."""
    findings = hierarchy.findings
    top = Counter(unit.concept for unit in hierarchy.concepts)
    header = ["concept", "type", "region", "units_with_top_concept", "units_that_detect_it"]
    lines = [
        [concept, findings.type_of[concept], findings.region_of[concept], top[concept], count]
        for concept, count in hierarchy.detections().items()
    ]
    write_csv(path, [header, *lines])


def write_report(path, hierarchy, about, plot_folder):
    """Write one layer's PDF: a summary, then the histogram, which also becomes a PNG in plot_folder."""
    findings, detected = hierarchy.findings, hierarchy.detections()
    top = Counter(unit.concept for unit in hierarchy.concepts)
    figure = concept_histogram(
        f"{hierarchy.layer}: interpretable units per concept", {concept: top[concept] for concept in detected}, detected
    )
    save_png(figure, Path(plot_folder) / f"{hierarchy.layer}_units_per_concept.png")
    notes = [
        f"{findings.units} units, {findings.detectors} interpretable",
        *findings.warnings,
        *thresholds_of(hierarchy),
        *lonely_notes(hierarchy),
    ]
    tables = [
        [(what, ""), *((name, str(count)) for name, count in counts.items())]
        for what, counts in counts_of(hierarchy).items()
    ]
    write_pdf(path, f"Hierarchy of {hierarchy.layer}", about, notes, tables, [figure])


_INPUTS = (MAPS.suffix, TALLY.suffix, "score_threshold", "preset")

# make: function of the path, the Hierarchy, what was dissected ({what: text}) and the folder of plots.
HIERARCHY_REPORTS = (
    Stage("_unit_concept_probs.pkl", "probabilities", _INPUTS, version=2, make=write_probabilities),
    Stage("_unit_concept_probs.txt", "probabilities as text", _INPUTS, version=2, make=write_text),
    Stage("_detected_concepts.csv", "detected concepts", _INPUTS, version=2, make=write_detections),
    Stage("_hierarchy_report.pdf", "report", _INPUTS, version=2, make=write_report),
)


def counts_of(hierarchy):
    """What is compared between models: {what: {group: count}}.

    A unit belongs to the region and the type of its top concept; a concept is detected by any number of units.
    """
    return {
        "units per region": hierarchy.findings.units_per_region(),
        "units per type": hierarchy.findings.units_per_type(),
        "detected concepts per region": hierarchy.detections_per_region(),
        "detected concepts per type": hierarchy.detections_per_type(),
    }


def lonely_notes(hierarchy):
    """Notes on regions with a single concept in the dictionary."""
    return [
        f"{region} has {concept} alone in this dictionary, so nothing is told apart or detected in it"
        for region, concept in hierarchy.lonely_regions().items()
    ]


def thresholds_of(hierarchy):
    """How units and concepts are counted, a line each."""
    threshold = f"{hierarchy.findings.score_threshold:g}"
    return [
        *([AS_PUBLISHED] if hierarchy.findings.inclusive else []),
        f"interpretable: IoU {f'from {threshold} on' if hierarchy.findings.inclusive else f'above {threshold}'}",
        f"detected: P(c|u,R) above {DETECTION_FACTOR:g} / number of the region's concepts"
        + ("" if hierarchy.region_sizes else " in the dictionary"),
        f"{UNLOCALIZABLE}: units that are not interpretable or whose concept lies in no region, counted as units",
    ]


def compare(hierarchies, about, remarks, twin, folder, plot_folder):
    """Compare layers per region and per type: charts, and a first page with the same numbers. Returns the PDF's path.

    hierarchies: list of Hierarchy. about: {layer: {what: text}}. remarks: texts for the first page. twin: what
    the names of its files end in. folder: of the PDF; plot_folder: of the charts.
    """
    counts = {hierarchy.layer: counts_of(hierarchy) for hierarchy in hierarchies}
    figures, tables = [], []
    for what in counts_of(hierarchies[0]):
        of_models = {layer: of_layer[what] for layer, of_layer in counts.items()}
        names = [*dict.fromkeys(name for of in of_models.values() for name in of if name != UNLOCALIZABLE)]
        names.append(UNLOCALIZABLE)
        figure = grouped_bars(what.capitalize(), of_models, names, what.partition(" per")[0])
        figures.append(save_png(figure, Path(plot_folder) / f"hierarchy_{what.replace(' ', '_')}{twin}.png"))
        tables += [
            [(what, *group), *((name, *(str(of_models[layer].get(name, "-")) for layer in group)) for name in names)]
            for group in _in_columns(list(of_models))
        ]
    path = Path(folder) / f"hierarchy_comparison{twin}.pdf"
    notes = [*remarks, *thresholds_of(hierarchies[0])]
    with replacing(path, shared=True) as partial:
        write_pdf(partial, "Hierarchies compared", of_layers(about), notes, tables, figures)
    return path


def _in_columns(layers, count=3):
    """Layers in groups that fit side by side on a page."""
    return [layers[start : start + count] for start in range(0, len(layers), count)]
