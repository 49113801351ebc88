"""The space group of a crystal: where each operation takes its sites.

Imports pymatgen only when used; NumPy at import.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from novelty_metric.relaxation.base import Geometry

SYMPREC = 0.01
"""Distance tolerance of the symmetry search (Å), that of the protocols."""

EXACT = 2e-5
"""A symmetry is exact if every operation brings every site this close to a site (Å): then joined
sites have the same energy within rounding. This holds for 96 % of the crystals of MP-20."""


@dataclass(frozen=True, slots=True, eq=False)
class Symmetry:
    """Operations of a space group on the sites of a crystal.

    Attributes
    ----------
    rotations : int64, (n_operations, 3, 3)
        Acting on fractional column vectors.
    images : int64, (n_operations, n_sites)
        ``images[g, i]`` is the site that operation g brings site i to.
    generators : int64, (n_generators,)
        Operations whose products are all operations; none for the identity alone.
    """

    rotations: NDArray[np.int64]
    images: NDArray[np.int64]
    generators: NDArray[np.int64]

    @classmethod
    def none(cls, n_sites: int) -> Symmetry:
        """The identity alone."""
        return cls(np.eye(3, dtype=np.int64)[None], np.arange(n_sites)[None], np.empty(0, np.int64))

    def cartesian(self, cell: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rotations in this cell, (n_operations, 3, 3), acting on Cartesian columns."""
        return np.asarray(cell.T @ self.rotations @ np.linalg.inv(cell.T))

    def shifts(self, geometry: Geometry) -> NDArray[np.int64] | None:
        """For each generator and site, the cell that the image of the site lies in.

        Returns
        -------
        int64, (n_generators, n_sites, 3), or None
            Up to one cell for all sites of a generator. None where the geometry does not have this
            symmetry within `EXACT`.
        """
        cell = geometry.cell
        rotations = self.rotations[self.generators].astype(np.float64)
        metric = cell @ cell.T
        turned = rotations.transpose(0, 2, 1) @ metric @ rotations
        if np.abs(turned - metric).max(initial=0.0) > EXACT * np.sqrt(np.diag(metric).max()):
            return None
        frac = geometry.positions @ np.linalg.inv(cell)
        apart = frac @ rotations.transpose(0, 2, 1) - frac[self.images[self.generators]]
        apart -= apart[:, :1].copy()  # the translation, which a move of all sites changes
        shifts = np.rint(apart)
        misfit = (apart - shifts) @ cell
        if np.abs(misfit - misfit.mean(axis=1, keepdims=True)).max(initial=0.0) > EXACT:
            return None
        return np.asarray(shifts, dtype=np.int64)


def find_symmetry(geometry: Geometry) -> Symmetry:
    """The space group of a crystal within `SYMPREC`; the identity where none is found.

    Notes
    -----
    By spglib, through pymatgen.
    """
    n_sites = len(geometry.numbers)
    identity = Symmetry.none(n_sites)
    cell = geometry.cell
    frac = geometry.positions @ np.linalg.inv(cell)
    dataset = symmetry_dataset(geometry, SYMPREC)
    if dataset is None:
        return identity
    rotations = np.array(dataset.rotations, dtype=np.int64)
    translations = np.array(dataset.translations, dtype=np.float64)
    images = np.empty((len(rotations), n_sites), np.int64)
    other_element = geometry.numbers[:, None] != geometry.numbers[None, :]
    for at, (rotation, translation) in enumerate(zip(rotations, translations, strict=True)):
        moved = frac @ rotation.T + translation
        apart = moved[:, None] - frac[None, :]
        apart = np.linalg.norm((apart - np.round(apart)) @ cell, axis=2)
        images[at] = np.where(other_element, np.inf, apart).argmin(axis=1)
        if len(set(images[at].tolist())) < n_sites:
            return identity
    generators = _generators(rotations, images)
    return identity if generators is None else Symmetry(rotations, images, generators)


def symmetry_dataset(geometry: Geometry, symprec: float) -> Any:
    """The answer of spglib, through pymatgen, at this distance tolerance (Å); None if it fails."""
    from pymatgen.core import Lattice, Structure
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    frac = geometry.positions @ np.linalg.inv(geometry.cell)
    try:
        crystal = Structure(Lattice(geometry.cell), geometry.numbers.tolist(), frac)
        return SpacegroupAnalyzer(crystal, symprec=symprec).get_symmetry_dataset()
    except Exception:  # pymatgen and spglib raise types of their own, which change by version
        return None


def _generators(
    rotations: NDArray[np.int64], images: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Few operations whose products are all of them; None where a product is missing."""
    n_operations = len(rotations)

    def names(rotations: NDArray[np.int64], images: NDArray[np.int64]) -> list[bytes]:
        rows = np.concatenate([rotations.reshape(n_operations, 9), images], axis=1)
        return [row.tobytes() for row in rows]

    number = {name: at for at, name in enumerate(names(rotations, images))}
    one = np.concatenate([np.eye(3, dtype=np.int64).ravel(), np.arange(images.shape[1])]).tobytes()
    if one not in number or len(number) < n_operations:
        return None
    reached = np.arange(n_operations) == number[one]
    generators: list[int] = []
    followed_by: list[NDArray[np.int64]] = []
    for operation in range(n_operations):
        if reached[operation]:
            continue
        generators.append(operation)
        products = names(rotations @ rotations[operation], images[:, images[operation]])
        if any(name not in number for name in products):
            return None
        followed_by.append(np.array([number[name] for name in products]))
        before = 0
        while before < np.count_nonzero(reached):
            before = int(np.count_nonzero(reached))
            for product in followed_by:
                reached[product[reached]] = True
    return np.array(generators, dtype=np.int64)
