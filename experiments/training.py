"""What does training make of a network's units? Over epochs, first weights, depth, width and parts (method.md §6).

Trains one small network on rendered faces, to tell their age, gender and skin tone, with several seeds, and variants of
it that lack a part, have another or are wider; dissects all blocks of each; and says what each makes, beside what CVPR
2017 found. Results, trained networks and dissections go to STUDY_FOLDER; what is finished is kept, and a second run
reuses it.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dictionary.render import ensure_rendered
from experiments import training_settings
from experiments.controlled import INSTEAD as CONTROLLED_INSTEAD
from experiments.faces import BY_GROUPS, faces_of, one_version
from experiments.stories import RESULT, STORY_REPORTS, leave
from experiments.trained import Dissector, Recipe, Trained
from experiments.words import read_words, require_chance
from loader.model_loader_convnet import parts_of
from loader.tasks import RANDOM_WEIGHTS
from method.outcome import Outcome
from method.trend import Trend, mean_interval
from report.experiment import Panel, Story
from report.tables import write_csv
from store.layer import LayerStore, Stage, locked
from store.run import prepare_device, prepare_dictionary, prepare_model
from util.configuration import VERSION
from util.errors import DissectionError, run_script
from util.files import digest, fingerprint

INSTEAD = {**CONTROLLED_INSTEAD, "LAYER_NAME": None, "ARCHITECTURE": "NETWORK", "TWINS": None}

BASE = ""  # the change that leaves NETWORK as it is

# What is counted of each block, and what it is called.
MEASURES = {
    "detectors": "detectors", "confirmed": "confirmed detectors", "unique": "unique detectors",
    "confirmed_unique": "unique confirmed detectors",
}  # fmt: skip
_UNIQUE, _STANDS = "unique", "confirmed"  # CVPR 2017 counts the first; the second has its chance beside it

# What CVPR 2017 (Network Dissection) found of unique detectors, by change (see changed).
PUBLISHED = {
    "training": "more with training", "initialisation": "independent of the first weights", "depth": "more with depth",
    "+dropout": "more with dropout", "-dropout": "fewer without dropout", "wider": "more in wider layers",
    "+batchnorm": "fewer with batch normalisation", "-batchnorm": "more without batch normalisation",
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What was read off one network. variant: BASE or one of VARIANTS. epoch: after which; 0 untrained.

    accuracy: share of the test told right, None before the last epoch. blocks: {block: {measure: number}}. places:
    {region or type: confirmed detectors of it, over all blocks}.
    """

    variant: str
    seed: int
    epoch: int
    accuracy: float | None
    blocks: dict
    places: dict

    def total(self, name):
        """A measure over all blocks."""
        return sum(of[name] for of in self.blocks.values())


def main():
    config = read_words(sys.argv[1:], __doc__, INSTEAD, training_settings)
    require_sense(config)
    config.device = prepare_device(config)
    ensure_rendered(config.DICTIONARY)
    folder = Path(config.STUDY_FOLDER) / f"training_{config.SIDE_PX}px"
    results = LayerStore(folder, "training")
    with locked([results]):
        measured = measure_all(config, folder)
        leave(config, results, REPORTS, told(config, measured), measured)


def require_sense(config):
    """Bring the settings into one form. Raises DissectionError for those that make no sense."""
    config.KEEP_EPOCHS = sorted({min(epoch, config.EPOCHS) for epoch in (*config.KEEP_EPOCHS, config.EPOCHS)})
    require_chance(config)
    config.VARIANTS = list(dict.fromkeys(config.VARIANTS))
    for change in (BASE, *config.VARIANTS):
        widths, _ = parts_of(changed(config.NETWORK, change))
        if config.SIDE_PX >> len(widths) < 2:
            raise DissectionError(
                f"SIDE_PX is {config.SIDE_PX}: {len(widths)} blocks, each of which halves it, leave maps without places"
            )


def changed(network, change):
    """NETWORK with one change: '+part' adds and '-part' takes away a part, 'x2' makes all blocks twice as wide.

    Returns text, as NETWORK. Raises DissectionError for what is no change of it.
    """
    widths, parts = parts_of(network)
    kind, what = change[:1], change[1:].strip()
    if kind == "+" and what not in parts:
        parts = [*parts, what]
    elif kind == "-" and what in parts:
        parts = [part for part in parts if part != what]
    elif kind == "x" and re.fullmatch(r"\d*\.?\d+", what) and float(what) not in (0, 1):
        widths = [max(round(width * float(what)), 1) for width in widths]
    elif change != BASE:
        raise DissectionError(f"VARIANTS: {change!r} is no change of {network!r}: see experiments/training_settings.py")
    return " ".join(["-".join(map(str, widths)), *parts])


def name_of(change):
    """A change in words."""
    kinds = {"": "network", "+": f"with {change[1:]}", "-": f"without {change[1:]}", "x": f"{change[1:]} times as wide"}
    return kinds.get(change[:1], change)


# ------------------------------------------------------------------------------------------------- training, measuring


def measure_all(config, folder):
    """Train and dissect every network of the study. Returns list of Measured."""
    faces = faces_of(config, one_version, LayerStore(folder, "faces"), 0, BY_GROUPS)
    data = fingerprint([digest(faces.train.tobytes()), faces.train_class.tolist()])
    measured, dissector = [], None
    for variant in (BASE, *config.VARIANTS):
        architecture = changed(config.NETWORK, variant)
        epochs = [0, *config.KEEP_EPOCHS] if variant == BASE else [config.EPOCHS]
        for seed in range(config.SEEDS):
            recipe = Recipe(
                "convnet", architecture, len(BY_GROUPS), config.SIDE_PX, config.EPOCHS, config.TRAIN_BATCH,
                config.LEARNING_RATE, seed,
            )  # fmt: skip
            name = f"{architecture.replace(' ', '_')}_seed{seed}"
            network = Trained(folder, name, recipe, data, config.device, keep=[e for e in epochs if e])
            with locked([network.store]):
                network.have(faces.train[:, 0], faces.train_class)
                told_right = (network.outputs(faces.test[:, 0], config.BATCH_SIZE).argmax(axis=1) == faces.test_class)
            for epoch in epochs:
                weights = network.weights(epoch) if epoch else RANDOM_WEIGHTS
                blocks = [f"block{number}" for number in range(1, len(parts_of(architecture)[0]) + 1)]
                of_epoch = network.settings(config, blocks, weights, f"_epoch{epoch}")
                dissector = dissector or dissector_of(of_epoch)
                accuracy = float(told_right.mean()) if epoch == config.EPOCHS else None
                found = counts_of(of_epoch, dissector)
                measured.append(Measured(variant, seed, epoch, accuracy, *found))
    return measured


def dissector_of(config):
    """A Dissector on DICTIONARY, which is the same for all networks."""
    return Dissector(prepare_dictionary(config, prepare_model(config, config.TASK, config.LAYER_NAME, config.device)))


def counts_of(config, dissector):
    """({block: {measure: number}}, {region or type: confirmed detectors}) of a network."""
    blocks, concepts = {}, dissector.dictionary.concepts
    places = dict.fromkeys([*(c.region for c in concepts if c.region), *(c.type for c in concepts)], 0)
    for block, (tally, chance) in dissector.dissect(config).items():
        outcome = Outcome.of(tally, chance)
        counts = outcome.counts(config.SCORE_THRESHOLD, config.ALPHA)
        blocks[block] = {**counts._asdict(), "units": len(outcome.label)}
        for label in outcome.chance_label[outcome.confirmed(config.SCORE_THRESHOLD, config.ALPHA)].tolist():
            places[concepts[label].type] += 1
            if concepts[label].region:
                places[concepts[label].region] += 1
    return blocks, places


# ----------------------------------------------------------------------------------------------------- what it comes to


def of_variant(measured, variant, epoch):
    """The Measured of all seeds of a variant after an epoch, by seed."""
    return [one for one in measured if (one.variant, one.epoch) == (variant, epoch)]


def differences(config, measured):
    """What each change makes of every measure over all blocks, seed by seed: {change: {measure: float64 (S,)}}.

    training: the last epoch against the first weights; else a variant against NETWORK.
    """
    last = {variant: of_variant(measured, variant, config.EPOCHS) for variant in (BASE, *config.VARIANTS)}
    pairs = {"training": (last[BASE], of_variant(measured, BASE, 0))}
    pairs |= {variant: (last[variant], last[BASE]) for variant in config.VARIANTS}
    return {
        change: {
            name: np.array([one.total(name) - other.total(name) for one, other in zip(*pair, strict=True)], float)
            for name in MEASURES
        }
        for change, pair in pairs.items()
    }


def by_depth(measured, name, epoch, as_share):
    """A measure of each block, or as a share of its units, %: float64 (S, blocks)."""
    return np.array([
        [100 * of[name] / of["units"] if as_share else of[name] for of in one.blocks.values()]
        for one in of_variant(measured, BASE, epoch)
    ], float)  # fmt: skip


def told(config, measured):
    """The story of the study: report.experiment.Story."""
    changes = differences(config, measured)
    return Story(
        title="What training makes",
        verdict=sentence_of("training", changes["training"]),
        sentences=[
            f"{config.TRAIN_IMAGES} rendered faces of {len(BY_GROUPS)} groups of age, gender and skin tone, which are "
            f"told apart; {config.NETWORK}, {config.SIDE_PX} px, {config.EPOCHS} epochs, {config.SEEDS} seeds. Counts "
            "are over all blocks; intervals of 95 % are over seeds, which decide the first weights and the order.",
            initialisation_sentence(config, measured),
            depth_sentence(config, measured, _STANDS, as_share=True),
            depth_sentence(config, measured, _UNIQUE, as_share=False),
            *(sentence_of(variant, changes[variant]) for variant in config.VARIANTS),
            accuracy_sentence(config, measured),
        ],
        panels=panels_of(config, measured),
        tables=[change_table(changes), count_table(config, measured)],
        about=about_of(config),
        rows=change_rows(changes),
    )  # fmt: skip


def sentence_of(change, of):
    """What a change makes, in words, beside what was published."""
    parts = []
    for name in (_STANDS, _UNIQUE):
        low, high = mean_interval(of[name])
        said = "more" if low > 0 else "fewer" if high < 0 else "no difference shown"
        parts.append(f"{MEASURES[name]} {_of_difference(of[name])}: {said}")
    wider = change[:1] == "x" and float(change[1:]) > 1
    return f"{name_of(change)}: {'; '.join(parts)}.{published('wider' if wider else change)}"


def published(change):
    return f" CVPR 2017: {PUBLISHED[change]}." if change in PUBLISHED else ""


def initialisation_sentence(config, measured):
    parts = []
    for name in (_STANDS, _UNIQUE):
        of = [one.total(name) for one in of_variant(measured, BASE, config.EPOCHS)]
        low, high = mean_interval(of)
        parts.append(
            f"{MEASURES[name]} {', '.join(map(str, of))}: mean {np.mean(of):.1f} ({low:.1f} to {high:.1f}), from seed "
            f"to seed a standard deviation of {np.std(of, ddof=1):.1f}"
        )
    return f"initialisation: {'; '.join(parts)}.{published('initialisation')}"


def depth_sentence(config, measured, name, as_share):
    numbers = by_depth(measured, name, config.EPOCHS, as_share)
    if numbers.shape[1] < 2:
        return "depth: the network has one block."
    trend = Trend.of(range(numbers.shape[1]), numbers)
    said = "more" if trend.p <= config.ALPHA else "fewer" if trend.p_falls <= config.ALPHA else "no trend shown"
    means = ", ".join(f"{mean:.0f}" for mean in numbers.mean(axis=0))
    return (
        f"depth: {MEASURES[name]} from block to block {means}{' % of the units' if as_share else ''}, Spearman's rho "
        f"{trend.rho:.2f}, p {min(trend.p, trend.p_falls):.4f}: {said}.{published('depth')}"
    )


def accuracy_sentence(config, measured):
    parts = []
    for variant in (BASE, *config.VARIANTS):
        of = [one.accuracy for one in of_variant(measured, variant, config.EPOCHS)]
        parts.append(f"{name_of(variant)} {np.mean(of):.0%}")
    return f"Faces of the test told right (chance {1 / len(BY_GROUPS):.0%}): {', '.join(parts)}."


def panels_of(config, measured):
    """What is drawn: over epochs, over depth, by variant, by region and type."""
    epochs, trained = [0, *config.KEEP_EPOCHS], of_variant(measured, BASE, config.EPOCHS)
    over_epochs = {
        MEASURES[name]: {epoch: [one.total(name) for one in of_variant(measured, BASE, epoch)] for epoch in epochs}
        for name in MEASURES
    }
    states = {"untrained": 0, "trained": config.EPOCHS}
    over_depth = {
        state: dict(enumerate(by_depth(measured, _STANDS, epoch, as_share=True).T.tolist(), 1))
        for state, epoch in states.items()
    }
    by_variant = {
        MEASURES[name]: {
            name_of(variant): [one.total(name) for one in of_variant(measured, variant, config.EPOCHS)]
            for variant in (BASE, *config.VARIANTS)
        }
        for name in (_STANDS, _UNIQUE)
    }
    by_place = {
        state: {
            place.replace("_Region", ""): [one.places[place] for one in of_variant(measured, BASE, epoch)]
            for place in trained[0].places
        }
        for state, epoch in states.items()
    }
    return [
        Panel("units, all blocks", "epochs", over_epochs),
        Panel("confirmed detectors, % of the block's units", "block", over_depth),
        Panel("units, all blocks", "", by_variant),
        Panel("confirmed detectors by region and type", "", by_place),
    ]


def change_table(changes):
    """Rows of text: what each change makes; the first is a header."""
    return [("change, mean difference [95 %]", *MEASURES.values()), *(
        (name_of(change), *(_of_difference(of[name]) for name in MEASURES)) for change, of in changes.items()
    )]  # fmt: skip


def _of_difference(of):
    low, high = mean_interval(of)
    return f"{of.mean():+.1f} [{low:+.1f}, {high:+.1f}]" if low < high else f"{of.mean():+.1f} in all seeds"


def count_table(config, measured):
    """Rows of text: mean counts of every network; the first is a header."""
    states = [(BASE, epoch) for epoch in (0, *config.KEEP_EPOCHS)] + [(name, config.EPOCHS) for name in config.VARIANTS]
    return [("network, mean over seeds", *MEASURES.values()), *(
        (f"{name_of(variant)}, epoch {epoch}",
         *(f"{np.mean([one.total(name) for one in of_variant(measured, variant, epoch)]):.1f}" for name in MEASURES))
        for variant, epoch in states
    )]  # fmt: skip


def change_rows(changes):
    """A row per change and measure: mean difference with its interval, and that of each seed; the first a header."""
    rows = [
        [change, name, *(f"{value:.6g}" for value in (of.mean(), *mean_interval(of), *of))]
        for change, by_name in changes.items() for name, of in by_name.items()
    ]  # fmt: skip
    return [["change", "measure", "difference", "low", "high", *(f"seed{n}" for n in range(len(rows[0]) - 5))], *rows]


def about_of(config):
    """{what: text}, for the report."""
    return {
        "networks": "; ".join(f"{name_of(of)}: {changed(config.NETWORK, of)}" for of in (BASE, *config.VARIANTS)),
        "training": f"batches of {config.TRAIN_BATCH}, AdamW, one cycle to {config.LEARNING_RATE:g}",
        "dissected on": str(config.DICTIONARY),
        "program": f"Hierarchical Network Dissection {VERSION}",
    }


# ------------------------------------------------------------------------------------------------------ what it leaves


def write_counts(path, story, measured):
    """Write a line per network, epoch and block."""
    rows = [
        [name_of(one.variant), one.seed, one.epoch, block, *(of[name] for name in (*MEASURES, "units"))]
        for one in measured for block, of in one.blocks.items()
    ]  # fmt: skip
    write_csv(path, [["network", "seed", "epoch", "block", *MEASURES, "units"], *rows])


def write_places(path, story, measured):
    """Write a line per network and epoch: accuracy, and its confirmed detectors per region and type."""
    places = list(measured[0].places)
    rows = [
        [name_of(one.variant), one.seed, one.epoch, "" if one.accuracy is None else f"{one.accuracy:.6f}",
         *(one.places[place] for place in places)]
        for one in measured
    ]  # fmt: skip
    write_csv(path, [["network", "seed", "epoch", "accuracy", *places], *rows])


REPORTS = (
    Stage("_counts.csv", "counts", RESULT, make=write_counts),
    Stage("_places.csv", "places", RESULT, make=write_places),
    *STORY_REPORTS,
)


if __name__ == "__main__":
    run_script(main, "stopped: finished networks and dissections are kept, and the same command goes on from here")
