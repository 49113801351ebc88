"""Leave-one-out agrees with a reference without the crystal; calibrations are saved and found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Composition
from static_relaxer import StaticRelaxer

from novelty_metric import SubstitutionNovelty
from novelty_metric.analysis.calibrate import HeldOutFile, calibrate, keep_sensitivity
from novelty_metric.cli import main
from novelty_metric.crystal import symmetry
from novelty_metric.errors import InputError, StoreError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference, open_reference
from novelty_metric.reference.calibration import (
    SUFFIX,
    Calibration,
    LeftOutCrystal,
    Sensitivity,
    find_calibration,
    save_calibration,
)
from novelty_metric.relaxation.base import Relaxation, RelaxTask
from novelty_metric.report.files import load_report
from novelty_metric.report.of_cases import key_of_context
from novelty_metric.report.real_crystals import beside_real_crystals
from novelty_metric.samples.base import Sample
from novelty_metric.scoring.case import Case
from novelty_metric.screening.hull import LowerHull, hull_without
from novelty_metric.search.engine import ParentSearch
from novelty_metric.verdict import CrystalResult, Verdict

N_CRYSTALS = 32


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def small() -> Reference:
    """Every ninth AFLOW prototype."""
    aflow = open_reference("aflow")
    kept = set(range(0, len(aflow), len(aflow) // N_CRYSTALS))
    return aflow.without(index for index in range(len(aflow)) if index not in kept)


def metric_over(reference: Reference, **options: Any) -> SubstitutionNovelty:
    options = {"relaxer": StaticRelaxer(), "hull": "none", "cache": False, **options}
    return SubstitutionNovelty(reference, "fast", **options)


@pytest.mark.parametrize("index", range(0, N_CRYSTALS, 7))
def test_leave_one_out_agrees_with_a_reference_without_the_crystal(
    small: Reference, index: int
) -> None:
    protocol = Protocol.named("fast")
    others = small.without([index])
    structure = small.structure(index)
    found_symmetry = symmetry(structure, symprec=0.01, angle_tolerance=5)
    leaving, without = ParentSearch(small, protocol), ParentSearch(others, protocol)

    def plain(result: Any) -> list[tuple[Any, ...]]:
        return [(p.route, p.rank, p.parent_id, p.cost, p.match_rms) for p in result.parents]

    left_out = leaving.parents(structure, found_symmetry, leave_out=index)
    assert plain(left_out) == plain(without.parents(structure, found_symmetry))
    assert all(parent.index != index for parent in left_out.parents)
    duplicates = leaving.duplicate(structure, leave_out=index), without.duplicate(structure)
    first, second = (None if found is None else found.parent_id for found in duplicates)
    assert first == second
    assert leaving.duplicate(structure) is not None  # its duplicate is itself unless it is left out


def test_calibration_scores_each_crystal_against_the_others(small: Reference) -> None:
    found = calibrate(metric_over(small), n=10)
    for crystal in found.crystals:
        metric = metric_over(small.without([crystal.index]))
        (row,) = metric([small.structure(crystal.index)]).results
        assert crystal.eligible == row.eligible
        assert crystal.crystal_system == row.crystal_system
        assert crystal.verdict == (None if row.verdict is None else row.verdict.value)
        assert crystal.cost == row.cost
    assert len({crystal.index for crystal in found.crystals}) == 10


def test_samples_that_leave_themselves_out_agree_with_a_calibration(small: Reference) -> None:
    """Also with a hull, which omits the composition of the sample."""
    found = calibrate(metric_over(small, hull="reference"), n=N_CRYSTALS)
    ids = [small.ids[crystal.index] for crystal in found.crystals]
    structures = [small.structure(crystal.index) for crystal in found.crystals]
    metric = metric_over(small, hull="reference", leave_one_out=True)
    report = metric([*structures, structures[0], structures[1]], [*ids, "no id", ids[0] + "x"])
    for crystal, row in zip(found.crystals, report.results, strict=False):
        assert row.eligible == crystal.eligible
        assert row.verdict == crystal.verdict
        assert row.cost == crystal.cost
    assert report.context.leave_one_out
    for row in report.results[-2:]:
        assert row.error == "leave_one_out=true: the reference contains no crystal with this id"
    assert len({crystal.verdict for crystal in found.crystals}) > 1


def test_other_crystal_with_an_id_of_the_reference_is_an_error(small: Reference) -> None:
    metric = metric_over(small, leave_one_out=True)
    (row,) = metric([small.structure(1)], [small.ids[0]]).results
    assert (
        row.error == "leave_one_out=true: the reference crystal with this id is a different crystal"
    )


def test_interrupted_calibration_is_resumed(
    small: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = calibrate(metric_over(small), n=20)
    files = list(Path(os_cache()).rglob(f"*{SUFFIX}"))
    assert len(files) == 1
    files[0].unlink()
    monkeypatch.setattr("novelty_metric.analysis.calibrate._AT_ONCE", 4)
    left = iter(range(12))

    def end(task: RelaxTask, found: Relaxation) -> Relaxation:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return found

    with pytest.raises(KeyboardInterrupt):
        calibrate(metric_over(small, relaxer=StaticRelaxer(end=end)), n=20)
    assert list(Path(os_cache()).rglob("*.part"))
    assert calibrate(metric_over(small), n=20).crystals == whole.crystals
    assert not list(Path(os_cache()).rglob("*.part"))
    again = StaticRelaxer()
    assert calibrate(metric_over(small, relaxer=again), n=20).crystals == whole.crystals
    assert again.n_relaxed == 0  # all crystals are done


def os_cache() -> str:
    return os.environ["NOVELTY_METRIC_CACHE"]


def test_larger_n_keeps_the_crystals_of_a_smaller_one(small: Reference) -> None:
    few = calibrate(metric_over(small), n=5)
    more = calibrate(metric_over(small), n=9)
    assert more.crystals[:5] == few.crystals
    assert calibrate(metric_over(small), n=5, seed=1).crystals != few.crystals


def test_report_finds_only_its_own_calibration(small: Reference, tmp_path: Path) -> None:
    metric = metric_over(small)
    assert metric([small.structure(0)]).beside_real_crystals is None
    found = calibrate(metric, n=N_CRYSTALS)
    report = metric([small.structure(0), small.structure(1)])
    beside = report.beside_real_crystals
    assert beside is not None
    assert beside.n == found.count("unmatched")[1]
    assert beside.novelty_ratio is not None
    assert beside.novelty_ratio.value == 0.0
    assert beside.copying_z is not None
    assert beside.copying_z < 0
    scalars = report.scalars()
    assert scalars["novelty/ratio"] == scalars["novelty/ratio_ci_low"] == 0.0
    assert scalars["novelty/base_rate"] == found.base_rate.value
    report.save(tmp_path / "out")
    read = load_report(tmp_path / "out")
    assert read.context.calibration == found
    assert read.beside_real_crystals == beside
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["beside_real_crystals"]["n"] == beside.n
    other = SubstitutionNovelty(small, "paper", relaxer=StaticRelaxer(), hull="none", cache=False)
    assert other([small.structure(0)]).beside_real_crystals is None


def test_base_rate_is_shown_for_each_crystal_system(small: Reference, tmp_path: Path) -> None:
    metric = metric_over(small)
    found = calibrate(metric, n=N_CRYSTALS, held_out=held_out_file(3))
    assert keep_sensitivity(metric, Sensitivity(17, 20))
    report = metric([small.structure(index) for index in range(12)])
    beside = report.beside_real_crystals
    assert beside is not None
    assert found.held_out is not None
    assert beside.held_out == found.held_out.base_rate
    assert beside.sensitivity is not None
    assert beside.sensitivity.value == 0.85
    report.save(tmp_path / "out")
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    groups = content["breakdowns"]["crystal_system"]
    counts = found.counts("unmatched")
    assert groups
    for system, group in groups.items():
        hits, total = counts[system]
        assert group["base_rate"]["value"] == hits / total
    frame = report.breakdown_frame("crystal_system")
    for row in frame[frame["verdict"] == "unmatched"].itertuples():
        assert (row.real, row.n_real) == (
            groups[row.crystal_system]["base_rate"]["value"],
            counts[row.crystal_system][1],
        )
    assert "n_real" not in report.breakdown_frame("n_elements")


def test_local_calibration_has_priority_over_the_packaged_one() -> None:
    aflow = open_reference("aflow")
    (packaged,) = Path(aflow.path).parent.glob(f"aflow*{SUFFIX}")
    key = json.loads(packaged.read_text())["key"]
    before = find_calibration(aflow, key)
    assert before is not None
    own = replace(before, sensitivity=Sensitivity(3, 4), crystals_hash=aflow.crystals_hash)
    save_calibration(aflow, own)
    assert find_calibration(aflow, key) == own


def test_ratio_of_real_crystals_is_one() -> None:
    crystals = tuple(
        LeftOutCrystal(i, "cubic", True, "unmatched" if i % 5 == 0 else "substituted", i / 7)
        for i in range(100)
    )
    rows = [
        CrystalResult(
            id=str(c.index),
            crystal_system="cubic",
            eligible=True,
            verdict=Verdict(c.verdict),
            cost=c.cost,
        )
        for c in crystals
    ]
    beside = beside_real_crystals(rows, Calibration("key", 0, crystals))
    assert beside is not None
    assert beside.novelty_ratio is not None
    assert beside.novelty_ratio.value == 1
    assert beside.standardised is not None
    assert beside.standardised.ratio.value == pytest.approx(1)
    assert beside.copying_z == 0
    assert beside.base_rate.value == 0.2


def test_calibration_without_suitable_crystals(small: Reference) -> None:
    with pytest.raises(InputError, match="needs the energies of a potential"):
        calibrate(metric_over(small, relaxer=None))


@pytest.fixture
def stored(small: Reference, tmp_path: Path) -> Path:
    """A stored reference with a calibration."""
    path = tmp_path / "small.arrow"
    small.save(path)
    calibrate(metric_over(open_reference(path)), n=3)
    return path


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:40], "damaged"),
        (lambda text: "[]", r"damaged \(TypeError"),
        (lambda text: '{"format": "novelty-metric calibration"}', r"damaged \(KeyError"),
        (lambda text: text.replace('"seed": 0', '"seed": null'), "damaged"),
        (lambda text: text.replace("true", '"yes"'), "damaged"),
        (lambda text: text.replace("substituted", "copied").replace("unmatched", "new"), "damaged"),
        (lambda text: text.replace('"crystals_hash": "', '"crystals_hash": "0'), "other crystals"),
        (lambda text: text.replace('"key": "', '"key": "0'), "other settings"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 9'), "newer"),
    ],
)
def test_damaged_or_foreign_calibration_is_reported_when_the_reference_is_opened(
    stored: Path, damage: Callable[[str], str], message: str
) -> None:
    (path,) = stored.parent.glob(f"*{SUFFIX}")
    before = path.read_text()
    path.write_text(damage(before))
    assert path.read_text() != before
    with pytest.raises(StoreError, match=message) as caught:
        open_reference(stored)
    assert str(path) in str(caught.value)
    assert "delete it" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_calibration_without_the_name_of_its_reference_is_read(stored: Path) -> None:
    (path,) = stored.parent.glob(f"*{SUFFIX}")
    content = json.loads(path.read_text())
    del content["crystals_hash"]
    path.write_text(json.dumps(content))
    open_reference(stored)
    content["crystals"][0][0] = N_CRYSTALS + 5  # not a crystal of this reference
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="other crystals"):
        open_reference(stored)


def held_out_file(count: int, sha256: str = "abc") -> HeldOutFile:
    """AFLOW prototypes that are not in `small`, one of them unreadable."""
    aflow = open_reference("aflow")
    samples = [Sample(f"real-{index}", aflow.structure(index)) for index in range(1, count)]
    return HeldOutFile("val.csv", sha256, (*samples, Sample("broken", None, "no lattice")))


def test_held_out_crystals_are_scored_against_the_whole_reference(
    small: Reference, tmp_path: Path
) -> None:
    held_out = held_out_file(5)
    found = calibrate(metric_over(small), n=4, held_out=held_out)
    assert found.held_out is not None
    assert found.held_out.n_drawn == 5
    assert [one.id for one in found.held_out.crystals] == [one.id for one in held_out.samples]
    for crystal, sample in zip(found.held_out.crystals[:-1], held_out.samples, strict=False):
        (row,) = metric_over(small)([sample.structure]).results
        assert (crystal.eligible, crystal.cost) == (row.eligible, row.cost)
        assert crystal.verdict == (None if row.verdict is None else row.verdict.value)
    assert not found.held_out.crystals[-1].eligible
    change = found.change_to_held_out
    assert change is not None
    assert change.low < change.value < change.high
    kept = calibrate(metric_over(small), n=6)  # the second estimate is kept
    assert kept.held_out == found.held_out
    assert find_calibration(small, found.key) == kept
    report = metric_over(small)([small.structure(0)])
    report.save(tmp_path / "out")
    assert load_report(tmp_path / "out").context.calibration == kept


def test_held_out_crystals_are_scored_once(small: Reference) -> None:
    calibrate(metric_over(small), n=4, held_out=held_out_file(4))
    again, other = StaticRelaxer(), StaticRelaxer()
    calibrate(metric_over(small, relaxer=again), n=4, held_out=held_out_file(4))
    assert again.n_relaxed == 0
    calibrate(metric_over(small, relaxer=other), n=4, held_out=held_out_file(4, sha256="xyz"))
    assert other.n_relaxed > 0  # another file of the same name


def test_hull_omits_the_composition_of_a_held_out_crystal(small: Reference) -> None:
    """A crystal far above the ground state of its composition becomes eligible without it."""
    metric = metric_over(small, hull="reference")
    index = next(i for i in range(N_CRYSTALS) if len(small.composition_key(i)) > 1)
    sample = Sample("mine", small.structure(index))
    known, unknown = Case(sample), Case(sample, unknown_to_hull=True)
    metric.pipeline.run([known, unknown])
    assert known.e_above_hull is not None
    assert unknown.e_above_hull is None or unknown.e_above_hull < known.e_above_hull + 1e-9
    left_out = Case(sample, leave_out=index, unknown_to_hull=True)
    metric.pipeline.run([left_out])
    assert left_out.e_above_hull == unknown.e_above_hull
    leaving = metric_over(small, hull="reference", leave_one_out=True)
    itself = Case(Sample(small.ids[index], sample.structure))
    leaving.pipeline.run([itself])
    assert itself.error is None
    assert itself.e_above_hull == unknown.e_above_hull


def test_report_and_metric_have_the_same_calibration_key(small: Reference) -> None:
    for options in ({}, {"hull": "reference"}, {"relaxer": None}):
        metric = metric_over(small, **options)
        report = metric([small.structure(0)])
        assert key_of_context(report.context) == key_of_context(metric.context())


def test_hull_without_a_composition() -> None:
    """B2 at -1 eV/atom is on the hull; without B2 only the elements remain."""
    boron, carbon = ((5, 1),), ((6, 1),)
    compound = ((5, 1), (6, 1))

    class Known:
        lower = LowerHull.of([(boron, 0.0), (carbon, 0.0), (compound, -1.0)])

    own = Composition("BC")
    hull: Any = Known()
    distances = [
        one.lower.distance(own, -1.0).e_above_hull for one in (hull, hull_without(hull, compound))
    ]
    assert np.allclose(distances, [0.0, -1.0])
    assert hull_without(hull, boron) is hull  # elements are never omitted


def test_command_refuses_unknown_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "calibrate"]) == 2
    assert "needs one REFERENCE" in capsys.readouterr().err
    assert main(["reference", "calibrate", "aflow", "n=0"]) == 2
    assert "n is '0'" in capsys.readouterr().err
    assert main(["reference", "calibrate", "aflow", "relaxer=none"]) == 2
    assert "needs the energies of a potential" in capsys.readouterr().err
    assert main(["reference", "calibrate", "afow"]) == 2
    assert "afow" in capsys.readouterr().err
