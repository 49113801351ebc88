"""Crystals with equal verdicts in two runs, counted by hand."""

from __future__ import annotations

import dataclasses

import pytest

from novelty_metric import CrystalResult, NoveltyReport, Protocol, Verdict
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.agreement import verdict_agreement
from novelty_metric.report.context import RunContext
from novelty_metric.support.statistics import wilson

DUPLICATE, SUBSTITUTED, UNMATCHED = Verdict.DUPLICATE, Verdict.SUBSTITUTED, Verdict.UNMATCHED


def report(potential: str, rows: list[tuple[str, Verdict | None, str | None]]) -> NoveltyReport:
    results = [
        CrystalResult(id=name, verdict=verdict, crystal_system=system, eligible=verdict is not None)
        for name, verdict, system in rows
    ]
    context = RunContext(
        protocol=Protocol.named("fast"),
        reference_name="aflow",
        reference_size=288,
        crystals_hash="0",
        store_hash="0",
        potential=PotentialInfo(name=potential, version="1", weights_hash="0"),
    )
    return NoveltyReport.from_results(results, context)


FIRST = [
    ("a", DUPLICATE, "cubic"),
    ("b", SUBSTITUTED, "cubic"),
    ("c", UNMATCHED, "triclinic"),
    ("d", UNMATCHED, None),
    ("e", UNMATCHED, "cubic"),
    ("f", None, "cubic"),
]
SECOND = [
    ("f", DUPLICATE, "cubic"),
    ("a", DUPLICATE, "tetragonal"),
    ("b", UNMATCHED, "cubic"),
    ("c", UNMATCHED, "triclinic"),
    ("d", SUBSTITUTED, "cubic"),
    ("e", None, "cubic"),
]


def test_agreement_by_verdict_and_crystal_system() -> None:
    found = verdict_agreement(report("chgnet", FIRST), report("sevennet-0", SECOND))
    assert (found.first, found.second) == ("CHGNet", "SevenNet-0")
    assert (found.only_first, found.only_second) == (1, 1)
    assert [(g.breakdown, g.group, g.kept, g.total) for g in found.groups] == [
        ("all", "all", 2, 4),
        ("verdict", "duplicate", 1, 1),
        ("verdict", "substituted", 0, 1),
        ("verdict", "unmatched", 1, 2),
        ("crystal_system", "triclinic", 1, 1),
        ("crystal_system", "cubic", 1, 2),
        ("crystal_system", "unknown", 0, 1),
    ]
    assert found.groups[0].share == wilson(2, 4)
    row = found.to_dict()["groups"][0]
    assert row["share"] == 0.5 and row["low"] == pytest.approx(0.150, abs=5e-4)


def test_crystals_are_paired_by_id() -> None:
    one = report("chgnet", FIRST)
    straight = verdict_agreement(one, report("sevennet-0", SECOND))
    assert verdict_agreement(one, report("sevennet-0", SECOND[::-1])) == straight
    with_itself = verdict_agreement(one, one)
    assert all(group.kept == group.total for group in with_itself.groups)


def test_agreement_without_eligible_crystals() -> None:
    found = verdict_agreement(report("chgnet", FIRST[5:]), report("mace-medium-mpa-0", FIRST[5:]))
    assert found.groups[0].share is None and len(found.groups) == 1
    assert dataclasses.replace(found, second="MACE-MPA-0") == found
