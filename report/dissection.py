"""The reports on a dissected layer: a row each in REPORTS, whose writer is a function of a path and a Dissection."""

from dataclasses import dataclass

from report import pdf, tables
from store.layer import Stage
from store.stages import TALLY


@dataclass(frozen=True)
class Dissection:
    """What reports are written from. layer: `{TASK}_{LAYER_NAME}`. about: {what: text}, see store/about.py.

    findings: method.findings.Findings. dictionary: Dictionary, for its photographs. maps: FeatureMaps. grid: (rows,
    columns) on which pixels are counted. top_images: TOPN, images shown per unit, at most the number kept in the tally.
    workers: threads. made_with: what the numbers rest on, a line for the foot of every page.
    """

    layer: str
    about: dict
    findings: object
    dictionary: object
    maps: object
    grid: tuple
    top_images: int
    workers: int
    made_with: str = ""


_OF_PICTURES = (
    TALLY.suffix, "score_threshold", "images_shown", "dictionary_images", "crop", "quantile", "iou_union", "about",
)  # fmt: skip

REPORTS = (
    Stage("_conv.pdf", "report", _OF_PICTURES, version=5, make=pdf.write),
    Stage("_units.csv", "table of units", (TALLY.suffix, "score_threshold"), version=3, make=tables.write_units),
    Stage("_iou.csv", "IoU matrix", (TALLY.suffix,), version=2, make=tables.write_iou_matrix),
)
