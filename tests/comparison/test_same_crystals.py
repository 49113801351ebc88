"""Identical crystals of two reports, recognised by their structures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from novelty_metric.comparison.same_crystals import MOST_COMPARED, pairs_by_content
from novelty_metric.crystal_records import CrystalRecord


def crystal(seed: int, n_sites: int = 6) -> Structure:
    """Atoms on a perturbed grid in a triclinic cell."""
    rng = np.random.default_rng(seed)
    grid = np.array([[i, j, k] for i in (0, 0.5) for j in (0, 0.5) for k in (0, 0.5)])[:n_sites]
    lattice = Lattice.from_parameters(*rng.uniform(4, 6, 3), *rng.uniform(80, 100, 3))
    species = rng.choice(["Na", "Cl", "O"], n_sites)
    return Structure(lattice, species, grid + rng.uniform(0, 0.1, (n_sites, 3)))


def record(structure: Structure) -> CrystalRecord:
    return CrystalRecord.of(structure)


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_equivalent_descriptions_are_the_same_crystal(seed: int, n_sites: int) -> None:
    """Another order of sites, other images, a rotated cell, rounded numbers."""
    one = crystal(seed, n_sites)
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_sites)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    other = Structure(
        Lattice(np.round(one.lattice.matrix @ turn, 4)),
        [one.species[i] for i in order],
        np.round(one.frac_coords[order], 4) + rng.integers(-2, 3, (n_sites, 3)),
    )
    assert pairs_by_content([record(one)], [record(other)]) == [(0, 0)]


@pytest.mark.parametrize("change", ["element", "place", "length", "angle", "exchange"])
def test_other_crystals_are_different(change: str) -> None:
    one = crystal(3)
    other = one.copy()
    if change == "element":
        other.replace(0, "K")
    elif change == "place":
        other.translate_sites([2], [0.02, 0, 0])
    elif change == "exchange":  # of two elements, so the composition is unchanged
        i = next(i for i in range(6) if one[i].specie != one[0].specie)
        other.replace(0, one[i].specie)
        other.replace(i, one[0].specie)
    else:
        parameters = list(one.lattice.parameters)
        parameters[{"length": 1, "angle": 4}[change]] += 0.1
        other = Structure(Lattice.from_parameters(*parameters), one.species, one.frac_coords)
    assert pairs_by_content([record(one)], [record(other)]) == []


def test_each_crystal_is_in_one_pair() -> None:
    a, b = record(crystal(1)), record(crystal(2))
    assert pairs_by_content([a, None, b, a], [b, a, a, a, None]) == [(2, 0), (0, 1), (3, 2)]
    assert pairs_by_content([], [a]) == pairs_by_content([a], []) == []


def test_number_of_comparisons_is_limited() -> None:
    def row(place: float) -> CrystalRecord:
        return record(Structure(Lattice.cubic(9), ["Na", "Cl"], [[0, 0, 0], [place, 0.5, 0.5]]))

    rows = [row(0.1 + i / 300) for i in range(MOST_COMPARED + 1)]
    assert pairs_by_content(rows, [rows[-2]]) == [(MOST_COMPARED - 1, 0)]
    assert pairs_by_content(rows, [rows[-1]]) == []
