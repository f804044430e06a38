"""A few among many, evenly spaced: which images stand for all where a look at some is enough."""

import numpy as np

SAMPLED_IMAGES = 48  # of the mean face, and of the histograms at least
_SAMPLED_VALUES = 2_000_000  # of the histograms of activations


def evenly(count, most):
    """Places among count things, at most so many, the first and the last among them. Returns int (n,), ascending."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


def images_of_histograms(usable, shape):
    """The images whose activations the histograms of a layer show: all their maps are kept, whatever else is not.

    usable: bool (N,). shape: (N, U, H, W). Returns int (n,), ascending.
    """
    images = np.flatnonzero(usable)
    return images[evenly(len(images), max(SAMPLED_IMAGES, _SAMPLED_VALUES // int(np.prod(shape[1:]))))]
