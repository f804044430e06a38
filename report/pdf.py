"""The illustrated report on a dissected layer (method.md §3.5)."""

import io
import logging

import cv2
import numpy as np
from fpdf import FPDF

from dictionary.images import ImageError, darken_outside
from method.segmentation import active_pixels
from report.chance import MEANING, unit_line
from report.fonts import add_fonts
from report.plots import iou_by_location, top_iou_beside_twins
from report.summary import found
from report.summary import sentences as told
from util.parallel import mapped

logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells at length how it cuts a font down
logging.getLogger("fpdf.svg").setLevel(logging.ERROR)  # a plot says by which program it was drawn

UNITS_PER_PAGE = 4
_FIRST_PAGES = 3  # what was dissected and found, what the figures mean, plots

# A4 upright, millimetres.
_PAGE_WIDTH, _PAGE_HEIGHT = 210, 297
_MARGIN, _HEADER, _TITLE, _CAPTION, _GAP = 12, 8, 10, 4, 3
_UNIT_HEIGHT = (_PAGE_HEIGHT - 2 * _MARGIN - _HEADER) / UNITS_PER_PAGE
_WORD_WIDTH, _LINE = 34, 5.5  # of the first page
_PIXELS_PER_MM = 5.5  # about 140 dpi
_MM_PER_INCH = 25.4
_JPEG_QUALITY = 85
_FONT = "DejaVuSans"  # comes with matplotlib; unlike PDF's own fonts it has letters beyond Latin-1


def write(path, dissection):
    """Write the illustrated report: what was dissected and found, then the units by falling top IoU, four to a page,
    each with its best images. dissection: report.dissection.Dissection.
    """
    findings, top_images = dissection.findings, dissection.top_images
    order = findings.units_by_iou()
    pdf = _new_pdf(dissection.layer, findings, dissection.made_with, dissection.about)
    room_mm = _picture_room(top_images)
    pdf.add_page()
    sentences = " ".join(told(findings, dissection.evidence))
    numbers = found(findings, dissection.evidence)
    _draw_words(pdf, f"Dissection of {dissection.layer}", {"found": sentences}, dissection.about, numbers)
    pdf.add_page()
    _draw_words(pdf, "What the figures mean", MEANING)
    pdf.add_page()
    _draw_plots(pdf, dissection)

    def render_unit(unit):
        images = findings.tally.maps[unit, findings.ranking[unit, 0], :top_images] if findings.top_concept(unit) else []
        return [_render(dissection, unit, index, room_mm) for index in images]

    rendered = mapped(render_unit, order, dissection.workers, f"report of {dissection.layer}", "unit")
    for place, (unit, pictures) in enumerate(rendered):
        row = place % UNITS_PER_PAGE
        if row == 0:
            pdf.add_page()
        _draw_unit(pdf, dissection, unit, pictures, row, room_mm[0])
    pdf.output(str(path))


def _new_pdf(name, findings, made_with, about):
    class Report(FPDF):
        def header(self):
            pages = _FIRST_PAGES + -(-findings.units // UNITS_PER_PAGE)
            self.set_font(_FONT, size=7)
            self.set_text_color(110)
            self.set_xy(_MARGIN, _MARGIN - 5)
            limit = f"IoU > {findings.score_threshold:g}"
            counted = f"{findings.detectors} of {findings.units} units interpretable ({limit})"
            self.cell(_PAGE_WIDTH - 2 * _MARGIN, 4, "   ".join([name, *(findings.warnings or [counted])]))
            self.set_xy(_MARGIN, _MARGIN - 5)
            self.cell(_PAGE_WIDTH - 2 * _MARGIN, 4, f"page {self.page_no()} of {pages}", align="R")

        def footer(self):
            self.set_font(_FONT, size=7)
            self.set_text_color(110)
            self.set_xy(_MARGIN, _PAGE_HEIGHT - _MARGIN + 2)
            self.cell(_PAGE_WIDTH - 2 * _MARGIN, 4, made_with)

    pdf = Report(unit="mm", format="A4")
    pdf.set_auto_page_break(False)
    add_fonts(pdf, _FONT, (name, made_with, *findings.concepts, *about.values()))
    pdf.set_title(f"Dissection of {name}")
    pdf.set_subject(f"tally {findings.tally.fingerprint}")
    return pdf


def _draw_words(pdf, title, *parts):
    """The first page. parts: dicts {what: text}, one below the other."""
    pdf.set_xy(_MARGIN, 2 * _MARGIN)
    pdf.set_text_color(0)
    pdf.set_font(_FONT, style="B", size=16)
    pdf.cell(0, 1.5 * _TITLE, title, new_x="LMARGIN", new_y="NEXT")
    width = _PAGE_WIDTH - 2 * _MARGIN - _WORD_WIDTH
    for part in parts:
        pdf.ln(_GAP)
        for what, text in part.items():
            pdf.set_x(_MARGIN)
            pdf.set_font(_FONT, style="B", size=9)
            pdf.cell(_WORD_WIDTH, _LINE, what)
            pdf.set_font(_FONT, size=9)
            pdf.multi_cell(width, _LINE, text, align="L", new_x="LMARGIN", new_y="NEXT")


def _draw_plots(pdf, dissection):
    """The page of plots: IoU against what location gives, and top IoU beside the untrained twins'."""
    findings, evidence = dissection.findings, dissection.evidence
    chance, units = evidence.chance, np.arange(findings.units)
    by_location = np.where(chance.label >= 0, chance.location_iou[units, chance.label], 0)
    figures = [
        iou_by_location("IoU of each unit's concept", chance.iou.max(axis=1), by_location, evidence.confirmed,
                        findings.score_threshold),
        top_iou_beside_twins("Top IoU beside untrained twins", findings.top_iou, evidence.twins.top_iou,
                             findings.score_threshold),
    ]  # fmt: skip
    width, top = _PAGE_WIDTH - 2 * _MARGIN, _MARGIN + _HEADER / 2
    height = (_PAGE_HEIGHT - _MARGIN - top) / len(figures) - _GAP
    for figure in figures:
        figure.set_size_inches(width / _MM_PER_INCH, height / _MM_PER_INCH)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg")  # lines and letters, no pixels
        pdf.image(drawn, x=_MARGIN, y=top, w=width)
        top += height + _GAP


def _picture_room(top_images):
    """Room for one picture, (width, height) in millimetres."""
    width = (_PAGE_WIDTH - 2 * _MARGIN - _GAP * (top_images - 1)) / top_images
    return width, _UNIT_HEIGHT - _TITLE - _CAPTION - _GAP


def _draw_unit(pdf, dissection, unit, pictures, row, width_mm):
    findings = dissection.findings
    concept = findings.ranking[unit, 0]
    top = _MARGIN + _HEADER / 2 + row * _UNIT_HEIGHT
    pdf.set_xy(_MARGIN, top)
    pdf.set_font(_FONT, style="B", size=10)
    pdf.set_text_color(0 if findings.interpretable[unit] else 130)
    pdf.cell(0, 6, unit_title(unit, findings.top_concept(unit), findings.top_iou[unit]), new_x="LMARGIN", new_y="NEXT")
    pdf.set_font(_FONT, size=6.5)
    pdf.set_text_color(110)
    pdf.set_x(_MARGIN)
    pdf.cell(0, 3, unit_line(findings, dissection.evidence, unit, dissection.formulas))
    for place, picture in enumerate(pictures):
        if picture is None:
            continue
        jpeg, picture_width, picture_height = picture
        left = _MARGIN + place * (width_mm + _GAP)
        pdf.image(jpeg, x=left, y=top + _TITLE, w=picture_width, h=picture_height)
        index, score = findings.tally.maps[unit, concept, place], findings.tally.scores[unit, concept, place]
        pdf.set_xy(left, top + _TITLE + picture_height + 0.5)
        pdf.cell(width_mm, _CAPTION - 1, f"image {index}, IoU {score:.3f}" if width_mm > 25 else f"{score:.2f}")


def unit_title(unit, concept, score):
    """The title over a unit's images, as the published report has it. concept: None for a unit without."""
    return f"UNIT - {unit},  CLASS - {concept or 'none'}, IOU - {score:.4f}"


def _render(dissection, unit, index, room_mm):
    """One photograph, darkened outside M_u(x). Returns (JPEG stream, width, height in mm), None where index is -1."""
    if index < 0:
        return None
    row = dissection.dictionary.rows[index]
    image = dissection.photograph(row)  # (H, W, 3)
    height, width = image.shape[:2]
    scale = min(room_mm[0] / width, room_mm[1] / height)  # mm per pixel
    shown = min(1.0, scale * _PIXELS_PER_MM)  # shown pixels per pixel of the photograph
    size = max(1, round(width * shown)), max(1, round(height * shown))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    threshold = dissection.findings.tally.thresholds[[unit]]
    grid = dissection.dictionary.grid(row, dissection.grid)
    activation = dissection.maps.read_map(index, unit)[None]
    silent = activation.max() <= threshold[0]  # of which sparse maps keep nothing
    active = np.zeros(grid, bool) if silent else active_pixels(activation, threshold, grid)[0]
    highlighted = highlight(image, active, dissection.dictionary.view(row), (width, height))
    good, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(highlighted, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not good:
        raise ImageError(f"cannot encode image {index} for the report")
    return io.BytesIO(jpeg.tobytes()), width * scale, height * scale


def highlight(image, active, view, size):
    """Darken a photograph to 40 % outside a unit's active pixels (method.md §3.5).

    image: uint8 (h, w, 3), the photograph at any scale. active: bool (rows, columns), M_u on the network's grid. view:
    what the network saw, see dictionary/views.py. size: (width, height) of the photograph in its own pixels. Returns
    uint8 (h, w, 3).
    """
    height, width = image.shape[:2]
    # Each shown pixel looks up the grid cell that its centre falls into; where the network saw nothing there is none.
    x, y = (np.arange(width) + 0.5) * size[0] / width, (np.arange(height) + 0.5) * size[1] / height
    columns, rows = np.broadcast_arrays(*view.place(x[None, :], y[:, None], size, active.shape))  # (h, w)
    inside = (columns >= 0) & (columns < active.shape[1]) & (rows >= 0) & (rows < active.shape[0])
    lit = np.zeros((height, width), bool)
    lit[inside] = active[rows[inside].astype(int), columns[inside].astype(int)]
    return darken_outside(image, lit)
