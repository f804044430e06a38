"""Dissect layers of a face model: which local concepts do its units detect? (method.md §3)

Extracts every unit's activation maps over the Face Dictionary, thresholds them, tallies the IoU of units and concepts,
and writes the report. Results go to OUTPUT_FOLDER; finished stages are reused.
"""

import logging
import sys

import settings
from feature_operation import FeatureOperator, Tally
from loader.faces import face_boxes, missing_faces
from util.artifacts import (
    FEATURE_SIZE,
    FEATURES,
    IOU_MATRIX,
    QUANTILE,
    REPORT,
    SETTINGS,
    TALLY,
    UNITS,
    fingerprint,
)
from util.configuration import read_settings, snapshot
from util.errors import run_script
from util.files import replace_text
from util.preparation import as_list, crops_faces, input_size, locked, prepare_device, prepare_model, run_name
from util.report import LayerReport, Photographs, write_pdf
from visual_dictionary.dictionary import open_dictionary
from visual_dictionary.render_dictionary import ensure_rendered

log = logging.getLogger(__name__)

# Raise when the reports' content or looks change.
_REPORT_VERSION = 1


def main():
    config = read_settings(settings, sys.argv[1:], __doc__)
    model = prepare_model(config, config.TASK, as_list(config.LAYER_NAME), prepare_device(config))
    dictionary, boxes = read_dictionary(config, model)
    operator = prepare_operator(config, model, dictionary, boxes)
    with locked(operator.artifacts.values()):
        layers = [layer for layer in model.layers if not is_finished(config, operator, layer)]
        features = operator.feature_extraction(layers)
        thresholds = operator.quantile_threshold(features, config.QUANTILE)
        operator.tally(features, thresholds, **tally_options(config))
        for layer in layers:
            write_reports(config, operator, layer, features[layer])
        tidy_up(config, operator)
        for layer in model.layers:
            summarise(config, operator, layer, reused=layer not in layers)


def read_dictionary(config, model):
    """Open the dictionary and, where the task crops, find its faces. Returns (FaceDictionary, boxes or None)."""
    ensure_rendered(config.DICTIONARY)
    dictionary = open_dictionary(
        config.DICTIONARY, memory_folder=config.CACHE_FOLDER, workers=config.WORKERS,
        skip_bad=config.SKIP_BAD_IMAGES, limit=config.TEST_IMAGES if config.TEST_MODE else None,
    )  # fmt: skip
    boxes = None
    if crops_faces(config, model):
        boxes = face_boxes(
            dictionary.root, dictionary.image_digests, input_size(config, model), config.CACHE_FOLDER, model.device,
            config.WORKERS,
        )  # fmt: skip
        dictionary = dictionary.without(missing_faces(dictionary, boxes), config.SKIP_BAD_IMAGES)
    for problem in dictionary.problems:
        log.info("%s: %s", "left out" if problem.fatal else "note", problem)
    log.info(
        "dictionary: %s, %d images, %d concepts",
        config.DICTIONARY, len(dictionary.usable_rows), len(dictionary.concepts),
    )  # fmt: skip
    return dictionary, boxes


def prepare_operator(config, model, dictionary, boxes):
    return FeatureOperator(
        model, dictionary, config.OUTPUT_FOLDER, run_name(config, config.TASK),
        side_px=input_size(config, model), boxes=boxes, batch_size=config.BATCH_SIZE,
        tally_batch_size=config.TALLY_BATCH_SIZE, workers=config.WORKERS,
        feature_dtype=config.FEATURE_DTYPE,
    )  # fmt: skip


def tally_options(config):
    return {"quantile": config.QUANTILE, "iou_union": config.IOU_UNION, "seg_threshold": config.SEG_THRESHOLD}


def reports_made_from(config, operator, layer):
    """{suffix: what the report is made from}."""
    tally = fingerprint(operator.tally_made_from(layer, **tally_options(config)))
    return {
        IOU_MATRIX: {"version": _REPORT_VERSION, "tally": tally},
        UNITS: {"version": _REPORT_VERSION, "tally": tally, "score_threshold": config.SCORE_THRESHOLD},
        REPORT: {
            "version": _REPORT_VERSION, "tally": tally, "score_threshold": config.SCORE_THRESHOLD,
            "images_shown": config.TOPN,
        },
    }  # fmt: skip


def is_finished(config, operator, layer):
    """Whether everything that is to be left of a layer is there; the memory map only where it is to be kept."""
    expected = {
        FEATURE_SIZE: operator.extraction_made_from(layer),
        QUANTILE: operator.threshold_made_from(layer, config.QUANTILE),
        TALLY: operator.tally_made_from(layer, **tally_options(config)),
        **reports_made_from(config, operator, layer),
    }
    if not config.CLEAN:
        expected[FEATURES] = operator.extraction_made_from(layer)
    return all(
        operator.artifacts[layer].is_current(suffix, made_from, quiet=True) for suffix, made_from in expected.items()
    )


def write_reports(config, operator, layer, features):
    """Write the tables, the illustrated PDF and the snapshot of the settings."""
    artifacts = operator.artifacts[layer]
    report = LayerReport(Tally.load(artifacts.path(TALLY)), config.SCORE_THRESHOLD)
    photographs = Photographs(operator.dictionary, operator.boxes, operator.side_px)
    writers = {
        IOU_MATRIX: report.write_iou_matrix,
        UNITS: report.write_units,
        REPORT: lambda path: write_pdf(
            path, artifacts.layer, report, photographs, features, top_images=config.TOPN, workers=config.WORKERS
        ),
    }
    for suffix, made_from in reports_made_from(config, operator, layer).items():
        if not artifacts.is_current(suffix, made_from):
            with artifacts.writing(suffix, made_from) as partial:
                writers[suffix](partial)


def tidy_up(config, operator):
    """Leave the settings beside the results and, with CLEAN, delete the memory maps."""
    for artifacts in operator.artifacts.values():
        replace_text(artifacts.path(SETTINGS), snapshot(config))
        if config.CLEAN:
            artifacts.remove(FEATURES)


def summarise(config, operator, layer, reused):
    """Print what was found and where it lies."""
    artifacts, dictionary = operator.artifacts[layer], operator.dictionary
    left_out = len(dictionary.rows) - len(dictionary.usable_rows)
    print(f"\n{artifacts.layer}" + (" (nothing changed: all results are up to date)" if reused else ""))
    print(f"  images           {len(dictionary.usable_rows)}" + (f", {left_out} left out as bad" if left_out else ""))
    print(LayerReport(Tally.load(artifacts.path(TALLY)), config.SCORE_THRESHOLD).summary())
    for suffix, what in {REPORT: "report", UNITS: "table of units", IOU_MATRIX: "IoU matrix", TALLY: "tally"}.items():
        print(f"  {what:<16} {artifacts.path(suffix)}")


if __name__ == "__main__":
    run_script(main, "stopped: what is finished is kept, and the same command goes on from here")
