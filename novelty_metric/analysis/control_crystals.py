"""Crystals whose correct verdict is known, made from those of a reference.

Every function takes a generator, and gives the same crystal for the same state of it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.crystal import shortest_distance

if TYPE_CHECKING:
    from pymatgen.core import Structure

_TRIES = 200
_ANGLES = (60.0, 120.0)
_FARTHEST = 0.8
"""Initial minimum distance of random atoms, in (V/N)^(1/3); smaller if there is no room."""


def rotated(structure: Structure, rng: np.random.Generator) -> Structure:
    """The same crystal with another orientation, origin, order of sites and primitive cell."""
    from pymatgen.core import Structure

    change = np.eye(3, dtype=int)
    for _ in range(3):
        first, second = rng.choice(3, size=2, replace=False)
        shear = np.eye(3, dtype=int)
        shear[first, second] = rng.choice([-1, 1])
        change = shear @ change
    turn, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.diag(upper))
    if np.linalg.det(turn) < 0:
        turn[:, 0] *= -1
    order = rng.permutation(len(structure))
    coords = structure.frac_coords @ np.linalg.inv(change) + rng.uniform(size=3)
    return Structure(
        change @ structure.lattice.matrix @ turn,
        [structure[i].specie for i in order],
        coords[order],
        to_unit_cell=True,
    )


def supercell(structure: Structure, rng: np.random.Generator) -> Structure:
    """The same crystal in a cell two or three times as large, with another order of sites."""
    from pymatgen.core import Structure

    diagonal = np.ones(3, dtype=int)
    diagonal[rng.integers(3)] = rng.integers(2, 4)
    matrix = np.diag(diagonal)
    for row, column in itertools.combinations(range(3), 2):
        matrix[row, column] = rng.integers(0, diagonal[column])
    larger = structure.make_supercell(matrix, in_place=False)
    order = rng.permutation(len(larger))
    return Structure(larger.lattice, [larger[i].specie for i in order], larger.frac_coords[order])


def randomised(structure: Structure, rng: np.random.Generator) -> Structure:
    """A crystal of the same composition and volume in a random cell, with random positions.

    The atoms keep a distance from one another, so that a potential has a meaning.
    """
    from pymatgen.core import Lattice, Structure

    lengths = rng.uniform(0.7, 1.4, size=3)
    while True:
        angles = rng.uniform(*_ANGLES, size=3)
        if 2 * angles.max() < angles.sum() and angles.sum() < 350:
            break
    lattice = Lattice.from_parameters(*lengths, *angles).scale(structure.volume)
    apart = _FARTHEST * (structure.volume / len(structure)) ** (1 / 3)
    coords: list[np.ndarray] = []
    while len(coords) < len(structure):
        for _ in range(_TRIES):
            place = rng.uniform(size=3)
            if not coords or lattice.get_all_distances([place], coords).min() > apart:
                coords.append(place)
                break
        else:  # no room: closer, from the start
            coords, apart = [], 0.9 * apart
    made = Structure(lattice, structure.species, np.array(coords))
    assert shortest_distance(made) > 0
    return made
