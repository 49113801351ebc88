"""A larger ``limit=`` for an existing run, and runs in moved folders."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.cli import main
from novelty_metric.samples.base import Sample
from novelty_metric.samples.draw import Draw, drawn_rows
from novelty_metric.samples.packaged import packaged_samples_path
from novelty_metric.scoring.pipeline import Pipeline
from novelty_metric.settings import run_folder

FAST = ["relaxer=none", "hull=none", "progress=false"]


@given(st.integers(0, 60), st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**40))
def test_larger_random_subset_contains_the_smaller_one(
    total: int, one: int, other: int, seed: int
) -> None:
    few, many = sorted((one, other))
    drawn = drawn_rows(total, few, seed)
    assert drawn == sorted(set(drawn)) and len(drawn) == min(few, total)
    assert set(drawn) <= set(drawn_rows(total, many, seed)) <= set(range(total))


def test_random_subsets_are_uniform_and_reproducible() -> None:
    counts = [0] * 10
    for seed in range(3000):
        for row in drawn_rows(10, 3, seed):
            counts[row] += 1
    # 900 expected for each, with a standard deviation of 25.
    assert all(abs(count - 900) < 125 for count in counts)
    # The subset of a seed must never change between versions.
    assert drawn_rows(1000, 5, 0) == [40, 186, 402, 583, 993]


@pytest.mark.parametrize(
    ("now", "before", "holds"),
    [
        (Draw(5), Draw(5), True),
        (Draw(6), Draw(5), True),
        (Draw(4), Draw(5), False),
        (Draw(), Draw(5), True),
        (Draw(), Draw(5, 1), True),
        (Draw(5), Draw(), False),
        (Draw(9, 1), Draw(5, 1), True),
        (Draw(9, 2), Draw(5, 1), False),
        (Draw(9), Draw(5, 1), False),
        (Draw(9, 1), Draw(5), False),
    ],
)
def test_which_subset_contains_which(now: Draw, before: Draw, holds: bool) -> None:
    assert now.holds(before) is holds


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "gen.zip"
    with zipfile.ZipFile(packaged_samples_path()) as given, zipfile.ZipFile(path, "w") as some:
        for name in given.namelist()[::2]:
            some.writestr(name, given.read(name))
    return path


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the scored samples, in order."""
    ids: list[str] = []
    score_each = Pipeline.score_each

    def noted(self: Pipeline, samples: Any, on_result: Any) -> None:
        found: list[Sample] = list(samples)
        ids.extend(sample.id for sample in found)
        score_each(self, found, on_result)

    monkeypatch.setattr(Pipeline, "score_each", noted)
    return ids


def rows(folder: str) -> pd.DataFrame:
    return pd.read_parquet(Path(folder, "verdicts.parquet")).drop(columns="seconds")


@pytest.mark.parametrize("seed", [None, 3])
def test_limit_can_be_raised(seed: int | None, samples: Path, scored: list[str]) -> None:
    arguments = ["score", "samples=data/gen.zip", *FAST]
    drawn = [] if seed is None else [f"seed={seed}"]
    assert main([*arguments, "limit=6", *drawn, "out=run"]) == 0
    first = list(scored)
    scored.clear()
    assert main([*arguments, "limit=12", *drawn, "out=run"]) == 0
    assert len(scored) <= 12 - 6 + 1  # unreadable samples are refused again
    assert set(first).union(scored) == set(rows("run")["id"])
    assert main([*arguments, "limit=12", *drawn, "out=fresh"]) == 0
    pd.testing.assert_frame_equal(rows("run"), rows("fresh"))
    for name in ("parents", "evidence", "quality", "structures"):
        found, expected = (Path(run, f"{name}.parquet") for run in ("run", "fresh"))
        assert found.read_bytes() == expected.read_bytes(), name
    scored.clear()
    assert main([*arguments, "out=run"]) == 0  # all samples
    assert main([*arguments, "out=whole"]) == 0
    pd.testing.assert_frame_equal(rows("run"), rows("whole"))


def test_limit_cannot_be_lowered(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["score", "samples=data/gen.zip", *FAST, "out=run"]
    assert main([*arguments, "limit=4"]) == 0
    capsys.readouterr()
    for less, message in (
        (["limit=3"], "limit=3 does not contain those crystals; a limit can be raised"),
        (["limit=8", "seed=1"], "contains a report with limit=4, and limit=8 seed=1 does not"),
        (["limit=8", "protocol.k=1"], "protocol.k was 3, is 1"),
    ):
        assert main([*arguments, *less]) == 2
        assert message in capsys.readouterr().err
    assert len(rows("run")) == 4
    assert main([*arguments, "limit=3", "overwrite=true"]) == 0
    assert len(rows("run")) == 3


@pytest.mark.parametrize("seed", [None, 5])
def test_limit_of_an_interrupted_run_can_be_raised(
    seed: int | None, samples: Path, scored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["score", "samples=data/gen.zip", *FAST, "out=run", "part=2"]
    arguments += [] if seed is None else [f"seed={seed}"]
    noted = Pipeline.score_each

    def broken(self: Pipeline, samples: Any, on_result: Any) -> None:
        if len(scored) >= 6:
            raise KeyboardInterrupt
        noted(self, samples, on_result)

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "score_each", broken)
        assert main([*arguments, "limit=10"]) == 3
    done = list(scored)
    assert len(done) == 6
    scored.clear()
    assert main([*arguments, "limit=9"]) == 2
    assert main([*arguments, "limit=16"]) == 0
    assert len(rows("run")) == 16
    assert len(scored) <= 16 - 6 + 1
    fresh = [word for word in arguments if not word.startswith(("out=", "part="))]
    assert main([*fresh, "limit=16", "out=fresh"]) == 0
    pd.testing.assert_frame_equal(rows("run"), rows("fresh"))


def test_run_is_found_from_any_folder(
    samples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = samples.parents[1]
    assert main(["score", "samples=data/gen.zip", *FAST, "limit=4", "out=runs/one"]) == 0
    varied = ["k=1", "tolerances=none", "symprec=none"]
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["sensitivity", "run=../runs/one", *varied]) == 0
    identifier = rows("../runs/one")["id"][0]
    assert main(["explain", identifier, "run=../runs/one"]) == 0

    moved = root / "moved"
    moved.mkdir()
    for name in ("data", "runs"):
        (root / name).rename(moved / name)
    assert main(["sensitivity", "run=../moved/runs/one", *varied]) == 0
    config = run_folder.read_config(moved / "runs" / "one")
    assert config is not None and config["samples"] == str(moved / "data" / "gen.zip")

    # Another file at the path of the samples is not accepted.
    (root / "data").mkdir()
    (root / "data" / "gen.zip").write_bytes(b"another")
    assert main(["sensitivity", "run=../moved/runs/one", *varied]) == 0
    capsys.readouterr()
    (moved / "data" / "gen.zip").unlink()
    assert main(["sensitivity", "run=../moved/runs/one", *varied]) == 2
    assert "have changed" in capsys.readouterr().err


def test_old_run_with_relative_paths(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = samples.parents[1]
    assert main(["score", "samples=data/gen.zip", *FAST, "limit=4", "out=runs/one"]) == 0
    path = root / "runs" / "one" / "config.json"
    content = json.loads(path.read_text())
    del content["relative_paths"]
    path.write_text(json.dumps({**content, "samples": "data/gen.zip"}))
    (root / "elsewhere").mkdir()
    monkeypatch.chdir(root / "elsewhere")
    arguments = ["k=1", "tolerances=none", "symprec=none"]
    assert main(["sensitivity", "run=../runs/one", *arguments]) == 0
    monkeypatch.chdir(root)
    assert main(["score", "samples=data/gen.zip", *FAST, "limit=5", "out=runs/one"]) == 0
