"""Lines over a range of values, several panels beside each other, with the spread of repeated draws."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from report.plots import colours


def curves(title, panels, xlabel, logarithmic=False, marked=None):
    """Panels of lines. Returns Figure.

    panels: {label of the y axis: {name of a line: (x, values)}}. x: n numbers. values: for each the values of one or
    several draws, of which the mean is drawn and the range from least to most; of a single x a level. A name has one
    colour in all panels. logarithmic: the x axis. marked: an x to be pointed at, or None.
    """
    figure = Figure(figsize=(4.2 * len(panels), 4.4), layout="constrained")
    figure.suptitle(title)
    colour = colours([*dict.fromkeys(name for lines in panels.values() for name in lines)])
    handles = {}
    for axes, (ylabel, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        handles |= draw_lines(axes, lines, colour)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(max((x for x, _ in lines.values()), key=len))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.tick_params(axis="x", labelsize=7)
        if marked is not None:
            axes.axvline(marked, ls=":", color="#666666", lw=1)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        finish(axes)
    figure.legend(handles=handles.values(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def draw_lines(axes, lines, colour):
    """Draw lines with the spread of their draws into a panel. lines: see curves.

    colour: {name of a line: colour}. Returns {name: what stands for it in a legend}.
    """
    handles = {}
    for name, (x, values) in lines.items():
        low, mean, high = np.array([(np.min(of), np.mean(of), np.max(of)) for of in values]).T
        if len(x) == 1:
            handles[name] = axes.axhline(mean[0], ls="--", color=colour[name], label=name)
            axes.axhspan(low[0], high[0], alpha=0.12, color=colour[name], lw=0)
            continue
        (handles[name],) = axes.plot(x, mean, "o-", ms=4, color=colour[name], label=name)
        axes.fill_between(x, low, high, alpha=0.2, color=colour[name], lw=0)
    return handles


def finish(axes):
    """Let a panel begin at 0, once all is drawn, and take away the lines around it."""
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def legend_of(axes):
    """A legend within a panel, above its lines."""
    axes.legend(frameon=False, fontsize=6.5, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1)
