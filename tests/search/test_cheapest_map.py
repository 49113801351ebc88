"""``map=best``: the kernel agrees with plain Python, and costs do not depend on the description."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cheapest_map_oracle import cheapest_map
from crystal_changes import CHANGES, substituted_copy
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Element, Lattice, Structure
from pymatgen.core.structure_matcher import StructureMatcher

from novelty_metric.crystal import clean, reduce
from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.scoring.substitution import substitute
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.pettifor import map_cost, pettifor_numbers
from novelty_metric.verdict import Parent

BEST = Protocol(map="best", k=100)


def prototypes() -> list[Structure]:
    """Crystals of 1 to 6 sites; some have equal distances, some several cheapest maps."""
    cubic, slanted = Lattice.cubic(3.2), Lattice.from_parameters(3.6, 3.9, 5.2, 88, 97, 103)
    faces = Lattice([[0, 2.6, 2.6], [2.6, 0, 2.6], [2.6, 2.6, 0]])
    quarters = [[0, 0, 0], [0.25] * 3, [0.5] * 3, [0.75] * 3]
    found = [
        Structure(Lattice.cubic(2.9), ["Al"], [[0, 0, 0]]),
        Structure(cubic, ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3]),
        Structure(cubic, ["Al", "Ni"], [[0, 0, 0], [0.5] * 3]) * [2, 1, 1],
        Structure(faces, ["Na", "Cl"], [[0, 0, 0], [0.5] * 3]),
        Structure(faces, ["Li", "Mg", "N"], quarters[:3]),
        Structure(faces, ["Mn", "Al", "Cu", "Cu"], [quarters[i] for i in (0, 2, 1, 3)]),
        Structure(faces, ["Zr", "Cu", "Mo", "B"], quarters),
        Structure(
            Lattice.cubic(4.0),
            ["Sr", "Ti", "O", "O", "O"],
            [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        ),
        Structure(
            Lattice.hexagonal(3.8, 6.2),
            ["Zn", "Zn", "S", "S"],
            [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.375], [2 / 3, 1 / 3, 0.875]],
        ),
        Structure(
            slanted, ["K", "Ga", "Rf"], [[0.02, 0.11, 0.3], [0.41, 0.52, 0.77], [0.7, 0.9, 0.1]]
        ),
    ]
    doubled = found[-1] * [1, 2, 1]
    doubled.replace(1, "Rb")
    return [*found, doubled]


@pytest.fixture(scope="module")
def search() -> ParentSearch:
    rng = np.random.default_rng(5)
    structures = [reduce(clean(s)) for s in prototypes()]
    return ParentSearch(
        Reference.from_structures(
            [*structures, *(substituted_copy(s, rng, 9) for s in structures)]
        ),
        BEST,
    )


def parents_by_sites(search: ParentSearch, structure: Structure) -> list[Parent]:
    result = search.parents(structure, None)
    assert len(result.unfinished) == 1  # the Wyckoff route, which has no symmetry here
    return list(result.parents)


def test_kernel_agrees_with_plain_python(search: ParentSearch) -> None:
    rng = np.random.default_rng(6)
    matched, sizes = 0, set()
    for generated in [
        *list(search.reference)[::3],
        *(substituted_copy(s, rng) for s in prototypes()[2:]),
    ]:
        found = {parent.index: parent for parent in parents_by_sites(search, generated)}
        for index, reference in enumerate(search.reference):
            wanted = cheapest_map(generated, reference)
            assert (wanted is None) == (index not in found)
            if wanted is None:
                continue
            parent = found[index]
            assert parent.cost == wanted.cost
            assert parent.match_rms == pytest.approx(wanted.rms, abs=2e-4)
            matched += 1
            sizes.add(np.sign(len(generated) - len(reference)))
    assert matched > 50
    assert sizes == {-1, 0, 1}


def test_element_assignment_has_the_reported_cost(search: ParentSearch) -> None:
    rng = np.random.default_rng(7)
    matcher = StructureMatcher(0.2, 0.35, 5, primitive_cell=False, scale=False)
    supercells = 0
    for generated in [substituted_copy(s, rng) for s in prototypes()]:
        for parent in parents_by_sites(search, generated):
            reference = search.reference.structure(parent.index)
            child = substitute(reference, parent)
            if len(reference) > len(generated):
                continue
            assert matcher.fit(child, generated, skip_structure_reduction=True)
            if parent.supercell is not None:
                supercells += 1
                reference = reference.make_supercell(parent.supercell, in_place=False)
            assert parent.cost == map_cost(
                pettifor_numbers(reference.atomic_numbers), pettifor_numbers(child.atomic_numbers)
            )
    assert supercells > 3


@st.composite
def crystals(draw: st.DrawFn) -> Structure:
    """Prototypes with random elements; half of them perturbed, without symmetry."""
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    structure = draw(st.sampled_from(prototypes()))
    numbers = rng.integers(1, 104, len(structure))
    other = Structure(
        structure.lattice, [Element.from_Z(int(z)) for z in numbers], structure.frac_coords
    )
    return substituted_copy(other, rng) if draw(st.booleans()) else reduce(clean(other))


@settings(max_examples=60, derandomize=True)
@given(crystal=crystals(), change=st.sampled_from(sorted(CHANGES)), seed=st.integers(0, 2**31))
def test_costs_and_ranks_do_not_depend_on_the_description(
    search: ParentSearch, crystal: Structure, change: str, seed: int
) -> None:
    again = reduce(clean(CHANGES[change](crystal, np.random.default_rng(seed))))
    one, other = (parents_by_sites(search, structure) for structure in (crystal, again))
    assert [(p.index, p.cost) for p in one] == [(p.index, p.cost) for p in other]
    assert [p.match_rms for p in one] == pytest.approx([p.match_rms for p in other], abs=2e-4)


def test_site_order_of_a_reference_crystal_does_not_matter(search: ParentSearch) -> None:
    rng = np.random.default_rng(8)
    again = ParentSearch(
        Reference.from_structures([CHANGES["site order"](s, rng) for s in search.reference]), BEST
    )
    for generated in [substituted_copy(s, rng) for s in prototypes()]:
        one, other = (
            [(p.index, p.cost) for p in parents_by_sites(s, generated)] for s in (search, again)
        )
        assert one == other


def test_first_map_of_pymatgen_can_cost_more(search: ParentSearch) -> None:
    first = ParentSearch(search.reference, replace(BEST, map="first"))
    rng = np.random.default_rng(9)
    dearer = 0
    for generated in [substituted_copy(s, rng) for s in prototypes()]:
        costs = [{p.index: p.cost for p in parents_by_sites(s, generated)} for s in (first, search)]
        assert all(costs[1][index] <= cost for index, cost in costs[0].items() if index in costs[1])
        dearer += sum(costs[1].get(index, np.inf) < cost for index, cost in costs[0].items())
    assert dearer > 5


def test_errors_of_the_setting(search: ParentSearch) -> None:
    with pytest.raises(InputError, match=r"protocol.map is 'cheapest'; known: first, best"):
        Protocol(map="cheapest")
    with pytest.raises(InputError, match="needs the compiled search"):
        ParentSearch(search.reference, BEST, compiled=False)
