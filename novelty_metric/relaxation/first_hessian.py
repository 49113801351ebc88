"""An initial Hessian of a crystal, estimated from its bonds.

A quasi-Newton optimiser learns the curvature from the forces that it meets; what it starts from
decides how many it needs. Springs along the bonds, softer the longer the bond is for its two
elements, tell stiff moves (two neighbours against each other) from soft ones (groups that turn as
a whole), and couple strain to displacement. Models of this kind are common for molecules
(H. B. Schlegel, Theor. Chim. Acta 66, 333 (1984); R. Lindh et al., Chem. Phys. Lett. 241, 423
(1995)) and crystals (D. Packwood et al., J. Chem. Phys. 144, 164109 (2016)); here only the ratios
are taken from it.

ASE is imported only on use.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from novelty_metric.relaxation.base import Geometry

SITE_STIFFNESS = 10.0
"""Mean curvature for the displacement of an atom (eV/Å²)."""

BULK_STIFFNESS = 0.5
"""Estimate of the bulk modulus (eV/Å³; 80 GPa); the curvature of a strain is 3·B·V."""

_UNIFORM = 0.5
"""Fraction of the curvature that is equal for all moves; the springs have the rest."""

_LONGEST_BOND = 1.7
"""Maximum bond length, in sums of the two covalent radii."""

_SHORTEST_BOND = 0.9
"""Minimum length in the stiffness formula; shorter bonds are not stiffer."""

_DECAY = 3.0
"""A bond longer by the sum of the radii is softer by e to this power."""

_ACROSS = 0.2
"""Curvature perpendicular to a bond, as a fraction of that along it."""


def strain_scale(volume: float) -> float:
    """Å per unit of strain with which a strain is as stiff as a displacement.

    Parameters
    ----------
    volume : float
        Å³.
    """
    return math.sqrt(3 * BULK_STIFFNESS * volume / SITE_STIFFNESS)


def first_hessian(geometry: Geometry) -> NDArray[np.float64]:
    """Estimated second derivatives of a crystal's energy (eV/Å²).

    Returns
    -------
    (3 * n_sites + 9, 3 * n_sites + 9) array
        Positive definite. Displacements first, then the strain times `strain_scale`, row by row.
    """
    from ase.data import covalent_radii

    from novelty_metric.relaxation.neighbors import find_neighbors

    n_sites = len(geometry.numbers)
    size = 3 * n_sites + 9
    uniform = SITE_STIFFNESS * np.eye(size)
    radii = covalent_radii[geometry.numbers]
    reach = _LONGEST_BOND * 2 * float(radii.max())
    near = find_neighbors([geometry.cell], [geometry.positions], reach=reach, short=0.0)
    lengths = np.sqrt((near.vectors**2).sum(axis=1))
    relative = lengths / (radii[near.first] + radii[near.second])
    bonds = np.flatnonzero(relative < _LONGEST_BOND)
    first, second, vectors = near.first[bonds], near.second[bonds], near.vectors[bonds]
    if not (first != second).any():
        return uniform
    stiffness = np.exp(-_DECAY * (np.maximum(relative[bonds], _SHORTEST_BOND) - 1))
    along = vectors / lengths[bonds, None]
    springs = (1 - _ACROSS) * along[:, :, None] * along[:, None, :] + _ACROSS * np.eye(3)
    springs *= stiffness[:, None, None]

    on_sites = np.zeros((n_sites, n_sites, 3, 3))
    np.add.at(on_sites, (first, first), springs)
    np.add.at(on_sites, (second, second), springs)
    np.add.at(on_sites, (first, second), -springs)
    np.add.at(on_sites, (second, first), -springs)
    # The ends of a bond v move by (U + Uᵀ)v/2 against each other.
    strained = np.zeros((len(bonds), 3, 3, 3))
    for row in range(3):
        strained[:, row, row, :] += vectors / 2
        strained[:, row, :, row] += vectors / 2
    moved = strained.reshape(-1, 3, 9)
    pulled = springs @ moved
    on_both = np.zeros((n_sites, 3, 9))
    np.add.at(on_both, first, -pulled)
    np.add.at(on_both, second, pulled)
    on_strain = np.einsum("bki,bkj->ij", moved, pulled)

    # Ratios among displacements and among strains are kept, and each is as stiff as it should be.
    of_sites = np.einsum("iikk", on_sites) / (3 * n_sites)
    of_strain = np.trace(on_strain) / 6
    hessian = np.zeros((size, size))
    hessian[:-9, :-9] = on_sites.transpose(0, 2, 1, 3).reshape(size - 9, size - 9) / of_sites
    hessian[:-9, -9:] = on_both.reshape(size - 9, 9) / math.sqrt(of_sites * of_strain)
    hessian[-9:, :-9] = hessian[:-9, -9:].T
    hessian[-9:, -9:] = on_strain / of_strain
    return _UNIFORM * uniform + (1 - _UNIFORM) * SITE_STIFFNESS * hessian
