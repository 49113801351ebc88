"""Cheap refusals and cost bounds over a whole reference in one compiled pass.

What `bounds.may_match` and `bounds.CostBounds` say of many pairs at once, crystal by crystal: most
fall to the first comparison, and nothing is written for them. On a large reference the passes over
arrays in memory take longer than the arithmetic.

This module imports numba and is itself imported only on use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.search.kernels import given, without_counting
from novelty_metric.search.pettifor import NONE, WITHOUT_NUMBER

if TYPE_CHECKING:
    from novelty_metric.search.bounds import Cells


@without_counting
def _without_number(pettifor: np.ndarray) -> int:
    """How many have no number: in order, they come last."""
    count = 0
    while count < len(pettifor) and pettifor[len(pettifor) - 1 - count] == NONE:
        count += 1
    return count


@without_counting
def _bound(
    own: np.ndarray, own_without: int, other: np.ndarray, other_without: int, n_common: int
) -> float:
    """`CostBounds` of one pair, of sorted numbers."""
    if own_without > 0 or other_without > 0:
        own_share = own_without * (n_common // len(own))
        return WITHOUT_NUMBER * max(own_share, other_without * (n_common // len(other))) / n_common
    total = np.int64(0)  # the numbers are unsigned: their differences must not be
    if len(own) == n_common:
        step = n_common // len(other)
        for i in range(n_common):
            total += abs(np.int64(own[i]) - np.int64(other[i // step]))
    else:
        step = n_common // len(own)
        for i in range(n_common):
            total += abs(np.int64(own[i // step]) - np.int64(other[i]))
    # Summed in integers and divided once: equal sums give equal floats, as in `map_cost`.
    return total / n_common


@without_counting
def _look(  # noqa: PLR0917
    pettifor: np.ndarray,
    window: tuple[float, float, float],
    minima: np.ndarray,
    lengths: np.ndarray,
    volumes: np.ndarray,
    smallest: np.ndarray,
    largest: np.ndarray,
    all_minima: np.ndarray,
    all_lengths: np.ndarray,
    numbers: np.ndarray,
    reach: float,
    found: np.ndarray,
    bounds: np.ndarray,
) -> int:
    n, size = len(pettifor), numbers.shape[1]
    n_common = max(n, size)
    without = _without_number(pettifor)
    expanded = window[0] * size / n
    times = n / size
    count = 0
    for i in range(len(volumes)):
        if size >= n:
            if expanded < smallest[i] or expanded > largest[i]:
                continue
            if (
                minima[0] >= reach * all_lengths[i, 0]
                or minima[1] >= reach * all_lengths[i, 1]
                or minima[2] >= reach * all_lengths[i, 2]
            ):
                continue
        else:
            volume = volumes[i] * times
            if volume < window[1] or volume > window[2]:
                continue
            if (
                all_minima[i, 0] >= reach * lengths[0]
                or all_minima[i, 1] >= reach * lengths[1]
                or all_minima[i, 2] >= reach * lengths[2]
            ):
                continue
        other = numbers[i]
        found[count] = i
        bounds[count] = _bound(pettifor, without, other, _without_number(other), n_common)
        count += 1
    return count


def look(
    pettifor: np.ndarray, generated: Cells, references: Cells, numbers: np.ndarray, *, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which crystals of one size might match, and what a match costs at least.

    Parameters
    ----------
    pettifor : uint8, (n_sites,)
        Modified Pettifor numbers of the generated crystal, sorted.
    generated : Cells
        Its cell.
    references : Cells
        M cells of m sites; one number of sites divides the other.
    numbers : uint8, (M, m)
        Their numbers, sorted.
    reach : float
        What a minimum may come to, in lengths of the target.

    Returns
    -------
    found : int64, (C,)
        Which of the M are not refused.
    bounds : float64, (C,)
    """
    found = np.empty(len(numbers), dtype=np.int64)
    bounds = np.empty(len(numbers))
    count = _look(
        given(pettifor, np.uint8),
        (float(generated.volume[0]), float(generated.smallest[0]), float(generated.largest[0])),
        given(generated.minima[0], np.float64),
        given(generated.lengths[0], np.float64),
        given(references.volume, np.float64),
        given(references.smallest, np.float64),
        given(references.largest, np.float64),
        given(references.minima, np.float64),
        given(references.lengths, np.float64),
        given(numbers, np.uint8),
        float(reach),
        found,
        bounds,
    )
    return found[:count], bounds[:count]
