"""Labels of units by category, as users of NetDissect know them: a table and a bar chart (method.md §10)."""

from collections import Counter

import numpy as np
from matplotlib.figure import Figure

from method.findings import Findings
from method.tally import iou
from report.plots import MARGIN, PAGE, colours, readable
from report.tables import write_csv

_OF_CATEGORY = ("label", "truth", "activation", "intersect", "iou")
_MOST_BARS = 160  # of the chart, whose labels are still to be read


def write_tally(path, dissection):
    """Write one line per unit in NetDissect-Lite's columns: unit from 1 on, category and label of the highest IoU and
    that as score, then for each category its best label with |L_c| (truth), |M_u| over the images that count
    (activation), |M_u ∩ L_c| (intersect), pixels, and the IoU. Where a unit touches none of them there is no label.
    """
    findings = dissection.findings
    header = ["unit", "category", "label", "score"]
    header += [f"{category}-{name}" for category in findings.types for name in _OF_CATEGORY]
    write_csv(path, [header, *(_tally_line(findings, unit) for unit in range(findings.units))])


def _tally_line(findings, unit):
    tally, ranking = findings.tally, findings.ranking[unit]
    top = findings.top_concept(unit)
    line = [unit + 1, findings.type_of.get(top, ""), top or "", repr(float(findings.top_iou[unit]))]
    activation = tally.union[unit] - tally.covered + tally.intersection[unit]
    scores = iou(tally.intersection[unit], tally.union[unit])
    for category in findings.types:
        best = ranking[tally.types[ranking] == category][0]
        if tally.intersection[unit, best]:
            numbers = (tally.covered[best], activation[best], tally.intersection[unit, best])
            line += [findings.concepts[best], *map(int, numbers), repr(float(scores[best]))]
        else:
            line += ["", 0, 0, 0, "0.0"]
    return line


def labels_of(findings):
    """The labels of the units whose IoU reaches the threshold: {category: {label: number of units}}, most units first.

    Units that just reach it count, as in the published program of Network Dissection.
    """
    reached = Findings(findings.tally, findings.score_threshold, inclusive=True).interpretable
    counted = Counter(findings.top_concept(unit) for unit in np.flatnonzero(reached))
    return {
        category: {name: count for name, count in counted.most_common() if findings.type_of[name] == category}
        for category in findings.types
    }


def write_chart(path, dissection):
    """Write a page with a bar per label, its height the number of units that have it, grouped by category."""
    figure = label_bars(dissection.layer, labels_of(dissection.findings), dissection.findings.units,
                        dissection.findings.score_threshold)  # fmt: skip
    figure.get_layout_engine().set(w_pad=MARGIN, h_pad=MARGIN)
    figure.savefig(path, format="pdf", metadata={"CreationDate": None})  # the same bytes each time


def label_bars(title, labels, units, score_threshold):
    """Bars of labels. labels: see labels_of. units: of the layer. Returns Figure."""
    figure = Figure(figsize=PAGE, layout="constrained")
    axes = figure.add_subplot()
    count_of = {name: count for counted in labels.values() for name, count in counted.items()}
    colour, names = colours(list(labels)), []
    by_count = sorted((name for of in labels.values() for name in of), key=lambda name: -count_of[name])
    shown, left_out = set(by_count[:_MOST_BARS]), max(0, len(by_count) - _MOST_BARS)
    for category, counted in labels.items():
        of_category = [name for name in counted if name in shown]
        if of_category:
            axes.bar(
                np.arange(len(of_category)) + len(names), [counted[name] for name in of_category], 0.82,
                color=colour[category],
                label=f"{readable(category)}: {sum(counted.values())} units, {len(counted)} labels",
            )  # fmt: skip
            names += of_category
    total = sum(count_of.values())
    said = f"{title}: {total} of {units} units with IoU ≥ {score_threshold:g}"
    axes.set(title=f"{said}; the {left_out} rarest labels are left out" if left_out else said, ylabel="units")
    axes.set_xticks(np.arange(len(names)), map(readable, names), rotation=90, fontsize=min(9, 700 / max(len(names), 1)))
    axes.set_xlim(-0.7, max(len(names), 1) - 0.3)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    if names:
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    else:
        axes.text(0.5, 0.5, "no unit reaches the threshold", ha="center", transform=axes.transAxes)
    return figure
