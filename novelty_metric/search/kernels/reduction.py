"""Step 4: LLL-reduced forms of the average cell, with pymatgen's windows on them."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.constants import EDGE, MOST_TIES
from novelty_metric.search.kernels.geometry import inverted
from novelty_metric.search.kernels.memory import Reductions


@internal
def reduced_forms(cell: np.ndarray, reach: float, out: Reductions, small: np.ndarray) -> int:
    """All reduced forms of a cell that rounding could give, with pymatgen's windows on them.

    Parameters
    ----------
    cell : (3, 3)
    reach : float
        Site tolerance (Å).
    out : Reductions
    small : (11, 3, 3)
        Written over, but for the second and the third.

    Returns
    -------
    int
        How many there are; 0 if they are too many.
    """
    inverse, mapping, reduced = small[4], small[5], small[0]
    found = 0
    choices, last = 0, 0
    while choices <= last:
        ties = _lll(cell, choices, reduced, mapping, small)
        if ties < 0 or ties > MOST_TIES:
            return 0
        last = max(last, (1 << ties) - 1)
        choices += 1
        at = _known_reduction(mapping, cell, found, out)
        if at == found:
            if found + 1 == len(out.cells):
                return 0
            _describe(found, mapping, inverse, out)
            found += 1
        inverted(reduced, inverse)
        for k in range(3):
            square = inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2
            out.windows[at, k] = max(out.windows[at, k], 2 * np.sqrt(square) * reach)
    return found


@internal
def one_reduced_form(cell: np.ndarray, reach: float, out: Reductions, small: np.ndarray) -> bool:
    """The first of `reduced_forms`, without the alternatives by rounding.

    Returns
    -------
    bool
        Whether the reduction ends.
    """
    inverse, mapping, reduced = small[4], small[5], small[0]
    if _lll(cell, 0, reduced, mapping, small) < 0:
        return False
    _known_reduction(mapping, cell, 0, out)
    _describe(0, mapping, inverse, out)
    inverted(reduced, inverse)
    for k in range(3):
        square = inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2
        out.windows[0, k] = 2 * np.sqrt(square) * reach
    return True


@internal
def _lll(
    cell: np.ndarray, choices: int, reduced: np.ndarray, mapping: np.ndarray, small: np.ndarray
) -> int:
    """LLL reduction (delta 0.75) in pymatgen's order of steps, into `reduced` and `mapping`.

    Whenever rounding would decide a step (a coefficient to be rounded lies half-way, or the Lovász
    condition holds with equality), the next bit of `choices` decides instead.

    Returns
    -------
    int
        How many steps were decided so; -1 if the reduction does not end.
    """
    a, b, u, steps, m = small[6], small[7], small[8], small[9], small[10, 0]
    for row in range(3):
        for column in range(3):
            a[row, column] = cell[column, row]
            u[row, column] = 0.0
            steps[row, column] = 1.0 if row == column else 0.0
    ties = 0
    for s in range(3):
        _orthogonalise(a, b, u, m, s)
    k = 2
    for _ in range(200):
        if k > 3:
            break
        for i in range(k - 1, 0, -1):
            value = u[k - 1, i - 1]
            low = np.floor(value)
            if abs(value - low - 0.5) < EDGE:
                q = low + ((choices >> ties) & 1)
                ties += 1
            else:
                q = np.floor(value + 0.5)
            if q != 0:
                for row in range(3):
                    a[row, k - 1] -= q * a[row, i - 1]
                    steps[row, k - 1] -= q * steps[row, i - 1]
                for column in range(i - 1):
                    u[k - 1, column] -= q * u[i - 1, column]
                u[k - 1, i - 1] -= q
        left = m[k - 1]
        right = (0.75 - u[k - 1, k - 2] ** 2) * m[k - 2]
        if abs(left - right) < EDGE * m[k - 2]:
            holds = ((choices >> ties) & 1) == 0
            ties += 1
        else:
            holds = left >= right
        if holds:
            k += 1
            continue
        for row in range(3):
            a[row, k - 1], a[row, k - 2] = a[row, k - 2], a[row, k - 1]
            steps[row, k - 1], steps[row, k - 2] = steps[row, k - 2], steps[row, k - 1]
        _orthogonalise(a, b, u, m, k - 2)
        _orthogonalise(a, b, u, m, k - 1)
        if k > 2:
            k -= 1
        else:
            for column in range(2):
                dot = 0.0
                for row in range(3):
                    dot += a[row, 2] * b[row, column]
                u[2, column] = dot / m[column]
    if k <= 3:
        return -1
    for i in range(3):
        for j in range(3):
            reduced[i, j] = a[j, i]
            mapping[i, j] = steps[j, i]
    return ties


@internal
def _orthogonalise(a: np.ndarray, b: np.ndarray, u: np.ndarray, m: np.ndarray, s: int) -> None:
    """Gram-Schmidt of column `s` against the columns before it."""
    for column in range(s):
        dot = 0.0
        for row in range(3):
            dot += a[row, s] * b[row, column]
        u[s, column] = dot / m[column]
    for row in range(3):
        value = a[row, s]
        for column in range(s):
            value -= b[row, column] * u[s, column]
        b[row, s] = value
    m[s] = b[0, s] ** 2 + b[1, s] ** 2 + b[2, s] ** 2


@internal
def _known_reduction(mapping: np.ndarray, cell: np.ndarray, found: int, out: Reductions) -> int:
    """Number of the reduced cell with this mapping; a new cell is appended."""
    cells = out.cells
    for i in range(3):
        for k in range(3):
            cells[found, i, k] = (
                mapping[i, 0] * cell[0, k] + mapping[i, 1] * cell[1, k] + mapping[i, 2] * cell[2, k]
            )
    for earlier in range(found):
        apart = 0.0
        for i in range(3):
            for k in range(3):
                apart = max(apart, abs(cells[earlier, i, k] - cells[found, i, k]))
        if apart < 1e-6:
            return earlier
    return found


@internal
def _describe(at: int, mapping: np.ndarray, inverse: np.ndarray, out: Reductions) -> None:
    """Fill in the data of a reduced cell, except for the windows."""
    cells = out.cells
    inverted(mapping, out.backs[at])
    inverted(cells[at], inverse)
    least_step = np.inf  # square of the least distance of lattice planes
    for k in range(3):
        square = inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2
        least_step = min(least_step, 1 / square)
        out.windows[at, k] = 0.0
    shortest = np.inf
    for place in range(27):
        p, q, r = place // 9 - 1, place // 3 % 3 - 1, place % 3 - 1
        square = 0.0
        for k in range(3):
            value = p * cells[at, 0, k] + q * cells[at, 1, k] + r * cells[at, 2, k]
            out.images[at, k, place] = value
            square += value * value
        if place != 13:
            shortest = min(shortest, square)
    # A vector is nearest, and alone, if it is shorter than half the shortest lattice vector:
    # one of these, or one with a coefficient of 2 or more, at least two planes away.
    out.safe[at] = (1 - EDGE) * min(shortest / 4, least_step)
