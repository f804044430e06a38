"""What main.py makes of a layer, stage by stage: a table (method.md §3)."""

from method.tally import TallyStatistic
from store.layer import Stage

_OF_IMAGES = ("network", "input_size", "feature_dtype", "dictionary_images", "number_of_rows", "crop")

MAPS = Stage(".mmap", "activation maps", _OF_IMAGES, version=2)
MAPS_SIZE = Stage("_feature_size.npy", "shape of the activation maps", _OF_IMAGES, version=2)
THRESHOLDS = Stage("_quantile.npy", "thresholds", (MAPS.suffix, "quantile"), version=2)


def _tally(thresholds, dictionary, facts):
    return TallyStatistic(thresholds, dictionary.concepts, dictionary.carries, facts["iou_union"], facts["images"])


_OF_MASKS = (MAPS.suffix, THRESHOLDS.suffix, "input_size", "dictionary_masks", "concepts", "seg_threshold")
TALLY = Stage("_tally.npz", "tally", (*_OF_MASKS, "iou_union", "images"), version=4, make=_tally)

# Statistics of one pass over the maps and masks, each with a file of its own. make: function of the thresholds, the
# dictionary and the facts, whose result has measure, add, merge and result (see method.tally.TallyStatistic).
STATISTICS = (TALLY,)

# What of the tally is chance, and what the untrained twins have of it (method.md §8).
CHANCE = Stage(
    "_chance.npz", "chance",
    (*_OF_MASKS, "images", "dictionary_images", "sources", "permutations", "bootstraps", "chance_images"), version=4,
)  # fmt: skip
# The best formula of every unit with a label worth the name (method.md §3.6).
FORMULAS = Stage(
    "_formulas.npz", "formulas",
    (*_OF_MASKS, TALLY.suffix, "dictionary_images", "sources", "formulas"),
)  # fmt: skip
TWINS = Stage("_twins.npz", "untrained twins", ("twins",))

# What predict.py leaves of a network, whatever its layer; with the table the manifest keeps its result in a line.
_OF_PREDICTIONS = ("network", "input_size", "predicts", "photographs", "crop")
ACCURACY = Stage("_accuracy.csv", "accuracy", _OF_PREDICTIONS, version=2)
PREDICTIONS = Stage("_predictions.csv", "predictions", _OF_PREDICTIONS, version=2)
