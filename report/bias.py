"""The reports on global bias of a layer (method.md §5 and §8.9)."""

from pathlib import Path

from method.bias import UNBIASED, as_dict
from report.bias_chance import (
    MEANING,
    chance_as_dict,
    chance_line,
    chance_rows,
    count_rows,
    left_out,
    network_line,
    verdict_table,
)
from report.plots import save_png, stacked_probabilities, table_pages, write_pdf
from report.tables import write_csv, write_pickle
from store.bias import chance_stage, features_stage
from store.layer import Stage


def write_probabilities(path, told):
    write_pickle(as_dict(told.biases), path)


def write_chance(path, told):
    write_pickle(chance_as_dict(told.evidence), path)


def write_table(path, told):
    write_csv(path, chance_rows(told.evidence))


def write_counts(path, told):
    write_csv(path, count_rows(told.evidence))


def write_report(path, told):
    """Write one layer's PDF: numbers, what they mean, then the plots that were drawn."""
    notes = [f"{told.units} units", *map(threshold_note, told.biases), *told.notes]
    tables = [rows for of in told.evidence for rows in (table(of.bias), verdict_table(of))]
    meaning = table_pages("What the figures mean", MEANING, [], [])
    write_pdf(path, f"Global bias of {told.layer}", told.about, notes, tables, [*meaning, *told.figures])


def bias_reports(concepts):
    """The stages made from what was found about a layer's bias on some global concepts. make: function of path and
    Told.
    """
    features = tuple(features_stage(concept).suffix for concept in concepts)
    chance = (*features, *(chance_stage(concept).suffix for concept in concepts), "twins", "alpha", "preset")
    return (
        Stage("_nl_report.pdf", "report", (*chance, "plots"), version=4, make=write_report),
        Stage("_nl_probs.txt", "verdicts", chance, version=4, make=write_text),
        Stage("_nl_probs.pkl", "probabilities", (*features, "preset"), version=3, make=write_probabilities),
        Stage("_nl_chance.csv", "chance", chance, make=write_table),
        Stage("_nl_counts.csv", "counts beside untrained twins", chance, make=write_counts),
        Stage("_nl_chance.pkl", "chance", chance, make=write_chance),
    )


class Told:
    """What the reports on a layer tell. layer: its name. about: {what: text}, see store/about.py. evidence: list of
    BiasEvidence. notes: texts. figures: the plots, filled by draw().
    """

    def __init__(self, layer, about, evidence, notes):
        self.layer, self.about, self.evidence, self.notes, self.figures = layer, about, evidence, notes, []

    @property
    def biases(self):
        return [of.bias for of in self.evidence]

    @property
    def units(self):
        return len(self.evidence[0].verdicts)

    def draw(self, concepts, folder):
        """Draw every concept's probabilities; each becomes a PNG. concepts: {concept: GlobalConcept}, for colours."""
        for bias in self.biases:
            figure = stacked_probabilities(
                f"{self.layer}: {bias.concept}", bias.groups, bias.probabilities, list(concepts[bias.concept].groups),
                bias.threshold,
            )  # fmt: skip
            self.figures.append(save_png(figure, Path(folder) / plot_of(self.layer, bias.concept)))


def notes_of(evidence, samples):
    """What is said of a layer as a whole, and how its figures came about: texts for summary and report.

    evidence: list of BiasEvidence. samples: {concept: how its images were compared}.
    """
    notes = [network_line(of) for of in evidence]
    for of in evidence:
        sizes = zip(of.chance.sizes.tolist(), of.bias.groups, strict=True)
        photographs = ", ".join(f"{size} {group}" for size, group in sizes)
        notes.append(f"{of.bias.concept}: {photographs} photographs; {samples[of.bias.concept]}")
    return [*notes, *left_out(evidence)]


def threshold_note(bias):
    return f"{bias.concept}: a unit is biased towards a subgroup from a probability of {bias.threshold:g}"


def write_text(path, told):
    """Write every unit's probabilities and verdicts as text, in the manner of the hierarchy's file, and behind a
    concept's verdict a line per subgroup on what of it is chance.
    """
    with open(path, "w", encoding="utf-8") as file:
        for unit in range(told.units):
            file.write(f"Unit : {unit}\n")
            for of in told.evidence:
                file.write(f"\tConcept : {of.bias.concept}\n\t{{\n")
                for group, probability in zip(of.bias.groups, of.bias.probabilities[unit].tolist(), strict=True):
                    file.write(f"\t\t{group} : {probability}\n")
                file.write(f"\t}}\n\t{of.bias.verdict(unit)}\n")
                for place in range(len(of.bias.groups)):
                    file.write(f"\tchance : {chance_line(of, unit, place)}\n")


def table(bias):
    """One ConceptBias as rows of text: header, then a row per subgroup and one for the unbiased units."""
    counts = bias.counts()
    rows = [(bias.concept, "biased units", "mean probability", "standard deviation")]
    for group, column in zip(bias.groups, bias.probabilities.T, strict=True):
        rows.append((group, str(counts[group]), f"{column.mean():.4f}", f"{column.std():.4f}"))
    return [*rows, (UNBIASED, str(counts[UNBIASED]), "", "")]


def printed(evidence, notes):
    """Tables and notes on a layer as lines for the terminal. evidence: list of BiasEvidence. notes: texts."""
    lines = []
    for of in evidence:
        lines += ["{:<18}{:>14}{:>20}{:>20}".format(*row) for row in table(of.bias)]
        lines += [f"{name:<24}" + "".join(f"{text:>20}" for text in row) for name, *row in verdict_table(of)]
    return [*lines, *notes]


def plot_of(layer, concept):
    return f"{layer}_bias({concept}).png"
