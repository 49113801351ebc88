"""The output of `score`, at most thirty lines: its content and its length."""

from __future__ import annotations

import dataclasses
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.protocol import Protocol
from novelty_metric.reference.calibration import Calibration, LeftOutCrystal
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.terminal.console import stdout_console
from novelty_metric.terminal.screen import MOST_LINES, NextStep, parts, print_screen
from novelty_metric.verdict import CrystalResult, Verdict

SYSTEMS = (*CRYSTAL_SYSTEMS, None)
REAL = Calibration(
    "key",
    0,
    tuple(
        LeftOutCrystal(i, SYSTEMS[i % 7], True, "unmatched" if i % 2 == 0 else "substituted", 9.0)
        for i in range(300)
    ),
)
STEPS = [NextStep(f"novelty-metric report run{i}", "a page") for i in range(4)]
WARNING = "the samples contain something that is odd, " * 4


def row(at: int, verdict: Verdict, **changes: object) -> CrystalResult:
    result = CrystalResult(
        id=str(at),
        smact_valid=True,
        converged=True,
        e_above_hull=0.0,
        eligible=True,
        crystal_system=SYSTEMS[at % 8],
        verdict=verdict,
        cost=0.0 if verdict == Verdict.DUPLICATE else 5.0,
    )
    return dataclasses.replace(result, **changes)


def crowded() -> list[CrystalResult]:
    """Rows that cause every possible line of the output."""
    rows = [row(at, list(Verdict)[at % 4]) for at in range(400)]
    alone = {"Na": 0.5, "Cl2": 0.5}
    rows += [row(0, Verdict.UNMATCHED, energy_suspect=True, decomposition=alone)]
    out = CrystalResult(id="", smact_valid=True, converged=True, eligible=False, error="so")
    rows += [
        CrystalResult(id="a", error="no cell", readable=False),
        dataclasses.replace(out, smact_valid=False),
        dataclasses.replace(out, converged=False),
        dataclasses.replace(out, e_above_hull=0.4),
        dataclasses.replace(out, smact_valid=None),
        out,
        row(6, Verdict.DUPLICATE, eligible=None),
    ]
    return rows


def report(
    rows: list[CrystalResult],
    *,
    n_warnings: int = 0,
    calibration: Calibration | None = REAL,
    relaxed: bool = True,
) -> NoveltyReport:
    context = RunContext(
        protocol=Protocol.named("fast"),
        reference_name="mp_20",
        reference_size=27136,
        crystals_hash="",
        store_hash="",
        potential=PotentialInfo(name="chgnet", version="0", weights_hash="0") if relaxed else None,
        hull={"name": "mp_20"},
        warnings=tuple(f"{number}: {WARNING}" for number in range(n_warnings)),
        calibration=calibration,
    )
    return NoveltyReport.from_results(rows, context)


def shown(content: NoveltyReport, encoding: str = "utf-8", width: int = 80) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    console = stdout_console(stream)
    console.width = width
    print_screen(content, console, calibrate="CALIBRATE", steps=STEPS)
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("n_warnings", [0, 1, 12])
@pytest.mark.parametrize("width", [80, 100])
def test_output_has_at_most_thirty_lines(encoding: str, n_warnings: int, width: int) -> None:
    lines = shown(report(crowded(), n_warnings=n_warnings), encoding, width).splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)


def test_output_shows_result_comparison_and_next_steps() -> None:
    text = shown(report(crowded()))
    assert text.startswith(
        "novelty 25.2 %  101 of 401 eligible crystals are new (95 %: 21.2-29.7 %)\n"
    )
    rest = "real crystals 50.0 %  150 of 300 are new to the others (95 %: 44.4-55.6 %)\n"
    assert rest in text
    assert "in short: new less often than real crystals, unless the unfinished are new\n" in text
    reasons = "7 of 408: 1 could not be read, 1 could not be scored, 1 composition refused by SMACT"
    assert f"not eligible {reasons}, 4 for other reasons" in " ".join(text.split())
    assert STEPS[0].line in text
    by_system = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert by_system["cubic"][1:6] == ["50", "0", "0", "50", "0"]
    assert by_system["all"][1:6] == ["401", "100", "100", "101", "100"]


def test_output_names_the_new_crystals_of_lowest_energy() -> None:
    rows = [
        row(at, Verdict.UNMATCHED, formula=f"Na{at}Cl", e_above_hull=0.1 - at / 100)
        for at in range(1, 10)
    ]
    rows[8] = dataclasses.replace(rows[8], energy_suspect=True)
    rows += [row(20, Verdict.DUPLICATE, formula="KCl", e_above_hull=-0.1)]
    line = "look at    new: Na8Cl +0.020, Na7Cl +0.030 eV/atom from the hull, 6 more"
    assert line in lines_of(rows)
    every = ", ".join(f"Na{at}Cl {0.1 - at / 100:+.3f}" for at in range(8, 0, -1))
    assert f"look at    new: {every} eV/atom from the hull" in lines_of(rows, width=160)
    rows = [dataclasses.replace(one, e_above_hull=None) for one in rows[:2]]
    assert any(one.startswith("look at") and one.endswith("Na1Cl, Na2Cl") for one in lines_of(rows))
    assert not any(one.startswith("look at") for one in lines_of([row(0, Verdict.DUPLICATE)]))


def lines_of(rows: list[CrystalResult], width: int = 80) -> list[str]:
    return shown(report(rows), width=width).splitlines()


def test_surplus_warnings_are_counted() -> None:
    rows = [row(0, Verdict.DUPLICATE), row(8, Verdict.SUBSTITUTED)]
    for n_warnings in (1, 4, 40):
        text = shown(report(rows, n_warnings=n_warnings, calibration=None))
        assert text.rstrip().endswith(STEPS[-1].line)
        n_told = text.count("warning")
        whole = " ".join(text.split()).count(WARNING.strip())
        if whole == n_warnings:
            continue
        hidden = n_warnings - n_told
        more = f"{hidden} more, and" if hidden else "shown"
        assert f"more {more} in full with detail=full" in " ".join(text.split())
    assert whole == 0 and hidden > 20


def test_unknown_base_rate_names_its_command() -> None:
    text = shown(report(crowded(), calibration=None))
    assert "base rate of real crystals unknown: CALIBRATE\n" in text
    assert "real, %" not in text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_bar_is_readable_without_colour(encoding: str) -> None:
    rows = [row(at, Verdict.DUPLICATE if at < 3 else Verdict.UNMATCHED) for at in range(4)]
    lines = shown(report(rows), encoding).splitlines()
    legend = next(line for line in lines if "duplicate 75 %" in line)
    bar = lines[lines.index(legend) - 1]
    signs = {arguments.split()[1]: arguments.split()[0] for arguments in legend.split("  ")}
    assert len(set(signs.values())) == 2
    assert bar == 54 * signs["duplicate"] + 18 * signs["unmatched"]


def test_colour_does_not_change_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console
    from rich.text import Text

    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system="truecolor")
    content = report(crowded())
    print_screen(content, console, calibrate="CALIBRATE", steps=STEPS)
    assert "\x1b[" in stream.getvalue()
    lines = Text.from_ansi(stream.getvalue()).plain.splitlines()
    assert [line.rstrip() for line in lines] == shown(content).splitlines()


@pytest.mark.parametrize("rows", [[], [CrystalResult(id="a", error="no cell", readable=False)]])
def test_without_eligible_crystals(rows: list[CrystalResult]) -> None:
    text = shown(report(rows))
    assert text.startswith("novelty unknown")
    assert "all " not in text


def test_run_without_relaxation_gives_bounds() -> None:
    text = shown(report([row(at, Verdict.UNDECIDED) for at in range(3)], relaxed=False))
    assert text.startswith("novelty at most 100.0 %: nothing was relaxed")
    assert text.count("at most 100") == 6


@given(st.lists(st.integers(0, 10**6), min_size=4, max_size=4).filter(any), st.integers(4, 100))
def test_parts_of_a_bar_sum_to_its_width(counts: list[int], length: int) -> None:
    found = parts(counts, length)
    assert sum(found) == length
    for part, count in zip(found, counts, strict=True):
        assert (part > 0) == (count > 0)
        assert abs(part - length * count / sum(counts)) <= 3
