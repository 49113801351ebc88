"""AMD calculated by hand and its invariances; search and density compared with simple loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation
from scipy.stats import mannwhitneyu

from novelty_metric.analysis.amd import average_minimum_distances, reference_fingerprints
from novelty_metric.analysis.fingerprints import (
    denser_than,
    fingerprint_analysis,
    is_of_symmetry,
)
from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import CrystalResult, Verdict


def shells(*pairs: tuple[int, float]) -> list[float]:
    return [distance for count, distance in pairs for _ in range(count)]


def test_amd_calculated_by_hand() -> None:
    cube = np.eye(3) * 2.0
    simple = average_minimum_distances(cube, np.zeros((1, 3)), 32)
    want = shells((6, 2.0), (12, 2 * math.sqrt(2)), (8, 2 * math.sqrt(3)), (6, 4.0))
    np.testing.assert_allclose(simple, want, rtol=1e-12)
    # CsCl without elements: the body-centred cubic lattice.
    centred = average_minimum_distances(cube, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), 14)
    np.testing.assert_allclose(centred, shells((8, math.sqrt(3)), (6, 2.0)), rtol=1e-12)
    face = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=float)
    close = average_minimum_distances(face, np.zeros((1, 3)), 42)
    want = shells((12, math.sqrt(2)), (6, 2.0), (24, math.sqrt(6)))
    np.testing.assert_allclose(close, want, rtol=1e-12)
    # A chain with alternating distances of 1 Å and 3 Å, far from others: the mean of both sites.
    chain = average_minimum_distances(
        np.diag([4.0, 50.0, 50.0]), np.array([[0, 0, 0], [0.25, 0, 0]]), 4
    )
    np.testing.assert_allclose(chain, [1, 3, 4, 4], rtol=1e-12)


def plain_amd(lattice: np.ndarray, sites: np.ndarray, k: int) -> np.ndarray:
    """All images within many cells, without a radius."""
    steps = np.array(list(itertools.product(range(-7, 8), repeat=3)))
    rows = []
    for i, site in enumerate(sites):
        images = (sites[None] + steps[:, None] - site).reshape(-1, 3) @ lattice
        distances = np.sort(np.linalg.norm(images, axis=1))
        assert distances[0] < 1e-9, i
        rows.append(distances[1 : k + 1])
    return np.mean(rows, axis=0)


@st.composite
def crystals(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    lengths = [draw(st.floats(2.5, 6.0)) for _ in range(3)]
    angles = [draw(st.floats(65.0, 115.0)) for _ in range(3)]
    n_sites = draw(st.integers(1, 4))
    numbers = st.floats(-1.5, 1.5, allow_nan=False)
    coords = [[draw(numbers) for _ in range(3)] for _ in range(n_sites)]
    return Lattice.from_parameters(*lengths, *angles).matrix, np.array(coords)


@settings(max_examples=8)
@given(crystals())
def test_agrees_with_a_simple_loop(crystal: tuple[np.ndarray, np.ndarray]) -> None:
    lattice, sites = crystal
    found = average_minimum_distances(lattice, sites, 30)
    np.testing.assert_allclose(found, plain_amd(lattice, sites, 30), atol=1e-9)


@given(crystals(), st.integers(0, 10**6))
def test_amd_does_not_depend_on_the_description(
    crystal: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    lattice, sites = crystal
    chance = np.random.default_rng(seed)
    want = average_minimum_distances(lattice, sites)
    turned = lattice @ Rotation.random(random_state=seed).as_matrix()
    moved = chance.permutation(sites) + chance.random(3)
    np.testing.assert_allclose(average_minimum_distances(turned, moved), want, atol=1e-8)
    structure = Structure(Lattice(lattice), ["H"] * len(sites), sites)
    structure.make_supercell([[1, 1, 0], [0, 2, 0], [0, 0, 1]], to_unit_cell=False)
    again = average_minimum_distances(structure.lattice.matrix, structure.frac_coords)
    np.testing.assert_allclose(again, want, atol=1e-8)


def test_flat_and_slanted_cells() -> None:
    # The same lattice with a nearly flat choice of vectors.
    slanted = np.array([[1, 0, 0], [0, 1, 0], [9, 7, 1]], dtype=float)
    plain = average_minimum_distances(np.eye(3), np.zeros((1, 3)))
    np.testing.assert_allclose(average_minimum_distances(slanted, np.zeros((1, 3))), plain)


@pytest.mark.parametrize(
    ("lattice", "sites"), [(np.eye(3), np.empty((0, 3))), (np.zeros((3, 3)), np.zeros((1, 3)))]
)
def test_without_crystals(lattice: np.ndarray, sites: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a crystal needs at least one site"):
        average_minimum_distances(lattice, sites)


def test_agrees_with_the_package_of_the_authors() -> None:
    """Optional: its licence prevents a dependency."""
    amd = pytest.importorskip("amd")
    chance = np.random.default_rng(3)
    for _ in range(5):
        lattice = Lattice.from_parameters(4.1, 5.2, 6.3, 80, 95, 105).matrix
        sites = chance.random((5, 3))
        want = amd.AMD(amd.PeriodicSet(sites @ lattice, lattice), 100)
        np.testing.assert_allclose(average_minimum_distances(lattice, sites), want, atol=1e-8)


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=12),
    st.lists(st.integers(0, 6), min_size=2, max_size=12),
)
def test_probability_of_higher_density(ours: list[int], theirs: list[int]) -> None:
    found = denser_than(np.array(ours, dtype=float), np.array(theirs, dtype=float))
    assert found is not None and found.low is not None and found.high is not None
    # SciPy's U counts the pairs in which the first value is greater.
    greater = mannwhitneyu(ours, theirs).statistic / (len(ours) * len(theirs))
    assert found.value == pytest.approx(1 - greater)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_interval_has_its_nominal_coverage() -> None:
    chance = np.random.default_rng(1)
    long = denser_than(chance.normal(0, 1, 200_000), chance.normal(0.8, 1, 200_000))
    assert long is not None
    truth = long.value
    hits = 0
    for _ in range(400):
        found = denser_than(chance.normal(0, 1, 25), chance.normal(0.8, 1, 400))
        assert found is not None and found.low is not None and found.high is not None
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / 400 <= 0.99


def test_density_of_one_sample_and_of_no_sample() -> None:
    assert denser_than(np.array([]), np.array([1.0])) is None
    one = denser_than(np.array([0.5]), np.array([1.0, 2.0]))
    assert one is not None and one.value == 1.0 and one.low is None


def test_high_and_low_symmetry() -> None:
    groups = np.array([0, 1, 74, 75, 230])
    assert is_of_symmetry(groups, "high").tolist() == [False, False, False, True, True]
    assert is_of_symmetry(groups, "low").tolist() == [False, True, True, False, False]
    assert is_of_symmetry(groups, "all").all()
    with pytest.raises(ValueError, match="no symmetry"):
        is_of_symmetry(groups, "medium")


def cube(a: float) -> Structure:
    return Structure(Lattice.cubic(a), ["Po"], [[0, 0, 0]])


def analysis_of(rows: list[tuple[Structure, Verdict, str | None]], reference: Reference):
    results = [
        CrystalResult(
            id=str(i),
            smact_valid=True,
            eligible=True,
            verdict=verdict,
            parent_id=parent,
            space_group=221,
            structures=CrystalRecords(generated=CrystalRecord.of(crystal)),
        )
        for i, (crystal, verdict, parent) in enumerate(rows)
    ]
    context = RunContext(
        protocol=Protocol.named("paper"),
        reference_name="r",
        reference_size=len(reference),
        crystals_hash="",
        store_hash="",
    )
    return fingerprint_analysis(
        NoveltyReport.from_results(results, context), reference, k=6, neighbours=2
    )


def test_local_radii_calculated_by_hand() -> None:
    # Simple cubic crystals on a line: distances are differences of cell lengths.
    reference = Reference.from_structures([cube(a) for a in (3.0, 3.1, 3.3, 5.0)], list("abcd"))
    found = analysis_of(
        [
            (cube(3.11), Verdict.UNMATCHED, "b"),
            (cube(3.11), Verdict.DUPLICATE, "b"),
            (cube(4.9), Verdict.DUPLICATE, "d"),
        ],
        reference,
    )
    assert found.nearest_ids == ("b", "b", "d")
    np.testing.assert_allclose(found.nearest, [0.01, 0.01, 0.1])
    # Second of b, a, c, d; of a, c, d without the copied crystal; of c, b, a without d.
    np.testing.assert_allclose(found.radii, [0.11, 0.19, 1.8])
    # For each reference crystal, the second nearest of the others.
    np.testing.assert_allclose(found.reference_radii, [0.3, 0.2, 0.3, 1.9])
    frame = found.frame()
    assert frame["denser"].tolist() == [1.0, 1.0, 0.25]
    density = found.density(Verdict.DUPLICATE, "high")
    assert density.n == 2 and density.denser is not None
    assert density.denser.value == pytest.approx((1.0 + 0.25) / 2)
    assert found.density(Verdict.DUPLICATE, "low").denser is None
    assert len(found.density_frame()) == 12


def test_projection_keeps_distances_on_a_line() -> None:
    reference = Reference.from_structures([cube(a) for a in (3.0, 3.1, 3.3, 5.0)])
    found = analysis_of([(cube(4.0), Verdict.UNMATCHED, None)], reference)
    there, ours = found.project()
    np.testing.assert_allclose(np.diff(there[:, 0]), np.sqrt(6) * np.diff([3.0, 3.1, 3.3, 5.0]))
    np.testing.assert_allclose(ours[0, 0] - there[0, 0], np.sqrt(6))
    with pytest.raises(ValueError, match="no projection"):
        found.project("tsne")  # type: ignore[arg-type]


def test_umap() -> None:
    pytest.importorskip("umap")
    reference = Reference.from_structures([cube(3 + 0.03 * i) for i in range(40)])
    found = analysis_of([(cube(4.0), Verdict.UNMATCHED, None)], reference)
    there, ours = found.project("umap")
    assert there.shape == (40, 2) and ours.shape == (1, 2) and np.isfinite(there).all()


def test_reference_fingerprints_agree_with_its_crystals() -> None:
    reference = Reference.from_structures([cube(3.0), cube(4.0)])
    rows = reference_fingerprints(reference, 6)
    np.testing.assert_allclose(rows, [[3.0] * 6, [4.0] * 6])
