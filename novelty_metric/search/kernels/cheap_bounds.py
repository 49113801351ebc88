"""Compiled cheap refusals and cost bounds for many crystals, used by `bounds`.

They go crystal by crystal: most fall to the first comparison, and nothing is written for them. On a
large reference passes over whole arrays in memory take longer than the arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.search.kernels.compilation import compiled, given, internal
from novelty_metric.search.kernels.geometry import inner, inverted
from novelty_metric.search.pettifor import NONE, WITHOUT_NUMBER

if TYPE_CHECKING:
    from novelty_metric.search.bounds import Cells

SLACK = 1e-9
"""Relative slack of all comparisons, far above rounding, so that rounding refuses nothing."""

ANGLE_SLACK = 1e-6
"""Slack of angles (degrees)."""


def _half_grid(largest: int) -> np.ndarray:
    axis = np.arange(-largest, largest + 1)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid[len(grid) // 2 + 1 :]  # of v and -v one; without zero


COEFFICIENTS = _half_grid(2)
"""Coefficients of the lattice vectors considered for the successive minima, (62, 3)."""


VOLUME, SMALLEST, LARGEST, MINIMA, LENGTHS = 0, 1, 2, 3, 6
"""Columns of `bounds.Cells.rows`; minima and lengths have three each."""


@internal
def _minima(
    lattice: np.ndarray, inverse: np.ndarray, coefficients: np.ndarray, minima: np.ndarray
) -> None:
    """Lower bounds of the three successive minima of a lattice (Å), into `minima`.

    Exact for reduced cells, unless one vector is longer than three times the least distance of
    lattice planes.

    The k-th successive minimum is the smallest r such that k linearly independent lattice vectors
    are no longer than r.

    Proof that the result is a lower bound. A lattice vector v has the coefficients x_i = v·b*_i, b*
    the reciprocal basis, so |x_i| ≤ |v||b*_i|. All vectors with coefficients from -2 to 2 are
    looked at, hence a vector that is not has some |x_i| ≥ 3 and |v| ≥ R = 3/max|b*_i|. Either the
    k-th minimum is reached by vectors that were looked at, among which taking the shortest
    independent ones greedily gives it, or one of the vectors is at least R long. So the smaller of
    the two values is a lower bound. No property of the cell was used.
    """
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
    """Bounds of the volume of a cell within the tolerances of a target cell (Å³).

    Proof. The volume is abc·√g with g(x, y, z) = 1 + 2xyz − x² − y² − z² of the cosines of the
    angles. Each length lies between l/(1+ltol) and l·(1+ltol). Each cosine lies in an interval,
    the cosine being monotone from 0 to 180°. In each variable alone g is a parabola that opens
    downwards, so its least value over the box of intervals is at a corner. From above, xyz is
    linear in each variable, hence greatest at a corner, and the squares are at least the squares of
    the points of the intervals nearest to zero; g is at most 1.

    Parameters
    ----------
    lengths, cosines : (3,)
        Of the target.
    reach : float
        Tolerance of angles (radians).
    low, high : (3,)
        Written over.
    """
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
def _cells(  # noqa: PLR0917
    lattices: np.ndarray,
    coefficients: np.ndarray,
    ltol: float,
    reach: float,
    rows: np.ndarray,
    small: np.ndarray,
) -> None:
    """Fill the rows of `bounds.Cells` for many lattices; overwrites `small`, (5, 3, 3)."""
    inverse, cosines, lengths = small[0], small[1, 0], small[2, 0]
    for i in range(len(lattices)):
        lattice, row = lattices[i], rows[i]
        row[VOLUME] = abs(inverted(lattice, inverse))
        _minima(lattice, inverse, coefficients, row[MINIMA : MINIMA + 3])
        for k in range(3):
            lengths[k] = np.sqrt(inner(lattice[k], lattice[k]))
        for k in range(3):
            one, other = (k + 1) % 3, (k + 2) % 3
            cosines[k] = inner(lattice[one], lattice[other]) / (lengths[one] * lengths[other])
        row[SMALLEST], row[LARGEST] = _volumes(
            lengths, cosines, ltol, reach, small[3, 0], small[4, 0]
        )
        a, b, c = lengths
        row[LENGTHS] = min(a, b, c)
        row[LENGTHS + 1] = max(min(a, b), min(max(a, b), c))
        row[LENGTHS + 2] = max(a, b, c)


def cells(lattices: np.ndarray, *, ltol: float, angle_tol: float) -> np.ndarray:
    """The rows of `bounds.Cells.of`, float64 (M, 9)."""
    lattices = given(np.asarray(lattices).reshape(-1, 3, 3), np.float64)
    rows = np.empty((len(lattices), 9))
    _cells(
        lattices,
        given(COEFFICIENTS, np.int64),
        float(ltol),
        float(np.radians(angle_tol + ANGLE_SLACK)),
        rows,
        np.empty((5, 3, 3)),
    )
    return rows


@internal
def _fits(own: np.ndarray, n: int, other: np.ndarray, size: int, reach: float) -> bool:
    """True if a pair is not refused, see `bounds.may_match`: rows of cells of `n`, `size` sites."""
    if size >= n:
        expanded = own[VOLUME] * size / n
        if expanded < other[SMALLEST] or expanded > other[LARGEST]:
            return False
        source, target = own, other
    else:
        expanded = other[VOLUME] * (n / size)
        if expanded < own[SMALLEST] or expanded > own[LARGEST]:
            return False
        source, target = other, own
    return (
        source[MINIMA] < reach * target[LENGTHS]
        and source[MINIMA + 1] < reach * target[LENGTHS + 1]
        and source[MINIMA + 2] < reach * target[LENGTHS + 2]
    )


@compiled
def _may_match(  # noqa: PLR0917
    own: np.ndarray,
    n: int,
    others: np.ndarray,
    sizes: np.ndarray,
    reach: float,
    possible: np.ndarray,
) -> None:
    for i in range(len(sizes)):
        size = sizes[i]
        commensurate = size % n == 0 or n % size == 0
        possible[i] = commensurate and _fits(own, n, others[i], size, reach)


def _reach(ltol: float) -> float:
    """Bounds of a minimum of the source, in lengths of the target."""
    return float((1 + ltol) * (1 + SLACK))


def may_match(generated: Cells, references: Cells, ltol: float) -> np.ndarray:
    """See `bounds.may_match`."""
    possible = np.empty(len(references.n_sites), dtype=np.bool_)
    _may_match(
        given(generated.rows[0], np.float64),
        int(generated.n_sites[0]),
        given(references.rows, np.float64),
        given(references.n_sites, np.int64),
        _reach(ltol),
        possible,
    )
    return possible


@internal
def _without_number(pettifor: np.ndarray) -> int:
    """Number of sites without a Pettifor number; they come last in the order."""
    count = 0
    while count < len(pettifor) and pettifor[len(pettifor) - 1 - count] == NONE:
        count += 1
    return count


@internal
def _bound(
    own: np.ndarray, own_without: int, other: np.ndarray, other_without: int, n_common: int
) -> float:
    """The bound of `bounds.CostBounds` for one pair of sorted numbers."""
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
def _cost_bounds(
    pettifor: np.ndarray, numbers: np.ndarray, rows: np.ndarray, bounds: np.ndarray
) -> None:
    without, n_common = _without_number(pettifor), max(len(pettifor), numbers.shape[1])
    for i in range(len(rows)):
        other = numbers[rows[i]]
        bounds[i] = _bound(pettifor, without, other, _without_number(other), n_common)


def cost_bounds(pettifor: np.ndarray, numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Bounds for one list of sorted numbers, (n,), and some rows of others, (M, m)."""
    bounds = np.empty(len(rows))
    _cost_bounds(given(pettifor, np.uint8), given(numbers, np.uint8), given(rows, np.int64), bounds)
    return bounds


@compiled
def _look(  # noqa: PLR0917
    pettifor: np.ndarray,
    own: np.ndarray,
    others: np.ndarray,
    numbers: np.ndarray,
    reach: float,
    found: np.ndarray,
    bounds: np.ndarray,
) -> int:
    n, size = len(pettifor), numbers.shape[1]
    n_common = max(n, size)
    without = _without_number(pettifor)
    count = 0
    for i in range(len(others)):
        if _fits(own, n, others[i], size, reach):
            other = numbers[i]
            found[count] = i
            bounds[count] = _bound(pettifor, without, other, _without_number(other), n_common)
            count += 1
    return count


def look(
    pettifor: np.ndarray, generated: Cells, references: Cells, numbers: np.ndarray, ltol: float
) -> tuple[np.ndarray, np.ndarray]:
    """The crystals of one size that might match, with lower bounds on the cost of a match.

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
    ltol : float
        Fractional length tolerance.

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
        given(generated.rows[0], np.float64),
        given(references.rows, np.float64),
        given(numbers, np.uint8),
        _reach(ltol),
        found,
        bounds,
    )
    return found[:count], bounds[:count]
