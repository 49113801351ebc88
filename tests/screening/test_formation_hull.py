"""The packaged hull for each potential, and its use by hull=auto."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_scale import (
    N_NUMBERS,
    Offsets,
    element_fractions,
    fit_offsets,
    formation_energies,
    lowest_own,
    on_own_scale,
)
from pymatgen.core import Composition, Lattice, Structure

from novelty_metric.errors import InputError
from novelty_metric.reference import Reference, open_reference
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.screening.compositions import Compositions, elemental_energies
from novelty_metric.screening.formation_energies import MP_20, FormationEnergies, packaged
from novelty_metric.screening.formation_hull import FormationHull, Mp20Hull, auto_hull
from novelty_metric.screening.hull import ReferenceHull, known_energies
from novelty_metric.screening.scales import mp2020_correction


def total(formula: str, formation: float) -> float:
    """Total energy per atom on the scale of the Materials Project (eV)."""
    composition = Composition(formula)
    table = elemental_energies()
    sums = sum(table[e.symbol] * n for e, n in composition.items())
    return formation + sums / composition.num_atoms


def cubic(*symbols: str) -> Structure:
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75], [0.5, 0, 0]]
    return Structure(Lattice.cubic(5.0), symbols, places[: len(symbols)])


class RecordingRelaxer:
    """Give energies by reduced formula, and record the requests."""

    def __init__(self, name: str, energies: dict[str, float]) -> None:
        self.info = PotentialInfo(name=name, version="1", weights_hash="0" * 64)
        self.known = energies
        self.asked: list[str] = []

    def energies(self, structures: Sequence[Structure]) -> Iterator[float]:
        for structure in structures:
            formula = structure.composition.reduced_formula
            self.asked.append(formula)
            yield self.known[formula]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("chgnet", "corrected"),
        ("mace-medium-mpa-0", "uncorrected"),
        ("SevenNet-0", "uncorrected"),
        ("7net_l3i5", "uncorrected"),
        ("chgnet-of-mine", None),
        ("lennard-jones", None),
    ],
)
def test_training_energies_of_potentials(name: str, which: str | None) -> None:
    assert known_energies(name) == which


def test_mp_20_on_the_scale_of_each_potential() -> None:
    published = FormationEnergies.read(MP_20)
    at = published.compositions.keys().index(((8, 3), (26, 2)))
    formation = float(published.energies[at])
    oxide = Composition("Fe2O3")
    corrected = Mp20Hull("corrected").open("chgnet")
    assert corrected.e_above_hull(oxide, total("Fe2O3", formation)) == pytest.approx(0, abs=1e-6)
    # An energy without corrections is higher by their amount, which is added.
    mace = Mp20Hull().open("mace-medium-mpa-0")
    raw = total("Fe2O3", formation) - mp2020_correction(oxide)
    assert mace.e_above_hull(oxide, raw) == pytest.approx(0, abs=1e-6)
    assert "without the MP2020 corrections" in mace.describe()["scale"]
    with pytest.raises(InputError, match=r"set hull\.energies=corrected"):
        Mp20Hull().open("lennard-jones")


def test_hull_for_chgnet_has_its_own_scale() -> None:
    """Elements and compounds have single-point energies of CHGNet, near the published ones."""
    hull = Mp20Hull().open("chgnet")
    assert "its own energies" in hull.describe()["scale"]
    assert "chgnet 0.3.0" in hull.describe()["scheme"]
    published = FormationEnergies.read(MP_20)
    assert hull.known.compositions.keys() == published.compositions.keys()
    apart = hull.known.energies - published.energies
    assert 0.005 < np.median(apart) < 0.02 and np.abs(apart).mean() < 0.03


def test_packaged_energies_agree_with_chgnet(chgnet: Any) -> None:
    """Fluorite and rock salt of the packaged reference are on or slightly above their points."""
    reference = open_reference("aflow")
    hull = Mp20Hull().open("chgnet")
    from novelty_metric.reference.energies import reference_energies
    from novelty_metric.relaxation.relaxer import PotentialRelaxer

    energies = reference_energies(reference, PotentialRelaxer(chgnet))
    for formula in ("NaCl", "CaF2", "ZnS"):
        found = [
            hull.e_above_hull(reference.structure(i).composition, energies[i])
            for i in range(len(reference))
            if reference.structure(i).composition.reduced_formula == formula
        ]
        assert found and min(abs(above) for above in found if above is not None) < 0.05


def test_auto_needs_no_energy_if_the_hull_is_complete() -> None:
    reference = Reference.from_structures([cubic("Na", "Cl"), cubic("Mg", "O")])
    toy = RecordingRelaxer("chgnet", {})
    hull = auto_hull(reference, toy)  # type: ignore[arg-type]
    assert hull.name == "mp_20" and toy.asked == []


def test_auto_adds_missing_compounds() -> None:
    assert packaged("chgnet").exists()
    known = set(FormationEnergies.read(MP_20).compositions.keys())
    assert ((11, 1), (17, 4)) not in known
    lower, higher = cubic("Na", "Cl", "Cl", "Cl", "Cl"), cubic("Na", "Cl", "Cl", "Cl", "Cl")
    higher.apply_strain(0.2)
    reference = Reference.from_structures([cubic("Na", "Cl"), lower, higher])
    toy = RecordingRelaxer("chgnet", {"NaCl4": total("NaCl4", -2.0)})
    hull = auto_hull(reference, toy)  # type: ignore[arg-type]
    assert toy.asked == ["NaCl4", "NaCl4"]
    assert isinstance(hull, FormationHull)
    assert hull.e_above_hull(Composition("NaCl4"), toy.known["NaCl4"]) == pytest.approx(0)
    described = hull.describe()
    assert described["name"] == "mp_20+reference" and described["crystals"] == 2
    assert described["crystals_hash"] == reference.crystals_hash
    assert described["compositions"] == len(known) + 1
    # These energies are cached, and reused if all energies are needed.
    again = RecordingRelaxer("chgnet", {})
    assert auto_hull(reference, again).describe() == described  # type: ignore[arg-type]
    assert again.asked == []


def test_element_without_a_scale_adds_nothing() -> None:
    """Polonium is missing in the table of elements, so its energy cannot be converted."""
    reference = Reference.from_structures([cubic("Po"), cubic("Po", "O")])
    hull = auto_hull(reference, RecordingRelaxer("chgnet", {"Po": -3.0, "PoO": -4.0}))  # type: ignore[arg-type]
    assert hull.name == "mp_20"
    assert hull.e_above_hull(Composition("PoO"), -4.0) is None


def test_auto_without_a_known_scale_uses_the_reference_with_a_warning() -> None:
    reference = Reference.from_structures([cubic("Na", "Cl"), cubic("Na")])
    toy = RecordingRelaxer("toy", {"NaCl": -3.0, "Na": -1.0})
    hull = auto_hull(reference, toy)  # type: ignore[arg-type]
    assert isinstance(hull, ReferenceHull) and sorted(toy.asked) == ["Na", "NaCl"]
    note = hull.describe()["note"]
    assert "toy was trained on are not known" in note and "hull.energies=corrected" in note


def test_fit_recovers_the_offsets() -> None:
    rng = np.random.default_rng(0)
    keys = [
        tuple(
            sorted((int(z), int(rng.integers(1, 5))) for z in rng.choice([3, 8, 11, 26], 3, False))
        )
        for _ in range(400)
    ]
    fractions = element_fractions(Compositions.of(keys))
    true = np.zeros(N_NUMBERS)
    true[[3, 8, 11, 26]] = [0.02, -0.05, 0.0, 0.1]
    noisy = fractions @ true + rng.normal(0, 0.005, len(keys))
    noisy[0] = np.nan
    found = fit_offsets(fractions, noisy)
    assert found.per_element == pytest.approx(true, abs=0.004)
    assert found.n_crystals == 399
    assert found.error == pytest.approx(0.004, abs=0.001) and found.error_before > 0.015


def test_computed_energies_have_priority_over_converted_ones() -> None:
    known = FormationEnergies.read(MP_20)
    reference = Reference.from_structures([cubic("Na", "Cl"), cubic("Na", "Cl"), cubic("Na")])
    energies = np.array([total("NaCl", -2.0), total("NaCl", -1.9), np.nan])
    own = lowest_own(known, reference, formation_energies(reference, energies))
    keys = known.compositions.keys()
    salt, oxide = keys.index(((11, 1), (17, 1))), keys.index(((8, 1), (12, 1)))
    assert own[salt] == pytest.approx(-2.0) and np.isfinite(own).sum() == 1
    shift = np.zeros(N_NUMBERS)
    shift[8] = 0.1
    made = on_own_scale(known, own, Offsets(shift, 1, 0.0, 0.0), known.about)
    assert made.energies[salt] == pytest.approx(-2.0) and not made.on_hull[salt]
    assert made.energies[oxide] == pytest.approx(known.energies[oxide] + 0.05)
