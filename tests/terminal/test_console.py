"""Tables of a report on the terminal, and progress bars."""

from __future__ import annotations

import dataclasses
import io
import time
from typing import Any

import pytest
from rich.console import Console

from novelty_metric.comparison.spread import GRADED, Spread, SpreadReport
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.context import RunContext
from novelty_metric.report.files import summary
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Estimate
from novelty_metric.terminal import progress_lines
from novelty_metric.terminal.comparison import print_spread
from novelty_metric.terminal.console import stdout_console
from novelty_metric.terminal.full_report import print_report
from novelty_metric.terminal.progress import Progress
from novelty_metric.verdict import CrystalResult, Verdict


def report(rows: list[CrystalResult] | None = None, **changes: Any) -> NoveltyReport:
    context: dict[str, Any] = {
        "protocol": Protocol.named("fast"),
        "reference_name": "mp_20",
        "reference_size": 27136,
        "crystals_hash": "c" * 64,
        "store_hash": "d" * 64,
        "potential": PotentialInfo(name="chgnet", version="0.3.0", weights_hash="e" * 64),
        "hull": {"name": "reference"},
        "seconds": {"relax samples": 3.21, "search parents": 0.01, "relax parents": 8000.0},
        "warnings": ("take [bold]care[/bold] of Å",),
    }
    if rows is None:
        rows = [eligible(str(n), Verdict.DUPLICATE) for n in range(1000)]
        rows += [eligible(f"new {n}", Verdict.UNMATCHED, n) for n in range(12)]
        rows += [eligible("open", Verdict.UNDECIDED)]
        rows += [
            CrystalResult(id="a", error="no cell", readable=False),
            CrystalResult(id="b", smact_valid=False, eligible=False, error="not eligible"),
            CrystalResult(
                id="c",
                smact_valid=True,
                converged=False,
                energy_suspect=True,
                eligible=False,
                error="so",
            ),
        ]
    return NoveltyReport.from_results(rows, RunContext(**{**context, **changes}))


def eligible(identifier: str, verdict: Verdict, group: int | None = None) -> CrystalResult:
    return CrystalResult(
        id=identifier,
        formula="NaCl",
        crystal_system="orthorhombic" if group is None else "triclinic",
        smact_valid=True,
        converged=True,
        e_above_hull=-0.5 if group == 0 else 0.0,
        energy_suspect=group == 0,
        eligible=True,
        verdict=verdict,
        duplicate_group=group,
    )


def shown(content: NoveltyReport, encoding: str = "utf-8", width: int | None = None) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    console = stdout_console(stream)
    if width is not None:
        console.width = width
    print_report(content, console)
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def test_content_of_the_table() -> None:
    text = shown(report())
    lines = text.splitlines()
    assert lines[0].startswith(
        "novelty 1.2 %  12 of 1013 eligible crystals are new (95 %: 0.7-2.1 %)"
    )
    assert lines[1].startswith("new: unlike all ")
    assert "between 1.2 % and 1.4 %" in lines[2]
    assert lines[3].startswith("base rate of real crystals unknown: novelty-metric reference calib")
    assert lines[4].startswith("novel yield 1.2 % (at most 1.4 %)  12 of 1016 generated are new")
    rows = {line.split("  ")[0]: line.split() for line in lines}
    assert rows["duplicate"][1] == "1000"
    assert rows["undecided"][1] == "1"
    assert rows["orthorhombic"][1:6] == ["1001", "1000", "0", "0", "1"]
    for expected in (
        "could not be read",
        "composition refused by SMACT",
        "relaxation did not converge or failed",
        "mp_20 (27136 crystals, cccccccccccc)",
        "fast settings, CHGNet in place of MACE-MPA-0",
        "relax samples 3.2 s, search parents <0.1 s, relax parents 2 h 13 min",
        "take [bold]care[/bold] of Å",
    ):
        assert expected in text
    assert "without 2 suspect" in text and "(1 eligible)" in text
    assert "2 crystals, 1 of them eligible, below -0.2 eV/atom" in " ".join(text.split())
    assert "novelty without them: 1.1 %" in " ".join(text.split())


def test_crystals_without_competing_compounds_are_counted() -> None:
    assert "no competing compound" not in shown(report())
    alone = {"Na": 0.5, "Cl2": 0.5}
    rows = [eligible(str(n), Verdict.DUPLICATE) for n in range(5)]
    rows += [
        dataclasses.replace(eligible("a", Verdict.DUPLICATE), decomposition=alone),
        dataclasses.replace(
            eligible("b", Verdict.DUPLICATE), decomposition=alone, e_above_hull=0.3, eligible=False
        ),
    ]
    text = " ".join(shown(report(rows)).split())
    assert "no competing compound known for 2 crystals, 1 of the 6 stable ones" in text


def test_pipe_gets_eighty_columns_without_colour() -> None:
    text = shown(report())
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_pipe_gets_no_trailing_blanks() -> None:
    lines = shown(report()).splitlines()
    assert [line for line in lines if line != line.rstrip()] == []


def test_total_time_precedes_the_steps() -> None:
    stream = io.StringIO()
    print_report(report(), stdout_console(stream), seconds=76.0)
    assert "time       76.0 s for this command; relax samples 3.2 s" in stream.getvalue()


def test_tables_fit_eighty_columns_without_breaking_a_row() -> None:
    wide, narrow = shown(report(), width=100), shown(report(), width=80)
    assert len(wide.splitlines()) <= len(narrow.splitlines()) <= len(wide.splitlines()) + 2
    assert "…" not in narrow


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_works(encoding: str) -> None:
    text = shown(report(reference_name="référence 金"), encoding)
    assert "novelty 1.2 %" in text
    if encoding == "ascii":
        assert "r?f?rence ?" in text


def test_without_eligible_crystals() -> None:
    text = shown(report([CrystalResult(id="a", error="no cell", readable=False)]))
    assert text.startswith("novelty unknown  none of 1 crystal is eligible")
    assert "orthorhombic" not in text
    assert shown(report([])).startswith("novelty unknown")


def test_run_without_relaxation_is_reported() -> None:
    verdicts = [Verdict.UNDECIDED, Verdict.UNMATCHED, Verdict.DUPLICATE, Verdict.UNDECIDED]
    rows = [eligible(str(n), verdict) for n, verdict in enumerate(verdicts)]
    searched = report(rows, potential=None, hull={})
    text = shown(searched)
    headline = "novelty at most 75.0 %: nothing was relaxed"
    assert text.startswith(f"{headline}  1 unmatched, 2 undecided of 4\n")
    assert "between 25.0 % and 75.0 %" in text
    assert "novel yield at most 75.0 %" in text
    assert "chemistry alone (SMACT)" in text
    (row,) = [line for line in text.splitlines() if line.startswith("novelty, of the")]
    assert row.split()[-4:] == ["at", "most", "75.0", "25.0-75.0"]
    (row,) = [line for line in text.splitlines() if line.startswith("orthorhombic")]
    assert row.endswith("at most 75")
    (row,) = [line for line in text.splitlines() if line.startswith("all")]
    assert row.endswith("at most 75")
    assert headline in repr(searched) and len(repr(searched)) < 200
    assert summary(searched)["novelty_is_bound"] is True
    assert summary(report(rows))["novelty_is_bound"] is False
    assert shown(report(rows)).startswith("novelty 25.0 %  1 of 4 eligible crystals are new (95 %")


def test_short_progress_is_silent_without_a_terminal() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress("relax samples", 0, 3)
        progress("relax samples", 3, 3)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_progress_uses_lines_without_a_terminal(
    wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_lines, "FIRST", 0.0)
    monkeypatch.setattr(progress_lines, "_POLL", 0.001)
    stream = io.StringIO()
    with Progress(stream, wanted=wanted) as progress:
        progress("relax samples", 0, 3)
        while wanted and not stream.getvalue():
            time.sleep(0.01)
    assert stream.getvalue() == ("novelty-metric: relax samples, 0 of 3\n" if wanted else "")


def test_progress_shows_one_bar_per_stage_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    assert Console(file=stream).is_terminal
    with Progress(stream) as progress:
        progress("read samples", 2, None)
        progress("relax [samples]", 1, 3)
        progress("relax [samples]", 2, 2)
    assert "read samples" in stream.getvalue()
    assert "relax [samples]" in stream.getvalue()
    assert "2/2" in stream.getvalue()


def test_graded_novelty_is_not_a_percentage() -> None:
    share = Spread(
        name="unmatched",
        values=(0.1, 0.3),
        mean=Estimate(0.2, 0.0, 1.0),
        deviation=0.14,
        by_chance=0.05,
    )
    graded = dataclasses.replace(share, name=GRADED, by_chance=None)
    stream = io.StringIO()
    print_spread(SpreadReport(figures=(share, graded), mismatches=()), stdout_console(stream))
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert "unmatched 2 20.0 [0.0-100.0] 14.0 5.0 10.0 30.0" in lines
    assert lines[-2].startswith("shares of crystals in %, graded novelty from 0 to 1")
    assert "graded novelty 2 0.200 [0.000-1.000] 0.140 0.100 0.300" in lines


def test_missing_elements_of_the_hull_are_reported() -> None:
    hull = {"name": "reference", "elements_from_table": ["V", "Mo"], "crystals_without_energy": 1}
    text = " ".join(shown(report([eligible("a", Verdict.UNMATCHED)], hull=hull)).split())
    assert "2 elements that it lacks from a table: V, Mo; 1 crystal of it without energy" in text
    many = {"name": "reference", "elements_from_table": [f"X{i}" for i in range(40)]}
    text = shown(report([eligible("a", Verdict.UNMATCHED)], hull=many))
    assert "40 elements" in text and "X11, ..." in text and "X12" not in text


def test_size_and_hash_of_the_hull_are_shown() -> None:
    def message(**hull: object) -> str:
        text = shown(report([eligible("a", Verdict.UNMATCHED)], hull=hull))
        return " ".join(text.split())

    text = message(name="reference", crystals=288, crystals_hash="5f8a173eb4a2" + 52 * "0")
    assert "hull reference (288 crystals, 5f8a173eb4a2)" in text
    mine = {"name": "entries", "file": "mine.json", "entries": 7, "content_hash": 64 * "d"}
    text = message(**mine, energies="corrected")
    assert "hull entries (mine.json, 7 entries, dddddddddddd); energies with corrections" in text
    text = message(**mine, energies="uncorrected", as_published=False, skipped=3)
    assert "energies without corrections; not the published file; 3 entries of other" in text
