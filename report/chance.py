"""What of a layer's figures is chance, as reports say and show it (method.md §8)."""

import numpy as np

_LEAST = 1e-6  # of what is shown of a probability

# What the figures mean, in plain words: {term: text}.
MEANING = {
    "IoU": "The pixels in which a unit is active and the concept lies, as a share of the pixels in which either is the "
    "case. 1 would be a perfect match, 0 none at all.",
    "detector": "A unit whose IoU with its concept is above the threshold, SCORE_THRESHOLD. It may be one merely "
    "because it is active where faces have the concept.",
    "95 % interval": "Where the IoU would probably lie with other photographs of the same kind: the photographs were "
    "drawn again, with repetition, many times over (bootstrap).",
    "location level": "The IoU that the unit would reach if the masks were dealt out at random among the photographs. "
    "Faces have their eyes in much the same place: a unit that is merely active there reaches this without looking "
    "at any eye. What lies above it, the excess, the unit owes to following the concept from one photograph to the "
    "next.",
    "excess": "IoU less location level: what the unit owes to following the concept.",
    "q": "If every unit with a q up to this were called a detector, about this share of them would be called so by "
    "chance alone. Many units and many concepts were tried; q takes account of both.",
    "confirmed": "A detector, that is a unit with an IoU above the threshold, whose excess chance does not explain: "
    "its q and the p-value of its own concept are at most ALPHA.",
    "held out": "The unit gets its label on one half of the photographs, and this is the IoU of that label on the "
    "other half. Where it is much lower, or where the two halves give different labels, the label is not reliable.",
    "label share": "How often the unit has the same label when the photographs are drawn again.",
    "tells": "Whether the unit responds more strongly (AUC above 0.5) or more weakly (below) to photographs that show "
    "something than to those that lack it. An AUC of 0.8 means: of two photographs of which one shows it, the unit "
    "responds more strongly to that one in 80 of 100 cases.",
    "plainly": "A unit that is active at mouths has Wearing_Lipstick as its label where fewer photographs carry that "
    "label. If it does not tell lipstick, it is plainly a mouth unit.",
    "attainable": "The IoU if the smaller of the two areas, the unit's and the concept's, lay within the larger.",
    "untrained twins": "The same network with random weights. What they have too, training did not make.",
}


def unit_line(findings, evidence, unit, formulas=None):
    """What is more than chance about a unit, a line below its title; empty for a unit without a concept. formulas:
    method.formulas.Formulas, of which one is told where it is better than the label, also on halves not its own.
    """
    chance = evidence.chance
    label = chance.label[unit]
    if label < 0:
        return ""
    parts = [f"of {findings.concepts[label]}"] if findings.concepts[label] != findings.top_concept(unit) else []
    if not np.isnan(chance.iou_low[unit]):
        parts.append(f"95 % {chance.iou_low[unit]:.3f} to {chance.iou_high[unit]:.3f}")
    has_place = not np.isnan(chance.location_iou[unit, label])
    lacking = "of whole images: no place" if findings.holds_for_whole_images(unit) else "location level not known"
    parts.append(f"location level {chance.location_iou[unit, label]:.3f}" if has_place else lacking)
    if has_place and not np.isnan(chance.q[unit]):
        parts.append(f"q {small(chance.q[unit])}" + (", confirmed" if evidence.confirmed[unit] else ""))
    if not np.isnan(chance.heldout_iou[unit]):
        held = "" if chance.label_holds[unit] else ", label not held"
        parts.append(f"held out {chance.heldout_iou[unit]:.3f}{held}")
    if evidence.plain[unit] != label:
        parts.append(f"plainly {findings.concepts[evidence.plain[unit]]}")
    if told := told_apart(findings, evidence, unit):
        parts.append(f"tells {told}")
    for place in np.flatnonzero(formulas.unit == unit) if formulas else ():
        if formulas.holds[place]:
            beside = f"{formulas.iou[place]:.3f}, label there {formulas.label_iou[place]:.3f}"
            parts.append(f"better: {formulas.formula[place]} {beside}")
    return "   ".join(parts)


def small(probability):
    """A probability as reports show it: a thousand dealings say nothing of how far below a millionth it lies."""
    return f"{probability:.2g}" if probability >= _LEAST else f"below {_LEAST:g}"


def told_apart(findings, evidence, unit, most=2):
    """The concepts that a unit tells best, in words: name and AUC."""
    auc = evidence.presence.auc[unit]
    told = [concept for concept in np.argsort(-np.abs(auc - 0.5), kind="stable") if evidence.tells[unit, concept]]
    named = ", ".join(
        f"{findings.concepts[concept]} {auc[concept]:.2f}{' (less)' * bool(auc[concept] < 0.5)}"
        for concept in told[:most]
    )
    return named + (f" and {len(told) - most} more" if len(told) > most else "")
