"""Cheap refusals and cost bounds over a whole reference in one compiled pass; bounds of a cell.

What `bounds.may_match` and `bounds.CostBounds` say of many pairs at once, crystal by crystal: most
fall to the first comparison, and nothing is written for them. On a large reference the passes over
arrays in memory take longer than the arithmetic.

This module imports numba and is itself imported only on use.
"""

from __future__ import annotations

import numpy as np

from novelty_metric.search.bounds import ANGLE_SLACK, COEFFICIENTS, SLACK, Cells
from novelty_metric.search.kernels.compilation import compiled, given, internal
from novelty_metric.search.kernels.geometry import inner, inverted
from novelty_metric.search.pettifor import NONE, WITHOUT_NUMBER


@internal
def _without_number(pettifor: np.ndarray) -> int:
    """How many have no number: in order, they come last."""
    count = 0
    while count < len(pettifor) and pettifor[len(pettifor) - 1 - count] == NONE:
        count += 1
    return count


@internal
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


@compiled
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


@internal
def _minima(
    lattice: np.ndarray, inverse: np.ndarray, coefficients: np.ndarray, minima: np.ndarray
) -> None:
    """`bounds.successive_minima` of one lattice, into `minima`."""
    first, second = 0, 0
    for k in range(3):
        shortest = np.inf
        for at in range(len(coefficients)):
            a, b, c = coefficients[at]
            if k > 0:  # the normal of the first and this; with the second, out of their plane
                p, q, r = coefficients[first]
                x, y, z = q * c - r * b, r * a - p * c, p * b - q * a
                if k == 1 and x == 0 and y == 0 and z == 0:
                    continue
                d, e, f = coefficients[second]
                if k == 2 and x * d + y * e + z * f == 0:
                    continue
            square = 0.0
            for axis in range(3):
                value = a * lattice[0, axis] + b * lattice[1, axis] + c * lattice[2, axis]
                square += value * value
            if square < shortest:
                shortest = square
                if k == 0:
                    first = at
                elif k == 1:
                    second = at
        minima[k] = np.sqrt(shortest)
    steepest = 0.0
    for k in range(3):
        steepest = max(steepest, inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
    for k in range(3):
        minima[k] = min(minima[k], 3 / np.sqrt(steepest))


@internal
def _volumes(  # noqa: PLR0917
    lengths: np.ndarray,
    cosines: np.ndarray,
    ltol: float,
    reach: float,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[float, float]:
    """`bounds.volume_window` of one cell; `reach` is the tolerance of angles in radians."""
    nearest = 0.0
    for k in range(3):
        angle = np.arccos(min(1.0, max(-1.0, cosines[k])))
        low[k], high[k] = np.cos(min(angle + reach, np.pi)), np.cos(max(angle - reach, 0.0))
        if low[k] >= 0 or high[k] <= 0:
            nearest += min(low[k] ** 2, high[k] ** 2)
    least_g, most_product = np.inf, -np.inf
    for corner in range(8):
        x = high[0] if corner & 1 else low[0]
        y = high[1] if corner & 2 else low[1]
        z = high[2] if corner & 4 else low[2]
        least_g = min(least_g, 1 + 2 * x * y * z - x * x - y * y - z * z)
        most_product = max(most_product, x * y * z)
    most_g = min(1.0, 1 + 2 * most_product - nearest)
    box = lengths[0] * lengths[1] * lengths[2]
    smallest = box * (1 + ltol) ** -3 * np.sqrt(max(least_g, 0.0))
    largest = box * (1 + ltol) ** 3 * np.sqrt(max(most_g, 0.0))
    return smallest * (1 - SLACK), largest * (1 + SLACK)


@compiled
def _cell(  # noqa: PLR0917
    lattice: np.ndarray,
    coefficients: np.ndarray,
    ltol: float,
    reach: float,
    minima: np.ndarray,
    lengths: np.ndarray,
    inverse: np.ndarray,
    small: np.ndarray,
) -> tuple[float, float, float]:
    """Volume, least and greatest of a partner's; the last two, both (3, 3), are written over."""
    cosines = small[0]
    volume = abs(inverted(lattice, inverse))
    _minima(lattice, inverse, coefficients, minima)
    for k in range(3):
        lengths[k] = np.sqrt(inner(lattice[k], lattice[k]))
    for k in range(3):
        one, other = (k + 1) % 3, (k + 2) % 3
        cosines[k] = inner(lattice[one], lattice[other]) / (lengths[one] * lengths[other])
    smallest, largest = _volumes(lengths, cosines, ltol, reach, small[1], small[2])
    return volume, smallest, largest


def cell(lattice: np.ndarray, n_sites: int, *, ltol: float, angle_tol: float) -> Cells:
    """`Cells.of` for one cell, whose arrays over many would take a hundred times longer.

    Parameters
    ----------
    lattice : float64, (3, 3)
        Cell vectors as rows (Å).
    n_sites : int
    ltol : float
        Fractional length tolerance.
    angle_tol : float
        Degrees.
    """
    minima, lengths = np.empty((1, 3)), np.empty((1, 3))
    volume, smallest, largest = _cell(
        given(lattice, np.float64),
        given(COEFFICIENTS, np.int64),
        float(ltol),
        float(np.radians(angle_tol + ANGLE_SLACK)),
        minima[0],
        lengths[0],
        np.empty((3, 3)),
        np.empty((3, 3)),
    )
    lengths.sort()
    return Cells(
        np.array([n_sites]),
        np.array([volume]),
        minima,
        lengths,
        np.array([smallest]),
        np.array([largest]),
    )
