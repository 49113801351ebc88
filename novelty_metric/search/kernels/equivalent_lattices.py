"""Step 2: lattices that a symmetry operation of T maps onto a refused lattice."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.constants import SLACK
from novelty_metric.search.kernels.geometry import inner


@internal
def operations_of(  # noqa: PLR0917
    lattice: np.ndarray,
    frac: np.ndarray,
    numbers: np.ndarray,
    n: int,
    every: bool,
    operations: np.ndarray,
) -> int:
    """Symmetry operations of a crystal that only permute or invert its axes.

    Operations by all but rounding, that is: those of a crystal symmetric within a tolerance, as
    symmetry searches find them, would not do.

    Parameters
    ----------
    lattice, frac : (3, 3), (n, 3)
    numbers : integer, (n,)
        Equal for equal elements.
    every : bool
        All that keep the elements. Else those that fix the first site, whatever the elements.
    operations : int64, (48, 6)
        Axis i goes to axis ``operations[m, i]``, with the sign ``operations[m, 3 + i]``.

    Returns
    -------
    int
        How many, the identity among them.
    """
    found = 0
    for choice in range(48):
        one = choice // 16
        other = (one + 1 + choice // 8 % 2) % 3
        operation = operations[found]
        operation[0], operation[1], operation[2] = one, other, 3 - one - other
        for k in range(3):
            operation[3 + k] = 1 - 2 * (choice >> k & 1)
        if not _keeps_metric(lattice, operation):
            continue
        for to in range(n if every else 1):
            if _keeps_sites(frac, numbers, n, to, every, operation):
                found += 1
                break
    return found


@internal
def _keeps_metric(lattice: np.ndarray, operation: np.ndarray) -> bool:
    """True if permuted and inverted axes have the lengths and angles of the replaced axes."""
    for i in range(3):
        for k in range(i, 3):
            there = inner(lattice[operation[i]], lattice[operation[k]])
            there *= operation[3 + i] * operation[3 + k]
            here = inner(lattice[i], lattice[k])
            size = inner(lattice[i], lattice[i]) + inner(lattice[k], lattice[k])
            if abs(there - here) > SLACK / 10 * size:
                return False
    return True


@internal
def _keeps_sites(  # noqa: PLR0917
    frac: np.ndarray,
    numbers: np.ndarray,
    n: int,
    to: int,
    with_elements: bool,
    operation: np.ndarray,
) -> bool:
    """True if permuted and inverted axes, with a translation of the first site, keep all sites."""
    p, q, r = operation[0], operation[1], operation[2]
    any_element = not with_elements
    for i in range(n):
        # x = Σ xᵢ aᵢ goes to Σ xᵢ ± a of `operation[i]`.
        image_p = operation[3] * (frac[i, 0] - frac[0, 0]) + frac[to, p]
        image_q = operation[4] * (frac[i, 1] - frac[0, 1]) + frac[to, q]
        image_r = operation[5] * (frac[i, 2] - frac[0, 2]) + frac[to, r]
        found = 0
        for j in range(n):
            dp, dq, dr = frac[j, p] - image_p, frac[j, q] - image_q, frac[j, r] - image_r
            found |= (
                (abs(dp - np.rint(dp)) < SLACK / 10)
                & (abs(dq - np.rint(dq)) < SLACK / 10)
                & (abs(dr - np.rint(dr)) < SLACK / 10)
                & (any_element | (numbers[i] == numbers[j]))
            )
        if not found:
            return False
    return True


@internal
def class_of(matrix: np.ndarray, operations: np.ndarray, count: int, of_source: bool) -> int:
    """A number that equivalent lattices share; -1 if their coefficients are too large for it.

    Parameters
    ----------
    matrix : int64, (3, 3)
        Coefficients of the source's vectors.
    operations, count
        From `operations_of`, of T.
    of_source : bool
        T is the source, and not the target.
    """
    for i in range(3):
        for k in range(3):
            if abs(matrix[i, k]) > 15:
                return -1
    greatest = -1
    for place in range(count):
        operation = operations[place]
        code = 0
        sign = 0
        for i in range(3):
            for k in range(3):
                if of_source:
                    value = operation[3 + k] * matrix[i, operation[k]]
                else:
                    value = operation[3 + i] * matrix[operation[i], k]
                if sign == 0 and value != 0:
                    sign = 1 if value > 0 else -1
                code = 32 * code + 16 + sign * value
        greatest = max(greatest, code)
    return greatest


@internal
def only_exchanged_by_reduction(parameters: np.ndarray, ltol: float, tolerance: float) -> bool:
    """True if LLL reduction can only reorder the mean of such a cell and one within tolerance.

    With c the largest cosine and r the largest ratio of lengths, no coefficient of the Gram-Schmidt
    process exceeds c·r/(1 - c), in whatever order the vectors are: below one half none is ever
    subtracted from another.
    """
    cosine = 0.0
    for k in range(3):
        away = abs(parameters[3 + k] - np.pi / 2) + tolerance / 2
        cosine = max(cosine, np.sin(min(away, np.pi / 2)))
    shortest = min(parameters[0], parameters[1], parameters[2])
    longest = max(parameters[0], parameters[1], parameters[2])
    return cosine * (1 + ltol) * longest / shortest < 0.45 * (1 - cosine)
