"""A quasi-Newton optimiser for substituted crystals, which start far from any minimum.

It moves cell and positions together in the coordinates of ASE's ``FrechetCellFilter``, with what
ASE's own optimisers leave out: a first Hessian that knows strain from displacement, the symmetry of
the starting crystal, and a look at the energy before a move is kept.

Imports SciPy's machinery only when used; NumPy at import.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.relaxation.first_hessian import first_hessian, strain_scale
from novelty_metric.relaxation.symmetry import Symmetry, find_symmetry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from novelty_metric.relaxation.base import Geometry
    from novelty_metric.relaxation.frechet import FrechetCell, Point

SOFTEST = 1.0
"""No curvature is taken to be smaller than this (eV/Å²), so that soft moves stay short."""

MAX_DISPLACEMENT = 0.2
"""Longest displacement of an atom in one move (Å)."""

MAX_STRAIN = 0.08
"""Largest principal strain in one move."""

ENERGY_NOISE = 1e-4
"""Less than this above the lowest energy so far (eV/atom) is no rise but rounding."""

CROWDED = 0.6
"""Two atoms nearer than this share of the sum of their covalent radii are no crystal: minima of the
CHGNet potential lie at 0.8 to 1, and false ones, several eV/atom too high, at 0.3 to 0.4."""

ROOMY = 0.7
"""Share of the sum of the covalent radii that a crowded cell is expanded to."""

LARGEST_EXPANSION = 1.5
"""A crowded cell is stretched by no more than this factor along each axis."""


class SymmetricBFGS:
    """Dense BFGS on the symmetry-kept coordinates of a crystal, downhill in energy.

    Parameters
    ----------
    cell : FrechetCell
    start : Point
        The start of that cell, evaluated.
    fmax : float
        Largest force row at rest (eV/Å).

    Attributes
    ----------
    here : Point
        The best point so far, within rounding.
    n_rejected : int
        Moves taken back because the energy rose.

    Notes
    -----
    Coordinates are ``x = (X, c·U)``: positions X in the frame of the starting cell and the matrix
    logarithm U of the deformation, ``(n_sites + 3) * 3`` numbers in Å, where c, the
    `strain_scale`, makes a strain as stiff as a displacement. The search runs on an orthonormal
    basis of the part that all operations of the starting space group leave alone. Potentials that
    depend on the structure alone keep that symmetry, so only noise is projected away, and a crystal
    can end in a saddle exactly where ASE's optimisers would leave it too. When these coordinates
    are at rest and forces remain, because the start was symmetric only within the tolerance of
    `find_symmetry`, all are released.

    The Hessian starts as `first_hessian` guesses it and learns by damped BFGS from every
    evaluation, also from those taken back. A move that raises the energy is taken back and
    repeated shorter.

    A crowded start, where large elements took the place of small ones, is expanded first, if that
    lowers the energy: from inside the repulsive wall, where no potential was trained, the forces
    can lead into a false minimum.

    Nocedal and Wright, Numerical Optimization (2006), chapters 6 and 18.3 (the damping).
    """

    def __init__(self, cell: FrechetCell, start: Point, fmax: float) -> None:
        self.here = start
        self.n_rejected = 0
        self._fmax = fmax
        self._n_sites = cell.n_sites
        self._strain_scale = strain_scale(cell.start.volume)
        self._scale = coordinate_scale(cell)
        self._everything = free_coordinates(cell.start, Symmetry.none(cell.n_sites))
        self._basis = free_coordinates(cell.start, cell.start.symmetry or find_symmetry(cell.start))
        self._first = first_hessian(cell.start)
        self._hessian = self._basis.T @ self._first @ self._basis
        self._lowest = start.energy
        self._trust = 1.0
        self._expansion = room_needed(cell.start)
        self._step = np.zeros(self._basis.shape[1])
        self._length = 0.0

    def propose(self) -> NDArray[np.float64]:
        """See `novelty_metric.relaxation.optimizers.Optimizer`."""
        if self._expansion > 1:
            wider = self.here.x.copy()
            wider[self._n_sites :] += math.log(self._expansion) * self._n_sites * np.eye(3)
            return wider
        gradient = self._gradient(self.here)
        if self._basis.shape[1] < self._everything.shape[1]:
            kept = (self._basis @ (self._basis.T @ gradient)).reshape(-1, 3) * self._scale
            if _longest(kept) < self._fmax / 2:
                within = self._everything.T @ self._basis
                self._basis = self._everything
                first = self._everything.T @ self._first @ self._everything
                self._hessian = _extended(self._hessian, within, first)
                self._trust = 1.0
        self._step, self._length = self._next_step(self._basis.T @ gradient)
        return self.here.x + (self._basis @ self._step).reshape(-1, 3) / self._scale

    def tell(self, there: Point) -> None:
        """See `novelty_metric.relaxation.optimizers.Optimizer`."""
        if self._expansion > 1:
            self._expansion = 1.0
            if there.energy < self._lowest:
                self.here, self._lowest = there, there.energy
            else:
                self.n_rejected += 1
            return
        before = self._basis.T @ self._gradient(self.here)
        change = self._basis.T @ self._gradient(there) - before
        expected = before @ self._step + 0.5 * self._step @ self._hessian @ self._step
        self._hessian = _updated(self._hessian, self._step, change)
        if there.energy <= self._lowest + ENERGY_NOISE * self._n_sites:
            if there.energy - self.here.energy < 0.1 * expected:
                self._trust = min(1.0, 2 * self._trust)
            self.here, self._lowest = there, min(self._lowest, there.energy)
        else:
            self.n_rejected += 1
            self._trust = 0.5 * self._length

    def _next_step(self, gradient: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """The next move, and its length as a share of what a single move may be."""
        curvatures, modes = np.linalg.eigh(self._hessian)
        step = -modes @ ((modes.T @ gradient) / np.maximum(curvatures, SOFTEST))
        move = (self._basis @ step).reshape(-1, 3)
        strain = np.linalg.eigvalsh(move[self._n_sites :]) / self._strain_scale
        length = float(
            max(
                _longest(move[: self._n_sites]) / MAX_DISPLACEMENT,
                np.abs(strain).max() / MAX_STRAIN,
            )
        )
        if length <= self._trust:
            return step, length
        return step * (self._trust / length), self._trust

    def _gradient(self, point: Point) -> NDArray[np.float64]:
        return np.asarray((-point.forces / self._scale).ravel())


def coordinate_scale(cell: FrechetCell) -> NDArray[np.float64]:
    """Factor of each row from the filter's coordinates, with `n_sites` · U for the cell, to c·U."""
    scale = np.ones((cell.n_sites + 3, 1))
    scale[cell.n_sites :] = strain_scale(cell.start.volume) / cell.n_sites
    return scale


def _longest(rows: NDArray[np.float64]) -> float:
    return float(np.sqrt((rows**2).sum(axis=1).max()))


def room_needed(geometry: Geometry) -> float:
    """Factor along each axis that a crowded cell should be stretched by; 1 where it is not."""
    from ase.data import covalent_radii

    from novelty_metric.relaxation.neighbors import find_neighbors

    radii = covalent_radii[geometry.numbers]
    reach = 2 * CROWDED * float(radii.max())
    near = find_neighbors([geometry.cell], [geometry.positions], reach=reach, short=0.0)
    if near.n_bonds == 0:
        return 1.0
    distances = np.sqrt((near.vectors**2).sum(axis=1))
    closest = float((distances / (radii[near.first] + radii[near.second])).min())
    if closest >= CROWDED:
        return 1.0
    return min(LARGEST_EXPANSION, ROOMY / max(closest, 1e-3))


def free_coordinates(geometry: Geometry, symmetry: Symmetry) -> NDArray[np.float64]:
    """Orthonormal basis of the displacements and strains that a group leaves unchanged.

    Returns
    -------
    (3 * n_sites + 9, n_free) array
        Displacements first, then the strain, row by row; strains are symmetric.
    """
    n_sites = len(geometry.numbers)
    rotations = symmetry.cartesian(geometry.cell)
    displacement = np.zeros((n_sites, 3, n_sites, 3))
    strain = np.zeros((9, 9))
    sites = np.arange(n_sites)
    for rotation, image in zip(rotations, symmetry.images, strict=True):
        displacement[image, :, sites, :] += rotation
        # U -> R U Rᵀ, made symmetric.
        turned = np.einsum("ik,jl->ijkl", rotation, rotation)
        strain += 0.5 * (turned + turned.transpose(1, 0, 2, 3)).reshape(9, 9)
    sites_basis = _kept_by(displacement.reshape(3 * n_sites, -1) / len(rotations))
    strain_basis = _kept_by(strain / len(rotations))
    basis = np.zeros((3 * n_sites + 9, sites_basis.shape[1] + strain_basis.shape[1]))
    basis[: 3 * n_sites, : sites_basis.shape[1]] = sites_basis
    basis[3 * n_sites :, sites_basis.shape[1] :] = strain_basis
    return basis


def _kept_by(projector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal basis of what a projector leaves unchanged."""
    shares, vectors = np.linalg.eigh(0.5 * (projector + projector.T))
    return np.asarray(vectors[:, shares > 0.5])


def _updated(
    hessian: NDArray[np.float64], step: NDArray[np.float64], change: NDArray[np.float64]
) -> NDArray[np.float64]:
    """BFGS update of a Hessian by the change of the gradient along a step.

    Damped as in Powell (1978) where the curvature falls or is negative, so that the Hessian stays
    positive definite and no division by a small number can make it stiff.
    """
    pushed = hessian @ step
    before, along = float(step @ pushed), float(step @ change)
    if not before > 0:
        return hessian
    if along < 0.2 * before:
        share = 0.8 * before / (before - along)
        change = share * change + (1 - share) * pushed
        along = float(step @ change)
    return hessian + np.outer(change, change) / along - np.outer(pushed, pushed) / before


def _extended(
    hessian: NDArray[np.float64], within: NDArray[np.float64], first: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A Hessian in more coordinates: what was learnt, and the first guess for the rest."""
    rest = np.eye(len(within)) - within @ within.T
    return np.asarray(rest @ first @ rest + within @ hessian @ within.T)
