"""``novelty-metric report``."""

from __future__ import annotations

from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric import Reference, SubstitutionNovelty
from novelty_metric.cli import main
from novelty_metric.figures import FIGURES


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw only two figures; all figures take seconds per run."""
    monkeypatch.setattr("novelty_metric.figures.report_page.FIGURES", FIGURES[:2])


def rock_salt(a: float, first: str, second: str) -> Structure:
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [first, second], sites)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs without relaxation, as from a multirun, and their reference."""
    folder = tmp_path_factory.mktemp("all")
    reference = Reference.from_structures([rock_salt(5.64, "Na", "Cl")], ids=["salt"], name="one")
    reference.save(folder / "one.arrow")
    for name, second in (("model=a", "Br"), ("model=b", "Cl")):
        metric = SubstitutionNovelty(reference, relaxer=None, hull="none")
        metric([rock_salt(5.7, "Na", "Cl"), rock_salt(6.6, "K", second)]).save(folder / name)
    return folder


def test_page_of_a_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs / "model=a")]) == 0
    page = runs / "model=a" / "report.html"
    assert capsys.readouterr().out == f"Written to {page}\n"
    text = page.read_text(encoding="utf-8")
    assert "<h1>Novelty of a</h1>" in text
    assert "1 of 2 eligible crystals are undecided" in text
    assert text.count('<article class="card"') == 2
    assert 'aria-label="NaCl, the reference crystal"' in text


def test_page_of_a_folder_of_runs(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures = tmp_path / "new" / "page.html", tmp_path / "figures"
    arguments = [str(runs), f"out={out}", f"figures={figures}", "crystals=0"]
    assert main(["report", *arguments, f"reference={runs / 'one.arrow'}"]) == 0
    assert f"Pictures for papers in {figures}" in capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    assert "<h1>Novelty of 2 runs</h1>" in text
    assert "Crystals beside their parents" not in text
    assert (figures / "verdicts.svg").exists() and (figures / "verdicts.png").exists()
    assert 'href="./../figures/verdicts.svg"' in text


def test_runs_of_the_same_name_are_shown_with_their_paths(runs: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(runs / "model=a", tmp_path / "other" / "model=a")
    out = tmp_path / "x.html"
    both = [str(runs / "model=a"), str(tmp_path / "other" / "model=a")]
    assert main(["report", *both, f"out={out}"]) == 0
    assert "<th>other/model=a</th>" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "report needs a run"),
        (["RUNS/nothing"], "no such folder"),
        (["EMPTY"], "is not a run: it has no report.json"),
        (["RUNS", "RUNS/model=a"], "named twice"),
        (["RUNS", "out=EMPTY"], "is a folder; name a file"),
        (["RUNS", "out=page.pdf"], "name a file *.html"),
        (["RUNS", "out="], "out= has no value"),
        (["RUNS", "out=a.html", "out=b.html"], "given twice"),
        (["RUNS", "crystals=some"], "must be a whole number from 0 to 5000"),
        (["RUNS", "figures=RUNS/one.arrow"], "is a file; name a folder"),
        (["RUNS", "reference=nothing"], "no reference named 'nothing'"),
        (["RUNS", "reference=aflow"], "contains other crystals"),
        (["RUNS", "--wide"], "no option named --wide"),
        (["RUNS/model=a", "out=RUNS/one.arrow/x.html"], "can't be written"),
    ],
)
def test_invalid_calls(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    given = [word.replace("RUNS", str(runs)).replace("EMPTY", str(tmp_path)) for word in arguments]
    assert main(["report", *given]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert complaint in captured.err


def test_damaged_run_is_one_clear_error(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text("{}")
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: novelty-metric report")
    for name in ("out=", "reference=", "figures=", "crystals="):
        assert name in text
    assert max(map(len, text.splitlines())) <= 80
