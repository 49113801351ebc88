"""Every step ends for extreme crystals, with a verdict or a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from extreme_crystals import few_atoms, many_atoms
from pymatgen.core import Lattice, Structure
from static_relaxer import StaticRelaxer

from novelty_metric import Reference, SubstitutionNovelty, Verdict
from novelty_metric.analysis.amd import average_minimum_distances
from novelty_metric.crystal import clean, reduce
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.search.matching import Matching

SALT = Structure(
    Lattice([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]]),
    ["K", "Br"],
    [[0, 0, 0], [0.5, 0.5, 0.5]],
)


def other_elements(structure: Structure) -> Structure | None:
    """The same sites with exchanged elements; None if `reduce` refuses them."""
    exchanged = {"Na": "K", "Cl": "Br", "Cs": "Rb", "I": "F", "Fe": "Mn", "Cu": "Ag", "C": "Si"}
    species = [exchanged.get(site.specie.symbol, "Pt") for site in structure]
    try:
        return reduce(clean(Structure(structure.lattice, species, structure.frac_coords)))
    except CrystalError:
        return None


def scored(crystals: dict[str, Structure]) -> dict[str, Any]:
    """Rows of the crystals, scored against copies with exchanged elements."""
    exchanged = [other for other in map(other_elements, crystals.values()) if other is not None]
    reference = Reference.from_structures([SALT, *exchanged], name="nasty")
    metric = SubstitutionNovelty(
        reference, "fast", relaxer=StaticRelaxer(), hull="none", scope="all"
    )
    report = metric(
        list(crystals.values()) * 2, [f"{name}{twice}" for twice in "ab" for name in crystals]
    )
    assert len(report.results) == 2 * len(crystals)
    for row in report.results:
        assert row.verdict is not None or row.error
        if row.verdict is Verdict.UNMATCHED:
            assert row.error is None
        if row.structures is not None and row.structures.relaxed is not None:
            relaxed = row.structures.relaxed
            amd = average_minimum_distances(relaxed.lattice, relaxed.frac_coords)
            assert np.isfinite(amd).all()
    return {row.id[:-1]: row for row in report.results}


def test_few_atoms_in_unusual_cells() -> None:
    rows = scored(few_atoms())
    assert rows["two in 60 Å"].verdict is Verdict.SUBSTITUTED
    assert rows["one in 10,000 Å"].verdict is Verdict.SUBSTITUTED
    assert "the cell has no volume" in rows["skewed"].error
    assert "the cell has no volume" in rows["needle, 2 Å, 5,000 Å"].error
    # 650,000 lattice vectors are within reach.
    assert rows["needle, 3 Å"].verdict is Verdict.UNDECIDED


@pytest.mark.slow
def test_up_to_three_hundred_atoms() -> None:
    rows = scored(many_atoms())
    assert rows["salt"].verdict is rows["lattice of 294"].verdict is Verdict.SUBSTITUTED
    assert "could not be reduced" in rows["hydrogen"].error
    assert "could not be reduced" in rows["line, crowded"].error


def test_a_hundred_atoms_of_one_element() -> None:
    """Nearly periodic crystals, including a chain with a prime number of atoms."""
    rng = np.random.default_rng(1)
    sites = np.indices((4, 5, 5)).reshape(3, -1).T / (4, 5, 5)
    shaken = sites + rng.normal(size=sites.shape) * 0.007
    chain = np.stack([np.zeros(97), np.zeros(97), np.arange(97) / 97], axis=1)
    rows = scored(
        {
            "shaken": Structure(Lattice.orthorhombic(12, 15, 15), ["Fe"] * 100, shaken),
            "chain": Structure(Lattice.orthorhombic(3, 3, 291), ["Fe"] * 97, chain),
        }
    )
    assert rows["chain"].verdict is Verdict.SUBSTITUTED


def test_small_cell_is_not_confirmed_in_a_huge_one() -> None:
    """Pymatgen would list two million lattice vectors, and store the angles of all pairs."""
    huge = few_atoms()["two in 60 Å"]
    small = Structure(SALT.lattice, ["Na", "Cl"], SALT.frac_coords)
    matching = Matching(Protocol())
    assert matching.confirm_rms(small, huge) is None
    assert matching.confirm_rms(huge, small) is None
    assert matching.confirm_rms(huge, huge) is not None
