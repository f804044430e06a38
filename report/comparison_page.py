"""Layers side by side as a page: what cluster_top.py and nl_bias.py compare, a click from the units behind a number.

Made from the tables that they write (hierarchy_comparison.csv, bias_comparison.csv), so that both say the same.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from report.beside import page_of, read_table
from report.page import render
from util.files import replacing


@dataclass(frozen=True)
class Kind:
    """A table of comparisons. title: of its page. lead: what a number in it is. division, count: names of its columns.

    words: function (division, group) -> {word of the address: value}, of the units behind a number. headings: of
    divisions, where their names do not say it.
    """

    title: str
    lead: str
    division: str
    count: str
    words: object
    headings: dict


def _of_concepts(division, group):
    chosen = {} if division == "all" else {division: group}
    return {"view": "units", "standing": "confirmed", **chosen}


def _of_bias(concept, group):
    return {"view": "units", "group": f"{concept}: {group}", "verdict": "biased"}


CONCEPTS = Kind(
    "Concepts compared", "Share of each layer's units that are confirmed detectors, with 95 % intervals; the tick is "
    "the mean of the layer's untrained twins.", "division", "confirmed", _of_concepts,
    {"all": "All concepts", "region": "Per region", "type": "Per type"},
)  # fmt: skip
BIAS = Kind(
    "Bias compared", "Share of each layer's units that are biased, beyond chance and beyond what its untrained twins "
    "have, with 95 % intervals; the tick is the mean of the layer's untrained twins, judged in the same way.",
    "concept", "biased", _of_bias, {},
)  # fmt: skip


def write_comparison_page(path, kind, table, pages, notes=()):
    """Write a comparison as a page, whole or not at all. kind: Kind. table: path of its CSV. pages: folder of the
    layers' pages. notes: texts. Returns the path.
    """
    path, rows = Path(path), read_table(table)
    layers = dict.fromkeys(row["layer"] for row in rows if row["share"] != "")
    without_page = [layer for layer in layers if not (Path(pages) / page_of(layer)).exists()]
    if without_page:
        lacking = ", ".join(without_page)
        notes = [*notes, f"No page of {lacking} lies here, so their numbers lead nowhere: run main.py for them."]
    sections = []
    for division in dict.fromkeys(row[kind.division] for row in rows):
        of_division = [row for row in rows if row[kind.division] == division]
        sections.append({
            "name": kind.headings.get(division, division),
            "layers": list(dict.fromkeys(row["layer"] for row in of_division if row["share"] != "")),
            "groups": _groups(kind, division, of_division, path, pages),
            "most": _percent(_most(of_division)),
            "twins": any(row.get("share_of_twins") for row in of_division),
            "differences": [_difference(row) for row in of_division if row["difference"] not in ("", None)],
        })  # fmt: skip
    text = render("comparison.html", title=kind.title, lead=kind.lead, sections=sections, notes=notes)
    with replacing(path, shared=True) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def _most(rows):
    """The end of the bars' scale: the largest share, interval and share of twins included."""
    shares = [row.get(name) for row in rows for name in ("share", "high", "share_of_twins")]
    return max((float(share) for share in shares if share), default=0) or 1


def _groups(kind, division, rows, path, pages):
    """[{"name", "shares": [{"layer", "href", "percent", ...}]}] of a division's groups."""
    known = [row for row in rows if row["share"] != ""]
    most = _most(rows)
    found = {}
    for row in known:
        page, words = Path(pages) / page_of(row["layer"]), urlencode(kind.words(division, row["group"]))
        href = f"{quote(Path(os.path.relpath(page, path.parent)).as_posix())}#{words}"
        leads = page.exists() and row[kind.count] != "0"
        found.setdefault(row["group"], []).append({
            "layer": row["layer"], "href": href if leads else None, "count": row[kind.count],
            "text": f"{_percent(row['share'])}{_interval(row['low'], row['high'])}", "value": _at(row["share"], most),
            "low": _at(row["low"], most), "high": _at(row["high"], most), "tick": _at(row.get("share_of_twins"), most),
            "twins": _percent(row["share_of_twins"]) if row.get("share_of_twins") else None,
        })  # fmt: skip
    return [{"name": group, "shares": shares} for group, shares in found.items()]


def _difference(row):
    return {
        "what": f"{row['layer']} less {row['other_layer']}", "group": row["group"],
        "text": f"{100 * float(row['difference']):+.1f} %{_interval(row['difference_low'], row['difference_high'])}",
        "q": f"{float(row['q']):.2g}" if row["q"] else "–",
        "beyond": {"1": "yes", "0": "no"}.get(row["beyond_chance"], "–"),
    }  # fmt: skip


def _percent(share):
    return f"{100 * float(share):.1f} %"


def _interval(low, high):
    return f" ({100 * float(low):.1f} to {100 * float(high):.1f})" if low else ""


def _at(share, most):
    return 100 * float(share) / most if share else None
