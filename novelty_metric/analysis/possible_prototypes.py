"""Number of possible prototypes, computed without listing them.

A *prototype* is a space group with a multiset of Wyckoff letters, one letter for each occupied
orbit, up to the relabellings of letters by the Euclidean normalizer of the space group.
"""

from __future__ import annotations

import functools

from novelty_metric.crystal import CRYSTAL_SYSTEMS, crystal_system
from novelty_metric.search.wyckoff import (
    Letters,
    free_coordinates,
    multiplicities,
    relabellings,
)

MAX_SITES = 20
"""Number of sites in the largest primitive cell of MP-20."""

_PRIMITIVE_CELLS = {"P": 1, "R": 3, "F": 4}


def lattice_points(space_group: int) -> int:
    """Number of primitive cells in the conventional cell, 1 to 4 (rhombohedral groups: 3, hexagonal
    cell).
    """
    from pymatgen.symmetry.groups import sg_symbol_from_int_number

    return _PRIMITIVE_CELLS.get(sg_symbol_from_int_number(space_group)[0], 2)


@functools.cache
def primitive_multiplicities(space_group: int) -> dict[int, int]:
    """Number of sites in the primitive cell for each Wyckoff position, by letter (code points)."""
    points = lattice_points(space_group)
    return {letter: count // points for letter, count in multiplicities(space_group).items()}


@functools.cache
def fixed_positions(space_group: int) -> frozenset[int]:
    """Letters (code points) of positions without a free coordinate; each has at most one orbit."""
    return frozenset(letter for letter, free in free_coordinates(space_group).items() if free == 0)


def primitive_sites(space_group: int, letters: Letters) -> int:
    """Number of sites in the primitive cell of a crystal with these orbits."""
    sizes = primitive_multiplicities(space_group)
    return sum(sizes[letter] for letter in letters)


def is_possible(space_group: int, letters: Letters) -> bool:
    """True if no position without a free coordinate occurs twice."""
    fixed = [letter for letter in letters if letter in fixed_positions(space_group)]
    return len(fixed) == len(set(fixed))


@functools.cache
def count_prototypes(space_group: int, max_sites: int = MAX_SITES) -> int:
    """Number of prototypes of a space group up to a maximum number of sites in the primitive cell.

    The multisets with n sites are the coefficient of xⁿ in a product over Wyckoff positions of m
    sites: 1 + xᵐ where no coordinate is free (one orbit at most), 1/(1 − xᵐ) where one is. The
    relabellings are a group that acts on the multisets, and the orbits of that action are what is
    counted: by Burnside's lemma the mean, over the group, of the multisets that an element leaves
    as they are. Those take all positions of a cycle of the element equally often, so that their
    series has one factor a cycle, with m times the length of the cycle in place of m.

    Parameters
    ----------
    space_group : int
        1 to 230.
    max_sites : int
        Of the primitive cell.

    Notes
    -----
    Whether coordinates exist that give exactly this symmetry is not asked.
    """
    sizes, fixed = primitive_multiplicities(space_group), fixed_positions(space_group)
    tables = relabellings(space_group)
    left_alone = 0
    for table in tables:
        series = [1] + [0] * max_sites
        waiting = set(sizes)
        while waiting:
            first = letter = waiting.pop()
            step = sizes[first]
            while (letter := table[letter]) != first:
                waiting.discard(letter)
                step += sizes[letter]
            once = first in fixed
            # In place: downwards an orbit is taken once at most, upwards any number of times.
            places = range(max_sites, step - 1, -1) if once else range(step, max_sites + 1)
            for place in places:
                series[place] += series[place - step]
        left_alone += sum(series[1:])
    return left_alone // len(tables)


def count_by_crystal_system(max_sites: int = MAX_SITES) -> dict[str, int]:
    """Number of possible prototypes of each crystal system, from triclinic to cubic.

    Examples
    --------
    >>> counts = count_by_crystal_system()
    >>> sum(counts.values()), counts["cubic"]
    (2984146, 2519)
    """
    counts = dict.fromkeys(CRYSTAL_SYSTEMS, 0)
    for space_group in range(1, 231):
        counts[crystal_system(space_group)] += count_prototypes(space_group, max_sites)
    return counts
