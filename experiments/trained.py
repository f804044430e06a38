"""Networks that a study trains: each an artifact that is made once, and dissected like any other checkpoint."""

import logging
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from feature_operation import FeatureOperator
from loader.models import load_model
from loader.tasks import RANDOM_WEIGHTS
from method.chance import Chance
from method.tally import Tally
from store.arrays import load_arrays, load_as, save_arrays
from store.dissection import chance, extract, tally, threshold
from store.layer import LayerStore, Stage
from store.maps import discard_interrupted
from store.run import layer_stores, prepare_model
from store.stages import CHANCE, MAPS, TALLY
from util.errors import DissectionError
from util.files import digest
from util.parallel import progress

log = logging.getLogger(__name__)

_WEIGHTS = "_weights{}.pth"
_OUTPUTS = Stage("_test.npy", "outputs for the faces of the test", (_WEIGHTS.format(""), "test"))

# Of the training: weight decay, and the share of each image that is mirrored.
_DECAY, _MIRRORED = 0.01, 0.5


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    task: of its loader file. architecture, classes: its ARCHITECTURE and NUM_CLASSES. side_px: of its input. epochs:
    passes over the training set. batch: images per step. learning_rate: the largest of a cycle of AdamW. seed: of the
    first weights, of the order of the images and of what is mirrored.
    """

    task: str
    architecture: str
    classes: int
    side_px: int
    epochs: int
    batch: int
    learning_rate: float
    seed: int

    def network(self, device):
        """The untrained network. Returns LoadedModel."""
        return load_model(
            self.task, None, weights=RANDOM_WEIGHTS, seed=self.seed, device=device, input_size=self.side_px,
            architecture=self.architecture, num_classes=self.classes,
        )  # fmt: skip


def weights_stage(epoch=None):
    """The file of a trained network's weights, or of those after some epochs; None after all."""
    suffix = _WEIGHTS.format("" if epoch is None else f"_epoch{epoch}")
    return Stage(suffix, "trained network" if epoch is None else f"network after {epoch} epochs", ("training",))


class Trained:
    """A network that a study trains. folder, name: of its files. recipe: Recipe. data: fingerprint of what it sees.

    device: torch.device. keep: epochs after which the weights are kept, too.
    """

    def __init__(self, folder, name, recipe, data, device, keep=()):
        self.name, self.recipe, self.device, self.keep = name, recipe, device, tuple(keep)
        facts = {"training": [vars(recipe), data, device.type, torch.__version__]}
        self.store = LayerStore(folder, name, facts)

    def weights(self, epoch=None):
        return self.store.path(weights_stage(epoch).suffix)

    def have(self, images, labels):
        """Train the network unless that was done. images: uint8 (N, S, S, 3), RGB. labels: int64 (N,)."""
        stages = {epoch: weights_stage(epoch) for epoch in (*self.keep, None)}
        if all(self.store.is_current(stage) for stage in stages.values()):
            log.info("%s: trained already", self.name)
            return
        model = self.recipe.network(self.device)
        for epoch, state in train(model, images, labels, self.recipe, self.name):
            if epoch in stages:
                self.store.make(stages[epoch], _save, state)
        self.store.make(stages[None], _save, state)

    def outputs(self, images, batch_size):
        """What the network says of other images. Returns float32 (N, classes), its logits."""
        self.store.facts["test"] = [images.shape[0], digest(images.tobytes())]
        if not self.store.is_current(_OUTPUTS):
            model = self.recipe.network(self.device)
            model.module.load_state_dict(torch.load(self.weights(), weights_only=True)["state_dict"])
            parts = [
                model.output(images[start : start + batch_size]).cpu().numpy()
                for start in range(0, len(images), batch_size)
            ]
            self.store.make(_OUTPUTS, save_arrays, np.concatenate(parts))
        return load_arrays(self.store.path(_OUTPUTS.suffix))

    def settings(self, config, layers, weights, suffix=""):
        """The settings under which main.py dissects the network. weights: WEIGHTS, a path or 'random'; its twin has the
        first weights of the training. suffix: of the folder of the results. Returns SimpleNamespace.
        """
        recipe, folder = self.recipe, self.store.path(f"{suffix}_dissection")
        own = {
            "TASK": recipe.task, "ARCHITECTURE": recipe.architecture, "NUM_CLASSES": recipe.classes,
            "INPUT_SIZE": recipe.side_px, "LAYER_NAME": list(layers), "WEIGHTS": str(weights), "CROP": "whole",
            "OUTPUT_FOLDER": str(folder), "NL_FOLDER": str(folder),
            "BOOTSTRAPS": 0,  # a study has no intervals of single units
            "ALIGN_JITTER": 0.0, "CHECKPOINT_KEY": None, "TEST_MODE": False, "PRESET": None,
            **({"SEED": recipe.seed} if weights == RANDOM_WEIGHTS else {}),
        }  # fmt: skip
        words = [f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in own.items()]
        return SimpleNamespace(**{**vars(config), **own, "words": words})


def _save(path, state):
    with open(path, "wb") as file:
        torch.save({"state_dict": state}, file)


def train(model, images, labels, recipe, name):
    """Train a network to tell classes. model: LoadedModel. images: uint8 (N, S, S, 3), RGB. labels: int64 (N,).

    name: for the bar. Yields (epochs done, state dict on the CPU) before the first epoch and after each. The same
    recipe and data give the same weights on the same device. Raises DissectionError when the training diverges.
    """
    module, count = model.module.train().requires_grad_(True), len(images)
    random = np.random.default_rng([recipe.seed, 7])
    labels = torch.from_numpy(np.asarray(labels, np.int64)).to(model.device)
    steps = max(count // recipe.batch, 1)
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.learning_rate, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.learning_rate, total_steps=recipe.epochs * steps + 1
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), progress(recipe.epochs * count, f"training {name}", "image") as bar:
        torch.manual_seed(recipe.seed)  # of dropout
        yield 0, _state(module)
        for epoch in range(1, recipe.epochs + 1):
            order = random.permutation(count)
            for part in np.array_split(order, steps):  # none is too small for batch normalisation
                batch = images[part]
                mirrored = random.random(len(part)) < _MIRRORED
                batch = np.where(mirrored[:, None, None, None], batch[:, :, ::-1], batch)
                optimiser.zero_grad(set_to_none=True)
                outputs = module(model.preprocess(batch))
                cross_entropy(outputs, labels[torch.from_numpy(part)]).backward()
                optimiser.step()
                schedule.step()
                bar.update(len(part))
            state = _state(module)
            if not all(torch.isfinite(value).all() for value in state.values()):
                raise DissectionError(f"{name}: the weights are not finite after epoch {epoch}: lower LEARNING_RATE")
            yield epoch, state


def _state(module):
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


class Dissector:
    """Dissects networks with the same input against one dictionary, whose images and masks are read once.

    dictionary: dictionary.dictionary.Dictionary.
    """

    def __init__(self, dictionary):
        self.dictionary, self.operator = dictionary, None

    def dissect(self, config):
        """Dissect a network as main.py would, but for reports, twins and the memory map. config: see Trained.settings.

        Returns {layer: (Tally, Chance)}.
        """
        model = prepare_model(config, config.TASK, config.LAYER_NAME, torch.device(config.device))
        stores = layer_stores(config, model, self.dictionary)
        missing = {
            layer: store for layer, store in stores.items()
            if not (store.is_current(TALLY, quiet=True) and store.is_current(CHANCE, quiet=True))
        }  # fmt: skip
        if missing:
            operator = self._operator(config, model)
            extract(config, operator, missing)
            threshold(config, operator, missing)
            tally(operator, missing)
            chance(config, operator, missing)
        for store in stores.values():
            discard_interrupted(store, MAPS)
            store.remove(MAPS.suffix)
        return {
            layer: (load_as(Tally, store.path(TALLY.suffix)), load_as(Chance, store.path(CHANCE.suffix)))
            for layer, store in stores.items()
        }

    def _operator(self, config, model):
        if self.operator is None:
            self.operator = FeatureOperator(
                model, self.dictionary, grid=model.grid, batch_size=config.BATCH_SIZE,
                tally_batch_size=config.TALLY_BATCH_SIZE, workers=config.WORKERS, keep_images=True,
            )  # fmt: skip
        return self.operator.of(model)
