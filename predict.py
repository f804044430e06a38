"""How well does a network predict what the dictionary's subgroups say? (method.md §9)

Runs the whole network of TASK over the images of the subgroups and compares its predictions with them: the share that
is right, per subgroup, for a network that tells the subgroups of a global concept apart; the mean age and the least
mean absolute error for one that tells the age. It shows whether a network is fed as it wants to be: try CROP and
INPUT_SIZE. Results go to NL_FOLDER.
"""

import sys
from pathlib import Path

import numpy as np

import settings
from dictionary.concepts import AGE_RANGES, global_concepts
from dictionary.images import load_image
from dictionary.render import ensure_rendered
from dictionary.subgroups import photographs_of
from loader.activations import whole_pass
from loader.batch import NOT_FINITE
from loader.predictions import Classes, Years
from method.accuracy import mean, share, years_outside
from report.tables import write_csv
from store.ablation import require_classes
from store.layer import locked
from store.run import (
    prediction_store,
    prepare_device,
    prepare_model,
    prepare_subgroups,
    views_of_subgroups,
)
from store.stages import ACCURACY, PREDICTIONS
from util.configuration import read_settings, snapshot
from util.errors import DissectionError, first_few, run_script
from util.files import replace_text


def main():
    config = read_settings(settings, sys.argv[1:], __doc__, instead={"TASKS": "TASK"})
    model = prepare_model(config, config.TASK, None, prepare_device(config))
    require_prediction(model)
    ensure_rendered(config.DICTIONARY)
    subgroups, _ = prepare_subgroups(config, global_concepts(Path(config.DICTIONARY)))
    if isinstance(model.spec.predicts, Classes):
        require_classes(model.spec.predicts, subgroups)
    subgroups, views, _ = views_of_subgroups(config, model, subgroups, search=True)
    paths, labels = photographs_of(subgroups)
    predicted = predict(config, model, paths, views)
    rows = compare_with(model.spec.predicts, predicted, labels, subgroups)
    store = prediction_store(config, model, subgroups, views, accuracy=in_a_line(model.spec.predicts, rows))
    with locked([store]):
        store.make(PREDICTIONS, write_csv, image_rows(predicted, paths, labels, subgroups))
        store.make(ACCURACY, write_csv, rows)
        replace_text(store.path("_predict_settings.json"), snapshot(config))
    known = "" if isinstance(model.spec.predicts, Years) else f", {rows[1][1]} of them of known class"
    print(f"\n{store.layer}: {model.spec.predicts}, on {len(paths)} photographs{known}")
    for row in rows:
        print("  " + "".join(f"{cell:>16}" if place else f"{cell:<28}" for place, cell in enumerate(row)).rstrip())
    for stage in (ACCURACY, PREDICTIONS):
        print(f"  {store.path(stage.suffix)}")


def require_prediction(model):
    """Raise DissectionError for a network whose output says nothing that subgroups could be compared with."""
    predicts = model.spec.predicts
    if not isinstance(predicts, Classes | Years):
        found = f"states {predicts}: subgroups can tell of classes and ages alone" if predicts else (
            "does not state what its network predicts: copy it to one of your own, as loader/model_loader_mine.py, and "
            "state in its ModelSpec predicts=Classes('gender', ('female', 'male')) or predicts=Years(...), from "
            "loader/predictions.py"
        )  # fmt: skip
        raise DissectionError(f"the loader file of {model.task} {found}")


def predict(config, model, paths, views):
    """Run the whole network. Returns {digest: subgroup (Classes) or years (Years)}."""
    predicts, found = model.spec.predicts, []

    def load(place):
        path = places[place]
        return load_image(Path(config.DICTIONARY) / path, model.grid, views[path])

    places, label = list(paths.values()), f"{model.task}: predictions"
    for batch, output in whole_pass(model, len(places), load, config.BATCH_SIZE, config.WORKERS, label):
        numbers = predicts.years(output) if isinstance(predicts, Years) else predicts.probabilities(output)
        require_prediction_of_each([places[place] for place in batch], numbers)
        found += numbers.tolist() if numbers.ndim == 1 else [predicts.names[best] for best in numbers.argmax(axis=1)]
    return dict(zip(paths, found, strict=True))


def require_prediction_of_each(photographs, numbers):
    """Raise DissectionError unless each photograph of a batch has a prediction that is finite.

    photographs: paths. numbers: (N,) or (N, C).
    """
    if len(numbers) != len(photographs):
        raise DissectionError(f"the network gives {len(numbers)} predictions for {len(photographs)} photographs")
    if not np.isfinite(numbers).all():
        bad = [path for path, found in zip(photographs, numbers, strict=True) if not np.isfinite(found).all()]
        raise DissectionError(f"what the network predicts of {first_few(bad)} is NaN or infinite: {NOT_FINITE}")


def compare_with(predicts, predicted, labels, subgroups):
    """Rows of text, the first a header: a line per subgroup of every concept that has photographs to tell of."""
    if isinstance(predicts, Years):
        rows = [("subgroup", "photographs", "mean age", "95 % interval", "error at least", "95 % interval")]
        row_of = _years_row
    else:
        rows = [("subgroup", "photographs", "right", "95 % interval")]
        row_of = _share_row
        predicted = {  # whether it is right, of photographs whose class is known
            digest: predicted[digest] == group for digest, group in labels[predicts.concept].items()
        }
    rows.append(row_of("all", None, list(predicted.values())))
    for concept in subgroups:
        for group in concept.groups:
            of = [predicted[digest] for digest, label in labels[concept.concept].items()
                  if label == group and digest in predicted]  # fmt: skip
            rows += [row_of(f"{concept.concept}: {group}", group, of)] if of else []
    return rows


def in_a_line(predicts, rows):
    """The rows of compare_with in a line: of all photographs, and of the subgroups of what is predicted."""
    _, number, found, interval, *_ = rows[1]
    concept = "age" if isinstance(predicts, Years) else predicts.concept
    of_groups = ", ".join(f"{row[0].removeprefix(f'{concept}: ')} {row[2]}"
                          for row in rows[2:] if row[0].startswith(f"{concept}: "))  # fmt: skip
    what = f"mean {found} years over" if isinstance(predicts, Years) else f"right on {found} of"
    return f"{what} {number} photographs of subgroups (95 % interval {interval}; {of_groups or 'none of ' + concept})"


def _share_row(name, _group, right):
    found = share(right)
    return name, str(found.n), *_shown(found, "{:.1%}")


def _years_row(name, group, years):
    found, error = mean(years), ("", "")
    if group in AGE_RANGES:
        least = mean(years_outside(np.array(years), *AGE_RANGES[group]))
        error = _shown(least._replace(low=np.maximum(least.low, 0)), "{:.1f}")
    return name, str(found.n), *_shown(found, "{:.1f}"), *error


def _shown(estimate, form):
    if np.isnan(estimate.value):
        return "-", "-"
    interval = "-" if np.isnan(estimate.low) else f"{form.format(estimate.low)} to {form.format(estimate.high)}"
    return form.format(estimate.value), interval


def image_rows(predicted, paths, labels, subgroups):
    """Rows of the table of single photographs: path, prediction, its subgroup of every concept."""
    concepts = [concept.concept for concept in subgroups]
    yield ["image", "predicted", *concepts]
    for digest, path in paths.items():
        yield [path, predicted[digest], *(labels[concept].get(digest, "") for concept in concepts)]


if __name__ == "__main__":
    run_script(main)
