"""Energies given with the samples: meaning, results, and errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition
from salts import rocksalt
from static_relaxer import StaticRelaxer

from novelty_metric import Reference, SubstitutionNovelty
from novelty_metric.cli import main
from novelty_metric.crystal_records import CrystalRecords
from novelty_metric.errors import InputError
from novelty_metric.report.exclusion import ExclusionReason
from novelty_metric.report.explanation import explain
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.scoring.sample_energies import SampleEnergies, odd_energies
from novelty_metric.screening.compositions import elemental_energies
from novelty_metric.screening.formation_energies import About
from novelty_metric.screening.materials_project import Material, formation_energies
from novelty_metric.verdict import CrystalResult

SALT, POTASH = rocksalt(5.64, "Na", "Cl"), rocksalt(6.29, "K", "Cl")
TABLE = elemental_energies()


@pytest.fixture(scope="module")
def hull(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Formation energies: NaCl at -2 and KCl at -2.2 eV/atom."""
    known = [Material("NaCl", -2.0, 0.0), Material("KCl", -2.2, 0.0)]
    about = About(name="mine", source="made up", licence="none", date="2026", scheme="by hand")
    path = tmp_path_factory.mktemp("hull") / "known.parquet"
    formation_energies(known, about).write(path)
    return path


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.from_structures([SALT], ids=["salt"], name="one")


def metric(reference: Reference, hull: Any, **settings: Any) -> SubstitutionNovelty:
    given: dict[str, Any] = {
        "relaxer": None,
        "relax_samples": False,
        "energies_per": "atom",
        "energies_scale": "formation",
    }
    return SubstitutionNovelty(reference, hull=hull, **{**given, **settings})


def total(formula: str, formation: float) -> float:
    composition = Composition(formula)
    return formation + sum(
        composition.get_atomic_fraction(e) * TABLE[e.symbol] for e in composition
    )


def test_distances_follow_from_the_given_energies(reference: Reference, hull: Path) -> None:
    one = metric(reference, hull)
    report = one([SALT, POTASH, POTASH, SALT], energies=[-1.95, -2.2, -1.5, None])
    rows = report.results
    assert [row.given_energy for row in rows] == [-1.95, -2.2, -1.5, None]
    assert [row.energy_per_atom for row in rows] == [None] * 4  # no relaxer calculated one
    distances = [row.e_above_hull for row in rows]
    assert distances[:3] == pytest.approx([0.05, 0.0, 0.7], abs=1e-6) and distances[3] is None
    assert [row.eligible for row in rows] == [True, True, False, False]
    assert rows[2].error == "not eligible: 0.700 eV/atom above the hull"
    assert rows[3].error is None  # a duplicate; the reason for exclusion is counted
    assert report.left_out[ExclusionReason.NO_HULL] == 1
    assert "by the samples' own formation energies" in report.context.eligibility
    assert report.context.hull["sample_energies"] == "formation energies"
    assert report.quality.stable is not None and report.quality.stable.value == 0.5
    assert "1 of 4 samples have no energy given" in report.context.warnings
    facts = dict(explain(report, 0, CrystalRecords()).facts)
    assert facts["energy"].startswith("-1.9500 eV/atom as given, +0.0500 from the hull")


def test_sample_without_an_energy_is_not_eligible(reference: Reference, hull: Path) -> None:
    (row,) = metric(reference, hull)([POTASH], energies=[math.nan]).results
    assert (row.eligible, row.error) == (False, "not eligible: no energy given")


@pytest.mark.parametrize("scale", ["corrected", "formation"])
@pytest.mark.parametrize("per", ["atom", "cell"])
def test_energy_scales_and_units_agree(
    reference: Reference, hull: Path, scale: str, per: str
) -> None:
    energy = -1.95 if scale == "formation" else total("NaCl", -1.95)
    given = energy * (8 if per == "cell" else 1)
    report = metric(reference, hull, energies_scale=scale, energies_per=per)(
        [SALT], energies=[given]
    )
    assert report.results[0].e_above_hull == pytest.approx(0.05, abs=1e-6)
    assert report.results[0].given_energy == pytest.approx(energy)


def test_uncorrected_energies_are_corrected(reference: Reference, hull: Path) -> None:
    """MP2020: -0.614 eV per chlorine, so -0.307 eV per atom of NaCl."""
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

    chlorine = MaterialsProject2020Compatibility().comp_correction["Cl"]
    energy = total("NaCl", -1.95) - chlorine / 2
    report = metric(reference, hull, energies_scale="uncorrected")([SALT], energies=[energy])
    assert report.results[0].e_above_hull == pytest.approx(0.05, abs=1e-5)


@given(
    times=st.tuples(*[st.integers(1, 2)] * 3),
    energy=st.floats(-3, 0),
    per=st.sampled_from(["atom", "cell"]),
)
@settings(max_examples=10)
def test_cell_does_not_matter(
    reference: Reference, hull: Path, times: tuple[int, int, int], energy: float, per: str
) -> None:
    larger = SALT.make_supercell(times, in_place=False)
    one = metric(reference, hull, energies_per=per)
    factors = (len(SALT), len(larger)) if per == "cell" else (1, 1)
    report = one([SALT, larger], energies=[energy * factor for factor in factors])
    first, second = report.results
    assert first.e_above_hull == pytest.approx(second.e_above_hull, abs=1e-9)
    assert first.decomposition == second.decomposition and first.n_competing == second.n_competing


def test_potential_relaxes_only_the_parents(reference: Reference, hull: Path) -> None:
    potential = StaticRelaxer(energy=math.nan)
    one = metric(reference, hull, relaxer=potential)
    close, far = one([POTASH, POTASH], energies=[-2.15, -1.0]).results
    # The potential fails for the sample, but only the given energy is needed.
    assert (close.converged, close.eligible, close.energy_per_atom) == (True, True, None)
    assert close.verdict is not None and close.n_relaxations == potential.n_relaxed > 0
    assert (far.eligible, far.verdict) == (False, None)
    assert far.e_above_hull == pytest.approx(1.2, abs=1e-6)


def test_invalid_energies_give_one_clear_error(reference: Reference, hull: Path) -> None:
    for changes, text in (
        ({"relax_samples": True}, "add relax_samples=false"),
        ({"hull": "none"}, "hull=none"),
        ({"hull": "reference"}, "made of the potential's energies.*matbench_discovery"),
        ({"energies_per": None}, "energies_per is missing"),
        ({"energies_scale": None}, "energies_scale is missing"),
        ({"energies_per": "formula"}, "energies_per is 'formula'; known: atom, cell"),
        ({"energies_scale": "pbe"}, "energies_scale is 'pbe'; known: corrected"),
    ):
        with pytest.raises(InputError, match=text):
            metric(reference, **{"hull": hull, **changes})
    one = metric(reference, hull)
    with pytest.raises(InputError, match="1 energies were given for 2 structures"):
        one.update([SALT, POTASH], energies=[-1.0])
    plain = SubstitutionNovelty(reference, relaxer=None, hull="none")
    with pytest.raises(
        InputError, match="create the metric with energies_per= and energies_scale="
    ):
        plain.update([SALT], energies=[-1.0])
    assert one([], energies=[]).results == ()


def test_metrics_with_different_energies_are_not_merged(reference: Reference, hull: Path) -> None:
    one, other = metric(reference, hull), metric(reference, hull, energies_per="cell")
    with pytest.raises(InputError, match="different sample_energies can't be merged"):
        one.merge(other)


def test_warning_for_implausible_energies() -> None:
    def rows(energies: list[float | None], above: float) -> list[CrystalResult]:
        return [
            CrystalResult(id=str(i), smact_valid=True, given_energy=energy, e_above_hull=above)
            for i, energy in enumerate(energies)
        ]

    assert odd_energies([]) == []
    assert odd_energies(rows([-3.0, -4.0], 0.1)) == []
    (large,) = odd_energies(rows([-3.0, -45.0, 31.0], 0.1))
    assert large.startswith("2 of 3 samples have an energy beyond 20 eV/atom")
    (far,) = odd_energies(rows([-0.4, -0.5, -0.3], 3.0))
    assert far.startswith("3 of 3 samples lie more than 2 eV/atom from the hull")
    (missing,) = odd_energies(rows([-3.0, None], 0.1))
    assert missing == "1 of 2 samples have no energy given"


def test_warning_for_energies_per_cell_read_as_per_atom(reference: Reference, hull: Path) -> None:
    one = metric(reference, hull, energies_scale="corrected")
    report = one([SALT], energies=[8 * total("NaCl", -2.0)])
    assert any("beyond 20 eV/atom" in line for line in report.context.warnings)
    less = metric(reference, hull, energies_scale="corrected", energies_per="cell")
    report = less([SALT], energies=[total("NaCl", -2.0)])
    assert any("from the hull by the energies given" in line for line in report.context.warnings)
    assert SampleEnergies("cell", "corrected").per_atom(-8.0, 4) == -2.0


def command(*arguments: str) -> list[str]:
    return ["score", "relaxer=none", "reference=aflow", "progress=false", "cache=false", *arguments]


def test_energies_on_the_command_line(
    tmp_path: Path, hull: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.DataFrame(
        {
            "structure": [json.dumps(SALT.as_dict()), json.dumps(POTASH.as_dict())],
            "e_cell": [8 * total("NaCl", -1.95), 8 * total("KCl", -1.2)],
        }
    )
    table.to_csv(tmp_path / "gen.csv", index=False)
    arguments = [f"samples={tmp_path / 'gen.csv'}", "hull=file", f"hull.file={hull}"]
    own = ["energies=e_cell", "energies_per=cell", "energies_scale=corrected"]
    out = f"out={tmp_path / 'run'}"
    assert main(command(*arguments, *own, "relax_samples=false", out, "--full")) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "distances by the samples' own total energies with the MP2020 corrections" in shown
    report = NoveltyReport.load(tmp_path / "run")
    assert [row.e_above_hull for row in report.results] == pytest.approx([0.05, 1.0], abs=1e-5)
    assert report.results[0].given_energy == pytest.approx(total("NaCl", -1.95))
    for missing, message in (
        (own[:1], "add energies_per=atom or cell"),
        (own[1:], "name their column or key: energies=NAME"),
        (own[:2], "energies_scale is missing"),
        (
            [*own[1:], "energies=nope", "relax_samples=false"],
            "energies=nope: there is no such column",
        ),
        (own, "add relax_samples=false"),
        (
            [*own, "relax_samples=false", "hull.energies=uncorrected"],
            "hull.energies is uncorrected",
        ),
    ):
        assert main(command(*arguments, *missing)) == 2
        told = capsys.readouterr().err
        assert message in told and told.count("\n") == 1, told
