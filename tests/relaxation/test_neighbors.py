"""Bonds and angles against pymatgen's neighbour list and CHGNet's own graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from chgnet.graph import CrystalGraphConverter
from hypothesis import assume, given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from novelty_metric.relaxation import neighbors as neighbors_module
from novelty_metric.relaxation.neighbors import find_neighbors

REACH, SHORT = 6.0, 3.0


def found(*structures: Structure, reach: float = REACH, short: float = SHORT):
    return find_neighbors(
        [structure.lattice.matrix for structure in structures],
        [structure.cart_coords for structure in structures],
        reach=reach,
        short=short,
    )


def random_crystal(seed: int, n_sites: int, skew: float) -> Structure:
    """Random sites inside and outside a cell of random shape."""
    rng = np.random.default_rng(seed)
    matrix = np.diag(rng.uniform(2.5, 7, 3)) + rng.uniform(-skew, skew, (3, 3))
    frac = rng.uniform(-2, 3, (n_sites, 3))
    return Structure(Lattice(matrix), ["Cu"] * n_sites, frac)


def pymatgen_bonds(
    structure: Structure, reach: float
) -> Counter[tuple[int, int, tuple[float, ...]]]:
    """Every bond in both directions, from pymatgen."""
    centers, others, images, _ = structure.get_neighbor_list(reach, numerical_tol=1e-8)
    vectors = (
        structure.cart_coords[others]
        + images @ structure.lattice.matrix
        - structure.cart_coords[centers]
    )
    return Counter(
        (int(one), int(other), tuple(np.round(vector, 5) + 0.0))
        for one, other, vector in zip(centers, others, vectors, strict=True)
    )


@given(st.integers(0, 10**6), st.integers(1, 7), st.floats(0, 4), st.floats(1, 7))
def test_bonds_agree_with_pymatgen(seed: int, n_sites: int, skew: float, reach: float) -> None:
    structure = random_crystal(seed, n_sites, skew)
    assume(structure.volume > 4 * n_sites)
    # No bond length is so close to the cutoff that rounding matters.
    _, _, _, distances = structure.get_neighbor_list(reach + 0.01)
    assume(np.abs(distances - reach).min(initial=1) > 1e-6)
    neighbors = found(structure, reach=reach, short=reach / 2)
    ours: Counter[tuple[int, int, tuple[float, ...]]] = Counter()
    for one, other, vector in zip(
        neighbors.first.tolist(), neighbors.second.tolist(), neighbors.vectors, strict=True
    ):
        ours[one, other, tuple(np.round(vector, 5) + 0.0)] += 1
        ours[other, one, tuple(np.round(-vector, 5) + 0.0)] += 1
    assert sum(ours.values()) == len(pymatgen_bonds(structure, reach).keys() | ours.keys())
    assert ours == pymatgen_bonds(structure, reach)
    lengths = np.linalg.norm(neighbors.vectors, axis=1)
    assert (lengths[: neighbors.n_short] < reach / 2).all()
    assert (lengths[neighbors.n_short :] >= reach / 2).all()


@pytest.mark.parametrize("seed", range(8))
def test_angles_agree_with_chgnet(seed: int) -> None:
    structure = random_crystal(seed, 1 + seed, 1.5)
    structure.scale_lattice(18.0 * len(structure))
    graph = CrystalGraphConverter()(structure)
    neighbors = found(structure)
    assert 2 * neighbors.n_bonds == len(graph.atom_graph)
    assert 2 * neighbors.n_pairs == len(graph.bond_graph)
    apexes = Counter(graph.bond_graph[:, 0].tolist()) if neighbors.n_pairs else Counter()
    assert {site: 2 * count for site, count in Counter(neighbors.apex.tolist()).items()} == apexes


def test_both_bonds_of_an_angle_share_its_apex() -> None:
    neighbors = found(random_crystal(3, 6, 1.0))
    assert neighbors.n_pairs > 10
    for left, right, apex, sign in zip(
        neighbors.left, neighbors.right, neighbors.apex, neighbors.sign, strict=True
    ):
        ends = [{neighbors.first[bond], neighbors.second[bond]} for bond in (left, right)]
        assert apex in ends[0] & ends[1]
        if left == right:  # the two directions of a bond between a site and its own image
            assert neighbors.first[left] == neighbors.second[left] and sign == -1


def test_batch_is_the_concatenation_of_its_crystals() -> None:
    crystals = [random_crystal(seed, 1 + seed, 1.0) for seed in range(5)]
    together = found(*crystals)
    start = 0
    for place, structure in enumerate(crystals):
        alone = found(structure)
        mine = together.crystal == place
        assert mine.sum() == alone.n_bonds
        assert Counter(together.first[mine] - start) == Counter(alone.first)
        of_mine = (together.apex >= start) & (together.apex < start + len(structure))
        assert of_mine.sum() == alone.n_pairs
        start += len(structure)


def test_coincident_sites_have_no_bond_and_isolated_sites_are_counted() -> None:
    twice = Structure(Lattice.cubic(20), ["Na", "Na", "Cl"], [[0, 0, 0], [0, 0, 0], [0.1, 0, 0]])
    neighbors = found(twice)
    assert neighbors.n_bonds == 2 and neighbors.n_alone.tolist() == [0]
    far = Structure(Lattice.cubic(20), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert found(far, twice).n_alone.tolist() == [2, 0]


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_cell_without_volume_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no volume"):
        find_neighbors([matrix], [np.zeros((1, 3))], reach=REACH, short=SHORT)


@pytest.mark.parametrize(
    "structure",
    [
        Structure(Lattice.cubic(6), ["H"] * 216, np.indices((6, 6, 6)).reshape(3, -1).T / 6),
        Structure(Lattice.cubic(0.3), ["H"], [[0, 0, 0]]),
        Structure(
            Lattice.orthorhombic(0.2, 60, 60),
            ["Na"] * 300,
            [[0, i / 20, j / 15] for i in range(20) for j in range(15)],
        ),
    ],
    ids=["dense", "tiny", "flat"],
)
def test_crowded_crystals_are_refused(structure: Structure) -> None:
    with pytest.raises(ValueError, match="the atoms are too crowded"):
        found(structure)
    with pytest.raises(ValueError, match="the atoms are too crowded"):
        found(random_crystal(3, 6, 1.0), structure)


def test_cell_with_too_many_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors_module, "MOST_IMAGES", 500)
    with pytest.raises(ValueError, match="500 images"):
        found(Structure(Lattice.cubic(1.5), ["Fe"], [[0, 0, 0]]))


def test_three_hundred_atoms_are_below_the_limit() -> None:
    many = Structure(
        Lattice.orthorhombic(13, 16, 26),
        ["Fe"] * 300,
        [[i / 5, j / 6, k / 10] for i in range(5) for j in range(6) for k in range(10)],
    )
    neighbors = found(many)
    assert 10_000 < neighbors.n_bonds + neighbors.n_pairs < neighbors_module.MOST_NEIGHBORS / 2
