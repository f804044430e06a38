"""Plots of the analyses: bars that stay readable with many models, groups or units. Every function returns a Figure.

Colours are those of Okabe and Ito, which people with any kind of colour vision tell apart; from the ninth on, their
darker and lighter kin.
"""

import textwrap

import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from method.bias import UNBIASED
from method.bias_chance import NOT_JUDGED, VERDICTS
from method.findings import UNLOCALIZABLE
from report.fonts import prepare_plots
from util.files import replacing

prepare_plots()

MARGIN = 0.3  # of a plot on its page, inches
PAGE = (11.69, 8.27)  # A4 sideways, inches: of every page, so that plots fill it and a report has one format
_PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000",
    "#003A5A", "#735000", "#00503A", "#673C54", "#B4DCF4", "#F0B080", "#8A8427", "#666666",
)  # fmt: skip
_NEITHER = "#BBBBBB"  # unbiased, unlocalizable
_OF_VERDICTS = dict(
    zip((*VERDICTS, NOT_JUDGED), ("#EEEEEE", _NEITHER, "#56B4E9", "#E69F00", "#D55E00", "#CC79A7"), strict=True)
)
_PNG_DPI = 130


def colours(names):
    """{name: colour}, by the place of a name among its kind, so that it is the same in every plot."""
    plain = [name for name in names if name not in (UNBIASED, UNLOCALIZABLE)]
    chosen = {name: _PALETTE[place % len(_PALETTE)] for place, name in enumerate(plain)}
    return {name: chosen.get(name, _NEITHER) for name in names}


def readable(name):
    """A name as people write it: forty_to_sixty becomes forty to sixty."""
    return name.replace("_", " ")


def stacked_probabilities(title, groups, probabilities, all_groups, threshold):
    """Each unit's probabilities of the subgroups as a stacked bar, units sorted by the first subgroup.

    groups: names. probabilities: float64 (U, G). all_groups: all subgroups of the concept, which decide the colours.
    threshold: at which a unit counts as biased. The legend gives mean and standard deviation per subgroup.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    axes = figure.add_subplot()
    order = np.argsort(-probabilities[:, 0], kind="stable")
    edges = np.arange(len(order) + 1) - 0.5
    colour, base = colours(all_groups), np.zeros(len(order))
    for group, column in zip(groups, probabilities[order].T, strict=True):
        label = f"{readable(group)}: {column.mean():.3f} ± {column.std():.3f}"
        # One stepped area instead of thousands of bars: the same picture, without seams, at any number of units.
        axes.stairs(base + column, edges, baseline=base, fill=True, color=colour[group], label=label)
        base = base + column
    axes.set(title=f"{title}   (biased from {threshold:g})", ylabel="probability", ylim=(0, 1))
    axes.set(xlabel=f"units, sorted by P({readable(groups[0])})", xlim=(edges[0], edges[-1]))
    figure.legend(loc="outside right upper", title="mean ± standard deviation", frameon=False)
    return figure


def grouped_bars(title, counts, all_names, ylabel, intervals=None):
    """Counts of several models side by side.

    counts: {model: {name: count}}, the same names or fewer for every model. all_names: all names in order, which decide
    the colours. intervals: {model: {name: (low, high)}}, drawn where they are known and not NaN. Every bar carries its
    number.
    """
    names = [name for name in all_names if any(name in of_model for of_model in counts.values())]
    figure = Figure(figsize=(max(7, 1.6 + 0.32 * len(counts) * (len(names) + 1)), 4.6), layout="constrained")
    axes = figure.add_subplot()
    width, colour = 0.84 / len(names), colours(all_names)
    size = 8 if len(names) * len(counts) <= 36 else 6.5
    for place, name in enumerate(names):
        left = np.arange(len(counts)) - 0.42 + (place + 0.5) * width
        heights = [of_model.get(name, 0) for of_model in counts.values()]
        axes.bar(left, heights, width * 0.94, color=colour[name], label=readable(name))
        bounds = [(intervals or {}).get(model, {}).get(name, (np.nan, np.nan)) for model in counts]
        axes.vlines(left, *np.transpose(bounds), color="#444444", linewidth=1)
        for x, height, (_, high) in zip(left, heights, bounds, strict=True):
            axes.annotate(f"{height:g}", (x, np.fmax(height, high)), (0, 1), textcoords="offset points", ha="center",
                          fontsize=size)  # fmt: skip
    slanted = {"rotation": 25, "ha": "right"} if len(counts) > 4 or max(map(len, counts)) > 14 else {}
    axes.set_xticks(np.arange(len(counts)), list(counts), **slanted)
    axes.margins(y=0.12)
    axes.set(title=title, ylabel=ylabel)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def verdict_bars(title, counts, intervals):
    """What is said of the units of several models, a panel each with a stacked bar per subgroup.

    counts: {model: {verdict: {subgroup: number of units}}}, every model's verdicts in their order. intervals: {model:
    (low, high)}, float (G,) each, of the share of units with the last verdict; NaN and models that lack have none.
    """
    columns = [len(next(iter(of.values()))) for of in counts.values()]
    size = max(7, 2.6 + sum(0.9 + 0.55 * count for count in columns)), 4.6
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False, width_ratios=columns)[0]
    for axes, (model, of_model) in zip(panels, counts.items(), strict=True):
        groups = list(next(iter(of_model.values())))
        places, base = np.arange(len(groups)), np.zeros(len(groups))
        units = sum(of[groups[0]] for of in of_model.values())
        for verdict, of in reversed(of_model.items()):
            number = np.array([of[group] for group in groups])
            style = {"color": _OF_VERDICTS[verdict], "edgecolor": "white", "linewidth": 0.5, "label": verdict}
            bars = axes.bar(places, number / units, 0.8, base, **style)
            shown = [str(count) if count >= 0.04 * units else "" for count in number.tolist()]
            axes.bar_label(bars, shown, label_type="center", fontsize=7)
            base += number / units
        if model in intervals:
            axes.vlines(places + 0.3, *intervals[model], color="black", linewidth=1.2, label="95 % of the biased")
        axes.set_xticks(places, [readable(group) for group in groups], rotation=30, ha="right", fontsize=8)
        axes.set_title(f"{model}\n{units} units", fontsize=8)
        axes.set(ylim=(0, 1), xlim=(-0.6, len(groups) - 0.4))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="share of units")
    figure.suptitle(title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, reverse=True)
    return figure


def concept_histogram(title, top, detected):
    """Units per concept. top: {concept: units with it as top concept}; detected: {concept: units that detect it}."""
    names = [name for name in top if top[name] or detected[name]]
    figure = Figure(figsize=(8, max(2.4, 1.2 + 0.3 * len(names))), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(names))[::-1]
    for offset, counts, label, colour in (
        (0.2, top, "top concept of the unit", _PALETTE[0]),
        (-0.2, detected, "detected by the unit", _PALETTE[1]),
    ):
        bars = axes.barh(places + offset, [counts[name] for name in names], 0.38, color=colour, label=label)
        axes.bar_label(bars, fontsize=7, padding=2)
    axes.set_yticks(places, [readable(name) for name in names], fontsize=8)
    axes.set(title=title, xlabel="units")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    if names:
        figure.legend(loc="outside right upper", frameon=False)
    else:
        axes.text(0.5, 0.5, "no unit is interpretable", ha="center", transform=axes.transAxes)
    return figure


def iou_by_location(title, iou, location_iou, confirmed, score_threshold):
    """Each unit's IoU against its location level. iou, location_iou: (U,). confirmed: bool (U,)."""
    figure = Figure(figsize=(7.3, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for which, label, colour, marker in (
        (~confirmed, "not confirmed", _NEITHER, "o"), (confirmed, "confirmed", _PALETTE[0], "D"),
    ):  # fmt: skip
        axes.scatter(location_iou[which], iou[which], s=16, color=colour, marker=marker, label=label, linewidths=0)
    most = max(float(iou.max(initial=0)), float(location_iou.max(initial=0)), score_threshold) * 1.05
    axes.plot([0, most], [0, most], color="black", linewidth=0.8, label="IoU at the location level")
    axes.axhline(score_threshold, color="black", linewidth=0.8, linestyle=":", label=f"IoU {score_threshold:g}")
    axes.set(title=title, xlabel="location level", ylabel="IoU", xlim=(0, most), ylim=(0, most))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def top_iou_beside_twins(title, iou, twins, score_threshold):
    """The units' top IoU, falling, beside those of untrained twins. iou: (U,). twins: (T, U)."""
    figure = Figure(figsize=(7.3, 4.0), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(1, len(iou) + 1)
    for place, twin in enumerate(twins):
        label = "untrained twins" if place == 0 else None
        axes.plot(places, np.sort(twin)[::-1], color=_PALETTE[1], linewidth=1, label=label)
    axes.plot(places, np.sort(iou)[::-1], color=_PALETTE[0], linewidth=1.8, label="the network")
    axes.axhline(score_threshold, color="black", linewidth=0.8, linestyle=":", label=f"IoU {score_threshold:g}")
    axes.set(title=title, xlabel="units by falling top IoU", ylabel="top IoU")
    axes.set(ylim=(0, None), xlim=(0.5, len(iou) + 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


_LINE, _LOWEST = 0.024, 0.05  # height of a line and end of the page, shares of its height
_LETTERS, _MOST_ROWS = 155, 33  # that fit across and down a page
_BETWEEN_NOTES = 0.4  # lines
_TEXT_SIZE = 8.5  # points


def table_pages(title, about, notes, tables):
    """First pages of a report: title, what was dissected, lines of text, and tables as lists of rows, the first of each
    its header. about: {what: text}.

    A table that does not fit on the page any more begins the next one. Returns list of Figure.
    """
    figures, top = [], 0.0
    indent = 3 + max(map(len, about), default=0)
    dissected = [
        (what if place == 0 else "", line)
        for what, text in about.items()
        for place, line in enumerate(textwrap.wrap(text, max(_LETTERS - indent, 30)))
    ]
    notes = [[(line,) for line in textwrap.wrap(note, _LETTERS)] for note in notes]
    for rows, columns, gap in [
        *((part, _words(indent), 1) for part in _in_pages(dissected, header=0)),
        *((part, _words(indent), _BETWEEN_NOTES if place else 1) for place, part in enumerate(filter(None, notes))),
        *((part, _columns_of(part), 1) for whole in tables for part in _in_pages(whole, header=1)),
    ]:
        if not figures or top - _LINE * (len(rows) + 1 + gap) < _LOWEST:
            figures.append(Figure(figsize=PAGE))
            name = title if len(figures) == 1 else f"{title} (continued)"
            figures[-1].text(0.08, 0.95, name, fontsize=15, weight="bold")
            top = 0.93
        top -= gap * _LINE
        for place, row in enumerate(rows):
            top -= _LINE
            for cell, (left, side, size, bold) in zip(row, columns, strict=False):  # a line of text has one
                weight = "bold" if bold(place, row) else "normal"
                figures[-1].text(left, top, cell, fontsize=size, weight=weight, ha=side)
    return figures


def _in_pages(rows, header):
    """A table cut into parts that fit a page each, every one with the header, the first rows of all.

    Rows that begin with a blank belong to the one before, and stay with it where a page has room for them.
    """
    parts, start = [], header
    while start < max(len(rows), header + 1) and rows:
        stop = min(start + _MOST_ROWS, len(rows))
        whole = stop
        while start < whole < len(rows) and _continues(rows[whole]):
            whole -= 1
        stop = whole if whole > start else max(stop, start + 1)
        parts.append([*rows[:header], *rows[start:stop]])
        start = stop
    return parts


def _continues(row):
    return not row[0] or row[0].startswith(" ")


# A column of a first page: (x, side at which its cells begin or end there, size in points, whether a cell is bold).


def _words(indent):
    """The columns of words and what is said of them, which begins as many letters further."""

    def bold(_, row):
        return len(row) > 1

    return [(0.08, "left", _TEXT_SIZE, bold), (0.08 + 0.86 * indent / _LETTERS, "left", _TEXT_SIZE, lambda *_: False)]


def _columns_of(rows):
    """The columns of a table: a name, then numbers as large as fit."""
    numbers = len(rows[0]) - 1
    step = min(0.19, 0.62 / max(numbers, 1))  # width of a column of numbers, share of the page's
    longest = max((len(cell) for row in rows for cell in row[1:]), default=1)
    size = min(_TEXT_SIZE, step * 72 * PAGE[0] / (0.68 * max(longest, 1)))  # a letter is about 0.68 of its size wide

    def bold(place, _):
        return place == 0

    right = [(0.32 + step * column, "right", size, bold) for column in range(1, numbers + 1)]
    return [(0.08, "left", _TEXT_SIZE, bold), *right]


def save_png(figure, path):
    """Write a plot as PNG, whole or not at all. Returns the figure."""
    with replacing(path, shared=True) as partial:
        figure.savefig(partial, dpi=_PNG_DPI, format="png")
    return figure


def write_pdf(path, title, about, notes, tables, figures):
    """Write a report: its first pages (see table_pages), then figures, a page each. path: made safe by the caller."""
    with PdfPages(path) as pages:
        for figure in (*table_pages(title, about, notes, tables), *figures):
            figure.set_size_inches(PAGE)
            if figure.get_layout_engine():  # a plot, that otherwise reaches to the page's edge
                figure.get_layout_engine().set(w_pad=MARGIN, h_pad=MARGIN)
            pages.savefig(figure)
