"""Null models on the leaderboard: ranked, reproduced from their seed, with a calibration."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from novelty_metric.cli import main
from novelty_metric.errors import InputError
from novelty_metric.leaderboard.board import read_board
from novelty_metric.leaderboard.build import outputs
from novelty_metric.leaderboard.calibrations import file_of, larger_calibration, read_calibration
from novelty_metric.leaderboard.check import check_folder
from novelty_metric.protocol import Protocol
from novelty_metric.reference.calibration import Calibration, LeftOutCrystal, Sensitivity
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.context import RunContext
from novelty_metric.report.of_cases import key_of_context

NAMES = ("held_out", "ion_exchange")


@pytest.fixture(scope="module")
def with_nulls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard of two null models of the packaged reference, without relaxation."""
    root = tmp_path_factory.mktemp("nulls")
    (root / "board" / "submissions").mkdir(parents=True)
    for name in NAMES:
        file, run = root / f"{name}.extxyz", root / name
        assert main(["baseline", name, "reference=aflow", "n=6", "seed=3", f"out={file}"]) == 0
        score = ["score", f"samples={file}", "reference=aflow", "relaxer=none", f"out={run}"]
        more = ["leave_one_out=true"] if name == "held_out" else []
        assert main([*score, *more]) == 0
        arguments = [f"null_model={name}", "seed=3", f"into={root / 'board'}"]
        assert main(["leaderboard", "add", str(run), *arguments]) == 0
    return root


@pytest.fixture
def copy(with_nulls: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(with_nulls / "board", tmp_path / "board"))


def test_null_models_are_ranked_in_their_section(with_nulls: Path) -> None:
    (section,) = read_board(with_nulls / "board")
    assert [entry.rank for entry in section.entries] == [1, 1]
    assert {entry.name for entry in section.null_models} == set(NAMES)
    assert {entry.report.context.leave_one_out for entry in section.entries} == {True, False}
    page = outputs(with_nulls / "board")["index.html"]
    assert "ion exchange (null model)" in page


def test_number_of_new_prototypes_follows_from_the_table(with_nulls: Path, copy: Path) -> None:
    (section,) = read_board(copy)
    for entry in section.entries:
        table = pd.read_parquet(with_nulls / entry.name / "verdicts.parquet")
        known = table[table.smact_valid & table.new_prototype.notna()]
        counts = entry.submission.counts.prototypes
        assert counts is not None and counts.known == len(known) > 0
        assert counts.new == known.new_prototype.sum() and counts.metastable is None
        (row,) = [line for line in _csv(copy) if line["name"] == entry.name]
        assert int(row["new_prototypes"]) == counts.new
        assert float(row["new_prototype_share"]) == pytest.approx(counts.new / counts.known)
        assert row["new_prototypes_metastable"] == ""


def test_edited_number_of_new_prototypes_is_detected(copy: Path) -> None:
    path = copy / "submissions" / "held_out.yaml"
    content = yaml.safe_load(path.read_text())
    content["counts"]["prototypes"]["new"] += 1
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    _, problems = check_folder(copy)
    assert any("counts.prototypes.new is" in problem for problem in problems)
    content["counts"]["prototypes"] = None
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    _, problems = check_folder(copy)
    assert any("counts.prototypes is None" in problem for problem in problems)


def _csv(board: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(outputs(board)["leaderboard.csv"].splitlines()))


def test_null_models_are_rescored_from_their_seed(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "check", str(copy), "--recompute=4", "--workers=1"]) == 0
    output = capsys.readouterr().out
    for name in NAMES:
        (line,) = re.findall(f"right: {name}: (.*) the same", output)
        again, same = re.findall(r"\d+", line)
        # The crystals of the page are among them.
        assert again == same and 4 <= int(again) <= 6


def test_file_that_disagrees_with_the_seed_is_detected(
    with_nulls: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "submissions" / "ion_exchange.yaml"
    content = yaml.safe_load(path.read_text())
    content["samples"]["seed"] = 4
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    arguments = [str(copy), "ion_exchange", "--samples", str(with_nulls), "--recompute=1"]
    assert main(["leaderboard", "check", *arguments, "--workers=1"]) == 1
    assert "not what the null model ion_exchange makes with this seed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"null_model": "held_up"}, "null_model is 'held_up'; known: held_out"),
        ({"demonstration": True}, "null_model is ranked; it can't be a demonstration"),
        ({"selected": "some were kept"}, "null_model is ranked; it can't be a demonstration or"),
    ],
)
def test_unknown_null_model_is_refused(copy: Path, change: dict[str, object], message: str) -> None:
    path = copy / "submissions" / "held_out.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | change, sort_keys=False))
    _, problems = check_folder(copy)
    assert any(message in problem for problem in problems)


def test_leave_one_out_run_is_only_valid_for_held_out(
    with_nulls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["name=other", "authors=A", "training_set=aflow", f"into={with_nulls / 'board'}"]
    assert main(["leaderboard", "add", str(with_nulls / "held_out"), *arguments]) == 2
    assert "only the null model held_out can have leave_one_out=true" in capsys.readouterr().err


def test_calibration_gives_ratios_and_a_foreign_one_is_refused(tmp_path: Path) -> None:
    context = RunContext(
        protocol=Protocol.named("fast"),
        reference_name="r",
        reference_size=9,
        crystals_hash="a" * 64,
        store_hash="b" * 64,
        potential=PotentialInfo(name="p", version="1", weights_hash="0"),
    )
    key = key_of_context(context)
    assert key is not None
    crystals = tuple(LeftOutCrystal(i, "cubic", True, "substituted", 1.0) for i in range(3))
    ours = Calibration(key, 0, crystals, "a" * 64)
    run = dataclasses.replace(context, calibration=ours)
    ((name, data),) = larger_calibration(tmp_path, run).items()
    assert name == file_of(context)
    (tmp_path / "calibrations").mkdir()
    (tmp_path / name).write_bytes(data)
    assert read_calibration(tmp_path, context) == ours
    assert larger_calibration(tmp_path, run) == {}  # an equally large one exists
    # A later control is added, even from a smaller calibration.
    some = Calibration(key, 0, crystals[:1], "a" * 64, sensitivity=Sensitivity(19, 20))
    later = dataclasses.replace(context, calibration=some)
    ((_, joined),) = larger_calibration(tmp_path, later).items()
    (tmp_path / name).write_bytes(joined)
    both = dataclasses.replace(ours, sensitivity=Sensitivity(19, 20))
    assert read_calibration(tmp_path, context) == both
    assert larger_calibration(tmp_path, run) == larger_calibration(tmp_path, later) == {}
    content = json.loads(data)
    (tmp_path / name).write_text(json.dumps(content | {"key": "f" * 64}))
    with pytest.raises(InputError, match="the calibration of another measurement"):
        read_calibration(tmp_path, context)
