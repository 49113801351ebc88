"""Families: reference crystals whose cells and sites are nearly the same, elements left aside.

Large references hold many: one prototype with many choices of elements. What refuses one of them as
a parent by purely geometric means mostly refuses all, and `kernels.furthest_steps` finds that out
at once.

This module imports numba and is itself imported only on use.
"""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels import (
    VALUES,
    Families,
    cell_parameters,
    compiled,
    given,
    internal,
)

SMALLEST = 3
"""Members that make a family: for two, a test of both costs what it saves."""

SCALE, SHAPE, ANGLE, SHIFT = 0.04, 0.02, 0.02, 0.02
"""How far a member may be from the leader: linear size (relative), lengths of the cell at equal
volume (relative), angles (radians), sites, in (V/N)^(1/3). The more, the larger the families, and
the fewer of them are refused at once. No answer depends on them."""


@internal
def _same_sites(  # noqa: PLR0917
    leader: np.ndarray,
    other: np.ndarray,
    cell: np.ndarray,
    most: float,
    taken: np.ndarray,
    shifts: np.ndarray,
) -> bool:
    """Whether each site, seen from the first, lies on one of the leader's; by how much not."""
    n = len(leader)
    for i in range(n):
        taken[i] = False
    shifts[0] = shifts[1] = 0.0
    for i in range(n):
        nearest, at = most * most, -1
        for j in range(1 if i else 0, n if i else 1):
            if taken[j]:
                continue
            square = 0.0
            x = _step(leader, other, i, j, VALUES[0])
            y = _step(leader, other, i, j, VALUES[1])
            z = _step(leader, other, i, j, VALUES[2])
            for k in range(3):
                value = x * cell[0, k] + y * cell[1, k] + z * cell[2, k]
                square += value * value
            if square < nearest:
                nearest, at = square, j
        if at < 0:
            return False
        taken[at] = True
        shifts[0] = max(shifts[0], np.sqrt(nearest))
        shifts[1] += nearest / n
    shifts[1] = np.sqrt(shifts[1])
    return True


@internal
def _step(leader: np.ndarray, other: np.ndarray, i: int, j: int, k: int) -> float:
    """Component k between two sites, each seen from the first of its crystal, to the nearest."""
    step = (other[i, k] - other[0, k]) - (leader[j, k] - leader[0, k])
    return step - np.rint(step)


@compiled
def _follow(  # noqa: PLR0917
    lattices: np.ndarray,
    offsets: np.ndarray,
    fracs: np.ndarray,
    order: np.ndarray,
    sizes: np.ndarray,
    leader_of: np.ndarray,
    shifts: np.ndarray,
    parameters: np.ndarray,
    leaders: np.ndarray,
    shapes: np.ndarray,
    taken: np.ndarray,
    shift: np.ndarray,
) -> None:
    """Give each crystal a leader: the first that it is near to, or itself.

    In the order of `order`: by number of sites, then by linear size (`sizes`). The last four are
    written over.
    """
    own = shapes[len(order)]
    count, low, n_before = 0, 0, -1
    for index in order:
        n = offsets[index + 1] - offsets[index]
        if n != n_before:
            low, n_before = count, n
        while low < count and sizes[leaders[low]] * (1 + SCALE) < sizes[index]:
            low += 1
        cell_parameters(lattices[index], own)
        for k in range(6):
            parameters[index, k] = own[k]
        for k in range(3):
            own[k] /= sizes[index]
        found = -1
        for place in range(low, count):
            shape = shapes[place]
            near = True
            for k in range(3):
                near &= abs(own[k] - shape[k]) <= SHAPE * shape[k]
                near &= abs(own[3 + k] - shape[3 + k]) <= ANGLE
            if not near:
                continue
            leader = leaders[place]
            if _same_sites(
                fracs[offsets[leader] : offsets[leader + 1]],
                fracs[offsets[index] : offsets[index + 1]],
                lattices[leader],
                SHIFT * sizes[leader],
                taken,
                shift,
            ):
                found = leader
                break
        if found < 0:
            leaders[count] = index
            for k in range(6):
                shapes[count, k] = own[k]
            count += 1
            leader_of[index] = index
            continue
        leader_of[index] = found
        for k in range(2):
            shifts[found, k] = max(shifts[found, k], shift[k])


def find_families(lattices: np.ndarray, offsets: np.ndarray, frac_coords: np.ndarray) -> Families:
    """The families of a reference; nothing is known of them.

    Parameters
    ----------
    lattices, offsets, frac_coords : float64 (N, 3, 3), int64 (N + 1,), float64 (ΣN, 3)
        The reference; reduced cells.
    """
    n_sites = np.diff(offsets)
    sizes = (np.abs(np.linalg.det(lattices)) / n_sites) ** (1 / 3)
    order = np.lexsort((sizes, n_sites))
    leader_of = np.empty(len(order), dtype=np.int64)
    shifts, parameters = np.zeros((len(order), 2)), np.empty((len(order), 6))
    _follow(
        given(lattices, np.float64),
        given(offsets, np.int64),
        given(frac_coords, np.float64),
        given(order, np.int64),
        given(sizes, np.float64),
        leader_of,
        shifts,
        parameters,
        np.empty(len(order), dtype=np.int64),
        np.empty((len(order) + 1, 6)),
        np.empty(n_sites.max(initial=1), dtype=np.bool_),
        np.empty(2),
    )
    leaders, family, counts = np.unique(leader_of, return_inverse=True, return_counts=True)
    large = counts >= SMALLEST
    number = np.where(large, np.cumsum(large) - 1, -1)
    of = number[family].astype(np.int32)
    members = np.flatnonzero(of >= 0)
    # By family, the leader before the others.
    members = members[np.lexsort((leader_of[members] != members, of[members]))]
    return Families(
        of,
        members,
        np.concatenate([[0], np.cumsum(counts[large])]),
        np.concatenate([shifts[leaders[large]], np.zeros((1, 2))]),
        parameters,
        np.empty((int(counts[large].max(initial=0)), 6)),
        np.empty(int(large.sum()), dtype=np.uint8),
    ).unknown()
