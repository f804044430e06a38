"""A dissected layer in words, for the terminal and the first pages: {what: text}."""

import numpy as np

from method.findings import UNLOCALIZABLE


def found(findings, evidence):
    """What was found in a layer, in words: {what: text}. findings: Findings. evidence: Evidence."""
    best = [unit for unit in findings.units_by_iou()[:3] if findings.top_concept(unit)]
    named = [f"{findings.top_concept(unit)} {findings.top_iou[unit]:.4f} (unit {unit})" for unit in best]
    by_region = ", ".join(f"{region} {count}" for region, count in findings.units_per_region().items())
    types, unique = findings.units_per_type(), findings.unique_per_type()
    return {
        "units": str(findings.units),
        "detectors": f"{findings.detectors} units with IoU > {findings.score_threshold:g}, {confirmed_of(evidence)}",
        "unique detectors": f"{findings.unique_detectors} concepts, {evidence.confirmed_unique} of confirmed detectors",
        "untrained twins": twins_of(evidence),
        **({"by region": by_region} if findings.regions else {}),
        "by type": ", ".join(
            f"{kind} {count}{f' ({unique[kind]} unique)' if unique.get(kind) else ''}" for kind, count in types.items()
        ),
        "best": ", ".join(named) or "no unit touches a concept",
        **({"warning": "; ".join(findings.warnings)} if findings.warnings else {}),
    }


def sentences(findings, evidence):
    """What was found in a layer, in sentences: list of text."""
    units, detectors, unique = findings.units, findings.detectors, findings.unique_detectors
    if findings.warnings:
        return [f"{units} units were dissected. {warning}." for warning in findings.warnings]
    detect = "detects" if detectors == 1 else "detect"
    told = [f"Of {units} units {detectors} {detect} a concept: IoU above {findings.score_threshold:g}."]
    if detectors > 1:
        told.append(f"Together they detect {unique} different concepts.")
    if evidence.judged:
        sure, where = int(evidence.confirmed.sum()), "face" if findings.regions else "image"
        told.append(
            f"{sure} of them {'is' if sure == 1 else 'are'} confirmed: beyond what being active at the same place of "
            f"the {where} would give, and beyond chance."
        )
        if without := sum(findings.holds_for_whole_images(unit) for unit in np.flatnonzero(findings.interpretable)):
            told.append(f"{without} detect what holds for whole images and has no place: of them it cannot be said.")
    else:
        told.append("Whether chance explains that was not asked (PERMUTATIONS, ALPHA).")
    counts = evidence.twin_counts()
    if counts:
        of_twins, standing, *_ = (_listed(column) for column in zip(*counts, strict=True))
        told.append(f"In the same network without training {of_twins} units detect a concept and {standing} are "
                    "confirmed.")  # fmt: skip
    counted = {region: count for region, count in findings.units_per_region().items() if region != UNLOCALIZABLE}
    most = max(counted.values(), default=0)
    leading = [region for region, count in counted.items() if count == most]
    if most > 1 and len(leading) == 1:
        told.append(f"Most detectors, {most}, belong to {leading[0].replace('_', ' ')}.")
    return told


def _listed(numbers):
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def confirmed_of(evidence):
    """How many detectors are confirmed, in words."""
    if np.isnan(evidence.chance.q).all() or evidence.alpha is None:
        return "none confirmed, for chance was left out (PERMUTATIONS, ALPHA)"
    return f"{int(evidence.confirmed.sum())} confirmed"


def twins_of(evidence):
    """What the untrained twins have, in words."""
    counts = evidence.twin_counts()
    if not counts:
        return "none, for they were left out (TWINS)"
    detectors, standing, unique, sure = (", ".join(map(str, column)) for column in zip(*counts, strict=True))
    return f"detectors {detectors}; confirmed {standing}; unique {unique}; unique ones of confirmed {sure}"


def formulas_of(formulas, findings, evidence):
    """How many detectors follow a formula, in words. formulas: method.formulas.Formulas."""
    asked = formulas.only(findings.interpretable)
    if not len(asked.unit):
        return "none was sought"
    of_twin, holding = evidence.twin_formulas()
    beside = f"; of an untrained twin {holding} of {of_twin}" if of_twin else ""
    return f"{int(asked.holds.sum())} of {len(asked.unit)} detectors follow one better than their label{beside}"


def summary(words):
    """What was dissected or found, a line each. words: {what: text}."""
    return "\n".join(f"  {what:<16} {text}" for what, text in words.items())


def of_layers(about):
    """What was dissected in several layers, what is the same in all told once. about: {layer: {what: text}}."""
    first, *others = about.values()
    shared = {what for what, text in first.items() if all(other.get(what) == text for other in others)} - {"layer"}
    own = {
        layer: "; ".join(f"{what} {text}" for what, text in words.items() if what not in shared)
        for layer, words in about.items()
    }
    return {**own, **{what: first[what] for what in first if what in shared}}
