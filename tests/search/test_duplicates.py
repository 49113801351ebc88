"""Duplicates in the reference and among samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from crystal_changes import substituted_copy
from pymatgen.core import Lattice, Structure
from pymatgen.core.structure_matcher import StructureMatcher

from novelty_metric.crystal import clean, reduce
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search import compiled, duplicates
from novelty_metric.search.compiled import load_kernels, where_equal
from novelty_metric.search.duplicates import (
    CompositionIndex,
    EqualTest,
    Groups,
    TooMuchToCompareError,
)
from novelty_metric.search.engine import ParentSearch, group_equal
from novelty_metric.search.matching import Matching


@pytest.fixture(scope="module")
def search(reference: Reference, protocol: Protocol) -> ParentSearch:
    return ParentSearch(reference, protocol)


def test_every_reference_crystal_is_a_duplicate(search: ParentSearch, reference: Reference) -> None:
    rng = np.random.default_rng(3)
    for i in range(0, len(reference), 4):
        for seen in (
            reference.structure(i),
            substituted_copy(reference.structure(i), rng, shift=0),
        ):
            found = search.duplicate(seen)
            assert found is not None
            assert found.index <= i
            assert found.parent_id == reference.ids[found.index]
            assert 0 <= found.match_rms < 0.3


def test_composition_index_agrees_with_the_reference(reference: Reference) -> None:
    few = list(reference)[:20]
    reference = Reference.from_structures([*reference, *few, *few])
    index = CompositionIndex(reference)
    several = 0
    for i in range(len(reference)):
        numbers = reference.numbers[reference.sites(i)].tolist()
        want = reference.with_composition(reference.composition_key(i))
        assert np.array_equal(index.find(numbers), want)
        assert np.array_equal(index.find(numbers[::-1] * 3), want)
        several += len(want) > 1
    assert several >= 60
    assert index.find([118]).tolist() == []


def test_the_lowest_position_is_reported(protocol: Protocol) -> None:
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    far = salt.copy()
    far.scale_lattice(salt.volume * 2.5)
    near = salt.copy()
    near.scale_lattice(salt.volume * 1.1)
    reference = Reference.from_structures([far, near, salt], ids=["far", "near", "same"])
    found = ParentSearch(reference, protocol).duplicate(reduce(clean(salt)))
    assert found is not None
    assert (found.index, found.parent_id) == (1, "near")


def test_other_elements_or_proportions_are_not_duplicates(
    search: ParentSearch, substituted: list[Structure], reference: Reference
) -> None:
    formulas = {s.composition.reduced_formula for s in reference}
    for structure in substituted:
        if structure.composition.reduced_formula not in formulas:
            assert search.duplicate(structure) is None


def test_groups_agree_with_pymatgen(
    reference: Reference, diffcsp: list[Structure], protocol: Protocol
) -> None:
    rng = np.random.default_rng(5)
    structures = []
    for i in range(0, 40, 2):
        structures += [substituted_copy(reference.structure(i), rng, shift=0) for _ in range(3)]
    structures += diffcsp[:10]
    structures = [structures[i] for i in rng.permutation(len(structures))]
    groups = group_equal(structures, protocol).number
    matcher = StructureMatcher(
        primitive_cell=False, scale=False, attempt_supercell=True, supercell_size="num_sites"
    )
    want = [-1] * len(structures)
    for group in matcher.group_structures(structures):
        members = [k for k, s in enumerate(structures) if any(s is member for member in group)]
        for member in members:
            want[member] = members[0]
    number = {first: place for place, first in enumerate(sorted(set(want)))}
    assert groups == [number[first] for first in want]
    assert len(set(groups)) < len(structures) - 20


def test_groups_are_numbered_by_their_first_crystal(
    reference: Reference, protocol: Protocol
) -> None:
    a, b, c = (reference.structure(i) for i in (0, 1, 2))
    assert group_equal([a, b, a, c, b, a], protocol) == Groups([0, 1, 0, 2, 1, 0], 0)
    assert group_equal([], protocol) == Groups([], 0)
    both = ParentSearch(reference, protocol).group_equal([c, a, c])
    assert both.duplicates.number == both.matching.number == [0, 1, 0]


def nearly_equal(reference: Reference) -> Iterator[tuple[Structure, Structure]]:
    """Yield pairs of equal composition near the tolerance, some with a supercell."""
    rng = np.random.default_rng(12)
    for at, structure in enumerate(reference):
        if len(structure) > 24:
            continue
        size = (structure.volume / len(structure)) ** (1 / 3)
        one, other = structure.copy(), structure.copy()
        if at % 3 == 1:
            one.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
        elif at % 3 == 2:
            other.make_supercell([[2, 0, 0], [0, 1, 1], [0, 0, 1]])
        if at % 4 == 3 and len(set(one.atomic_numbers)) > 1:
            species = list(one.species)
            rng.shuffle(species)
            one = Structure(one.lattice, species, one.frac_coords)
        steps = rng.normal(size=(len(one), 3)) * size * rng.uniform(0, 0.3)
        one = Structure(
            Lattice(one.lattice.matrix @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3)))),
            one.species,
            one.frac_coords + steps @ np.linalg.inv(one.lattice.matrix),
        )
        order = rng.permutation(len(one))
        yield Structure.from_sites([one[i] for i in order]), other


def test_compiled_equality_test_agrees_with_pymatgen(
    reference: Reference, protocol: Protocol
) -> None:
    kernels = pytest.importorskip("novelty_metric.search.kernels", reason="numba is not installed")
    matching = Matching(protocol)
    plain = EqualTest(matching, protocol)
    test = EqualTest(matching, protocol, kernels)
    equal = different = through = 0
    for one, other in nearly_equal(reference):
        want = plain.rms(one, other)
        assert test.rms(one, other) == want
        equal += want is not None
        different += want is None
        through += bool(where_equal(kernels, one, other, protocol)[0])
    assert min(equal, different) > 40
    assert through <= equal + 0.1 * different


@pytest.mark.parametrize("n_sites", [(1, 300), (300, 1), (150, 300), (300, 300)])
def test_work_on_hundreds_of_sites_of_one_element_is_limited(
    n_sites: tuple[int, int], thorough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = pytest.importorskip("novelty_metric.search.kernels", reason="numba is not installed")
    if n_sites == (300, 1) and not thorough:  # ends at the limit: a smaller limit is enough
        monkeypatch.setattr(compiled, "MOST_WORK_OF_EQUALS", compiled.MOST_WORK_OF_EQUALS // 10)
    rng = np.random.default_rng(13)
    one, other = (
        Structure(Lattice.cubic((12 * n) ** (1 / 3)), ["Fe"] * n, rng.random((n, 3)))
        for n in n_sites
    )
    protocol = Protocol()
    groups = group_equal([one, other], protocol)
    assert groups.work_limit_reached == (
        n_sites == (300, 1)
    )  # millions of lattices, each with 300 translations
    assert groups.number == ([0, 0] if groups.work_limit_reached else [0, 1])
    if groups.work_limit_reached:
        with pytest.raises(TooMuchToCompareError):
            EqualTest(Matching(protocol), protocol, kernels).rms(one, other)


def test_above_the_work_limit_possible_duplicates_count_as_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    cell = Lattice.cubic(5)
    different = [Structure(cell, ["Fe"] * 8, rng.random((8, 3))) for _ in range(4)]
    test = EqualTest(Matching(Protocol()), Protocol(), load_kernels())
    assert duplicates.group_equal(different, test).number == [0, 1, 2, 3]
    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "MOST_PAIRS", 3)
        groups = duplicates.group_equal(different, test)
        assert (groups.number, groups.work_limit_reached) == ([0, 1, 1, 1], 2)
    monkeypatch.setattr(compiled, "MOST_WORK_OF_ALL_EQUALS", 0)
    monkeypatch.setattr(compiled, "MOST_WORK_OF_A_PAIR", 1)
    groups = duplicates.group_equal(different, test)
    assert (groups.number, groups.work_limit_reached) == ([0, 0, 0, 0], 3)


def test_rounding_exchanges_the_crystals_in_the_compiled_test_too() -> None:
    """With 49 times the sites, pymatgen starts from the larger crystal (see `where_equal`)."""
    kernels = pytest.importorskip("novelty_metric.search.kernels", reason="numba is not installed")
    long = 2.4
    a, b = 0.96 * long, 1.3 * long
    c, step = 2 * long**3 / (a * b), 0.3 * long
    small = Structure(Lattice.orthorhombic(a, b, c), ["Fe", "O"], [[0, 0, 0], [0, 0.5, 0.5]])
    iron = [
        [i * a + (0.9 if j % 2 == 0 else -0.9) * step, j * b, 0] for j in range(7) for i in range(7)
    ]
    oxygen = [[i * a, (j + 0.5) * b, 0.5 * c] for j in range(7) for i in range(7)]
    oxygen[0][2] += 0.5
    large = Structure(
        Lattice.orthorhombic(7 * a, 7 * b, c),
        ["O"] * 49 + ["Fe"] * 49,
        np.array(oxygen + iron),
        coords_are_cartesian=True,
    )
    large, small = reduce(clean(large)), reduce(clean(small))
    assert (len(large), len(small)) == (98, 2)
    protocol = Protocol()
    matching = Matching(protocol)
    want = EqualTest(matching, protocol).rms(large, small)
    assert want is not None
    assert EqualTest(matching, protocol, kernels).rms(large, small) == want
