"""Refusals and cost bounds must never be wrong."""

from __future__ import annotations

from types import SimpleNamespace

import bounds_oracle
import numpy as np
import pytest
from bounds_oracle import cells_of
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.core.structure_matcher import FrameworkComparator, StructureMatcher

from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search import pettifor
from novelty_metric.search.bounds import Cells, CostBounds, cells_of_reference, may_match
from novelty_metric.search.matching import Matching, commensurate

MATCHER = StructureMatcher(
    primitive_cell=False, scale=False, attempt_supercell=True, comparator=FrameworkComparator()
)


def cells(lattice: Lattice, n_sites: int) -> Cells:
    return Cells.of(lattice.matrix[None], np.array([n_sites]), ltol=0.2, angle_tol=5.0)


lattices = st.builds(
    Lattice.from_parameters,
    *[st.floats(2, 9)] * 3,
    *[st.floats(60, 120)] * 3,
).filter(lambda lattice: lattice.volume > 4)


@given(lattices, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_no_refusal_where_pymatgen_finds_a_lattice(lattice: Lattice, size: int, seed: int) -> None:
    # The target is a strained supercell in another basis, near the limits of all tolerances.
    rng = np.random.default_rng(seed)
    supercell = np.diag([size, 1, 1]) @ rng.permutation(np.eye(3))
    shear = np.eye(3)
    shear[0, 1] = rng.integers(-1, 2)
    strain = np.eye(3) + rng.normal(0, 0.08, (3, 3))
    target = Lattice(shear @ supercell @ lattice.matrix @ strain)
    source = SimpleNamespace(lattice=lattice)
    if next(MATCHER._get_lattices(target, source, size), None) is None:
        return
    # pymatgen's target is the cell with more sites, or the second cell for equal numbers.
    assert may_match(cells(lattice, 2), cells(target, 2 * size), ltol=0.2).all()
    if size > 1:
        assert may_match(cells(target, 2 * size), cells(lattice, 2), ltol=0.2).all()


def test_no_refusal_of_a_real_match(
    reference: Reference, diffcsp: list[Structure], substituted: list[Structure], protocol: Protocol
) -> None:
    matching = Matching(protocol)
    references = cells_of_reference(reference, protocol)
    accepted = refused = 0
    for generated in [*diffcsp[::20], *substituted[::8]]:
        possible = may_match(
            cells(generated.lattice, len(generated)), references, ltol=protocol.ltol
        )
        for i, maybe in list(enumerate(possible.tolist()))[::2]:
            if not commensurate(len(generated), len(reference.structure(i))):
                assert not maybe
                continue
            refused += not maybe
            if matching.framework_match(generated, reference.structure(i)) is not None:
                accepted += 1
                assert maybe
    assert accepted > 10
    assert refused > 100


@given(lattices, st.integers(0, 2**32 - 1))
def test_successive_minima_are_lower_bounds_and_mostly_exact_for_niggli_cells(
    lattice: Lattice, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    skewed = np.eye(3)
    skewed[1, 0], skewed[2, 0], skewed[2, 1] = rng.integers(-3, 4, size=3)
    niggli = lattice.get_niggli_reduced_lattice()
    want = brute_minima(niggli.matrix)
    horizon = 3 / max(niggli.reciprocal_lattice_crystallographic.lengths)
    have = cells(niggli, 1).rows[0, 3:6]
    assert np.allclose(have, np.minimum(want, horizon), rtol=1e-9)
    assert (cells(Lattice(skewed @ niggli.matrix), 1).rows[0, 3:6] <= want * (1 + 1e-9)).all()


def brute_minima(matrix: np.ndarray) -> np.ndarray:
    axis = np.arange(-5, 6)
    grid = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    grid = grid[grid.any(axis=1)]
    lengths = np.linalg.norm(grid @ matrix, axis=1)
    chosen: list[int] = []
    for row in np.argsort(lengths):
        if np.linalg.matrix_rank(grid[[*chosen, row]]) == len(chosen) + 1:
            chosen.append(row)
        if len(chosen) == 3:
            break
    return lengths[chosen]


@given(lattices, st.integers(0, 2**32 - 1))
def test_volume_window_contains_every_cell_within_the_tolerances(
    lattice: Lattice, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    _, smallest, largest = cells(lattice, 1).rows[0, :3]
    assert smallest < lattice.volume < largest
    lengths = np.array(lattice.lengths) * 1.2 ** rng.choice([-1, 1, 0.3], size=(200, 3))
    angles = np.array(lattice.angles) + rng.choice([-5, 5, 0.1], size=(200, 3))
    cosines = np.cos(np.radians(angles))
    g = 1 + 2 * cosines.prod(axis=1) - (cosines**2).sum(axis=1)
    volumes = lengths.prod(axis=1) * np.sqrt(np.maximum(g, 0))
    assert (volumes[g > 0] >= smallest).all()
    assert (volumes[g > 0] <= largest).all()


def reference_of(numbers: list[list[int]]) -> CostBounds:
    sizes = [len(row) for row in numbers]
    return CostBounds(
        SimpleNamespace(  # type: ignore[arg-type]
            n_sites=np.array(sizes),
            offsets=np.concatenate([[0], np.cumsum(sizes)]),
            numbers=np.array([z for row in numbers for z in row], dtype=np.uint8),
        )
    )


def cubes(sizes: list[int]) -> Cells:
    """Cubic cells of 10 Å³ per site, so that no pair is refused."""
    sides = (10 * np.array(sizes)) ** (1 / 3)
    return Cells.of(sides[:, None, None] * np.eye(3), np.array(sizes), ltol=0.2, angle_tol=5.0)


def candidates(reference: list[list[int]], generated: list[int]) -> tuple[np.ndarray, np.ndarray]:
    table = reference_of(reference)
    cells = cubes([len(row) for row in reference]).take(table.order)
    numbers = pettifor.pettifor_numbers(generated)
    return table.candidates(numbers, cubes([len(generated)]), cells, ltol=0.2)


elements = st.lists(st.integers(1, 106), min_size=1, max_size=6)


@given(elements, elements, st.integers(1, 3), st.booleans(), st.integers(0, 2**32 - 1))
def test_no_map_costs_less_than_the_bound(
    small: list[int], large: list[int], times: int, swap: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    large = (large * len(small) * times)[: len(small) * times]
    generated, other = (large, small) if swap else (small, large)
    indices, bounds = candidates([other], generated)
    assert indices.tolist() == [0]
    expanded = pettifor.pettifor_numbers(np.repeat(small, times))
    for _ in range(20):
        cost = pettifor.map_cost(rng.permutation(expanded), pettifor.pettifor_numbers(large))
        assert bounds[0] <= cost
    if max(small + large) <= 103:
        best = pettifor.map_cost(np.sort(expanded), np.sort(pettifor.pettifor_numbers(large)))
        assert bounds[0] == best


def test_only_commensurate_crystals_have_bounds() -> None:
    crystals = [[8], [8, 8], [8, 16, 8], [8, 8, 8, 26]]
    indices, bounds = candidates(crystals, [8, 16])
    assert indices.tolist() == [0, 1, 3]
    assert bounds.tolist() == [0.5, 0.5, (1 + 25) / 4]
    table = reference_of(crystals)
    assert table.of_equal_size(pettifor.pettifor_numbers([8, 16]), np.array([1])).tolist() == [0.5]


@pytest.mark.parametrize(("one", "other"), [(2, 3), (4, 6), (6, 4)])
def test_incommensurate_sizes_are_refused(one: int, other: int) -> None:
    lattice = Lattice.cubic(4)
    assert not may_match(cells(lattice, one), cells(lattice, other), ltol=0.2).any()


def test_compiled_bounds_agree_with_numpy(
    reference: Reference, diffcsp: list[Structure], protocol: Protocol
) -> None:
    tolerances = {"ltol": protocol.ltol, "angle_tol": protocol.angle_tol}
    slanted = np.array([[3.0, 0, 0], [2.9, 0.4, 0], [40.0, 0.1, 2.0]])  # not a reduced cell
    others = [s.lattice.matrix for s in diffcsp]
    lattices = np.array([*reference.lattices, *others, slanted, 4 * np.eye(3)])
    sizes = np.arange(1, len(lattices) + 1)
    have, want = Cells.of(lattices, sizes, **tolerances), cells_of(lattices, sizes, **tolerances)
    assert np.array_equal(have.n_sites, want.n_sites)
    np.testing.assert_allclose(have.rows, want.rows, rtol=1e-11)


def test_compiled_candidates_agree_with_numpy(
    reference: Reference, diffcsp: list[Structure], protocol: Protocol
) -> None:
    table = CostBounds(reference)
    references = cells_of_reference(reference, protocol)
    shares = []
    odd = diffcsp[0].copy()
    odd.replace(0, "Rf")  # has no Pettifor number
    for generated in [*diffcsp, odd, *list(reference)[::40]]:
        cell = cells(generated.lattice, len(generated))
        possible = bounds_oracle.may_match(cell, references, ltol=0.2)
        assert np.array_equal(may_match(cell, references, ltol=0.2), possible)
        numbers = pettifor.pettifor_numbers(generated.atomic_numbers)
        found, costs = table.candidates(numbers, cell, references.take(table.order), ltol=0.2)
        assert sorted(found.tolist()) == np.flatnonzero(possible).tolist()
        for index, cost in zip(found.tolist(), costs.tolist(), strict=True):
            other = pettifor.pettifor_numbers(reference.numbers[reference.sites(index)])
            want = bounds_oracle.cost_bounds(np.sort(numbers), np.sort(other)[None])
            assert cost == want[0]
        shares.append(len(found) / len(reference))
    assert 0.01 < np.mean(shares) < 0.5
