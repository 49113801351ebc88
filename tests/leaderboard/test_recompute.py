"""A submission from a run, and recomputation of its crystals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from board_files import edit_submission, replace_table

from novelty_metric.cli import main
from novelty_metric.errors import InputError
from novelty_metric.leaderboard.add import _training_set
from novelty_metric.leaderboard.board import read_board
from novelty_metric.leaderboard.recompute import _relaxer, differences
from novelty_metric.leaderboard.submission import parse
from novelty_metric.relaxation.potentials import SevenNet
from novelty_metric.verdict import CrystalResult, Verdict


@pytest.fixture
def mine(scored: Path, tmp_path: Path) -> Path:
    """A copy of the samples and the leaderboard of the scored run."""
    shutil.copytree(scored / "samples", tmp_path / "samples")
    shutil.copytree(scored / "board", tmp_path / "board")
    return tmp_path


def check(mine: Path, *arguments: str) -> int:
    samples = ["--samples", str(mine / "samples")]
    return main(["leaderboard", "check", str(mine / "board"), *samples, *arguments])


def test_submission_describes_the_run(scored: Path) -> None:
    made = parse((scored / "board" / "submissions" / "mine.yaml").read_text())
    assert made.model == "Mine" and made.authors == ("A. Author", "B. Author")
    assert made.trained_on_reference and not made.demonstration
    assert (made.samples.file, made.samples.in_file, made.samples.generated) == ("made.zip", 41, 41)
    assert made.samples.selection.seed == 2 and made.counts.rows == 14
    assert made.n_generated == 14


def test_recomputation_agrees(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "samples" / "made.zip").rename(mine / "samples" / "renamed")
    assert check(mine, "--recompute") == 0
    assert "right: mine: 14 crystals scored again, 14 the same" in capsys.readouterr().out
    without_crystals(mine)
    assert check(mine, "--recompute=5", "--seed", "3") == 0
    assert "5 crystals scored again, 5 the same" in capsys.readouterr().out


def test_other_sample_file_is_detected(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = mine / "samples" / "made.zip"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert check(mine) == 1
    output = capsys.readouterr().out
    assert "has the SHA-256" in output and "made.zip has its name, but other content" in output
    path.unlink()
    assert check(mine, "--recompute") == 1
    assert "no file below" in capsys.readouterr().out


def without_crystals(mine: Path) -> None:
    (mine / "board" / "crystals" / "mine.json").unlink()
    edit_submission(mine / "board", lambda content: content.update(crystals=None), "mine")


def forge(mine: Path) -> None:
    """Call the duplicates unmatched, with correct hashes and counts."""
    without_crystals(mine)
    path = mine / "board" / "verdicts" / "mine.parquet"
    table = pq.read_table(path)
    verdicts = table["verdict"].to_pylist()
    assert "duplicate" in verdicts
    column = pa.array(["unmatched" if v == "duplicate" else v for v in verdicts], pa.string())
    place = table.schema.get_field_index("verdict")
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(place, "verdict", column), sink)
    replace_table(mine / "board", sink.getvalue().to_pybytes(), "mine")

    def counts(content: dict[str, Any]) -> None:
        given = content["counts"]["verdicts"]
        given["unmatched"] += given.pop("duplicate")
        given["duplicate"] = 0
        content["counts"]["unique_unmatched"] = given["unmatched"]

    edit_submission(mine / "board", counts, "mine")


def test_forged_verdict_is_detected(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge(mine)
    assert main(["leaderboard", "check", str(mine / "board")]) == 0
    assert check(mine, "--recompute") == 1
    output = capsys.readouterr().out
    assert "verdict was unmatched, is duplicate" in output
    # One different relaxation in the whole run cannot explain these verdicts.
    assert check(mine, "--recompute", "--allow", "1") == 1


def swapped(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(content: dict[str, Any]) -> None:
        content["training_set"][key] = value
        content["scored"]["reference"][key] = value
        content["scored"]["hull"][key] = value

    return edit


def test_wrong_training_set_is_detected(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_submission(mine / "board", swapped("crystals_hash", "3" * 64), "mine")
    assert main(["leaderboard", "check", str(mine / "board")]) == 0  # consistent in itself
    assert check(mine, "--recompute") == 1
    assert "not the same training set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "relaxer"),
    [
        ("chgnet", "chgnet"),
        ("mace-medium-mpa-0", "mace"),
        ("mace-mpa-0", "mace"),
        ("sevennet-0", "sevennet"),
        ("sevennet-l3i5", SevenNet(model="7net-l3i5", device="cpu")),
    ],
)
def test_every_published_potential_is_recomputed_with_its_model(
    mine: Path, name: str, relaxer: object
) -> None:
    potential = {"name": name, "version": "1", "weights_hash": "a"}
    edit_submission(mine / "board", lambda c: c["scored"].update(potential=potential), "mine")
    submission = parse((mine / "board" / "submissions" / "mine.yaml").read_text())
    assert _relaxer(submission, "cpu") == relaxer


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["samples"].update(reader="os"), "samples.reader is 'os'; known: adit"),
        (
            lambda c: c["scored"].update(
                potential={"name": "mine", "version": "1", "weights_hash": "a"}
            ),
            "the potential 'mine' has no known name",
        ),
        (
            lambda c: c["scored"]["hull"].update(name="entries"),
            "the hull 'entries' has no known name",
        ),
        (lambda c: c["samples"]["selection"].update(seed=7), "id was"),
    ],
)
def test_different_settings_are_reported(
    mine: Path,
    edit: Callable[[dict[str, Any]], None],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit_submission(mine / "board", edit, "mine")
    assert check(mine, "--recompute") == 1
    assert message in capsys.readouterr().out


ROW = CrystalResult(
    id="a",
    formula="NaCl",
    eligible=True,
    converged=True,
    verdict=Verdict.DUPLICATE,
    parent_id="p",
    energy_per_atom=-3.0,
    e_above_hull=0.05,
    new_prototype=False,
)


@pytest.mark.parametrize(
    ("change", "given", "found"),
    [
        ({}, 0, 0),
        ({"energy_per_atom": -3.005, "seconds": 9.0}, 0, 0),
        ({"energy_per_atom": -3.02}, 0, 1),
        ({"e_above_hull": None}, 0, 1),
        ({"verdict": Verdict.UNMATCHED}, 0, 1),
        ({"parent_id": "q"}, 0, 1),
        ({"new_prototype": True}, 0, 1),
        ({"eligible": False, "verdict": None}, 0, 2),
        ({"id": "b"}, 1, 0),
        ({"formula": "KCl", "readable": False}, 2, 0),
    ],
)
def test_definition_of_a_difference(change: dict[str, Any], given: int, found: int) -> None:
    first, second = differences(ROW, replace(ROW, **change))
    assert (len(first), len(second)) == (given, found)


def test_old_tables_without_new_prototypes_pass() -> None:
    before = replace(ROW, new_prototype=None)
    assert differences(before, replace(ROW, new_prototype=True)) == ([], [])


def test_add_asks_for_missing_information(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = f"into={tmp_path / 'board'}"
    run = str(scored / "run")
    trained = "training_set=aflow"
    for arguments, message in (
        ([run, into], "who made the model?"),
        ([run, into, "authors=A", "name=../x"], "names are small letters"),
        ([run, into, "authors=A"], "what was the model trained on? if aflow, which was scored"),
        ([run, into, "authors=A", "training_set=mp_20"], "training_set=mp_20, but aflow was"),
        ([run, into, "authors=A", trained, "generated=2"], "samples.generated"),
        ([run, into, "authors=A", "generated=x"], "must be a whole number"),
        ([run, into, "authors=A", trained, "paper=ftp://x"], "paper is"),
        ([run, into, "authors=A", "demonstration=true"], "against its training set"),
        ([str(tmp_path), into, "authors=A"], "report.json"),
    ):
        status = main(["leaderboard", "add", *arguments])
        err = capsys.readouterr().err
        if "demonstration" in arguments[-1]:
            # Without the hash of the training set, no error is detected.
            assert status == 0
            continue
        assert status == 2 and message in err, err
    assert main(["leaderboard", "add", run, into, "authors=A", "name=generic"]) == 2
    assert "already exists" in capsys.readouterr().err
    made = parse((tmp_path / "board" / "submissions" / "generic.yaml").read_text())
    assert made.demonstration and made.training_set.name == "unknown"


def test_selected_crystals_are_added_and_recomputed(
    scored: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = "The authors kept the crystals that they liked."
    about = mine / "about.yaml"
    about.write_text(f"name: kept\nauthors: A\ntraining_set: aflow\nselected: {how}\n")
    arguments = [str(scored / "run"), f"into={mine / 'board'}", f"about={about}"]
    assert main(["leaderboard", "add", *arguments]) == 0
    kept = read_board(mine / "board")[-1]
    assert kept.selected == how and not kept.ranked
    assert check(mine, "kept", "--recompute=1", "--workers=1") == 0


def test_only_scores_against_the_training_set_are_ranked() -> None:
    def named(model: str, scored: str, shown: str | None = None, **answers: Any) -> str:
        given = {"training_set": None, "demonstration": None, **answers}
        return _training_set(given, model, shown or scored, scored)

    assert named("diffcsp", "mp_20") == "mp_20"
    assert named("diffcsp", "mp_20", "MP-20") == "MP-20"
    # A checkpoint with another training set, or a model without a config.
    assert named("diffcsp", "mpts_52", training_set="mpts_52") == "mpts_52"
    assert named("generic", "train", "MP-20", training_set="MP-20") == "MP-20"
    assert named("diffcsp", "aflow", demonstration=True) == "mp_20"
    with pytest.raises(InputError, match="model=diffcsp is trained on mp_20, but aflow was scored"):
        named("diffcsp", "aflow")
    with pytest.raises(InputError, match="if train is that by another name, add reference=mp_20"):
        named("diffcsp", "train", training_set="mp_20")
    for model in ("generic", "crystallm", "a_config_of_my_own"):
        with pytest.raises(InputError, match="demonstration=true shows it without a rank"):
            named(model, "aflow")
