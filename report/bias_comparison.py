"""The global bias of models compared: counts, verdicts, and differences beyond chance (method.md §5 and §8.9)."""

from pathlib import Path

import numpy as np

from method.bias import UNBIASED
from method.comparison import differences
from report.bias import threshold_note
from report.bias_chance import beyond_cut_off, left_out
from report.plots import grouped_bars, save_png, verdict_bars, write_pdf
from report.summary import of_layers
from report.tables import cell, write_csv
from util.files import replacing

_DIFFERENCES = (
    "differences of the shares of biased units, with 95 % intervals over the same resamples of the photographs: P and "
    "AUC, the twins' too, are those of the resample, while a unit's q stays. * is beyond chance: the interval leaves 0 "
    "out, q over all pairs of models and subgroups of the concept is at most ALPHA, and no untrained twin of the "
    "one, judged in the same way, differs as much from one of the other. It says what other photographs of the same "
    "kind would show of these very networks, not what networks trained anew would"
)


def comparison_plots(concept, twin):
    """The names of a global concept's charts: published counts, and verdicts. twin: see compare."""
    return f"bias_comparison({concept}){twin}.png", f"bias_verdicts({concept}){twin}.png"


def compare(found, about, concepts, notes, twin, folder, plot_folder):
    """Compare models: a PDF, a table, and two charts per global concept. Returns the paths of PDF and table.

    found: {layer: list of BiasEvidence}. about: {layer: {what: text}}. concepts: {concept: GlobalConcept}. notes: texts
    on the subgroups. twin: what the names of its files end in. folder: of PDF and table; plot_folder: of charts.
    """
    compared = []
    for concept, description in concepts.items():
        evidence = {layer: of for layer, of_layer in found.items() for of in of_layer if of.bias.concept == concept}
        if evidence:
            compared.append(Compared(concept, evidence, list(description.groups)))
    figures = [
        save_png(figure, Path(plot_folder) / name)
        for of in compared
        for name, figure in zip(comparison_plots(of.concept, twin), of.figures(), strict=True)
    ]
    told = [_DIFFERENCES] if any(pair.tested for of in compared for pair in of.differences) else []
    told += left_out(compared[0].evidence.values())
    notes = [*(note for of in compared for note in of.notes()), *told, *notes]
    tables = [rows for of in compared for rows in of.tables()]
    pdf, table = (Path(folder) / name for name in (f"nl_comparison{twin}.pdf", f"bias_comparison{twin}.csv"))
    with replacing(pdf, shared=True) as partial:
        write_pdf(partial, "Global bias compared", of_layers(about), notes, tables, figures)
    with replacing(table, shared=True) as partial:
        write_csv(partial, [compared[0].header, *(row for of in compared for row in of.rows())])
    return pdf, table


class Compared:
    """Models compared on one global concept. evidence: {layer: BiasEvidence}. all_groups: names of all its subgroups,
    which decide the colours.

    Shares are those of biased units, and of models that know the same subgroups, for cut-offs depend on their number;
    without ALPHA there are none.
    """

    def __init__(self, concept, evidence, all_groups):
        self.concept, self.evidence, self.all_groups = concept, evidence, all_groups
        self.groups = max((of.bias.groups for of in evidence.values()), key=len)
        self.shares = {
            layer: of.shares() for layer, of in evidence.items()
            if of.alpha is not None and of.bias.groups == self.groups
        }  # fmt: skip
        # In one run resample b is of the same photographs whatever the model.
        self.twins = {layer: evidence[layer].twin_shares() for layer in self.shares}
        self.differences = differences(self.shares, dict.fromkeys(self.shares, concept), self.twins)
        self.alpha = next(iter(evidence.values())).alpha

    def notes(self):
        """Texts for the first page."""
        thresholds = {threshold_note(of.bias) for of in self.evidence.values()}
        unlike = [layer for layer, of in self.evidence.items() if of.bias.groups != self.groups]
        lacking = f"{self.concept}: not compared, for lack of a subgroup's photographs: {', '.join(unlike)}"
        return [*sorted(thresholds), *([lacking] if unlike else [])]

    def figures(self):
        """The charts: units biased by the cut-off alone, as published, and the verdicts."""
        counts = {layer: of.bias.counts() for layer, of in self.evidence.items()}
        names = [*self.all_groups, UNBIASED]
        verdicts = {layer: of.counts() for layer, of in self.evidence.items()}
        intervals = {layer: (of.low, of.high) for layer, of in self.shares.items()}
        return (
            grouped_bars(f"Units biased on {self.concept}", counts, names, "units"),
            verdict_bars(f"What stands of the bias on {self.concept}", verdicts, intervals),
        )

    def tables(self):
        """Rows of text: units biased by the cut-off alone beside twins', shares of biased units, and differences."""
        counts = {layer: of.bias.counts() for layer, of in self.evidence.items()}
        shown = [name for name in (*self.all_groups, UNBIASED) if any(name in of for of in counts.values())]
        yield [(f"{self.concept}, by cut-off", *shown),
               *((layer, *(str(of.get(name, "-")) for name in shown)) for layer, of in counts.items())]  # fmt: skip
        beyond = [(layer, *beyond_cut_off(of)) for layer, of in self.evidence.items()]
        yield [(f"{self.concept}, share by cut-off", "the network's units", "its untrained twins'"), *beyond]
        if self.shares:
            lines = ((layer, *_in_words(of.share, of.low, of.high, "{:.1%}")) for layer, of in self.shares.items())
            yield [(f"{self.concept}, biased", *self.groups), *lines]
        if self.differences:
            lines = [(f"{self.concept}, differences", *self.groups)]
            for of in self.differences:
                words = _in_words(of.difference, of.low, of.high, "{:+.1%}")
                marks = ["*" if beyond else "" for beyond in of.beyond_chance(self.alpha)]
                lines += [(of.one,), (f"   less {of.other}", *map("".join, zip(words, marks, strict=True)))]
            yield lines

    @property
    def header(self):
        verdicts = (name.replace(" ", "_") for name in next(iter(self.evidence.values())).counts())
        of_pair = ["other_layer", "difference", "difference_low", "difference_high", "p", "q", "beyond_chance"]
        return ["concept", "group", "layer", "units", *verdicts, "share", "low", "high", "share_of_twins", *of_pair]

    def rows(self):
        """Rows of the table: of every model and subgroup, then the differences of every pair of models."""
        for layer, of in self.evidence.items():
            counts, shares = of.counts(), self.shares.get(layer)
            twins = self.twins.get(layer, ())
            mean = np.mean(twins, axis=0) if len(twins) else np.full(len(of.bias.groups), np.nan)
            columns = (shares.share, shares.low, shares.high, mean) if shares else ()
            for place, group in enumerate(of.bias.groups):
                yield [self.concept, group, layer, len(of.verdicts), *(count[group] for count in counts.values()),
                       *([cell(column[place]) for column in columns] or [""] * 4), *[""] * 7]  # fmt: skip
        for of in self.differences:
            columns, empty = (of.difference, of.low, of.high, of.p, of.q), [""] * (len(self.header) - 10)
            beyond = of.beyond_chance(self.alpha).astype(int).tolist() if of.tested else [""] * len(self.groups)
            for place, group in enumerate(self.groups):
                numbers = [cell(column[place]) for column in columns]
                yield [self.concept, group, of.one, *empty, of.other, *numbers, beyond[place]]


def _in_words(shares, low, high, form):
    """Shares with their 95 % intervals, a text each."""
    return [
        form.format(share) + ("" if np.isnan(least) else f" ({least:.1%} to {most:.1%})")
        for share, least, most in zip(shares, low, high, strict=True)
    ]
