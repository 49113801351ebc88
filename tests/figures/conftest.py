"""Small run folders in the format of `score`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import CrystalResult, Verdict

SYSTEMS = (("cubic", 225), ("hexagonal", 194), ("triclinic", 1))


def context(**more: Any) -> RunContext:
    given: dict[str, Any] = {
        "protocol": Protocol.named("fast"),
        "reference_name": "mine",
        "reference_size": 27136,
        "crystals_hash": "c" * 64,
        "store_hash": "d" * 64,
        "potential": PotentialInfo(name="chgnet", version="0.3.0", weights_hash="e" * 12),
        "hull": {"name": "reference"},
        "versions": {"spglib": "2.7.1"},
    }
    return RunContext(**{**given, **more})


@cache
def salt(first: str, second: str) -> CrystalRecord:
    from pymatgen.core import Lattice, Structure

    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return CrystalRecord.of(
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), [first, second], sites)
    )


@pytest.fixture
def make_report() -> Callable[..., NoveltyReport]:
    """Make a report with given numbers per verdict: `make_report(unmatched=2, duplicate=3)`."""

    def made(*, prefix: str = "gen", n_left_out: int = 0, **counts: int) -> NoveltyReport:
        rows = []
        for verdict in Verdict:
            for number in range(counts.get(verdict.value, 0)):
                system, space_group = SYSTEMS[number % len(SYSTEMS)]
                none = verdict is Verdict.UNMATCHED and number % 2 == 1
                rows.append(
                    CrystalResult(
                        id=f"{prefix}-{verdict.value}-{number}",
                        formula="KBr",
                        n_sites=2,
                        space_group=space_group,
                        crystal_system=system,
                        smact_valid=True,
                        converged=True,
                        e_above_hull=0.01 * (number % 9),
                        eligible=True,
                        verdict=verdict,
                        parent_id=None if none else "mp-1",
                        cost=None if none else 1.0 + number,
                        n_parents=0 if none else 2,
                        error="not finished" if verdict is Verdict.UNDECIDED else None,
                        structures=CrystalRecords(
                            generated=salt("K", "Br"),
                            parent=None if none else salt("Na", "Cl"),
                        ),
                    )
                )
        for number in range(n_left_out):
            rows.append(
                CrystalResult(
                    id=f"{prefix}-out-{number}", formula="Na2Cl", smact_valid=False, eligible=False
                )
            )
        return NoveltyReport.from_results(rows, context())

    return made


@pytest.fixture
def make_run(tmp_path: Path, make_report: Callable[..., NoveltyReport]) -> Callable[..., Path]:
    """Make the folder of such a report."""

    def made(name: str, **counts: int) -> Path:
        return make_report(prefix=name, **counts).save(tmp_path / "runs" / name)

    return made
