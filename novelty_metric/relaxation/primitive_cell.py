"""The smallest exactly repeating cell of a crystal, and the conversion back to the given cell.

A crystal that is given in a conventional cell or a supercell has the same energy per atom and the
same forces in its primitive cell, where an evaluation costs a half, a third or a quarter. All that
is asked for are translations: the search of the method for similar parts of a cell
(`novelty_metric.primitive`), whose tolerance is 0.25 Å, merges crystals that differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.relaxation.base import Geometry
from novelty_metric.relaxation.symmetry import symmetry_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT = 0.01
"""A translation brings each site within this distance of a site of the same element (Å)."""


@dataclass(frozen=True, slots=True, eq=False)
class PrimitiveCell:
    """A primitive cell, with the relation to the given cell.

    Attributes
    ----------
    geometry : Geometry
        The primitive cell; each site is the mean of those that it stands for.
    multiples : int64, (3, 3)
        The vectors of the given cell in those of the primitive one.
    sites : int64, (n_sites,)
        For each site of the given cell, the site that stands for it.
    shifts : int64, (n_sites, 3)
        And the primitive cell that it lies in.
    """

    geometry: Geometry
    multiples: NDArray[np.int64]
    sites: NDArray[np.int64]
    shifts: NDArray[np.int64]

    def given_cell(self, relaxed: Geometry) -> Geometry:
        """The given cell of the crystal whose primitive cell was relaxed to `relaxed`."""
        return Geometry(
            relaxed.numbers[self.sites],
            self.multiples @ relaxed.cell,
            relaxed.positions[self.sites] + self.shifts @ relaxed.cell,
        )


def primitive_cell(geometry: Geometry) -> PrimitiveCell | None:
    """The primitive cell of a crystal; None if its cell is already the smallest.

    Parameters
    ----------
    geometry : Geometry
        Right-handed.

    Notes
    -----
    By spglib, through pymatgen. What spglib finds is checked: where one site is farther than
    `EXACT` from its place, the cell counts as the smallest.
    """
    counts = np.unique(geometry.numbers, return_counts=True)[1]
    if math.gcd(*counts.tolist()) == 1:
        return None
    found = _by_spglib(geometry)
    if found is None:
        return None
    cell, sites = found
    n_sites, n_primitive = len(sites), int(sites.max()) + 1
    inverse = np.linalg.inv(cell)
    multiples = np.rint(geometry.cell @ inverse).astype(np.int64)
    n_cells = round(float(np.linalg.det(multiples)))
    if n_cells < 2 or np.any(np.bincount(sites) != n_cells):
        return None
    # Sites as offsets from the first of those that share a place, so that a mean is no jump.
    first = np.unique(sites, return_index=True)[1]
    apart = (geometry.positions - geometry.positions[first][sites]) @ inverse
    shifts = np.rint(apart).astype(np.int64)
    offsets = (apart - shifts) @ cell
    means = np.zeros((n_primitive, 3))
    np.add.at(means, sites, offsets / n_cells)
    misfit = np.abs(multiples @ cell - geometry.cell).max()
    farthest = np.linalg.norm(offsets - means[sites], axis=1).max()
    same = np.array_equal(geometry.numbers, geometry.numbers[first][sites])
    if not same or misfit > EXACT or farthest > EXACT or n_primitive * n_cells != n_sites:
        return None
    primitive = Geometry(
        geometry.numbers[first],
        np.asarray(np.linalg.solve(multiples, geometry.cell), dtype=np.float64),
        geometry.positions[first] + means,
    )
    return PrimitiveCell(primitive, multiples, sites, shifts)


def _by_spglib(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """A right-handed primitive cell (rows, Å), and the index of each site in it."""
    dataset = symmetry_dataset(geometry, EXACT)
    if dataset is None:
        return None
    cell = np.array(dataset.primitive_lattice, dtype=np.float64)
    sites = np.unique(dataset.mapping_to_primitive, return_inverse=True)[1]
    return (-cell if np.linalg.det(cell) < 0 else cell), np.asarray(sites, dtype=np.int64)
