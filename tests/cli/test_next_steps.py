"""The commands that `score` suggests after a run work unchanged."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("steps")


WORDS = ["relaxer=none", "limit=3", "workers=1", "progress=false", "out=my run"]


def commands(text: str) -> dict[str, list[str]]:
    """The suggested commands by verb."""
    lines = [line for line in text.splitlines() if line.startswith("novelty-metric ")]
    found = [shlex.split(line, comments=True)[1:] for line in lines]
    return {command[0]: command for command in found}


def test_suggested_commands_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["score", *WORDS]) == 0
    text = capfd.readouterr().out
    named = commands(text)
    assert set(named) == {"score", "explain", "report"}
    assert main(named["explain"]) == 0
    assert "duplicate" in capfd.readouterr().out  # all three crystals are copies
    assert main(named["score"]) == 0
    full = capfd.readouterr().out
    assert "nearest parent" in full and "nearest parent" not in text
    assert main(["score", "--full", *WORDS]) == 0
    again = capfd.readouterr().out
    assert [line for line in full.splitlines() if not line.startswith(("time", " "))] == [
        line for line in again.splitlines() if not line.startswith(("time", " "))
    ]


def test_without_out_the_command_that_keeps_the_rows_is_suggested(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    arguments = [word for word in WORDS if not word.startswith("out=")]
    assert main(["score", *arguments]) == 0
    lines = capfd.readouterr().out.splitlines()
    kept = shlex.join(["novelty-metric", "score", *arguments, "out=run"])
    assert f"{kept}  # keeps all results, for explain, report and export" in lines


def test_samples_without_their_training_set_are_told_to_name_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3]
    )
    salt.to(filename="a.cif")
    words = ["score", "samples=a.cif", "relaxer=none", "workers=1", "progress=false"]
    build = "novelty-metric reference build TRAINING_SET.csv out=train.arrow  # then add"
    assert main(words) == 0
    assert build in capfd.readouterr().out
    assert main([*words, "reference=aflow"]) == 0
    assert build not in capfd.readouterr().out
