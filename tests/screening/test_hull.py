"""Energy above the hull of the reference's crystals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element, Lattice, Structure

from novelty_metric.errors import InputError
from novelty_metric.reference import Reference
from novelty_metric.screening import hull as hull_module
from novelty_metric.screening import mixture as mixture_module
from novelty_metric.screening.compositions import elemental_energies
from novelty_metric.screening.hull import (
    HullDistance,
    LowerHull,
    ReferenceHull,
    hull_distance,
)
from novelty_metric.verdict import rests_on_elements


def crystal(formula: str) -> Structure:
    """A crystal of the given composition, with its atoms along a line of lattice cells."""
    species = [e.symbol for e, n in Composition(formula).items() for _ in range(int(n))]
    n_sites = len(species)
    coords = [[(i + 0.07 * i**2 / n_sites) / n_sites, 0.1 * i, 0.03 * i] for i in range(n_sites)]
    return Structure(Lattice.orthorhombic(4.0 * n_sites, 5.0, 6.0), species, coords)


def hull_of(energies: dict[str, float], **settings: object) -> ReferenceHull:
    reference = Reference.from_structures([crystal(formula) for formula in energies])
    assert len(reference) == len(energies)
    return ReferenceHull(reference, np.array(list(energies.values())), **settings)  # type: ignore[arg-type]


def test_binary_hull_calculated_by_hand() -> None:
    # Elements at 0; AB at -1 and A3B at -0.4 eV/atom. A3B is above the tie line A-AB (-0.5 at x =
    # 1/4). AB3 at -0.8 is below the line AB-B (-0.5), so it is a vertex.
    hull = hull_of({"Li": 0.0, "S": 0.0, "LiS": -1.0, "Li3S": -0.4, "LiS3": -0.8})

    def above(formula: str, energy: float) -> float:
        result = hull.e_above_hull(Composition(formula), energy)
        assert result is not None
        return result

    assert above("LiS", -1.0) == pytest.approx(0.0, abs=1e-9)
    assert above("Li3S", -0.4) == pytest.approx(0.1, abs=1e-9)
    assert above("LiS3", -0.8) == pytest.approx(0.0, abs=1e-9)
    # Between AB (x = 1/2) and AB3 (x = 3/4): at x = 2/3, -1/3 - 0.8·2/3 = -0.866667.
    assert above("LiS2", 0.0) == pytest.approx(13 / 15, abs=1e-9)
    # Between AB3 and B at x = 9/10: -0.8·0.4 = -0.32.
    assert above("LiS9", -0.30) == pytest.approx(0.02, abs=1e-9)
    # An energy below all known ones is negative; the sample itself is not part of the hull.
    assert above("LiS", -1.3) == pytest.approx(-0.3, abs=1e-9)
    assert above("Li4S4", -1.3) == pytest.approx(-0.3, abs=1e-9)
    assert above("Li", 0.05) == pytest.approx(0.05, abs=1e-9)


def test_decomposition_calculated_by_hand() -> None:
    """The hull of the test above: vertices Li, LiS (-1), LiS3 (-0.8), S; Li3S is above it."""
    hull = hull_of({"Li": 0.0, "S": 0.0, "LiS": -1.0, "Li3S": -0.4, "LiS3": -0.8})

    def made_of(formula: str) -> dict[str, float]:
        found = hull.distance(Composition(formula), -1.0)
        assert found is not None and found.decomposition is not None
        assert found.n_competing == (0 if len(Composition(formula)) == 1 else 3)
        return {name: round(share, 9) for name, share in found.decomposition.items()}

    assert made_of("LiS") == made_of("Li8S8") == {"LiS": 1.0}
    assert made_of("Li3S") == {"Li": 0.5, "LiS": 0.5}
    assert made_of("LiS2") == {"LiS3": 0.666666667, "LiS": 0.333333333}
    assert list(made_of("LiS2")) == ["LiS3", "LiS"]  # largest amount first
    assert made_of("LiS9") == {"S": 0.6, "LiS3": 0.4}
    assert made_of("Li4") == {"Li": 1.0}


def test_hull_of_elements_only() -> None:
    hull = hull_of({"Li": -1.0, "S": -4.0, "O": -4.5, "LiO": -4.0, "S3O": 7.0})
    nothing = hull.distance(Composition("Li2S"), -3.0)
    assert nothing is not None and nothing.n_competing == 0
    assert nothing.decomposition == pytest.approx({"Li": 2 / 3, "S": 1 / 3})
    assert nothing.e_above_hull == pytest.approx(-1.0)  # its formation energy
    unstable = hull.distance(Composition("SO2"), -5.0)
    assert unstable is not None and unstable.n_competing == 1
    assert unstable.decomposition == pytest.approx({"O2": 2 / 3, "S": 1 / 3})
    known = hull.distance(Composition("Li2SO4"), -5.0)
    assert known is not None and known.n_competing == 2 and "Li2O2" in (known.decomposition or {})


@pytest.mark.parametrize("noise", [0.0, 1e-7, -1e-7, 3e-4, -3e-4])
def test_rounding_does_not_change_the_decomposition(noise: float) -> None:
    """A compound on the line between the elements, as if projected onto the hull."""
    hull = hull_of({"Li": -1.0, "S": -4.0, "LiS": -2.5 + noise})
    own = hull.distance(Composition("Li2S2"), -2.5)
    assert own is not None and own.decomposition == {"LiS": 1.0}
    beside = hull.distance(Composition("Li2S"), -2.0)
    assert beside is not None
    assert beside.decomposition == pytest.approx({"Li": 2 / 3, "S": 1 / 3})
    # The energy remains exact: the point counts where it is below the line.
    assert beside.e_above_hull == pytest.approx(-min(noise, 0) * 2 / 3, abs=1e-9)


FORMULAS = ("Li", "S", "O", "LiS", "Li2S", "LiO2", "Li2O", "SO2", "SO3", "LiSO2", "Li2SO4")


@given(
    energies=st.lists(st.floats(-2, 1), min_size=len(FORMULAS), max_size=len(FORMULAS)),
    amounts=st.tuples(*[st.integers(0, 6)] * 3).filter(any),
    times=st.integers(1, 12),
    order=st.permutations(range(len(FORMULAS))),
)
def test_cell_and_order_of_crystals_do_not_matter(
    energies: list[float], amounts: tuple[int, int, int], times: int, order: list[int]
) -> None:
    crystals = [
        (tuple(sorted((e.Z, int(n)) for e, n in Composition(formula).items())), energy)
        for formula, energy in zip(FORMULAS, energies, strict=True)
    ]
    composition = Composition(dict(zip(("Li", "S", "O"), amounts, strict=True)))
    multiple = Composition({element: n * times for element, n in composition.items()})
    found = LowerHull.of(crystals).distance(composition, 0.0)
    other = LowerHull.of([crystals[i] for i in order]).distance(multiple, 0.0)
    assert found is not None and other is not None
    elements = {element.symbol for element in composition}
    inside = [Composition(f) for f in FORMULAS if {e.symbol for e in Composition(f)} <= elements]
    assert found.n_competing == other.n_competing == sum(len(one) > 1 for one in inside)
    assert found.e_above_hull == pytest.approx(other.e_above_hull, abs=1e-8)
    assert rests_on_elements(found.decomposition) == rests_on_elements(other.decomposition)
    for one in (found, other):
        assert one.decomposition is not None
        assert sum(one.decomposition.values()) == pytest.approx(1, abs=1e-5)
        for element in composition:
            mixed = sum(
                share * Composition(formula).get_atomic_fraction(element)
                for formula, share in one.decomposition.items()
            )
            assert mixed == pytest.approx(composition.get_atomic_fraction(element), abs=1e-5)


def test_custom_hull_without_decomposition() -> None:
    class Own:
        name = "own"

        def __init__(self, answer: float | None) -> None:
            self.answer = answer

        def e_above_hull(self, composition: Composition, energy_per_atom: float) -> float | None:
            return self.answer

        def describe(self) -> dict[str, object]:
            return {"name": self.name}

    salt = Composition("NaCl")
    assert hull_distance(Own(0.25), salt, -3.0) == HullDistance(0.25, None, None)
    assert hull_distance(Own(np.float64(-1)), salt, -3.0) == HullDistance(-1.0)
    for nothing in (None, math.nan, math.inf):
        assert hull_distance(Own(nothing), salt, -3.0) is None


def test_lowest_polymorph_counts() -> None:
    reference = Reference.from_structures([crystal("Li"), crystal("S"), *[crystal("LiS")] * 3])
    hull = ReferenceHull(reference, np.array([0.0, 0.0, -0.5, -1.0, -0.7]))
    assert hull.e_above_hull(Composition("LiS"), -0.5) == pytest.approx(0.5)


def test_crystals_outside_the_system_do_not_count() -> None:
    hull = hull_of({"Li": 0.0, "S": 0.0, "O": 0.0, "Li2SO4": -9.0})
    assert hull.e_above_hull(Composition("Li2S"), -0.2) == pytest.approx(-0.2)


def test_missing_elements_are_taken_from_the_table() -> None:
    hull = hull_of({"Li": -1.9, "LiS": -4.0})
    lithium, sulfur = -1.9, elemental_energies()["S"]
    got = hull.e_above_hull(Composition("Li3S"), -3.0)
    assert got == pytest.approx(-3.0 - (0.5 * -4.0 + 0.5 * lithium))
    got = hull.e_above_hull(Composition("LiS3"), -4.0)
    assert got == pytest.approx(-4.0 - (0.5 * -4.0 + 0.5 * sulfur))
    table = hull.describe()["elements_from_table"]
    assert "S" in table and "Li" not in table and len(table) == 88


def test_crystals_without_energy_are_excluded() -> None:
    hull = hull_of({"Li": math.nan, "S": 0.0, "LiS": math.nan}, table={"Li": -0.4})
    assert hull.e_above_hull(Composition("LiS"), -1.0) == pytest.approx(-0.8)
    described = hull.describe()
    assert described["elements_from_table"] == ["Li"]
    assert described["crystals"] == 1 and described["crystals_without_energy"] == 2


def test_without_a_hull_the_value_is_none() -> None:
    hull = hull_of({"Li": 0.0, "LiS": -1.0}, table={})
    assert hull.e_above_hull(Composition("LiS"), -1.0) is None
    assert hull.e_above_hull(Composition("Li"), -1.0) == pytest.approx(-1.0)
    assert hull.e_above_hull(Composition("Og2O"), -1.0) is None
    assert hull_of({"Li": 0.0}).e_above_hull(Composition("OgO"), -1.0) is None
    for energy in (math.nan, math.inf, -math.inf):
        assert hull.e_above_hull(Composition("Li"), energy) is None


def test_wrong_number_of_energies() -> None:
    reference = Reference.from_structures([crystal("Li")])
    with pytest.raises(InputError, match="2 energies for the 1 crystals"):
        ReferenceHull(reference, np.zeros(2))


def test_hull_of_many_elements() -> None:
    """Facets of a hull in eleven dimensions would take minutes."""
    symbols = ["Li", "Na", "K", "Mg", "Ca", "Fe", "O", "F", "Cl", "Br", "S", "P", "N", "Co", "Ni"]
    energies = dict.fromkeys(symbols, 0.0)
    energies |= {f"{a}{b}": -0.1 for a in symbols[:6] for b in symbols[6:13]}
    composition = Composition(dict.fromkeys(symbols, 1))
    # Six cations pair with six of the anions at -0.1 each; three atoms remain.
    got = hull_of(energies).e_above_hull(composition, 0.0)
    assert got == pytest.approx(0.1 * 12 / 15, abs=1e-9)


def test_above_the_limit_of_steps_there_is_no_hull(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    elements = range(3, 15)
    pairs = [((a, 1), (b, n)) for a in elements for b in elements if a < b for n in (1, 2)]
    lower = hull_module.LowerHull.of(
        [(((z, 1),), 0.0) for z in elements] + [(pair, -rng.random()) for pair in pairs]
    )
    composition = Composition({Element.from_Z(z): z for z in elements})
    found = lower.distance(composition, 0.0)
    assert found is not None and found.e_above_hull > 0.5
    monkeypatch.setattr(mixture_module, "_MOST_EXCHANGES", 1)
    monkeypatch.setattr(mixture_module, "MOST_STEPS", 1)
    with pytest.raises(RuntimeError, match="was not found"):
        lower.distance(composition, 0.0)


def test_only_small_chemical_systems_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    lower = hull_module.LowerHull.of([(((z, 1),), 0.0) for z in (3, 8, 26)])
    monkeypatch.setattr(hull_module, "_CACHED_NUMBERS", 4)
    for formula in ("LiO", "LiOFe"):
        found = lower.distance(Composition(formula), 0.0)
        assert found is not None and found.e_above_hull == 0
    assert list(lower._systems) == [(3, 8)]


def test_table_of_elements() -> None:
    table = elemental_energies()
    assert len(table) == 89
    assert table["Ac"] == -4.121175 and all(-20 < energy < 0 for energy in table.values())
    with pytest.raises(TypeError):
        table["Ac"] = 0.0  # type: ignore[index]


def test_table_agrees_with_the_shared_file(shared_data: Path) -> None:
    import csv

    with (shared_data / "mp_elemental_energies.csv").open() as handle:
        rows = {r["element"]: float(r["energy_per_atom_eV"]) for r in csv.DictReader(handle)}
    assert dict(elemental_energies()) == rows


def _pymatgen_hull(
    compositions: list[Composition], energies: np.ndarray, elements: set[str]
) -> PhaseDiagram:
    entries = [
        PDEntry(composition, energy * composition.num_atoms)
        for composition, energy in zip(compositions, energies.tolist(), strict=True)
        if {element.symbol for element in composition} <= elements
    ]
    own = {entry.elements[0].symbol for entry in entries if entry.is_element}
    table = elemental_energies()
    entries += [PDEntry(Composition(symbol), table[symbol]) for symbol in sorted(elements - own)]
    return PhaseDiagram(entries)


@pytest.mark.slow
def test_real_compositions_agree_with_pymatgen(shared_data: Path) -> None:
    """250 real crystals within a hull of 1,500, compared with pymatgen's facets.

    Energies are formation energies of MP-20, converted to the scale of the table of elements, with
    noise, so that many compositions are above the hull. Every second composition is a random
    mixture of the same elements, inside a facet.
    """
    import pandas as pd

    table = pd.read_parquet(
        shared_data / "mp_20" / "val.parquet",
        columns=["pretty_formula", "formation_energy_per_atom"],
    ).iloc[:1500]
    rng = np.random.default_rng(11)
    compositions = [Composition(formula) for formula in table["pretty_formula"]]
    elements = elemental_energies()
    energies = np.array(
        [
            formation + sum(c.get_atomic_fraction(e) * elements[e.symbol] for e in c)
            for formation, c in zip(table["formation_energy_per_atom"], compositions, strict=True)
        ]
    ) + rng.normal(scale=0.3, size=len(table))

    # The hull only uses compositions, so any cell is possible.
    reference = Reference.from_structures(
        [crystal(c.reduced_formula) for c in compositions if c.reduced_composition.num_atoms <= 30]
    )
    kept = [i for i, c in enumerate(compositions) if c.reduced_composition.num_atoms <= 30]
    compositions, energies = [compositions[i] for i in kept], energies[kept]
    assert len(reference) == len(compositions)
    hull = ReferenceHull(reference, energies)

    chosen = [i for i in rng.permutation(len(compositions)) if len(compositions[i]) <= 5][:250]
    ours, theirs = [], []
    for index in chosen:
        composition = compositions[index]
        symbols = {element.symbol for element in composition}
        diagram = _pymatgen_hull(compositions, energies, symbols)
        if len(ours) % 2:
            composition = Composition({s: int(rng.integers(1, 8)) for s in sorted(symbols)})
        got = hull.distance(composition, energies[index])
        assert got is not None and got.decomposition is not None
        assert hull.e_above_hull(composition, energies[index]) == got.e_above_hull
        ours.append(got.e_above_hull)
        theirs_made_of = {
            entry.composition.reduced_formula: share
            for entry, share in diagram.get_decomposition(composition).items()
        }
        assert got.decomposition == pytest.approx(theirs_made_of, abs=1e-6)
        assert got.n_competing == len(
            {c.reduced_formula for c in compositions if len(c) > 1 and {*c} <= {*composition}}
        )
        theirs.append(energies[index] - diagram.get_hull_energy_per_atom(composition))
    assert len(ours) == 250
    np.testing.assert_allclose(ours, theirs, atol=1e-8)
    assert np.sum(np.array(ours) > 1e-3) > 50 and np.sum(np.abs(ours) < 1e-9) > 50
