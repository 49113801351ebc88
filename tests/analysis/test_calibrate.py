"""Leaving one crystal out equals a reference without it; calibrations are kept and found."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Composition

from novelty_metric import SubstitutionNovelty
from novelty_metric.analysis.calibrate import calibrate
from novelty_metric.cli import main
from novelty_metric.crystal import symmetry
from novelty_metric.errors import InputError, StoreError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference, open_reference
from novelty_metric.reference.calibration import (
    SUFFIX,
    Calibration,
    LeftOutCrystal,
    find_calibration,
)
from novelty_metric.relaxation.base import PotentialInfo, Relaxation, RelaxSettings, RelaxTask
from novelty_metric.report.files import load_report
from novelty_metric.report.real_crystals import beside_real_crystals
from novelty_metric.screening.hull import LowerHull, hull_without
from novelty_metric.search.engine import ParentSearch
from novelty_metric.verdict import CrystalResult, Verdict

N_CRYSTALS = 48


class Still:
    """A relaxer that moves nothing: every crystal is at its minimum."""

    def __init__(self, most: float = float("inf")) -> None:
        self.left = most
        self.done = 0

    @property
    def info(self) -> PotentialInfo:
        return PotentialInfo(name="still", version="1", weights_hash="0" * 64)

    def relax(
        self, queue: deque[RelaxTask], settings: RelaxSettings
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        while queue:
            if self.left <= 0:
                raise KeyboardInterrupt
            self.left -= 1
            self.done += 1
            task = queue.popleft()
            structure = task.structure.copy()
            yield (
                task,
                Relaxation(structure=structure, energy_after=-3.0, converged=True, seconds=0.0),
            )

    def energies(self, structures: Any) -> Iterator[float]:
        yield from (-3.0 for _ in structures)

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def small() -> Reference:
    """Every sixth AFLOW prototype."""
    aflow = open_reference("aflow")
    kept = set(range(0, len(aflow), len(aflow) // N_CRYSTALS))
    return aflow.without(index for index in range(len(aflow)) if index not in kept)


def metric_over(reference: Reference, **options: Any) -> SubstitutionNovelty:
    options = {"relaxer": Still(), "hull": "none", "cache": False, **options}
    return SubstitutionNovelty(reference, "fast", **options)


@pytest.mark.parametrize("index", range(0, N_CRYSTALS, 7))
def test_leaving_one_out_equals_a_reference_without_it(small: Reference, index: int) -> None:
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
    assert leaving.duplicate(structure) is not None  # itself, if it is not left out


def test_a_calibration_scores_each_crystal_against_the_others(small: Reference) -> None:
    found = calibrate(metric_over(small), n=10)
    for crystal in found.crystals:
        metric = metric_over(small.without([crystal.index]))
        (row,) = metric([small.structure(crystal.index)]).results
        assert crystal.eligible == row.eligible
        assert crystal.crystal_system == row.crystal_system
        assert crystal.verdict == (None if row.verdict is None else row.verdict.value)
        assert crystal.cost == row.cost
    assert len({crystal.index for crystal in found.crystals}) == 10


def test_an_interrupted_calibration_goes_on(
    small: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = calibrate(metric_over(small), n=20)
    files = list(Path(os_cache()).rglob(f"*{SUFFIX}"))
    assert len(files) == 1
    files[0].unlink()
    monkeypatch.setattr("novelty_metric.analysis.calibrate._AT_ONCE", 4)
    with pytest.raises(KeyboardInterrupt):
        calibrate(metric_over(small, relaxer=Still(most=12)), n=20)
    assert list(Path(os_cache()).rglob("*.part"))
    assert calibrate(metric_over(small), n=20).crystals == whole.crystals
    assert not list(Path(os_cache()).rglob("*.part"))
    again = Still()
    assert calibrate(metric_over(small, relaxer=again), n=20).crystals == whole.crystals
    assert again.done == 0  # all of them are known


def os_cache() -> str:
    return os.environ["NOVELTY_METRIC_CACHE"]


def test_a_larger_n_keeps_the_crystals_of_a_smaller_one(small: Reference) -> None:
    few = calibrate(metric_over(small), n=5)
    more = calibrate(metric_over(small), n=9)
    assert more.crystals[:5] == few.crystals
    assert calibrate(metric_over(small), n=5, seed=1).crystals != few.crystals


def test_a_report_finds_its_calibration_and_only_its_own(small: Reference, tmp_path: Path) -> None:
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
    other = SubstitutionNovelty(small, "paper", relaxer=Still(), hull="none", cache=False)
    assert other([small.structure(0)]).beside_real_crystals is None


def test_a_model_of_real_crystals_has_the_ratio_one() -> None:
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


def test_nothing_to_calibrate_with(small: Reference) -> None:
    with pytest.raises(InputError, match="needs a potential"):
        calibrate(metric_over(small, relaxer=None))


def test_a_damaged_calibration_is_named(small: Reference) -> None:
    found = calibrate(metric_over(small), n=2)
    (path,) = Path(os_cache()).rglob(f"*{SUFFIX}")
    path.write_text('{"format": "novelty-metric calibration"}')
    with pytest.raises(StoreError, match=r"calibration.json: damaged \(KeyError"):
        find_calibration(small, found.key)


def test_a_hull_without_a_composition() -> None:
    """B2 at -1 eV/atom lies on the hull; without it the elements are left."""
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
    assert hull_without(hull, boron) is hull  # an element stays


def test_the_verb_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "calibrate"]) == 2
    assert "needs one REFERENCE" in capsys.readouterr().err
    assert main(["reference", "calibrate", "aflow", "n=0"]) == 2
    assert "n is '0'" in capsys.readouterr().err
    assert main(["reference", "calibrate", "aflow", "relaxer=none"]) == 2
    assert "needs a potential" in capsys.readouterr().err
    assert main(["reference", "calibrate", "afow"]) == 2
    assert "afow" in capsys.readouterr().err
