"""What one run works on, from its settings: network, dictionary, and the files of its layers with what decides them."""

import json
import logging
from pathlib import Path

from dictionary.concepts import global_concepts
from dictionary.dictionary import open_dictionary
from dictionary.faces import crop_to_faces, find_views, missing_face, search_faces
from dictionary.rows import Problem
from dictionary.subgroups import GLOBAL_FOLDER, open_subgroups, settle_subgroups
from dictionary.views import WHOLE
from loader.crops import as_grid, read_crop
from loader.predictions import Classes, Years
from loader.tasks import RANDOM_WEIGHTS, loader_file
from method.formulas import ASKED_FROM
from store.about import about_layer, about_network, about_run
from store.layer import LayerStore, differences
from store.stages import ACCURACY
from util.errors import DissectionError
from util.files import fingerprint
from util.ranks import ALONE

log = logging.getLogger(__name__)

# ------------------------------------------------------------------------------------------------ tasks and their names


def as_list(names):
    """One name or several, as a list of str."""
    return [names] if isinstance(names, str) else list(names)


def tasks_of(config):
    """The tasks that the analyses look at, each once. Raises DissectionError for one without a loader file."""
    for task in (*config.TASKS, *config.TASK_LAYERS):
        loader_file(task)
    return list(dict.fromkeys(config.TASKS))


def layers_of(config, task):
    """The layers of a task that the analyses look at: its row of TASK_LAYERS, else LAYER_NAME. Returns list of str.

    A LAYER_NAME of this run alone goes before what settings.py says of tasks.
    """
    given = {word.partition("=")[0] for word in config.words}
    of_tasks = {} if "LAYER_NAME" in given and "TASK_LAYERS" not in given else config.TASK_LAYERS
    return as_list(of_tasks.get(task, config.LAYER_NAME))


def run_name(config, task):
    """How the results of a task are called: `{run}_{layer}`.

    The untrained twin has a name of its own, so that the baseline stands beside what it is compared with.
    """
    return f"{task}_random" if config.WEIGHTS == RANDOM_WEIGHTS else task


def require_one_checkpoint(config):
    """Raise DissectionError when WEIGHTS names one checkpoint for several tasks."""
    if config.WEIGHTS not in (None, RANDOM_WEIGHTS) and len(config.TASKS) > 1:
        raise DissectionError(
            f"WEIGHTS names one checkpoint ({config.WEIGHTS}) but TASKS {len(config.TASKS)} networks: set WEIGHTS=None "
            "for each task's own checkpoint, or TASKS to one task"
        )


# ----------------------------------------------------------------------------------------------- network, dictionary


def prepare_device(config):
    """Choose the device that the settings name, and say which. Returns torch.device. Raises DissectionError."""
    from loader.devices import choose_device, describe_device  # here, so that cluster_top.py starts without torch

    device = choose_device(config.DEVICE)
    log.info("device: %s", describe_device(device))
    return device


def require_sense(config):
    """Raise DissectionError for settings of the network and its input that make no sense, whatever the network."""
    size = config.INPUT_SIZE
    if isinstance(size, list | tuple) and len(size) != 2:
        raise DissectionError(f"INPUT_SIZE is {size!r}: give the side of a square, or height and width as 112,96")
    if config.CROP is not None and read_crop(config.CROP) is None and config.ALIGN_JITTER:
        raise DissectionError("ALIGN_JITTER moves crops, and CROP='whole' has none: leave one of them out")
    if config.WEIGHTS == RANDOM_WEIGHTS and config.CHECKPOINT_KEY is not None:
        raise DissectionError("CHECKPOINT_KEY chooses among weights, and WEIGHTS='random' reads none: set it to None")


def prepare_model(config, task, layers, device):
    """Load a task's network as the settings say. layers: names, None for none. Returns LoadedModel. Raises
    DissectionError.
    """
    require_sense(config)
    model = _load(config, task, layers, device, config.WEIGHTS, config.SEED)
    log.info("network: %s; weights: %s", model.described, model.weights_label)
    if config.ALIGN_JITTER and crop_of(config, model) is None:
        log.info("task %s takes whole photographs: ALIGN_JITTER moves nothing of them", task)
    return model


def twin_seeds(config):
    """The seeds of the untrained twins, TWINS of them (method.md §8.8)."""
    first = config.SEED + (config.WEIGHTS == RANDOM_WEIGHTS)  # that is itself the twin of SEED
    return range(first, first + (config.TWINS or 0))


def prepare_twin(config, model, seed):
    """An untrained twin of a network; one at a time is enough, and as much as a large network leaves room for.

    A network that cannot be built without its training has twins whose weights are shuffled. Returns LoadedModel.
    """
    from loader.models import NotUntrained, shuffled

    try:
        return _load(config, model.task, list(model.layers), model.device, RANDOM_WEIGHTS, seed)
    except NotUntrained:
        return shuffled(model, seed)


class Networks:
    """The networks of a run, each loaded when it is asked for; of those with and without training the last is kept.

    ranks: util.ranks.Ranks, all of which have theirs on the same kind of device. Raises DissectionError.
    """

    def __init__(self, config, ranks=ALONE):
        self.config, self._kept = config, {}
        self.device = prepare_device(config)
        ranks.agree(self.device)

    def of(self, task, layers, seed=None):
        """A task's network or, with a seed, its untrained twin. layers: names, not empty. Returns LoadedModel. Raises
        DissectionError.
        """
        asked, kind = (task, tuple(layers), seed), seed is None
        if self._kept.get(kind, (None,))[0] != asked:
            self._kept.pop(kind, None)
            model = (
                prepare_model(self.config, task, layers, self.device) if seed is None
                else prepare_twin(self.config, self.of(task, layers), seed)
            )  # fmt: skip
            self._kept[kind] = asked, model
        return self._kept[kind][1]


def follow(config, networks, ranks, known):
    """Take part in what the first process of a run calls, until it is through. Of the other processes.

    known: {name: function}, what the script calls beside the search for faces.
    """
    ranks.follow({"faces": lambda *of: search_faces(ranks, *of, networks.device, config.WORKERS), **known})


def networks_of(stores):
    """What is known of the networks that results are of: {layer: JSON values}. stores: {layer: LayerStore}."""
    return {layer: store.facts["network"] for layer, store in stores.items()}


def require_same_network(model, networks):
    """Raise DissectionError where this process of a run has another network than the first one. networks: see
    networks_of, of the first one.
    """
    for layer, theirs in networks.items():
        theirs, own = (json.loads(json.dumps(of)) for of in (theirs, model.provenance(layer)))
        if unlike := differences(theirs, own):
            raise DissectionError(
                f"{layer} of {model.task} is not the same in all processes of this run ({', '.join(unlike)}): give all "
                "machines the same program, MODEL_FOLDER and versions of packages"
            )


def _load(config, task, layers, device, weights, seed):
    from loader.models import BUILD_OPTIONS, load_model, model_spec

    asked = {word.partition("=")[0].lower() for word in config.words}  # one that the task does not take is an error
    options = {name: getattr(config, name.upper()) for name in {*model_spec(task).options, *asked & {*BUILD_OPTIONS}}}
    return load_model(
        task, layers, weights=weights, seed=seed, model_folder=config.MODEL_FOLDER, device=device,
        input_size=config.INPUT_SIZE, **options,
        checkpoint_key=config.CHECKPOINT_KEY if weights == config.WEIGHTS else None,
    )  # fmt: skip


def crop_of(config, model):
    """What the network sees of a photograph: Crop, None for the whole. Raises DissectionError for another CROP."""
    return model.spec.crop if config.CROP is None else read_crop(config.CROP)


def finding(config, model, ranks=ALONE):
    """How faces are looked for: arguments of dictionary.faces.find_views and crop_to_faces."""
    return {"memory_folder": config.CACHE_FOLDER, "device": model.device, "workers": config.WORKERS, "ranks": ranks}


def prepare_dictionary(config, model, ranks=ALONE):
    """Open the dictionary, cropped to the faces where the task crops. Returns Dictionary. Raises DissectionError."""
    crop = crop_of(config, model)
    dictionary = open_dictionary(
        config.DICTIONARY, memory_folder=config.CACHE_FOLDER, workers=config.WORKERS,
        skip_bad=config.SKIP_BAD_IMAGES, limit=config.TEST_IMAGES if config.TEST_MODE else None,
        seg_threshold=config.SEG_THRESHOLD, categories=config.CATEGORIES, mask_cache_mb=config.MASK_CACHE_MB,
    )  # fmt: skip
    if crop is not None and not dictionary.format.faces:
        raise DissectionError(f"{config.DICTIONARY} holds no faces to crop photographs to: set CROP=whole")
    if crop is not None:
        dictionary = crop_to_faces(
            dictionary, crop, config.ALIGN_JITTER, skip_bad=config.SKIP_BAD_IMAGES, **finding(config, model, ranks)
        )
    _told(dictionary.problems)
    sizes = len(dictionary.usable_rows), len(dictionary.concepts)
    log.info("dictionary: %s, %s images, %d concepts", config.DICTIONARY, f"{sizes[0]:,}", sizes[1])
    return dictionary


def prepare_subgroups(config, concepts):
    """Open the subgroups of the dictionary. concepts: {concept: GlobalConcept}, those that it may have.

    Returns (list of Subgroups; notes for the reports, texts). Raises DissectionError.
    """
    subgroups, problems = _subgroups(config, concepts)
    notes = _told(problems)
    if absent := sorted(set(concepts) - {concept.concept for concept in subgroups}):
        notes.append(f"not analysed, for lack of images: {', '.join(absent)}")
        log.info(notes[-1])
    for concept in subgroups:
        log.info("%s: %s", concept.concept, ", ".join(f"{group} {len(of)}" for group, of in concept.groups.items()))
    return subgroups, notes


def _subgroups(config, concepts):
    return open_subgroups(
        config.DICTIONARY, concepts, memory_folder=config.CACHE_FOLDER, workers=config.WORKERS,
        skip_bad=config.SKIP_BAD_IMAGES, limit=config.TEST_IMAGES if config.TEST_MODE else None,
    )  # fmt: skip


def views_of_subgroups(config, model, subgroups, search=None, ranks=ALONE):
    """The subgroups as a task sees them: where it crops, without the images in which no face was found.

    search: whether faces may be looked for, GENERATE by default. Returns (list of Subgroups; {image path: view}; notes
    for the reports, texts).
    """
    search = config.GENERATE if search is None else search
    subgroups, views, problems = _seen(config, model, subgroups, search, ranks)
    return subgroups, views, _told(problems)


def _seen(config, model, subgroups, search, ranks=ALONE):
    crop = crop_of(config, model)
    digests = {path: digest for concept in subgroups for path, digest in concept.images.items()}
    if crop is None:
        return subgroups, dict.fromkeys(digests, WHOLE), []
    views = find_views(
        config.DICTIONARY, digests, crop, config.ALIGN_JITTER, **finding(config, model, ranks),
        search=search,
    )  # fmt: skip
    problems = [Problem(GLOBAL_FOLDER, missing_face(path)) for path, view in views.items() if view is None]
    seen = {concept.concept: concept.only(lambda path: views[path]) for concept in subgroups}
    subgroups, problems = settle_subgroups(config.DICTIONARY, seen, problems, config.SKIP_BAD_IMAGES)
    return subgroups, views, problems


_NOTED = 8  # of what is missing or left out in a report


def _told(problems):
    """Log what is missing or was left out. Returns the notes on it for the reports, as text: not each single image."""
    for problem in problems:
        log.info("%s: %s", "left out" if problem.fatal else "note", problem)
    told = [f"left out: {problem}" if problem.fatal else str(problem) for problem in problems]
    return told[:_NOTED] + ([f"and {len(told) - _NOTED} more, which the log names"] if len(told) > _NOTED else [])


def crop_facts(config, model, views):
    """What of the crop decides the input, as JSON, None for whole photographs. views: JSON of them or their digest."""
    crop = crop_of(config, model)
    return crop and {"kind": str(crop), "jitter": config.ALIGN_JITTER, "views": fingerprint(views)}


def images_of(config, dictionary):
    """Which images count in a union, one of method.tally.IMAGES. Raises DissectionError for what has no meaning."""
    images = config.IMAGES or dictionary.format.images
    if images != "concept" and config.IOU_UNION != "all":
        raise DissectionError(
            f"IOU_UNION={config.IOU_UNION}{' (by PRESET)' if config.PRESET else ''} leaves out images that carry "
            f"the concept and IMAGES={images} counts others, too: set IMAGES=concept or IOU_UNION=all"
        )
    return images


TWINS_FOLDER = "twins"  # of untrained twins' results, within those of the networks that they are compared with


def layer_stores(config, model, dictionary, twin=None):
    """The files of each layer of the run, with the facts that decide them: {layer: LayerStore}.

    twin: the seed of an untrained twin, whose files lie in a folder of their own; None for the network itself.
    """
    folder, name = Path(config.OUTPUT_FOLDER), run_name(config, config.TASK)
    if twin is not None:
        folder, name = folder / TWINS_FOLDER, f"{config.TASK}_random{twin}"
    images = images_of(config, dictionary)
    resampled = dictionary.resampled(images)
    facts = {
        "input_size": model.grid,
        "feature_dtype": kept_numbers(config),
        "dictionary_images": dictionary.images_digest,
        "number_of_rows": len(dictionary.rows),
        "crop": crop_facts(config, model, dictionary.views_digest),
        "quantile": config.QUANTILE,
        "dictionary_masks": dictionary.masks_digest,
        "concepts": [[concept.name, concept.type, concept.region] for concept in dictionary.concepts],
        "iou_union": config.IOU_UNION,
        "images": images,
        "seg_threshold": config.SEG_THRESHOLD,
        "score_threshold": config.SCORE_THRESHOLD,
        "images_shown": config.TOPN,
        "photographs": config.PAGE_PHOTOGRAPHS,
        "permutations": config.PERMUTATIONS or 0,
        "bootstraps": config.BOOTSTRAPS or 0 if twin is None and resampled else 0,
        "chance_images": config.CHANCE_IMAGES or 0,
        "formulas": [config.FORMULAS or 0, min(config.SCORE_THRESHOLD, ASKED_FROM)],
        "sources": dictionary.sources_digest,
        "alpha": config.ALPHA,
    }
    size = f"{len(dictionary.usable_rows)} images, {len(dictionary.concepts)} concepts"
    about = about_of_run(config, model, size) if twin is None else {}
    settings = used_settings(config, model)
    settings["IMAGES"] = [None] * (images == dictionary.format.images) + [images]
    if dictionary.bad:
        settings["SKIP_BAD_IMAGES"] = [True]
    return {
        layer: LayerStore(
            folder, f"{name}_{layer}",
            {**facts, "network": model.provenance(layer)}, settings, {**about_layer(model, layer), **about},
        )
        for layer in model.layers
    }  # fmt: skip


def kept_numbers(config):
    """Which numbers of activation maps are kept, as JSON: their dtype; of sparse maps what else decides them, too."""
    if config.FEATURES == "dense":
        return config.FEATURE_DTYPE
    return {"features": config.FEATURES, "dtype": config.FEATURE_DTYPE, "quantile": config.QUANTILE}


def about_of_run(config, model, size, seen=None):
    """What is to be said of a run, but for its layers: {what: text}. size: of the dictionary, a text. seen: see
    known_accuracy.
    """
    return {
        **about_network(model, crop_of(config, model), config.ALIGN_JITTER, known_accuracy(config, model, seen)),
        **about_run(f"{config.DICTIONARY}, {size}"),
    }


def known_accuracy(config, model, seen=None):
    """What predict.py found out about how well a network predicts, a text, empty where it is not known to hold now.

    seen: (subgroups, views) of views_of_subgroups, opened here when they aren't yet and there is anything to know.
    """
    there = LayerStore(config.NL_FOLDER, run_name(config, model.task)).content(ACCURACY.suffix)
    if not there or not isinstance(model.spec.predicts, Classes | Years):
        return ""
    try:
        if seen is None:
            subgroups, _ = _subgroups(config, global_concepts(Path(config.DICTIONARY)))
            seen = _seen(config, model, subgroups, search=False)[:2]
        store = prediction_store(config, model, *seen)
    except DissectionError:  # something that predict.py will explain
        return ""
    return store.about_of(ACCURACY.suffix).get("accuracy", "") if store.is_current(ACCURACY, quiet=True) else ""


def prediction_store(config, model, subgroups, views, **about):
    """The files in which predict.py leaves how well a network predicts. subgroups, views: see views_of_subgroups.

    about: see LayerStore. Returns LayerStore. Raises DissectionError when the network fails.
    """
    numbers = [views[path].numbers for concept in subgroups for path in concept.images]
    facts = {
        "network": model.provenance(),
        "input_size": model.grid,
        "predicts": repr(model.spec.predicts),
        "photographs": {concept.concept: concept.digest for concept in subgroups},
        "crop": crop_facts(config, model, numbers),
    }
    return LayerStore(config.NL_FOLDER, run_name(config, model.task), facts, about=about)


# Settings that decide what main.py makes of every network.
_DECIDING = (
    "WEIGHTS", "CHECKPOINT_KEY", "QUANTILE", "SEG_THRESHOLD", "IOU_UNION", "FEATURE_DTYPE", "TEST_MODE",
)  # fmt: skip
_OF_CHANCE = ("PERMUTATIONS", "BOOTSTRAPS", "CHANCE_IMAGES", "TWINS")
_PLACES = ("DICTIONARY", "MODEL_FOLDER")  # of these, [as spelled, as an absolute path]


def used_settings(config, model):
    """The settings that decide what main.py makes of a network: {name: [values that say the same]}."""
    names = [*_DECIDING, *(name.upper() for name in model.spec.options)]
    names += ["SEED"] if config.WEIGHTS == RANDOM_WEIGHTS or config.TWINS else []
    names += ["TEST_IMAGES"] if config.TEST_MODE else []
    used = {name: [getattr(config, name)] for name in names}
    for name in _OF_CHANCE:  # 0 and None say the same
        used[name] = [getattr(config, name)] if getattr(config, name) else [None, 0]
    crop = crop_of(config, model)
    for name, value, own in (("CROP", crop or "whole", model.spec.crop or "whole"),
                             ("INPUT_SIZE", model.grid, as_grid(model.spec.side_px))):  # fmt: skip
        used[name] = [None] * (value == own) + [_spelled(name, value)]
    if crop:
        used["ALIGN_JITTER"] = [config.ALIGN_JITTER]
    for name in _PLACES if model.spec.checkpoint and config.WEIGHTS is None else ("DICTIONARY",):
        used[name] = [getattr(config, name), str(Path(getattr(config, name)).resolve())]
    return used


def _spelled(name, value):
    """A setting in the one spelling in which it is compared: CROP in words, INPUT_SIZE as a side if that says it."""
    if value is None or name not in ("CROP", "INPUT_SIZE"):
        return value
    if name == "CROP":
        return str(read_crop(value) or "whole")
    rows, columns = as_grid(value)
    return rows if rows == columns else [rows, columns]


def unlike_settings(config, used):
    """{name: (value then, value now)} of the settings that differ from those that something was made under.

    used: see used_settings.
    """
    unlike = {}
    for name, values in used.items():
        now = getattr(config, name, values[0])
        if name in _PLACES and Path(values[-1]).exists():  # elsewhere, as on another machine, the spelling decides
            same = Path(now).resolve() == Path(values[-1])
        else:
            same = _spelled(name, now) in values
        if not same:
            unlike[name] = (values[-1], now)
    return unlike
