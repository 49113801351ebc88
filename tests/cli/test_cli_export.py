"""``novelty-metric export``: it writes crystals of a run to one file."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from salts import rocksalt

from novelty_metric import NoveltyReport, Reference, SubstitutionNovelty
from novelty_metric.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without relaxation: two copies, and a crystal with exchanged elements."""
    reference = Reference.from_structures([rocksalt(5.64, "Na", "Cl")], ids=["salt"], name="one")
    metric = SubstitutionNovelty(reference, relaxer=None, hull="none")
    folder = tmp_path_factory.mktemp("run")
    samples = [rocksalt(5.7, "Na", "Cl"), rocksalt(6.29, "K", "Cl"), rocksalt(5.6, "Na", "Cl")]
    metric(samples, ids=["copy_1", "swap_1", "copy_2"]).save(folder)
    return folder


def test_crystals_of_one_verdict(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copies.extxyz"
    assert main(["export", f"run={run}", "verdict=duplicate", f"out={out}"]) == 0
    assert capsys.readouterr().out == f"Written to {out}: 2 crystals, 2 of them eligible\n"
    assert [atoms.info["id"] for atoms in ase.io.read(out, ":")] == ["copy_1", "copy_2"]


def test_all_crystals_agree_with_the_folder(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.extxyz"
    assert main(["export", f"run={run}", f"out={out}"]) == 0
    assert out.read_text() == (run / "crystals.extxyz").read_text()
    report = NoveltyReport.load(run, structures=True)
    found = [atoms.info["id"] for atoms in ase.io.read(out, ":")]
    assert found == [crystal.properties["id"] for crystal in report.crystals()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out=x.csv"], "export needs run=DIR: the folder"),
        (["run={run}"], "export needs out=FILE, such as out=crystals.extxyz"),
        (["run={run}", "out=x.pdf"], "x.pdf has no known format; name a file that ends in"),
        (["run={run}", "out=x.csv", "verdict=novel"], "verdict is 'novel'; it must be duplicate"),
        (["run={run}", "out=x.csv", "verdict=unmatched"], "there is no unmatched crystal"),
        (["run=nowhere", "out=x.csv"], "run=nowhere: no such folder"),
        (["run={run}", "out={run}/verdicts.csv/x.csv"], "verdicts.csv/x.csv can't be written"),
        (["run={run}", "out={run}/verdicts.csv"], "is a file of the run; name another"),
        (["run={run}", "out={run}/report.json"], "is a file of the run; name another"),
    ],
)
def test_invalid_calls(
    arguments: list[str],
    message: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path: path.read_bytes() for path in run.iterdir()}
    given = [word.format(run=run).replace("out=x", f"out={tmp_path / 'x'}") for word in arguments]
    assert main(["export", *given]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert {path: path.read_bytes() for path in run.iterdir()} == before
