"""The page that tells an experiment on trained networks: what was asked, what came out, the curves and the tables."""

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from report.curves import draw_lines, finish, legend_of
from report.plots import colours, save_png
from report.tables import aligned, column_widths

_PAGE = (8.27, 11.69)  # A4 upright, inches
_LETTERS, _BOLD_LETTERS, _LINE, _SIZE = 122, 106, 0.0145, 8  # that fit across; height of a line, of the page; points
_SMALL_LETTERS = 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.07, 0.96, 0.965, 0.03
_TABLE_SIZE, _TABLE_LINE, _TABLE_LETTERS, _GAP = 6.6, 0.0118, 138, 3  # points; of the page; across; between columns
_ACROSS, _PANEL = 2, 0.2  # panels in a row, and the height of one with its labels


@dataclass(frozen=True)
class Panel:
    """A plot. ylabel, xlabel: texts. lines: {name: {x: numbers, one per repetition}}. Beside numbers, an x that is a
    text stands apart at the left; where all are texts, they stand side by side.
    """

    ylabel: str
    xlabel: str
    lines: dict

    def draw(self, axes):
        """Draw means with the range of the repetitions from least to most, and a legend above."""
        colour, places = colours(list(self.lines)), self._places()
        for place, (name, line) in enumerate(self.lines.items()):
            x = [at for at in line if not isinstance(at, str)]
            if x:
                draw_lines(axes, {name: (x, [line[at] for at in x])}, colour)
            shift = 0.12 * (place - (len(self.lines) - 1) / 2) if not x else 0
            label = None if x else name
            for at in (at for at in line if isinstance(at, str)):
                numbers, where = line[at], places[at] + shift
                axes.plot([where] * len(numbers), numbers, "D", ms=3.5, mfc="none", color=colour[name], label=label)
                label = None
                axes.plot([where], [np.mean(numbers)], "_", ms=11, mew=2, color=colour[name])
        texts = [str(at) if isinstance(at, str) else f"{at:g}" for at in places]
        slanted = {"rotation": 25, "ha": "right"} if max(map(len, texts)) > 12 else {}
        axes.set_xticks(list(places.values()), texts, **slanted)
        axes.tick_params(labelsize=7)
        axes.set_xlabel(self.xlabel, fontsize=7)
        axes.set_ylabel(self.ylabel, fontsize=8)
        finish(axes)
        legend_of(axes)

    def _places(self):
        """{x: its place on the axis}, in the order of the axis."""
        listed = list(dict.fromkeys(at for line in self.lines.values() for at in line))
        numbers, words = sorted(at for at in listed if not isinstance(at, str)), [*filter(_is_text, listed)]
        if not numbers:
            return {word: place for place, word in enumerate(words)}
        apart = numbers[0] - (numbers[-1] - numbers[0]) / max(len(numbers) - 1, 1)
        return {**dict.fromkeys(words, apart), **{number: number for number in numbers}}


def _is_text(value):
    return isinstance(value, str)


@dataclass(frozen=True)
class Story:
    """What an experiment comes to.

    title: a few words. verdict: the sentence that answers. sentences: what was done and found. panels: list of Panel.
    tables: lists of rows of text, the first of each its header. about: {what: text}. rows: what the tables show, for
    a CSV file, the first its header.
    """

    title: str
    verdict: str
    sentences: list
    panels: list
    tables: list
    about: dict
    rows: list

    def save_plot(self, path):
        """Write the panels as a PNG, beside each other."""
        figure = Figure(figsize=(4.4 * len(self.panels), 4.6), layout="constrained")
        figure.suptitle(self.title)
        for panel, axes in zip(self.panels, figure.subplots(1, len(self.panels), squeeze=False)[0], strict=True):
            panel.draw(axes)
        save_png(figure, path)

    def lines(self):
        """The story as text, list of lines."""
        tables = [["", *aligned(rows)] for rows in self.tables]
        return [self.title, self.verdict, *self.sentences, *(line for table in tables for line in table)]


def write_story(path, story):
    """Write an experiment's page as PDF; tables that do not fit on it any more go to further pages. story: Story."""
    figure, top = Figure(figsize=_PAGE), _TOP
    figure.text(_LEFT, top, story.title, fontsize=15, weight="bold", va="top")
    top -= 2.4 * _LINE
    top = _write(figure, top, [story.verdict], _BOLD_LETTERS, weight="bold")
    top = _write(figure, top - 0.4 * _LINE, story.sentences)
    rows, figures = -(-len(story.panels) // _ACROSS), [figure]
    if top < _PANEL * rows + _BOTTOM + 0.05:
        figures.append(Figure(figsize=_PAGE))
        top = _TOP
    height = min(_PANEL * rows, top - _BOTTOM - 0.25)
    top -= 0.03  # for the legends
    grid = figures[-1].add_gridspec(
        rows, _ACROSS, left=_LEFT + 0.02, right=_RIGHT, top=top, bottom=top - height, wspace=0.2, hspace=0.45
    )
    for place, panel in enumerate(story.panels):
        panel.draw(figures[-1].add_subplot(grid[place // _ACROSS, place % _ACROSS]))
    top -= height + 0.058  # ticks and labels
    for header, *body in story.tables:
        room = int((top - _BOTTOM) / _TABLE_LINE) - 2
        if room < min(len(body), 8):
            figures.append(Figure(figsize=_PAGE))
            top = _TOP
        top = _write_table(figures[-1], top, [header, *body]) - _TABLE_LINE
    lines = [line for what, text in story.about.items() for line in textwrap.wrap(f"{what}: {text}", _SMALL_LETTERS)]
    if top - len(lines) * _TABLE_LINE < 0:
        figures.append(Figure(figsize=_PAGE))
        top = _TOP
    for line in lines:
        figures[-1].text(_LEFT, top, line, fontsize=_TABLE_SIZE, va="top", color="#555555")
        top -= _TABLE_LINE
    with PdfPages(path) as pages:
        for figure in figures:
            pages.savefig(figure)


def _write(figure, top, texts, letters=_LETTERS, **style):
    """Write lines of text from a height down. Returns the height below them, a share of the page's."""
    for line in (line for text in texts for line in textwrap.wrap(text, letters)):
        figure.text(_LEFT, top, line, fontsize=_SIZE, va="top", **style)
        top -= _LINE
    return top


def _write_table(figure, top, rows):
    first, *widths = column_widths(rows)
    letters = first + sum(width + _GAP for width in widths)  # bold ones are a tenth wider
    letter = (_RIGHT - _LEFT) / max(_TABLE_LETTERS, 1.1 * letters)
    size = _TABLE_SIZE * letter * _TABLE_LETTERS / (_RIGHT - _LEFT)
    for place, (name, *cells) in enumerate(rows):
        weight = "normal" if place else "bold"
        figure.text(_LEFT, top, name, fontsize=size, va="top", weight=weight)
        right = _LEFT + first * letter
        for cell, width in zip(cells, widths, strict=True):
            right += (width + _GAP) * letter
            figure.text(right, top, cell, fontsize=size, va="top", ha="right", weight=weight)
        top -= _TABLE_LINE
    return top
