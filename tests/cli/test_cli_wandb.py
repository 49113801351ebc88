"""``novelty-metric score logger=wandb``, in W&B's offline mode."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from novelty_metric import InputError, NoveltyReport
from novelty_metric.cli import main
from novelty_metric.cli.one_run import settings_of
from novelty_metric.settings.compose import compose_config

wandb = pytest.importorskip("wandb")
SEARCH = ("relaxer=none", "hull=none", "limit=6", "logger=wandb", "logger.pictures=2")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "NOVELTY_METRIC_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    yield tmp_path
    # W&B keeps the settings of its first use in a process, including its folder.
    wandb.teardown()


def runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*"))


def crystals(run: Path) -> dict[str, Any]:
    (path,) = run.glob("files/media/table/novelty/crystals_*.table.json")
    table: dict[str, Any] = json.loads(path.read_text())
    return table


def test_report_is_logged_after_it_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", *SEARCH, "logger.mode=offline", "out=run"]) == 0
    shown = capsys.readouterr()
    (run,) = runs(folder)
    assert shown.out.splitlines()[-1] == f"Logged to W&B: {run}"
    assert "novelty-metric report run " in shown.out and shown.err.count("\n") <= 1
    report = NoveltyReport.load(folder / "run")
    assert len(crystals(run)["data"]) == len(report.results) == 6
    assert len(list(run.glob("files/media/images/**/*.png"))) == 2


def test_missing_package_is_reported_before_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["score", *SEARCH, "out=run"]) == 2
    shown = capsys.readouterr()
    assert "W&B is not installed" in shown.err and "pip install wandb" in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""


def test_sweep_creates_one_run_per_combination(folder: Path) -> None:
    arguments = ["score", "-m", *SEARCH, "logger.mode=offline", "protocol.k=1,2", "out=all"]
    assert main(arguments) == 0
    assert len(runs(folder)) == 2


def test_without_out_the_report_is_in_the_wandb_run(folder: Path) -> None:
    assert main(["score", *SEARCH, "logger.mode=offline"]) == 0
    (run,) = runs(folder)
    assert len(NoveltyReport.load(run / "files" / "novelty" / "report").results) == 6


def test_failure_of_the_logger_loses_no_result(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from novelty_metric.loggers.wandb import WandbReports

    def broken(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(WandbReports, "log_report", broken)
    assert main(["score", *SEARCH, "logger.mode=offline", "out=run"]) == 0
    assert "warning: W&B failed (ConnectionError: no route)" in capsys.readouterr().err
    assert len(NoveltyReport.load(folder / "run").results) == 6


def test_missing_account_is_reported_before_scoring(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_account(**_: Any) -> None:
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", no_account)
    assert main(["score", *SEARCH, "out=run"]) == 2
    output = capsys.readouterr().err
    assert output.count("\n") == 1 and "`wandb login`, or use mode=offline" in output
    assert not (folder / "run" / "report.json").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("logger.mode=onlin", "logger.mode is 'onlin'; known: online, offline, disabled"),
        ("logger.pictures=-1", "logger.pictures is -1"),
        ("logger.tags=x", "logger.tags is 'x'"),
        ("logger.name=comet", "no logger named 'comet'; known: none, wandb"),
    ],
)
def test_error_names_the_wrong_setting(word: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings_of(compose_config(["logger=wandb", word]))


def test_logger_changes_no_result(folder: Path) -> None:
    """A run with a logger continues an equal run without one."""
    assert main(["score", "relaxer=none", "hull=none", "limit=6", "out=run"]) == 0
    assert main(["score", *SEARCH, "logger.mode=offline", "out=run"]) == 0
