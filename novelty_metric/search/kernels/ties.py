"""Step 8: other results that pymatgen can find if assignments or images tie."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.constants import EDGE, IMAGES_TIE
from novelty_metric.search.kernels.distances import vector_as_wrapped
from novelty_metric.search.kernels.geometry import inverted
from novelty_metric.search.kernels.memory import Scratch, row_width


@internal
def tied_sums(n: int, start: int, variant: int, scratch: Scratch) -> tuple[float, float]:
    """Least and greatest square of the vector sum over all assignments of (nearly) equal cost.

    Takes the entries that are marked in `allowed`, and all equally near images.
    """
    low, own, high = scratch.small[4, 0], scratch.small[4, 1], scratch.small[4, 2]
    _box_of_sums(n, start, variant, scratch)
    cell, inverse = scratch.reductions.cells[variant], scratch.small[5]
    inverted(cell, inverse)
    return _sums_within(own, low, high, cell, inverse)


@internal
def _box_of_sums(n: int, start: int, variant: int, scratch: Scratch) -> None:
    """Sum of the assigned vectors, its least and greatest components over marked pairs.

    Into ``scratch.small[4]``: the least, its own, the greatest.
    """
    vectors, column_of = scratch.vectors, scratch.settled[1]
    images = scratch.reductions.images[variant]
    low, own, high = scratch.small[4, 0], scratch.small[4, 1], scratch.small[4, 2]
    width = row_width(n)
    for k in range(3):
        low[k] = own[k] = high[k] = 0.0
        for i in range(n):
            lowest = highest = vectors[i * width + column_of[i], k]
            own[k] += lowest
            for j in range(n):
                place = i * width + j
                if scratch.allowed[place] == 0:
                    continue
                lowest = min(lowest, vectors[place, k])
                highest = max(highest, vectors[place, k])
                if scratch.doubt[place] & IMAGES_TIE:
                    apart = vector_as_wrapped(i, j, start, variant, scratch)
                    limit = scratch.cost[place] * (1 + 2 * EDGE)
                    least_of_images, most_of_images = _equally_near(apart, images, limit, k)
                    lowest = min(lowest, least_of_images)
                    highest = max(highest, most_of_images)
            low[k] += lowest
            high[k] += highest


@internal
def _equally_near(
    apart: tuple[float, float, float], images: np.ndarray, limit: float, k: int
) -> tuple[float, float]:
    """Least and greatest component k of a vector's images up to a squared length."""
    lowest, highest = np.inf, -np.inf
    for place in range(27):
        dx = apart[0] + images[0, place]
        dy = apart[1] + images[1, place]
        dz = apart[2] + images[2, place]
        if dx * dx + dy * dy + dz * dz <= limit:
            value = dx if k == 0 else dy if k == 1 else dz
            lowest = min(lowest, value)
            highest = max(highest, value)
    return lowest, highest


@internal
def _sums_within(
    own: np.ndarray, low: np.ndarray, high: np.ndarray, cell: np.ndarray, inverse: np.ndarray
) -> tuple[float, float]:
    """Least and greatest square of the vector sum over tied assignments, from one sum.

    Another assignment permutes the sites' ends and takes other images, so its sum differs from
    `own` by a lattice vector, and lies in the box from `low` to `high`.
    """
    p_most, q_most, r_most = _steps_within(own, low, high, inverse)
    nearest, furthest = np.inf, 0.0
    for p in range(-p_most, p_most + 1):
        for q in range(-q_most, q_most + 1):
            for r in range(-r_most, r_most + 1):
                square = 0.0
                inside = True
                for k in range(3):
                    value = own[k] + p * cell[0, k] + q * cell[1, k] + r * cell[2, k]
                    square += value * value
                    inside &= low[k] - 1e-6 <= value <= high[k] + 1e-6
                if inside:
                    nearest = min(nearest, square)
                    furthest = max(furthest, square)
    return nearest, furthest


@internal
def _steps_within(
    own: np.ndarray, low: np.ndarray, high: np.ndarray, inverse: np.ndarray
) -> tuple[int, int, int]:
    """Maximum number of cell vectors of each kind from one sum to the ends of the box."""
    x = max(high[0] - own[0], own[0] - low[0]) + 1e-6
    y = max(high[1] - own[1], own[1] - low[1]) + 1e-6
    z = max(high[2] - own[2], own[2] - low[2]) + 1e-6
    p_most = int(x * abs(inverse[0, 0]) + y * abs(inverse[1, 0]) + z * abs(inverse[2, 0]))
    q_most = int(x * abs(inverse[0, 1]) + y * abs(inverse[1, 1]) + z * abs(inverse[2, 1]))
    r_most = int(x * abs(inverse[0, 2]) + y * abs(inverse[1, 2]) + z * abs(inverse[2, 2]))
    return p_most, q_most, r_most
