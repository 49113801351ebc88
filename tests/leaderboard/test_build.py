"""The tables: built only from submissions, reproducible, with a ranking per section."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from board_files import BOARD, edit_submission

from novelty_metric.cli import main
from novelty_metric.leaderboard.board import Section, read_board, sections
from novelty_metric.leaderboard.build import outputs
from novelty_metric.leaderboard.check import Checked
from novelty_metric.leaderboard.page import bars, page
from novelty_metric.leaderboard.submission import Counts, Submission, parse, plain
from novelty_metric.leaderboard.tables import COLUMNS, csv_text, json_text, markdown
from novelty_metric.support.validation import validated
from novelty_metric.verdict import CrystalResult, Verdict


def without_charts(page: str) -> str:
    """Other versions of matplotlib draw other lines."""
    return re.sub(r"data:image/svg\+xml;base64,[^\"]+", "", page)


def test_committed_tables_are_up_to_date() -> None:
    for name, text in outputs(BOARD).items():
        committed = (BOARD / name).read_text(encoding="utf-8")
        if name == "index.html":
            assert without_charts(committed) == without_charts(text)
        else:
            assert committed == text, f"{name}: run `novelty-metric leaderboard build`"


def test_build_is_reproducible(board: Path, tmp_path: Path) -> None:
    assert main(["leaderboard", "build", str(board)]) == 0
    before = {path.name: path.read_bytes() for path in board.iterdir() if path.is_file()}
    assert main(["leaderboard", "build", str(board), f"out={tmp_path / 'out'}"]) == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(made) == {
        "README.md", "leaderboard.csv", "leaderboard.json", "index.html", "submission.schema.json"
    }  # fmt: skip
    assert all(before[name] == content for name, content in made.items())


def test_invalid_submissions_are_refused(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_submission(board, lambda content: content["counts"].update(eligible=100))
    assert main(["leaderboard", "build", str(board)]) == 2
    assert "counts.eligible" in capsys.readouterr().err


def test_null_models_are_ranked_and_demonstrations_are_not() -> None:
    ranked, only, *_ = read_board(BOARD)
    assert all(entry.rank is not None for entry in ranked.entries) and len(ranked.entries) >= 5
    assert only.demonstration and len(only.entries) == 6
    assert all(entry.rank is None and entry.unranked for entry in only.entries)
    text = (BOARD / "README.md").read_text()
    for expected in ("no model was trained on it", "two other splits", "fine-tuned on lithium"):
        assert expected in text
        assert expected in (BOARD / "index.html").read_text().replace("&#39;", "'")


# Leaderboards of invented models


def checked(name: str, novel: int, rows: int = 200, **changed: Any) -> Checked:
    """A model scored against its training set, with some new crystals."""
    base = parse((BOARD / "submissions" / "diffcsp.yaml").read_text())
    results = [
        CrystalResult(
            id=str(i),
            formula="NaCl",
            crystal_system="cubic",
            space_group=225,
            smact_valid=True,
            converged=True,
            eligible=True,
            verdict=Verdict.UNMATCHED if i < novel else Verdict.DUPLICATE,
        )
        for i in range(rows)
    ]
    content = plain(base)
    content |= {"model": changed.pop("model", name), "demonstration": False}
    content["selected"] = changed.pop("selected", None)
    content["training_set"]["crystals_hash"] = content["scored"]["reference"]["crystals_hash"]
    everything = {"rule": "all", "count": None, "seed": None}
    generated = changed.pop("generated", rows)
    content["samples"] |= {"selection": everything, "in_file": rows, "generated": generated}
    content["counts"]["rows"] = rows
    for key, value in changed.items():
        content["scored"][key] = value
    made = validated(Submission, content)
    report = made.report(results)
    made = dataclasses.replace(made, counts=Counts.follow(report))
    return Checked(name=name, submission=made, report=report)


def ranks(section: Section) -> dict[str, int | None]:
    return {entry.name: entry.rank for entry in section.entries}


def test_ranked_and_unranked_models() -> None:
    (only,) = sections(
        [
            checked("a", 100),
            checked("b", 96),
            checked("c", 20),
            checked("d", 200, generated=None),
            checked("e", 30, rows=100),
        ]
    )
    assert ranks(only) == {"a": 1, "b": 1, "e": 3, "c": 4, "d": None}
    assert only.common == 100
    unknown = only.entries[-1]
    assert unknown.name == "d" and unknown.novel_yield is None
    assert unknown.unranked == "the number of generated crystals is not known"
    text = markdown([only])
    assert "Not ranked: d (the number of generated crystals is not known)." in text
    assert "| – | [d](submissions/d.yaml) | – |" in text


def other_reference(one: Checked) -> Checked:
    scored = one.submission.scored
    reference = dataclasses.replace(scored.reference, crystals_hash="4" * 64)
    trained = dataclasses.replace(one.submission.training_set, crystals_hash="4" * 64)
    submission = dataclasses.replace(
        one.submission,
        training_set=trained,
        scored=dataclasses.replace(scored, reference=reference),
    )
    return dataclasses.replace(one, submission=submission)


def test_other_settings_have_a_separate_section() -> None:
    protocol = dict(plain(checked("x", 1).submission.scored.protocol))
    hull = {"name": "matbench_discovery", "entries": 5}
    found = sections(
        [
            checked("a", 20),
            checked("b", 40),
            checked("protocol", 199, protocol={**protocol, "k": 5}),
            checked("hull", 199, hull=hull),
            checked("relaxed", 199, relax_samples=False),
            other_reference(checked("set", 199)),
        ]
    )
    assert sorted(ranks(found[0])) == ["a", "b"]
    assert sorted(name for one in found[1:] for name in ranks(one)) == [
        "hull", "protocol", "relaxed", "set"
    ]  # fmt: skip
    assert len(found) == 5 and all(set(ranks(one).values()) <= {1, 2} for one in found)


def test_names_of_protocol_and_reference_do_not_separate_sections() -> None:
    first, second = checked("a", 20), checked("b", 20)
    scored = second.submission.scored
    reference = dataclasses.replace(scored.reference, name="other words")
    second = dataclasses.replace(
        second,
        submission=dataclasses.replace(
            second.submission, scored=dataclasses.replace(scored, reference=reference)
        ),
    )
    assert len(sections([first, second])) == 1


def test_filtered_crystals_are_counted() -> None:
    (only,) = sections([checked("a", 50, generated=1000), checked("b", 50)])
    found = {entry.name: entry.novel_yield for entry in only.entries}
    assert only.common == 200
    assert found["a"] is not None and found["a"].value == pytest.approx(0.05)
    assert found["b"] is not None and found["b"].value == pytest.approx(0.25)


def test_csv_and_json_contain_the_same() -> None:
    found = sections([checked("a", 100), checked("b", 20, model="=1+1")])
    rows = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["model"] for row in rows] == ["a", "'=1+1"]  # no formula for a spreadsheet
    models = json.loads(json_text(found))["sections"][0]["models"]
    for row, model in zip(rows, models, strict=True):
        assert float(row["novel_yield"]) == pytest.approx(model["novel_yield"])
        assert int(row["unmatched"]) == model["unmatched"]
        assert row["rank"] == str(model["rank"])


def test_selected_crystals_have_a_separate_section_and_no_rank() -> None:
    how = "Only crystals that are not in a database were kept."
    models = [checked("a", 100), checked("b", 20, selected=how), checked("c", 90, selected=how)]
    ranked, selected = found = sections([*models, checked("d", 5)])
    assert [entry.name for entry in ranked.entries] == ["a", "d"]
    assert [entry.name for entry in selected.entries] == ["c", "b"]
    assert all(entry.rank is None and entry.unranked for entry in selected.entries)
    for text in (markdown(found), page(found)):
        before, after = text.split("Selected before they were published")
        assert how not in before and how in after
    rows = {row["name"]: row for row in csv.DictReader(csv_text(found).splitlines())}
    assert rows["b"]["selected"] == how and rows["a"]["selected"] == rows["b"]["rank"] == ""
    other = sections([*models, checked("e", 5, selected="Otherwise.")])
    assert [one.selected for one in other] == [None, how, "Otherwise."]


def test_labels_of_charts_are_complete() -> None:
    names = ["random substitution (null model)", "Ion exchange, as published by its authors"]
    (section,) = sections([checked(f"m{i}", 5, model=name) for i, name in enumerate(names)])
    figure = bars(section)
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert sorted(" ".join(label.split()) for label in shown) == sorted(names)
    assert "random substitution\n(null model)" in shown


def test_section_shows_the_base_rate_and_the_sensitivity(board: Path) -> None:
    (path,) = (board / "calibrations").iterdir()
    content = json.loads(path.read_text()) | {"sensitivity": {"hits": 90, "total": 100}}
    path.write_text(json.dumps(content))
    made = outputs(board)
    rows = csv.DictReader(made["leaderboard.csv"].splitlines())
    assert {row["sensitivity"] for row in rows} == {"0.9"}
    for name in ("README.md", "index.html"):
        text = " ".join(made[name].split())
        assert "Real crystals left out of the reference: " in text
        assert "finds 90 of 100 known substitutions (90 % [83-94])" in text


def test_markdown_is_escaped() -> None:
    nasty = "x|y](javascript:alert(1)) <img src=x> **b** `c`"
    text = markdown(sections([checked("a", 5, model=nasty)]))
    assert "<img" not in text
    assert r"x\|y\]\(javascript:alert\(1\)\) &lt;img src=x&gt; \*\*b\*\* \`c\`" in text


def test_empty_leaderboard_can_be_built(tmp_path: Path) -> None:
    (tmp_path / "submissions").mkdir()
    made = outputs(tmp_path)
    assert "Empty." in made["README.md"] and "Empty." in made["index.html"]
    shutil.rmtree(tmp_path / "submissions")
    assert main(["leaderboard", "build", str(tmp_path)]) == 2
