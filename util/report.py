"""What people read of a dissected layer: the illustrated PDF, the tables, and the summary in words (method.md §3.5).

Reports are made from artifacts and the dictionary's photographs alone; they never run a model.
"""

import csv
import io
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from fpdf import FPDF

from loader.images import ImageError, darken_outside, load_rgb
from util.parallel import ordered_map, progress
from util.segmentation import active_pixels
from visual_dictionary.concepts import CONCEPT_TYPE, LOCAL_CONCEPTS_BY_TYPE, REGIONS, UNLOCALIZABLE, region_of
from visual_dictionary.dictionary import FaceDictionary

logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells at length how it cuts a font down

UNITS_PER_PAGE = 4

# A4 upright, millimetres.
_PAGE_WIDTH, _PAGE_HEIGHT = 210, 297
_MARGIN, _HEADER, _TITLE, _CAPTION, _GAP = 12, 8, 7, 4, 3
_PIXELS_PER_MM = 5.5  # about 140 dpi
_JPEG_QUALITY = 85
_FONT = "DejaVuSans"  # comes with matplotlib; unlike PDF's own fonts it has letters beyond Latin-1


class LayerReport:
    """The findings on one layer: each unit's concepts in order, and which units are interpretable.

    tally: feature_operation.Tally. score_threshold: IoU above which a unit is interpretable.
    ranking: int64 (U, C), concept indices by falling IoU, ties in concept order. interpretable: bool (U,).
    """

    def __init__(self, tally, score_threshold):
        self.tally, self.score_threshold = tally, score_threshold
        self.concepts = [str(concept) for concept in tally.concepts]
        self.ranking = np.argsort(-tally.tally, axis=1, kind="stable")
        self.top_iou = tally.tally.max(axis=1)
        self.interpretable = self.top_iou > score_threshold

    @property
    def units(self):
        return len(self.tally.tally)

    def top_concept(self, unit):
        return self.concepts[self.ranking[unit, 0]]

    @property
    def detectors(self):
        """Number of interpretable units."""
        return int(self.interpretable.sum())

    @property
    def unique_detectors(self):
        """Number of distinct top concepts among the interpretable units."""
        return len({self.top_concept(unit) for unit in np.nonzero(self.interpretable)[0]})

    def units_by_iou(self):
        """Unit numbers by falling top IoU, ties by number."""
        return np.argsort(-self.top_iou, kind="stable")

    def count_by(self, group_of, groups):
        """Interpretable units per group of their top concept, every other unit under UNLOCALIZABLE.

        group_of: function concept -> group. groups: names, in order. Returns {group: count} with all groups.
        """
        counted = Counter(group_of(self.top_concept(unit)) for unit in np.nonzero(self.interpretable)[0])
        counted[UNLOCALIZABLE] += self.units - self.detectors
        return {group: counted[group] for group in (*groups, UNLOCALIZABLE)}

    # ---------------------------------------------------------------------------------------------------- tables

    def write_units(self, path):
        """Write one line per unit (CSV): its concept, whether it is interpretable, the next two concepts."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["unit", "top_concept", "type", "region", "iou", "interpretable", "second_concept", "second_iou",
                 "third_concept", "third_iou", "threshold"]
            )  # fmt: skip
            for unit in range(self.units):
                first, *others = [
                    (self.concepts[index], repr(float(self.tally.tally[unit, index])))
                    for index in self.ranking[unit, :3]
                ]
                others += [("", "")] * (2 - len(others))
                concept, score = first
                described = [concept, CONCEPT_TYPE[concept], region_of(concept), score, int(self.interpretable[unit])]
                threshold = repr(float(self.tally.thresholds[unit]))
                writer.writerow([unit, *described, *others[0], *others[1], threshold])

    def write_iou_matrix(self, path):
        """Write the IoU of every unit (line) and concept (column), CSV."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["unit", *self.concepts])
            writer.writerows([unit, *map(repr, row.tolist())] for unit, row in enumerate(self.tally.tally))

    def summary(self):
        """The layer in a few lines of text."""
        regions = self.count_by(region_of, REGIONS)
        types = self.count_by(CONCEPT_TYPE.get, LOCAL_CONCEPTS_BY_TYPE)
        best = ", ".join(
            f"{self.top_concept(unit)} {self.top_iou[unit]:.4f} (unit {unit})" for unit in self.units_by_iou()[:3]
        )
        return "\n".join(
            [
                f"  units            {self.units}",
                f"  detectors        {self.detectors} units with IoU > {self.score_threshold:g}",
                f"  unique detectors {self.unique_detectors} concepts",
                "  by region        " + ", ".join(f"{region} {count}" for region, count in regions.items()),
                "  by type          " + ", ".join(f"{kind} {count}" for kind, count in types.items()),
                f"  best             {best}",
            ]
        )


# -------------------------------------------------------------------------------------------------------------- PDF


@dataclass(frozen=True)
class Photographs:
    """Where a report gets its pictures. dictionary: FaceDictionary. boxes: {image path: box}, None without crop.

    side_px: side of the grid on which pixels are counted.
    """

    dictionary: FaceDictionary
    boxes: dict | None
    side_px: int


def write_pdf(path, name, report, photographs, features, *, top_images, workers):
    """Write the illustrated report: units by falling top IoU, four to a page, each with its best images.

    name: of the layer. report: LayerReport. photographs: Photographs. features: FeatureMaps of the layer. top_images:
    TOPN, images per unit, at most the number kept in the tally. workers: threads.
    """
    order = report.units_by_iou()
    pdf = _new_pdf(name, report)
    width_mm, height_mm = _picture_room(top_images)

    def render_unit(unit):
        images = report.tally.maps[unit, report.ranking[unit, 0], :top_images]
        return [
            _render(photographs, features, report.tally.thresholds, unit, index, (width_mm, height_mm))
            for index in images
        ]

    with progress(len(order), f"report of {name}", "unit") as bar:
        for place, (unit, pictures) in enumerate(zip(order, ordered_map(render_unit, order, workers), strict=True)):
            row = place % UNITS_PER_PAGE
            if row == 0:
                pdf.add_page()
            _draw_unit(pdf, report, unit, pictures, row, width_mm)
            bar.update()
    pdf.output(str(path))


def _new_pdf(name, report):
    class Report(FPDF):
        def header(self):
            pages = -(-report.units // UNITS_PER_PAGE)
            self.set_font(_FONT, size=7)
            self.set_text_color(110)
            self.set_xy(_MARGIN, _MARGIN - 5)
            text = (
                f"{name}   {report.detectors} of {report.units} units interpretable (IoU > {report.score_threshold:g})"
            )
            self.cell(_PAGE_WIDTH - 2 * _MARGIN, 4, text)
            self.set_xy(_MARGIN, _MARGIN - 5)
            self.cell(_PAGE_WIDTH - 2 * _MARGIN, 4, f"page {self.page_no()} of {pages}", align="R")

    pdf = Report(unit="mm", format="A4")
    pdf.set_auto_page_break(False)
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pdf.add_font(_FONT, fname=fonts / "DejaVuSans.ttf")
    pdf.add_font(_FONT, style="B", fname=fonts / "DejaVuSans-Bold.ttf")
    pdf.set_title(f"Dissection of {name}")
    pdf.set_subject(f"tally {report.tally.fingerprint}")
    return pdf


def _unit_height():
    return (_PAGE_HEIGHT - 2 * _MARGIN - _HEADER) / UNITS_PER_PAGE


def _picture_room(top_images):
    """Room for one picture, (width, height) in millimetres."""
    width = (_PAGE_WIDTH - 2 * _MARGIN - _GAP * (top_images - 1)) / top_images
    return width, _unit_height() - _TITLE - _CAPTION - _GAP


def _draw_unit(pdf, report, unit, pictures, row, width_mm):
    concept = report.ranking[unit, 0]
    top = _MARGIN + _HEADER / 2 + row * _unit_height()
    pdf.set_xy(_MARGIN, top)
    pdf.set_font(_FONT, style="B", size=10)
    pdf.set_text_color(0 if report.interpretable[unit] else 130)
    pdf.cell(0, _TITLE - 1, unit_title(unit, report.concepts[concept], report.top_iou[unit]))
    pdf.set_font(_FONT, size=6.5)
    pdf.set_text_color(110)
    for place, picture in enumerate(pictures):
        if picture is None:
            continue
        jpeg, picture_width, picture_height = picture
        left = _MARGIN + place * (width_mm + _GAP)
        pdf.image(jpeg, x=left, y=top + _TITLE, w=picture_width, h=picture_height)
        index, score = report.tally.maps[unit, concept, place], report.tally.scores[unit, concept, place]
        pdf.set_xy(left, top + _TITLE + picture_height + 0.5)
        pdf.cell(width_mm, _CAPTION - 1, f"image {index}, IoU {score:.3f}" if width_mm > 25 else f"{score:.2f}")


def unit_title(unit, concept, score):
    """The title over a unit's images, as the published report has it."""
    return f"UNIT - {unit},  CLASS - {concept}, IOU - {score:.4f}"


def _render(photographs, features, thresholds, unit, index, room_mm):
    """One photograph, darkened outside M_u(x). Returns (JPEG stream, width, height in mm), None where index is -1."""
    if index < 0:
        return None
    row = photographs.dictionary.rows[index]
    image = load_rgb(photographs.dictionary.image_path(row))
    box = None if photographs.boxes is None else photographs.boxes[row.image]
    height, width = image.shape[:2]
    scale = min(room_mm[0] / width, room_mm[1] / height)  # mm per pixel
    shown = min(1.0, scale * _PIXELS_PER_MM)  # shown pixels per pixel of the photograph
    size = max(1, round(width * shown)), max(1, round(height * shown))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    active = active_pixels(features.read_map(index, unit)[None], thresholds[[unit]], photographs.side_px)[0]
    highlighted = highlight(image, active, box, (width, height))
    good, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(highlighted, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not good:
        raise ImageError(f"cannot encode image {index} for the report")
    return io.BytesIO(jpeg.tobytes()), width * scale, height * scale


def highlight(image, active, box, size):
    """Darken a photograph to 40 % outside a unit's active pixels (method.md §3.5).

    image: uint8 (h, w, 3), the photograph at any scale. active: bool (S, S), M_u on the network's grid. box: the part
    of the photograph that the network saw, (left, top, right, bottom) in pixels of size, None for the whole.
    size: (width, height) of the photograph in its own pixels. Returns uint8 (h, w, 3).
    """
    height, width = image.shape[:2]
    left, top, right, bottom = box if box is not None else (0, 0, *size)
    # Each shown pixel looks up the grid cell that its centre falls into; outside the box there is none.
    x = ((np.arange(width) + 0.5) * size[0] / width - left) / (right - left) * active.shape[1]
    y = ((np.arange(height) + 0.5) * size[1] / height - top) / (bottom - top) * active.shape[0]
    inside_x, inside_y = (x >= 0) & (x < active.shape[1]), (y >= 0) & (y < active.shape[0])
    lit = np.zeros((height, width), bool)
    cells = active[np.ix_(y[inside_y].astype(int), x[inside_x].astype(int))]
    lit[np.ix_(inside_y, inside_x)] = cells
    return darken_outside(image, lit)
