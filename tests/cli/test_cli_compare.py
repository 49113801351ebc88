"""``novelty-metric compare``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.cli import main
from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.protocol import Protocol
from novelty_metric.reference.calibration import Calibration, LeftOutCrystal
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import CrystalResult, Verdict

CONTEXT = RunContext(
    protocol=Protocol.named("fast"),
    reference_name="mp_20",
    reference_size=27136,
    crystals_hash="c" * 64,
    store_hash="d" * 64,
    potential=PotentialInfo(name="chgnet", version="0.3.0", weights_hash="e" * 64),
)


def saved(folder: Path, unmatched: int, context: RunContext = CONTEXT) -> str:
    """A run of 60 crystals with a given number of unmatched ones."""
    rows = [
        CrystalResult(
            id=f"gen_{i}",
            formula="NaCl",
            smact_valid=True,
            eligible=True,
            verdict=Verdict.UNMATCHED if i < unmatched else Verdict.DUPLICATE,
            parent_id=None if i < unmatched else "mp-[1]",
        )
        for i in range(60)
    ]
    return str(NoveltyReport.from_results(rows, context).save(folder))


def test_runs_without_relaxation_have_a_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = dataclasses.replace(CONTEXT, potential=None)
    searched = saved(tmp_path / "a", 30, context), saved(tmp_path / "b", 30, context)
    assert main(["compare", *searched]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for name in ("before", "after"):
        assert f"warning: {name}: novelty at most 50.0 %: nothing was relaxed" in out


def test_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = saved(tmp_path / "a", 30), saved(tmp_path / "b", 5)
    assert main(["compare", before, after]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("unmatched"))
    numbers = "unmatched 50.0 [38- 62] 60 8.3 [ 4- 18] 60 -41.7 [-54, -28] 6e-08"
    assert " ".join(row.split()) == numbers
    assert "p by McNemar's exact test" in out
    assert "25 of 60 crystals in common changed" in out
    assert "  gen_5 NaCl: unmatched -> duplicate\n    was: no parent confirmed\n" in out
    assert "    now: equals mp-[1]\n" in out
    assert "and 5 more; --all lists them" in out
    assert "warning" not in out
    assert main(["compare", "--all", before, after]) == 0
    assert "gen_29" in capsys.readouterr().out


def test_runs_are_paired_by_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same crystals with other ids, in another order, with rounded coordinates."""
    made = [
        Structure(Lattice.cubic(4 + i / 10), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 1 / 3]])
        for i in range(8)
    ]

    def save(name: str, order: Sequence[int], digits: int, unmatched: int) -> str:
        rows = []
        for position, i in enumerate(order):
            crystal = made[i].copy()
            crystal = Structure(
                Lattice.from_parameters(*np.round(crystal.lattice.parameters, digits)),
                crystal.species[:: 1 if digits > 5 else -1],
                np.round(crystal.frac_coords + (0 if digits > 5 else 1), digits)[
                    :: 1 if digits > 5 else -1
                ],
            )
            rows.append(
                CrystalResult(
                    id=f"{name}_{position}",
                    formula="NaCl",
                    smact_valid=True,
                    eligible=True,
                    verdict=Verdict.UNMATCHED if i < unmatched else Verdict.DUPLICATE,
                    structures=CrystalRecords(generated=CrystalRecord.of(crystal)),
                )
            )
        return str(NoveltyReport.from_results(rows, CONTEXT).save(tmp_path / name))

    before, after = save("old", range(8), 9, 5), save("new", range(7, -1, -1), 4, 3)
    assert main(["compare", before, after]) == 0
    out = capsys.readouterr().out
    assert "no crystal in common" in out and "by=content pairs the same crystals" in out
    assert main(["compare", before, "by=content", after]) == 0
    out = capsys.readouterr().out
    assert "2 of 8 crystals in common changed" in out and "McNemar" in out
    assert "new_3 NaCl: unmatched -> duplicate" in out and "by=content" not in out
    assert main(["compare", before, after, "by=formula"]) == 2
    assert "by is 'formula'; known: id, content" in capsys.readouterr().err
    assert main(["compare", before, after, after, "by=content"]) == 2
    assert "by=content needs exactly two runs" in capsys.readouterr().err
    assert main(["compare", before, saved(tmp_path / "bare", 5), "by=content"]) == 2
    assert "a report contains none" in capsys.readouterr().err


def test_warning_for_runs_with_other_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paper = dataclasses.replace(CONTEXT, protocol=Protocol.named("paper"), crystals_hash="e" * 64)
    before, after = saved(tmp_path / "a", 30), saved(tmp_path / "b", 30, paper)
    assert main(["compare", before, after]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "warning: reference was mp_20 (cccccccccccc), is mp_20 (eeeeeeeeeeee)" in out
    assert "warning: protocol.max_steps was 300 (fast), is 1000 (paper): not the same" in out
    assert "0 of 60 crystals in common changed" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "needs two or more runs, none was given"),
        (["a"], "needs two or more runs, 1 was given: a"),
        (["none", "none"], "none/report.json can't be read"),
        (["a", "--every"], "no option named --every"),
    ],
)
def test_invalid_calls(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("novelty-metric: error: ") and complaint in err and err.count("\n") == 1


def test_spread_of_several_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [saved(tmp_path / name, count) for name, count in (("a", 6), ("b", 12), ("c", 18))]
    assert main(["compare", *runs]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("unmatched "))
    # Standard deviation of 10, 20 and 30 %; expected by chance: sqrt(0.2 * 0.8 / 60).
    assert " ".join(row.split()) == "unmatched 3 20.0 [0.0-44.8] 10.0 5.2 10.0 30.0"
    assert out.split()[0] == "figure" and "figure, %" not in out
    assert main(["compare", "--spread", *runs[:2]]) == 0
    assert "standard deviation between the runs" in " ".join(capsys.readouterr().out.split())


def test_ratios_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crystals = tuple(
        LeftOutCrystal(i, "cubic", True, "unmatched" if i < 6 else "substituted", 1.0)
        for i in range(100)
    )
    real = dataclasses.replace(CONTEXT, calibration=Calibration("key", 0, crystals))
    runs = [saved(tmp_path / name, n, real) for name, n in (("one", 6), ("two", 12))]
    picture = tmp_path / "ratios.svg"
    assert main(["compare", *runs, f"figure={picture}"]) == 0
    drawn = picture.read_text()
    assert ">two<" in drawn
    assert "real crystals (100)" in drawn
    assert "novelty ratio" in capsys.readouterr().out
    plain = [saved(tmp_path / name, n) for name, n in (("three", 6), ("four", 12))]
    assert main(["compare", *plain, f"figure={picture}"]) == 2
    assert "no run was scored against a calibrated reference" in capsys.readouterr().err
    assert main(["compare", *runs, "figure=ratios.txt"]) == 2
    assert "a file *.svg or *.png" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: novelty-metric compare RUN_A RUN_B\n")
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.count("\n  compare ") == 1
