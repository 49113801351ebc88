"""Step 3: expansion of the smaller crystal's sites to the larger cell."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.geometry import inverted
from novelty_metric.search.kernels.memory import Scratch


@internal
def supercell_sites(  # noqa: PLR0917
    frac: np.ndarray, n: int, matrix: np.ndarray, fu: int, out: np.ndarray, scratch: Scratch
) -> bool:
    """Sites of a supercell, wrapped, one original site after the other, into `out`, (3, n·fu).

    False if their number is not right.

    The lattice points come in lexicographic order of their coefficients, as in pymatgen.
    """
    inverse, real, points = scratch.small[4], scratch.small[5], scratch.points
    for i in range(3):
        for k in range(3):
            real[i, k] = matrix[i, k]
    inverted(real, inverse)
    found = 0
    if fu == 1:
        points[0, 0] = points[0, 1] = points[0, 2] = 0.0
        found = 1
    else:
        p_low, p_high = _extent(matrix, 0)
        q_low, q_high = _extent(matrix, 1)
        r_low, r_high = _extent(matrix, 2)
        for p in range(p_low, p_high + 1):
            for q in range(q_low, q_high + 1):
                for r in range(r_low, r_high + 1):
                    inside = True
                    for k in range(3):
                        value = p * inverse[0, k] + q * inverse[1, k] + r * inverse[2, k]
                        if value < -1e-10 or value >= 1 - 1e-10:
                            inside = False
                            break
                    if inside:
                        if found == fu:
                            return False
                        for k in range(3):
                            points[found, k] = (
                                p * inverse[0, k] + q * inverse[1, k] + r * inverse[2, k]
                            )
                        found += 1
    if found != fu:
        return False
    for k in range(3):
        for i in range(n):
            moved = (
                frac[i, 0] * inverse[0, k] + frac[i, 1] * inverse[1, k] + frac[i, 2] * inverse[2, k]
            )
            for point in range(fu):
                value = moved + points[point, k]
                out[k, i * fu + point] = value - np.floor(value)
    return True


@internal
def _extent(matrix: np.ndarray, k: int) -> tuple[int, int]:
    """Least and greatest component k of the corners of a cell."""
    low, high = 0, 0
    for row in range(3):
        low += min(0, matrix[row, k])
        high += max(0, matrix[row, k])
    return low, high
