"""Crystals whose right verdict is known, made from those of a reference.

Every function takes a generator, and gives the same crystal for the same state of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.crystal import shortest_distance
from novelty_metric.search.pettifor import NONE, pettifor_numbers, site_costs

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

PETTIFOR_SCALE = 5.0
"""Steps of the modified Pettifor scale over which a replacement gets e times less likely."""

_TRIES = 200
_ANGLES = (60.0, 120.0)
_FARTHEST = 0.8
"""Random atoms keep this from one another at first, in (V/N)^(1/3); less where there is no room."""


def rotated(structure: Structure, rng: np.random.Generator) -> Structure:
    """The same crystal: turned, with another origin, order of sites and primitive cell."""
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
    """The same crystal in a cell two or three times as large, its sites in another order."""
    from pymatgen.core import Structure

    diagonal = np.ones(3, dtype=int)
    diagonal[rng.integers(3)] = rng.integers(2, 4)
    matrix = np.diag(diagonal)
    for row, column in itertools.combinations(range(3), 2):
        matrix[row, column] = rng.integers(0, diagonal[column])
    larger = structure.make_supercell(matrix, in_place=False)
    order = rng.permutation(len(larger))
    return Structure(larger.lattice, [larger[i].specie for i in order], larger.frac_coords[order])


def substituted(  # noqa: PLR0917
    structure: Structure,
    orbits: np.ndarray,
    elements: np.ndarray,
    rng: np.random.Generator,
    probability: float,
    wanted: Callable[[Composition], bool],
) -> Structure | None:
    """Elements exchanged orbit by orbit for ones that are near on the modified Pettifor scale.

    Each orbit is exchanged with that probability, at least one. The weight of a replacement is
    ``exp(-|difference of the numbers| / PETTIFOR_SCALE)``, and an element never replaces itself.

    Parameters
    ----------
    structure : Structure
    orbits : int, (n_sites,)
        Sites of one orbit share a number.
    elements : int, (E,)
        Atomic numbers to draw from.
    probability : float
        From 0 to 1.
    wanted : callable
        Whether a composition will do; if it refuses many draws in a row there is no crystal.

    Returns
    -------
    Structure or None
    """
    from pymatgen.core import Element, Structure

    numbers = np.asarray(structure.atomic_numbers)
    candidates = elements[pettifor_numbers(elements) != NONE]
    names = np.unique(orbits)
    for _ in range(_TRIES):
        chosen = names[rng.uniform(size=len(names)) < probability]
        if len(chosen) == 0:
            chosen = rng.choice(names, size=1)
        exchanged = numbers.copy()
        for orbit in chosen:
            sites = orbits == orbit
            old = numbers[sites][0]
            others = candidates[candidates != old]
            steps = site_costs(pettifor_numbers(others), pettifor_numbers(old))
            weights = np.exp(-steps / PETTIFOR_SCALE)
            exchanged[sites] = rng.choice(others, p=weights / weights.sum())
        made = Structure(
            structure.lattice, [Element.from_Z(int(z)) for z in exchanged], structure.frac_coords
        )
        if wanted(made.composition):
            return made
    return None


def randomised(structure: Structure, rng: np.random.Generator) -> Structure:
    """Composition and volume of a crystal in a random cell, its atoms anywhere.

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
