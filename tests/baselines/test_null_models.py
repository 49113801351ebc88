"""Null models: properties of their crystals, from real crystals and from too small references."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Element, Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from smact.screening import smact_validity

from novelty_metric.baselines import NULL_MODELS, NullCrystal
from novelty_metric.baselines.real import DISTANCE, STRAIN
from novelty_metric.baselines.substitution import PAIRS_BY_DISTANCE, PROBABILITY, _Replacements
from novelty_metric.crystal import clean
from novelty_metric.errors import InputError
from novelty_metric.reference import Reference, open_reference
from novelty_metric.search.pettifor import pettifor_number

N = 16
NAMES = tuple(NULL_MODELS)
EXCHANGE = ("random_substitution", "ion_exchange", "random_prototype")


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Reference:
    """Thirty crystals of MP-20."""
    table = pd.read_parquet(
        shared_data / "mp_20" / "val.parquet", columns=["material_id", "cif"]
    ).iloc[:: 9047 // 29][:30]
    crystals = [Structure.from_str(cif, fmt="cif") for cif in table["cif"]]
    return Reference.from_structures(crystals, ids=list(table["material_id"]))


@pytest.fixture(scope="module")
def made(real: Reference) -> dict[str, list[NullCrystal]]:
    return {name: list(model.generate(real, n=N, seed=3)) for name, model in NULL_MODELS.items()}


def parent_of(crystal: NullCrystal, reference: Reference) -> Structure:
    assert crystal.parent_id is not None
    return reference.structure(reference.position(crystal.parent_id))


@pytest.mark.parametrize("name", NAMES)
def test_seed_is_reproducible_and_larger_numbers_only_add(
    name: str, real: Reference, made: dict[str, list[NullCrystal]]
) -> None:
    whole = made[name]
    assert len({crystal.id for crystal in whole}) == len(whole) == N
    few = list(NULL_MODELS[name].generate(real, n=5, seed=3))
    assert few == whole[:5]
    others = list(NULL_MODELS[name].generate(real, n=5, seed=4))
    assert [one.structure for one in others] != [one.structure for one in few]
    for crystal in whole:
        clean(crystal.structure)  # usable samples


@pytest.mark.parametrize("name", ["held_out", "perturbed", "random_symmetric"])
def test_compositions_agree_with_the_parents(
    name: str, real: Reference, made: dict[str, list[NullCrystal]]
) -> None:
    for crystal in made[name]:
        parent = parent_of(crystal, real)
        assert crystal.structure.composition.reduced_formula == parent.composition.reduced_formula
        assert crystal.exchanged == ""


@pytest.mark.parametrize("name", EXCHANGE)
def test_exchanged_elements_are_named(
    name: str, real: Reference, made: dict[str, list[NullCrystal]]
) -> None:
    for crystal in made[name]:
        parent = parent_of(crystal, real)
        pairs = {
            f"{old}->{new}"
            for old, new in zip(
                (site.specie.symbol for site in parent),
                (site.specie.symbol for site in crystal.structure),
                strict=True,
            )
            if old != new
        }
        assert set(crystal.exchanged.split()) == pairs
        if name != "random_substitution":
            assert pairs
            assert (
                crystal.structure.composition.anonymized_formula
                == parent.composition.anonymized_formula
            )


@pytest.mark.parametrize("name", EXCHANGE)
def test_symmetry_of_the_parent_is_kept(
    name: str, real: Reference, made: dict[str, list[NullCrystal]]
) -> None:
    """Every operation of the parent's space group maps the crystal to itself."""
    for crystal in made[name]:
        parent, structure = parent_of(crystal, real), crystal.structure
        ratios = np.array(structure.lattice.abc) / np.array(parent.lattice.abc)
        assert np.allclose(ratios, ratios[0])
        assert np.allclose(structure.lattice.angles, parent.lattice.angles)
        numbers = np.array(structure.atomic_numbers)
        for operation in SpacegroupAnalyzer(parent, symprec=0.01).get_symmetry_operations():
            images = operation.operate_multi(structure.frac_coords)
            distances = structure.lattice.get_all_distances(images, structure.frac_coords)
            nearest = distances.argmin(axis=1)
            assert distances.min(axis=1).max() < 0.05
            assert (numbers[nearest] == numbers).all()


def test_ions_are_charge_balanced_by_pymatgen(made: dict[str, list[NullCrystal]]) -> None:
    for crystal in made["ion_exchange"]:
        composition = crystal.structure.composition.reduced_composition
        assert composition.oxi_state_guesses(all_oxi_states=True, max_sites=-1), composition


def test_random_prototypes_are_charge_balanced_by_smact(made: dict[str, list[NullCrystal]]) -> None:
    for crystal in made["random_prototype"]:
        formula = crystal.structure.composition.reduced_formula
        assert smact_validity(formula, include_alloys=False), formula


def test_cell_follows_the_sum_of_radii(real: Reference, made: dict[str, list[NullCrystal]]) -> None:
    for crystal in made["random_prototype"]:
        parent = parent_of(crystal, real)
        radii = [
            sum(site.specie.atomic_radius or site.specie.atomic_radius_calculated for site in one)
            for one in (crystal.structure, parent)
        ]
        lengths = crystal.structure.lattice.a / parent.lattice.a
        assert lengths == pytest.approx(radii[0] / radii[1])


def test_displacements_and_strains_have_the_given_size(
    real: Reference, made: dict[str, list[NullCrystal]]
) -> None:
    for crystal in made["perturbed"]:
        parent, structure = parent_of(crystal, real), crystal.structure
        deformation = np.linalg.solve(parent.lattice.matrix, structure.lattice.matrix)
        stretches = np.linalg.svd(deformation, compute_uv=False)
        assert np.abs(stretches - 1).max() == pytest.approx(STRAIN)
        moves = structure.lattice.get_cartesian_coords(structure.frac_coords - parent.frac_coords)
        assert np.linalg.norm(moves, axis=1) == pytest.approx(DISTANCE)


def test_held_out_crystals_are_distinct_and_differ_from_the_calibration(
    real: Reference,
) -> None:
    crystals = list(NULL_MODELS["held_out"].generate(real, n=len(real), seed=0))
    assert sorted(crystal.id for crystal in crystals) == sorted(real.ids)
    calibrated = np.random.default_rng(0).permutation(len(real))
    assert [crystal.id for crystal in crystals] != [real.ids[i] for i in calibrated]


def test_random_symmetric_crystals_are_symmetric(made: dict[str, list[NullCrystal]]) -> None:
    groups = [
        SpacegroupAnalyzer(crystal.structure, symprec=0.01).get_space_group_number()
        for crystal in made["random_symmetric"]
    ]
    assert len(set(groups)) > N // 2
    assert np.median(groups) > 15


def test_orbits_are_exchanged_with_the_given_frequency_and_distance() -> None:
    """Counts for 2,000 crystals; the benchmark checks the values of the table itself."""
    reference = open_reference("aflow")
    orbits = changed = 0
    for crystal in NULL_MODELS["random_substitution"].generate(reference, n=2000, seed=1):
        index = reference.position(crystal.parent_id or "")
        sites = reference.sites(index)
        new = np.array(crystal.structure.atomic_numbers)
        for orbit in np.unique(reference.orbits[sites]):
            mine = reference.orbits[sites] == orbit
            assert len(set(new[mine])) == 1
            orbits += 1
            changed += int(new[mine][0] != reference.numbers[sites][mine][0])
    spread = np.sqrt(PROBABILITY * (1 - PROBABILITY) / orbits)
    assert abs(changed / orbits - PROBABILITY) < 4 * spread


@pytest.mark.parametrize("old", ["Si", "Na", "H", "U"])
def test_replacements_have_the_distances_of_real_pairs(old: str) -> None:
    every = np.array([z for z in range(1, 119) if pettifor_number(z) is not None])
    replacements, rng = _Replacements(every), np.random.default_rng(0)
    place, n = pettifor_number(old), 4000
    assert place is not None
    drawn: Counter[int] = Counter()
    for _ in range(n):
        new = pettifor_number(replacements.draw(Element(old).Z, rng))
        assert new is not None
        drawn[abs(new - place)] += 1
    assert drawn[0] == 0
    reach = range(1, max(place, 102 - place) + 1)
    total = sum(PAIRS_BY_DISTANCE[d] for d in reach)
    for d in reach:
        expected = PAIRS_BY_DISTANCE[d] / total
        assert abs(drawn[d] / n - expected) < 5 * np.sqrt(expected / n) + 1e-3


def iron() -> Reference:
    crystal = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return Reference.from_structures([crystal], ids=["iron"], name="iron alone")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("held_out", "iron alone contains 1 crystals; n=2 asks for more"),
        ("ion_exchange", "draws gave no crystal number 1 of 2; the reference iron alone"),
        ("random_prototype", "none of the 1 crystals of the reference iron alone is a compound"),
    ],
)
def test_reference_without_suitable_crystals_is_an_error(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(NULL_MODELS[name].generate(iron(), n=2, seed=0))


@pytest.mark.parametrize("name", ["perturbed", "random_substitution", "random_symmetric"])
def test_one_element_is_enough_for_the_other_models(name: str) -> None:
    crystals = list(NULL_MODELS[name].generate(iron(), n=2, seed=0))
    assert [crystal.structure.composition.reduced_formula for crystal in crystals] == ["Fe"] * 2


def test_error_without_pyxtal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyxtal", None)
    with pytest.raises(InputError, match=r"needs PyXtal.*pip install 'novelty-metric\[pyxtal\]'"):
        list(NULL_MODELS["random_symmetric"].generate(iron(), n=1, seed=0))
