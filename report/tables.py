"""Tables (CSV), and plain Python values on disk."""

import csv
import pickle


def write_csv(path, rows):
    """Write rows of a table, the first of them its header."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_pickle(content, path):
    """Write plain Python values to `.pkl`. Read them back with pickle.load."""
    with open(path, "wb") as file:
        pickle.dump(content, file)


def write_units(path, dissection):
    """Write one line per unit: its concept, whether it is interpretable, the next two concepts, the threshold."""
    findings = dissection.findings
    header = ["unit", "top_concept", "type", "region", "iou", "interpretable", "second_concept", "second_iou",
              "third_concept", "third_iou", "threshold"]  # fmt: skip
    write_csv(path, [header, *(_unit_line(findings, unit) for unit in range(findings.units))])


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
