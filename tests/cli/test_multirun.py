"""``score -m``: a run and a report for each combination, and a table of all."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli import CIF, FakeMetric, cif, error_line, fake

from novelty_metric.cli import main
from novelty_metric.errors import InputError
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport

__all__ = ["cif", "fake"]  # fixtures
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_report_per_run_and_a_table(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "score",
        "-m",
        f"samples={cif}",
        "protocol=fast,paper",
        "protocol.k=1,3",
        "out=all",
    ]
    assert main([*arguments, "reference=aflow"]) == 0
    out, err = capfd.readouterr()
    assert err == "" and "noise" not in out
    names = [f"protocol.k={k},protocol={name}" for name in ("fast", "paper") for k in (1, 3)]
    assert [line.split(":")[0] for line in out.splitlines()[:4]] == names
    for name, call in zip(names, fake.calls, strict=True):
        report = NoveltyReport.load(Path("all") / name)
        assert report.context.protocol == call["protocol"]
        assert f"protocol.k={report.context.protocol.k}" in name
        assert json.loads((Path("all") / name / "config.json").read_text())["out"].endswith(name)
    with Path("all/summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == names
    assert {row["unmatched"] for row in rows} == {"1"}
    assert rows[0]["novelty, %"] == "at most 100.0"  # the fake metric relaxes nothing
    markdown = Path("all/summary.md").read_text().splitlines()
    assert len(markdown) == 6 and markdown[2].startswith(f"| {names[0]} | 1 | 0 | 1 | 0 | 0 | 1 |")
    assert "Written to all: summary.csv, summary.md" in out
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["all"]


def test_several_models_each_with_its_file(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("diffcsp", "flowmm", "adit"):
        Path(name).mkdir()
    Path("diffcsp/samples.cif").write_text(CIF)
    Path("flowmm/x.cif").write_text(CIF + CIF.replace("data_NaCl", "data_b"))
    Path("adit/y.cif").write_text("rubbish")
    arguments = ["-m", "model=DiffCSP,flowmm,adit", "samples={model}/*.cif", "reference=aflow"]
    assert main(["score", *arguments]) == 0
    out, err = capfd.readouterr()
    rubbish = "1 of 1 samples can't be used; most often (1): not a CIF: there is no data_ line"
    warned = [line.removeprefix("novelty-metric: warning: ") for line in err.splitlines()]
    assert warned[2:] == [rubbish]
    for line, name in zip(warned, ("diffcsp", "flowmm"), strict=False):
        assert f"is cif, which model={name} does not write (pt" in line
    table = [
        line.split() for line in out.splitlines() if line[:7] in ("diffcsp", "flowmm ", "adit   ")
    ]
    assert [row[:3] for row in table] == [
        ["diffcsp", "1", "1"],
        ["flowmm", "2", "2"],
        ["adit", "1", "0"],
    ]
    assert "could not be read: adit 1" in out and "add out=DIR to keep the reports" in out
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["adit", "diffcsp", "flowmm"]
    assert main(["score", *arguments, "out=all"]) == 0
    markdown = Path("all/summary.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in markdown[2:]] == ["| diffcsp", "| flowmm", "| adit"]
    with Path("all/summary.csv").open(newline="") as file:
        folders = [row["run"] for row in csv.DictReader(file)]
    assert all((Path("all") / folder / "report.json").exists() for folder in folders)


def test_multirun_continues_after_an_interruption(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", "-m", f"samples={cif}", "protocol.k=1,3", "out=all"]
    fake.failure = KeyboardInterrupt()
    assert main(arguments) == 3
    assert "go on with: novelty-metric score -m" in capfd.readouterr().err
    fake.failure = None
    import novelty_metric.support.versions

    versions = novelty_metric.support.versions.installed_versions()
    original = FakeMetric.context

    def context(self: FakeMetric, **given: Any) -> RunContext:
        return dataclasses.replace(original(self, **given), versions=versions)

    fake.context = context  # type: ignore[method-assign]
    assert main(arguments) == 0
    n_calls = len(fake.calls)
    assert main([*arguments[:3], "protocol.k=1,3,5", "out=all"]) == 0
    out = capfd.readouterr().out
    assert out.count("already finished") == 2 and len(fake.calls) == n_calls + 1
    assert main([*arguments, "overwrite=true"]) == 0
    assert len(fake.calls) == n_calls + 3


def test_failed_run_does_not_end_the_others(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    original = FakeMetric.prepare

    def prepare(self: FakeMetric) -> None:
        if self.protocol.k == 3:
            raise InputError("the reference\nis empty")
        if self.protocol.k == 4:
            raise ZeroDivisionError("division by zero")
        original(self)

    fake.prepare = prepare  # type: ignore[method-assign]
    assert main(["score", "-m", f"samples={cif}", "protocol.k=1,3,4,5"]) == 2
    out, err = capfd.readouterr()
    assert "protocol.k=3: the reference is empty" in out
    assert "protocol.k=4: internal error: ZeroDivisionError" in out
    assert err == (
        "novelty-metric: error: 2 of 4 runs could not be scored; protocol.k=3: the reference is "
        "empty\n"
    )
    assert len(fake.calls) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("model=diffcsp,zzz", "no model named 'zzz'"),
        ("model=diffcsp,adit", "model=diffcsp: model=diffcsp needs samples="),
        ("model=diffcsp,adit samples={model}.pt", "model=diffcsp: samples=diffcsp.pt: no such"),
        ("protocol=fast,papr", "did you mean 'paper'?"),
        ("protocol.kk=1,3", "protocol.kk=1: no setting named 'protocol.kk'; did you mean"),
        ("protocol.k=1,a", "protocol.k=a: protocol.k is 'a'; it must be a number"),
        ("reference=a.arrow,b.arrow", "a file can't be one of several"),
        ("protocol.k=1,(", "can't be read"),
        ("protocol.k=range(1,3) limit=0", "protocol.k=1: limit is 0"),
        ("protocol.k=interval(1,3)", "protocol.k=interval(1,3)"),
        ("hydra/launcher=nope protocol.k=1,3", "Hydra can't launch the runs: In 'hydra/config'"),
        ("word", "'word' is not of the form key=value"),
        ("--cfg job model=diffcsp,adit", "--cfg shows one run; remove -m"),
    ],
)
def test_nothing_is_scored_if_a_run_is_invalid(
    arguments: str,
    message: str,
    work: Path,
    fake: type[FakeMetric],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert message in error_line(capfd, "score", "-m", *arguments.split())
    assert fake.calls == [] and list(work.iterdir()) == []


def test_configs_of_the_user_can_be_swept(
    cif: Path, fake: type[FakeMetric], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my, configs (1)"
    (folder / "model").mkdir(parents=True)
    for name in ("a", "b"):
        (folder / "model" / f"{name}.yaml").write_text(
            f"defaults: [generic, _self_]\nname: {name}\nsamples: '{cif}'\nrelax_samples: false\n"
        )
    arguments = ["score", "-m", f"--config-dir={folder}", "model=a,b", "out=all"]
    assert main(arguments) == 0
    assert sorted(path.name for path in Path("all").iterdir() if path.is_dir()) == [
        "model=a",
        "model=b",
    ]
    assert [call["relax_samples"] for call in fake.calls] == [False, False]


def test_single_run_is_named_after_its_model(cif: Path, fake: type[FakeMetric]) -> None:
    arguments = ["model=diffcsp", f"samples={cif}", "reference=aflow", "limit=1", "out=all"]
    assert main(["score", "-m", *arguments]) == 0
    assert main(["score", "-m", f"samples={cif}", "out=all"]) == 0
    assert {path.name for path in Path("all").iterdir() if path.is_dir()} == {"model=diffcsp", "0"}


def test_error_for_a_missing_launcher_names_its_package() -> None:
    from novelty_metric.cli.multirun import _launcher_message

    output = "In 'hydra/config': Could not find 'hydra/launcher/submitit_slurm'"
    assert _launcher_message(output, ["hydra/launcher=submitit_slurm"]) == (
        "the launcher submitit_slurm is not installed; pip install 'novelty-metric[submitit]' "
        "brings it"
    )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_launchers(launcher: str, tmp_path: Path, run_python: Callable[..., Any]) -> None:
    """Each run has its own process, and no file is written outside the output folder."""
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    (tmp_path / "work").mkdir()
    command = ["-m", "novelty_metric.cli", "score", "-m", "protocol.k=1,3"]
    arguments = ["relaxer=none", "limit=2", "progress=false", f"hydra/launcher={launcher}"]
    done = run_python(*command, *arguments, cwd=tmp_path / "work")
    assert (done.returncode, done.stderr) == (0, "")
    assert "protocol.k=3" in done.stdout.splitlines()[-3] and written(tmp_path) == []
