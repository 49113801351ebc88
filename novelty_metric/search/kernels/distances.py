"""Step 6: distances to the nearest image in a reduced cell."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.constants import EDGE, IMAGES_TIE, ON_EDGE
from novelty_metric.search.kernels.memory import Scratch


@internal
def distance_of(  # noqa: PLR0917
    i: int, j: int, start: int, width: int, variant: int, scratch: Scratch
) -> float:
    """Squared distance from T's site i, moved by `start`, to G's site j; stored with its vector.

    The place of the pair in ``scratch.cost`` and the others is ``i * width + j``.
    """
    first, second = scratch.first_reduced[variant], scratch.second_reduced[variant]
    vectors, cell = scratch.vectors, scratch.reductions.cells[variant]
    place = i * width + j
    x = (first[0, j] - second[0, i]) - (first[0, start] - second[0, 0])
    y = (first[1, j] - second[1, i]) - (first[1, start] - second[1, 0])
    z = (first[2, j] - second[2, i]) - (first[2, start] - second[2, 0])
    x, y, z = x - np.rint(x), y - np.rint(y), z - np.rint(z)
    dx = x * cell[0, 0] + y * cell[1, 0] + z * cell[2, 0]
    dy = x * cell[0, 1] + y * cell[1, 1] + z * cell[2, 1]
    dz = x * cell[0, 2] + y * cell[1, 2] + z * cell[2, 2]
    best = dx * dx + dy * dy + dz * dz
    window = scratch.reductions.windows[variant]
    on_edge = (
        (abs(x) > window[0] - EDGE) | (abs(y) > window[1] - EDGE) | (abs(z) > window[2] - EDGE)
    )
    tie = False
    if best > scratch.reductions.safe[variant]:
        images = scratch.reductions.images[variant]
        if not scratch.every[0]:
            dx, dy, dz = vector_as_wrapped(i, j, start, variant, scratch)
        best, at, tie = _nearest_image(dx, dy, dz, images, scratch.squares)
        dx, dy, dz = dx + images[0, at], dy + images[1, at], dz + images[2, at]
    vectors[place, 0] = dx
    vectors[place, 1] = dy
    vectors[place, 2] = dz
    scratch.doubt[place] = IMAGES_TIE * tie + ON_EDGE * on_edge
    scratch.cost[place] = best
    return best


@internal
def _nearest_image(
    x: float, y: float, z: float, images: np.ndarray, squares: np.ndarray
) -> tuple[float, int, bool]:
    """Least square of a vector over its images, the image, and whether another is as close."""
    for place in range(27):
        dx, dy, dz = x + images[0, place], y + images[1, place], z + images[2, place]
        squares[place] = dx * dx + dy * dy + dz * dz
    best = squares[0]
    for place in range(1, 27):
        best = min(best, squares[place])
    limit = best * (1 + EDGE)
    near, at = 0, 0
    for place in range(27):
        near += squares[place] < limit
        at = place if squares[place] == best else at
    return best, at, near > 1


@internal
def vector_as_wrapped(
    i: int, j: int, start: int, variant: int, scratch: Scratch
) -> tuple[float, float, float]:
    """Vector (Å) from T's site i, moved and wrapped into the cell, to G's site j.

    pymatgen looks at the images around that.
    """
    first, second = scratch.first_reduced[variant], scratch.second_reduced[variant]
    cell = scratch.reductions.cells[variant]
    dx, dy, dz = 0.0, 0.0, 0.0
    for k in range(3):
        moved = second[k, i] + (first[k, start] - second[k, 0])
        step = first[k, j] - (moved - np.floor(moved))
        dx += step * cell[k, 0]
        dy += step * cell[k, 1]
        dz += step * cell[k, 2]
    return dx, dy, dz
