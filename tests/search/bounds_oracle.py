"""NumPy versions of the refusals and cost bounds of `search.bounds`, for comparison."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.bounds import Cells
from novelty_metric.search.kernels.cheap_bounds import ANGLE_SLACK, COEFFICIENTS, SLACK
from novelty_metric.search.pettifor import NONE, WITHOUT_NUMBER

_CHUNK = 1024
_SHORTEST = 13


def cells_of(lattices: np.ndarray, n_sites: np.ndarray, *, ltol: float, angle_tol: float) -> Cells:
    """NumPy version of `Cells.of`."""
    smallest, largest = volume_window(lattices, ltol=ltol, angle_tol=angle_tol)
    volumes = np.stack([np.abs(np.linalg.det(lattices)), smallest, largest], axis=1)
    lengths = np.sort(np.linalg.norm(lattices, axis=2), axis=1)
    rows = np.concatenate([volumes, successive_minima(lattices), lengths], axis=1)
    return Cells(np.asarray(n_sites, dtype=np.int64), rows)


def successive_minima(lattices: np.ndarray) -> np.ndarray:
    """NumPy version of `cheap_bounds._minima`."""
    minima = np.empty((len(lattices), 3))
    for start in range(0, len(lattices), _CHUNK):
        chunk = lattices[start : start + _CHUNK]
        vectors = np.einsum("vi,mij->mvj", COEFFICIENTS.astype(float), chunk)
        lengths = np.linalg.norm(vectors, axis=2)
        # The shortest few vectors nearly always contain three independent ones.
        found, complete = _shortest_independent(lengths, _SHORTEST)
        rest = np.flatnonzero(~complete)
        if len(rest):
            found[rest] = _shortest_independent(lengths[rest], len(COEFFICIENTS))[0]
        beyond = 3 / np.linalg.norm(np.linalg.inv(chunk), axis=1).max(axis=1)
        minima[start : start + _CHUNK] = np.minimum(found, beyond[:, None])
    return minima


def _shortest_independent(lengths: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the three shortest independent vectors, (M, 3), and whether they exist, (M,).

    Only the `count` shortest vectors are searched.
    """
    order = np.argpartition(lengths, count - 1, axis=1)[:, :count]
    lengths = np.take_along_axis(lengths, order, axis=1)
    inner = np.argsort(lengths, axis=1, kind="stable")
    lengths = np.take_along_axis(lengths, inner, axis=1)
    coefficients = COEFFICIENTS[np.take_along_axis(order, inner, axis=1)]
    rows = np.arange(len(lengths))
    normals = np.cross(coefficients[:, :1], coefficients)
    second = np.argmax(normals.any(axis=2), axis=1)
    out_of_plane = np.einsum("mvi,mi->mv", coefficients, normals[rows, second]) != 0
    third = np.argmax(out_of_plane, axis=1)
    found = np.stack([lengths[:, 0], lengths[rows, second], lengths[rows, third]], axis=1)
    return found, out_of_plane[rows, third]


def volume_window(
    lattices: np.ndarray, *, ltol: float, angle_tol: float
) -> tuple[np.ndarray, np.ndarray]:
    """NumPy version of `cheap_bounds._volumes`."""
    lengths = np.linalg.norm(lattices, axis=2)
    dots = np.stack(
        [
            np.einsum("mi,mi->m", lattices[:, j], lattices[:, k]) / (lengths[:, j] * lengths[:, k])
            for j, k in ((1, 2), (2, 0), (0, 1))
        ],
        axis=1,
    )
    angles = np.degrees(np.arccos(np.clip(dots, -1, 1)))
    reach = angle_tol + ANGLE_SLACK
    low = np.cos(np.radians(np.minimum(angles + reach, 180)))
    high = np.cos(np.radians(np.maximum(angles - reach, 0)))
    ends = np.stack([low, high], axis=2)
    corner_g = np.full(len(lattices), np.inf)
    corner_xyz = np.full(len(lattices), -np.inf)
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (ends[:, axis, side] for axis, side in enumerate(corner))
        np.minimum(corner_g, 1 + 2 * x * y * z - x**2 - y**2 - z**2, out=corner_g)
        np.maximum(corner_xyz, x * y * z, out=corner_xyz)
    nearest = np.where((low < 0) & (high > 0), 0, np.minimum(low**2, high**2))
    greatest_g = np.minimum(1 + 2 * corner_xyz - nearest.sum(axis=1), 1)
    box = lengths.prod(axis=1)
    smallest = box * (1 + ltol) ** -3 * np.sqrt(np.maximum(corner_g, 0))
    largest = box * (1 + ltol) ** 3 * np.sqrt(np.maximum(greatest_g, 0))
    return smallest * (1 - SLACK), largest * (1 + SLACK)


def may_match(generated: Cells, references: Cells, *, ltol: float) -> np.ndarray:
    """NumPy version of `bounds.may_match`."""
    n_generated = int(generated.n_sites[0])
    n_sites = references.n_sites
    possible = np.where(
        n_sites >= n_generated, n_sites % n_generated == 0, n_generated % n_sites == 0
    )
    possible &= _volume_fits(generated, references)
    left = np.flatnonzero(possible)
    possible[left] = _shells_filled(generated, references.take(left), ltol=ltol)
    return possible


def _volume_fits(generated: Cells, references: Cells) -> np.ndarray:
    """Whether `fu` times the volume of the source is within the window of the target."""
    n_generated, volume = int(generated.n_sites[0]), float(generated.rows[0, 0])
    n_sites = references.n_sites
    expanded = n_sites * (volume / n_generated)
    other = references.rows[:, 0] * (n_generated / n_sites)
    return np.where(
        n_sites >= n_generated,
        (expanded >= references.rows[:, 1]) & (expanded <= references.rows[:, 2]),
        (other >= generated.rows[0, 1]) & (other <= generated.rows[0, 2]),
    )


def _shells_filled(generated: Cells, references: Cells, *, ltol: float) -> np.ndarray:
    """Whether the successive minima of the source fit the lengths of the target."""
    reach = (1 + ltol) * (1 + SLACK)
    larger = references.n_sites >= int(generated.n_sites[0])
    filled = np.ones(len(larger), dtype=bool)
    for k in range(3):
        shortest = np.where(larger, generated.rows[0, 3 + k], references.rows[:, 3 + k])
        longest = np.where(larger, references.rows[:, 6 + k], generated.rows[0, 6 + k])
        filled &= shortest < reach * longest
    return filled


def cost_bounds(generated: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Bounds for one sorted list of numbers, (n,), against M lists, (M, m)."""
    n_generated, n_reference = len(generated), references.shape[1]
    n_common = max(n_generated, n_reference)
    # `repeat` keeps the lists sorted.
    first = np.repeat(generated, n_common // n_generated).astype(np.int16)
    second = np.repeat(references, n_common // n_reference, axis=1).astype(np.int16)
    total = np.abs(second - first).sum(axis=1, dtype=np.int64)
    without = np.maximum((first == NONE).sum(), (second == NONE).sum(axis=1))
    total = np.where(without > 0, WITHOUT_NUMBER * without, total)
    # Integer sums and one division: equal sums give equal floats, as in `map_cost`.
    return total / n_common
