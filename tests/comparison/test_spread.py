"""Mean and spread of several runs."""

from __future__ import annotations

import math

import pytest

from novelty_metric.comparison.spread import spread
from novelty_metric.protocol import Protocol
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import CrystalResult, Verdict


def run(unmatched: int, total: int = 100, preset: str = "fast") -> NoveltyReport:
    rows = [
        CrystalResult(
            id=str(i),
            smact_valid=True,
            eligible=True,
            verdict=Verdict.UNMATCHED if i < unmatched else Verdict.DUPLICATE,
        )
        for i in range(total)
    ]
    context = RunContext(
        protocol=Protocol.named(preset),
        reference_name="r",
        reference_size=1,
        crystals_hash="c",
        store_hash="d",
    )
    return NoveltyReport.from_results(rows, context)


def test_three_seeds_calculated_by_hand() -> None:
    found = spread([run(10), run(20), run(30)])
    figure = {one.name: one for one in found.figures}["unmatched"]
    assert figure.values == (0.1, 0.2, 0.3)
    assert figure.mean is not None and figure.mean.low is not None
    assert figure.mean.value == pytest.approx(0.2)
    assert figure.deviation == pytest.approx(0.1)
    # t(0.975, 2) = 4.30265: below 0, where the interval of a share ends.
    assert figure.mean.low == 0.0
    assert figure.mean.high == pytest.approx(0.2 + 4.30265 * 0.1 / math.sqrt(3), abs=1e-5)
    assert figure.by_chance == pytest.approx(math.sqrt(0.2 * 0.8 / 100))
    assert found.mismatches == ()


def test_missing_values_of_a_run_are_excluded() -> None:
    found = spread([run(0, 0), run(5, 10)])
    figure = {one.name: one for one in found.figures}["unmatched"]
    assert (figure.values, figure.deviation) == ((None, 0.5), None)
    assert {one.name: one for one in found.figures}["stable, unique, novel"].mean is None


def test_other_settings_are_reported_once() -> None:
    found = spread([run(1), run(1, preset="paper"), run(1, preset="paper")])
    names = [mismatch.what for mismatch in found.mismatches]
    assert "protocol.fmax" in names and len(names) == len(set(names))


def test_without_reports() -> None:
    with pytest.raises(ValueError, match="no report"):
        spread([])
