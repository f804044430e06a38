"""A dissected layer in words, for the terminal and the first pages: {what: text}."""


def found(findings):
    """What was found in a layer, in words: {what: text}. findings: Findings."""
    best = [unit for unit in findings.units_by_iou()[:3] if findings.top_concept(unit)]
    named = [f"{findings.top_concept(unit)} {findings.top_iou[unit]:.4f} (unit {unit})" for unit in best]
    regions, types = findings.units_per_region(), findings.units_per_type()
    return {
        "units": str(findings.units),
        "detectors": f"{findings.detectors} units with IoU > {findings.score_threshold:g}",
        "unique detectors": f"{findings.unique_detectors} concepts",
        "by region": ", ".join(f"{region} {count}" for region, count in regions.items()),
        "by type": ", ".join(f"{kind} {count}" for kind, count in types.items()),
        "best": ", ".join(named) or "no unit touches a concept",
        **({"warning": "; ".join(findings.warnings)} if findings.warnings else {}),
    }


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
