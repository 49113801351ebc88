"""Distorted copies of a crystal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure


def perturbed(structure: Structure, rng: np.random.Generator, distance: float) -> Structure:
    """Move each site by `distance` (Å) in its own random direction."""
    from pymatgen.core import Structure

    steps = rng.normal(size=(len(structure), 3))
    steps *= distance / np.linalg.norm(steps, axis=1)[:, None]
    return Structure(
        structure.lattice,
        structure.species,
        structure.cart_coords + steps,
        coords_are_cartesian=True,
    )


def strained(structure: Structure, rng: np.random.Generator, size: float) -> Structure:
    """Apply a symmetric strain along random axes to the cell; its largest component is `size`."""
    from pymatgen.core import Structure

    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    amounts = rng.uniform(-1, 1, size=3)
    amounts *= size / np.abs(amounts).max()
    strain = axes @ np.diag(amounts) @ axes.T
    return Structure(
        structure.lattice.matrix @ (np.eye(3) + strain), structure.species, structure.frac_coords
    )
