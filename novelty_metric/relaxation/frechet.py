"""Cell and positions of a crystal as one set of coordinates: those of ASE's `FrechetCellFilter`.

The coordinates are ``(n_sites + 3, 3)`` numbers in Å: the positions in the frame of the starting
cell, and ``n_sites`` times the matrix logarithm U of the deformation gradient ``F = exp(U)``. The
cell is ``cell0 Fᵀ`` and a site is at ``X Fᵀ``. Forces in these coordinates are exact derivatives of
the energy, also far from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.relaxation.base import Evaluation, Geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Point:
    """An evaluated point of a relaxation.

    Attributes
    ----------
    x, forces : float64, (n_sites + 3, 3)
        Coordinates (Å) and forces (eV/Å), the rows of the cell last.
    energy : float
        eV.
    """

    x: NDArray[np.float64]
    energy: float
    forces: NDArray[np.float64]

    @property
    def largest(self) -> float:
        """Largest row norm of the forces (eV/Å); the relaxation has converged below ``fmax``."""
        return float(np.sqrt((self.forces**2).sum(axis=1).max()))


class FrechetCell:
    """Conversion between geometries and coordinates.

    Parameters
    ----------
    start : Geometry
        Where the deformation is none.
    """

    def __init__(self, start: Geometry) -> None:
        self.start = start
        self.n_sites = len(start.numbers)
        self.x0 = np.concatenate([start.positions, np.zeros((3, 3))])

    def geometry(self, x: NDArray[np.float64]) -> Geometry:
        """The crystal at these coordinates."""
        from scipy.linalg import expm

        deformation = expm(x[self.n_sites :] / self.n_sites)
        return Geometry(
            self.start.numbers,
            self.start.cell @ deformation.T,
            x[: self.n_sites] @ deformation.T,
            self.start.symmetry,
        )

    def point(self, x: NDArray[np.float64], evaluation: Evaluation) -> Point:
        """The potential's result in these coordinates.

        The force on U is ``L(Uᵀ)[G]``, with L the Fréchet derivative of the matrix exponential and
        ``G = virial · F⁻ᵀ`` the force on F (Al-Mohy and Higham, SIAM J. Matrix Anal. Appl. 30, 1639
        (2009): it stands in the upper right corner of the exponential of a block matrix).
        """
        from scipy.linalg import expm

        log = x[self.n_sites :] / self.n_sites
        deformation = expm(log)
        volume = abs(float(np.linalg.det(self.start.cell))) * float(np.linalg.det(deformation))
        stress = 0.5 * (evaluation.stress + evaluation.stress.T)
        on_deformation = -volume * stress @ np.linalg.inv(deformation.T)
        block = np.zeros((6, 6))
        block[:3, :3] = block[3:, 3:] = log.T
        block[:3, 3:] = on_deformation
        forces = np.empty_like(x)
        forces[: self.n_sites] = evaluation.forces @ deformation
        forces[self.n_sites :] = expm(block)[:3, 3:] / self.n_sites
        return Point(x, evaluation.energy, forces)
