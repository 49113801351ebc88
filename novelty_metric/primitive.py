"""Smaller and shorter cells of the same crystal, as pymatgen finds them, with limits on the work.

`Structure.get_primitive_structure` lists every sublattice of a cell at once. For 300 atoms of one
element these are 250,000, each compared with up to 300 vectors, which takes gigabytes and minutes
if the atoms are nearly periodic. Here the vectors of a sublattice are looked up one after the
other, and most sublattices fall by the first; the answer is the same to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.errors import CrystalError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

TOLERANCE = 0.25
"""Tolerance along each cell vector (Å): pymatgen's default, as in the method."""

MOST_COMPARISONS = 4 * 10**7
"""Maximum number of pairs of sites compared in search of a smaller cell: some seconds."""

MOST_POINTS = 10**6
"""Maximum number of lattice points within the longest cell vector, all of which pymatgen lists for
the Niggli cell (300 MB). A cell 500 times as long as wide has this many.
"""

_AT_ONCE = 8
"""Number of sites compared with all others in one step; most sublattices fail in the first step."""

_WITHOUT_TREE = 600
"""Pairs of points that are compared faster one by one than through a tree."""

_SLACK = 1e-9
"""Relative margin far above rounding, so that the look-up refuses nothing that pymatgen accepts."""


def niggli(structure: Structure) -> Structure:
    """The structure of pymatgen's `get_reduced_structure` with its default, the Niggli cell.

    Raises
    ------
    CrystalError
        Past `MOST_POINTS`.
    """
    cell = structure.lattice.lll_matrix
    longest = float(np.linalg.norm(cell, axis=1).max())
    volume = abs(float(np.linalg.det(cell)))
    if not 4 / 3 * math.pi * longest**3 <= MOST_POINTS * volume:
        raise CrystalError(f"a cell of {longest:.3g} Å with a volume of {volume:.3g} Å³")
    return structure.get_reduced_structure("niggli")


def primitive(structure: Structure) -> Structure:
    """The smallest cell that pymatgen's `get_primitive_structure` finds, with its defaults.

    Parameters
    ----------
    structure : Structure
        Ordered, of elements, without site properties.

    Raises
    ------
    CrystalError
        Past `MOST_COMPARISONS`, which happens only to hundreds of atoms of one element in a cell
        whose edges are hardly longer than the tolerance.
    """
    return _primitive(structure, [MOST_COMPARISONS])


def _primitive(structure: Structure, left: list[int]) -> Structure:
    from pymatgen.core import Lattice, Structure

    elements = np.array([site.species_string for site in structure])
    groups = [np.flatnonzero(elements == element) for element in np.unique(elements)]
    n_formulas = math.gcd(*map(len, groups))
    if n_formulas == 1:
        return structure.copy()
    coords = [structure.frac_coords[group] for group in groups]
    fractional = np.divide(TOLERANCE, structure.lattice.abc)
    vectors = _periods(coords, 2 * fractional)
    if len(vectors) == 1:
        return structure.copy()
    apart = [_not_neighbours(one, 2 * fractional) for one in coords]
    for size, matrix in _sublattices(n_formulas, vectors, fractional):
        inverse = np.linalg.inv(matrix)
        cell = np.dot(inverse, structure.lattice.matrix)
        tolerance = np.divide(TOLERANCE, np.sqrt(np.sum(cell**2, axis=1)))
        species, merged = [], []
        for group, one, far in zip(groups, coords, apart, strict=True):
            found = _merged(np.dot(one, matrix), far, tolerance, size, left)
            if found is None:
                break
            species += [structure[group[0]].species] * len(found)
            merged += found
        else:
            smaller = Structure(Lattice(cell), species, merged, coords_are_cartesian=False)
            return niggli(_primitive(smaller, left))
    return structure.copy()


def _periods(coords: list[NDArray[np.float64]], tolerance: NDArray[np.float64]) -> np.ndarray:
    """Translations (fractional) that bring every site close to a site of the same element.

    They join the sites of the rarest element; most fall at the first sites that they are tried on.
    """
    rarest = min(coords, key=len)
    vectors = rarest - rarest[0]
    for group in sorted(coords, key=len):
        for site in group:
            if len(vectors) == 1:  # zero, which every site allows
                return vectors
            vectors = vectors[_near(vectors, group - site, tolerance)]
    return vectors


def _near(
    points: np.ndarray, others: np.ndarray, tolerance: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """A mask of the points within the tolerance of another point, along each axis, modulo 1."""
    scale = 1.0 / tolerance
    below = scale * (1 - 1e-15)  # the tree wants coordinates below its box
    inside, there = (np.clip((each % 1.0) * scale, 0, below) for each in (points, others))
    if len(inside) * len(there) <= _WITHOUT_TREE:
        apart = np.abs(inside[:, None] - there)
        is_near: NDArray[np.bool_] = np.minimum(apart, scale - apart).max(axis=2).min(axis=1) < 1.0
        return is_near
    from scipy.spatial import cKDTree

    distances, _ = cKDTree(there, boxsize=scale).query(inside, p=np.inf, distance_upper_bound=1.0)
    return np.isfinite(distances)


def _not_neighbours(coords: np.ndarray, tolerance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A mask (n, n) of the pairs of sites that can merge: distant pairs, each site with itself."""
    apart = coords[None, :, :] - coords[:, None, :]
    apart -= np.round(apart)
    far: NDArray[np.bool_] = np.any(np.abs(apart) > tolerance, axis=-1)
    np.fill_diagonal(far, val=True)
    return far


def _sublattices(
    n_formulas: int, vectors: np.ndarray, tolerance: NDArray[np.float64]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Cells whose three vectors are periods, with their number in the given cell.

    As matrices in Hermite normal form that give the given cell, by size, diagonal and entries: the
    order in which pymatgen goes through them.
    """
    for size in _factors(n_formulas)[1:]:
        for a in _factors(size):
            for e in _factors(size // a):
                for matrix in _with_diagonal(a, e, size // a // e, vectors, tolerance):
                    yield size, matrix


def _factors(number: int) -> list[int]:
    return [factor for factor in range(1, number + 1) if number % factor == 0]


def _with_diagonal(
    a: int, e: int, g: int, vectors: np.ndarray, tolerance: NDArray[np.float64]
) -> Iterator[NDArray[np.int64]]:
    """The matrices ``[[a, b, c], [0, e, f], [0, 0, g]]`` whose inverse has only periods as rows."""
    wide = tolerance * (1 + _SLACK)
    if not _near(np.array([[0, 0, 1 / g]]), vectors, wide)[0]:
        return
    f = np.arange(e)
    rows = np.stack([np.zeros(e), np.full(e, 1 / e), -f / (e * g)], axis=1)
    f = f[_near(rows, vectors, wide)]
    b, c, f = (axis.ravel() for axis in np.meshgrid(np.arange(a), np.arange(a), f, indexing="ij"))
    first = np.stack([np.full(len(b), 1 / a), -b / (a * e), (b * f - c * e) / (a * e * g)], axis=1)
    kept = _near(first, vectors, wide)
    for entries in zip(b[kept].tolist(), c[kept].tolist(), f[kept].tolist(), strict=True):
        b_, c_, f_ = entries
        matrix = np.array([[a, b_, c_], [0, e, f_], [0, 0, g]])
        distances = np.linalg.inv(matrix)[:, None, :] - vectors[None, :, :]
        distances -= np.round(distances)
        if np.all(np.any(np.all(np.abs(distances) < tolerance, axis=-1), axis=-1)):
            yield matrix


def _merged(
    coords: np.ndarray,
    far: NDArray[np.bool_],
    tolerance: NDArray[np.float64],
    size: int,
    left: list[int],
) -> list[NDArray[np.float64]] | None:
    """One mean site for each group of `size` merged sites; None if a group has another size.

    Parameters
    ----------
    coords : float64, (n_sites, 3)
        In the smaller cell (fractional), of one element.
    far : bool, (n_sites, n_sites)
        Pairs that may fall on one another.
    left : list of one int
        Pairs that may still be compared.
    """
    groups = np.empty_like(far)
    for start in range(0, len(coords), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        left[0] -= len(coords) * _AT_ONCE
        if left[0] < 0:
            raise CrystalError("too many possible primitive cells to look at")
        apart = coords[None, :, :] - coords[rows, None, :]
        near = np.all(np.abs(apart - np.round(apart)) < tolerance, axis=-1)
        groups[rows] = np.logical_and(near, far[rows])
        if not np.all(np.sum(groups[rows], axis=1) == size):
            return None
    # The relation is symmetric, so that it falls into groups if each row equals that of its first.
    firsts = np.argmax(groups, axis=1)
    if not np.array_equal(groups, groups[firsts]):
        return None
    wrapped = coords % 1
    sites = []
    for first in np.flatnonzero(firsts == np.arange(len(firsts))).tolist():
        mean = wrapped[first].copy()
        for count, other in enumerate(np.flatnonzero(groups[first])[1:].tolist(), start=2):
            offset = wrapped[other] - mean
            mean += (offset - np.round(offset)) / count
        sites.append(mean)
    return sites
