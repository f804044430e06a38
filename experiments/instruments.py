"""What the controlled experiments read off a network: detectors near the eyes, units that lean to colour or grey."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import torch

from dictionary.concepts import OWN_GROUPS, global_concepts
from dictionary.entries import RECIPE, encode_png
from dictionary.render import ensure_rendered, renderer_digest
from dictionary.subgroups import GLOBAL_FOLDER, photographs_of
from experiments.faces import grayscale, versions_of
from experiments.trained import Dissector
from loader.behaviour import fixed_images
from loader.recorder import ActivationRecorder
from method.bias_chance import UNBIASED, VERDICTS
from method.outcome import Outcome
from store.bias import bias_stores, samples_of
from store.bias_stages import chance, evidence_of, read_features
from store.layer import locked
from store.run import prepare_dictionary, prepare_model, prepare_subgroups, prepare_twin, twin_seeds, views_of_subgroups
from util.errors import DissectionError
from util.files import clear_leftovers, read_json, replacing_folder

log = logging.getLogger(__name__)

_REGION, _CONCEPT = "Eye_Region", "Eyeglasses"
_FEW_PLACES = 9  # of a map; with fewer it can locate hardly anything


class EyeDetectors:
    """Counts a network's detectors in Eye_Region and its units of eyeglasses over DICTIONARY (method.md §3.5, §8.3)."""

    measures = {
        "eye_detectors": "detectors in Eye_Region",
        "eye_confirmed": "confirmed detectors in Eye_Region",
        "eyeglasses_units": "units whose top concept is Eyeglasses",
        "eyeglasses_confirmed": "confirmed detectors of Eyeglasses",
        "best_eyeglasses_iou": "best IoU with Eyeglasses",
        "detectors": "detectors",
        "confirmed": "confirmed detectors",
        "units": "units",
        "places": "places of a map",
    }
    leading = ("eye_detectors", "eye_confirmed", "eyeglasses_units")  # those with a trend and a plot
    as_share, locates = False, True

    def __init__(self, config, folder):
        ensure_rendered(config.DICTIONARY)
        self.dissector = None

    def measure(self, config):
        """What is read off a network, {block: {measure: number}}. config: its settings, see Trained.settings."""
        if self.dissector is None:
            model = prepare_model(config, config.TASK, config.LAYER_NAME, config.device)
            dictionary = prepare_dictionary(config, model)
            if _CONCEPT not in dictionary.names:
                raise DissectionError(f"{config.DICTIONARY} has no concept {_CONCEPT}: choose a DICTIONARY that has")
            self.dissector = Dissector(dictionary)
        found = self.dissector.dissect(config)
        return {block: self._count(config, *of) for block, of in found.items()}

    def _count(self, config, tally, significance):
        outcome, dictionary = Outcome.of(tally, significance), self.dissector.dictionary
        place = dictionary.names.index(_CONCEPT)
        inside = np.array([concept.region == _REGION for concept in dictionary.concepts] + [False])  # -1: no label
        detects = outcome.detectors(config.SCORE_THRESHOLD)
        stands = outcome.confirmed(config.SCORE_THRESHOLD, config.ALPHA)
        return {
            "eye_detectors": int((detects & inside[outcome.label]).sum()),
            "eye_confirmed": int((stands & inside[outcome.chance_label]).sum()),
            "eyeglasses_units": int((outcome.label == place).sum()),
            "eyeglasses_confirmed": int((stands & (outcome.chance_label == place)).sum()),
            "best_eyeglasses_iou": float(tally.tally[:, place].max()),
            "detectors": int(detects.sum()),
            "confirmed": int(stands.sum()),
            "units": len(detects),
            "places": int(np.prod(outcome.map_size)),
        }

    @staticmethod
    def remarks(config, measured):
        """Sentences on what stands in the way of the numbers' meaning."""
        places = {block: of["places"] for block, of in measured[0].blocks.items()}
        small = [f"{block} ({number})" for block, number in places.items() if number < _FEW_PLACES]
        if not small:
            return []
        return [f"Maps of few places, which can locate little or nothing: {', '.join(small)}. Take a larger SIDE_PX."]


COLOUR_CONCEPT, COLOUR_GROUPS = "colour", ("color", "grayscale")
_COLOUR_FOLDER = "Colour"
_TWINS = 1000  # the first seed of untrained twins


class ColourBias:
    """Counts a network's units that are biased on {color, grayscale}, over faces shown in both (method.md §5, §8.9)."""

    measures = {
        "beyond_cut_off": "units beyond §5's cut-off",
        "biased": "units *biased* by §8.9",
        "beyond_color": "beyond the cut-off, to colour",
        "beyond_grayscale": "beyond the cut-off, to grey",
        "too_few_images": "too few images",
        "not_shown": "not shown",
        "as_without_training": "as without training",
        "units": "units",
        "places": "places of a map",
    }
    leading = ("beyond_cut_off", "biased")
    as_share, locates = True, False

    def __init__(self, config, folder):
        self.root, self.untrained = folder / "dictionary", folder / "untrained"
        write_colour_dictionary(config, self.root)
        self.sample = None

    def measure(self, config):
        """As EyeDetectors.measure."""
        config = SimpleNamespace(**{**vars(config), "DICTIONARY": str(self.root), "GENERATE": True, "PLOT": False})
        model = prepare_model(config, config.TASK, config.LAYER_NAME, config.device)
        if self.sample is None:
            concepts = {COLOUR_CONCEPT: global_concepts(self.root)[COLOUR_CONCEPT]}
            subgroups, _ = prepare_subgroups(config, concepts)
            self.sample = subgroups, photographs_of(subgroups)[1]
        subgroups, labels = self.sample
        subgroups, views, _ = views_of_subgroups(config, model, subgroups)
        samples = samples_of(config, subgroups, labels)
        stores = bias_stores(config, model, subgroups, views, samples)
        # Of all networks of the study, and none's own first weights.
        shared = SimpleNamespace(**{**vars(config), "NL_FOLDER": str(self.untrained), "SEED": _TWINS, "WEIGHTS": None})
        twins = {}
        for seed in twin_seeds(shared):
            twins[seed] = bias_stores(shared, prepare_twin(config, model, seed), subgroups, views, samples, twin=seed)
        with locked([*stores.values(), *(store for of in twins.values() for store in of.values())]):
            read_features(config, lambda: model, subgroups, views, stores)
            chance(config, samples, stores)
            for seed, of_twin in twins.items():
                read_features(config, lambda seed=seed: prepare_twin(config, model, seed), subgroups, views, of_twin)
                chance(config, samples, of_twin)
            places = places_of(model)
            return {
                block: {**_biases(evidence_of(config, store, [of[block] for of in twins.values()], COLOUR_CONCEPT)),
                        "places": places[block]}
                for block, store in stores.items()
            }  # fmt: skip

    @staticmethod
    def remarks(config, measured):
        """As EyeDetectors.remarks."""
        few = any(of["too_few_images"] for one in measured for of in one.blocks.values())
        return [
            *(["TEST_FACES are too few images to call a unit biased by §8.9."] if few else []),
            *([] if config.TWINS else ["Without untrained twins (TWINS=0), §8.9 does not ask what training made."]),
        ]


def places_of(model):
    """The number of places of each layer's maps: {layer: int}."""
    with ActivationRecorder(model.module, model.layers) as recorder, torch.no_grad():
        maps = recorder.run(model.preprocess(fixed_images(model.grid)[:1]))
    return {layer: int(np.prod(of.shape[2:])) for layer, of in maps.items()}


def _biases(evidence):
    beyond, said = evidence.bias.biased, evidence.verdicts  # (U, G)
    counts = {name: int((said == verdict).any(axis=1).sum()) for name, verdict in _VERDICT_OF.items()}
    towards = {f"beyond_{group}": int(of.sum()) for group, of in zip(COLOUR_GROUPS, beyond.T, strict=True)}
    return {"beyond_cut_off": int(beyond.any(axis=1).sum()), **counts, **towards, "units": len(beyond)}


_VERDICT_OF = {verdict.replace(" ", "_"): verdict for verdict in VERDICTS if verdict != UNBIASED}


def write_colour_dictionary(config, root):
    """Have a dictionary of faces of the test, those of seed 0, each in colour and in grey."""
    recipe = {
        "faces": config.TEST_FACES, "renderer": renderer_digest(), "matched": [COLOUR_CONCEPT],
    }  # fmt: skip
    try:
        if read_json(root / RECIPE) == recipe:
            return
    except (OSError, ValueError):
        pass
    log.info("%s: a dictionary of %d faces in colour and in grey", root, config.TEST_FACES)
    clear_leftovers(root)
    with replacing_folder(root) as partial:
        for group in COLOUR_GROUPS:
            (partial / GLOBAL_FOLDER / _COLOUR_FOLDER / group).mkdir(parents=True)
        for number in range(config.TEST_FACES):
            for group, picture in zip(COLOUR_GROUPS, versions_of(("test", number), grayscale, 0), strict=True):
                place = partial / GLOBAL_FOLDER / _COLOUR_FOLDER / group / f"{number:06d}.png"
                place.write_bytes(encode_png(picture))
        lines = [f"{COLOUR_CONCEPT},{group},{_COLOUR_FOLDER}/{group}" for group in COLOUR_GROUPS]
        (partial / OWN_GROUPS).write_text("\n".join(["concept,group,folder", *lines, ""]), encoding="utf-8")
        (partial / RECIPE).write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
