"""Null models of real crystals: held out from the reference, or distorted; and the distortions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.baselines.base import Draw, NullCrystal, crystals
from novelty_metric.errors import InputError

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.reference import Reference

DISTANCE = 0.3
"""Displacement of each site by `perturbed` (Å)."""

STRAIN = 0.05
"""Largest component of the strain by `perturbed`."""

_STREAM = 1
"""Part of the seed, so that `held_out` differs from a calibration with the same seed."""


def held_out(reference: Reference, n: int, seed: int) -> Iterator[NullCrystal]:
    """Crystals of the reference with their own ids, each at most once.

    They are to be scored with ``leave_one_out=true``: each against all others.
    """
    if n > len(reference):
        raise InputError(
            f"held_out: the reference {reference.name} contains {len(reference):,} crystals; "
            f"n={n} asks for more"
        )
    order = np.random.default_rng((seed, _STREAM)).permutation(len(reference))
    for index in order[:n].tolist():
        name = reference.ids[index]
        yield NullCrystal(name, reference.structure(index), name)


def perturbed(reference: Reference, n: int, seed: int) -> Iterator[NullCrystal]:
    """Crystals of the reference with each site moved by `DISTANCE` and the cell strained by
    `STRAIN`.
    """

    def draw(rng: np.random.Generator) -> Draw:
        index = int(rng.integers(len(reference)))
        structure = moved(strained(reference.structure(index), rng, STRAIN), rng, DISTANCE)
        return structure, index, ""

    return crystals("perturbed", reference, n, seed, draw)


def moved(structure: Structure, rng: np.random.Generator, distance: float) -> Structure:
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
