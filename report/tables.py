"""Tables (CSV), and plain Python values on disk."""

import csv
import pickle

import numpy as np

from method.tally import iou


def write_csv(path, rows):
    """Write rows of a table, the first of them its header."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def column_widths(rows):
    """Letters of the longest cell of each column. rows: lists of text of one length. Returns list of int."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def aligned(rows):
    """Rows of text as lines: the first column at its left, the others at their right. Returns list of text."""
    first, *others = column_widths(rows)
    return [
        f"{name:<{first}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, others, strict=True))
        for name, *cells in rows
    ]


def write_pickle(content, path):
    """Write plain Python values to `.pkl`. Read them back with pickle.load."""
    with open(path, "wb") as file:
        pickle.dump(content, file)


def write_units(path, dissection):
    """Write one line per unit: its concept, whether it is interpretable, the next two concepts, the threshold, and what
    of it is more than chance (method.md §8); a cell is empty where that was left out.
    """
    write_csv(path, unit_rows(dissection))


def unit_rows(dissection):
    """The same as rows, a header, then one per unit: list of lists."""
    findings, evidence = dissection.findings, dissection.evidence
    header = [
        "unit", "top_concept", "type", "region", "iou", "interpretable", "second_concept", "second_iou",
        "third_concept", "third_iou", "threshold", "label", "label_iou", *_OF_PAIR, *_OF_UNIT, "confirmed",
        "label_plain",
    ]  # fmt: skip
    lines = (_unit_line(findings, unit) + _chance_line(findings, evidence, unit) for unit in range(findings.units))
    return [header, *lines]


# Arrays of method.chance.Chance that become columns: of the unit with its label, which is its top concept unless that
# was counted by IOU_UNION='active', and of the unit.
_OF_PAIR = ("location_iou", "excess", "attainable", "z")
_OF_UNIT = (
    "p_label", "p_unit", "q", "heldout_iou", "label_holds", "iou_low", "iou_high", "label_share", "region_share",
)  # fmt: skip


def _chance_line(findings, evidence, unit):
    chance = evidence.chance
    label, plain = chance.label[unit], evidence.plain[unit]
    own = [findings.concepts[label], cell(chance.iou[unit, label])] if label >= 0 else ["", ""]
    of_pair = [cell(getattr(chance, name)[unit, label]) if label >= 0 else "" for name in _OF_PAIR]
    of_unit = [cell(getattr(chance, name)[unit]) for name in _OF_UNIT]
    confirmed = int(evidence.confirmed[unit]) if evidence.judged else ""
    return [*own, *of_pair, *of_unit, confirmed, findings.concepts[plain] if plain >= 0 else ""]


def cell(value):
    """A value as a table has it: numbers to their last digit, 1 and 0 for yes and no, nothing for None and NaN."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value != value:
        return ""
    return int(value) if isinstance(value, bool) else value


def write_presence(path, dissection):
    """Write one line per unit and concept that images show or lack: does the unit's peak tell them (method.md §8.6)?"""
    found, evidence = dissection.evidence.presence, dissection.evidence
    arrays, judged = (found.auc, found.low, found.high, found.q), evidence.alpha is not None
    lines = []
    for unit, concept in np.argwhere(~np.isnan(found.auc)).tolist():
        numbers = [cell(of[unit, concept]) for of in arrays]
        tells = int(evidence.tells[unit, concept]) if judged else ""
        lines.append([unit, dissection.findings.concepts[concept], *numbers, tells])
    write_csv(path, [["unit", "concept", "auc", "low", "high", "q", "tells"], *lines])


def write_formulas(path, dissection):
    """Write one line per interpretable unit for which a formula was sought (method.md §3.6): the formula, and its IoU
    beside its label's there. label_iou is the label's on all images that carry it.
    """
    findings = dissection.findings
    of = dissection.formulas.only(findings.interpretable)
    of_all = iou(findings.tally.intersection, findings.tally.union)[of.unit, of.label]
    columns = {
        "unit": of.unit, "label": np.array(findings.concepts)[of.label], "label_iou": of_all, "formula": of.formula,
        "concepts": of.concepts, "images": of.photographs, "iou": of.iou, "label_iou_there": of.label_iou,
        "excess": of.iou - of.label_iou, "heldout_iou": of.heldout_iou, "heldout_label_iou": of.heldout_label_iou,
        "holds": of.holds,
    }  # fmt: skip
    lines = ([cell(value) for value in line] for line in zip(*columns.values(), strict=True))
    write_csv(path, [list(columns), *lines])


def _unit_line(findings, unit):
    """The row of a unit; a concept that it does not touch (IoU 0) is none of its concepts."""
    ranked = [(findings.concepts[index], float(findings.tally.tally[unit, index])) for index in findings.ranking[unit]]
    touched = [(concept, repr(score)) for concept, score in ranked[:3] if score > 0]
    (concept, score), *others = [*touched, *[("", "")] * (3 - len(touched))]
    described = [concept, findings.type_of.get(concept, ""), findings.region_of.get(concept, ""), score or "0.0"]
    threshold = repr(float(findings.tally.thresholds[unit]))
    return [unit, *described, int(findings.interpretable[unit]), *others[0], *others[1], threshold]


def write_iou_matrix(path, dissection):
    """Write the IoU of every unit (line) and concept (column)."""
    findings = dissection.findings
    rows = ([unit, *map(repr, row.tolist())] for unit, row in enumerate(findings.tally.tally))
    write_csv(path, [["unit", *findings.concepts], *rows])
