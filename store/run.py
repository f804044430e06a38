"""What one run works on, from its settings: network, dictionary, and the files of its layers with what decides them."""

import logging
from pathlib import Path

from dictionary.dictionary import open_dictionary
from dictionary.faces import crop_to_faces
from loader.tasks import RANDOM_WEIGHTS, loader_file
from store.layer import LayerStore
from util.errors import DissectionError

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
    """The layers of a task that the analyses look at: its row of TASK_LAYERS, else LAYER_NAME. Returns list of str."""
    return as_list(config.TASK_LAYERS.get(task, config.LAYER_NAME))


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


def prepare_model(config, task, layers, device):
    """Load a task's network as the settings say. layers: names. Returns LoadedModel. Raises DissectionError."""
    from loader.models import BUILD_OPTIONS, load_model, model_spec

    asked = {word.partition("=")[0].lower() for word in config.words}  # one that the task does not take is an error
    options = {name: getattr(config, name.upper()) for name in {*model_spec(task).options, *asked & {*BUILD_OPTIONS}}}
    model = load_model(
        task, layers, weights=config.WEIGHTS, seed=config.SEED, model_folder=config.MODEL_FOLDER, device=device,
        side_px=config.INPUT_SIZE, checkpoint_key=config.CHECKPOINT_KEY, **options,
    )  # fmt: skip
    log.info("network: %s; weights: %s", model.spec.network, model.weights_label)
    return model


def crops_faces(config, model):
    """Whether the network sees the face alone."""
    return model.spec.crop if config.CROP is None else config.CROP


def prepare_dictionary(config, model):
    """Open the dictionary, cropped to the faces where the task crops. Returns Dictionary. Raises DissectionError."""
    dictionary = open_dictionary(
        config.DICTIONARY, memory_folder=config.CACHE_FOLDER, workers=config.WORKERS,
        skip_bad=config.SKIP_BAD_IMAGES, limit=config.TEST_IMAGES if config.TEST_MODE else None,
        seg_threshold=config.SEG_THRESHOLD,
    )  # fmt: skip
    if crops_faces(config, model):
        dictionary = crop_to_faces(
            dictionary, config.CACHE_FOLDER, model.device, config.WORKERS, config.SKIP_BAD_IMAGES
        )
    for problem in dictionary.problems:
        log.info("%s: %s", "left out" if problem.fatal else "note", problem)
    log.info(
        "dictionary: %s, %d images, %d concepts",
        config.DICTIONARY, len(dictionary.usable_rows), len(dictionary.concepts),
    )  # fmt: skip
    return dictionary


def layer_stores(config, model, dictionary):
    """The files of each layer of the run, with the facts that decide them: {layer: LayerStore}."""
    facts = {
        "input_size": model.side_px,
        "feature_dtype": config.FEATURE_DTYPE,
        "dictionary_images": dictionary.images_digest,
        "number_of_rows": len(dictionary.rows),
        "face_boxes": dictionary.boxes_digest,
        "quantile": config.QUANTILE,
        "dictionary_masks": dictionary.masks_digest,
        "concepts": [[concept.name, concept.type, concept.region] for concept in dictionary.concepts],
        "iou_union": config.IOU_UNION,
        "seg_threshold": config.SEG_THRESHOLD,
        "score_threshold": config.SCORE_THRESHOLD,
        "images_shown": config.TOPN,
    }
    settings = used_settings(config, model)
    if len(dictionary.usable_rows) < len(dictionary.rows):
        settings["SKIP_BAD_IMAGES"] = [True]
    return {
        layer: LayerStore(
            config.OUTPUT_FOLDER, f"{run_name(config, config.TASK)}_{layer}",
            {**facts, "network": model.provenance(layer)}, settings,
        )
        for layer in model.layers
    }  # fmt: skip


# Settings that decide what main.py makes of every network.
_DECIDING = ("WEIGHTS", "CHECKPOINT_KEY", "QUANTILE", "SEG_THRESHOLD", "IOU_UNION", "FEATURE_DTYPE", "TEST_MODE")
_PLACES = ("DICTIONARY", "MODEL_FOLDER")  # of these, [as spelled, as an absolute path]


def used_settings(config, model):
    """The settings that decide what main.py makes of a network: {name: [values that say the same]}."""
    names = [*_DECIDING, *(name.upper() for name in model.spec.options)]
    names += ["SEED"] if config.WEIGHTS == RANDOM_WEIGHTS else []
    names += ["TEST_IMAGES"] if config.TEST_MODE else []
    used = {name: [getattr(config, name)] for name in names}
    for name, value, own in (
        ("INPUT_SIZE", model.side_px, model.spec.side_px), ("CROP", crops_faces(config, model), model.spec.crop),
    ):  # fmt: skip
        used[name] = [value] if value != own else [None, value]
    for name in _PLACES if model.spec.checkpoint and config.WEIGHTS is None else ("DICTIONARY",):
        used[name] = [getattr(config, name), str(Path(getattr(config, name)).resolve())]
    return used


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
            same = now in values
        if not same:
            unlike[name] = (values[-1], now)
    return unlike
