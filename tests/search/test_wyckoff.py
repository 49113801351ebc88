"""The Wyckoff route: relabellings, orbits, and atom maps."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import oracle
import pytest
from oracle import plain_orbits, wyckoff_map
from pymatgen.core import Lattice, Structure

from novelty_metric.crystal import reduce, symmetry
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search import wyckoff
from novelty_metric.search.bounds import CostBounds
from novelty_metric.search.pettifor import pettifor_numbers
from novelty_metric.search.wyckoff import (
    Orbits,
    WyckoffIndex,
    canonical_letters,
    map_sites,
    pair_orbits,
    relabellings,
)


def test_relabellings_are_a_group_with_the_identity_first() -> None:
    for space_group in range(1, 231):
        tables = relabellings(space_group)
        letters = sorted(tables[0])
        images = [tuple(table[letter] for letter in letters) for table in tables]
        assert images[0] == tuple(letters), space_group
        assert all(sorted(image) == letters for image in images), space_group
        assert len(set(images)) == len(images), space_group
        products = {
            tuple(second[first[letter]] for letter in letters)
            for first in tables
            for second in tables
        }
        assert products == set(images), space_group


def test_relabellings_agree_with_pymatgen() -> None:
    published = oracle.relabellings()
    for number in range(1, 231):
        assert [
            {letter: chr(new) for letter, new in table.items()} for table in relabellings(number)
        ] == published[str(number)]


@pytest.mark.slow  # pymatgen's module takes 4 s to import
def test_file_of_relabellings_agrees_with_pymatgen() -> None:
    from pymatgen.analysis.prototypes import WYCKOFF_POSITION_RELAB_DICT

    assert oracle.relabellings() == WYCKOFF_POSITION_RELAB_DICT


@pytest.mark.slow
def test_relabellings_without_the_file(monkeypatch) -> None:
    wyckoff._table.cache_clear()
    relabellings.cache_clear()
    want = relabellings(221)
    wyckoff._table.cache_clear()
    relabellings.cache_clear()
    monkeypatch.setattr(wyckoff.Path, "is_file", lambda path: False)
    assert relabellings(221) == want
    wyckoff._table.cache_clear()
    relabellings.cache_clear()


def test_canonical_letters_of_perovskite_settings() -> None:
    # Pm-3m: moving the origin to the body centre exchanges a with b and c with d.
    one, other = (tuple(sorted(map(ord, text))) for text in ("abc", "abd"))
    assert canonical_letters(221, one) == canonical_letters(221, other)
    assert canonical_letters(221, one) != canonical_letters(221, tuple(map(ord, "aab")))


def found_symmetry(structure: Structure):
    return symmetry(structure, symprec=0.01, angle_tolerance=5.0)


def map_orbits(generated: Orbits, parent: Orbits, space_group: int) -> tuple[int, ...] | None:
    pairs = pair_orbits(generated, parent, space_group)
    return None if pairs is None else map_sites(generated, parent, pairs)


def orbits_of(structure: Structure) -> tuple[int, Orbits]:
    found = found_symmetry(structure)
    letters = np.array([ord(letter) for letter in found.letters])
    return found.space_group, Orbits.of(
        letters,
        np.array(found.orbits),
        structure.frac_coords,
        pettifor_numbers(structure.atomic_numbers),
    )


def perovskite(species: list[str], shift: float = 0.0, a: float = 4.0) -> Structure:
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Structure(Lattice.cubic(a), species, (sites + shift) % 1)


def test_shifted_origin_is_mapped_correctly(protocol: Protocol) -> None:
    parents = [perovskite(["Sr", "Ti", "O", "O", "O"], shift) for shift in (0.0, 0.5)]
    reference = Reference.from_structures(parents)
    index = WyckoffIndex(reference, CostBounds(reference))
    generated = reduce(perovskite(["Ba", "Zr", "S", "S", "S"]))
    found = index.search(
        np.array(generated.atomic_numbers),
        generated.lattice.matrix,
        generated.frac_coords,
        found_symmetry(generated),
        k=protocol.k,
    )
    assert [p.index for p in found.parents] == [0, 1]
    for parent in found.parents:
        exchanged = set(
            zip(parent.parent_numbers.tolist(), parent.generated_numbers.tolist(), strict=True)
        )
        assert exchanged == {(38, 56), (22, 40), (8, 16)}
        assert parent.cost == (1 + 2 + 3) / 5


def test_orbits_determined_by_hand() -> None:
    coords = np.array([[0.2, 0, 0], [0.9, 0, 0], [0.1, 0.5, 0], [0.1, 0.4, 0]])
    letters, labels = np.array([98, 97, 98, 98]), np.array([0, 1, 2, 0])
    orbits = Orbits.of(letters, labels, coords, pettifor_numbers([8, 8, 8, 8]))
    assert orbits.letters == (98, 97)
    assert orbits.members[98] == [[0, 3], [2]]
    assert orbits.representatives[98].tolist() == [[0.1, 0.4, 0], [0.1, 0.5, 0]]
    assert orbits.multiset == (97, 98, 98)


def test_maps_agree_with_the_simple_implementation(reference: Reference) -> None:
    """Real pairs of equal space group and number of sites; also compares the placements."""
    by_kind: dict[tuple[int, int], list[int]] = {}
    for i, key in enumerate(zip(reference.space_groups, reference.n_sites, strict=True)):
        by_kind.setdefault((int(key[0]), int(key[1])), []).append(i)
    orbits = cache(lambda i: orbits_of(reference.structure(i))[1])
    expected = cache(lambda i: plain_orbits(reference.structure(i))[1])
    compared = matched = 0
    for (number, n_sites), members in by_kind.items():
        # The simple double loop over relabellings is slow.
        if len(relabellings(number)) > 8 and n_sites > 6:
            continue
        for i, j in itertools.pairwise(members):
            first, second = reference.structure(i), reference.structure(j)
            sites = map_orbits(orbits(i), orbits(j), number)
            plain = wyckoff_map(first, expected(i), second, expected(j), number)
            compared += 1
            assert (sites is None) == (plain is None)
            if sites is not None:
                matched += 1
                assert [first[site].specie.symbol for site in sites] == plain
                assert sorted(sites) == list(range(len(first)))
    assert compared > 60
    assert matched > 30


def test_index_finds_exactly_the_mappable_crystals(reference: Reference) -> None:
    index = WyckoffIndex(reference, CostBounds(reference))
    everything = [orbits_of(structure) for structure in reference]
    for i in range(0, len(reference), 5):
        number, mine = everything[i]
        want = [
            j
            for j, (other, orbits) in enumerate(everything)
            if other == number
            and len(orbits) == len(mine)
            and pair_orbits(mine, orbits, number) is not None
        ]
        assert i in want
        assert index.candidates(number, mine).tolist() == want


def test_unequal_orbit_sizes_do_not_match() -> None:
    one = Orbits.of(
        np.array([97] * 3), np.array([0, 0, 2]), np.zeros((3, 3)), pettifor_numbers([8] * 3)
    )
    other = Orbits.of(
        np.array([97] * 3), np.array([0, 1, 1]), np.zeros((3, 3)), pettifor_numbers([8] * 3)
    )
    assert pair_orbits(one, other, 1) is None


def test_unknown_symmetry_is_reported(reference: Reference) -> None:
    index = WyckoffIndex(reference, CostBounds(reference))
    result = index.search(np.array([8]), np.eye(3), np.zeros((1, 3)), None, k=3)
    assert result.parents == ()
    assert "symmetry of the crystal" in result.unfinished[0]


def test_reference_crystals_without_symmetry_are_reported_unless_too_expensive() -> None:
    cheap = perovskite(["Ba", "Zr", "S", "S", "S"])
    dear = perovskite(["H", "H", "He", "He", "He"])
    reference = Reference.from_structures([cheap, dear, cheap], ids=["a", "b", "c"])
    groups = reference.space_groups.copy()
    groups[[1, 2]] = 0
    reference.space_groups = groups
    index = WyckoffIndex(reference, CostBounds(reference))
    generated = reduce(perovskite(["Ba", "Hf", "S", "S", "S"]))
    arguments = (
        np.array(generated.atomic_numbers),
        generated.lattice.matrix,
        generated.frac_coords,
    )
    found = index.search(*arguments, found_symmetry(generated), k=1)
    # The known parent costs 0.2. "c" could cost the same but has a higher position; "b" costs more.
    assert [p.index for p in found.parents] == [0]
    assert found.unfinished == ()
    found = index.search(*arguments, found_symmetry(generated), k=2)
    assert [reason.split("'")[1] for reason in found.unfinished] == ["c", "b"]
