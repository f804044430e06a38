"""Are this network's units special, or would any direction do? The rotated basis. (method.md §8.8)

Rotates the activation maps that main.py left by random rotations and fractions of them, dissects every rotated basis
like the network's own and counts detectors. A network that computes the same in another basis has other units: if these
detect as much, labels of single units say little about the network. Results go to OUTPUT_FOLDER, the plot to
PLOT_FOLDER; what is finished is kept, and a second run reuses it.
"""

import logging
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from experiments.dissected import OF_OUTCOME, dissected_layers
from method.outcome import Counts, Outcome
from method.rotation import prediction_interval, random_rotation, rotate
from report.curves import curves
from report.plots import save_png, write_pdf
from report.tables import write_csv
from store.arrays import load_as, save_arrays
from store.feature_file import FeatureMaps, require_space
from store.layer import Stage
from store.stages import CHANCE, MAPS, TALLY, TWINS
from util.errors import run_script
from util.files import beside, explained

log = logging.getLogger(__name__)

# Power of the rotation: how many of them, those of the seeds 0, 1, ... The network's own basis is power 0. Of whole
# rotations there are more, for the verdict rests on them.
ROTATIONS = {0.25: 3, 0.5: 3, 0.75: 3, 1: 10}
_WHOLE = 1

_BLOCK_BYTES = 8 << 20  # rotated at a time
_NAMES = Counts("detectors", "confirmed detectors", "unique detectors", "unique confirmed detectors")


def main():
    with dissected_layers(sys.argv[1:], __doc__, twins=True) as layers:
        for layer in layers:
            outcomes = rotated_outcomes(layer)
            words = sentences(layer, outcomes)
            layer.tell(words, [count_table(layer, outcomes)])
            layer.leave(reports_of(outcomes), outcomes, words)


def part_of(power, seed):
    """The file of one rotated basis."""
    inputs = (*OF_OUTCOME, "quantile")
    return Stage(f"_rotation_power{power:g}_seed{seed}.npz", f"rotation {seed} to the power {power:g}", inputs)


def rotated_outcomes(layer):
    """Dissect all rotated bases that are missing, one at a time. Returns {(power, seed): Outcome}, by power, with the
    layer's own at (0, None).
    """
    parts = {(power, seed): part_of(power, seed) for power, number in ROTATIONS.items() for seed in range(number)}
    missing = [of for of, part in parts.items() if not layer.store.is_current(part)]
    for seed in sorted({seed for _, seed in missing}):
        rotation = random_rotation(layer.maps.units, seed)
        for power in (power for power, of_seed in missing if of_seed == seed):
            log.info("%s: %s", layer.store.layer, parts[power, seed].what)
            outcome = outcome_in(layer, rotation.power(power))
            layer.store.make(parts[power, seed], save_arrays, vars(outcome))
    rotated = {of: load_as(Outcome, layer.store.path(part.suffix)) for of, part in parts.items()}
    return {(0, None): layer.own, **rotated}


def outcome_in(layer, matrix):
    """The Outcome of the units whose maps are sums of the layer's, with thresholds of their own. matrix: (U, U)."""
    with rotated_maps(layer.maps, matrix, layer.store) as maps:
        thresholds = layer.operator.quantile_threshold(maps, layer.config.QUANTILE)
        (outcome,) = layer.outcomes(maps, [thresholds])
    return outcome


@contextmanager
def rotated_maps(maps, matrix, store):
    """A memory map of rotated units, float32, which is deleted behind the block; a killed run's is written over."""
    path = beside(store.path(MAPS.suffix), "rotated")
    try:
        with explained(path):
            require_space(store.folder, 4 * int(np.prod(maps.shape)), [f"{store.layer}, rotated,"])
            with open(path, "wb") as file:
                for block in maps.blocks(_BLOCK_BYTES):
                    file.write(rotate(matrix, maps.read(*block)).data)
        yield FeatureMaps(path, maps.shape, "float32", maps.usable)
    finally:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------------- what it says


_VERDICTS = {
    "more": "This network's units are special: more of them are {} than of random directions in the same space.",
    "alike": "Nothing shows that this network's units are special: any direction would do, as far as {} tell.",
    "fewer": "This network's units are worse than any direction: fewer of them are {} than of random directions.",
}


def counts_at(layer, outcomes, power):
    """The Counts of all bases of a power, list."""
    return [layer.counts(outcome) for (of, _), outcome in outcomes.items() if of == power]


def sentences(layer, outcomes):
    """What the counts say: the verdict on the network, then one per count, then its twins. Returns texts."""
    config, units = layer.config, layer.maps.units
    can_confirm = config.PERMUTATIONS and config.ALPHA is not None
    (own,), whole = (counts_at(layer, outcomes, power) for power in (0, _WHOLE))
    words, found = [], {}
    for name, of_own, *of_whole in zip(_NAMES, own, *whole, strict=True):
        if name in (_NAMES.confirmed, _NAMES.confirmed_unique) and not can_confirm:
            continue
        low, high = prediction_interval(of_whole)
        found[name] = "more" if of_own > high else "fewer" if of_own < low else "alike"
        between = f"{max(low, 0):.1f} to {min(high, units):.1f}"
        words.append(
            f"{name}: {of_own} of the network's own {units} units, {_listed(of_whole)} in {len(whole)} random "
            f"rotations, of which one more would have {between} with 95 % probability: {found[name]}."
        )  # fmt: skip
    decides = _NAMES.confirmed if can_confirm else _NAMES.detectors
    twins = [layer.counts(twin) for twin in layer.twins]
    told = [f"{name} {_listed(column)}" for name, column in zip(_NAMES, zip(*twins, strict=True), strict=False)]
    return [
        _VERDICTS[found[decides]].format(decides),
        *words,
        f"untrained twins: {'; '.join(told) or 'none, for they were left out (TWINS)'}.",
    ]


def _listed(counts):
    return ", ".join(map(str, counts))


def count_table(layer, outcomes):
    """Rows of text: what, counts. The first is a header."""
    bases = {
        "the network's own units": layer.own,
        **{f"rotation {seed}, power {power:g}": of for (power, seed), of in outcomes.items() if power},
        **{f"untrained twin {number}": twin for number, twin in enumerate(layer.twins)},
    }
    header = ("basis", "detectors", "confirmed", "unique", "confirmed unique")
    return [header, *((name, *map(str, layer.counts(outcome))) for name, outcome in bases.items())]


def write_counts(path, layer, outcomes, _):
    """Write a line per power and rotation: how many units and labels are detectors."""
    rows = [[power, seed, *layer.counts(outcome)] for (power, seed), outcome in outcomes.items()]
    write_csv(path, [["power", "seed", *Counts._fields], *rows])


def write_concepts(path, layer, outcomes, _):
    """Write a line per power, rotation and concept: how many units detect it, and how many of them are confirmed."""
    rows = [
        [power, seed, concept, *of]
        for (power, seed), outcome in outcomes.items()
        for concept, of in concepts_of(layer, outcome).items()
    ]
    write_csv(path, [["power", "seed", "concept", "detectors", "confirmed"], *rows])


def concepts_of(layer, outcome):
    """{concept: (detectors, confirmed ones) whose label it is}, in concept order, without those that have neither."""
    config, names = layer.config, layer.operator.dictionary.names
    labels = outcome.label[outcome.detectors(config.SCORE_THRESHOLD)]
    stand = outcome.chance_label[outcome.confirmed(config.SCORE_THRESHOLD, config.ALPHA)]
    found = {name: (int((labels == c).sum()), int((stand == c).sum())) for c, name in enumerate(names)}
    return {name: of for name, of in found.items() if any(of)}


def write_report(path, layer, outcomes, words):
    """Write the PDF: the sentences, the counts, the labels of detectors per power, and the plot, also as a PNG."""
    powers, panels = (0, *ROTATIONS), {}
    for place, name in enumerate(_NAMES[:3]):
        rotated = [[counts[place] for counts in counts_at(layer, outcomes, power)] for power in powers]
        twins = [layer.counts(twin)[place] for twin in layer.twins]
        panels[f"{name} of {layer.maps.units} units"] = {
            "rotated units (mean and range)": (powers, rotated),
            **({"untrained twins (mean and range)": ([0], [twins])} if twins else {}),
        }
    title = f"{layer.store.layer}: detectors among rotated units"
    figure = curves(title, panels, "power of the rotation")
    save_png(figure, Path(layer.config.PLOT_FOLDER) / f"{layer.store.layer}_rotation.png")
    about, tables = layer.store.about_of(TALLY.suffix), [count_table(layer, outcomes), concept_table(layer, outcomes)]
    write_pdf(path, f"Rotated units of {layer.store.layer}", about, words, tables, [figure])


def concept_table(layer, outcomes):
    """Rows of text: detectors per label and power, of rotations the mean over all; the first is a header."""
    means, powers = {}, (0, *ROTATIONS)
    for (power, _), outcome in outcomes.items():
        for concept, (detectors, _) in concepts_of(layer, outcome).items():
            means.setdefault(concept, dict.fromkeys(powers, 0))[power] += detectors / ROTATIONS.get(power, 1)
    rows = sorted(means.items(), key=lambda item: -item[1][0])
    header = ("label of detectors, by power", *(f"{power:g}" for power in powers))
    return [header, *((concept, *(f"{mean:.1f}" for mean in of.values())) for concept, of in rows)]


def reports_of(outcomes):
    """The files that people read, as Stages. make: function of path, layer, outcomes and sentences."""
    parts = (part_of(*of).suffix for of in outcomes if of != (0, None))
    inputs = (TALLY.suffix, CHANCE.suffix, TWINS.suffix, *parts, "score_threshold", "alpha")
    return (
        Stage("_rotation.csv", "counts", inputs, make=write_counts),
        Stage("_rotation_concepts.csv", "labels", inputs, make=write_concepts),
        Stage("_rotation.pdf", "report", inputs, make=write_report),
    )


if __name__ == "__main__":
    run_script(main, "stopped: what is finished is kept, and the same command goes on from here")
