"""What of the bias of a layer's units is chance, as reports say and show it (method.md §8.9)."""

import numpy as np

from report.tables import cell

# What the figures mean, in plain words: {term: text}.
MEANING = {
    "probability": "P(g|u): how strongly the unit responds to photographs of a subgroup, as a share of what it does to "
    "all subgroups. Of two subgroups, 0.5 means that it makes no difference between them.",
    "cut-off": "From this probability on a unit counts as biased in the published method: 0.55 of two subgroups, of "
    "more 1.2 times the even share, 0.4 of three and 0.3 of four. It knows nothing of chance: "
    "where photographs are few or a unit responds to few of them, most units reach it by chance.",
    "95 % interval": "Where the figure would probably lie with other photographs of the same kind. For probabilities "
    "the photographs were drawn again, with repetition, many times over (bootstrap).",
    "AUC": "An AUC of 0.8 means: of two photographs, one of the subgroup and one of the others, the unit responds more "
    "strongly to that of the subgroup in 80 of 100 cases. 0.5 is no difference; below, it responds more weakly.",
    "p": "How often chance alone would make as large a difference, if the subgroup meant nothing to the unit. Women "
    "and men of a dictionary may differ in age or skin tone as well: where photographs lie in folders of other "
    "concepts, too, only those are compared whose other labels agree (strata). Rendered faces are compared in sets "
    "that differ in nothing but the subgroup.",
    "q": "If all units with a q up to this were called biased, about this share of them would be called so by chance "
    "alone. Many units and subgroups were tried; q takes account of that.",
    "twin": "The share of units of untrained twins, the same network with random weights, that tell the subgroup from "
    "the others at least as well. What many of them have too, training did not make: pictures of subgroups differ in "
    "brightness, colour or sharpness, and random filters respond to that.",
    "too few images": "Groups of these sizes could not even show a large difference (an AUC of 0.7 or 0.3): nothing is "
    "said of them.",
    "not judged": "It reaches the cut-off, and whether by chance was not asked (ALPHA).",
    "unbiased": "The probability is below the cut-off of this subgroup. Bias is told of the subgroup that the unit "
    "responds to: of two, the other is always below.",
    "not shown": "It reaches the cut-off, and chance may have made it so: q is above ALPHA. Or its AUC is not above "
    "0.5: a few very high peaks reach the cut-off, and most of the subgroup's photographs do not lie above the others.",
    "as without training": "There is a difference, and of the units of untrained twins more than a share of ALPHA have "
    "one as large.",
    "biased": "It reaches the cut-off, its AUC is above 0.5, chance does not explain it, and hardly an untrained unit "
    "has it.",
}  # fmt: skip

# Arrays of method.bias_chance.BiasChance that are told of every unit and subgroup, behind its probability.
_TOLD = ("low", "high", "auc", "auc_low", "auc_high", "p", "q")


def chance_rows(evidence):
    """Rows of a table, a header, then one per unit, concept and subgroup. evidence: list of BiasEvidence."""
    yield ["unit", "concept", "group", "probability", *_TOLD, "twin", "verdict"]
    for unit in range(len(evidence[0].verdicts)):
        for of in evidence:
            for place, group in enumerate(of.bias.groups):
                numbers = [cell(value) for value in _numbers(of, unit, place).values()]
                yield [unit, of.bias.concept, group, *numbers, of.verdicts[unit, place]]


def count_rows(evidence):
    """Rows of a table, a header, then one per concept and subgroup of the network and of each untrained twin: how many
    units reach the cut-off, and how many have each verdict. evidence: list of BiasEvidence.
    """
    yield ["concept", "group", "of", "units", "cut_off", *(name.replace(" ", "_") for name in evidence[0].counts())]
    for of in evidence:
        for place, group in enumerate(of.bias.groups):
            for number, one in enumerate([of, *of.of_twins()]):
                who = f"twin {number}" if number else "network"
                counts = [count[group] for count in one.counts().values()]
                yield [of.bias.concept, group, who, len(one.verdicts), int(one.bias.biased[:, place].sum()), *counts]


def chance_as_dict(evidence):
    """{unit: {concept: {subgroup: {name: value}}}}, plain values by the names of chance_rows; NaN was left out."""
    return {
        unit: {
            of.bias.concept: {
                group: {**{name: float(value) for name, value in _numbers(of, unit, place).items()},
                        "verdict": str(of.verdicts[unit, place])}
                for place, group in enumerate(of.bias.groups)
            }
            for of in evidence
        }
        for unit in range(len(evidence[0].verdicts))
    }  # fmt: skip


def _numbers(evidence, unit, place):
    of_chance = {name: getattr(evidence.chance, name)[unit, place] for name in _TOLD}
    probability, twin = evidence.bias.probabilities[unit, place], evidence.twin[unit, place]
    return {"probability": probability, **of_chance, "twin": twin}


def chance_line(evidence, unit, place):
    """What is said of a unit and a subgroup, in a line: the verdict and what it rests on."""
    found = _numbers(evidence, unit, place)
    parts = [f"{evidence.bias.groups[place]} {evidence.verdicts[unit, place]}"]
    if not np.isnan(found["low"]):
        parts.append(f"95 % {found['low']:.4f} to {found['high']:.4f}")
    parts.append(f"AUC {found['auc']:.4f} ({found['auc_low']:.4f} to {found['auc_high']:.4f})")
    parts += [f"{name} {found[name]:.3g}" for name in ("q", "twin") if not np.isnan(found[name])]
    return ", ".join(parts)


def verdict_table(evidence):
    """One BiasEvidence as rows of text: a header of subgroups, units beyond the cut-off, and the verdicts."""
    groups = evidence.bias.groups
    beyond = evidence.bias.biased.sum(axis=0).tolist()
    rows = [(f"{evidence.bias.concept}, verdicts", *groups), ("reach the cut-off", *map(str, beyond))]
    return rows + [(name, *(str(of[group]) for group in groups)) for name, of in evidence.counts().items()]


def beyond_cut_off(evidence):
    """The shares of units that reach the cut-off for any subgroup, as texts: the network's, and its twins'."""
    own, twins = evidence.beyond_cut_off()
    return f"{own:.1%}", ", ".join(f"{share:.1%}" for share in twins) or "left out"


def network_line(evidence):
    own, twins = beyond_cut_off(evidence)
    network = f"the network's share of units beyond the cut-off is {own}"
    return f"{evidence.bias.concept}: {network}, its untrained twins' {twins}"


def left_out(evidence):
    """Notes on what was left out. evidence: BiasEvidence of any number of concepts or layers."""
    notes, first = [], next(iter(evidence))
    if first.alpha is None:
        notes.append("ALPHA=None judges nothing: beyond the cut-off there is no verdict")
    elif not first.twins:
        notes.append("TWINS left the untrained twins out: biased means no more than unlikely by chance")
    if not first.chance.resampled.shape[2]:
        notes.append("BOOTSTRAPS left the intervals of probabilities out")
    return notes
