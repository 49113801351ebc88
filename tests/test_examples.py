"""The example repository, from a user's perspective."""

from __future__ import annotations

import csv
import json
import runpy
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from novelty_metric import SubstitutionNovelty
from novelty_metric.settings.compose import own_hydra

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "model_repository"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the repository."""
    left_out = shutil.ignore_patterns("__pycache__", ".pytest_cache")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "model", ignore=left_out))


@pytest.fixture
def run(repository: Path, run_python: Callable[..., Any]) -> Callable[..., Any]:
    """Run the tests of the copy with more options of pytest."""
    return partial(
        run_python,
        *("-m", "pytest", "-p", "no:hypothesispytest"),
        cwd=repository,
        env={"PYTHONPATH": str(repository), "COLUMNS": "100"},
    )


def test_without_the_option_only_the_fast_tests_run(run: Callable[..., Any]) -> None:
    done = run()
    assert done.returncode == 0, done.stdout
    assert "1 passed, 2 skipped" in done.stdout


@pytest.mark.slow
def test_model_that_stops_being_novel_is_detected(
    repository: Path, run: Callable[..., Any]
) -> None:
    """Without relaxation, which takes seconds."""
    arguments = ("--novelty", "-o", "novelty_relaxer=none", "--novelty-baseline=search.json")
    test = repository / "tests" / "test_novelty.py"
    # Without a potential, most crystals that are not new are undecided.
    text = test.read_text()
    assert '["undecided"] <= 3' in text
    test.write_text(text.replace('["undecided"] <= 3', '["undecided"] <= 30'))
    assert run(*arguments).returncode == 1
    kept = run(*arguments)
    assert kept.returncode == 0, kept.stdout

    model = repository / "toy_model" / "__init__.py"
    text = model.read_text()
    assert '"layered": 0.30' in text
    model.write_text(text.replace('"layered": 0.30', '"layered": 0.00'))
    test.write_text(test.read_text().replace(", min_unmatched=0.1", ""))
    done = run(*arguments)
    assert done.returncode == 1, done.stdout
    assert "novelty of toy-model, this commit regressed" in done.stdout
    assert "1 failed, 2 passed" in done.stdout


def test_baselines_agree_with_the_settings() -> None:
    names = sorted(path.name for path in (EXAMPLE / "tests" / "novelty_baselines").glob("*.json"))
    assert names == [
        "tests.novelty_release.json",
        "tests.test_novelty.test_draws_stay_novel.json",
    ]
    for name in names:
        content = json.loads((EXAMPLE / "tests" / "novelty_baselines" / name).read_text())
        assert content["reference"]["name"] == "aflow"
        assert content["potential"]["name"] == "chgnet"


def test_ci_of_the_repository_runs_the_tests() -> None:
    text = (EXAMPLE / ".github" / "workflows" / "novelty.yml").read_text()
    steps = yaml.safe_load(text)["jobs"]["novelty"]["steps"]
    assert any("python -m pytest --novelty" in step.get("run", "") for step in steps)


@pytest.mark.usefixtures("lightning")
def test_toy_model_trains_with_the_callback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tiny model without relaxation, which takes seconds."""
    script = EXAMPLE.parent / "train_toy_diffusion.py"
    arguments = ["epochs=2", "callback.every_n_epochs=1", "callback.n_samples=3", "data.repeats=4"]
    arguments += ["data.crystals=3", "callback.metric.relaxer=none", "model.steps=3", "out=tiny"]
    arguments += [f"threads={torch.get_num_threads()}"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(script), *arguments])
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # the script sets it
    with own_hydra():
        runpy.run_path(str(script), run_name="__main__")
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()][-2:] == ["0", "1"]
    with (tmp_path / "tiny" / "csv" / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows if row["novelty/novel_yield"]] == ["0", "1"]
    assert all(float(row["loss"]) > 0 for row in rows)
    for epoch in range(2):
        content = tmp_path / "tiny" / "csv" / "novelty" / f"epoch_{epoch:05d}" / "report.json"
        assert json.loads(content.read_text())["reference"]["size"] == 3
    shares = [line.split(",") for line in (tmp_path / "tiny" / "curve.csv").read_text().split()[1:]]
    assert (tmp_path / "tiny" / "curve.png").stat().st_size > 5000 and len(shares) >= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]


@pytest.mark.slow
@pytest.mark.usefixtures("chgnet")
def test_novelty_tests_of_the_repository_pass(repository: Path, run: Callable[..., Any]) -> None:
    """With CHGNet, which takes a minute or two."""
    done = run("--novelty", "-n", "2", "--novelty-report=novelty.json")
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    checks = json.loads((repository / "novelty.json").read_text())["checks"]
    assert [check["outcome"] for check in checks] == ["ok", "ok"]


def test_policy_learns_from_the_reward(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLE.parent / "reward_training.py"))
    for at in range(len(example["PROTOTYPES"])):
        crystal = example["build"]((at, 1, 1))  # NaCl
        radii = sum(float(site.specie.average_ionic_radius) for site in crystal)
        assert crystal.distance_matrix[0, 1] == pytest.approx(radii)
    curve = example["train"](SubstitutionNovelty("aflow"), n_steps=25, n_crystals=16)
    assert sum(curve[-5:]) > 1.3 * sum(curve[:5])
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_notebook_runs() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLE.parent / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # the repository has no outputs
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
    shown = [
        output.get("data", {})
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    pages = "".join(data.get("text/html", "") for data in shown)
    assert "novelty at most" in pages and "mountCrystal" in pages
    assert any("image/png" in data for data in shown)
    assert shown[-1]["text/plain"].startswith("array([1.")
