"""The cheapest atom map of two crystals, in plain Python and directly from its definition.

Lattices come from pymatgen's `StructureMatcher`. Distances, translations and assignments are
enumerated, so only crystals of a few sites are practical.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from oracle import difference, element_names, make_matcher
from pymatgen.core import Lattice, Structure
from pymatgen.util.coord import lattice_points_in_supercell
from scipy.optimize import linear_sum_assignment

STOL = 0.3
TIE = 1e-7
RMS_TIES = 1e-4
IMAGES = np.array(list(itertools.product(range(-2, 3), repeat=3)), dtype=float)


class CheapestMap(NamedTuple):
    """Cost, RMS distance (in (V/N)^(1/3)), sum of squared differences of Pettifor numbers."""

    cost: float
    rms: float
    squares: int


class Side(NamedTuple):
    """A crystal, expanded to the number of sites of the other crystal."""

    coords: np.ndarray
    names: list[str]


def cheapest_map(generated: Structure, reference: Structure) -> CheapestMap | None:
    """The map of least cost, then RMS, then sum of squares; None if the crystals do not match."""
    n = max(len(generated), len(reference))
    if n % len(generated) or n % len(reference):
        return None
    expand_generated = len(reference) >= len(generated)
    small, large = (generated, reference) if expand_generated else (reference, generated)
    counts = Counter(element_names(reference))
    rarest = min(counts, key=lambda name: (counts[name], difference(name, "He")))
    found: list[CheapestMap] = []
    for lattice, matrix in make_matcher()._get_lattices(large.lattice, small, n // len(small)):
        mean = Lattice.from_parameters(
            *np.mean([lattice.parameters, large.lattice.parameters], axis=0)
        )
        sides = [expanded(small, matrix), Side(large.frac_coords, element_names(large))]
        ours, theirs = sides if expand_generated else sides[::-1]
        anchors = [i for i in range(n) if theirs.names[i] == rarest]
        for anchor, start in itertools.product(anchors, range(n)):
            moved = theirs.coords + (ours.coords[start] - theirs.coords[anchor])
            found += maps_at(mean, Side(moved, theirs.names), ours)
    if not found:
        return None
    cost = min(one.cost for one in found)
    rms = min(one.rms for one in found if one.cost == cost)
    return min(
        (one for one in found if one.cost == cost and one.rms < rms + RMS_TIES),
        key=lambda o: o.squares,
    )


def expanded(structure: Structure, matrix: np.ndarray) -> Side:
    """The sites of a supercell."""
    inverse, points = np.linalg.inv(matrix), lattice_points_in_supercell(matrix)
    coords = np.array([f @ inverse + p for f in structure.frac_coords for p in points])
    return Side(coords, np.repeat(element_names(structure), len(points)).tolist())


def maps_at(mean: Lattice, theirs: Side, ours: Side) -> Iterator[CheapestMap]:
    """Yield the nearest assignments at one translation if they are within the tolerance."""
    n = len(theirs.names)
    unit = (mean.volume / n) ** (1 / 3)
    apart = ours.coords[None] - theirs.coords[:, None]
    apart -= np.round(apart)
    vectors = (apart[:, :, None] + IMAGES) @ mean.matrix
    squares = np.sum(vectors**2, axis=3)
    near = squares.min(axis=2)
    near[near >= (2 * STOL * unit) ** 2] = np.inf
    if np.isinf(near.min(axis=0)).any() or np.isinf(near.min(axis=1)).any():
        return
    least = np.where(np.isinf(near), 1e6, near)
    total = least[linear_sum_assignment(least)].sum()
    if total >= 1e6:
        return
    equally = list(assignments(near, total * (1 + TIE) + n * TIE**2))
    nearest = [
        vectors[i, j][squares[i, j] <= near[i, j] * (1 + TIE)] for i, j in enumerate(equally[0])
    ]
    mean_square = total / n
    if len(equally) == 1 and all(len(images) == 1 for images in nearest):
        mean_square -= float(np.sum((np.sum(nearest, axis=0) / n) ** 2))
    if mean_square >= (STOL * unit) ** 2:
        return
    for columns in equally:
        steps = [difference(theirs.names[i], ours.names[j]) for i, j in enumerate(columns)]
        yield CheapestMap(
            sum(steps) / n, max(mean_square, 0.0) ** 0.5 / unit, sum(step**2 for step in steps)
        )


def assignments(near: np.ndarray, most: float) -> Iterator[tuple[int, ...]]:
    """Yield all assignments whose sum of squares is at most `most`."""
    n = len(near)
    left = np.append(np.cumsum(near.min(axis=1)[::-1])[::-1], 0.0)

    def extend(row: int, taken: tuple[int, ...], total: float) -> Iterator[tuple[int, ...]]:
        if row == n:
            yield taken
            return
        for column in range(n):
            reached = total + near[row, column]
            if column not in taken and reached + left[row + 1] <= most:
                yield from extend(row + 1, (*taken, column), reached)

    return extend(0, (), 0.0)
