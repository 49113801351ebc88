"""The figure of novelty ratios: one row per run, real crystals at 1, arrows beyond the axis."""

from __future__ import annotations

import dataclasses

import pytest
from matplotlib.figure import Figure

from novelty_metric.figures.ratios import novelty_ratio, novelty_ratios
from novelty_metric.protocol import Protocol
from novelty_metric.reference.calibration import Calibration, LeftOutCrystal
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import CrystalResult, Verdict


def report(unmatched: int, total: int = 50, *, real: int | None = 10) -> NoveltyReport:
    """A report with a calibration of 100 real crystals, some of them unmatched; None: no
    calibration.
    """
    crystals = tuple(
        LeftOutCrystal(i, "cubic", True, "unmatched" if i < (real or 0) else "substituted", 1.0)
        for i in range(100)
    )
    context = RunContext(
        protocol=Protocol.named("fast"),
        reference_name="r",
        reference_size=100,
        crystals_hash="",
        store_hash="",
        calibration=None if real is None else Calibration("key", 0, crystals),
    )
    rows = [
        CrystalResult(
            id=str(i),
            eligible=True,
            crystal_system="cubic",
            verdict=Verdict.UNMATCHED if i < unmatched else Verdict.SUBSTITUTED,
        )
        for i in range(total)
    ]
    return NoveltyReport.from_results(rows, context)


def dots(figure: Figure, marker: str) -> list[tuple[float, float]]:
    (axes,) = figure.axes
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in axes.lines
        if line.get_marker() == marker
    ]


def texts(figure: Figure) -> list[str]:
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts]


def test_one_row_per_run_and_real_crystals_at_one() -> None:
    figure = novelty_ratios({"a": report(10), "perturbed": report(25)})
    assert dots(figure, "o") == [
        (pytest.approx(2), 0.0),
        (pytest.approx(5), 1.0),
        (pytest.approx(1), 2.0),
    ]
    assert [x for x, _ in dots(figure, "D")] == [pytest.approx(2), pytest.approx(5)]
    assert texts(figure)[0].startswith("2.0 [")
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["a", "perturbed", "real crystals (100)"]
    own, of_null = (line.get_color() for line in axes.lines if line.get_marker() == "D")
    assert own != of_null


def test_values_beyond_the_axis_are_arrows() -> None:
    figure = novelty_ratios({"copies": report(0), "new": report(10)})
    assert [y for _, y in dots(figure, "<")] == [0.0, 0.27]
    figure = novelty_ratios({"new": report(10, real=0)})
    assert [y for _, y in dots(figure, ">")] == [0.0, 0.27]
    assert texts(figure)[1] == "none unmatched"  # for the real crystals


def test_runs_without_a_ratio_show_the_reason() -> None:
    figure = novelty_ratios({"a": report(10), "b": report(10, real=None), "c": report(0, 0)})
    assert texts(figure)[1:3] == ["not calibrated", "none eligible"]
    assert "not calibrated" in texts(novelty_ratio(report(10, real=None)))[0]


def test_different_real_crystals_have_separate_rows() -> None:
    other = report(10, real=20)
    figure = novelty_ratios({"a": report(10), "b": other})
    assert [x for x, _ in dots(figure, "o")] == [pytest.approx(2), pytest.approx(1)]
    again = dataclasses.replace(other, results=other.results[:30])
    assert len(dots(novelty_ratios({"b": other, "c": again}), "o")) == 3
