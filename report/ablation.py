"""What people read about ablation: tables, plots and sentences made from the run (method.md §9)."""

from dataclasses import dataclass
from textwrap import shorten
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from method.ablation import at_least
from report.plots import colours, readable, write_pdf
from report.tables import aligned, cell, write_csv
from store.ablation import report_inputs
from store.layer import Stage

_STRIKING = 0.05  # of random sets that do as much, the most at which a set is spoken of


class Wording(NamedTuple):
    """How a measure is told. says: with {group} and {value}. scale: from its numbers to those told. short: for tables
    and axes. digits: behind the point.
    """

    says: str
    scale: float
    short: str
    digits: int


WORDS = {
    "log_odds": Wording("costs {group} {value} of the log-odds of the right class", -1, "log-odds lost", 2),
    "accuracy": Wording("costs {group} {value} points of accuracy", -100, "accuracy lost, points", 1),
    "auc": Wording("costs {group} {value} points of AUC", -100, "AUC lost, points", 1),
    "moved": Wording("moves the age of {group} by {value} years", 1, "years moved", 2),
    "shift": Wording("makes {group} {value} years older", 1, "years older", 2),
    "error": Wording("adds {value} years to the least error on {group}", 1, "years of error added", 2),
    "displacement": Wording(
        "moves the points of {group} by {value} % of the distance between the eyes", 100, "moved, % of eye distance", 2
    ),
    "share_eyes": Wording("puts {value} % of the movement of {group} on the eyes", 100, "share of the eyes, %", 1),
}
_UNITS_TOLD = 20  # of single units, in the PDF


def wording(measure):
    """The Wording of a measure, also of one point or class."""
    if measure in WORDS:
        return WORDS[measure]
    kind, _, what = measure.partition("_")
    of = {"displacement": "moved, % of eye distance", "share": "share of the movement, %", "auc": "AUC lost, points"}
    says = {"share": f"puts {{value}} % of the movement of {{group}} on the {readable(what)}"}.get(kind, "")
    return Wording(says, -100 if kind == "auc" else 100, f"{readable(what)}: {of[kind]}", 1)


@dataclass(frozen=True)
class Ablation:
    """What came out of one layer, U units, S sets of units.

    layer: its name. about: {what: text}. notes: texts. predicts: what the network predicts, in words. ablate_to:
    'zero' or 'mean'. members: {group: bool (n,)} of G groups of photographs. contrasts: pairs of them, which stand
    behind them in every Effect. sets: list of UnitSet. random: {size: places of the random sets among of_random's}.
    matters: float64 (3, U), each unit's importance on all photographs, their first half and their second. findings,
    evidence: Findings and Evidence, or None. biases: list of BiasEvidence, perhaps empty. agreement: Spearman's rho of
    IoU and importance, low, high; reliability: the same of the importance on either half. of_units, of_sets,
    of_random: {measure: Effect} of each unit alone, the sets, everything that was ablated.
    """

    layer: str
    about: dict
    notes: list
    predicts: str
    ablate_to: str
    members: dict
    contrasts: list
    sets: list
    random: dict
    matters: np.ndarray
    findings: object
    evidence: object
    biases: list
    agreement: tuple
    reliability: tuple
    of_units: dict
    of_sets: dict
    of_random: dict

    @property
    def groups(self):
        """The names of the groups and, behind them, of the gaps between two."""
        return [*self.members, *(f"{one} less {other}" for one, other in self.contrasts)]

    @property
    def leading(self):
        return next(iter(self.of_units))

    @property
    def told_sets(self):
        """Places of the sets that are told of one by one: not those of the curves."""
        return [place for place, one in enumerate(self.sets) if one.kind != "curve"]

    def random_of(self, measure, size):
        """The effects of the random sets of a size: float64 (R, G)."""
        return self.of_random[measure].value[self.random[size]]

    def units_by_importance(self):
        return np.argsort(-self.matters[0], kind="stable").tolist()

    def label(self, unit):
        """A unit's concept, empty where it is not known."""
        return (self.findings.top_concept(unit) or "") if self.findings else ""

    def verdict(self, unit):
        """What is said of a unit's bias: the subgroups beyond the cut-off, those by §8.9 called biased in capitals."""
        parts = []
        for of in self.biases:
            for place, group in enumerate(of.bias.groups):
                if of.bias.biased[unit, place]:
                    parts.append(f"{group} ({of.verdicts[unit, place]})")
        return "; ".join(parts)


# -------------------------------------------------------------------------------------------------------------- tables

_HEADER = [
    "kind", "set", "units", "count", "group", "photographs", "measure", "before", "effect", "low", "high",
    "random_mean", "random_low", "random_high", "random_at_least",
]  # fmt: skip


def write_sets(path, found):
    """Write a line per set of units, group of photographs and measure: the effect with its 95 % interval, beside the
    random sets of the same size: their mean, 2.5 and 97.5 percentile, and the share that has at least such an effect.
    """
    rows = [_HEADER]
    sizes = [int(of.sum()) for of in found.members.values()] + [""] * len(found.contrasts)
    for measure, effect in found.of_sets.items():
        for place, one in enumerate(found.sets):
            random = found.random_of(measure, len(one.units))
            levels = _levels(effect.value[place], random)
            listed = " | ".join(" ".join(map(str, part)) for part in dict.fromkeys(map(tuple, one.for_halves)))
            for group, name in enumerate(found.groups):
                numbers = (effect.before, effect.value[place], effect.low[place], effect.high[place], *levels)
                cells = [cell(of[group]) for of in numbers]
                rows.append([one.kind, one.name, listed, len(one.units), name, sizes[group], measure, *cells])
    write_csv(path, rows)


def _levels(value, random):
    """Mean, 2.5 and 97.5 percentile of random sets, and the share that reaches the value: four arrays (G,)."""
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(random, (2.5, 97.5), axis=0)
        return random.mean(axis=0), low, high, at_least(value, random)


def write_units(path, found):
    """Write a line per unit, by falling importance: its label, IoU and bias, and what ablating it alone does to every
    group and measure, with 95 % intervals for the leading one.
    """
    columns = [
        (f"{measure}, {name}", effect.value[:, group])
        for measure, effect in found.of_units.items() for group, name in enumerate(found.groups)
        if not np.isnan(effect.value[:, group]).all() and name.count(",") == 0
    ]  # fmt: skip
    leading = found.of_units[found.leading]
    header = ["unit", "importance", "first_half", "second_half", "low", "high", "label", "iou", "interpretable",
              "confirmed", "beyond_cut_off"]  # fmt: skip
    rows = [header + [name for name, _ in columns]]
    for unit in found.units_by_importance():
        of_label = [""] * 3
        if found.findings:
            confirmed = int(found.evidence.confirmed[unit]) if found.evidence.judged else ""
            of_label = [cell(found.findings.top_iou[unit]), int(found.findings.interpretable[unit]), confirmed]
        numbers = [cell(of[unit]) for of in (*found.matters, leading.low[:, 0], leading.high[:, 0])]
        rows.append([unit, *numbers, found.label(unit), *of_label, found.verdict(unit),
                     *(cell(values[unit]) for _, values in columns)])  # fmt: skip
    write_csv(path, rows)


def write_report(path, found):
    """Write the PDF: what was found in sentences, tables, then the plots."""
    notes = [*sentences(found), *found.notes]
    figures = [single_units(found)]
    if any(one.kind == "curve" for one in found.sets):
        figures.append(curves_of(found))
    if any(one.kind == "region" for one in found.sets):
        figures.append(matrix(found))
    about = {**found.about, "ablated to": found.ablate_to}
    write_pdf(path, f"Ablation of {found.layer}", about, notes, tables_of(found), figures)


def ablation_reports(name=""):
    """The files that people read, as Stages. name: see store.ablation.sets_stage. make: function of path, Ablation."""
    inputs = report_inputs(name)
    return (
        Stage(f"_ablation{name}.csv", "sets of units", inputs, make=write_sets),
        Stage(f"_ablation_units{name}.csv", "single units", inputs, make=write_units),
        Stage(f"_ablation{name}.pdf", "report", inputs, make=write_report),
    )


# ----------------------------------------------------------------------------------------------------------- sentences


def sentences(found):
    """What was found, made from the numbers: list of texts, the layer as a whole, then the sets that do to a group what
    at most one in twenty random ones does, then which others do not.
    """
    told = [
        of_set
        for place in found.told_sets
        for measure in ("accuracy", *_measures_told(found)) if measure in found.of_sets
        for of_set in _of_set(found, place, measure)
    ]  # fmt: skip
    striking = [sentence for sentence, is_striking, _ in told if is_striking]
    others = list(dict.fromkeys(name for _, is_striking, name in told if not is_striking))
    share = f"{_cut_off(found):.0%} of the random sets"
    alike = [f"To no group as much as at most {share}: {'; '.join(others)}."] if others else []
    tried = [
        f"Told are the sets that do to a group what at most {share} do; {len(told)} sentences of several groups were "
        "tried, and of random sets, too, more than that share would be told."
    ] if any(found.sets[place].kind != "own" for place in found.told_sets) else []  # fmt: skip
    return [*_of_layer(found), *tried, *striking, *alike]


def _cut_off(found):
    """The largest share of random sets with as much at which a set is spoken of: no less than their number can show."""
    return max(_STRIKING, 1 / (len(next(iter(found.random.values()))) + 1))


def _measures_told(found):
    """The measures of which there are sentences, of points the share of each and of both eyes."""
    return [
        measure for measure in found.of_sets
        if measure in ("log_odds", "shift", "displacement") or measure.startswith("share")
    ]  # fmt: skip


def _groups_told(found):
    """The groups that a sentence names together: all photographs, or the subgroups of one concept. Lists of names."""
    by_concept = {}
    for name in found.members:
        if name != "all" and "," not in name:
            by_concept.setdefault(name.partition(": ")[0], []).append(name)
    return [["all"], *by_concept.values()]


def _of_set(found, place, measure):
    """A sentence per concept on one set: what it does to each of its subgroups, beside random sets; whether it is to be
    told, as the user's own sets always are; and what it is about, in a few words.
    """
    one, words, effect = found.sets[place], wording(measure), found.of_sets[measure]
    random = found.random_of(measure, len(one.units))
    for names in _groups_told(found):
        at = [found.groups.index(name) for name in names]
        if one.kind == "biased" and not any(name in one.name for name in names):
            continue  # of what they are biased about alone
        if measure == "accuracy" and not effect.value[place, at].any():
            continue  # nobody is told otherwise: the log-odds say more
        if np.isnan(effect.value[place, at]).any() or (measure.startswith("share") and names != ["all"]):
            continue
        gap = f"{names[0]} less {names[-1]}"
        if len(names) == 2 and gap in found.groups:
            names, at = [*names, gap], [*at, found.groups.index(gap)]
        parts = [
            told_value(effect.value[place, group], effect.low[place, group], effect.high[place, group], words)
            for group in at
        ]  # fmt: skip
        people = [_people(name) for name in names]
        first = words.says.format(group=people[0], value=parts[0])
        rest = "".join(f", {group} {value}" for group, value in zip(people[1:], parts[1:], strict=True))
        means, low, high, reached = _levels(effect.value[place], random)
        chance = "; ".join(
            f"{'' if len(at) == 1 else person + ' '}{_number(means[group], words)} (95 % of them "
            f"{_range(low[group], high[group], words)}), as much in {reached[group]:.0%}"
            for person, group in zip(people, at, strict=True)
        )
        count = len(one.units)
        sentence = (
            f"Removing {_called(one)} {first}{rest}; {len(random)} random sets of {count} unit{'s' * (count > 1)}: "
            f"{chance}."
        )
        concept = "" if names == ["all"] else f" by {names[0].partition(': ')[0]}"
        is_striking = one.kind == "own" or reached[at].min() <= _cut_off(found)
        yield sentence, is_striking, readable(f"{_called(one)} ({words.short}{concept})")


def _called(one):
    """A set in words, with how many units it has."""
    if one.kind == "own":
        return one.name
    count, name = len(one.units), readable(one.name)
    return f"the {count} {name if count > 1 else name.replace('units', 'unit').replace('detectors', 'detector')}"


def told_value(value, low, high, words):
    """A value with its interval, scaled and turned as its measure is told."""
    between = "" if np.isnan(low) else f" ({_range(low, high, words)})"
    return _number(value, words) + between


def _number(value, words):
    return _rounded(words.scale * value, words)


def _rounded(value, words):
    return f"{round(float(value), words.digits) + 0.0:.{words.digits}f}"  # no -0.0


def _range(low, high, words):
    ends = sorted((words.scale * low, words.scale * high))
    return " to ".join(_rounded(end, words) for end in ends)


def _people(group):
    if " less " in group:
        return " less ".join(map(_people, group.split(" less ")))
    return "all photographs" if group == "all" else readable(group.partition(": ")[2])


def _of_layer(found):
    """Sentences on the layer as a whole: what its single units do, and whether the IoU tells which of them matter."""
    words, effect = wording(found.leading), found.of_units[found.leading]
    first = found.units_by_importance()[:5]
    values = [
        f"{unit}{' ' + found.label(unit) if found.label(unit) else ''} "
        f"{told_value(effect.value[unit, 0], effect.low[unit, 0], effect.high[unit, 0], words)}"
        for unit in first
    ]  # fmt: skip
    median = np.median(effect.value[:, 0])
    yield (
        f"Of single units the most important are ({words.short}): {'; '.join(values)}; the middle one of all "
        f"{len(effect.value)}: {_number(median, words)}."
    )
    yield (
        f"Importance measured on one half of the photographs agrees with that on the other: Spearman's rho "
        f"{_rho(found.reliability)}."
    )
    if found.findings is not None:
        _, low, high = found.agreement
        said = "more important" if low > 0 else "less important" if high < 0 else "not shown to be more important"
        yield (
            f"Units with a higher IoU are {said}: Spearman's rho of IoU and importance {_rho(found.agreement)}; labels "
            "dealt out at random would give 0."
        )


def _rho(found):
    rho, low, high = found
    return "-" if np.isnan(rho) else f"{rho:.2f} (95 % over units {low:.2f} to {high:.2f})"


def tables_of(found):
    """Rows of text for the PDF and the terminal: the sets, the most important units; the first of each its header."""
    measures = [measure for measure in found.of_sets if measure in WORDS]
    sets = [("set (all photographs)", "units", *(WORDS[measure].short for measure in measures))]
    for place in found.told_sets:
        one, cells = found.sets[place], []
        for measure in measures:
            effect, words = found.of_sets[measure], WORDS[measure]
            random = found.random_of(measure, len(one.units))[:, 0]
            value = _number(effect.value[place, 0], words)
            cells.append(f"{value} (random {_number(random.mean(), words)})")
        sets.append((_in_a_cell(one), str(len(one.units)), *cells))
    words, effect = wording(found.leading), found.of_units[found.leading]
    groups = [name for name in found.members if "," not in name]
    units = [(f"unit, label: {words.short}", *(_people(name).removesuffix(" photographs") for name in groups))]
    for unit in found.units_by_importance()[:_UNITS_TOLD]:
        at = [found.groups.index(name) for name in groups]
        units.append((f"{unit} {found.label(unit)}", *(_number(effect.value[unit, group], words) for group in at)))
    return [sets, units] if len(sets) > 1 else [units]


def _in_a_cell(one):
    """What a set is, short enough for a table; its number of units stands beside it."""
    name = one.name if one.kind == "own" else one.name.removeprefix("units ").replace(" the cut-off for", " cut-off,")
    return shorten(readable(name).replace("biased towards", "biased,"), 36, placeholder=" …")


def printed(found):
    """What was found, as lines for the terminal."""
    tables = [line for rows in tables_of(found) for line in ["", *aligned(rows)]]
    count = int(found.members["all"].sum())
    lines = [f"\n{found.layer}: {found.predicts}, on {count} photographs"]
    return [*lines, *("  " + line for line in [*sentences(found), *found.notes, *tables])]


# --------------------------------------------------------------------------------------------------------------- plots


def single_units(found):
    """The effect of every single unit, the most important first, with intervals and colours by region."""
    words, effect = wording(found.leading), found.of_units[found.leading]
    order = found.units_by_importance()
    regions = [
        found.findings.region_of[found.label(unit)] if found.findings and found.findings.interpretable[unit]
        else "no detector" for unit in order
    ]  # fmt: skip
    colour = {**colours([name for name in dict.fromkeys(regions) if name != "no detector"]), "no detector": "#BBBBBB"}
    figure = Figure(figsize=(max(7, 1.5 + 0.09 * len(order)), 4.6), layout="constrained")
    axes = figure.add_subplot()
    places, values = np.arange(len(order)), words.scale * effect.value[order, 0]
    for region in dict.fromkeys(regions):
        of = np.array([name == region for name in regions])
        axes.bar(places[of], values[of], 0.9, color=colour[region], label=readable(region))
    ends = words.scale * np.array([effect.low[order, 0], effect.high[order, 0]])
    axes.vlines(places, *np.sort(ends, axis=0), color="#444444", linewidth=0.8)
    if len(order) <= 80:
        axes.set_xticks(places, [str(unit) for unit in order], rotation=90, fontsize=5.5)
    axes.set(title=f"{found.layer}: each unit ablated alone", xlabel="units by falling importance", ylabel=words.short)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def curves_of(found):
    """The effect against the number of units removed, in several orders; random ones as their range."""
    measures = [measure for measure in found.of_sets if measure in WORDS and measure != "share_eyes"]
    figure = Figure(figsize=(4.4 * len(measures), 4.4), layout="constrained")
    figure.suptitle(f"{found.layer}: units removed one after the other")
    orders = list(dict.fromkeys(one.name.partition(" by ")[2] for one in found.sets if one.kind == "curve"))
    colour, sizes = colours([*orders, "random"]), sorted(found.random)
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        words, effect = WORDS[measure], found.of_sets[measure]
        random = words.scale * np.array([found.random_of(measure, size)[:, 0] for size in sizes])
        axes.fill_between(sizes, *np.percentile(random, (2.5, 97.5), axis=1), color=colour["random"], alpha=0.2, lw=0)
        axes.plot(sizes, random.mean(axis=1), color=colour["random"], label="random")
        for name in orders:
            at = [place for place, one in enumerate(found.sets)
                  if one.kind == "curve" and one.name.endswith(f" by {name}")]  # fmt: skip
            counts = [len(found.sets[place].units) for place in at]
            value, *ends = (words.scale * of[at, 0] for of in (effect.value, effect.low, effect.high))
            axes.plot(counts, value, "o-", ms=3, color=colour[name], label=f"by {name}")
            axes.fill_between(counts, *np.sort(ends, axis=0), color=colour[name], alpha=0.15, lw=0)
        axes.set(xlabel="units removed", ylabel=words.short, xscale="log")
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def matrix(found):
    """What the detectors of each region are worth to each group of photographs, beside the mean of random sets."""
    words, effect = wording(found.leading), found.of_sets[found.leading]
    rows = [place for place, one in enumerate(found.sets) if one.kind == "region"]
    numbers = words.scale * effect.value[rows][:, : len(found.members)]
    chance = words.scale * np.array(
        [found.random_of(found.leading, len(found.sets[place].units)).mean(axis=0) for place in rows]
    )[:, : len(found.members)]  # fmt: skip
    figure = Figure(figsize=(4 + 0.42 * numbers.shape[1], 3.6 + 0.5 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    most = np.nanmax(np.abs(numbers)) or 1
    image = axes.imshow(numbers, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(numbers):
        axes.text(column, row, f"{value:.{words.digits}f}\n({chance[row, column]:.{words.digits}f})", ha="center",
                  va="center", fontsize=5.5)  # fmt: skip
    names = [f"{readable(name)} ({int(of.sum())})" for name, of in found.members.items()]
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=6)
    titles = [f"{readable(found.sets[place].name)} ({len(found.sets[place].units)})" for place in rows]
    axes.set_yticks(range(len(rows)), titles, fontsize=7)
    axes.set_title(f"{found.layer}: {words.short}; in brackets the mean of random sets", fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure
