"""``map=best`` on the Wyckoff route: least cost over all pairings, for every description."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from crystal_changes import CHANGES
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import difference, element_names, plain_orbits, relabellings
from pymatgen.core import Element, Lattice, Structure

from novelty_metric.crystal import clean, reduce, symmetry
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.wyckoff import NEIGHBOURS, surroundings
from novelty_metric.verdict import Parent, Route

BEST = Protocol(map="best", k=100)
FREE = (
    (47, "mmm", [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5)]),
    (16, "222", [(0.2, 0.3, 0.4), (0.0, 0.0, 0.0), (0.5, 0.5, 0.0)]),
    (1, "1", [(0.05, 0.1, 0.2), (0.4, 0.55, 0.7), (0.75, 0.3, 0.35), (0.6, 0.85, 0.1)]),
)
POOL = ("Li", "Mg", "Ti", "Fe", "Ga", "Rf", "S", "O", "F", "Cs")


def made(kind: int, rng: np.random.Generator) -> Structure:
    """A crystal of one of three space groups; each orbit has a random element."""
    space_group, _, sites = FREE[kind]
    lattice = Lattice.orthorhombic(*rng.uniform(4.0, 6.5, 3))
    if space_group == 1:
        lattice = Lattice.from_parameters(*rng.uniform(4.2, 6.0, 3), *rng.uniform(80, 100, 3))
    moved = np.array(sites) + (rng.normal(0, 0.02, (len(sites), 3)) if space_group == 1 else 0)
    names = rng.choice(POOL, len(sites)).tolist()
    return reduce(clean(Structure.from_spacegroup(space_group, lattice, names, moved)))


@pytest.fixture(scope="module")
def search() -> ParentSearch:
    rng = np.random.default_rng(11)
    return ParentSearch(
        Reference.from_structures([made(kind, rng) for kind in range(3) for _ in range(4)]), BEST
    )


def parents_by_orbits(search: ParentSearch, structure: Structure) -> list[Parent]:
    found = search.parents(structure, symmetry(structure, symprec=0.01, angle_tolerance=5.0))
    assert not found.unfinished
    return [parent for parent in found.parents if parent.route is Route.WYCKOFF]


def least_cost(generated: Structure, reference: Structure) -> float | None:
    """Least cost over all relabellings of both crystals and all pairings of their orbits."""
    if len(generated) != len(reference):
        return None
    (group, ours), (other_group, theirs) = plain_orbits(generated), plain_orbits(reference)
    if group != other_group or len(ours) != len(theirs):
        return None
    mine, its = element_names(generated), element_names(reference)
    tables = [{chr(old): new for old, new in table.items()} for table in relabellings()[str(group)]]
    costs = []
    for one, other in itertools.product(tables, repeat=2):
        for order in itertools.permutations(theirs):
            pairs = list(zip(ours, order, strict=True))
            if all(one[a.letter] == other[b.letter] for a, b in pairs):
                costs.append(
                    sum(
                        len(a.sites) * difference(mine[a.sites[0]], its[b.sites[0]])
                        for a, b in pairs
                    )
                )
    return min(costs) / len(generated) if costs else None


def test_cheapest_pairing_is_found(search: ParentSearch) -> None:
    rng = np.random.default_rng(12)
    matched = 0
    for generated in [made(kind, rng) for kind in range(3) for _ in range(2)]:
        found = {parent.index: parent for parent in parents_by_orbits(search, generated)}
        for index, reference in enumerate(search.reference):
            wanted = least_cost(generated, reference)
            assert (found[index].cost if index in found else None) == wanted
            if wanted is None:
                continue
            matched += 1
            placed = found[index].elements
            assert sorted(placed) == sorted(element_names(generated))
            steps = map(difference, placed, element_names(reference))
            assert sum(steps) / len(placed) == wanted
    assert matched > 12


@settings(max_examples=40, derandomize=True)
@given(kind=st.integers(0, 2), change=st.sampled_from(sorted(CHANGES)), seed=st.integers(0, 2**31))
def test_costs_and_placements_do_not_depend_on_the_description(
    search: ParentSearch, kind: int, change: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    crystal = made(kind, rng)
    again = reduce(clean(CHANGES[change](crystal, rng)))
    one, other = (parents_by_orbits(search, structure) for structure in (crystal, again))
    assert [(p.index, p.cost) for p in one] == [(p.index, p.cost) for p in other]


def test_equal_costs_are_decided_by_the_surroundings() -> None:
    sites = [[0, 0, 0], [0.18, 0.03, 0.02], [0.55, 0.5, 0.48]]
    lattice = Lattice.from_parameters(7.0, 7.4, 7.9, 84, 97, 93)
    parent = reduce(clean(Structure(lattice, ["O", "O", "O"], sites)))
    shifted = (np.array(sites) + np.array([0.37, 0.61, 0.22])) % 1
    # All three placements have equal cost.
    generated = reduce(clean(Structure(lattice, ["S", "S", "F"], shifted)))
    search = ParentSearch(Reference.from_structures([parent]), BEST)
    (found,) = parents_by_orbits(search, generated)
    lonely = int(np.argmax(surroundings(parent.lattice.matrix, parent.frac_coords)[:, 0]))
    assert found.elements[lonely] == Element("F").symbol


def test_surroundings_agree_with_distances_of_pymatgen() -> None:
    structure = made(2, np.random.default_rng(13))
    unit = (structure.volume / len(structure)) ** (1 / 3)
    found = surroundings(structure.lattice.matrix, structure.frac_coords)
    for site, distances in zip(structure, found, strict=True):
        around = sorted(n.nn_distance for n in structure.get_neighbors(site, 12.0))
        assert distances * unit == pytest.approx(around[:NEIGHBOURS])
