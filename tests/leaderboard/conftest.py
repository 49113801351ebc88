"""A copy of a part of the leaderboard, and a leaderboard made by scoring."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from board_files import BOARD

from novelty_metric.cli import main
from novelty_metric.leaderboard.submission import Submission, parse


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A copy of two submissions of the committed leaderboard, with their files."""
    copy = Path(shutil.copytree(BOARD / "calibrations", tmp_path / "board" / "calibrations")).parent
    shutil.copy(BOARD / "DEMONSTRATION.md", copy)
    for folder in ("submissions", "verdicts", "crystals"):
        (copy / folder).mkdir()
        for name in ("diffcsp", "flowmm"):
            (path,) = (BOARD / folder).glob(f"{name}.*")
            shutil.copy(path, copy / folder)
    return copy


@pytest.fixture
def submission() -> Submission:
    return parse((BOARD / "submissions" / "diffcsp.yaml").read_text())


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with samples, their scored run, and a leaderboard with its submission.

    The run has no relaxation. Its reference is the packaged one, which therefore is the training
    set of the "model".
    """
    from novelty_metric.samples.packaged import packaged_samples_path

    root = tmp_path_factory.mktemp("scored")
    (root / "samples").mkdir()
    shutil.copy(packaged_samples_path(), root / "samples" / "made.zip")
    (root / "board" / "submissions").mkdir(parents=True)
    arguments = [f"samples={root / 'samples' / 'made.zip'}", "reference=aflow", "relaxer=none"]
    assert main(["score", *arguments, "limit=14", "seed=2", f"out={root / 'run'}"]) == 0
    n_files = 41
    answers = ["name=mine", "model=Mine", "authors=A. Author; B. Author", f"generated={n_files}"]
    answers.append("training_set=aflow")
    into = f"into={root / 'board'}"
    assert main(["leaderboard", "add", str(root / "run"), into, *answers]) == 0
    assert json.loads((root / "run" / "report.json").read_text())["samples"]["read"] > 10
    return root
