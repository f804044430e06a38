"""Layers of several models compared (method.md §4 and §8): charts, tables, and which differences are beyond chance."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from method.comparison import differences, interval
from method.evidence import in_groups
from method.findings import UNLOCALIZABLE
from report.hierarchy import counts_of, interval_of, left_out, thresholds_of
from report.plots import grouped_bars, save_png, write_pdf
from report.summary import of_layers
from report.tables import cell, write_csv
from util.files import replacing

ALL = "all"  # the group of all concepts

NOTES = (
    "Confirmed detectors are given as the share of a layer's units, in percent, with its 95 % interval over resamples "
    "of the photographs; a unit counts in the region and type of its own concept. In a resample concepts and IoU are "
    "those of the resample, but which units are significant stays as it is: intervals are rather too narrow.",
    "Beyond chance: the interval of the difference leaves out 0, the difference is among those of which at most a "
    "share of ALPHA is expected to be false (q, over all pairs and groups of a division), and no untrained twin of the "
    "one differs as much from one of the other. It is about other photographs, not about other trainings.",
)


@dataclass(frozen=True)
class Comparison:
    """The confirmed detectors of layers in one division of the concepts. what: region, type or ALL. groups: G names.

    shares: {layer: method.comparison.Shares}. twins: {layer: float64 (T, G)}. differences: list of Difference.
    """

    what: str
    groups: list
    shares: dict
    twins: dict
    differences: list


def comparisons(hierarchies, dictionaries):
    """The confirmed detectors compared over all concepts, per region and per type: list of Comparison.

    dictionaries: {layer: what it was dissected on}; layers of other dictionaries have no photographs in common.
    """
    found = []
    for what, of_concepts in {
        ALL: lambda findings: (dict.fromkeys(findings.concepts, ALL), [ALL]),
        "region": lambda findings: (findings.region_of, findings.regions),
        "type": lambda findings: (findings.type_of, findings.types),
    }.items():
        described = {hierarchy: of_concepts(hierarchy.findings) for hierarchy in hierarchies}
        groups = [*dict.fromkeys(group for _, groups in described.values() for group in groups)]
        if not groups:
            continue  # concepts that lie in no region
        shares, twins = {}, {}
        for hierarchy, (group_of, _) in described.items():
            asked = [group_of[concept] for concept in hierarchy.findings.concepts], groups
            shares[hierarchy.layer] = hierarchy.evidence.shares(*asked)
            twins[hierarchy.layer] = hierarchy.evidence.twin_shares(*asked)
        found.append(Comparison(what, groups, shares, twins, differences(shares, dictionaries, twins)))
    return found


def write_comparison(path, found, alpha):
    """Write a line per layer and group, then one per pair of layers and group (CSV). found: list of Comparison."""
    header = ["division", "group", "layer", "confirmed", "share", "low", "high", "share_of_twins",
              "other_layer", "difference", "difference_low", "difference_high", "p", "q", "untrained_difference",
              "beyond_chance"]  # fmt: skip
    lines = []
    for of in found:
        for layer, shares in of.shares.items():
            twins = of.twins[layer].mean(axis=0) if len(of.twins[layer]) else np.full(len(of.groups), np.nan)
            columns = (shares.count, shares.share, shares.low, shares.high, twins)
            for group, *row in zip(of.groups, *columns, strict=True):
                lines.append([of.what, group, layer, *map(cell, row)] + [""] * 8)
        for pair in of.differences:
            columns = (
                pair.difference, pair.low, pair.high, pair.p, pair.q, pair.untrained, pair.beyond_chance(alpha),
            )  # fmt: skip
            for group, *row in zip(of.groups, *columns, strict=True):
                cells = [*map(cell, row[:6]), int(row[6]) if pair.tested else ""]
                lines.append([of.what, group, pair.one, *[""] * 5, pair.other, *cells])
    write_csv(path, [header, *lines])


def _percent(value, low, high):
    return f"{100 * value:.1f}{interval_of(100 * low, 100 * high, '.1f')}"


def _tables_of(of, alpha):
    """A Comparison as tables of text: shares of the layers side by side, then each pair's differences."""
    tables = []
    for some in _in_columns(list(of.shares)):
        rows = [(f"confirmed, % ({of.what})", *some)]
        for place, group in enumerate(of.groups):
            columns = [of.shares[layer] for layer in some]
            cells = [_percent(shares.share[place], shares.low[place], shares.high[place]) for shares in columns]
            twins = [", ".join(f"{100 * share:.1f}" for share in of.twins[layer][:, place]) or "-" for layer in some]
            rows += [(group, *cells), ("    untrained twins", *twins)]
        tables.append(rows)
    for pair in of.differences:
        rows = [(pair.one, "difference, %", "q", "beyond chance"), (f"less {pair.other}", "", "", "")]
        for place, group in enumerate(of.groups):
            known = not np.isnan(pair.q[place])
            told = "yes" if pair.beyond_chance(alpha)[place] else "no"
            difference = _percent(pair.difference[place], pair.low[place], pair.high[place])
            q = f"{pair.q[place]:.3f}" if pair.q[place] >= 0.001 else "< 0.001"
            rows.append((group, difference, *((q, told) if known else ("-", "-"))))
        tables.append(rows)
    return tables


def _table_of_layers(hierarchies):
    rows = [("layer", "units", "detectors", "confirmed", "twins' detectors", "twins' confirmed")]
    for hierarchy in hierarchies:
        findings, evidence = hierarchy.findings, hierarchy.evidence
        twins = list(zip(*evidence.twin_counts(), strict=True))[:2] or ["-", "-"]
        counts = findings.units, findings.detectors, int(evidence.confirmed.sum())
        rows.append((hierarchy.layer, *map(str, counts), *(", ".join(map(str, of)) for of in twins)))
    return rows


def beyond_chance(found, alpha):
    """The differences beyond chance, a line of text each."""
    return [
        f"{pair.one} less {pair.other}, confirmed detectors ({group}): "
        f"{_percent(pair.difference[place], pair.low[place], pair.high[place])} % of units"
        for of in found
        for pair in of.differences
        for place, group in enumerate(of.groups)
        if pair.beyond_chance(alpha)[place]
    ]


def notes_of(hierarchies, found, alpha):
    """What the first page says of the comparison: texts."""
    missing = [f"{of.layer}: {what}" for of in hierarchies for what in left_out(of.evidence)]
    told = beyond_chance(found, alpha)
    without = [
        f"no interval of the difference of {pair.one} and {pair.other}: they were dissected on different photographs, "
        "masks or concepts, or with different BOOTSTRAPS"
        for pair in found[0].differences
        if np.isnan(pair.p).all() and all(found[0].shares[of].resampled.shape[1] for of in (pair.one, pair.other))
    ]
    told = [f"beyond chance: {line}" for line in told] or ["no difference is beyond chance"] * (len(hierarchies) > 1)
    return [*missing, *without, *NOTES, *told]


def compare(hierarchies, about, remarks, dictionaries, twin, folder, plot_folder):
    """Compare layers: charts, a table of confirmed detectors (CSV), and a PDF with both. Returns (the PDF's path, the
    table's path, differences beyond chance as texts).

    hierarchies: list of Hierarchy. about: {layer: {what: text}}. remarks: texts for the first page. dictionaries: see
    comparisons. twin: what the names of its files end in. folder: of PDF and table; plot_folder: of the charts.
    """
    alpha, found = hierarchies[0].evidence.alpha, comparisons(hierarchies, dictionaries)
    table = Path(folder) / f"hierarchy_comparison{twin}.csv"
    with replacing(table, shared=True) as partial:
        write_comparison(partial, found, alpha)
    figures, tables = [], [_table_of_layers(hierarchies)]
    for of in found:
        tables += _tables_of(of, alpha)
        if of.what != ALL:
            place = Path(plot_folder) / f"hierarchy_confirmed_per_{of.what}{twin}.png"
            figures.append(save_png(_chart_of(of), place))
    for what, counts in {what: _counted(hierarchies, what) for what in counts_of(hierarchies[0])}.items():
        names = [*dict.fromkeys(name for of in counts.values() for name in of if name != UNLOCALIZABLE), UNLOCALIZABLE]
        ylabel, intervals = what.partition(" per")[0], {of.layer: _intervals(of, what) for of in hierarchies}
        figure = grouped_bars(what.capitalize(), counts, names, ylabel, intervals)
        figures.append(save_png(figure, Path(plot_folder) / f"hierarchy_{what.replace(' ', '_')}{twin}.png"))
        tables += [
            [(what, *group), *((name, *(str(counts[layer].get(name, "-")) for layer in group)) for name in names)]
            for group in _in_columns(list(counts))
        ]
    path = Path(folder) / f"hierarchy_comparison{twin}.pdf"
    notes = [*remarks, *thresholds_of(hierarchies[0]), *notes_of(hierarchies, found, alpha)]
    with replacing(path, shared=True) as partial:
        write_pdf(partial, "Hierarchies compared", of_layers(about), notes, tables, figures)
    return path, table, beyond_chance(found, alpha)


def _counted(hierarchies, what):
    return {hierarchy.layer: counts_of(hierarchy)[what] for hierarchy in hierarchies}


def _chart_of(of):
    """The shares of confirmed detectors as bars with their intervals."""
    percent = {
        layer: dict(zip(of.groups, np.round(100 * shares.share, 1).tolist(), strict=True))
        for layer, shares in of.shares.items()
    }
    intervals = {
        layer: dict(zip(of.groups, 100 * np.stack([shares.low, shares.high], axis=1), strict=True))
        for layer, shares in of.shares.items()
    }
    return grouped_bars(f"Confirmed detectors per {of.what}", percent, of.groups, "% of the layer's units", intervals)


def _intervals(hierarchy, what):
    """The 95 % intervals of what counts_of counts, over resamples of the photographs: {group: (low, high)}.

    Where the report's unions are not those that resamples have, the number of units has none. In resamples it is the
    interpretable units whose concepts are counted.
    """
    findings, chance = hierarchy.findings, hierarchy.evidence.chance
    group_of = findings.region_of if what.endswith("region") else findings.type_of
    of_concepts, groups = [group_of[concept] for concept in findings.concepts], [*dict.fromkeys(group_of.values())]
    groups = [group for group in groups if group != UNLOCALIZABLE]
    if what.startswith("detected"):
        drawn = np.array([
            hierarchy.resampled_detections[np.array(of_concepts) == group].sum(axis=0) for group in groups
        ])  # fmt: skip
    elif findings.tally.iou_union == "all" and not findings.warnings:
        over = chance.boot_iou > findings.score_threshold
        drawn = in_groups(chance.boot_concept, over, of_concepts, groups).sum(axis=1)
    else:
        return {}
    return dict(zip(groups, np.stack(interval(drawn), axis=1), strict=True)) if groups else {}


def _in_columns(layers, count=3):
    """Layers in groups that fit side by side on a page."""
    return [layers[start : start + count] for start in range(0, len(layers), count)]
