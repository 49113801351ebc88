"""The MP2020 corrections, compared with pymatgen's processing of computed entries."""

from __future__ import annotations

import warnings

import pytest
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry
from pymatgen.io.vasp.sets import MPRelaxSet

from novelty_metric.reference import open_reference
from novelty_metric.screening.scales import mp2020_correction


def by_pymatgen(composition: Composition, structure: Structure | None = None) -> float | None:
    """Correction (eV/atom) of a Materials Project entry by pymatgen."""
    anion = max(composition.elements, key=lambda element: element.X).symbol
    settings = MPRelaxSet.CONFIG["INCAR"]["LDAUU"].get(anion, {})
    hubbards = {e.symbol: settings[e.symbol] for e in composition if e.symbol in settings}
    if len(composition) == 1:
        hubbards = {}
    parameters = {"run_type": "GGA+U" if hubbards else "GGA", "hubbards": hubbards}
    if structure is None:
        entry = ComputedEntry(composition, -3.0, parameters=parameters)
    else:
        entry = ComputedStructureEntry(structure, -3.0, parameters=parameters)
    scheme = MaterialsProject2020Compatibility(check_potcar=False, strict_anions="no_check")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processed = scheme.process_entries([entry], on_error="raise")
    return processed[0].correction / composition.num_atoms if processed else None


@pytest.mark.parametrize(
    ("formula", "per_atom"),
    [
        ("Fe2O3", (3 * -0.687 + 2 * -2.256) / 5),  # an oxide, and iron with U
        ("FeF3", (3 * -0.462 + 1 * -2.256) / 4),  # fluorides also have U
        ("FeS", -0.503 / 2),  # sulfides have no U
        ("Fe", 0.0),
        ("NaCl", -0.614 / 2),
        ("Li2O2", 2 * -0.465 / 4),
        ("KO2", 2 * -0.161 / 3),
        ("AlNi", 0.0),
        ("Cl2O7", 7 * -0.687 / 9),  # chlorine is not an anion here
    ],
)
def test_corrections_calculated_by_hand(formula: str, per_atom: float) -> None:
    composition = Composition(formula)
    assert mp2020_correction(composition) == pytest.approx(per_atom, abs=1e-9)
    assert by_pymatgen(composition) == pytest.approx(per_atom, abs=1e-9)


def test_peroxides_are_recognised_by_their_structure() -> None:
    """Li2O2 is a peroxide with O-O bonds of 1.5 Å, and an oxide without them."""
    lattice = Lattice.orthorhombic(6.0, 6.0, 6.0)
    metals = [[0, 0, 0], [0.5, 0.5, 0.5]]
    species = ["Ba", "Ba", "O", "O", "O", "O"]
    bound = Structure(
        lattice,
        species,
        [*metals, [0.4, 0, 0.5], [0.65, 0, 0.5], [0, 0.4, 0.25], [0, 0.65, 0.25]],
    )
    apart = Structure(
        lattice,
        species,
        [*metals, [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.0]],
    )
    composition = Composition("BaO2")
    for structure, per_oxygen in ((bound, -0.465), (apart, -0.687)):
        assert mp2020_correction(composition, structure) == pytest.approx(per_oxygen * 2 / 3)
        assert by_pymatgen(structure.composition, structure) == pytest.approx(per_oxygen * 2 / 3)


def test_real_crystals_agree_with_pymatgen() -> None:
    reference = open_reference("aflow")
    for index in range(len(reference)):
        structure = reference.structure(index)
        expected = by_pymatgen(structure.composition, structure)
        assert mp2020_correction(structure.composition, structure) == pytest.approx(expected)
