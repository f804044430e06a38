"""The reports on global bias of a layer, and on models compared (method.md §5)."""

from pathlib import Path

from method.bias import UNBIASED, as_dict
from report.plots import grouped_bars, save_png, stacked_probabilities, write_pdf
from report.summary import of_layers
from report.tables import write_pickle
from store.layer import Stage
from util.files import replacing


def write_probabilities(path, told):
    write_pickle(as_dict(told.biases), path)


def write_report(path, told):
    """Write one layer's PDF: numbers, then the plots that were drawn."""
    notes = [f"{told.units} units", *map(threshold_note, told.biases), *told.notes]
    tables = [table(bias) for bias in told.biases]
    write_pdf(path, f"Global bias of {told.layer}", told.about, notes, tables, told.figures)


def bias_reports(features):
    """The stages made from a layer's features. features: suffixes of their files. make: function of path and Told."""
    return (
        Stage("_nl_report.pdf", "report", (*features, "preset", "plots"), version=3, make=write_report),
        Stage("_nl_probs.txt", "verdicts", (*features, "preset"), version=3, make=write_text),
        Stage("_nl_probs.pkl", "probabilities", (*features, "preset"), version=3, make=write_probabilities),
    )


class Told:
    """What the reports on a layer tell. layer: its name. about: {what: text}, see store/about.py. biases: list of
    ConceptBias. notes: texts on the subgroups. figures: the plots, filled by draw().
    """

    def __init__(self, layer, about, biases, notes):
        self.layer, self.about, self.biases, self.notes, self.figures = layer, about, biases, notes, []

    @property
    def units(self):
        return len(self.biases[0].probabilities)

    def draw(self, concepts, folder):
        """Draw every concept's probabilities; each becomes a PNG. concepts: {concept: GlobalConcept}, for colours."""
        for bias in self.biases:
            figure = stacked_probabilities(
                f"{self.layer}: {bias.concept}", bias.groups, bias.probabilities, list(concepts[bias.concept].groups),
                bias.threshold,
            )  # fmt: skip
            self.figures.append(save_png(figure, Path(folder) / plot_of(self.layer, bias.concept)))


def threshold_note(bias):
    return f"{bias.concept}: a unit is biased towards a subgroup from a probability of {bias.threshold:g}"


def write_text(path, told):
    """Write every unit's probabilities and verdicts as text, in the manner of the hierarchy's file."""
    with open(path, "w", encoding="utf-8") as file:
        for unit in range(told.units):
            file.write(f"Unit : {unit}\n")
            for bias in told.biases:
                file.write(f"\tConcept : {bias.concept}\n\t{{\n")
                for group, probability in zip(bias.groups, bias.probabilities[unit].tolist(), strict=True):
                    file.write(f"\t\t{group} : {probability}\n")
                file.write(f"\t}}\n\t{bias.verdict(unit)}\n")


def table(bias):
    """One ConceptBias as rows of text: header, then a row per subgroup and one for the unbiased units."""
    counts = bias.counts()
    rows = [(bias.concept, "biased units", "mean probability", "standard deviation")]
    for group, column in zip(bias.groups, bias.probabilities.T, strict=True):
        rows.append((group, str(counts[group]), f"{column.mean():.4f}", f"{column.std():.4f}"))
    return [*rows, (UNBIASED, str(counts[UNBIASED]), "", "")]


def plot_of(layer, concept):
    return f"{layer}_bias({concept}).png"


def comparison_plot(concept, twin):
    return f"bias_comparison({concept}){twin}.png"


def compare(biases, about, concepts, notes, twin, folder, plot_folder):
    """Compare the number of biased units across models, a chart per global concept. Returns the PDF's path.

    biases: {layer: list of ConceptBias}. about: {layer: {what: text}}. concepts: {concept: GlobalConcept}. notes: texts
    on the subgroups. twin: what the names of its files end in. folder: of the PDF; plot_folder: of charts.
    """
    figures, tables = [], []
    for concept, description in concepts.items():
        counts = {
            layer: bias.counts() for layer, of_layer in biases.items() for bias in of_layer if bias.concept == concept
        }
        if not counts:
            continue
        names = [*description.groups, UNBIASED]
        figure = grouped_bars(f"Units biased on {concept}", counts, names, "units")
        figures.append(save_png(figure, Path(plot_folder) / comparison_plot(concept, twin)))
        shown = [name for name in names if any(name in of_layer for of_layer in counts.values())]
        lines = [(layer, *(str(of.get(name, "-")) for name in shown)) for layer, of in counts.items()]
        tables.append([(concept, *shown), *lines])
    path = Path(folder) / f"nl_comparison{twin}.pdf"
    notes = [*sorted({threshold_note(bias) for of_layer in biases.values() for bias in of_layer}), *notes]
    with replacing(path, shared=True) as partial:
        write_pdf(partial, "Global bias compared", of_layers(about), notes, tables, figures)
    return path
