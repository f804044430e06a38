"""The formula of concepts that a unit follows best, such as `nose AND NOT (mouth OR left_eye)` (method.md §3.6).

A formula is counted on the photographs that are annotated for all of its concepts and for the unit's label: elsewhere
nobody knows whether an absent concept is absent. On these very photographs it is compared with the label alone. They
must hold at least half of what the unit finds of its label: otherwise a formula would do well where the label happens
to fail. The difference of the two IoUs, the excess, is what formulas are ranked by: IoUs from different photographs
cannot be compared, and where all are the same it ranks as the IoU does.
"""

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np

from method.tally import iou

BEAM = 10  # formulas of each length that are made longer
ASKED_FROM = 0.02  # IoU of the label from which a unit is asked for a formula: below, a formula is noise

_FOUND = 0.5  # least share of the pixels of its label that the unit finds, on the photographs of a formula

AND, OR, AND_NOT = "AND", "OR", "AND NOT"

# How a formula F and a concept c become a longer one: operator, and whether c comes first.
_JOINED = ((OR, False), (AND, False), (AND_NOT, False), (AND_NOT, True))


class Formula(NamedTuple):
    """Two parts and what joins them. A part is a Formula, or a concept as an int. operator: AND, OR or AND_NOT."""

    left: object
    operator: str
    right: object


def concepts_of(formula):
    """The concepts of a formula, list of int in the order in which they stand there."""
    if isinstance(formula, Formula):
        return concepts_of(formula.left) + concepts_of(formula.right)
    return [formula]


def fulfils(inside, formula):
    """Which pixels lie in a formula. inside: bool (T, K), the concepts that they lie in. Returns bool (T,)."""
    if not isinstance(formula, Formula):
        return inside[:, formula]
    left, right = fulfils(inside, formula.left), fulfils(inside, formula.right)
    if formula.operator == OR:
        return left | right
    return left & (right if formula.operator == AND else ~right)


def text_of(formula, names):
    """A formula in words, such as 'nose AND NOT (left_eye OR mouth)'. names: of the concepts."""
    if not isinstance(formula, Formula):
        return str(names[formula])
    left, right = (text_of(part, names) for part in (formula.left, formula.right))
    if isinstance(formula.left, Formula) and formula.left.operator != formula.operator:
        left = f"({left})"
    if isinstance(formula.right, Formula) and (formula.right.operator, formula.operator) not in ((OR, OR), (AND, AND)):
        right = f"({right})"
    return f"{left} {formula.operator} {right}"


def compared(of_unit, formula):
    """A formula and the unit's label on the formula's photographs. of_unit: UnitPixels; concepts are its columns.

    Returns (IoU of the formula, IoU of the label), floats.
    """
    rows = of_unit.known[:, concepts_of(formula)].all(axis=1)
    pixels, active = of_unit.pixels * rows, of_unit.active * rows
    found = []
    for lies in (fulfils(of_unit.inside, formula), of_unit.inside[:, of_unit.label]):
        overlap = active[lies].sum()
        found.append(float(iou(overlap, pixels[lies].sum() + active.sum() - overlap)))
    return tuple(found)


def best_formula(of_unit, most, beam=BEAM):
    """The formula with the greatest excess, by beam search.

    of_unit: UnitPixels. most: concepts in a formula, at most. beam: formulas of each length that are made longer; all,
    if it is as large as their number: then the result is the best of all formulas in which each concept stands once,
    but for those that hold where none of their concepts lies (OR NOT), which no unit that is active in few pixels
    follows. Returns the Formula, whose concepts are columns of of_unit. Of equal ones the one with fewer concepts,
    then the one whose concepts come first: a longer one is better than every shorter one.
    """
    singles = range(len(of_unit.concepts))
    excess = np.array([np.subtract(*compared(of_unit, concept)) for concept in singles])
    in_label = of_unit.active * of_unit.inside[:, of_unit.label]
    excess[_too_few(in_label @ of_unit.known, of_unit)] = -np.inf
    order = [concept for concept in np.argsort(-excess, kind="stable") if excess[concept] > -np.inf][:beam]
    formulas = [int(concept) for concept in order]
    best, best_excess = (formulas[0], excess[order[0]]) if excess[order[0]] > 0 else (of_unit.label, 0.0)
    for _ in range(most - 1):
        formulas, excess = _longer(of_unit, formulas, beam)
        if not formulas:
            break
        if excess[0] > best_excess:
            best, best_excess = formulas[0], excess[0]
    return best


def _longer(of_unit, formulas, beam):
    """The best formulas with one concept more. Returns (list of at most beam Formulas, their excess)."""
    excess = _excess_of_longer(of_unit, formulas)  # (formulas, K, joined)
    taken, found, seen = [], [], set()
    for place in np.argsort(-excess, axis=None, kind="stable"):
        at = np.unravel_index(place, excess.shape)
        if len(found) == beam or excess[at] == -np.inf:
            break
        operator, first = _JOINED[at[2]]
        parts = [formulas[at[0]], int(at[1])]
        longer = Formula(parts[first], operator, parts[not first])
        if (meaning := _meaning(longer)) not in seen:
            seen.add(meaning)
            found.append(longer)
            taken.append(excess[at])
    return found, taken


def _excess_of_longer(of_unit, formulas):
    """The excess of every formula joined with every concept: float64 (formulas, K, joined).

    -inf where the concept stands in the formula already, or where one of the two, or nothing, lies in the same pixels.
    All that is needed are counts over the pixels in formula, concept, both and label. They are sums of whole numbers
    below 2**53: exact, though added as floats.
    """
    known = np.stack([of_unit.known[:, concepts_of(formula)].all(axis=1) for formula in formulas])  # (F, T)
    lies = np.stack([fulfils(of_unit.inside, formula) for formula in formulas])
    rows = np.stack([lies & known, known, of_unit.inside[:, of_unit.label] & known])  # (3, F, T)
    weights = np.stack([of_unit.pixels, of_unit.active]).astype(np.float64)
    columns = np.hstack([of_unit.inside, of_unit.known]).astype(np.float64)
    sums = (rows[:, :, None] * weights) @ columns  # (3, F, 2, 2K): pixels and active ones
    concepts = len(of_unit.concepts)
    (both, first), (second, everywhere), (_, label) = (np.split(part, [concepts], axis=2) for part in sums)
    active = everywhere[:, 1]
    alone = _iou(label, active)
    excess = []
    for joined, parts in (
        (first + second - both, (first, second)), (both, (first, second, 0 * both)),
        (first - both, (first, 0 * both)), (second - both, (second, 0 * both)),
    ):  # fmt: skip
        same = np.any([joined[:, 0] == part[:, 0] for part in parts], axis=0)  # one lies in the other
        excess.append(np.where(same, -np.inf, _iou(joined, active) - alone))
    excess = np.stack(excess, axis=2)
    excess[_too_few(label[:, 1], of_unit)] = -np.inf
    for index, formula in enumerate(formulas):
        excess[index, concepts_of(formula)] = -np.inf
    return excess


def _too_few(found, of_unit):
    """Whether photographs hold too little of what a unit finds of its label. found: of them, see UnitPixels.found."""
    return found < _FOUND * of_unit.found


def _iou(counts, active):
    """counts: (F, 2, K), pixels and active ones. active: (F, K), where the unit is active. Returns float64 (F, K)."""
    return iou(counts[:, 1], counts[:, 0] + active - counts[:, 1])


def _meaning(formula):
    """What is the same of formulas that are written differently: their concepts, and what they say of each case."""
    concepts = sorted(concepts_of(formula))
    cases = np.zeros((1 << len(concepts), concepts[-1] + 1), bool)
    cases[:, concepts] = np.arange(len(cases))[:, None] >> np.arange(len(concepts)) & 1
    return tuple(concepts), fulfils(cases, formula).tobytes()


@dataclass(frozen=True)
class Formulas:
    """The best formula of each of D units, by number: what `<layer>_formulas.npz` holds.

    unit, label: int64 (D,), numbers of the unit and of its concept with the greatest IoU. formula: str (D,). concepts:
    int64 (D,), how many it has; 1 where no longer one is better. photographs: int64 (D,), on which it was counted. iou,
    label_iou: float64 (D,), of formula and label there. heldout_iou, heldout_label_iou: float64 (D,), of the formula
    that is chosen on one half of the photographs and of the label, on the other half, mean of both ways. holds: bool
    (D,), whether the formula is better than the label both times; then it is no accident of the search. fingerprint:
    of what it was made from.
    """

    unit: np.ndarray
    label: np.ndarray
    formula: np.ndarray
    concepts: np.ndarray
    photographs: np.ndarray
    iou: np.ndarray
    label_iou: np.ndarray
    heldout_iou: np.ndarray
    heldout_label_iou: np.ndarray
    holds: np.ndarray
    fingerprint: np.ndarray = field(default_factory=lambda: np.array(""))

    def only(self, units):
        """Those of some units. units: bool (U,)."""
        rows = units[self.unit]
        return Formulas(*(getattr(self, column.name)[rows] for column in fields(self)[:-1]), self.fingerprint)

    @classmethod
    def of(cls, rows):
        """rows: list of what row_of gives."""
        columns = zip(*rows, strict=True) if rows else [[]] * len(_DTYPES)
        return cls(*(np.array(column, dtype) for column, dtype in zip(columns, _DTYPES, strict=True)))


_DTYPES = (np.int64, np.int64, str, np.int64, np.int64, float, float, float, float, bool)


def row_of(of_unit, names, most, beam=BEAM):
    """A unit's row of Formulas. of_unit: UnitPixels. names: of all concepts. most, beam: see best_formula."""
    formula = best_formula(of_unit, most, beam)
    used = concepts_of(formula)
    heldout = np.array([
        compared(of_unit.of_half(not half), best_formula(of_unit.of_half(half), most, beam)) for half in (False, True)
    ])  # fmt: skip
    return (
        of_unit.unit, of_unit.concepts[of_unit.label], text_of(formula, [names[c] for c in of_unit.concepts]),
        len(used), of_unit.photographs(used), *compared(of_unit, formula), *heldout.mean(axis=0),
        bool((heldout[:, 0] > heldout[:, 1]).all()),
    )  # fmt: skip
