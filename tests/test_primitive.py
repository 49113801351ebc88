"""The primitive cell agrees exactly with pymatgen, also where pymatgen needs gigabytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from novelty_metric import primitive as module
from novelty_metric.crystal import reduce
from novelty_metric.errors import CrystalError
from novelty_metric.primitive import niggli, primitive


def assert_same(structure: Structure) -> int:
    """Both primitive cells are equal bit by bit; returns their number of sites."""
    ours, theirs = primitive(structure), structure.get_primitive_structure()
    assert np.array_equal(ours.lattice.matrix, theirs.lattice.matrix)
    assert np.array_equal(ours.frac_coords, theirs.frac_coords)
    assert ours.species == theirs.species
    return len(ours)


def chain(n_sites: int, cell: Lattice, shake: float = 0.0) -> Structure:
    """Iron atoms along the third axis, with random displacements of `shake` (Å)."""
    sites = np.zeros((n_sites, 3))
    sites[:, 2] = np.arange(n_sites) / n_sites
    sites += np.random.default_rng(3).normal(size=sites.shape) * shake / cell.abc
    return Structure(cell, ["Fe"] * n_sites, sites)


@given(
    edges=st.tuples(*3 * [st.floats(0.3, 6)]),
    angles=st.tuples(*3 * [st.floats(70, 110)]),
    repeats=st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 3, 1), (2, 1, 2), (1, 2, 3), (4, 1, 1)]),
    shake=st.sampled_from([0.0, 0.01, 0.1, 0.2, 0.4]),
    seed=st.integers(0, 10**6),
)
def test_agrees_with_pymatgen(
    edges: tuple[float, ...],
    angles: tuple[float, ...],
    repeats: tuple[int, int, int],
    shake: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    n_sites = int(rng.integers(1, 4))
    elements = rng.choice(["Na", "Cl"], n_sites).tolist()
    cell = Lattice.from_parameters(*edges, *angles)
    structure = Structure(cell, elements, rng.random((n_sites, 3))) * repeats
    moved = rng.normal(size=(len(structure), 3)) * shake
    assert_same(
        Structure(
            structure.lattice,
            structure.species,
            structure.cart_coords + moved,
            coords_are_cartesian=True,
        )
    )


def test_agrees_with_pymatgen_on_real_crystals(shared_data: Path) -> None:
    cifs = pq.read_table(shared_data / "mp_20" / "test.parquet", columns=["cif"])["cif"]
    smaller = 0
    for cif in cifs.take(list(range(0, 9046, 60))).to_pylist():
        structure = Structure.from_str(cif, fmt="cif")
        smaller += assert_same(structure) < len(structure)
        assert assert_same(structure * (2, 1, 1)) <= len(structure)
    assert smaller > 0


@pytest.mark.parametrize("n_sites", [24, 29, 36])
@pytest.mark.parametrize("shake", [0.0, 0.1, 0.2])
def test_agrees_with_pymatgen_for_nearly_periodic_atoms(n_sites: int, shake: float) -> None:
    found = assert_same(chain(n_sites, Lattice.orthorhombic(3, 3, 3 * n_sites), shake))
    assert found == 1 or shake > 0


def test_hundreds_of_nearly_periodic_atoms_of_one_element() -> None:
    """Pymatgen would need arrays of more than 2 GB."""
    shaken = chain(288, Lattice.orthorhombic(3, 3, 864), 0.1)
    assert len(primitive(shaken)) == 288
    assert len(primitive(chain(293, Lattice.orthorhombic(3, 3, 879)))) == 1


def test_cell_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    structure = chain(24, Lattice.orthorhombic(3, 3, 72), 0.1)
    monkeypatch.setattr(module, "MOST_COMPARISONS", 100)
    with pytest.raises(CrystalError, match="could not be reduced: too many possible primitive"):
        reduce(structure)


def test_too_long_cells_are_refused() -> None:
    """Pymatgen lists all lattice points within the longest vector, about 10⁶ per gigabyte."""
    with pytest.raises(CrystalError, match="a cell of 900 Å with a volume of 900 Å³"):
        niggli(chain(2, Lattice.orthorhombic(1, 1, 900)))
    long = chain(2, Lattice.orthorhombic(3, 3, 900))
    assert niggli(long) == long.get_reduced_structure("niggli")
