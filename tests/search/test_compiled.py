"""Further results of the compiled pair test, and the ways to compile it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_access import KernelsFromPython
from pymatgen.core import Lattice, Structure
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search import compiled
from novelty_metric.search.cells import FirstMatch
from novelty_metric.search.compiled import CompiledTest, PointsAround, lattice_points
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.matching import Matching, commensurate
from novelty_metric.search.pettifor import map_cost, pettifor_numbers

kernels = KernelsFromPython(
    pytest.importorskip("novelty_metric.search.kernels", reason="numba is not installed")
)

ROOT = Path(__file__).resolve().parents[2]


def real_cost(generated: Structure, parent: Structure, sites: tuple[int, ...]) -> float:
    ours = pettifor_numbers(generated.atomic_numbers)[list(sites)]
    theirs = pettifor_numbers(parent.atomic_numbers)
    return map_cost(np.repeat(theirs, len(sites) // len(theirs)), ours)


def test_first_match_obeys_its_bound_and_is_found_from_its_lattice(
    reference: Reference, diffcsp: list[Structure], substituted: list[Structure], protocol: Protocol
) -> None:
    matching = Matching(protocol)
    accepted = exact = later = other_sites = from_there = smaller = larger = 0
    for generated in [*diffcsp[::9], *substituted[::8], *list(reference)[::60]]:
        test = CompiledTest(kernels, generated, reference, protocol)
        n = len(generated)
        indices = np.array([i for i, s in enumerate(reference) if commensurate(n, len(s))])
        for index in indices[test.passes(indices)[0]].tolist():
            parent = reference.structure(index)
            match = matching.framework_match(generated, parent)
            finished, bound, first = test.first_match(index)
            assert finished
            if match is None:
                continue
            cost = real_cost(generated, parent, match.sites)
            assert bound <= cost
            assert first is not None
            assert matching.framework_match(generated, parent, first) == match
            assert first.surely_near
            # The match can start at the predicted site; a search from the next site finds another
            # one.
            beyond = matching.framework_match(
                generated, parent, first._replace(site=first.site + 1)
            )
            from_there += beyond != match
            accepted += 1
            exact += bound == cost
            later += not np.array_equal(first.matrix, np.eye(3))
            other_sites += first.site > 0
            smaller += n < len(parent)
            larger += n > len(parent)
    assert accepted > 60
    assert exact > 0.9 * accepted
    assert min(later, other_sites, smaller, larger) > 5
    assert from_there > 0.9 * accepted


def test_order_of_lattice_points_agrees_with_pymatgen() -> None:
    rng = np.random.default_rng(9)
    for _ in range(40):
        lattice = Lattice.from_parameters(*rng.uniform(2, 9, 3), *rng.uniform(65, 115, 3))
        radius = float(rng.uniform(0.5, 2)) * max(lattice.lengths)
        want = lattice.get_points_in_sphere([[0, 0, 0]], [0, 0, 0], radius, zip_results=False)[0]
        assert np.array_equal(lattice_points(lattice.matrix, radius), np.rint(want))


def test_shared_lattice_points_agree_with_separate_ones() -> None:
    rng = np.random.default_rng(10)
    face_centred = Lattice([[0, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]])
    lattices = [Lattice.cubic(3.9), face_centred, Lattice.hexagonal(3.2, 5.1)]
    for _ in range(30):
        lattices += [Lattice.from_parameters(*rng.uniform(2, 9, 3), *rng.uniform(65, 115, 3))]
    listed = shared = 0
    for lattice in lattices:
        points = PointsAround(lattice.matrix)
        on_spheres = np.array(lattice.lengths) * rng.choice([1, 2, np.sqrt(2), np.sqrt(3)], 3)
        for radius in [*rng.uniform(2, 14, 12), *on_spheres, *on_spheres * (1 + 1e-12)]:
            found = points.within(float(radius))
            assert np.array_equal(found, lattice_points(lattice.matrix, float(radius)))
            listed += 1
        shared += points._reach > 0
    assert listed > 500 and shared == len(lattices)


def test_lattice_points_in_different_order_are_not_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, lattice = lattice_points, Lattice.cubic(3.9).matrix

    def sometimes_reversed(of: np.ndarray, radius: float) -> np.ndarray:
        return real(of, radius)[:: -1 if radius > 9 else 1]

    monkeypatch.setattr(compiled, "lattice_points", sometimes_reversed)
    points = PointsAround(lattice)
    for radius in (5.0, 6.0, 8.0, 7.5, 9.5, 4.1):
        assert np.array_equal(points.within(radius), sometimes_reversed(lattice, radius))


def test_wrong_prediction_of_the_first_match_changes_nothing(
    reference: Reference, protocol: Protocol
) -> None:
    matching = Matching(protocol)
    for structure in list(reference)[::50]:
        want = matching.framework_match(structure, structure)
        assert want is not None
        not_met = FirstMatch(9 * np.eye(3, dtype=np.int64), (0, 1, 2), len(structure) - 1, False)
        assert matching.framework_match(structure, structure, not_met) == want


def test_work_limit_leaves_the_search_unfinished(
    reference: Reference,
    diffcsp: list[Structure],
    protocol: Protocol,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = ParentSearch(reference, protocol)
    generated = max(diffcsp, key=len)
    whole = search.parents(generated, None)
    indices = np.flatnonzero([commensurate(len(generated), n) for n in reference.n_sites.tolist()])
    certain = search.compiled_test(generated).passes(indices)
    assert not certain[1].any()
    monkeypatch.setattr(compiled, "MOST_WORK", 0)
    monkeypatch.setattr(compiled, "MOST_WORK_OF_A_PAIR", 20)
    passed, work_limit_reached = search.compiled_test(generated).passes(indices)
    assert work_limit_reached.sum() > 5
    # Decided pairs are unchanged; the others reached the limit.
    assert np.array_equal(passed[~work_limit_reached], certain[0][~work_limit_reached])
    assert not passed[work_limit_reached].any()
    result = search.parents(generated, None)
    assert any(text.startswith("too much to compare") for text in result.unfinished)
    assert not any(text.startswith("too much") for text in whole.unfinished)


def test_work_on_hundreds_of_sites_in_a_small_cell_is_limited(
    thorough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not thorough:
        monkeypatch.setattr(compiled, "MOST_WORK", compiled.MOST_WORK // 10)
    per_side = np.stack(np.meshgrid(*[np.arange(7)] * 3), -1).reshape(-1, 3)[:300]
    large = Structure(Lattice.cubic(7 * 2.9), ["Fe"] * 300, per_side / 7)
    faces = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    small = Structure(Lattice.cubic(4.9), ["Cu"] * 4, faces).get_primitive_structure()
    search = ParentSearch(Reference.from_structures([small]), Protocol())
    test = search.compiled_test(large)
    passed, work_limit_reached = test.passes(np.array([0]))
    assert work_limit_reached.all() or not passed.any()
    assert test._work[0] < 2 * compiled.MOST_WORK


def marked(scratch: Any, allowed: np.ndarray) -> None:
    """Mark pairs in `Scratch`, with sites so close that no distance refuses a pair."""
    n, width = len(allowed), kernels.row_length(len(allowed))
    scratch.allowed[: n * width] = 0
    for i, j in np.argwhere(allowed):
        scratch.allowed[i * width + j] = 1
    scratch.first_reduced[0, :, :n] = scratch.second_reduced[0, :, :n] = 0.25
    scratch.reductions.cells[0] = np.eye(3)
    scratch.reductions.windows[0] = 0.3
    scratch.reductions.safe[0] = 0.2


@pytest.mark.parametrize("least", [1, 250])
def test_settled_sites_are_common_to_all_assignments(least: int) -> None:
    rng = np.random.default_rng(5)
    infeasible = settled = open_ones = 0
    for _ in range(150 if least == 1 else 8):
        n = int(rng.integers(least, least + 11))
        allowed = rng.random((n, n)) < rng.uniform(0.1, 0.6) * min(1, 12 / n)
        if rng.random() < 0.5:
            allowed[np.arange(n), rng.permutation(n)] = True
        found = maximum_bipartite_matching(csr_matrix(allowed), perm_type="column")
        scratch = kernels.Scratch.empty(n)
        marked(scratch, allowed)
        left = kernels.settle(n, 0, 0, np.inf, scratch)
        if (found < 0).any():
            assert left < 0 or not kernels.assign_the_rest(n, left, 0, 0, scratch)
            infeasible += 1
            continue
        assert left >= 0
        columns = scratch.settled[1].copy()
        for i in np.flatnonzero(columns >= 0):
            without = allowed.copy()
            without[i, columns[i]] = False
            other = maximum_bipartite_matching(csr_matrix(without), perm_type="column")
            assert (other < 0).any()
        settled += int((columns >= 0).sum())
        open_ones += left
        assert left == (columns < 0).sum()
        if left:
            assert kernels.assign_the_rest(n, left, 0, 0, scratch)
        assert sorted(scratch.settled[1]) == list(range(n))
        assert allowed[np.arange(n), scratch.settled[1]].all()
    assert infeasible > 0 and open_ones > 0
    assert settled > 50 or least > 1


def test_distant_settled_sites_refuse_the_pair() -> None:
    n, scratch = 4, kernels.Scratch.empty(4)
    apart = np.array([[0.0, 0, 0], [0.1, 0, 0], [0, -0.1, 0], [0, 0, 0.2]])
    spread = ((apart - apart.mean(axis=0)) ** 2).sum()
    for factor, refused in ((0.999, True), (1.001, False)):
        marked(scratch, np.eye(n, dtype=bool))
        scratch.first_reduced[0, :, :n] = 0.25 + apart.T
        left = kernels.settle(n, 0, 0, factor * spread, scratch)
        assert left == (-1 if refused else 0)


def test_marks_agree_with_wrapped_distances() -> None:
    rng = np.random.default_rng(4)
    for n in [1, 2, 7, 8, 9, 17]:
        first, second = rng.random((2, 3, n))
        scratch = kernels.Scratch.empty(n)
        kernels.differences(first, second, n, scratch.apart[0])
        for start in range(n):
            window = rng.choice([0.1, 0.3, 0.5, 0.7], 3)
            steps = first[:, None, :] - second[:, :, None]
            steps = steps - (first[:, start] - second[:, 0])[:, None, None]
            steps = np.abs(steps - np.rint(steps))
            want = (steps <= window[:, None, None] + 1e-7).all(axis=0)
            covered = kernels.mark(scratch.apart[0], n, start, window, 1e-7, scratch)
            found = scratch.allowed[: n * kernels.row_length(n)].reshape(n, -1)
            assert np.array_equal(found[:, :n].astype(bool), want)
            assert not found[:, n:].any()
            assert covered == want.any(axis=1).all()
            if covered:
                full = kernels.count_marked(n, scratch)
                assert full == want.any(axis=0).all()
                assert np.array_equal(scratch.in_row[:n], want.sum(axis=1))
                assert np.array_equal(scratch.in_column[:n], want.sum(axis=0))


def test_least_site_cost_is_the_minimum_over_marked_permutations() -> None:
    rng = np.random.default_rng(6)
    for _ in range(60):
        n = int(rng.integers(2, 6))
        scratch = kernels.Scratch.empty(n)
        allowed = rng.random((n, n)) < 0.5
        allowed[np.arange(n), rng.permutation(n)] = True
        marked(scratch, allowed)
        numbers = rng.choice([3, 40, 96, 255], (2, n))
        scratch.labels[:] = numbers
        sums = []
        for order in itertools.permutations(range(n)):
            if all(allowed[i, j] for i, j in enumerate(order)):
                ours, theirs = numbers[0][list(order)].astype(np.uint8), numbers[1].astype(np.uint8)
                sums.append(n * map_cost(theirs, ours))
        assert kernels.least_site_cost(scratch, n) == pytest.approx(min(sums))


def test_extreme_sums_agree_with_enumeration() -> None:
    rng = np.random.default_rng(7)
    for _ in range(40):
        cell = 0.3 * rng.normal(size=(3, 3)) + 3 * np.eye(3)
        own = rng.normal(size=3)
        low, high = own - rng.uniform(0, 5, 3), own + rng.uniform(0, 5, 3)
        steps = np.array(list(itertools.product(range(-9, 10), repeat=3)))
        sums = own + steps @ cell
        inside = ((sums >= low) & (sums <= high)).all(axis=1)
        squares = (sums[inside] ** 2).sum(axis=1)
        nearest, furthest = kernels._sums_within(own, low, high, cell, np.linalg.inv(cell))
        assert (nearest, furthest) == pytest.approx((squares.min(), squares.max()))
    assert kernels._sums_within(own, own, own, cell, np.linalg.inv(cell)) == pytest.approx(
        (own @ own, own @ own)
    )


def test_assignment_of_integers_with_many_ties() -> None:
    rng = np.random.default_rng(8)
    for n in (2, 5, 9):
        for _ in range(30):
            cost = rng.integers(0, 3, (n, n)).astype(float)
            scratch = kernels.Scratch.empty(n)
            assert kernels.assign(cost, n, scratch)
            rows, columns = linear_sum_assignment(cost)
            assert sorted(scratch.ints[1]) == list(range(n))
            assert cost[rows, scratch.ints[1]].sum() == cost[rows, columns].sum()


@pytest.fixture
def run_in_process(run_python: Callable[..., Any]) -> Callable[..., str]:
    def run(*arguments: str, at: Path = ROOT, **environment: str) -> str:
        done = run_python(*arguments, cwd=at, env={"PYTHONPATH": str(at), **environment})
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return str(done.stdout)

    return run


def test_kernels_without_compilation(run_in_process: Callable[..., str], thorough: bool) -> None:
    here = "tests/search"
    slower = (
        f"{here}/test_kernels.py::test_reduction_agrees_with_pymatgen",
        f"{here}/test_compiled.py::test_settled_sites_are_common_to_all_assignments",
    )
    out = run_in_process(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
        f"{here}/test_engine.py::test_order_and_ties",
        f"{here}/test_engine.py::test_fields_of_a_parent",
        f"{here}/test_kernels.py::test_both_directions_of_supercells",
        f"{here}/test_kernels.py::test_assignment_agrees_with_scipy",
        f"{here}/test_kernels.py::test_supercell_sites_agree_with_pymatgen",
        f"{here}/test_compiled.py::test_distant_settled_sites_refuse_the_pair",
        f"{here}/test_compiled.py::test_marks_agree_with_wrapped_distances",
        f"{here}/test_compiled.py::test_least_site_cost_is_the_minimum_over_marked_permutations",
        *(slower if thorough else ()),
        NUMBA_DISABLE_JIT="1",
    )
    assert ("12 passed" if thorough else "8 passed") in out


def test_compilation_without_a_cache_folder(
    tmp_path: Path, run_in_process: Callable[..., str]
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("no folder can be made below a file")
    script = (
        "import numpy as np\n"
        "from novelty_metric.search.kernels import cheap_bounds\n"
        "print(cheap_bounds.cells(2 * np.eye(3), ltol=0.2, angle_tol=5)[:, 0])\n"
    )
    out = run_in_process("-c", script, NUMBA_CACHE_DIR=str(blocked / "cache"))
    assert out.strip() == "[8.]"


@pytest.mark.slow
def test_change_in_another_kernel_file_is_recompiled(
    tmp_path: Path, run_in_process: Callable[..., str]
) -> None:
    package = tmp_path / "novelty_metric"
    shutil.copytree(
        ROOT / "novelty_metric", package, ignore=shutil.ignore_patterns("__pycache__", "data")
    )
    script = (
        "import numpy as np\n"
        "from novelty_metric.search.kernels import cheap_bounds\n"
        "print(cheap_bounds.cells(2 * np.eye(3), ltol=0.2, angle_tol=5)[:, 0])\n"
    )

    def volume() -> str:
        return run_in_process("-c", script, at=tmp_path).strip()

    assert volume() == volume() == "[8.]"
    (cache,) = (package / "search" / "kernels" / "__pycache__").glob("*.nbi")
    before = cache.read_bytes()
    assert volume() == "[8.]" and cache.read_bytes() == before
    geometry = package / "search" / "kernels" / "geometry.py"
    text = geometry.read_text()
    assert text.count("    return det\n") == 1
    geometry.write_text(text.replace("    return det\n", "    return 2 * det\n"))
    assert volume() == "[16.]"


def test_quick_compilation_compares_options_as_numba_does() -> None:
    from numba.core.compiler import Flags

    from novelty_metric.search.kernels.compilation import quick_compilation

    unset, default, other = Flags(), Flags(), Flags()
    default.nrt = unset.nrt
    other.nrt = not unset.nrt
    flags = (unset, default, other)

    def answers() -> list[tuple[bool, bool]]:
        return [(a == b, hash(a) == hash(b)) for a in flags for b in flags]

    expected, by_numba = answers(), Flags.__eq__
    with quick_compilation():
        assert Flags.__eq__ is not by_numba
        assert answers() == expected
    assert Flags.__eq__ is by_numba
    assert unset == default and unset != other
