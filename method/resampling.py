"""Resampling by photographs (method.md §8.1): the same photograph has the same part in it in every layer and model.

A photograph is known by the digest of its content, a text; rows with the same digest are one photograph. All that is
random here comes from a generator seeded by that text, so it does not depend on which other photographs there are nor
on their order.
"""

import hashlib

import numpy as np


def seed_of(*words):
    """A seed made from words, whole number of 64 bits. Raises TypeError for bytes: they are not the text they hold."""
    if any(isinstance(word, bytes) for word in words):
        raise TypeError(f"{words} must be texts: decode the bytes first")
    text = "\n".join(map(str, words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def poisson_weights(digests, resamples):
    """How often each photograph stands in each bootstrap resample: Poisson(1) (method.md §8.5).

    digests: n texts. resamples: B. Returns uint8 (n, B); rows of the same photograph are alike.
    """
    weights = np.empty((len(digests), resamples), np.uint8)
    for index, digest in enumerate(digests):
        weights[index] = np.random.default_rng(seed_of("bootstrap", digest)).poisson(1, resamples)
    return weights


def halves(digests):
    """Which of two halves each photograph falls into (method.md §8.4). digests: n texts. Returns bool (n,)."""
    return np.fromiter((seed_of("half", digest) % 2 for digest in digests), bool, len(digests))


def places(digests, seed):
    """Where each photograph stands in a random order: numbers to sort by. digests: n texts. Returns uint64 (n,)."""
    return np.fromiter((seed_of("order", seed, digest) for digest in digests), np.uint64, len(digests))
