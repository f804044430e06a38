"""The reports on the hierarchy of a layer: rows of HIERARCHY_REPORTS. Layers are compared in report/compared.py."""

from collections import Counter
from pathlib import Path

import numpy as np

from method.findings import UNLOCALIZABLE
from method.hierarchy import Standing
from method.probability import DETECTION_FACTOR
from report.plots import concept_histogram, save_png, write_pdf
from report.summary import confirmed_of, twins_of
from report.tables import cell, write_csv, write_pickle
from store.layer import Stage
from store.stages import CHANCE, MAPS, TALLY, TWINS
from util.configuration import AS_PUBLISHED

# What the figures mean, in plain words: {term: text}.
MEANING = {
    "probability": "P(concept | unit, region): how much of what the unit does within its region falls to this concept, "
    "by IoU and by how strongly the unit responds to photographs that carry it. Over the region's concepts it adds up "
    "to 1.",
    "detected": f"The probability is above {DETECTION_FACTOR:g} times the even share. That knows nothing of chance.",
}  # fmt: skip


def write_probabilities(path, hierarchy, *_):
    write_pickle(hierarchy.as_dict(), path)


def write_text(path, hierarchy, *_):
    """Write every interpretable unit with its probabilities as text (method.md §4).

    The published lines stay as they were. Below each unit stands what is known beyond them, the region's concepts by
    falling excess, in lines without " : ", which programs that read the published ones pass over.
    """
    with open(path, "w", encoding="utf-8") as file:
        for unit in hierarchy.concepts:
            file.write(f"Unit : {unit.unit}\n")
            file.write(f"\tConcept : {unit.concept}, IoU : {unit.iou:.4f}, Cluster : {unit.region}\n\t{{\n")
            for concept, probability in unit.probabilities.items():
                file.write(f"\t\t{concept} : {probability}\n")
            file.write("\t}\n")
            file.writelines(f"\t{line}\n" for line in _beyond(hierarchy, unit))


def _beyond(hierarchy, unit):
    """What is known of a unit beyond its probabilities: lines of text."""
    confirmed = "confirmed" if is_confirmed(hierarchy, unit) else "not confirmed"
    yield f"{confirmed}, plainly {hierarchy.plain_label(unit.unit) or 'nothing'}"
    for standing in hierarchy.standings(unit):
        told = {None: [], True: [f"told apart (AUC {standing.auc:.2f})"], False: [f"AUC {standing.auc:.2f}"]}
        words = [f"P {standing.probability:.4f}{interval_of(standing.low, standing.high, '.4f')}"]
        words += ["detected"] * standing.detected + told[standing.tells]
        iou = f"IoU {standing.iou:.4f}, location level {standing.location_iou:.4f}, excess {standing.excess:+.4f}"
        yield "\t" + ", ".join([f"{standing.concept}  {words[0]}", *words[1:], iou])


def is_confirmed(hierarchy, unit):
    """Whether a unit is a confirmed detector of its top concept: by IOU_UNION='active' that may be another than the one
    that chance is told of.
    """
    evidence, concepts = hierarchy.evidence, hierarchy.findings.concepts
    return bool(evidence.confirmed[unit.unit]) and concepts[evidence.chance.label[unit.unit]] == unit.concept


def interval_of(low, high, digits):
    """An interval in brackets behind its number, nothing where there is none. digits: as in an f-string."""
    return "" if np.isnan(low) else f" [{low:{digits}}, {high:{digits}}]"


def write_detections(path, hierarchy, *_):
    """Write a line per concept (CSV): how many units have it as top concept and how many detect it, of them the
    confirmed ones and those that tell it apart. The last two cells are empty for a concept that every image has.
    """
    findings = hierarchy.findings
    top, confirmed, told, both = _counts_of_concepts(hierarchy)
    asked = ~np.isnan(hierarchy.evidence.presence.auc).all(axis=0)
    header = ["concept", "type", "region", "units_with_top_concept", "units_that_detect_it",
              "confirmed_units_with_top_concept", "told_apart", "detected_and_told_apart"]  # fmt: skip
    lines = [
        [concept, findings.type_of[concept], findings.region_of[concept], top[concept], count, confirmed[concept],
         *((told[concept], both[concept]) if is_asked else ("", ""))]
        for is_asked, (concept, count) in zip(asked, hierarchy.detections().items(), strict=True)
    ]  # fmt: skip
    write_csv(path, [header, *lines])


def _counts_of_concepts(hierarchy):
    """Of each concept the interpretable units that have it as top concept, the confirmed ones of them, those of its
    region that tell it apart, and those that detect it too: four Counters.
    """
    top, confirmed, told, both = Counter(), Counter(), Counter(), Counter()
    for unit in hierarchy.concepts:
        top[unit.concept] += 1
        confirmed[unit.concept] += int(is_confirmed(hierarchy, unit))
        for standing in hierarchy.standings(unit):
            told[standing.concept] += bool(standing.tells)
            both[standing.concept] += bool(standing.tells) and standing.detected
    return top, confirmed, told, both


def write_hierarchy(path, hierarchy, *_):
    """Write a line per interpretable unit and concept of its region (CSV), the concepts by falling excess. A cell is
    empty where it was left out, and where there is nothing to tell, as of concepts that every image has.
    """
    header = ["unit", "top_concept", "label_plain", "confirmed", "region", *Standing._fields]
    lines = [
        [unit.unit, unit.concept, hierarchy.plain_label(unit.unit), int(is_confirmed(hierarchy, unit)),
         unit.region, *map(cell, standing)]
        for unit in hierarchy.concepts
        for standing in hierarchy.standings(unit)
    ]  # fmt: skip
    write_csv(path, [header, *lines])


def write_report(path, hierarchy, about, plot_folder):
    """Write one layer's PDF: a summary, then the histogram, which also becomes a PNG in plot_folder."""
    findings, detected = hierarchy.findings, hierarchy.detections()
    top = Counter(unit.concept for unit in hierarchy.concepts)
    figure = concept_histogram(
        f"{hierarchy.layer}: interpretable units per concept", {concept: top[concept] for concept in detected}, detected
    )
    save_png(figure, Path(plot_folder) / f"{hierarchy.layer}_units_per_concept.png")
    notes = [found_in(hierarchy), *left_out(hierarchy.evidence), *findings.warnings, *thresholds_of(hierarchy)]
    notes += [*lonely_notes(hierarchy), *_UNITS_NOTES]
    tables = [
        *(
            [(what, ""), *((name, str(count)) for name, count in counts.items())]
            for what, counts in counts_of(hierarchy).items()
        ),
        _table_of_units(hierarchy),
    ]
    write_pdf(path, f"Hierarchy of {hierarchy.layer}", about, notes, tables, [figure])


_SHOWN = 100  # units in the report; the table has all

_UNITS_NOTES = (
    "By unit, the highest IoU first: its top concept, and what it detects or tells apart of its region, by falling "
    "excess, which is IoU less the IoU if the masks were dealt out at random among the images.",
    "Detected says that the concept has more than its part of P; told apart, that the unit's peak tells images that "
    "show the concept from those that lack it (AUC from 0.6 or up to 0.4, q <= ALPHA). A unit that detects lipstick "
    "and does not tell it apart is a unit of mouths.",
    f"<layer>_hierarchy.csv has all concepts of all units; here stand {_SHOWN} units at most.",
)


def found_in(hierarchy):
    """What was found in a layer, and what its untrained twins have, a text."""
    findings, evidence = hierarchy.findings, hierarchy.evidence
    counts = f"{findings.units} units, {findings.detectors} interpretable, {confirmed_of(evidence)}"
    return f"{counts}; untrained twins: {twins_of(evidence)}"


def left_out(evidence):
    """What is missing in the reports because settings left it out: texts."""
    without_p = "no p-values" if evidence.alpha is None else "no unit is confirmed"
    missing = {
        "no unit is confirmed and nothing is told apart, for ALPHA was left out": evidence.alpha is None,
        f"{without_p}, for PERMUTATIONS was left out": bool(np.isnan(evidence.chance.q).all()),
        "no intervals, for BOOTSTRAPS was left out": not evidence.chance.boot_iou.shape[1],
        "no untrained twins beside it, for TWINS was left out": not evidence.twin_counts(),
    }
    return [what for what, is_missing in missing.items() if is_missing]


def _table_of_units(hierarchy):
    """Rows of text: of the units of highest IoU, what they detect or tell apart."""
    rows = [("unit", "P", "95 %", "detected", "told, AUC", "IoU", "location level", "excess")]
    for unit in sorted(hierarchy.concepts, key=lambda unit: -unit.iou)[:_SHOWN]:
        plain, confirmed = hierarchy.plain_label(unit.unit), is_confirmed(hierarchy, unit)
        told = f", plainly {plain}" if plain not in ("", unit.concept) else ""
        rows.append((f"{unit.unit} {unit.concept}{', confirmed' * bool(confirmed)}{told}", *[""] * 7))
        rows += [
            _line_of(standing)
            for standing in hierarchy.standings(unit)
            if standing.detected or standing.tells or standing.concept == unit.concept
        ]
    return rows


def _line_of(standing):
    told = "-"
    if standing.tells is not None:
        told = f"{('more' if standing.auc > 0.5 else 'less') if standing.tells else 'no'}, {standing.auc:.2f}"
    numbers = (f"{value:.3f}" for value in (standing.iou, standing.location_iou, standing.excess))
    bounds = "-" if np.isnan(standing.low) else f"{standing.low:.2f}-{standing.high:.2f}"
    probability = f"{standing.probability:.2f}"
    return f"    {standing.concept}", probability, bounds, "yes" if standing.detected else "no", told, *numbers


_INPUTS = (MAPS.suffix, TALLY.suffix, "score_threshold", "preset")
_WITH_CHANCE = (*_INPUTS, CHANCE.suffix, TWINS.suffix, "alpha")

# make: function of the path, the Hierarchy, what was dissected ({what: text}) and the folder of plots.
HIERARCHY_REPORTS = (
    Stage("_unit_concept_probs.pkl", "probabilities", _INPUTS, version=2, make=write_probabilities),
    Stage("_unit_concept_probs.txt", "probabilities as text", _WITH_CHANCE, version=4, make=write_text),
    Stage("_hierarchy.csv", "concepts of units", _WITH_CHANCE, make=write_hierarchy),
    Stage("_detected_concepts.csv", "detected concepts", _WITH_CHANCE, version=3, make=write_detections),
    Stage("_hierarchy_report.pdf", "report", _WITH_CHANCE, version=4, make=write_report),
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
