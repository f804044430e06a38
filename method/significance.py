"""From draws under chance to p-values, and what of many p-values stands (method.md §8.3)."""

import numpy as np
from scipy.stats import genpareto

_COUNTED = 10  # from so many draws that reach the observed value on, their share is the p-value
_TAIL = 250  # the largest draws, by which the tail is described where fewer reach it
_SHAPED = 50  # draws beyond the tail's start from which on a shape is fitted


def tail_p_values(observed, drawn):
    """How probable a value at least as large is by chance, one-sided (method.md §8.3).

    observed: float64 (U,). drawn: float64 (U, K), K values under chance of each. The p-value is (1 + draws that reach
    the observed value) / (K + 1); where fewer than 10 do, and there are draws enough to see a tail, that of a
    generalised Pareto distribution fitted to the largest 250 of 1,000 draws, or quarter of fewer. A tail whose fitted
    shape is negative would end somewhere, and what lies beyond have p = 0: there it is taken as exponential, which is
    longer. Returns float64 (U,) in (0, 1].
    """
    reached = (drawn >= observed[:, None]).sum(axis=1)
    p_values = (1 + reached) / (drawn.shape[1] + 1)
    for index in np.flatnonzero(reached < _COUNTED):
        p_values[index] = _tail_p(observed[index], np.sort(drawn[index]), p_values[index])
    return p_values


def _tail_p(observed, ascending, otherwise):
    """The p-value of one observed value by the tail of its draws; otherwise: what it is where there is no tail."""
    draws = len(ascending)
    largest = min(_TAIL, draws // 4)
    if not largest or observed <= (start := ascending[-largest - 1]):
        return otherwise
    beyond = ascending[ascending > start] - start
    if len(beyond) < _COUNTED:
        return otherwise
    shape, scale = 0.0, beyond.mean()
    if len(beyond) >= _SHAPED:
        # The shape does not depend on the scale, and the fit is steadier where the numbers are about 1.
        fitted, _, fitted_scale = genpareto.fit(beyond / scale, floc=0)
        if fitted > 0:
            shape, scale = fitted, fitted_scale * scale
    p_value = len(beyond) / draws * genpareto.sf(observed - start, shape, 0, scale)
    return max(p_value, np.finfo(float).tiny)  # beyond what a float can say


def benjamini_hochberg(p_values):
    """q-values: the smallest false discovery rate at which each of many tests is found (Benjamini and Hochberg, 1995).

    p_values: float64, any shape, all of them tested together; NaN is no test and stays. q = min over all p' >= p of
    p' * m / rank of p', m the number of tests. Worked: 0.01 0.04 0.03 give 0.03 0.04 0.04. Returns float64 of that
    shape, in 0..1.
    """
    p_values = np.asarray(p_values, np.float64)
    tested = ~np.isnan(p_values)
    order = np.argsort(p_values[tested], kind="stable")
    count = len(order)
    scaled = p_values[tested][order] * count / np.arange(1, count + 1)
    q_values = np.full(p_values.shape, np.nan)
    found = np.empty(count)
    found[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    q_values[tested] = found
    return q_values
