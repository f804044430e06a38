"""What main.py left of the layers that a study looks at, and the same operations on other maps or thresholds."""

import shlex
from contextlib import contextmanager
from dataclasses import dataclass

from experiments.words import read_words
from feature_operation import FeatureOperator
from method.chance import Chance
from method.findings import NO_PLACES
from method.outcome import Outcome
from method.tally import Tally
from report.tables import aligned
from store.arrays import load_as
from store.layer import locked
from store.maps import open_maps
from store.run import as_list, layer_stores, prepare_device, prepare_dictionary, prepare_model, prepare_twin, twin_seeds
from store.stages import CHANCE, MAPS, MAPS_SIZE, TALLY, THRESHOLDS
from util.errors import DissectionError

# What decides an Outcome beside its thresholds: facts and files. Bootstraps are left out, for it has no intervals.
OF_OUTCOME = tuple(
    name for name in dict.fromkeys((*TALLY.inputs, *CHANCE.inputs, "versions"))
    if name not in (THRESHOLDS.suffix, "bootstraps")
)  # fmt: skip


@dataclass(frozen=True)
class Dissected:
    """A layer that main.py has dissected under the present settings.

    config: settings. operator: FeatureOperator. store: LayerStore. maps: FeatureMaps. own: Outcome of its units.
    twins: list of Outcome, of its untrained twins; empty where a study does not ask for them.
    """

    config: object
    operator: object
    store: object
    maps: object
    own: Outcome
    twins: list

    def counts(self, outcome):
        """Returns Counts under the present settings."""
        return outcome.counts(self.config.SCORE_THRESHOLD, self.config.ALPHA)

    def outcomes(self, maps, thresholds):
        """Dissect maps with each of several sets of thresholds, the masks read once.

        maps: FeatureMaps. thresholds: list of float64 (U,). Yields an Outcome for each.
        """
        config, operator, layer = self.config, self.operator, self.store.layer
        statistics = [TALLY.make(of, operator.dictionary, self.store.facts) for of in thresholds]
        tallies = operator.tally({layer: (maps, statistics)})[layer]
        for tally in tallies:
            chance = operator.chance(
                {layer: (maps, tally)}, permutations=config.PERMUTATIONS or 0, bootstraps=0,
                images=config.CHANCE_IMAGES or len(operator.dictionary.rows),
            )  # fmt: skip
            yield Outcome.of(tally, chance[layer])

    def tell(self, sentences, tables):
        """Print what was found. sentences: texts. tables: lists of rows of text, the first of each its header."""
        print(f"\n{self.store.layer}\n  " + "\n  ".join(sentences))
        for rows in tables:
            print("  " + "\n  ".join(aligned(rows)))

    def leave(self, reports, *content):
        """Write reports and say where they lie. reports: Stages, made from path, layer and content."""
        for stage in reports:
            self.store.make(stage, stage.make, self, *content)
            print(f"  {self.store.path(stage.suffix)}")


@contextmanager
def dissected_layers(words, description, twins=False):
    """The layers of LAYER_NAME, kept from other runs while the block lasts. Yields list of Dissected.

    words: of the command line. description: of the study. twins: whether to have the untrained twins' outcomes too.
    Raises DissectionError when main.py has not dissected one under the present settings, with the command that does it.
    """
    config = read_words(words, description, instead={"TASKS": "TASK", "TASK_LAYERS": "LAYER_NAME"})
    if config.FEATURES != "dense":
        raise DissectionError(
            f"FEATURES={config.FEATURES!r} keeps what one threshold needs, and this study needs whole maps: set "
            "FEATURES='dense', here and for main.py"
        )
    model = prepare_model(config, config.TASK, as_list(config.LAYER_NAME), prepare_device(config))
    dictionary = prepare_dictionary(config, model)
    operator = FeatureOperator(
        model, dictionary, grid=model.grid, tally_batch_size=config.TALLY_BATCH_SIZE, workers=config.WORKERS
    )
    stores = layer_stores(config, model, dictionary)
    of_twins = [
        layer_stores(config, prepare_twin(config, model, seed), dictionary, twin=seed)
        for seed in (twin_seeds(config) if twins else ())
    ]
    with locked(stores.values()):
        yield [
            _dissected(config, operator, store, [of_twin[layer] for of_twin in of_twins])
            for layer, store in stores.items()
        ]


def _dissected(config, operator, store, twins):
    try:
        store.require_current(MAPS)
        own, *of_twins = [_outcome(one) for one in (store, *twins)]
    except DissectionError as error:
        words = [word for word in config.words if not word.startswith("CLEAN=")]
        command = shlex.join(["python", "main.py", *words, "CLEAN=False"])
        raise DissectionError(f"{error}; dissect {store.layer} first, with\n    {command}") from error
    if tuple(own.map_size) == (1, 1):
        raise DissectionError(f"{store.layer}: {NO_PLACES}")
    store.facts["versions"] = [THRESHOLDS.version, TALLY.version, CHANCE.version]
    maps = open_maps(store, MAPS, MAPS_SIZE, operator.dictionary.usable)
    return Dissected(config, operator, store, maps, own, of_twins)


def _outcome(store):
    """The Outcome that main.py left of a layer. Raises DissectionError when it is none of the present settings."""
    store.require_current(MAPS, file_needed=False)
    for stage in (MAPS_SIZE, THRESHOLDS, TALLY, CHANCE):
        store.require_current(stage)
    return Outcome.of(load_as(Tally, store.path(TALLY.suffix)), load_as(Chance, store.path(CHANCE.suffix)))
