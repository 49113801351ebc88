"""A quasi-Newton optimiser for substituted crystals, which start far from any minimum.

It moves cell and positions together in the coordinates of ASE's ``FrechetCellFilter``, with what
ASE's own optimisers leave out: a first Hessian that knows strain from displacement, the symmetry of
the starting crystal, and a look at the energy before a move is kept.

Imports SciPy's and pymatgen's machinery only when used; NumPy at import.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

SITE_STIFFNESS = 15.0
"""First guess of the curvature against the displacement of an atom (eV/Å²)."""

BULK_STIFFNESS = 0.5
"""First guess of the bulk modulus (eV/Å³; 80 GPa); a strain is taken to be 3·B·V stiff."""

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

SYMPREC = 0.01
"""Distance tolerance of the symmetry search (Å), that of the protocols."""


@dataclass(frozen=True)
class _Point:
    """A geometry that was evaluated: energy (eV), coordinates, gradient, largest force row."""

    energy: float
    x: NDArray[np.float64]
    gradient: NDArray[np.float64]
    largest: float


class SymmetricBFGS:
    """Dense BFGS on the symmetry-kept coordinates of a crystal, downhill in energy.

    Parameters
    ----------
    crystal : ase.filters.FrechetCellFilter
        Holds the atoms, with a calculator of energy, forces and stress.
    logfile : None
        Accepted as ASE's optimisers do, and not used.

    Attributes
    ----------
    nsteps : int
        Moves made, also those taken back: each is one evaluation of the potential.
    n_rejected : int
        Moves taken back because the energy rose.

    Notes
    -----
    Coordinates are ``x = (X, c·U)``: positions X in the frame of the starting cell and the matrix
    logarithm U of the deformation, ``(n_sites + 3) * 3`` numbers in Å, where ``c² = 3·B·V / k``
    makes a strain as stiff as a displacement. The search runs on an orthonormal basis of the part
    that all operations of the starting space group leave alone. Potentials that depend on the
    structure alone keep that symmetry, so only noise is projected away, and a crystal can end in a
    saddle exactly where ASE's optimisers would leave it too. When these coordinates are at rest
    and forces remain, because the start was symmetric only within `SYMPREC`, all are released.

    The Hessian starts as ``k`` times one and learns by damped BFGS from every evaluation, also from
    those taken back. A move that raises the energy is taken back and repeated shorter.

    A crowded start, where large elements took the place of small ones, is expanded first, if that
    lowers the energy: from inside the repulsive wall, where no potential was trained, the forces
    can lead into a false minimum.

    Nocedal and Wright, Numerical Optimization (2006), chapters 6 and 18.3 (the damping).
    """

    def __init__(self, crystal: Any, logfile: None = None) -> None:
        self._crystal = crystal
        self._n_sites = len(crystal.atoms)
        volume = abs(float(crystal.atoms.get_volume()))
        self._strain_scale = math.sqrt(3 * BULK_STIFFNESS * volume / SITE_STIFFNESS)
        self.nsteps = 0
        self.n_rejected = 0

    def irun(self, fmax: float, steps: int) -> Iterator[bool]:
        """Move until every row of the filter's forces is shorter than `fmax`, or `steps` times.

        Yields after each evaluation whether the crystal is at rest. Where the last move was taken
        back, the crystal stands at the best geometry once the iterator has ended.

        Parameters
        ----------
        fmax : float
            Largest row norm of the filter's forces, none projected away (eV/Å).
        steps : int
            Moves allowed after the first evaluation.
        """
        atoms = self._crystal.atoms
        everything = free_coordinates(atoms, [np.eye(3)], [np.arange(self._n_sites)])
        basis = free_coordinates(atoms, *symmetry_operations(atoms))
        hessian = SITE_STIFFNESS * np.eye(basis.shape[1])
        here = self._evaluate()
        trust = 1.0
        at_rest = here.largest < fmax
        kept = True
        yield at_rest
        lowest = here.energy
        expansion = room_needed(atoms)
        if not at_rest and self.nsteps < steps and expansion > 1:
            wider = here.x.copy()
            wider[3 * self._n_sites :: 4] += math.log(expansion) * self._strain_scale
            self._place(wider)
            self.nsteps += 1
            there = self._evaluate()
            kept = there.energy < lowest
            if kept:
                here, lowest = there, there.energy
                at_rest = here.largest < fmax
            else:
                self.n_rejected += 1
            yield at_rest
        while not at_rest and self.nsteps < steps:
            if (
                basis.shape[1] < everything.shape[1]
                and self._largest(basis @ (basis.T @ here.gradient)) < fmax / 2
            ):
                basis, hessian = everything, _extended(hessian, everything.T @ basis)
                trust = 1.0
            gradient = basis.T @ here.gradient
            step, length = self._step(basis, hessian, gradient, trust)
            self._place(here.x + basis @ step)
            self.nsteps += 1
            there = self._evaluate()
            kept = there.energy <= lowest + ENERGY_NOISE * self._n_sites
            expected = gradient @ step + 0.5 * step @ hessian @ step
            hessian = _updated(hessian, step, basis.T @ there.gradient - gradient)
            if kept:
                if there.energy - here.energy < 0.1 * expected:
                    trust = min(1.0, 2 * trust)
                here, lowest = there, min(lowest, there.energy)
                at_rest = here.largest < fmax
            else:
                self.n_rejected += 1
                trust = 0.5 * length
            yield at_rest
        if not kept:
            self._place(here.x)

    def _step(
        self,
        basis: NDArray[np.float64],
        hessian: NDArray[np.float64],
        gradient: NDArray[np.float64],
        trust: float,
    ) -> tuple[NDArray[np.float64], float]:
        """The next move, and its length as a share of what a single move may be."""
        curvatures, modes = np.linalg.eigh(hessian)
        step = -modes @ ((modes.T @ gradient) / np.maximum(curvatures, SOFTEST))
        move = (basis @ step).reshape(-1, 3)
        strain = np.linalg.eigvalsh(move[self._n_sites :]) / self._strain_scale
        length = float(
            max(
                np.linalg.norm(move[: self._n_sites], axis=1).max() / MAX_DISPLACEMENT,
                np.abs(strain).max() / MAX_STRAIN,
            )
        )
        if length <= trust:
            return step, length
        return step * (trust / length), trust

    def _evaluate(self) -> _Point:
        forces = np.array(self._crystal.get_forces(), dtype=float)
        x = np.array(self._crystal.get_positions(), dtype=float)
        # The filter counts the cell as `exp_cell_factor` · U.
        scale = self._strain_scale / self._crystal.exp_cell_factor
        x[self._n_sites :] *= scale
        gradient = -forces
        gradient[self._n_sites :] /= scale
        return _Point(
            energy=float(self._crystal.atoms.get_potential_energy()),
            x=x.ravel(),
            gradient=gradient.ravel(),
            largest=float(np.linalg.norm(forces, axis=1).max()),
        )

    def _place(self, x: NDArray[np.float64]) -> None:
        rows = x.reshape(-1, 3).copy()
        rows[self._n_sites :] *= self._crystal.exp_cell_factor / self._strain_scale
        self._crystal.set_positions(rows)

    def _largest(self, gradient: NDArray[np.float64]) -> float:
        """Largest row of a gradient, counted as the filter counts its forces."""
        rows = gradient.reshape(-1, 3).copy()
        rows[self._n_sites :] *= self._strain_scale / self._crystal.exp_cell_factor
        return float(np.linalg.norm(rows, axis=1).max())


def room_needed(atoms: Atoms) -> float:
    """Factor along each axis that a crowded cell should be stretched by; 1 where it is not."""
    from ase.data import covalent_radii
    from ase.neighborlist import neighbor_list

    radii = covalent_radii[atoms.numbers]
    first, second, distances = neighbor_list("ijd", atoms, 2 * CROWDED * float(radii.max()))
    if len(distances) == 0:
        return 1.0
    closest = float((distances / (radii[first] + radii[second])).min())
    if closest >= CROWDED:
        return 1.0
    return min(LARGEST_EXPANSION, ROOMY / max(closest, 1e-3))


def symmetry_operations(atoms: Atoms) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Rotations of the space group and where each takes the sites.

    Returns
    -------
    rotations : list of (3, 3) arrays
        Acting on Cartesian column vectors.
    images : list of (n_sites,) integer arrays
        ``images[g][i]`` is the site that operation g brings site i to.

    Notes
    -----
    The identity alone where no symmetry is found. By spglib, through pymatgen.
    """
    from pymatgen.core import Lattice, Structure
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    n_sites = len(atoms)
    cell = atoms.cell.array
    frac = atoms.get_scaled_positions(wrap=False)
    try:
        analyzer = SpacegroupAnalyzer(
            Structure(Lattice(cell), atoms.get_chemical_symbols(), frac), symprec=SYMPREC
        )
        operations = analyzer.get_symmetry_operations()
    except Exception:  # pymatgen and spglib raise types of their own, which change by version
        operations = []
    rotations, images = [], []
    other_element = atoms.numbers[:, None] != atoms.numbers[None, :]
    for operation in operations:
        moved = frac @ operation.rotation_matrix.T + operation.translation_vector
        apart = moved[:, None] - frac[None, :]
        apart = np.linalg.norm((apart - np.round(apart)) @ cell, axis=2)
        image = np.where(other_element, np.inf, apart).argmin(axis=1)
        if len(set(image.tolist())) == n_sites:
            rotations.append(cell.T @ operation.rotation_matrix @ np.linalg.inv(cell.T))
            images.append(image)
    if len(rotations) < len(operations) or not operations:
        return [np.eye(3)], [np.arange(n_sites)]
    return rotations, images


def free_coordinates(
    atoms: Atoms, rotations: list[NDArray[Any]], images: list[NDArray[Any]]
) -> NDArray[np.float64]:
    """Orthonormal basis of the displacements and strains that a group leaves unchanged.

    Returns
    -------
    (3 * n_sites + 9, n_free) array
        Displacements first, then the strain, row by row; strains are symmetric.
    """
    n_sites = len(atoms)
    displacement = np.zeros((n_sites, 3, n_sites, 3))
    strain = np.zeros((9, 9))
    sites = np.arange(n_sites)
    for rotation, image in zip(rotations, images, strict=True):
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


def _extended(hessian: NDArray[np.float64], within: NDArray[np.float64]) -> NDArray[np.float64]:
    """A Hessian in more coordinates: what was learnt, and the first guess for the rest."""
    rest = np.eye(len(within)) - within @ within.T
    return np.asarray(SITE_STIFFNESS * rest + within @ hessian @ within.T)
