"""Paired permutation test of a change: the two results of each crystal are swapped in all ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Outcome = tuple[bool, bool]
"""For one crystal and one share: whether it is counted, and whether it is a hit."""

_OUTSIDE: Outcome = (False, False)
_MISS: Outcome = (True, False)
_HIT: Outcome = (True, True)
_KINDS = ((_HIT, _MISS), (_HIT, _OUTSIDE), (_MISS, _OUTSIDE))
"""Numbers of crystals whose two results differ, in each direction."""

_NO_WEIGHT = 1e-14


def paired_p_value(pairs: Mapping[tuple[Outcome, Outcome], int]) -> float:
    """Two-sided p-value of the hypothesis that a share did not change.

    Under that hypothesis either answer of a crystal could have come first. Only crystals whose
    answers differ matter, and of each kind the number that goes one way is binomial. If none is
    counted in one report only, the denominators are fixed and this is McNemar's exact test.

    Parameters
    ----------
    pairs : mapping
        From (outcome before, outcome after) to the number of crystals.

    Returns
    -------
    float
        Probability of a change of the share at least as large as the one seen.

    Examples
    --------
    Five crystals that were a hit and no longer are, none the other way: 2 / 2⁵.

    >>> lost, kept = ((True, True), (True, False)), ((True, True), (True, True))
    >>> round(paired_p_value({lost: 5, kept: 10}), 6)
    0.0625
    """
    import numpy as np
    from scipy.stats import binom

    forward = [pairs.get((first, second), 0) for first, second in _KINDS]
    sizes = [forward[k] + pairs.get((second, first), 0) for k, (first, second) in enumerate(_KINDS)]
    same_hits = pairs.get((_HIT, _HIT), 0)
    same_total = same_hits + pairs.get((_MISS, _MISS), 0)

    def share(firsts: list[Any]) -> Any:
        """The share, given the number of crystals of each kind that have their first result."""
        hits: Any = same_hits
        total: Any = same_total
        for (first, second), size, n_first in zip(_KINDS, sizes, firsts, strict=True):
            hits = hits + n_first * first[1] + (size - n_first) * second[1]
            total = total + n_first * first[0] + (size - n_first) * second[0]
        return hits / np.maximum(total, 1)

    def change(firsts: list[Any]) -> Any:
        swapped = [size - n_first for size, n_first in zip(sizes, firsts, strict=True)]
        return np.abs(share(swapped) - share(firsts))

    observed = change(forward)
    axes = []
    for size in sizes:
        numbers = np.arange(size + 1)
        weights = binom.pmf(numbers, size, 0.5)
        axes.append((numbers[weights > _NO_WEIGHT], weights[weights > _NO_WEIGHT]))
    # The longest axis is a vector, the other two are loops.
    short, middle, long = sorted(range(3), key=lambda axis: len(axes[axis][0]))
    p_value = 0.0
    for i, weight_i in zip(*axes[short], strict=True):
        for j, weight_j in zip(*axes[middle], strict=True):
            firsts: list[Any] = [0, 0, 0]
            firsts[short], firsts[middle], firsts[long] = i, j, axes[long][0]
            extreme = change(firsts) >= observed - 1e-12
            p_value += float(weight_i * weight_j * axes[long][1][extreme].sum())
    return min(1.0, p_value)
