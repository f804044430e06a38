"""What lies beside a layer's dissection for its page: the tables of other scripts, and the other layers (method.md §9).

Only what was made of the same network is taken; what is not is said.
"""

import csv
import logging
from pathlib import Path

from report.bias import bias_reports
from report.dissection import REPORTS
from report.hierarchy import HIERARCHY_REPORTS
from store.layer import MANIFEST, LayerStore
from store.stages import CHANCE, TALLY
from util.errors import DissectionError

log = logging.getLogger(__name__)

_BY_SUFFIX = {stage.suffix: stage for stage in (*REPORTS, *HIERARCHY_REPORTS, *bias_reports(()))}
SHOWN, UNITS = _BY_SUFFIX["_shown.json"], _BY_SUFFIX["_units.csv"]
_HIERARCHY, _BIAS = _BY_SUFFIX["_hierarchy.csv"], _BY_SUFFIX["_nl_chance.csv"]
_BIAS_COUNTS = _BY_SUFFIX["_nl_counts.csv"]
_ABLATION = "_ablation_units.csv"  # a line per unit; effects are the columns "<measure>, <group>"
_OF_NETWORK = ("network", "weights", "input")  # of what is said of a layer, what decides its units
_OF_RUN = (*_OF_NETWORK, "dictionary")


def page_of(layer):
    """The name of a layer's page."""
    return f"{layer}.html"


def layers_in(folder):
    """The layers in a folder whose data for a page are there and whole: list of LayerStore, by name."""
    stores = []
    for path in sorted(Path(folder).glob(f"*{MANIFEST}")):
        store = LayerStore(folder, path.name.removesuffix(MANIFEST))
        try:
            for stage in (SHOWN, UNITS):
                store.require(stage)
        except DissectionError:
            continue  # nothing of main.py, or what its next run makes anew
        stores.append(store)
    return stores


def tables_of(store, folders):
    """What other scripts found of a layer: {part: JSON value}, with notes on what is left out.

    store: LayerStore of its dissection. folders: in which the tables may lie.
    """
    parts, notes = {"notes": []}, []
    for name, read in _READERS.items():
        try:
            parts[name] = read(store, folders)
        except DissectionError as error:
            log.info("%s: its page goes without %s: %s", store.layer, name, error)
            notes.append(f"The results on {name} are left out: they do not belong to what is shown here.")
    return {**parts, "notes": notes}


def _hierarchy(store, _):
    """{unit: list of the rows of <layer>_hierarchy.csv as dicts}, None where there is none."""
    if not store.content(_HIERARCHY.suffix):
        return None
    made_from = store.require(_HIERARCHY)
    for earlier in (TALLY, CHANCE):
        if made_from.get(earlier.suffix) != store.content(earlier.suffix):
            raise DissectionError(f"{store.path(_HIERARCHY.suffix)} was made from an earlier dissection")
    return _by_unit(read_table(store.path(_HIERARCHY.suffix)))


def _bias(store, folders):
    """{"units": {unit: rows of <layer>_nl_chance.csv}, "counts": rows of <layer>_nl_counts.csv}, None where there is
    none of the former; no counts where an earlier version of the program left none.
    """
    for folder in folders:
        other = LayerStore(folder, store.layer)
        if other.content(_BIAS.suffix):
            made_from = other.require(_BIAS)
            _require_same_network(store, other, _BIAS.suffix)
            counted = other.content(_BIAS_COUNTS.suffix) and other.require(_BIAS_COUNTS) == made_from
            counts = read_table(other.path(_BIAS_COUNTS.suffix)) if counted else []
            return {"units": _by_unit(read_table(other.path(_BIAS.suffix))), "counts": counts}
    return None


def _ablation(store, folders):
    """{unit: rows of <layer>_ablation_units.csv}, one each, None where there is none."""
    for folder in folders:
        other = LayerStore(folder, store.layer)
        if other.content(_ABLATION):
            _require_same_network(store, other, _ABLATION)
            rows = read_table(other.path(_ABLATION))
            return _by_unit([row for row in rows if row.get("unit", "").isdigit()])
    return None


_READERS = {"hierarchy": _hierarchy, "bias": _bias, "ablation": _ablation}


def _require_same_network(store, other, suffix):
    """Raise DissectionError where a file is of another network, other weights or another input than the page's."""
    ours, theirs = store.about_of(SHOWN.suffix), other.about_of(suffix)
    differing = [what for what in _OF_NETWORK if ours.get(what) != theirs.get(what)]
    if differing:
        raise DissectionError(f"{other.path(suffix)} was made with another {' and '.join(differing)}")


def read_table(path):
    """The rows of a CSV, list of {column: text}. Raises DissectionError."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DissectionError(f"cannot read {path}: {error}") from error


def _by_unit(rows):
    found = {}
    for row in rows:
        found.setdefault(row.pop("unit"), []).append(row)
    return found


def other_layers(stores):
    """What pages say of the layers beside theirs: {layer: {"page", "same_run", "concepts", ...}}, see layer_line."""
    return {store.layer: layer_line(store) for store in stores}


def layer_line(store):
    """A layer in short: its page, what was dissected, and of each concept its detectors, the highest IoU first."""
    about, units = store.about_of(SHOWN.suffix), read_table(store.path(UNITS.suffix))
    detectors = sorted((row for row in units if row["interpretable"] == "1"), key=lambda row: -float(row["iou"]))
    concepts = {}
    for row in detectors:
        confirmed = int(row["confirmed"] or 0) if row["label"] == row["top_concept"] else 0
        concepts.setdefault(row["top_concept"], []).append([int(row["unit"]), float(row["iou"]), confirmed])
    return {
        "page": page_of(store.layer), "run": [about.get(what, "") for what in _OF_RUN],
        "network": about.get("network", ""), "weights": about.get("weights", ""), "date": about.get("date", ""),
        "short": about.get("layer", store.layer).partition(" ")[0], "dictionary": about.get("dictionary", ""),
        "units": len(units), "detectors": len(detectors), "judged": any(row["confirmed"] for row in units),
        "confirmed": sum(row["confirmed"] == "1" for row in units), "concepts": concepts,
    }  # fmt: skip
