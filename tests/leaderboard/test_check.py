"""Manipulation is detected: a changed figure, file or hash gives an error that names it."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from board_files import BOARD, edit_submission, replace_table

from novelty_metric.cli import main
from novelty_metric.errors import InputError
from novelty_metric.leaderboard.check import check_folder
from novelty_metric.leaderboard.files import MAX_TABLE_BYTES, read_inside

Edit = Callable[[dict[str, Any]], Any]
TABLE = Path("verdicts/diffcsp.parquet")
OTHER_HULL = {"name": "reference", "crystals_hash": "1" * 64}
"""The hull of another reference."""


def wrong(board: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The problems that `leaderboard check` reports; its exit status is 1."""
    assert main(["leaderboard", "check", str(board)]) == 1
    output = capsys.readouterr()
    assert output.err == ""
    lines = [line for line in output.out.splitlines() if line.startswith("wrong: ")]
    assert lines
    return "\n".join(lines)


def rewritten(board: Path, change: Callable[[pa.Table], pa.Table]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(change(pq.read_table(board / TABLE)), stream)
    return stream.getvalue()


def test_committed_leaderboard_passes(capsys: pytest.CaptureFixture[str]) -> None:
    n = len(list((BOARD / "submissions").iterdir()))
    assert main(["leaderboard", "check", str(BOARD)]) == 0
    assert f"{n} submissions are right, 0 things are wrong" in capsys.readouterr().out
    assert main(["leaderboard", "check", str(BOARD), "diffcsp"]) == 0
    assert "1 submission is right, 0 things are wrong" in capsys.readouterr().out
    assert main(["leaderboard", "--help"]) == 0
    usage = capsys.readouterr().out.split("\ncheck: ")[1].split("\nbuild: ")[0]
    for option in ("--samples", "--recompute", "--seed", "--allow", "--reference", "--workers"):
        assert option in usage
    assert "--device" in usage


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["counts"]["verdicts"].update(unmatched=60), "counts.verdicts.unmatched is 60"),
        (lambda c: c["counts"].update(eligible=99), "counts.eligible is 99, but the table"),
        (lambda c: c["counts"].update(unique_unmatched=99), "counts.unique_unmatched is 99"),
        (lambda c: c["counts"]["left_out"].update(failed=9), "counts.left_out.failed is 9"),
        (lambda c: c["counts"].update(rows=1), "counts.rows is 1"),
        (lambda c: c.update(novelty=1.0), "no key named 'novelty'"),
        (lambda c: c["verdicts"].update(unreadable=[3]), "counts.unreadable is 0"),
        (lambda c: c["verdicts"].update(file="/etc/passwd"), "verdicts.file is '/etc/passwd'"),
        (
            lambda c: c["verdicts"].update(file="verdicts/flowmm.parquet"),
            "expected is verdicts/diff",
        ),
        (lambda c: c["scored"].update(hull=OTHER_HULL), "scored.hull.crystals"),
        (
            lambda c: c.update(
                demonstration=False, training_set={"name": "x", "crystals_hash": None}
            ),
            "score against what the model was trained on",
        ),
    ],
)
def test_edited_submission_is_detected(
    board: Path, edit: Edit, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_submission(board, edit)
    assert message in wrong(board, capsys)


def test_edited_table_is_detected(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def novel(table: pa.Table) -> pa.Table:
        column = pa.array(["unmatched"] * len(table), pa.string())
        return table.set_column(table.schema.get_field_index("verdict"), "verdict", column)

    data = rewritten(board, novel)
    (board / TABLE).write_bytes(data)
    assert "was changed: its SHA-256" in wrong(board, capsys)
    replace_table(board, data)
    assert "but the table of verdicts has" in wrong(board, capsys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["cost"]), "columns are not those of a verdicts.parquet (cost)"),
        (lambda t: t.append_column("x", pa.array([0] * len(t))), "verdicts.parquet (x)"),
        (lambda t: t.rename_columns(["formula", *t.column_names[1:]]), "columns are not those"),
        (
            lambda t: t.set_column(0, "id", pa.array(range(len(t)))),
            "columns are not those of a verdicts.parquet (id)",
        ),
        (
            lambda t: t.set_column(
                t.column_names.index("verdict"), "verdict", pa.array(["best"] * len(t))
            ),
            "cannot be in a verdicts.parquet",
        ),
        (
            lambda t: t.set_column(
                t.column_names.index("element_map"), "element_map", pa.array(["[" * 9999] * len(t))
            ),
            "cannot be in a verdicts.parquet",
        ),
    ],
)
def test_unusual_table_is_refused(
    board: Path,
    change: Callable[[pa.Table], pa.Table],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    replace_table(board, rewritten(board, change))
    assert message in wrong(board, capsys)


def test_invalid_parquet_is_refused(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for data in (b"", b"PAR1" * 100, (board / TABLE).read_bytes()[:-900]):
        replace_table(board, data)
        assert "it is not a Parquet file, or it is damaged" in wrong(board, capsys)


def test_table_that_decompresses_to_gigabytes_is_refused(
    board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.BytesIO()
    many = pq.read_table(board / TABLE).take(pa.array([0] * 200_000))
    pq.write_table(many, stream, compression="zstd")
    assert len(stream.getvalue()) < MAX_TABLE_BYTES
    replace_table(board, stream.getvalue())
    assert "200,000 rows" in wrong(board, capsys)


def test_huge_file_is_refused(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (TABLE, Path("submissions/diffcsp.yaml")):
        with (board / name).open("r+b") as stream:
            stream.truncate(40 * 2**30)  # a sparse file: it needs no disk space
        assert "bytes; at most" in wrong(board, capsys)


@pytest.mark.parametrize("name", [str(TABLE), "submissions/diffcsp.yaml", "verdicts"])
def test_links_are_refused(
    board: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(board / name, tmp_path / "away")
    (board / name).symlink_to(tmp_path / "away")
    assert "replace it by the file itself" in wrong(board, capsys)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", ".", "a\\..\\x", ""])
def test_paths_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="outside of the folder"):
        read_inside(tmp_path, name, most=10)


def test_fifo_is_refused(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a file"):
        read_inside(tmp_path, "pipe", most=10)


def test_unreferenced_files_are_reported(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (board / "verdicts" / "run.sh").write_text("true")
    assert "verdicts/run.sh: no submission names this file" in wrong(board, capsys)
    (board / "verdicts" / "run.sh").unlink()
    (board / "submissions" / "Über.py").write_text("1/0")
    assert "submissions are named NAME.yaml" in wrong(board, capsys)


def test_different_training_sets_of_the_same_name_are_reported(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = Path(shutil.copytree(scored / "board", tmp_path / "board"))
    tops = {"submissions": "{}.yaml", "verdicts": "{}.parquet", "crystals": "{}.json"}
    for top, file in tops.items():
        shutil.copy(board / top / file.format("mine"), board / top / file.format("other"))

    def another(content: dict[str, Any]) -> None:
        content["verdicts"]["file"] = "verdicts/other.parquet"
        content["crystals"]["file"] = "crystals/other.json"
        content["training_set"]["crystals_hash"] = "2" * 64
        content["scored"]["reference"]["crystals_hash"] = "2" * 64
        content["scored"]["hull"].update(crystals_hash="2" * 64)

    edit_submission(board, another, "other")
    assert "two sets under one name" in wrong(board, capsys)


def test_invalid_calls(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, message in (
        (["check", str(tmp_path)], "is not a leaderboard"),
        (["check", str(BOARD), "nobody"], "no submission is named 'nobody'"),
        (["check", str(BOARD), "--recompute"], "--recompute needs --samples"),
        (["check", str(BOARD), "--samples", "x", "--recompute=0"], "a whole number of at least 1"),
        (["check", str(BOARD), "--samples", "x", "--recompute=x"], "must be a whole number"),
        (["chek"], "no verb named 'leaderboard chek'"),
        (["add"], "needs one RUN_DIR"),
        (["add", "x", "autors=y"], "no setting named 'autors'"),
        (["build", "a", "b"], "takes one folder"),
    ):
        assert main(["leaderboard", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_names_select_submissions() -> None:
    found, problems = check_folder(BOARD, ("flowmm",))
    assert [one.name for one in found] == ["flowmm"] and not problems


def test_repository_contains_few_crystals() -> None:
    """Only the crystals that the page shows; tables of verdicts contain no coordinates or cells."""
    for path in BOARD.rglob("*"):
        assert path.suffix not in (".cif", ".extxyz", ".arrow", ".pt", ".zip")
    for path in (BOARD / "verdicts").iterdir():
        assert not {"lattice", "frac_coords", "numbers"} & set(pq.read_schema(path).names)
    text = json.dumps((BOARD / "leaderboard.json").read_text())
    assert "_cell_length" not in text and "lattice" not in text.replace("lattice_sites", "")
