"""`novelty-metric sensitivity` on the packaged sample, without relaxations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from novelty_metric.cli import main
from novelty_metric.cli.options import help_text
from novelty_metric.cli.sensitivity import VERB

SMALL = ["relaxer=none", "limit=3", "workers=1"]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NOVELTY_METRIC_DEBUG", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def error_line(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["sensitivity", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sensitivity", "--help"]) == 0
    assert capfd.readouterr().out == help_text(VERB)


def test_table_and_files(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL, "k=1,3", "tolerances=1,0.5", "symprec=none", "out=found"]
    assert main(["sensitivity", *arguments]) == 0
    out = capfd.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    for part in ("k ", "tol. x, fixed", "tol. x, again", "* 3", "0.5", "Written to found"):
        assert part in out, part
    assert "symprec " not in out.split("* as the protocol")[0]
    content = json.loads((work / "found" / "sensitivity.json").read_text())
    told = [(row["setting"], row["value"]) for row in content["variations"]]
    fixed, again = "tolerances, fixed parents", "tolerances, re-selected parents"
    assert told == [("k", 1), ("k", 3), (fixed, 1), (fixed, 0.5), (again, 1), (again, 0.5)]
    assert (work / "found" / "sensitivity.csv").exists()


def test_sensitivity_of_a_run(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *SMALL, "protocol.k=2", "out=run"]) == 0
    capfd.readouterr()
    arguments = ["run=run", "k=1,2", "tolerances=none", "symprec=none"]
    assert main(["sensitivity", *arguments]) == 0
    assert "Written to run: sensitivity.csv" in capfd.readouterr().out
    content = json.loads((work / "run" / "sensitivity.json").read_text())
    assert [row["is_base"] for row in content["variations"]] == [False, True]
    assert content["base"]["potential"] is None

    beside = "with it only out, workers, device, cache, progress"
    assert beside in error_line(capfd, "run=run", "limit=5")
    config = json.loads((work / "run" / "config.json").read_text())
    later = ("progress", "leave_one_out", "second_potential")
    older = {name: value for name, value in config.items() if name not in later}
    (work / "run" / "config.json").write_text(json.dumps(older))
    assert main(["sensitivity", *arguments, "progress=false"]) == 0
    assert capfd.readouterr().err == ""
    assert main(["sensitivity", *arguments]) == 0
    capfd.readouterr()
    (work / "mine.cif").write_text("now another one")
    for samples, message in (
        ("mine.cif", "have changed; score them again"),
        ("no.cif", "no longer"),
    ):
        changed = json.dumps({**config, "samples": samples})
        (work / "run" / "config.json").write_text(changed)
        assert message in error_line(capfd, "run=run")
    (work / "run" / "config.json").write_text("{}")
    assert "the folder contains no settings of a run" in error_line(capfd, "run=run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("k=", "k= has no value"),
        ("k=1,x", "k is '1,x'; it must be a list of whole numbers such as 1,2,3, and 'x' is not"),
        ("k=1.5", "'1.5' is not"),
        ("tolerances=half", "'half' is not"),
        ("run=nowhere", "run=nowhere: the folder contains no settings of a run"),
        ("protocol=pap", "did you mean 'paper'?"),
        ("potentials=mac", "did you mean 'mace'?"),
        ("stray", "is not of the form key=value"),
    ],
)
def test_invalid_calls(arguments: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert message in error_line(capfd, *arguments.split())


def test_values_out_of_range(capfd: pytest.CaptureFixture[str]) -> None:
    assert "k=0; it must be a whole number above 0" in error_line(capfd, *SMALL, "k=0")
