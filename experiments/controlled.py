"""Does the dissection find what is there? Networks trained on faces whose bias is known (method.md §6).

Renders training sets in which a share P of the men, and 100 - P % of the women, wear eyeglasses (or are grey), the
same faces in all; trains a gender classifier on each; dissects all blocks of each; and says whether what is found rises
with P. Results, trained networks and dissections go to STUDY_FOLDER; what is finished is kept, and a second run reuses
it.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import controlled_settings
from experiments.faces import eyeglasses, faces_of, grayscale
from experiments.instruments import ColourBias, EyeDetectors
from experiments.stories import RESULT, STORY_REPORTS, leave
from experiments.trained import Recipe, Trained
from experiments.words import read_words, require_chance
from loader.tasks import RANDOM_WEIGHTS
from method.trend import Trend, holm, mean_interval
from rendering.face import GENDERS
from report.experiment import Panel, Story
from report.tables import write_csv
from store.layer import LayerStore, Stage, locked
from store.run import prepare_device
from util.configuration import VERSION
from util.errors import DissectionError, run_script
from util.files import digest, fingerprint

# Settings of other scripts that this one goes without, or by others.
INSTEAD = {
    "TASK": None, "TASKS": None, "TASK_LAYERS": None, "LAYER_NAME": "BLOCKS", "WEIGHTS": None, "CHECKPOINT_KEY": None,
    "ARCHITECTURE": "ARCH", "NUM_CLASSES": None, "MODEL_FOLDER": None, "INPUT_SIZE": "SIDE_PX", "CROP": None,
    "ALIGN_JITTER": None, "TEST_MODE": None, "PRESET": None, "TOPN": None, "GENERATE": None, "PLOT": None,
    "SKIP_MISSING": None, "OUTPUT_FOLDER": "STUDY_FOLDER", "NL_FOLDER": "STUDY_FOLDER", "PLOT_FOLDER": "STUDY_FOLDER",
    "CLEAN": None, "SEED": "SEEDS", "BOOTSTRAPS": None,
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """A controlled experiment. versions: of a face, see experiments.faces. instrument: see experiments.instruments.

    groups: how faces without and with the property are called. property: what men and women have. published: what was
    published of it, and of where it rises most. in_every_block: whether that is said of every block. unused: settings
    that make no difference to it.
    """

    versions: object
    instrument: type
    groups: tuple
    property: str
    published: str
    steepness: str = ""
    in_every_block: bool = False
    unused: tuple = ()


STUDIES = {
    "eyeglasses": Study(
        eyeglasses, EyeDetectors, ("without eyeglasses", "with eyeglasses"), "wear eyeglasses",
        "the number of detectors in Eye_Region rises with P", unused=("TWINS",),
    ),
    "grayscale": Study(
        grayscale, ColourBias, ("in colour", "in grey"), "are shown in grey",
        "the number of biased units rises with P in all four blocks", " Published: more steeply towards 100.",
        in_every_block=True, unused=("DICTIONARY", "QUANTILE", "PERMUTATIONS", "CHANCE_IMAGES"),
    ),
}  # fmt: skip

TASK = "torchvision"  # of the networks, whose ARCHITECTURE is ARCH
UNTRAINED = "untrained"  # stands for P


@dataclass(frozen=True)
class Measured:
    """What was read off one network. share: P, or UNTRAINED. accuracy: {(gender, group): share told right}, empty for
    an untrained one. blocks: {block: {measure: number}}.
    """

    seed: int
    share: int | str
    accuracy: dict
    blocks: dict


def main():
    config = read_words(sys.argv[1:], __doc__, INSTEAD, controlled_settings)
    require_sense(config)
    study, folder = STUDIES[config.NAME], Path(config.STUDY_FOLDER) / f"{config.NAME}_{config.ARCH}_{config.SIDE_PX}px"
    config.device = prepare_device(config)
    results = LayerStore(folder, config.NAME)
    with locked([results]):
        instrument = study.instrument(config, folder)
        seeds = range(config.SEEDS)
        measured = [one for seed in seeds for one in measure_seed(config, study, instrument, folder, seed)]
        story = told(config, study, instrument, measured)
        leave(config, results, REPORTS, story, instrument.measures, measured)


def require_sense(config):
    """Raise DissectionError for settings that contradict each other."""
    if len(set(config.PERCENTAGES)) != len(config.PERCENTAGES) or len(config.PERCENTAGES) < 2:
        raise DissectionError(f"PERCENTAGES is {list(config.PERCENTAGES)!r}: give two or more, none twice")
    config.PERCENTAGES = sorted(config.PERCENTAGES)
    config.BLOCKS = list(config.BLOCKS)
    given = {word.partition("=")[0] for word in config.words}
    if ignored := sorted(given & {*STUDIES[config.NAME].unused}):
        raise DissectionError(f"the {config.NAME} experiment takes no {', '.join(ignored)}: leave it out")
    require_chance(config, dealt="PERMUTATIONS" not in STUDIES[config.NAME].unused)


# ------------------------------------------------------------------------------------------------- training, measuring


def measure_seed(config, study, instrument, folder, seed):
    """Train a network on each set of one seed and measure it, and the untrained one. Yields Measured."""
    faces = faces_of(config, study.versions, LayerStore(folder, f"seed{seed}"), seed)
    recipe = Recipe(
        TASK, config.ARCH, len(GENDERS), config.SIDE_PX, config.EPOCHS, config.TRAIN_BATCH,
        config.LEARNING_RATE, seed,
    )  # fmt: skip
    network = Trained(folder, f"untrained_seed{seed}", recipe, None, config.device)
    yield Measured(seed, UNTRAINED, {}, measure(config, instrument, network, RANDOM_WEIGHTS))
    for share in config.PERCENTAGES:
        images, _ = faces.training_set(share)
        data = fingerprint([digest(images.tobytes()), faces.train_class.tolist()])
        network = Trained(folder, f"p{share}_seed{seed}", recipe, data, config.device)
        with locked([network.store]):
            network.have(images, faces.train_class)
            accuracy = accuracy_of(network, faces, study.groups, config.BATCH_SIZE)
        yield Measured(seed, share, accuracy, measure(config, instrument, network, network.weights()))


def measure(config, instrument, network, weights):
    """What the instrument reads off a network: {block: {measure: number}}."""
    return instrument.measure(network.settings(config, config.BLOCKS, weights))


def accuracy_of(network, faces, groups, batch_size):
    """How many faces of the test are told right: {(gender, group): share}, each face being in both groups."""
    images = faces.test.reshape(-1, *faces.test.shape[2:])  # (2 N, S, S, 3)
    says = network.outputs(images, batch_size).argmax(axis=1).reshape(-1, 2)
    right = says == faces.test_class[:, None]
    return {
        (gender, group): float(right[faces.test_class == number, place].mean())
        for number, gender in enumerate(GENDERS)
        for place, group in enumerate(groups)
    }


# ----------------------------------------------------------------------------------------------------- what it comes to

_SUM = "all blocks"


def numbers_of(measured, name, block):
    """A measure of a block, or of _SUM: {P: list of one number per seed}."""
    found = {}
    for one in measured:
        numbers = [of[name] for at, of in one.blocks.items() if block in (at, _SUM)]
        found.setdefault(one.share, []).append(sum(numbers))
    return found


def trends_of(config, instrument, measured):
    """How each leading measure goes with P: {measure: {block: Trend}}, all blocks together last."""
    trends = {}
    for name in instrument.leading:
        for block in (*config.BLOCKS, _SUM):
            by_share = numbers_of(measured, name, block)
            numbers = np.array([by_share[share] for share in config.PERCENTAGES], float).T  # (S, P)
            trends.setdefault(name, {})[block] = Trend.of(config.PERCENTAGES, numbers)
    return trends


def told(config, study, instrument, measured):
    """The story of the experiment: report.experiment.Story."""
    trends = trends_of(config, instrument, measured)
    return Story(
        title=f"Controlled experiment: {config.NAME}",
        verdict=verdict_of(config, study, instrument, measured, trends),
        sentences=sentences_of(config, study, instrument, measured),
        panels=panels_of(config, study, instrument, measured),
        tables=[trend_table(instrument, trends), accuracy_table(config, study, measured)],
        about=about_of(config),
        rows=trend_rows(trends),
    )


def verdict_of(config, study, instrument, measured, trends):
    """The sentence whether what was published is reproduced."""
    name = instrument.leading[0]
    whole, blocks = trends[name][_SUM], blocks_that_tell(config, instrument, measured)
    raised = holm([trends[name][block].p for block in blocks])
    rising = [block for block, p in zip(blocks, raised, strict=True) if p <= config.ALPHA]
    found = f"{instrument.measures[name]}, Spearman's rho with P {rho_text(whole)} over all blocks, "
    found += f"{_p_text(whole.p)}; of {len(blocks)} blocks they rise in {_listed(rising)} (Holm)"
    if whole.least_p > config.ALPHA:
        sets = f"{len(config.PERCENTAGES)} shares and {config.SEEDS} seed{'s'[: config.SEEDS - 1]}"
        said = f"With {sets} this cannot be decided: even numbers that always rise have {_p_text(whole.least_p)}"
    elif whole.p <= config.ALPHA and (len(rising) == len(blocks) or not study.in_every_block):
        said = "This is reproduced" + (", by one seed, which is a hint" if config.SEEDS == 1 else "")
    elif whole.p <= config.ALPHA:
        said = "This is reproduced in part"
    elif whole.p_falls <= config.ALPHA:
        said = "The contrary is found"
    else:
        said = "This is not reproduced"
    return f"Published: {study.published}. {said}: {found}."


def _listed(names):
    return ", ".join(names) or "none"


def _p_text(p):
    return "p < 0.0001" if p < 0.0001 else f"p {p:.4f}"


def rho_text(trend):
    seeds = len(trend.rhos)
    if seeds == 1:
        return f"{trend.rho:.2f} (one seed: no interval)"
    if trend.low == trend.high:
        return f"{trend.rho:.2f} (the same with {seeds} seeds)"
    single = f"{trend.rho:.2f} of single seeds (95 % of their mean: {trend.low:.2f} to {trend.high:.2f})"
    return f"{trend.rho_of_means:.2f} of the means over {seeds} seeds, {single},"


def blocks_that_tell(config, instrument, measured):
    """The blocks of which the instrument can tell anything: where it locates, those whose maps have several places."""
    return [
        block for block in config.BLOCKS if measured[0].blocks[block]["places"] > 1 or not instrument.locates
    ]  # fmt: skip


def sentences_of(config, study, instrument, measured):
    first, last = config.PERCENTAGES[0], config.PERCENTAGES[-1]
    words = [
        f"{config.TRAIN_IMAGES} rendered faces, half of them men. In each training set P % of the men and 100 - P % of "
        f"the women {study.property}; the faces are the same in all. {config.ARCH}, {config.SIDE_PX} px, "
        f"{config.EPOCHS} epochs; {len(config.PERCENTAGES)} sets, {config.SEEDS} seed{'s' if config.SEEDS > 1 else ''}."
    ]
    for name in instrument.leading:
        numbers = numbers_of(measured, name, _SUM)
        words.append(
            f"{instrument.measures[name]}, all blocks: {_mean(numbers[first])} at P = {first}, "
            f"{_mean(numbers[last])} at P = {last}; untrained {_mean(numbers[UNTRAINED])}."
        )
    words.append(steepness_sentence(config, study, instrument, measured))
    for gender, group in accuracies(measured):
        of = {share: _mean_accuracy(measured, share, (gender, group)) for share in (first, last)}
        words.append(f"{gender} {group}: {of[first]:.0%} told right at P = {first}, {of[last]:.0%} at P = {last}.")
    return [*words, *instrument.remarks(config, measured)]


def steepness_sentence(config, study, instrument, measured):
    """Whether the leading measure rises more steeply in the upper half of the shares than in the lower, over seeds."""
    name, shares = instrument.leading[0], config.PERCENTAGES
    if len(shares) < 3:
        return "Of two shares nothing can be said on where the number rises more steeply."
    by_share = numbers_of(measured, name, _SUM)
    halves = [(shares[0], shares[(len(shares) - 1) // 2]), (shares[len(shares) // 2], shares[-1])]
    lower, upper = (
        10 * (np.array(by_share[end], float) - by_share[start]) / (end - start) for start, end in halves
    )  # (S,) each, per 10 points
    low, high = mean_interval(upper - lower)
    over = f" (difference {low:+.1f} to {high:+.1f}, 95 % over {config.SEEDS} seeds)" if config.SEEDS > 1 else ""
    answer = "more steeply" if low > 0 else "less steeply" if high < 0 else "whether more steeply cannot be told"
    by = dict(zip(halves, (lower, upper), strict=True))
    changes = [f"from P = {start} to {end} by {of.mean():+.1f}" for (start, end), of in by.items()]
    return (
        f"{instrument.measures[name]} change, per 10 points of P, {' and '.join(changes)}{over}: {answer}."
        f"{study.steepness}"
    )


def accuracies(measured):
    """The (gender, group) of whom an accuracy is known, in order."""
    return list(next(one.accuracy for one in measured if one.accuracy))


def _mean(numbers):
    return f"{np.mean(numbers):g}" if len(numbers) == 1 else f"{np.mean(numbers):.1f}"


def _accuracies(measured, share, of):
    return [one.accuracy[of] for one in measured if one.share == share]


def _mean_accuracy(measured, share, of):
    return float(np.mean(_accuracies(measured, share, of)))


def panels_of(config, study, instrument, measured):
    """What is drawn, list of report.experiment.Panel: the leading measures of each block, and accuracies."""
    panels, xlabel = [], f"P: of the men {study.property}, of the women 100 - P, %"
    for name in instrument.leading:
        lines = {block: numbers_of(measured, name, block) for block in config.BLOCKS}
        if instrument.as_share:
            units = {block: numbers_of(measured, "units", block)[config.PERCENTAGES[0]][0] for block in config.BLOCKS}
            lines = {
                block: {share: [100 * number / units[block] for number in of] for share, of in line.items()}
                for block, line in lines.items()
            }
        ylabel = instrument.measures[name].replace("*", "") + (", %" if instrument.as_share else "")
        panels.append(Panel(ylabel, xlabel, lines))
    told_right = {
        f"{gender} {group}": {
            share: [100 * of for of in _accuracies(measured, share, (gender, group))] for share in config.PERCENTAGES
        }
        for gender, group in accuracies(measured)
    }
    return [*panels, Panel("faces of the test told right, %", xlabel, told_right)]


def trend_table(instrument, trends):
    """Rows of text: Spearman's rho of each leading measure and block; the first is a header."""
    blocks = next(iter(trends.values()))
    header = ("rho of means (of seeds [95 %]), p", *(instrument.measures[name].replace("*", "") for name in trends))
    return [header, *((block, *(_of_trend(of[block]) for of in trends.values())) for block in blocks)]


def _of_trend(trend):
    single = f" ({trend.rho:.2f} [{trend.low:.2f}, {trend.high:.2f}])" if len(trend.rhos) > 1 else ""
    return f"{trend.rho_of_means:.3f}{single}, {_p_text(trend.p)}"


def trend_rows(trends):
    """A row per leading measure and block: Spearman's rho with P, its interval over seeds, its p, rho of each seed."""
    rows = [
        [name, block, *(f"{value:.6g}" for value in (of.rho_of_means, of.rho, of.low, of.high, of.p, *of.rhos))]
        for name, blocks in trends.items() for block, of in blocks.items()
    ]  # fmt: skip
    seeds = [f"rho_seed{seed}" for seed in range(len(rows[0]) - 7)]
    return [["measure", "block", "rho_of_means", "rho", "low", "high", "p", *seeds], *rows]


def accuracy_table(config, study, measured):
    shares = config.PERCENTAGES
    header = ("told right, % (mean over seeds)", *(f"P = {share}" for share in shares))
    return [header, *(
        (" ".join(of), *(f"{100 * _mean_accuracy(measured, share, of):.1f}" for share in shares))
        for of in accuracies(measured)
    )]  # fmt: skip


def about_of(config):
    """{what: text}, for the report."""
    faces = config.DICTIONARY if config.NAME == "eyeglasses" else f"{config.TEST_FACES} faces, each in colour and grey"
    return {
        "network": f"{config.ARCH}, blocks {', '.join(config.BLOCKS)}",
        "training": f"{config.TRAIN_IMAGES} faces at {config.SIDE_PX} px, {config.EPOCHS} epochs, {config.SEEDS} "
        f"seed(s), batches of {config.TRAIN_BATCH}, AdamW, one cycle to {config.LEARNING_RATE:g}",
        "dissected on": str(faces),
        "program": f"Hierarchical Network Dissection {VERSION}",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------ what it leaves



def write_counts(path, story, measures, measured):
    """Write a line per network and block."""
    rows = [
        [one.seed, one.share, block, *(f"{of[name]:.10g}" for name in measures)]
        for one in measured for block, of in one.blocks.items()
    ]  # fmt: skip
    write_csv(path, [["seed", "p", "block", *measures], *rows])


def write_accuracy(path, story, measures, measured):
    """Write a line per network, gender and group."""
    rows = [[one.seed, one.share, *of, f"{value:.6f}"] for one in measured for of, value in one.accuracy.items()]
    write_csv(path, [["seed", "p", "gender", "faces", "accuracy"], *rows])


REPORTS = (
    Stage("_counts.csv", "counts", RESULT, make=write_counts),
    Stage("_accuracy.csv", "accuracy", RESULT, make=write_accuracy),
    *STORY_REPORTS,
)


if __name__ == "__main__":
    run_script(main, "stopped: finished networks and dissections are kept, and the same command goes on from here")
