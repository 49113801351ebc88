"""Controls: crystals whose correct verdict is known, in small numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from static_relaxer import StaticRelaxer

from novelty_metric import InputError, Reference, SubstitutionNovelty, open_reference
from novelty_metric.analysis import control_crystals as made
from novelty_metric.analysis.controls import Control, ControlsResult, run_controls
from novelty_metric.analysis.misses import Miss
from novelty_metric.baselines import real
from novelty_metric.cli import main
from novelty_metric.reference.calibration import Sensitivity
from novelty_metric.samples.base import Sample
from novelty_metric.support.statistics import wilson

RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.6, 2.95), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)


# The crystals


@pytest.mark.parametrize("seed", range(5))
def test_other_description_is_the_same_crystal(seed: int) -> None:
    strict = StructureMatcher(ltol=1e-4, stol=1e-4, angle_tol=0.01, scale=False)
    rng = np.random.default_rng(seed)
    turned, larger = made.rotated(RUTILE, rng), made.supercell(RUTILE, rng)
    assert strict.fit(turned, RUTILE) and strict.fit(larger, RUTILE)
    assert not np.allclose(turned.lattice.matrix, RUTILE.lattice.matrix)
    assert len(larger) in (12, 18)


def test_distortions_have_the_given_size() -> None:
    rng = np.random.default_rng(1)
    moved = real.moved(RUTILE, rng, 0.2)
    steps = [a.distance(b) for a, b in zip(RUTILE, moved, strict=True)]
    assert steps == pytest.approx([0.2] * 6)
    bent = real.strained(RUTILE, rng, 0.1)
    change = np.linalg.inv(RUTILE.lattice.matrix) @ bent.lattice.matrix - np.eye(3)
    assert np.abs(np.linalg.eigvalsh((change + change.T) / 2)).max() == pytest.approx(0.1)


def test_random_crystal_keeps_volume_and_distance() -> None:
    crystal = made.randomised(RUTILE, np.random.default_rng(2))
    assert crystal.composition == RUTILE.composition
    assert crystal.volume == pytest.approx(RUTILE.volume)
    distances = crystal.distance_matrix[np.triu_indices(6, k=1)]
    assert distances.min() > 1.0


# The controls


@pytest.fixture(scope="module")
def packaged() -> ControlsResult:
    """All controls in small numbers, without relaxation."""
    metric = SubstitutionNovelty("aflow", relaxer=None, hull="none", scope="all")
    return run_controls(metric, n=4)


def test_copies_are_duplicates(packaged: ControlsResult) -> None:
    rows = {row.control: row for row in packaged.rows if row.measure == "sensitivity, duplicate"}
    for name in ("rotated", "supercell", "perturbed 0.05 A", "strained 2 %", "relaxed"):
        assert (rows[name].hits, rows[name].n) == (4, 4), name
        assert rows[name].share == wilson(4, 4)
    # Moving an atom by 1 Å exceeds the tolerance of nearly all crystals: a limit of the method.
    assert rows["perturbed 1 A"].hits < 4
    assert rows["perturbed 1 A"].method == 4 - rows["perturbed 1 A"].hits


def test_no_result_is_wrong_because_of_the_code(packaged: ControlsResult) -> None:
    assert [case for case in packaged.cases if case.fault == "code"] == []


def test_sources_are_found_and_random_crystals_are_not_duplicates(packaged: ControlsResult) -> None:
    rows = {(row.control, row.measure): row for row in packaged.rows}
    assert rows["substituted", "source is a candidate"].hits == 4
    assert rows["substituted", "specificity, duplicate"].hits == 4
    assert rows["randomised", "specificity, duplicate"].hits == 4
    # Without relaxation, crystals with candidates are undecided.
    known = rows["randomised", "specificity, known"]
    assert known.bounds is not None and known.bounds.high == 1.0
    assert ("substituted", "sensitivity, substituted") not in rows
    assert packaged.sensitivity is None


def test_held_out_crystals_are_not_in_their_reference(packaged: ControlsResult) -> None:
    report = packaged.reports["held_out"]
    assert report.context.reference_size == len(open_reference("aflow")) - 4
    assert {case.as_expected for case in packaged.cases if case.control == "held_out"} == {None}


def test_same_seed_gives_the_same_result_and_more_crystals_only_add(
    packaged: ControlsResult,
) -> None:
    metric = SubstitutionNovelty("aflow", relaxer=None, hull="none", scope="all")
    less = run_controls(metric, n=2, only=["rotated", "substituted"])
    more = [case for case in packaged.cases if case.control in ("rotated", "substituted")]
    assert [case for case in more if case.id in {one.id for one in less.cases}] == list(less.cases)
    other = run_controls(metric, n=2, only=["rotated"], seed=1)
    assert other.cases != less.cases[:2]


def test_planted_crystals_are_substituted(tmp_path: Path) -> None:
    metric = SubstitutionNovelty("aflow", relaxer=StaticRelaxer(), hull="none", scope="all")
    found = run_controls(metric, n=3, only=["substituted", "randomised"])
    rows = {(row.control, row.measure): row for row in found.rows}
    assert rows["substituted", "planted"].hits == 3
    assert found.sensitivity == Sensitivity(2, 3)
    assert rows["randomised", "specificity, known"].hits == 3
    by_group = [row for (_, measure), row in rows.items() if " sites" in measure]
    assert (sum(row.n for row in by_group), sum(row.hits for row in by_group)) == (3, 2)
    # With sulphur in place of oxygen the cell shrinks by more than 20 %, and the perturbation hides
    # the symmetry.
    (missed,) = [case for case in found.cases if case.as_expected is False]
    assert (missed.miss, missed.why) == (Miss.TOLERANCES, Miss.TOLERANCES.value)
    plain = run_controls(metric, n=3, only=["substituted"], explain=False)
    assert [case.why for case in plain.cases] == ["", "no candidate is confirmed", ""]
    found.save(tmp_path)
    content = json.loads((tmp_path / "controls.json").read_text())
    assert content["settings"]["seed"] == 0
    assert content["settings"]["planted_by"] == StaticRelaxer().info.key
    assert set(content["controls"][0]["share"]) == {"value", "low", "high"}
    with (tmp_path / "controls.csv").open(newline="") as stream:
        cases = {case["id"]: case for case in csv.DictReader(stream)}
    substituted = [case for case in cases.values() if case["control"] == "substituted"]
    assert [case["verdict"] for case in substituted] == ["substituted", "unmatched", "substituted"]
    assert (tmp_path / "scored" / "report.json").exists()
    assert (tmp_path / "substituted" / "report.json").exists()


def test_wrong_code_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search without duplicates disagrees with pymatgen and counts as an error of the code."""
    from novelty_metric.search.engine import ParentSearch

    monkeypatch.setattr(ParentSearch, "duplicate", lambda self, generated: None)
    metric = SubstitutionNovelty("aflow", relaxer=None, hull="none", scope="all")
    found = run_controls(metric, n=2, only=["rotated"])
    assert [case.fault for case in found.cases] == ["code", "code"]
    assert found.rows[0].code == 2


def test_held_out_crystals_of_the_user() -> None:
    reference = Reference.from_structures([RUTILE], ids=["rutile"])
    metric = SubstitutionNovelty(reference, relaxer=None, hull="none", scope="all")
    given = [Sample(str(i), RUTILE) for i in range(5)]
    found = run_controls(metric, n=3, only=[Control.HELD_OUT], held_out=given)
    assert [case.verdict for case in found.cases] == ["duplicate"] * 3
    with pytest.raises(InputError, match="no crystal would be left"):
        run_controls(metric, n=1, only=[Control.HELD_OUT])
    with pytest.raises(InputError, match="no control named 'noise'"):
        run_controls(metric, only=["noise"])
    with pytest.raises(InputError, match="n must be at least 1"):
        run_controls(metric, n=0)


# The command


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["controls", "relaxer=none", "n=2", "only=rotated", f"out={tmp_path / 'c'}"]
    assert main(arguments) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "rotated sens., duplicate 2 100 [34-100] 0 0" in text
    for term in ("%:", "bounds:", "sens. (", "spec. (", "known:", "method, code:"):
        assert term in text  # not explained by the table itself
    assert main(arguments) == 0  # the same file
    assert main([*arguments, "seed=1"]) == 2
    assert "controls of other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["n=0"], "n is '0'"),
        (["seed=x"], "seed is 'x'"),
        (["exchange=perturbed"], "it must be ion_exchange or random_substitution"),
        (["planted_by=noise"], "no relaxer named 'noise'"),
        (["only=noise"], "no control named 'noise'"),
        (["samples=x"], "controls: no setting named 'samples'"),
        (["refrence=aflow"], "did you mean 'reference'?"),
        (["reference=none-such"], "neither a known reference nor a file"),
        (["held_out=none-such"], "no such file"),
        (["word"], "not of the form key=value"),
    ],
)
def test_invalid_calls(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["controls", *arguments]) == 2
    err = capsys.readouterr().err
    assert complaint in err and err.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["controls", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: novelty-metric controls")
    assert all(control in text for control in Control)
