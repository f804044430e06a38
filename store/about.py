"""What was dissected, in words: the lines with which reports and summaries begin, {what: text}."""

from util.configuration import VERSION
from util.errors import first_few


def about_network(model, crop, jitter, accuracy):
    """What is to be said of a network. model: loader.models.LoadedModel. crop: loader.crops.Crop or None.

    jitter: ALIGN_JITTER. accuracy: how well it predicts, a text, empty where that is not known.
    """
    predicts = str(model.spec.predicts or "not stated in its loader file")
    return {
        "network": model.described,
        "weights": _weights(model),
        "input": _input_of(model, crop, jitter),
        "predicts": f"{predicts}; {accuracy}" if accuracy else predicts,
    }


def about_layer(model, layer):
    return {"layer": f"{layer} (module {model.layers[layer]}), layout: {model.behaviour[layer].layout}"}


def about_run(dictionary):
    """dictionary: its place and size, a text."""
    return {"dictionary": dictionary, "program": f"Hierarchical Network Dissection {VERSION}"}


def _weights(model):
    weights, unfitted = model.weights, model.unfitted
    parts = [weights.label, f"key {weights.key}" if weights.key else "", f"sha256 {weights.digest}",
             "averaged over training" if weights.averaged else "",
             f"no usable weights for {first_few(unfitted)}" if unfitted else ""]  # fmt: skip
    return ", ".join(part for part in parts if part)


def _input_of(model, crop, jitter):
    """What the network is fed: size, crop, order of the channels, normalisation. Returns text."""
    rows, columns = model.grid
    seen = "whole photographs"
    if crop is not None:
        margin = f" with {crop.margin:g} more on each side" if crop.margin else ""
        seen = f"faces aligned to {crop.kind}'s template" if crop.is_aligned else "faces in their boxes"
        seen += margin + (f", moved at random by up to {jitter:g}" if jitter else "")
    mean, std = (values[:1] if len({*values}) == 1 else values for values in model.normalisation)
    shown = [" ".join(f"{number:.4g}" for number in values) for values in (mean, std)]
    scaled = "x" if (mean, std) == ([0], [1]) else "(x - [{}]) / [{}]".format(*shown)
    return f"{rows} x {columns} px (height x width), {seen}, {model.spec.channels}, {scaled} of x in 0..1"
