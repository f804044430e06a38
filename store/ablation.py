"""What ablation.py works on and keeps: labelled photographs, sets of units, and what is predicted without them."""

import shlex
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dictionary.concepts import AGE_RANGES, global_concepts
from dictionary.faces import crop_to_faces
from dictionary.images import load_image
from dictionary.subgroups import GLOBAL_FOLDER, photographs_of
from loader.crops import as_grid
from loader.predictions import Classes, Points, Years
from method.ablation import class_measures, point_measures, random_orders, year_measures
from method.bias_chance import BIASED
from method.evidence import Evidence
from method.findings import Findings
from method.resampling import halves
from method.tally import Tally
from store.arrays import load_arrays, load_as
from store.bias import bias_stores, chance_stage, features_stage, samples_of
from store.bias_stages import evidence_of
from store.layer import Stage
from store.run import (
    crop_facts,
    crop_of,
    finding,
    prepare_subgroups,
    prepare_twin,
    twin_seeds,
    views_of_subgroups,
)
from store.stages import CHANCE, MAPS, TALLY, THRESHOLDS
from util.errors import DissectionError, first_few
from util.files import fingerprint

_FEWEST = 5  # photographs of an intersection of subgroups that is looked at
OWN_WORDS = ("ABLATE_TO", "UNITS", "RANDOM_SETS", "TOPK")  # settings of ablation alone

# What a network predicts, whole and with each unit ablated alone; and with sets of units.
UNITS_ABLATED = Stage("_ablation_units.npz", "single units ablated", ("ablated", "ablate_to"))


def sets_stage(name=""):
    """The file of what is predicted without sets of units. name: of the user's own set, in brackets; or empty."""
    return Stage(f"_ablation_sets{name}.npz", "sets of units ablated", (UNITS_ABLATED.suffix, "ablation_sets"))


def report_inputs(name=""):
    """What the reports on ablation are made from, see store.layer.Stage."""
    files = (UNITS_ABLATED.suffix, sets_stage(name).suffix)
    return (*files, "ablation_labels", "ablation_sets", "dissection", "bias_verdicts", "bootstraps", "score_threshold",
            "alpha", "about")  # fmt: skip


# ------------------------------------------------------------------------------------------------------ the photographs


class Photographs(NamedTuple):
    """The n photographs on which effects are measured, each once, by their digests.

    digests, paths: n texts. views: what the network sees of each. labels: {concept: n subgroups, None for unknown}.
    groups: {concept: names of its subgroups}.
    """

    digests: list
    paths: list
    views: list
    labels: dict
    groups: dict

    def loader(self, folder, grid):
        """A function place -> uint8 (rows, columns, 3)."""
        return lambda place: load_image(Path(folder) / self.paths[place], grid, self.views[place])

    def members(self):
        """The groups of photographs that are looked at: all, each subgroup, and intersections of subgroups.

        Returns {name: bool (n,)}.
        """
        found = {"all": np.ones(len(self.digests), bool)}
        for number in range(1, len(self.labels) + 1):
            for concepts in combinations(self.labels, number):
                for names in product(*(self.groups[concept] for concept in concepts)):
                    inside = np.all([np.array(self.labels[concept], object) == name
                                     for concept, name in zip(concepts, names, strict=True)], axis=0)  # fmt: skip
                    if inside.sum() >= (1 if number == 1 else _FEWEST):
                        found[", ".join(map(group_name, concepts, names))] = inside
        return found

    def contrasts(self):
        """The pairs of subgroups whose gap is looked at: list of (name, other name)."""
        known = self.members()
        pairs = [
            (group_name(concept, one), group_name(concept, other))
            for concept, names in self.groups.items() for one, other in combinations(names, 2)
        ]  # fmt: skip
        return [pair for pair in pairs if known.keys() >= set(pair)]

    @property
    def halves(self):
        """Which half of the photographs each is in, bool (n,) (method.md §8.4)."""
        return halves(self.digests)


def group_name(concept, group):
    return f"{concept}: {group}"


def predicting(config, model):
    """The network as it predicts, which for points may be on another input than the dictionary's. model: LoadedModel.

    Returns LoadedModel. Raises DissectionError for a network of which it isn't stated what it predicts, or whose last
    layers have no usable weights.
    """
    predicts, loader = model.spec.predicts, f"loader/model_loader_{model.task}.py"
    if predicts is None:
        raise DissectionError(
            f"{loader} does not state what its network predicts: copy it to one of your own and add to its ModelSpec "
            "predicts=Classes('gender', ('female', 'male')), predicts=Years() or predicts=Points(...), from "
            "loader/predictions.py"
        )
    if model.unfitted:
        raise DissectionError(
            f"the last layers of {model.task} have no usable weights ({first_few(model.unfitted)}), so that what it "
            f"predicts means nothing: set NUM_CLASSES to the classes of its checkpoint, or state in the ModelSpec of "
            f"{loader} a build=... whose last layers fit it"
        )
    if isinstance(predicts, Points):
        grid = as_grid(predicts.side_px) if predicts.side_px and config.INPUT_SIZE is None else model.grid
        crop = predicts.crop if predicts.crop and config.CROP is None else model.spec.crop
        return replace(model, grid=grid, spec=replace(model.spec, crop=crop))
    return model


def subgroups_for(config, model):
    """The dictionary's subgroups: (list of Subgroups; notes for the reports, texts). Of points no labels are needed, so
    that none there is no error.
    """
    if isinstance(model.spec.predicts, Points) and not (Path(config.DICTIONARY) / GLOBAL_FOLDER).is_dir():
        return [], []
    return prepare_subgroups(config, global_concepts(Path(config.DICTIONARY)))


def photographs_for(config, model, dictionary, subgroups):
    """The photographs by which the effect of ablation is measured: those of the subgroups, for classes those whose
    class is known, for points those of the index as well. Returns (Photographs; notes for the reports, texts).
    """
    predicts, seen, notes = model.spec.predicts, {}, []
    if subgroups:
        subgroups, views, notes = views_of_subgroups(config, model, subgroups, search=True)
        seen = {digest: views[path] for of in subgroups for path, digest in of.images.items()}
    paths, labels = photographs_of(subgroups)
    if isinstance(predicts, Classes):
        require_classes(predicts, subgroups)
        paths = {digest: path for digest, path in paths.items() if digest in labels[predicts.concept]}
    if isinstance(predicts, Points):
        crop = crop_of(config, model)
        cropped = replace(dictionary, views=None) if crop is None else crop_to_faces(
            dictionary, crop, config.ALIGN_JITTER, skip_bad=config.SKIP_BAD_IMAGES, **finding(config, model)
        )  # fmt: skip
        for row in cropped.usable_rows:
            digest = cropped.digest_of(row)
            if paths.setdefault(digest, row.image) == row.image:
                seen[digest] = cropped.view(row)
    digests = sorted(paths)  # whatever the order of the rows
    ordered = [[of[digest] for digest in digests] for of in (paths, seen)]
    of = {concept: [known.get(digest) for digest in digests] for concept, known in labels.items()}
    groups = {concept.concept: tuple(concept.groups) for concept in subgroups}
    return Photographs(digests, *ordered, of, groups), notes


def require_classes(predicts, subgroups):
    """Raise DissectionError when the dictionary has no subgroups by the names of the network's classes."""
    groups = {concept.concept: tuple(concept.groups) for concept in subgroups}.get(predicts.concept, ())
    unknown = [name for name in groups if name not in predicts.names]
    if unknown or not groups:
        found = f"has {', '.join(unknown)} of it" if groups else "has no subgroups of it"
        raise DissectionError(f"the network tells {predicts} apart, but the dictionary {found}")


def measures_for(predicts, photographs, numbers):
    """What is measured of predictions. numbers: float (S, N, K), see the statement of loader/predictions.py; the first
    is the whole network's. Returns list of method.ablation.Measure, the leading one first.
    """
    numbers = numbers.astype(np.float64)
    if isinstance(predicts, Classes):
        known = [predicts.names.index(name) for name in photographs.labels[predicts.concept]]
        return class_measures(numbers, np.array(known))
    if isinstance(predicts, Years):
        ages = photographs.labels.get("age", [None] * len(photographs.digests))
        ranges = np.array([AGE_RANGES.get(name, (np.nan, np.nan)) for name in ages], float)
        return year_measures(numbers[:, :, 0], ranges)
    places = numbers.reshape(*numbers.shape[:2], len(predicts.names), 2)
    return point_measures(places, predicts.names, predicts.eyes)


def ablation_facts(config, model, photographs):
    """What decides the predictions without units, and how they are grouped: {name: JSON value}."""
    layer, = model.layers  # fmt: skip
    views = [view.numbers for view in photographs.views]
    return {
        "ablated": {
            "network": model.provenance(layer), "whole": model.provenance(), "input_size": model.grid,
            "predicts": str(model.spec.predicts), "photographs": fingerprint(photographs.digests),
            "crop": crop_facts(config, model, views),
        },
        "ablate_to": config.ABLATE_TO,
        "ablation_labels": fingerprint([photographs.labels, photographs.groups]),
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------- sets of units


class UnitSet(NamedTuple):
    """Units that are ablated together. kind: 'region', 'biased', 'top', 'own' or 'curve'. name: in words.

    units: list of int. other: the units in their stead for the second half of the photographs, on whose first half
    those were chosen; the same by default.
    """

    kind: str
    name: str
    units: list
    other: list | None = None

    @property
    def for_halves(self):
        return self.units, self.units if self.other is None else self.other


def region_sets(findings):
    """The detectors of each face region. Returns list of UnitSet."""
    top = [findings.top_concept(unit) for unit in range(findings.units)]
    found = []
    for region in findings.regions:
        units = [unit for unit in np.flatnonzero(findings.interpretable).tolist()
                 if findings.region_of[top[unit]] == region]  # fmt: skip
        found += [UnitSet("region", f"detectors of {region}", units)] if units else []
    return found


def bias_sets(evidence):
    """The units biased towards each subgroup: by the cut-off of §5, and those of them that are *biased* by §8.9.

    evidence: list of BiasEvidence. Returns list of UnitSet.
    """
    found = []
    for of in evidence:
        for place, group in enumerate(of.bias.groups):
            name = group_name(of.bias.concept, group)
            beyond = np.flatnonzero(of.bias.biased[:, place]).tolist()
            biased = np.flatnonzero(of.verdicts[:, place] == BIASED).tolist()
            found += [UnitSet("biased", f"units beyond the cut-off for {name}", beyond)] if beyond else []
            found += [UnitSet("biased", f"units biased towards {name}", biased)] if biased else []
    return found


def top_sets(orders, counts, kind="top"):
    """The first units of each order. orders: {name: (order, order for the second half)}, int (U,) each. Returns list of
    UnitSet.
    """
    return [
        UnitSet(kind, f"units first by {name}", one[:count].tolist(), other[:count].tolist())
        for name, (one, other) in orders.items() for count in counts
    ]  # fmt: skip


def listed(sets, random_sets, units):
    """Everything that is to be ablated: the sets, and random ones of the same sizes.

    Returns (list of distinct lists of units; {size: list of the random sets' places among them}).
    """
    orders = random_orders(units, random_sets)
    sizes = sorted({len(part) for one in sets for part in one.for_halves})
    random = {size: [order[:size].tolist() for order in orders] for size in sizes}
    parts = [part for one in sets for part in one.for_halves] + [part for of in random.values() for part in of]
    place_of = {key: place for place, key in enumerate(dict.fromkeys(tuple(sorted(part)) for part in parts))}
    places = {size: [place_of[tuple(sorted(part))] for part in of] for size, of in random.items()}
    return [list(key) for key in place_of], places


def of_sets(sets, distinct, numbers, second):
    """The predictions without each set, the two halves of the photographs put together.

    distinct: see listed. numbers: float (S, N, K), of these. second: bool (N,), the second half. Returns float (len(
    sets), N, K).
    """
    place_of = {tuple(part): place for place, part in enumerate(distinct)}
    found = np.empty((len(sets), *numbers.shape[1:]), numbers.dtype)
    for row, one in zip(found, sets, strict=True):
        first, other = (place_of[tuple(sorted(part))] for part in one.for_halves)
        row[~second], row[second] = numbers[first][~second], numbers[other][second]
    return found


# ------------------------------------------------------------------------------------ what main.py and nl_bias.py left


def dissection_of(config, store):
    """What main.py found out about a layer under the present settings: (Findings, Evidence), None twice where it is not
    there; notes on what is missing, texts. The digests of what is taken enter the facts of the store.
    """
    try:
        store.require_current(MAPS, file_needed=False)
        for stage in (THRESHOLDS, TALLY, CHANCE):
            store.require_current(stage)
    except DissectionError as error:
        store.facts["dissection"] = None
        command = shlex.join(["python", "main.py", *_words_without(config, *OWN_WORDS)])
        return None, None, [f"no labels of units, no regions: {error}; run {command}"]
    store.facts["dissection"] = [store.content(stage.suffix) for stage in (TALLY, CHANCE)]
    arrays = load_arrays(store.path(CHANCE.suffix))
    evidence = Evidence.of_arrays(arrays, None, config.SCORE_THRESHOLD, config.ALPHA)
    return Findings(load_as(Tally, store.path(TALLY.suffix)), config.SCORE_THRESHOLD), evidence, []


def _words_without(config, *names):
    return [word for word in config.words if word.partition("=")[0] not in names]


def biases_of(config, model, subgroups):
    """What nl_bias.py found out about the bias of a layer under the present settings, as far as it is there.

    Returns (list of BiasEvidence; notes on what is missing, texts).
    """
    (layer,) = model.layers
    if not subgroups:
        return [], ["no units biased towards subgroups: the dictionary has none"]
    _, labels = photographs_of(subgroups)
    images, views, _ = views_of_subgroups(config, model, subgroups, search=True)
    samples = samples_of(config, images, labels)
    own = bias_stores(config, model, images, views, samples)[layer]
    twins = [
        bias_stores(config, prepare_twin(config, model, seed), images, views, samples, twin=seed)[layer]
        for seed in twin_seeds(config)
    ]
    found, missing = [], []
    for concept in samples:
        stages = features_stage(concept), chance_stage(concept)
        if all(store.is_current(stage, quiet=True) for store in (own, *twins) for stage in stages):
            found.append(evidence_of(config, own, twins, concept))
        else:
            missing.append(concept)
    words = _words_without(config, *OWN_WORDS, "TASK", "LAYER_NAME")
    command = shlex.join(["python", "nl_bias.py", f"TASKS={model.task}", f"LAYER_NAME={layer}", *words])
    return found, [f"no units biased by {', '.join(missing)}: run {command}"] if missing else []
