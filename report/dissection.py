"""The reports on a dissected layer: a row each in REPORTS, whose writer is a function of a path and a Dissection."""

from dataclasses import dataclass, field

from report import labels, pdf, shown, tables
from store.layer import Stage
from store.stages import CHANCE, FORMULAS, TALLY, TWINS


@dataclass(frozen=True)
class Dissection:
    """What reports are written from. layer: `{TASK}_{LAYER_NAME}`. about: {what: text}, see store/about.py.

    findings: method.findings.Findings. evidence: method.evidence.Evidence. dictionary: Dictionary, for its photographs.
    maps: FeatureMaps. grid: (rows, columns) on which pixels are counted. top_images: TOPN, images shown per unit, at
    most the number kept in the tally. workers: threads. made_with: what the numbers rest on, for every page's foot.
    photographs: whether the page may show them. masks_of: function of a row that gives its masks on the grid, as
    Dictionary.masks does; that by default. formulas: method.formulas.Formulas.
    """

    layer: str
    about: dict
    findings: object
    evidence: object
    dictionary: object
    maps: object
    grid: tuple
    top_images: int
    workers: int
    made_with: str = ""
    photographs: bool = True
    masks_of: object = None
    formulas: object = None
    _small: dict = field(default_factory=dict)

    def photograph(self, row):
        """The whole photograph of a row, uint8 (H, W, 3); what the page shows of it is kept, so that PDF and page
        decode it once.
        """
        photograph = self.dictionary.photograph(row)
        if row.index not in self._small:
            self._small[row.index] = photograph.shape[1::-1], shown.small_picture(photograph)
        return photograph

    def masks(self, row):
        """The masks of a row on the grid, see Dictionary.masks."""
        return self.masks_of(row) if self.masks_of else self.dictionary.masks(row, self.grid)

    def small(self, row):
        """A photograph's (width, height), pixels, and what pages show of it, see report.shown.small_picture."""
        if row.index not in self._small:
            self.photograph(row)
        return self._small[row.index]


_OF_NUMBERS = (TALLY.suffix, CHANCE.suffix, TWINS.suffix, "score_threshold", "alpha")
_OF_PICTURES = (
    *_OF_NUMBERS, FORMULAS.suffix, "images_shown", "dictionary_images", "crop", "quantile", "iou_union", "about",
)  # fmt: skip
_OF_PAGE = (*_OF_PICTURES, "dictionary_masks", "photographs")

REPORTS = (
    Stage("_conv.pdf", "report", _OF_PICTURES, version=8, make=pdf.write),
    Stage("_units.csv", "table of units", _OF_NUMBERS, version=4, make=tables.write_units),
    Stage("_presence.csv", "what units tell", (CHANCE.suffix, "alpha"), make=tables.write_presence),
    Stage("_formulas.csv", "formulas", (FORMULAS.suffix, TALLY.suffix, "score_threshold"), make=tables.write_formulas),
    Stage("_iou.csv", "IoU matrix", (TALLY.suffix,), version=2, make=tables.write_iou_matrix),
    Stage("_tally.csv", "best per type", (TALLY.suffix,), make=labels.write_tally),
    Stage("_labels.pdf", "chart of labels", (TALLY.suffix, "score_threshold"), make=labels.write_chart),
    Stage("_shown.json", "data of the page", _OF_PAGE, version=3, make=shown.write),
)
