"""What every script does first with its settings: load networks, find faces, name the results."""

import logging
from contextlib import ExitStack, contextmanager

from loader.devices import choose_device, describe_device
from loader.models import RANDOM_WEIGHTS, load_model, loader_file, model_spec
from util.errors import DissectionError

log = logging.getLogger(__name__)


def prepare_device(config):
    """Choose the device that the settings name, and say which. Returns torch.device. Raises DissectionError."""
    device = choose_device(config.DEVICE)
    log.info("device: %s", describe_device(device))
    return device


def prepare_model(config, task, layers, device):
    """Load a task's network as the settings say. layers: names. Returns LoadedModel. Raises DissectionError."""
    options = {name: getattr(config, name.upper()) for name in model_spec(task).options}
    model = load_model(
        task, layers, weights=config.WEIGHTS, seed=config.SEED, model_folder=config.MODEL_FOLDER, device=device,
        **options,
    )  # fmt: skip
    log.info("network: %s; weights: %s", model.spec.network, model.weights_label)
    return model


def input_size(config, model):
    """Side of the network's input, pixels."""
    return model.spec.side_px if config.INPUT_SIZE is None else config.INPUT_SIZE


def crops_faces(config, model):
    """Whether the network sees the face alone."""
    return model.spec.crop if config.CROP is None else config.CROP


def run_name(config, task):
    """How the results of a task are called: `{run}_{layer}`.

    The untrained twin has a name of its own, so that the baseline stands beside what it is compared with.
    """
    return f"{task}_random" if config.WEIGHTS == RANDOM_WEIGHTS else task


def tasks_of(config):
    """The tasks that the analyses look at, each once. Raises DissectionError for one without a loader file."""
    for task in (*config.TASKS, *config.TASK_LAYERS):
        loader_file(task)
    return list(dict.fromkeys(config.TASKS))


def require_one_checkpoint(config):
    """Raise DissectionError when WEIGHTS names one checkpoint for several tasks."""
    if config.WEIGHTS not in (None, RANDOM_WEIGHTS) and len(config.TASKS) > 1:
        raise DissectionError(
            f"WEIGHTS names one checkpoint ({config.WEIGHTS}) but TASKS {len(config.TASKS)} networks: set WEIGHTS=None "
            "for each task's own checkpoint, or TASKS to one task"
        )


def layers_of(config, task):
    """The layers of a task that the analyses look at: its row of TASK_LAYERS, else LAYER_NAME. Returns list of str."""
    return as_list(config.TASK_LAYERS.get(task, config.LAYER_NAME))


def as_list(names):
    """One name or several, as a list of str."""
    return [names] if isinstance(names, str) else list(names)


@contextmanager
def locked(all_artifacts):
    """Keep other runs off the artifacts of several layers. all_artifacts: iterable of LayerArtifacts."""
    with ExitStack() as stack:
        for artifacts in all_artifacts:
            stack.enter_context(artifacts.locked())
        yield
