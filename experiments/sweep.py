"""How much do the counts and labels of a layer hang on QUANTILE and SCORE_THRESHOLD? (method.md §3.2 and §3.5)

Dissects the activation maps that main.py left with the thresholds of several quantiles, and counts detectors at several
IoU. Results go to OUTPUT_FOLDER, the plot to PLOT_FOLDER; what is finished is kept, and a second run reuses it.
"""

import logging
import sys
from pathlib import Path

import numpy as np

from experiments.dissected import OF_OUTCOME, dissected_layers
from method.outcome import Counts, Outcome
from report.curves import curves
from report.plots import save_png, write_pdf
from report.tables import write_csv
from store.arrays import load_as, save_arrays
from store.layer import Stage
from store.stages import CHANCE, TALLY
from util.errors import run_script

log = logging.getLogger(__name__)

QUANTILES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
SCORE_THRESHOLDS = (0.02, 0.03, 0.04, 0.06, 0.08, 0.1)
# The settings' own values are looked at too, whatever they are.


def main():
    with dissected_layers(sys.argv[1:], __doc__) as layers:
        for layer in layers:
            outcomes = swept_outcomes(layer)
            words = sentences(layer, outcomes)
            layer.tell(words, tables_of(layer, outcomes))
            layer.leave(reports_of(layer, outcomes), outcomes, words)


def part_of(quantile):
    """The file of one quantile."""
    return Stage(f"_sweep_quantile{quantile:g}.npz", f"quantile {quantile:g}", OF_OUTCOME)


def swept_outcomes(layer):
    """Dissect with all quantiles that are missing, the masks read once. Returns {quantile: Outcome}, ascending."""
    own = layer.config.QUANTILE
    others = [quantile for quantile in QUANTILES if quantile != own]
    missing = [quantile for quantile in others if not layer.store.is_current(part_of(quantile))]
    if missing:
        log.info("%s: %s", layer.store.layer, ", ".join(part_of(quantile).what for quantile in missing))
        thresholds = [layer.operator.quantile_threshold(layer.maps, quantile) for quantile in missing]
        for quantile, outcome in zip(missing, layer.outcomes(layer.maps, thresholds), strict=True):
            layer.store.make(part_of(quantile), save_arrays, vars(outcome))
    outcomes = {quantile: load_as(Outcome, layer.store.path(part_of(quantile).suffix)) for quantile in others}
    return dict(sorted({**outcomes, own: layer.own}.items()))


# ---------------------------------------------------------------------------------------------------- what it says


def score_thresholds(layer):
    return sorted({*SCORE_THRESHOLDS, layer.config.SCORE_THRESHOLD})


def counts_of(layer, outcomes, quantile, score_threshold):
    return outcomes[quantile].counts(score_threshold, layer.config.ALPHA)


def kept(layer, outcome, among):
    """The share of units whose label is that at the settings' own QUANTILE. among: bool (U,). NaN for no units."""
    return float((outcome.label == layer.own.label)[among].mean()) if among.any() else float("nan")


def labelled(layer):
    """Units that have a label at the settings' own QUANTILE. Returns bool (U,)."""
    return layer.own.label >= 0


def sentences(layer, outcomes):
    """What the counts and labels say. Returns texts."""
    config, scores = layer.config, score_thresholds(layer)
    detectors = layer.own.detectors(config.SCORE_THRESHOLD)
    at_own = counts_of(layer, outcomes, config.QUANTILE, config.SCORE_THRESHOLD)
    by_quantile = [counts_of(layer, outcomes, quantile, config.SCORE_THRESHOLD) for quantile in outcomes]
    by_score = [counts_of(layer, outcomes, config.QUANTILE, score) for score in scores]
    always = np.all([of.label == layer.own.label for of in outcomes.values()], axis=0)
    return [
        f"At QUANTILE={config.QUANTILE:g} and SCORE_THRESHOLD={config.SCORE_THRESHOLD:g}, {at_own.detectors} of "
        f"{layer.maps.units} units are detectors, {at_own.confirmed} confirmed, with {at_own.unique} labels.",
        f"QUANTILE from {min(outcomes):g} to {max(outcomes):g}: {_range(by_quantile)}.",
        f"SCORE_THRESHOLD from {scores[0]:g} to {scores[-1]:g}: {_range(by_score)}.",
        f"{int((always & detectors).sum())} of the {at_own.detectors} detectors have the same label at every quantile.",
    ]  # fmt: skip


def _range(counts):
    """From the least to the most of every count, in words."""
    columns = zip(("detectors", "confirmed", "unique labels"), zip(*counts, strict=True), strict=False)
    return ", ".join(f"{min(column)} to {max(column)} {name}" for name, column in columns)


def tables_of(layer, outcomes):
    """Tables as lists of rows of text: a count by quantile and score threshold each, and how many labels stay."""
    scores = score_thresholds(layer)
    tables = []
    for place, name in enumerate(Counts._fields[:3]):
        rows = [(f"{name}: QUANTILE, IoU above", *(f"{score:g}" for score in scores))]
        for quantile in outcomes:
            counts = [counts_of(layer, outcomes, quantile, score)[place] for score in scores]
            rows.append((f"{quantile:g}", *map(str, counts)))
        tables.append(rows)
    among = labelled(layer), layer.own.detectors(layer.config.SCORE_THRESHOLD)
    shares = [("same label: QUANTILE", "units", "detectors")]
    shares += [(f"{at:g}", *(f"{kept(layer, of, some):.1%}" for some in among)) for at, of in outcomes.items()]
    return [*tables, shares]


def write_counts(path, layer, outcomes, _):
    """Write a line per quantile and score threshold: how many units and labels are detectors, and of how many units
    and detectors of the settings' own values the label is the same.
    """
    header = ["quantile", "score_threshold", *Counts._fields, "same_label", "same_label_of_detectors"]
    detectors = layer.own.detectors(layer.config.SCORE_THRESHOLD)
    rows = [
        [quantile, score, *counts_of(layer, outcomes, quantile, score),
         kept(layer, of, labelled(layer)), kept(layer, of, detectors)]
        for quantile, of in outcomes.items() for score in score_thresholds(layer)
    ]  # fmt: skip
    write_csv(path, [header, *rows])


def write_labels(path, layer, outcomes, _):
    """Write a line per unit: its label at every quantile, empty where it has none, and whether all are the same."""
    names = [*layer.operator.dictionary.names, ""]
    labels = np.array([of.label for of in outcomes.values()]).T  # (U, quantiles), -1 for none
    rows = [[unit, *(names[label] for label in of), int(len({*of}) == 1)] for unit, of in enumerate(labels.tolist())]
    write_csv(path, [["unit", *outcomes, "same"], *rows])


def write_report(path, layer, outcomes, words):
    """Write the PDF: the sentences, the tables and the plot, which also becomes a PNG."""
    quantiles, config = list(outcomes), layer.config
    panels = {
        name: {
            f"IoU > {score:g}": (quantiles, [counts_of(layer, outcomes, at, score)[place] for at in quantiles])
            for score in score_thresholds(layer)
        }
        for place, name in enumerate(Counts._fields[:3])
    }
    among = {"of all units": labelled(layer), "of detectors": layer.own.detectors(config.SCORE_THRESHOLD)}
    panels["share with the same label"] = {
        name: (quantiles, [kept(layer, of, some) for of in outcomes.values()]) for name, some in among.items()
    }
    title = f"{layer.store.layer}: detectors by quantile and score threshold"
    figure = curves(title, panels, "QUANTILE", logarithmic=True, marked=config.QUANTILE)
    save_png(figure, Path(config.PLOT_FOLDER) / f"{layer.store.layer}_sweep.png")
    about = layer.store.about_of(TALLY.suffix)
    write_pdf(path, f"Cut-offs of {layer.store.layer}", about, words, tables_of(layer, outcomes), [figure])


def reports_of(layer, outcomes):
    """The files that people read, as Stages. make: function of path, layer, outcomes and sentences."""
    parts = (part_of(quantile).suffix for quantile in outcomes if quantile != layer.config.QUANTILE)
    inputs = (TALLY.suffix, CHANCE.suffix, *parts, "quantile", "score_threshold", "alpha")
    return (
        Stage("_sweep.csv", "counts", inputs, make=write_counts),
        Stage("_sweep_labels.csv", "labels", inputs, make=write_labels),
        Stage("_sweep.pdf", "report", inputs, make=write_report),
    )


if __name__ == "__main__":
    run_script(main, "stopped: what is finished is kept, and the same command goes on from here")
