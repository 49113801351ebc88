"""Initial Hessian: a spring model with the symmetry of the crystal."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.relaxation.first_hessian import (
    BULK_STIFFNESS,
    SITE_STIFFNESS,
    first_hessian,
    strain_scale,
)
from novelty_metric.relaxation.quasi_newton import free_coordinates
from novelty_metric.relaxation.relaxation_run import geometry_of
from novelty_metric.relaxation.symmetry import find_symmetry

RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
LONE = Structure(Lattice.cubic(15), ["He"], [[0, 0, 0]])
CHAIN = Structure(Lattice.orthorhombic(2.5, 12, 12), ["C"], [[0, 0, 0]])
MOLECULE = Structure(
    Lattice.cubic(12), ["N", "N"], [[5.45, 6, 6], [6.55, 6, 6]], coords_are_cartesian=True
)
QUARTZ = Structure.from_spacegroup(
    "P3_221", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.47, 0, 2 / 3], [0.41, 0.27, 0.78]]
)


def curvature(structure: Structure, move: np.ndarray) -> float:
    hessian = first_hessian(geometry_of(structure))
    flat = np.zeros(len(hessian))
    flat[: move.size] = move.ravel()
    return float(flat @ hessian @ flat / (flat @ flat))


@pytest.mark.parametrize("structure", [RUTILE, LONE, CHAIN, MOLECULE, QUARTZ])
def test_hessian_is_symmetric_and_positive_definite(structure: Structure) -> None:
    hessian = first_hessian(geometry_of(structure))
    assert hessian.shape == (3 * len(structure) + 9,) * 2
    assert np.allclose(hessian, hessian.T)
    assert np.linalg.eigvalsh(hessian).min() > 0.4 * SITE_STIFFNESS


@pytest.mark.parametrize("structure", [RUTILE, MOLECULE, QUARTZ])
def test_mean_site_stiffness_is_the_constant_and_translation_is_soft(
    structure: Structure,
) -> None:
    n_sites = len(structure)
    hessian = first_hessian(geometry_of(structure))
    assert np.trace(hessian[:-9, :-9]) == pytest.approx(3 * n_sites * SITE_STIFFNESS)
    together = np.tile([0.3, -0.2, 0.1], (n_sites, 1))
    assert curvature(structure, together) == pytest.approx(SITE_STIFFNESS / 2)


def test_bond_stretching_is_stiffer_than_bending() -> None:
    stretch = np.array([[1.0, 0, 0], [-1, 0, 0]])
    turn = np.array([[0, 1.0, 0], [0, -1, 0]])
    assert curvature(MOLECULE, stretch) > 2 * curvature(MOLECULE, turn)


def test_isotropic_strain_has_the_stiffness_of_the_bulk_modulus() -> None:
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    hessian = first_hessian(geometry_of(salt))
    strain = 1e-2 * np.eye(3)
    move = np.concatenate([np.zeros(3 * len(salt)), strain_scale(salt.volume) * strain.ravel()])
    energy = move @ hessian @ move / 2
    by_volume = 9 * BULK_STIFFNESS * salt.volume * 1e-4 / 2
    assert by_volume / 2 < energy < 2 * by_volume


@pytest.mark.parametrize("structure", [RUTILE, QUARTZ])
def test_hessian_has_the_symmetry_of_the_crystal(structure: Structure) -> None:
    geometry = geometry_of(structure)
    hessian = first_hessian(geometry)
    basis = free_coordinates(geometry, find_symmetry(geometry))
    assert basis.shape[1] < len(hessian) / 4
    kept = hessian @ basis
    assert np.allclose(basis @ (basis.T @ kept), kept, atol=1e-9)


def test_hessian_rotates_with_the_crystal() -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned = Structure(Lattice(QUARTZ.lattice.matrix @ turn.T), QUARTZ.species, QUARTZ.frac_coords)
    n_sites = len(QUARTZ)
    by_all = np.zeros((3 * n_sites + 9,) * 2)
    by_all[:-9, :-9] = np.kron(np.eye(n_sites), turn)
    by_all[-9:, -9:] = np.kron(turn, turn)
    want = by_all @ first_hessian(geometry_of(QUARTZ)) @ by_all.T
    assert np.allclose(first_hessian(geometry_of(turned)), want, atol=1e-8)
