"""One concept of a face is switched and nothing else: how far does the prediction move, and which units carry it?

Renders the same faces with and without a concept (method.md §9), for the same part of the picture. A unit carries of
the movement what is undone when its maps are taken from the other version. Results go to OUTPUT_FOLDER.
"""

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dictionary.render import ensure_rendered, face_of_landmarks
from dictionary.views import WHOLE, view_of
from experiments import counterfactual_settings
from experiments.faces import BY_GROUPS, face_of
from experiments.stories import RESULT, STORY_REPORTS, leave
from experiments.words import read_words
from loader.ablation import NetworkBehind
from loader.predictions import Classes, Points
from method.counterfactual import carried_by, carried_share, paired_mean
from method.resampling import halves, poisson_weights
from rendering.concepts import SWITCHES
from rendering.face import known, switched
from rendering.random_face import MELANIN
from rendering.render import render
from report.experiment import Panel, Story
from report.plots import readable
from report.tables import cell, write_csv
from store.ablation import UnitSet, dissection_of, listed, of_sets, predicting
from store.layer import LayerStore, Stage, locked
from store.run import as_list, crop_of, layer_stores, prepare_device, prepare_dictionary, prepare_model
from util.errors import run_script
from util.parallel import mapped

INSTEAD = {"TASKS": "TASK", "TASK_LAYERS": "LAYER_NAME", "UNITS": None, "ABLATE_TO": None}
SKIN_TONE = "skin_tone"


@dataclass(frozen=True)
class Switch:
    """What switching one concept does to n faces, U units.

    concept: its name. off, on: float64 (n,), the predictions. carried: float64 (U, n), by each unit alone. top, random:
    float64 (n,) and (R, n), by the units that carry most on the other half of the faces, and by random ones, TOPK each.
    """

    concept: str
    off: np.ndarray
    on: np.ndarray
    carried: np.ndarray
    top: np.ndarray
    random: np.ndarray

    @property
    def movements(self):
        return self.on - self.off


def main():
    config = read_words(sys.argv[1:], __doc__, INSTEAD, counterfactual_settings)
    known("concept that can be switched", [name for name in config.SWITCHED if name != SKIN_TONE], SWITCHES)
    ensure_rendered(config.DICTIONARY)
    device = prepare_device(config)
    for layer in as_list(config.LAYER_NAME):
        model = prepare_model(config, config.TASK, [layer], device)
        network = predicting(config, model)
        (store,) = layer_stores(config, model, prepare_dictionary(config, model)).values()
        findings, _, missing = dissection_of(config, store)
        results = LayerStore(Path(config.OUTPUT_FOLDER), f"{store.layer}_counterfactual")
        with locked([results]):
            found = [switch(config, network, concept) for concept in config.SWITCHED]
            story = told(config, network, found, findings, missing, store.about)
            leave(config, results, REPORTS, story, list(unit_rows(config, found, findings)))


# --------------------------------------------------------------------------------------------------- faces, movements


def digests_of(config):
    """What stands for each face in resamples and halves, list of text."""
    return [f"face {number} of seed {config.SEED}" for number in range(config.FACES)]


def versions(number, seed, concept, crop, grid):
    """A face without and with a concept, as the network sees it: uint8 (2, rows, columns, 3).

    Both versions are cut out alike, by the landmarks of the first.
    """
    face = face_of("test", seed, number, BY_GROUPS)
    if concept == SKIN_TONE:
        both = [replace(face, melanin=float(np.mean(MELANIN[tone]))) for tone in ("bright", "dark")]
    else:
        both = [switched(face, concept, shown) for shown in (False, True)]
    pictures, landmarks = zip(*map(render, both), strict=True)
    view = WHOLE
    if crop is not None:
        view = view_of(face_of_landmarks(np.asarray(landmarks[0]), pictures[0].shape[1::-1]), crop)
    return np.stack([view.image(picture, grid) for picture in pictures])


def scalar_of(predicts, numbers, off):
    """The one number that moves: the log-odds of the last class, the age in years, or how far the points are from where
    they were without the concept, in distances between the eyes. numbers, off: float (n, K). Returns float64 (n,).
    """
    if not isinstance(predicts, Points):
        return numbers[:, -1]
    places, before = (of.reshape(len(of), -1, 2) for of in (numbers, off))
    between = np.linalg.norm(before[:, predicts.eyes[0]] - before[:, predicts.eyes[1]], axis=1)
    return np.linalg.norm(places - before, axis=2).mean(axis=1) / between


def unit_of_movement(predicts):
    """What movements are counted in, in words."""
    if isinstance(predicts, Classes):
        return f"log-odds of {predicts.names[-1]}"
    return "distances between the eyes" if isinstance(predicts, Points) else "years"


def switch(config, network, concept):
    """Have the faces in both versions, and see what each unit and the first of them carry. Returns Switch."""
    crop = crop_of(config, network)
    one = partial(versions, seed=config.SEED, concept=concept, crop=crop, grid=network.grid)
    workers = config.WORKERS
    drawn = mapped(one, range(config.FACES), workers, f"faces, {concept}", ahead=8, processes=workers > 1)
    pictures = np.array([pair for _, pair in drawn])
    kept = [], []
    behind = NetworkBehind(network, pictures[: config.BATCH_SIZE, 0])
    parts = [slice(start, start + config.BATCH_SIZE) for start in range(0, config.FACES, config.BATCH_SIZE)]
    for version, of in enumerate(kept):
        of += [behind.keep(pictures[part, version]) for part in parts]
    off, on = (np.concatenate([part.numbers for part in of]) for of in kept)
    scalar = partial(scalar_of, network.spec.predicts, off=off)

    def carried(units):
        swapped = [
            scalar(np.concatenate([
                behind.run(own, units, behind.layout.to_maps(other.maps)) for own, other in zip(*pair, strict=True)
            ]))
            for pair in (kept, kept[::-1])
        ]  # fmt: skip
        return carried_by(scalar(off), scalar(on), *swapped)

    alone = np.array([carried([unit]) for unit in range(behind.units)])
    top, random = first_and_random(config, alone, scalar(on) - scalar(off), carried)
    return Switch(concept, scalar(off), scalar(on), alone, top, random)


def first_and_random(config, alone, movements, carried):
    """What the TOPK units carry that carry most on the other half of the faces, and random sets of as many.

    alone: float (U, n). movements: float (n,). carried: function of units -> float (n,). Returns float (n,), (R, n).
    """
    second, count = halves(digests_of(config)), min(config.TOPK, len(alone))
    side = 1 if movements.sum() >= 0 else -1
    orders = [np.argsort(-side * alone[:, rows].sum(axis=1), kind="stable")[:count] for rows in (second, ~second)]
    sets = [UnitSet("top", "units first", *(order.tolist() for order in orders))]
    distinct, random = listed(sets, config.RANDOM_SETS, len(alone))
    numbers = np.array([carried(units) for units in distinct])
    (top,) = of_sets(sets, distinct, numbers[:, :, None], second)[:, :, 0]
    return top, numbers[random[count]]


# ----------------------------------------------------------------------------------------------------- what it comes to


def members_of(config):
    """{group: bool (n,)} of all faces and of the subgroups that are drawn."""
    of_faces = [BY_GROUPS[number % len(BY_GROUPS)] for number in range(config.FACES)]
    groups = {f"{concept}: {group}": np.array([face[concept] == group for face in of_faces])
              for concept in BY_GROUPS[0] for group in dict.fromkeys(face[concept] for face in BY_GROUPS)}  # fmt: skip
    return {"all": np.ones(config.FACES, bool), **groups}


def movement_rows(config, found):
    """A row per concept and subgroup: the mean movement with its interval, and how many faces move upwards."""
    weights = poisson_weights(digests_of(config), config.BOOTSTRAPS or 0)
    yield ["concept", "group", "faces", "movement", "low", "high", "share_up"]
    for of in found:
        for name, inside in members_of(config).items():
            if name.startswith(f"{of.concept}:"):
                continue  # what was switched
            mean = paired_mean(of.movements[inside], weights[inside])
            up = float((of.movements[inside] > 0).mean())
            yield [of.concept, name, int(inside.sum()), *map(cell, mean), up]


def unit_rows(config, found, findings):
    """A row per concept and unit, those that carry most first: what it carries, and of which share of the movement."""
    weights = poisson_weights(digests_of(config), config.BOOTSTRAPS or 0)
    yield ["concept", "unit", "label", "iou", "carried", "low", "high", "share", "share_low", "share_high"]
    for of in found:
        side = 1 if of.movements.sum() >= 0 else -1
        for unit in np.argsort(-side * of.carried.sum(axis=1), kind="stable").tolist():
            label = [findings.top_concept(unit) or "", cell(findings.top_iou[unit])] if findings else ["", ""]
            mean = paired_mean(of.carried[unit], weights)
            share = carried_share(of.carried[unit], of.movements, weights)
            yield [of.concept, unit, *label, *map(cell, mean), *map(cell, share)]


def told(config, network, found, findings, missing, about):
    """The story of the study: report.experiment.Story."""
    weights, unit = poisson_weights(digests_of(config), config.BOOTSTRAPS or 0), unit_of_movement(network.spec.predicts)
    means = {of.concept: paired_mean(of.movements, weights) for of in found}
    sentences = [f"{config.FACES} rendered faces, each with and without the concept and else the same; in {unit}."]
    for of in found:
        top, moved = carried_share(of.top, of.movements, weights), means[of.concept]
        if moved.low <= 0 <= moved.high:  # then shares of it say nothing
            sentences.append(f"{of.concept}: not shown to move it, on the whole: {_said(moved)}.")
            continue
        random = of.random.sum(axis=1) / of.movements.sum()
        low, high = np.percentile(random, (2.5, 97.5))
        sentences.append(
            f"{of.concept}: moves it by {_said(moved)}. The {config.TOPK} units that carry most on one half of the "
            f"faces carry {_said(top, 100, '{:.0f}')} % of it on the other; {len(random)} random sets of as many "
            f"{100 * random.mean():.0f} % ({100 * low:.0f} to {100 * high:.0f})."
        )
    most = max(means, key=lambda name: abs(means[name].value))
    return Story(
        title=f"Counterfactual twins: {network.task} {next(iter(network.layers))}",
        verdict=f"Of what was switched, {most} moves the prediction most: {_said(means[most])} {unit}.",
        sentences=[*sentences, *missing], panels=panels_of(config, found, unit),
        tables=[movement_table(config, found, unit), unit_table(config, found, findings)],
        about=about, rows=[*movement_rows(config, found)],
    )  # fmt: skip


def _said(mean, scale=1, form="{:.2f}"):
    value, low, high = (form.format(scale * of + 0.0) for of in mean)
    return value + ("" if np.isnan(mean.low) else f" ({low} to {high})")


def panels_of(config, found, unit):
    """What is drawn: the mean movement of each subgroup, a panel per kind of subgroup; list of Panel."""
    by_kind = {}
    for name, inside in members_of(config).items():
        kind, _, group = name.partition(": ")
        line = {readable(of.concept): [float(of.movements[inside].mean())] for of in found if of.concept != kind}
        by_kind.setdefault(kind, {})[readable(group) or "all"] = line
    del by_kind["all"]
    return [Panel(f"moved, {unit}", readable(kind), lines) for kind, lines in by_kind.items()]


def movement_table(config, found, unit):
    """Rows of text: movements by concept and subgroup; the first is a header."""
    cells = {(row[0], row[1]): row for row in movement_rows(config, found)}
    header = (f"moved, {unit}", *(of.concept for of in found))
    return [header, *(
        (name, *(_cell_of(cells.get((of.concept, name))) for of in found)) for name in members_of(config)
    )]  # fmt: skip


def _cell_of(row):
    if row is None:
        return ""
    return f"{row[3]:.2f}" + (f" [{row[4]:.2f}, {row[5]:.2f}]" if row[4] != "" else "")


def unit_table(config, found, findings):
    """Rows of text: the units that carry most of each concept."""
    rows, left = [("units that carry most", "carried", "share of the movement, %")], {}
    for row in list(unit_rows(config, found, findings))[1:]:
        left[row[0]] = left.get(row[0], 0) + 1
        if left[row[0]] <= config.TOPK:
            share = f"{100 * row[7]:.0f}" + (f" [{100 * row[8]:.0f}, {100 * row[9]:.0f}]" if row[8] != "" else "")
            rows.append((f"{row[0]}: {row[1]} {row[2]}", f"{row[4]:.3f}", share))
    return rows


def write_units(path, _story, rows):
    """Write a line per concept and unit, see unit_rows."""
    write_csv(path, rows)


REPORTS = (Stage("_units.csv", "units", RESULT, make=write_units), *STORY_REPORTS)


if __name__ == "__main__":
    run_script(main)
