"""Families of reference crystals are refused at once only where pymatgen refuses each of them."""

from __future__ import annotations

import numpy as np
import pytest
from pair_test import steps
from pymatgen.core import Element, Lattice, Structure

from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.matching import Matching, commensurate

kernels = pytest.importorskip("novelty_metric.search.kernels", reason="numba is not installed")
from novelty_metric.search import kernel_families  # noqa: E402

CELLS = [
    lambda rng: Lattice.cubic(4.2),
    lambda rng: Lattice.from_parameters(3.4, 3.4, 3.4, 60, 60, 60),
    lambda rng: Lattice.hexagonal(3.6, rng.choice([3.6, 5.9])),
    lambda rng: Lattice.tetragonal(3.8, rng.choice([3.9, 6.1])),
    lambda rng: Lattice.from_parameters(*rng.uniform(3, 6, 3), *rng.uniform(75, 105, 3)),
]


def crystal(lattice: Lattice, frac_coords: np.ndarray, rng: np.random.Generator) -> Structure:
    volume = 14.0 * len(frac_coords)
    numbers = rng.integers(3, 60, len(frac_coords))
    return Structure(lattice.scale(volume), [Element.from_Z(z) for z in numbers], frac_coords)


def like(structure: Structure, strain: float, shift: float, rng: np.random.Generator) -> Structure:
    """The crystal scaled, strained and with its sites moved (Å), and with other elements."""
    matrix = structure.lattice.matrix * (1 + rng.normal(0, 0.01))
    lattice = Lattice(matrix @ (np.eye(3) + rng.normal(0, strain, (3, 3))))
    moved = structure.frac_coords + lattice.get_fractional_coords(
        rng.normal(0, shift / 2, (len(structure), 3))
    )
    return crystal(lattice, moved, rng)


def families_of(reference: Reference) -> kernels.Families:
    return kernel_families.find_families(
        reference.lattices, reference.offsets, reference.frac_coords
    )


def some_families(rng: np.random.Generator, count: int, members: int) -> Reference:
    """Some exactly alike but for their size and elements, some strained, some with moved sites."""
    structures = []
    for _ in range(count):
        n = int(rng.choice([1, 2, 3, 4, 6]))
        frac_coords = rng.random((n, 3))
        if rng.random() < 0.5:  # on a grid, with symmetry and ties
            frac_coords = np.unique(rng.integers(0, 4, (n, 3)) / 4, axis=0)
        first = crystal(CELLS[rng.integers(len(CELLS))](rng), frac_coords, rng)
        strain, shift = rng.choice([0.0, 0.004]), rng.choice([0.0, 0.03])
        structures += [first, *(like(first, strain, shift, rng) for _ in range(members - 1))]
    return Reference.from_structures(structures)


def hardly_like(reference: Reference, base: int, rng: np.random.Generator) -> Structure:
    """A crystal as far from one of the reference as just matches, or just does not."""
    structure = reference.structure(base)
    if rng.random() < 0.3:
        structure = structure * rng.permutation([2, 1, 1]).tolist()
    strained = like(structure, 0.02, 0, rng)
    direction = rng.normal(0, 1, (len(structure), 3))

    def moved(distance: float) -> Structure:
        steps = strained.lattice.get_fractional_coords(distance * direction)
        return crystal(strained.lattice, strained.frac_coords + steps, rng)

    low, high = 0.0, 1.5
    for _ in range(9):
        middle = (low + high) / 2
        matches = steps(moved(middle), reference, np.array([base]))[0] == kernels.LET_THROUGH
        low, high = (middle, high) if matches else (low, middle)
    return moved(rng.choice([low, high]))


def test_no_member_that_pymatgen_accepts_is_refused_with_its_family() -> None:
    rng = np.random.default_rng(5)
    matching = Matching(Protocol())
    refused_at_once = divided = accepted = near = 0
    for _ in range(6):
        reference = some_families(rng, 12, 5)
        found = families_of(reference)
        for base in rng.choice(len(reference), 8, replace=False).tolist():
            generated = hardly_like(reference, base, rng)
            indices = np.array(
                [i for i, n in enumerate(reference.n_sites) if commensurate(len(generated), int(n))]
            )
            alone = steps(generated, reference, indices)
            families = found.unknown()
            together = steps(generated, reference, indices, families)
            assert (together[alone < kernels.LET_THROUGH] < kernels.LET_THROUGH).all()
            takes = np.zeros(len(indices), dtype=bool)
            for at in np.flatnonzero(alone == kernels.LET_THROUGH).tolist():
                other = reference.structure(int(indices[at]))
                takes[at] = matching.framework_match(generated, other) is not None
            assert (together[takes] == kernels.LET_THROUGH).all()
            accepted += int(takes.sum())
            refused_at_once += int((families.known == kernels._ALL_REFUSED).sum())
            for family in set(found.of[indices].tolist()) - {-1}:
                own = found.of[indices] == family
                divided += bool(takes[own].any() and not takes[own].all())
                near += bool((alone[own] == kernels.TOO_FAR).any() and takes[own].any())
    assert accepted > 200
    assert refused_at_once > 150
    assert divided > 5  # some members match and others do not
    assert near > 5


def test_what_makes_a_family() -> None:
    rng = np.random.default_rng(3)
    lattice = Lattice.from_parameters(4.1, 4.6, 5.3, 84, 97, 103)
    first = crystal(lattice, rng.random((4, 3)), rng)
    other_order = Structure.from_sites([first[i] for i in (0, 2, 3, 1)])
    other_anchor = Structure.from_sites([first[i] for i in (1, 0, 2, 3)])
    elsewhere = crystal(lattice, first.frac_coords + rng.random(3), rng)
    moved = first.copy()
    moved.translate_sites([2], [0.4, 0, 0], frac_coords=False)
    larger = first.copy()
    larger.scale_lattice(first.volume * 1.3)
    structures = [
        first,
        like(first, 0, 0, rng),
        other_order,
        elsewhere,
        other_anchor,
        moved,
        larger,
    ]
    arrays = [np.array([s.lattice.matrix for s in structures])]
    arrays += [np.arange(0, 4 * len(structures) + 1, 4)]
    arrays += [np.concatenate([s.frac_coords for s in structures])]
    families = kernel_families.find_families(*arrays)
    # Translations of the test start from the first site, so it has to be the same one.
    assert families.of.tolist() == [0, 0, 0, 0, -1, -1, -1]
    assert families.members.tolist()[0] in range(4)
    assert sorted(families.members.tolist()) == [0, 1, 2, 3]
    assert families.offsets.tolist() == [0, 4]
    assert families.shifts[0].max() < 1e-6
    shifted = [first, *(like(first, 0, 0.02, rng) for _ in range(4))]
    arrays = [np.array([s.lattice.matrix for s in shifted]), np.arange(0, 21, 4)]
    families = kernel_families.find_families(
        *arrays, np.concatenate([s.frac_coords for s in shifted])
    )
    assert len(families.known) == 1
    assert 0.001 < families.shifts[0, 1] < families.shifts[0, 0] < 0.06


def test_the_search_answers_the_same_with_families(
    monkeypatch: pytest.MonkeyPatch, thorough: bool
) -> None:
    rng = np.random.default_rng(11)
    reference = some_families(rng, 30, 6)
    monkeypatch.setattr("novelty_metric.search.compiled._BEFORE_FAMILIES", 0)
    with_families = ParentSearch(reference, Protocol())
    assert with_families._families is not None
    plain = ParentSearch(reference, Protocol(), compiled=False)
    found = 0
    for base in range(0, len(reference), 7 if thorough else 35):
        generated = like(reference.structure(base), 0.02, 0.8, rng)
        answer = with_families.parents(generated, None)
        assert answer == plain.parents(generated, None)
        found += len(answer.parents)
    assert found > (20 if thorough else 4)


def test_a_family_is_refused_or_tested_by_member() -> None:
    rng = np.random.default_rng(2)
    cubic, frac_coords = Lattice.cubic(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    members = [like(crystal(cubic, frac_coords, rng), 0, 0, rng) for _ in range(3)]
    reference = Reference.from_structures(members)
    families = families_of(reference)
    assert families.of.tolist() == [0, 0, 0]
    everything = np.arange(3)
    families = families.unknown()
    far = crystal(cubic, np.array([[0, 0, 0], [0.5, 0, 0]]), rng)
    assert (steps(far, reference, everything, families) == kernels.TOO_FAR).all()
    assert families.known.tolist() == [kernels._ALL_REFUSED]
    families = families.unknown()
    near = crystal(cubic, frac_coords, rng)
    assert (steps(near, reference, everything, families) == kernels.LET_THROUGH).all()
    assert families.known.tolist() == [kernels._OPEN]
