"""What a page shows of a layer, gathered once by main.py: numbers, small photographs and outlines, as JSON.

The page itself (report/page.py) adds what other scripts found, without photographs and activation maps.
"""

import base64
import json
import re
from collections import Counter

import cv2
import numpy as np

from dictionary.concepts import explained
from method.comparison import interval
from method.findings import UNLOCALIZABLE
from method.sampled import SAMPLED_IMAGES, evenly, images_of_histograms
from method.segmentation import active_pixels
from report.contours import contours, onto_picture
from report.summary import found, sentences
from report.tables import unit_rows
from util.parallel import mapped

_LONGEST_PX = 224  # of the longer side of a photograph on the page
_JPEG_QUALITY = 75
_TRACED_PX = 80  # the longer side of the grid on which units are outlined, at most: a third of the picture's
_MOST_PICTURES, _MOST_BYTES = 2000, 22_000_000  # about 15 MB of the page, and more where units and concepts are many
_OF_CONCEPT = 5  # pictures of each concept for units whose own it is not
# Of a unit, the concepts whose figures the page has: those of the highest IoU, and those that it tells best.
_MOST_CONCEPTS, _MOST_TOLD = 60, 15
_BINS = 40
_SOMETIMES = 0.35  # share of photographs in which a region covers a pixel, from which on the face map gives it to it
_DIGITS = 5


def write(path, dissection):
    """Write what a page shows of a layer. dissection: report.dissection.Dissection."""
    findings, evidence, dictionary = dissection.findings, dissection.evidence, dissection.dictionary
    chosen = chosen_images(findings, dissection.top_images)
    rows = [dictionary.rows[index] for index in chosen]
    photographs = mapped(dissection.small, rows, dissection.workers, f"page of {dissection.layer}", "image")
    pictures, room = [], _MOST_BYTES
    for row, photograph in photographs:
        # Outlining is many small steps, in which threads would only wait for each other.
        pictures.append(_picture(dissection, row, photograph))
        room -= _size(pictures[-1])
        if room < 0:
            break
    kept = kept_concepts(findings, evidence)
    header, *lines = unit_rows(dissection)
    usable = dictionary.usable_rows
    sample = [usable[place] for place in evenly(len(usable), SAMPLED_IMAGES).tolist()]
    carried = dictionary.carries.sum(axis=0).tolist()
    shown = {
        "layer": dissection.layer,
        "about": without_places(dissection.about, dictionary.root),
        "found": found(findings, evidence),
        "sentences": sentences(findings, evidence),
        "made_with": dissection.made_with,
        "threshold": findings.score_threshold,
        "iou_union": str(findings.tally.iou_union),
        "judged": evidence.judged,
        "concepts": [
            {
                "name": name,
                "explained": explained(name),
                "type": findings.type_of[name],
                "region": findings.region_of[name],
                "images": count,
                "also": list(concept.also),
                "whole": concept.whole,
            }
            for name, count, concept in zip(findings.concepts, carried, dictionary.concepts, strict=True)
        ],
        "unlocalizable": UNLOCALIZABLE,
        "units": {"columns": header, "rows": lines},
        "twins": evidence.twin_counts(),
        "twin_groups": _twin_groups(findings, evidence),
        "pairs": _pairs(findings, evidence, kept),
        "best": _best(findings, dissection.top_images, {of["row"]: place for place, of in enumerate(pictures)}, kept),
        "formulas": _formulas(dissection),
        "histograms": _histograms(dissection),
        "face": _face(dissection, sample),
        "pictures": pictures,
    }
    path.write_text(json.dumps(shown, separators=(",", ":"), allow_nan=False, default=_plain), encoding="utf-8")


def _plain(value):
    return value.item()


def _size(picture):
    """About how many letters a picture takes on the page."""
    outlines = sum(len(text) + 8 for kind in ("concepts", "units") for text in picture[kind].values())
    return len(picture["jpeg"] or "") + outlines


def kept_concepts(findings, evidence):
    """Of each unit the concepts whose figures the page has, ascending: list of U int arrays."""
    told = np.where(evidence.tells, -np.abs(evidence.presence.auc - 0.5), 0)  # the strongest first
    strongest = np.argsort(told, axis=1, kind="stable")[:, :_MOST_TOLD]
    return [
        np.unique([*findings.ranking[unit, :_MOST_CONCEPTS], *strongest[unit][evidence.tells[unit, strongest[unit]]]])
        for unit in range(findings.units)
    ]


def without_places(about, root):
    """What was dissected, without folders of this machine: a page goes to other people. about: {what: text}."""
    shown = {what: text.replace(str(root), root.name) for what, text in about.items()}
    if "weights" in shown:
        shown["weights"] = re.sub(r"(?:[A-Za-z]:)?[/\\]\S*[/\\]", "", shown["weights"])
    return shown


# -------------------------------------------------------------------------------------------------------- pictures


def chosen_images(findings, top_images):
    """The images that a page shows, list of rows: every unit's best for its own concept, the best first, then of each
    concept those that most units have among their best.
    """
    best, chosen = findings.tally.maps, {}
    units = [unit for unit in findings.units_by_iou() if findings.top_concept(unit)]
    for place in range(top_images):
        for unit in units:
            row = int(best[unit, findings.ranking[unit, 0], place])
            if row >= 0 and len(chosen) < _MOST_PICTURES:
                chosen.setdefault(row)
    for concept in range(best.shape[1]):
        counted = Counter(best[:, concept][best[:, concept] >= 0].tolist())
        often = sorted(counted, key=lambda row: (-counted[row], row))[:_OF_CONCEPT]
        chosen.update(dict.fromkeys(often[: max(0, _MOST_PICTURES - len(chosen))]))
    return list(chosen)


def _best(findings, top_images, place_of, kept):
    """Of each unit and concept the best images that the page has: {unit: {concept: [[picture, IoU], ...]}}. kept: see
    kept_concepts.
    """
    best = findings.tally.maps
    places = np.full(best.max(initial=-1) + 2, -1)  # the last for -1, where an image is missing
    places[list(place_of)] = list(place_of.values())
    at = places[best]  # (U, C, K)
    shown = np.zeros(findings.tally.tally.shape, bool)
    for unit, concepts in enumerate(kept):
        shown[unit, concepts] = True
    there = (at >= 0) & (shown & (findings.tally.tally > 0))[:, :, None]
    there &= there.cumsum(axis=2) <= top_images
    found = {unit: {} for unit in range(findings.units)}
    numbers = *np.nonzero(there)[:2], at[there], findings.tally.scores[there].round(3)
    for unit, concept, picture, score in zip(*(of.tolist() for of in numbers), strict=True):
        found[unit].setdefault(concept, []).append((picture, score))
    return found


def small_picture(photograph):
    """A photograph as pages show it. photograph: uint8 (H, W, 3), RGB. Returns (width, height, JPEG as base64)."""
    height, width = photograph.shape[:2]
    scale = min(1, _LONGEST_PX / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size != (width, height):
        photograph = cv2.resize(photograph, size, interpolation=cv2.INTER_AREA)
    return *size, _jpeg(photograph)


def _jpeg(image):
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return base64.b64encode(jpeg).decode()


def _picture(dissection, row, photograph):
    """One photograph with the outlines of its concepts and of every unit that is active in it. photograph: see
    Dissection.small.
    """
    grid, thresholds = dissection.dictionary.grid(row, dissection.grid), dissection.findings.tally.thresholds
    photograph_size, (width, height, jpeg) = photograph
    concepts, masks = dissection.masks(row)
    maps = dissection.maps.read(row.index, row.index + 1)[0]  # (U, H, W)
    active = np.flatnonzero(maps.max(axis=(1, 2)) > thresholds)
    return {
        "row": row.index, "width": width, "height": height, "jpeg": jpeg if dissection.photographs else None,
        "matrix": onto_picture(dissection.dictionary.view(row), photograph_size, grid, (width, height)),
        "concepts": {int(concept): contours(mask) for concept, mask in zip(concepts, masks, strict=True)},
        "whole": dissection.dictionary.whole(row).tolist(),
        "units": unit_outlines(active, maps[active], thresholds[active], grid),
    }  # fmt: skip


def unit_outlines(units, maps, thresholds, grid):
    """The outlines of the active pixels of units in one photograph, without those that have none.

    units: int (A,). maps: float32 (A, H, W). thresholds: float64 (A,). grid: (rows, columns) on which pixels are
    counted; a fine one is halved, or divided further, until it has _TRACED_PX at most. Returns {unit: contours}.
    """
    coarser = tuple(-(-length // max(1, -(-max(grid) // _TRACED_PX))) for length in grid)
    found = {}
    for unit, pixels, line, threshold in zip(
        units, active_pixels(maps, thresholds, coarser), maps, thresholds, strict=True
    ):
        # A peak as small as a pixel can lie between the pixels of a coarser grid.
        traced = contours(pixels) or contours(active_pixels(line[None], threshold[None], grid)[0])
        if traced:
            found[int(unit)] = traced
    return found


# --------------------------------------------------------------------------------------------------------- numbers


def _pairs(findings, evidence, kept):
    """What is known of units and concepts: {name: U lists of numbers, None where there is none}, of the concepts that
    are kept of each unit (see kept_concepts).
    """
    chance, presence = evidence.chance, evidence.presence
    low, high = np.full((2, *chance.iou.shape), np.nan)
    if chance.boot_region_iou.shape[2]:
        regions = map(findings.region_of.get, findings.concepts)
        inside = [concept for concept, region in enumerate(regions) if region != UNLOCALIZABLE]
        low[:, inside], high[:, inside] = interval(chance.boot_region_iou)
    arrays = {
        "iou": findings.tally.tally, "iou_all": chance.iou, "location": chance.location_iou, "low": low, "high": high,
        "auc": presence.auc, "auc_low": presence.low, "auc_high": presence.high,
    }  # fmt: skip
    if str(findings.tally.iou_union) == "all":
        del arrays["iou_all"]  # the same
    of_pairs = {name: [_numbers(of[concepts]) for of, concepts in zip(values, kept, strict=True)]
                for name, values in arrays.items()}  # fmt: skip
    tells = [of[concepts].astype(int).tolist() for of, concepts in zip(evidence.tells, kept, strict=True)]
    return {"concepts": [concepts.tolist() for concepts in kept], **of_pairs, "tells": tells}


def _twin_groups(findings, evidence):
    """Confirmed detectors of each untrained twin: {what concepts are divided by: {group: list of T counts}}."""
    found = {}
    for what, group_of in {
        "region": findings.region_of, "type": findings.type_of, "concept": {name: name for name in findings.concepts},
    }.items():  # fmt: skip
        groups = list(dict.fromkeys(group_of.values()))
        shares = evidence.twin_shares([group_of[name] for name in findings.concepts], groups)  # (T, G)
        counts = (shares * findings.units).round().astype(int)
        found[what] = dict(zip(groups, counts.T.tolist(), strict=True))
    return found


def _numbers(values):
    return [None if value != value else float(f"{value:.{_DIGITS}g}") for value in values.tolist()]


def _formulas(dissection):
    """The formula of every detector that has one, {unit: {what: value}}, and what is known of an untrained twin's."""
    of = dissection.formulas
    if of is None:
        return None
    of = of.only(dissection.findings.interpretable)
    names = ("formula", "concepts", "photographs", "iou", "label_iou", "heldout_iou", "heldout_label_iou", "holds")
    lines = {
        unit: {name: getattr(of, name)[place] for name in names} for place, unit in enumerate(of.unit.tolist())
    }  # fmt: skip
    asked, holding = dissection.evidence.twin_formulas()
    return {"units": lines, "twin": [asked, holding]}


def _histograms(dissection):
    """How each unit's activations are spread, over evenly spaced images: their number, and of each unit the lower and
    upper end and _BINS counts.
    """
    maps = dissection.maps
    images = images_of_histograms(maps.usable, maps.shape)
    values = np.stack([maps.read(image, image + 1)[0] for image in images.tolist()])  # (n, U, H, W)
    of_units = []
    for unit in range(maps.shape[1]):
        of_unit = values[:, unit].ravel()
        low, high = float(of_unit.min()), float(of_unit.max())
        counts, _ = np.histogram(of_unit, _BINS, (low, high if high > low else low + 1))
        of_units.append([float(f"{low:.{_DIGITS}g}"), float(f"{high:.{_DIGITS}g}"), *counts.tolist()])
    return {"images": len(images), "values": values[:, 0].size, "units": of_units}


def _face(dissection, rows):
    """The mean of some photographs as the network sees them, and where each region lies in it: each pixel goes to the
    region that covers it most often. None where the dictionary knows no regions.
    """
    findings, dictionary, grid = dissection.findings, dissection.dictionary, dissection.grid
    regions = findings.regions
    if not regions:
        return None
    total, covered, carrying = np.zeros((*grid, 3)), np.zeros((len(regions), *grid)), np.zeros(len(regions))
    for row in rows:
        if dissection.photographs:
            total += dictionary.image(row, grid)
        concepts, masks = dissection.masks(row)
        for place, region in enumerate(regions):
            of_region = masks[np.isin(concepts, findings.members(region))]
            carrying[place] += len(of_region) > 0
            covered[place] += of_region.any(axis=0)
    share = covered / np.maximum(carrying, 1)[:, None, None]
    mean = _jpeg((total / len(rows)).round().astype(np.uint8)) if dissection.photographs else None
    lies_in = np.where(share.max(axis=0, initial=0) >= _SOMETIMES, share.argmax(axis=0), -1)
    return {
        "rows": grid[0], "columns": grid[1], "jpeg": mean, "images": len(rows),
        "regions": {region: contours(lies_in == place) for place, region in enumerate(regions)},
    }  # fmt: skip
