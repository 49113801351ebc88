"""A report compared with its baseline: beyond the tolerance, and beyond chance."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.protocol import Protocol
from novelty_metric.reference.calibration import Calibration, LeftOutCrystal
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.testing.assessment import Status, assess, broken_floors
from novelty_metric.testing.checks import NoveltyCheck
from novelty_metric.testing.tolerance import parse_tolerances
from novelty_metric.verdict import CrystalResult, Verdict

CONTEXT = RunContext(
    protocol=Protocol.named("fast"),
    reference_name="r",
    reference_size=1,
    crystals_hash="c",
    store_hash="s",
)


def report(unmatched: int, total: int, prefix: str = "", not_eligible: int = 0) -> NoveltyReport:
    verdicts: list[Verdict | None] = [Verdict.UNMATCHED] * unmatched
    verdicts += [Verdict.DUPLICATE] * (total - unmatched)
    verdicts += [None] * not_eligible
    rows = [
        CrystalResult(
            id=f"{prefix}{i}",
            smact_valid=True,
            eligible=verdict is not None,
            verdict=verdict,
            duplicate_group=i,
        )
        for i, verdict in enumerate(verdicts)
    ]
    return NoveltyReport.from_results(rows, CONTEXT)


def status(before: NoveltyReport, after: NoveltyReport, expression: str) -> Status:
    (watched,) = assess(before, after, parse_tolerances(expression)).watched
    return Status(watched["status"])


@pytest.mark.parametrize(
    ("after", "expression", "expected"),
    [
        (40, "unmatched:-5%", Status.KEPT),
        (55, "unmatched:-5%", Status.KEPT),
        (39, "unmatched:-5%", Status.WITHIN_TOLERANCE),
        # 5 % of 0.40 is 0.02: 38 of 100 is exactly at the tolerance, 37 is beyond it.
        (38, "unmatched:-5%", Status.WITHIN_TOLERANCE),
        (37, "unmatched:-5%", Status.WITHIN_NOISE),
        (35, "unmatched:-0.05", Status.WITHIN_TOLERANCE),
        (30, "unmatched:-0.05", Status.WITHIN_NOISE),
        (20, "unmatched:-0.05", Status.REGRESSED),
        (20, "unmatched:-0.20", Status.WITHIN_TOLERANCE),
        (20, "unmatched:-0.19", Status.REGRESSED),
        (20, "unmatched:+0.05", Status.KEPT),
        (60, "unmatched:+0.05", Status.REGRESSED),
        (20, "duplicate:0.05", Status.REGRESSED),
        (20, "novel_yield:0.05", Status.REGRESSED),
        (20, "novel_yield:50%", Status.WITHIN_TOLERANCE),
    ],
)
def test_hundred_other_crystals(after: int, expression: str, expected: Status) -> None:
    assert status(report(40, 100, "a"), report(after, 100, "b"), expression) is expected


def test_paired_crystals_distinguish_smaller_changes_from_noise() -> None:
    before = report(40, 100)
    assert status(before, report(30, 100, "b"), "unmatched:-0.05") is Status.WITHIN_NOISE
    assert status(before, report(30, 100), "unmatched:-0.05") is Status.REGRESSED


def test_nothing_eligible() -> None:
    nothing, something = report(0, 0, not_eligible=20), report(10, 20)
    assert status(something, nothing, "unmatched:-0.05") is Status.REGRESSED
    assert status(nothing, something, "unmatched:-0.05") is Status.UNKNOWN
    assert not assess(nothing, something, parse_tolerances("unmatched:0")).regressed


@given(st.integers(0, 80), st.integers(0, 80), st.integers(0, 1000))
def test_regression_exceeds_tolerance_and_chance(before: int, after: int, thousandths: int) -> None:
    tolerance = thousandths / 1000
    (watched,) = assess(
        report(before, 80, "a"), report(after, 80, "b"), parse_tolerances(f"unmatched:-{tolerance}")
    ).watched
    _, _, high = watched["change"]
    beyond_both = (before - after) / 80 > tolerance + 1e-9 and high < 0
    assert (watched["status"] == Status.REGRESSED) == beyond_both


@pytest.mark.slow
def test_rate_of_false_alarms() -> None:
    """Two random samples of one model: at most about 2.5 % are called a regression."""
    import numpy as np

    rng = np.random.default_rng(3)
    draws = rng.binomial(100, 0.3, size=(600, 2))
    tolerances = parse_tolerances("unmatched:-0")
    called = sum(
        assess(report(int(a), 100, "a"), report(int(b), 100, "b"), tolerances).regressed
        for a, b in draws
    )
    # 15 of 600 are expected; more than 27 occur once in 500 times.
    assert called <= 27
    assert called > 0


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"min_unmatched": 0.4}, []),
        ({"min_unmatched": 0.41}, ["min_unmatched"]),
        ({"max_duplicate": 0.6}, []),
        ({"max_duplicate": 0.59}, ["max_duplicate"]),
        ({"min_unmatched": 0.5, "max_duplicate": 0.5}, ["min_unmatched", "max_duplicate"]),
    ],
)
def test_limits(given: dict[str, float], names: list[str]) -> None:
    check = NoveltyCheck(model="m", **given)  # type: ignore[arg-type]
    assert [
        re.findall(r"m\w+_\w+", line)[0] for line in broken_floors(check, report(40, 100))
    ] == names


def test_lower_limit_is_violated_without_eligible_crystals() -> None:
    check = NoveltyCheck(model="m", min_unmatched=0.0, max_duplicate=0.0)
    (line,) = broken_floors(check, report(0, 0))
    assert line == "unmatched: nothing is eligible, so min_unmatched=0 is not kept"


REAL = Calibration(
    "key",
    0,
    tuple(
        LeftOutCrystal(i, "cubic", True, "unmatched" if i < 20 else "substituted", 1.0)
        for i in range(100)
    ),
)


def calibrated(novel: int, eligible: int) -> NoveltyReport:
    found = report(novel, eligible)
    return dataclasses.replace(found, context=dataclasses.replace(found.context, calibration=REAL))


def test_lower_limit_of_the_novelty_ratio() -> None:
    assert broken_floors(NoveltyCheck(model="m", min_ratio=1.5), calibrated(30, 100)) == []
    check = NoveltyCheck(model="m", min_ratio=1.6)
    (floor,) = broken_floors(check, calibrated(30, 100))
    assert floor == (
        "novelty ratio 1.5 [0.9-2.5] for 100 eligible (real crystals: 20.0 % [13.3-28.9] unmatched)"
        ": below min_ratio=1.6 (which lies within the interval)"
    )
    (floor,) = broken_floors(check, report(30, 100))
    assert floor == (
        "novelty ratio: unknown, as the reference is not calibrated; run `novelty-metric reference "
        "calibrate REFERENCE` with the settings of the test"
    )
    (floor,) = broken_floors(check, calibrated(0, 0))
    assert floor == "novelty ratio: nothing is eligible, so min_ratio=1.6 is not kept"
    assert not broken_floors(dataclasses.replace(check, allow_empty=True), calibrated(0, 0))
