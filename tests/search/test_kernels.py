"""The compiled pair test must never refuse a pair that pymatgen accepts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from crystal_changes import substituted_copy
from kernel_access import KernelsFromPython, furthest_steps_of
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from pymatgen.util.coord import lattice_points_in_supercell
from scipy.optimize import linear_sum_assignment

from novelty_metric.crystal import symmetry
from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.matching import Matching, commensurate

kernels = KernelsFromPython(
    pytest.importorskip("novelty_metric.search.kernels", reason="numba is not installed")
)


def test_no_pair_accepted_by_pymatgen_is_refused(
    reference: Reference, diffcsp: list[Structure], substituted: list[Structure], protocol: Protocol
) -> None:
    matching = Matching(protocol)
    accepted = let_through = late = 0
    # Reference crystals have exact symmetry on both sides and therefore most ties.
    for generated in [*diffcsp[::12], *substituted[::10], *list(reference)[::46]]:
        indices = [i for i, s in enumerate(reference) if commensurate(len(generated), len(s))]
        for i, step in zip(
            indices, furthest_steps_of(generated, reference, indices).tolist(), strict=True
        ):
            match = matching.framework_match(generated, reference.structure(i))
            assert match is None or step == kernels.LET_THROUGH
            accepted += match is not None
            let_through += step == kernels.LET_THROUGH
            late += step >= kernels.NOT_COVERED
    assert accepted > 30
    assert late > accepted + 20
    assert let_through < 1.6 * accepted + 20  # the test must also refuse most other pairs


def test_both_directions_of_supercells(protocol: Protocol) -> None:
    rng = np.random.default_rng(8)
    small = Structure(
        Lattice.from_parameters(4.1, 4.6, 5.3, 84, 97, 103),
        ["Li", "Be", "B"],
        [[0.02, 0.11, 0.3], [0.41, 0.52, 0.77], [0.66, 0.88, 0.13]],
    )
    large = small * [2, 1, 1]
    large.replace(0, "Na")
    large = substituted_copy(large, rng)
    assert (len(small), len(large)) == (3, 6)
    reference = Reference.from_structures([small, large])
    for i in range(2):
        answers = furthest_steps_of(reference.structure(i), reference, [0, 1])
        assert (answers == kernels.LET_THROUGH).all()


def test_search_gives_equal_results_with_and_without_kernels(
    reference: Reference, diffcsp: list[Structure], substituted: list[Structure], protocol: Protocol
) -> None:
    quick = ParentSearch(reference, protocol)
    plain = ParentSearch(reference, protocol, compiled=False)
    assert quick.compiled
    assert not plain.compiled
    limits = [
        ParentSearch(reference, replace(protocol, max_pair_tests=9), compiled=c)
        for c in (True, False)
    ]
    for structure in [*diffcsp[::6], *substituted[::6]]:
        found = symmetry(structure, symprec=0.01, angle_tolerance=5.0)
        assert quick.parents(structure, found) == plain.parents(structure, found)
        assert limits[0].parents(structure, found) == limits[1].parents(structure, found)


def test_error_without_numba_says_what_to_install(
    reference: Reference, protocol: Protocol, monkeypatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "novelty_metric.search.kernels", None)
    with pytest.raises(InputError, match=r"numba can't be imported .*pip install --upgrade numba"):
        ParentSearch(reference, protocol)


def test_compilation_works_without_a_writable_cache(monkeypatch) -> None:
    real = kernels.numba.njit

    def njit(*arguments, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(*arguments, **options)

    monkeypatch.setattr(kernels.numba, "njit", njit)

    @kernels.compiled
    def double(x: float) -> float:
        return 2 * x

    assert double(3.0) == 6.0


def test_assignment_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 5, 8, 13):
        for kind in range(40):
            cost = rng.random((n, n)) if kind % 2 else rng.integers(0, 4, (n, n)).astype(float)
            cost[rng.random((n, n)) < 0.3 * (kind % 3)] = kernels.FORBIDDEN
            scratch = kernels.Scratch.empty(n)
            rows, columns = linear_sum_assignment(cost)
            total = cost[rows, columns].sum()
            feasible = kernels.assign(cost, n, scratch)
            assert feasible == (total < kernels.FORBIDDEN / 10)
            if feasible:
                assert cost[rows, scratch.ints[1]].sum() == pytest.approx(total)
                reduced = cost - scratch.floats[0][:, None] - scratch.floats[1][None]
                assert reduced.min() > -1e-9
                assert np.allclose(reduced[rows, scratch.ints[1]], 0)
                if kind % 2:
                    assert (scratch.ints[1] == columns).all()


@pytest.mark.parametrize("tied", [False, True])
def test_reduction_agrees_with_pymatgen(tied: bool) -> None:
    rng = np.random.default_rng(1)
    several = 0
    for _ in range(60):
        if tied:
            angles = rng.permutation([[90, 90, 120], [60, 60, 60], [60, 60, 90]][rng.integers(3)])
            lattice = Lattice.from_parameters(3.1, 3.1, rng.choice([3.1, 5.7]), *angles)
        else:
            lattice = Lattice.from_parameters(*rng.uniform(2, 9, 3), *rng.uniform(65, 115, 3))
        scratch = kernels.Scratch.empty(1)
        out = scratch.reductions
        count = kernels.reduced_forms(lattice.matrix, 0.7, out, scratch.small)
        several += count > 1
        assert count == 1 or tied
        want = lattice.lll_matrix
        fits = [p for p in range(count) if np.allclose(out.cells[p], want, atol=1e-6)]
        assert len(fits) == 1
        assert np.allclose(out.backs[fits[0]], lattice.lll_inverse)
    assert (several > 20) == tied


def test_mean_cell_agrees_with_pymatgen() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        one, other = (
            Lattice.from_parameters(*rng.uniform(2, 9, 3), *rng.uniform(65, 115, 3))
            for _ in range(2)
        )
        parameters = [np.empty(6), np.empty(6)]
        for lattice, out in zip((one, other), parameters, strict=True):
            kernels.cell_parameters(lattice.matrix, out)
            assert np.allclose(out, [*lattice.lengths, *np.radians(lattice.angles)])
        average = np.empty((3, 3))
        kernels.average_cell(*parameters, average)
        mean = (np.array(one.parameters) + np.array(other.parameters)) / 2
        assert np.allclose(average, Lattice.from_parameters(*mean).matrix)


def test_supercell_sites_agree_with_pymatgen() -> None:
    rng = np.random.default_rng(3)
    done = 0
    while done < 30:
        matrix = rng.integers(-2, 3, (3, 3))
        fu = abs(round(np.linalg.det(matrix)))
        if not 1 <= fu <= 6:
            continue
        frac = rng.random((3, 3))
        points = lattice_points_in_supercell(matrix)
        want = (frac @ np.linalg.inv(matrix))[:, None] + points[None]
        want = want.reshape(-1, 3)
        have = np.empty((3, 3 * fu))
        assert kernels.supercell_sites(frac, 3, matrix, fu, have, kernels.Scratch.empty(3 * fu))
        assert np.allclose(have.T, want - np.floor(want), atol=1e-9)
        done += 1


def brute_force_operations(structure: Structure, tolerance: float) -> set[tuple[int, ...]]:
    """Signed permutations of the axes that are symmetry operations and fix the first site."""
    matrix = structure.lattice.matrix
    metric = matrix @ matrix.T
    apart = structure.frac_coords - structure.frac_coords[0]
    found = set()
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            operation = np.zeros((3, 3))
            operation[range(3), axes] = signs
            if np.abs(operation @ metric @ operation.T - metric).max() > tolerance * metric.max():
                continue
            steps = (apart @ operation)[:, None] - apart[None]
            nearest = np.abs(steps - np.round(steps)).max(axis=2).min(axis=1)
            if nearest.max() < tolerance:
                found.add((*axes, *signs))
    return found


def test_operations_at_the_first_site_agree_with_enumeration(reference: Reference) -> None:
    cubic = Lattice.cubic(4.0)
    perovskite = Structure(
        cubic,
        ["Sr", "Ti", "O", "O", "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
    )
    from_oxygen = Structure.from_sites([*list(perovskite)[2:], *list(perovskite)[:2]])
    counts = []
    for structure in [perovskite, from_oxygen, *reference]:
        operations = np.empty((48, 6), np.int64)
        count = kernels.operations_of(
            structure.lattice.matrix,
            structure.frac_coords,
            np.array(structure.atomic_numbers),
            len(structure),
            False,
            operations,
        )
        have = {tuple(row) for row in operations[:count].tolist()}
        assert brute_force_operations(structure, 1e-12) <= have
        assert have <= brute_force_operations(structure, 1e-9)
        counts.append(count)
    assert counts[:2] == [48, 16]
    assert 20 < sum(count > 1 for count in counts) < len(counts)


def test_operations_that_keep_the_elements_can_move_the_first_site() -> None:
    chain = [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8], [0.6, 0.2, 0.3]]
    for lattice, names, sites in [
        (Lattice.cubic(3), ["Cs", "Cl"], [[0.1] * 3, [0.6] * 3]),
        (Lattice.tetragonal(3, 5), ["Cs", "Cl", "Cs"], chain),
        (Lattice.tetragonal(3, 5), ["Cs", "Cs", "Cl"], chain),
        (Lattice.orthorhombic(3, 4, 5), ["Li", "Li", "O"], [[0.1, 0, 0], [0.9, 0, 0.5], [0, 0, 0]]),
    ]:
        structure = Structure(lattice, names, sites)
        arguments = structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers
        operations = np.empty((48, 6), np.int64)
        count = kernels.operations_of(*map(np.array, arguments), len(sites), True, operations)
        rotations = SpacegroupAnalyzer(structure, symprec=1e-6).get_symmetry_dataset().rotations
        assert count == len({turn.tobytes() for turn in rotations})


def test_only_equivalent_lattices_share_a_class() -> None:
    rng = np.random.default_rng(4)
    operations = np.empty((48, 6), np.int64)
    count = kernels.operations_of(
        np.diag([3.0, 3.0, 5.0]),
        np.array([[0.1, 0.2, 0.3]]),
        np.array([1]),
        1,
        False,
        operations,
    )
    assert count == 16
    turns = np.zeros((count, 3, 3), np.int64)
    for turn, row in zip(turns, operations[:count].tolist(), strict=True):
        turn[range(3), row[:3]] = row[3:]
    for of_source in (False, True):
        matrices = [rng.integers(-2, 3, (3, 3)) for _ in range(40)]
        codes = [kernels.class_of(m, operations, count, of_source) for m in matrices]
        for (one, code), (other, another) in itertools.combinations(
            zip(matrices, codes, strict=True), 2
        ):
            moved = other @ turns if of_source else turns @ other
            equal = any(np.array_equal(sign * one, m) for m in moved for sign in (1, -1))
            assert (code == another) == equal
        for matrix, code in zip(matrices, codes, strict=True):
            for moved in matrix @ turns if of_source else turns @ matrix:
                assert kernels.class_of(moved, operations, count, of_source) == code
    assert kernels.class_of(np.full((3, 3), 16), operations, count, True) == -1


def test_reductions_that_only_permute_axes_are_predicted() -> None:
    rng = np.random.default_rng(5)
    foretold = 0
    tolerance = np.radians(5.0)
    for _ in range(300):
        target = Lattice.from_parameters(*rng.uniform(2, 9, 3), *rng.uniform(80, 100, 3))
        parameters = np.empty(6)
        kernels.cell_parameters(target.matrix, parameters)
        if not kernels.only_exchanged_by_reduction(parameters, 0.2, tolerance):
            continue
        foretold += 1
        for _ in range(6):
            lengths = np.array(target.lengths) * (1 + rng.uniform(1 / 1.2 - 1, 0.2, 3)) / 2
            lengths += np.array(target.lengths) / 2
            angles = np.array(target.angles) + rng.uniform(-2.5, 2.5, 3)
            order = rng.permutation(3)
            mean = Lattice.from_parameters(*lengths[order], *angles[order])
            exchange = np.abs(mean.lll_mapping)
            assert np.array_equal(exchange.sum(axis=0), np.ones(3))
            assert np.array_equal(exchange.sum(axis=1), np.ones(3))
    assert foretold > 60


def test_inversion_about_the_first_site() -> None:
    frac = np.array([[0.1, 0.2, 0.3], [0.4, 0.9, 0.15], [0.8, 0.5, 0.45]])
    scratch = kernels.scratch_for(3)
    scratch.every[0], scratch.labels[1, :3] = 0, (1, 2, 2)
    coords = np.ascontiguousarray(frac.T)
    assert kernels.inverted_about_first(coords, 3, scratch)
    scratch.every[0] = 1
    assert kernels.inverted_about_first(coords, 3, scratch)
    scratch.labels[1, 2] = 3
    assert not kernels.inverted_about_first(coords, 3, scratch)
    scratch.every[0] = 0
    coords[0, 2] += 1e-6
    assert not kernels.inverted_about_first(coords, 3, scratch)
