"""What a network predicts, as its loader file states it (method.md §9), and how its output is read.

    Classes    which subgroup of a global concept the face belongs to
    Years      the age of the face
    Points     places in the face
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from loader.crops import Crop
from util.errors import DissectionError


@dataclass(frozen=True)
class Classes:
    """The network tells the subgroups of a global concept apart; its output is (N, C), a score per class.

    concept: its name in the dictionary, such as 'gender'. names: the subgroup of each output, in order. are_logits:
    whether the scores are log-odds; False where they are probabilities. Raises DissectionError.
    """

    concept: str
    names: tuple
    are_logits: bool = True

    def __post_init__(self):
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise DissectionError(f"Classes of {self.concept}: names must be two subgroups or more, not {self.names!r}")

    def numbers(self, output):
        """The network's output as float64 numpy (N, C). Raises DissectionError for what is no such thing."""
        return _numbers(output, len(self.names))

    def probabilities(self, output):
        """float tensor (N, C) -> float64 numpy (N, C), rows that add up to 1. Raises DissectionError."""
        return _softmax(self.numbers(output)) if self.are_logits else self.numbers(output)

    def statement(self, output):
        """The log-odds of each class against all others: float tensor (N, C) -> float64 numpy (N, C)."""
        scores = self.numbers(output)
        if not self.are_logits:  # a probability that was rounded to 0 has the least log-odds that float32 can tell
            scores = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        with np.errstate(invalid="ignore"):  # as in _softmax
            others = [np.logaddexp.reduce(np.delete(scores, of, axis=1), axis=1) for of in range(len(self.names))]
        return scores - np.stack(others, axis=1)

    def __str__(self):
        return f"{self.concept} ({', '.join(self.names)})"


@dataclass(frozen=True)
class Years:
    """The network tells the age. ages: years of each output, whose expectation over the outputs' probabilities is the
    age; None where the output (N, 1) is the age itself. are_logits: as for Classes.
    """

    ages: tuple | None = None
    are_logits: bool = True

    def numbers(self, output):
        """As of Classes."""
        return _numbers(output, 1 if self.ages is None else len(self.ages))

    def years(self, output):
        """float tensor (N, C) or (N, 1) -> float64 numpy (N,), years. Raises DissectionError."""
        numbers = self.numbers(output)
        if self.ages is None:
            return numbers[:, 0]
        return (_softmax(numbers) if self.are_logits else numbers) @ self.ages

    def statement(self, output):
        """The age in years: float tensor (N, C) -> float64 numpy (N, 1)."""
        return self.years(output)[:, None]

    def __str__(self):
        return "age in years" + (f", the mean over {len(self.ages)} classes" if self.ages else "")


@dataclass(frozen=True)
class Points:
    """The network tells places in the face. names: of the points. places: its output -> tensor (N, P, 2), (x, y) as
    shares of the input's width and height. eyes: which two of the points are the eyes. side_px, crop: the input, as in
    ModelSpec, on which it tells them, where its layers are dissected on another. Raises DissectionError.
    """

    names: tuple
    places: Callable
    eyes: tuple = (0, 1)
    side_px: int | None = None
    crop: Crop | None = None

    def __post_init__(self):
        if len(set(self.eyes)) != 2 or not set(self.eyes) <= set(range(len(self.names))):
            raise DissectionError(f"Points: eyes must be the numbers of two of {', '.join(self.names)}: {self.eyes!r}")

    def numbers(self, output):
        """As of Classes: (N, 2 P), x and y of each point in turn. Raises DissectionError for what is no such thing."""
        places = self.places(output)
        return _numbers(places.flatten(1), 2 * len(self.names))

    def statement(self, output):
        """As numbers."""
        return self.numbers(output)

    def __str__(self):
        return f"points ({', '.join(self.names)})"


def _numbers(output, columns):
    shape = tuple(getattr(output, "shape", ()))
    if len(shape) != 2 or shape[1] != columns:
        found = f"of shape {shape}" if shape else f"of type {type(output).__name__}"
        raise DissectionError(f"the network's output is {found}, but its loader file states (N, {columns})")
    return output.detach().double().cpu().numpy()


def _softmax(numbers):
    with np.errstate(invalid="ignore"):  # what is not finite is found in the predictions
        powers = np.exp(numbers - numbers.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
