"""Terminal output about the calibration with real crystals."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from novelty_metric.comparison.compare import compare
from novelty_metric.comparison.spread import spread
from novelty_metric.protocol import Protocol
from novelty_metric.reference.calibration import (
    Calibration,
    HeldOut,
    LeftOutCrystal,
    Sensitivity,
)
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.terminal.calibration import agreement_lines, base_rate_lines, print_calibration
from novelty_metric.terminal.comparison import print_comparison
from novelty_metric.terminal.full_report import print_report
from novelty_metric.verdict import CrystalResult, Verdict

POTENTIAL = PotentialInfo(name="still", version="1", weights_hash="0" * 64)
REAL = Calibration(
    "key",
    0,
    tuple(
        LeftOutCrystal(i, "cubic", True, "unmatched" if i < 6 else "substituted", 1.0)
        for i in range(100)
    ),
)


def report(calibration: Calibration | None, n_unmatched: int = 12) -> NoveltyReport:
    context = RunContext(
        protocol=Protocol.named("fast"),
        reference_name="small",
        reference_size=100,
        crystals_hash="",
        store_hash="",
        potential=POTENTIAL,
        calibration=calibration,
    )
    rows = [
        CrystalResult(
            id=str(i),
            smact_valid=True,
            converged=True,
            eligible=True,
            crystal_system="cubic",
            verdict=Verdict.UNMATCHED if i < n_unmatched else Verdict.SUBSTITUTED,
            cost=1.0,
        )
        for i in range(100)
    ]
    return NoveltyReport.from_results(rows, context)


def printed(content: NoveltyReport) -> str:
    stream = io.StringIO()
    print_report(content, Console(file=stream, width=80))
    return stream.getvalue()


def test_base_rate_and_ratios_follow_the_headline() -> None:
    text = printed(report(REAL))
    assert "real crystals 6.0 %  6 of 100 are new to the others (95 %: 2.8-12.5 %)" in text
    assert "novelty ratio (real: 1) 2.0 [0.8-5.0]; with equal crystal systems 2.0 [" in text
    row = next(line for line in text.splitlines() if line.startswith("cubic"))
    assert row.endswith("6 [ 3- 12]")


def test_sensitivity_follows_the_base_rate() -> None:
    text = printed(report(replace(REAL, sensitivity=Sensitivity(19, 20))))
    line = "sensitivity: the method finds 95 % [76-99] of known substitutions"
    base = next(i for i, one in enumerate(text.splitlines()) if one.startswith("real crystals "))
    assert text.splitlines()[base + 1] == line
    assert "sensitivity" not in printed(report(REAL))


@pytest.mark.parametrize(
    ("n_unmatched", "answer"),
    [
        (0, "new less often than real crystals of equal crystal systems"),
        (6, "new as often as real crystals of equal crystal systems, within noise"),
        (60, "new more often than real crystals of equal crystal systems"),
    ],
)
def test_comparison_is_printed_as_text(n_unmatched: int, answer: str) -> None:
    assert f"in short: {answer}\n" in printed(report(REAL, n_unmatched))


def test_without_a_calibration_one_line_names_the_command() -> None:
    (line,) = base_rate_lines(report(None), "novelty-metric reference calibrate mine.arrow")
    assert line.plain == (
        "base rate of real crystals unknown: novelty-metric reference calibrate mine.arrow"
    )
    assert "real, %" not in printed(report(None))


def test_calibration_is_printed_by_verdict_and_crystal_system() -> None:
    stream = io.StringIO()
    print_calibration("small", REAL, Console(file=stream, width=80))
    lines = stream.getvalue().splitlines()
    assert lines[0] == (
        "100 of 100 crystals of small are eligible; each was scored against the others"
    )
    assert any(line.split()[:2] == ["unmatched", "6"] for line in lines)
    assert any(line.split()[:3] == ["cubic", "100", "6"] for line in lines)


def test_both_estimates_are_printed_with_agreement_and_sensitivity() -> None:
    other = tuple(
        LeftOutCrystal(None, "cubic", True, "unmatched" if i < 5 else "duplicate", 1.0, f"v{i}")
        for i in range(50)
    )
    both = replace(
        REAL, held_out=HeldOut("val.csv", "abc", 0, other), sensitivity=Sensitivity(19, 20)
    )
    stream = io.StringIO()
    print_calibration("small", both, Console(file=stream, width=200))
    lines = stream.getvalue().splitlines()
    row = next(line.split() for line in lines if line.startswith("unmatched"))
    assert row == ["unmatched", "6", "6.0", "[2.8-12.5]", "5", "10.0", "[4.3-21.4]"]
    text = stream.getvalue()
    assert "50 of 50 crystals of val.csv are eligible" in text
    assert "The two base rates agree: held out minus left out +4.0 [" in text
    assert "finds 19 of 20 known substitutions (95 % [76-99])" in text
    many = replace(both, held_out=HeldOut("val.csv", "abc", 0, other[:6]))
    assert agreement_lines(many)[0].startswith("The two base rates differ by more than chance")


def test_comparison_shows_both_ratios() -> None:
    stream = io.StringIO()
    one, other = report(REAL, 6), report(REAL, 12)
    print_comparison(compare(one, other), Console(file=stream, width=100))
    lines = stream.getvalue().splitlines()
    row = next(line for line in lines if line.startswith("novelty ratio"))
    assert row.split() == [
        *("novelty", "ratio", "1.0", "[0.4-2.9]", "2.0", "[0.8-5.0]", "2.0", "[0.8-5.0]")
    ]
    stream.truncate(0)
    print_comparison(compare(one, report(None)), Console(file=stream, width=100))
    assert "not compared: the runs have different calibrations, or one has none" in (
        stream.getvalue()
    )
    spread_of_two = spread([one, other])
    ratio = next(figure for figure in spread_of_two.figures if figure.name == "novelty ratio")
    assert ratio.values == pytest.approx((1.0, 2.0))
    assert ratio.mean is not None
    assert ratio.mean.value == pytest.approx(1.5)
