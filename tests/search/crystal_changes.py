"""Modified copies of crystals, and equivalent descriptions of the same crystal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pymatgen.core import Element, Lattice, Structure

from novelty_metric.crystal import clean, reduce


def substituted_copy(structure: Structure, rng: np.random.Generator, shift: int = 1) -> Structure:
    """Raise each atomic number by `shift`, strain the cell and perturb the sites."""
    numbers = [min(site.specie.Z + shift, 103) for site in structure]
    strain = np.eye(3) + rng.normal(0, 0.01, (3, 3))
    changed = Structure(
        structure.lattice.matrix @ strain,
        [Element.from_Z(z) for z in numbers],
        structure.frac_coords,
    )
    changed.perturb(0.05, seed=int(rng.integers(2**31)))
    return reduce(clean(changed))


Change = Callable[[Structure, np.random.Generator], Structure]


def rotated(structure: Structure, rng: np.random.Generator) -> Structure:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation = q * np.sign(np.diag(r))
    rotation[:, 0] *= np.sign(np.linalg.det(rotation))
    return rebuilt(structure, structure.lattice.matrix @ rotation, structure.frac_coords)


def moved(structure: Structure, rng: np.random.Generator) -> Structure:
    shifted = (structure.frac_coords + rng.random(3)) % 1
    return rebuilt(structure, structure.lattice.matrix, shifted)


def reordered(structure: Structure, rng: np.random.Generator) -> Structure:
    return Structure.from_sites([structure[i] for i in rng.permutation(len(structure))])


def other_cell(structure: Structure, rng: np.random.Generator) -> Structure:
    matrix = np.eye(3)
    for _ in range(2):
        i, j = rng.permutation(3)[:2]
        shear = np.eye(3)
        shear[i, j] = rng.choice([-1, 1])
        matrix = shear @ matrix
    coords = structure.frac_coords @ np.linalg.inv(matrix)
    return rebuilt(structure, matrix @ structure.lattice.matrix, coords % 1)


def supercell(structure: Structure, rng: np.random.Generator) -> Structure:
    scale = rng.permutation([2, 1, 1]).tolist()
    return structure.make_supercell(scale, in_place=False)


def unchanged(structure: Structure, rng: np.random.Generator) -> Structure:
    """A copy; the caller reduces it a second time, like every other description."""
    return structure.copy()


def rebuilt(structure: Structure, matrix: np.ndarray, frac_coords: np.ndarray) -> Structure:
    numbers = structure.atomic_numbers
    return Structure(Lattice(matrix), [Element.from_Z(z) for z in numbers], frac_coords)


CHANGES: dict[str, Change] = {
    "reduced again": unchanged,
    "rotation": rotated,
    "origin": moved,
    "site order": reordered,
    "cell choice": other_cell,
    "supercell": supercell,
}
