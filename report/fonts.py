"""The fonts of reports: matplotlib's own, and for names that it has no letters for one that this machine has."""

from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.font_manager import fontManager

# Fonts with Chinese, Japanese or Korean letters, on Linux, macOS and Windows.
_FURTHER = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Droid Sans Fallback", "WenQuanYi Zen Hei",
    "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic",
    "Arial Unicode MS",
)  # fmt: skip
_FIRST_FURTHER = 0x2E80  # the first letter of those scripts


def prepare_plots():
    """Let plots find letters that their own font lacks, and let PDFs carry their fonts whole (Type 42, no Type 3)."""
    there = {font.name for font in fontManager.ttflist}
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in _FURTHER if name in there)]
    matplotlib.rcParams["pdf.fonttype"] = 42


def add_fonts(pdf, name, texts):
    """Give a report its font under a name, regular and bold; another one beside it where some of the texts need it.

    pdf: fpdf.FPDF.
    """
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pdf.add_font(name, fname=fonts / "DejaVuSans.ttf")
    pdf.add_font(name, style="B", fname=fonts / "DejaVuSans-Bold.ttf")
    further = _further_font() if any(ord(letter) >= _FIRST_FURTHER for text in texts for letter in text) else None
    if further:
        pdf.add_font("further", fname=further)
        pdf.set_fallback_fonts(["further"], exact_match=False)


@cache
def _further_font():
    """The file of a font for other scripts, None where there is none. fpdf2 reads single fonts, no collections."""
    paths = {font.name: font.fname for font in fontManager.ttflist if font.fname.lower().endswith((".ttf", ".otf"))}
    return next((paths[name] for name in _FURTHER if name in paths), None)
