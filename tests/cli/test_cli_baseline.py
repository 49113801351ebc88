"""``novelty-metric baseline``: it writes crystals of a null model to a file that `score` reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from salts import rocksalt

from novelty_metric import Reference
from novelty_metric.baselines import NULL_MODELS
from novelty_metric.cli import main
from novelty_metric.report.files import load_report
from novelty_metric.samples import read_samples

PAIRS = {"NaCl": 5.64, "KCl": 6.29, "LiF": 4.03, "MgO": 4.21, "CaO": 4.81}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    crystals = [rocksalt(a, *_elements(name)) for name, a in PAIRS.items()]
    path = tmp_path_factory.mktemp("reference") / "salts.arrow"
    Reference.from_structures(crystals, ids=[f"id {name}" for name in PAIRS]).save(path)
    return path


def _elements(name: str) -> list[str]:
    second = next(i for i, letter in enumerate(name) if i and letter.isupper())
    return [name[:second], name[second:]]


@pytest.mark.parametrize("ending", ["extxyz", "zip", "csv", "json"])
def test_every_format_is_read_back_with_its_ids(stored: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / "new" / f"made.{ending}"
    arguments = [f"reference={stored}", "n=4", "seed=2", f"out={out}"]
    assert main(["baseline", "perturbed", *arguments]) == 0
    expected = list(NULL_MODELS["perturbed"].generate(Reference.open(stored), n=4, seed=2))
    found = list(read_samples(out))
    assert [sample.id for sample in found] == [crystal.id for crystal in expected]
    for sample, crystal in zip(found, expected, strict=True):
        ours, theirs = sample.structure, crystal.structure
        assert ours.volume == pytest.approx(theirs.volume)
        # A CIF has a rotated cell and sorted sites.
        assert sorted(ours.distance_matrix.ravel()) == pytest.approx(
            sorted(theirs.distance_matrix.ravel()), abs=1e-5
        )


def test_file_contains_the_exchanged_elements(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "exchanged.csv"
    assert main(["baseline", "ion_exchange", f"reference={stored}", "n=3", f"out={out}"]) == 0
    output = capsys.readouterr().out
    assert f"Written to {out}: 3 crystals from " in output
    assert f"novelty-metric score samples={out} reference={stored}" in output
    assert "leave_one_out" not in output
    head, first, *_ = out.read_text().splitlines()
    assert head == "id,made_from,exchanged,cif"
    assert first.startswith("ion_exchange-0-0,id ")
    assert "->" in first


def test_held_out_crystals_are_scored_without_themselves(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A crystal of the reference is its own duplicate, unless it is left out."""
    out = tmp_path / "held_out.extxyz"
    assert main(["baseline", "held_out", f"reference={stored}", "n=5", f"out={out}"]) == 0
    assert "leave_one_out=true" in capsys.readouterr().out
    score = ["score", f"samples={out}", f"reference={stored}", "relaxer=none", "hull=none"]
    assert main([*score, f"out={tmp_path / 'plain'}"]) == 0
    assert main([*score, "leave_one_out=true", f"out={tmp_path / 'left'}"]) == 0
    plain, left = (load_report(tmp_path / name) for name in ("plain", "left"))
    assert {row.verdict for row in plain.results} == {"duplicate"}
    assert {row.verdict for row in left.results} == {"undecided"}  # no relaxation
    assert all(row.parent_id not in (None, row.id) for row in left.results)
    assert (plain.context.leave_one_out, left.context.leave_one_out) == (False, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs one NAME; `novelty-metric baseline --help` shows the null models"),
        (["ion_exchang"], "no null model named 'ion_exchang'; did you mean 'ion_exchange'?"),
        (["perturbed", "out=x.csv"], "baseline needs reference=: write novelty-metric baseline"),
        (["perturbed", "reference=aflow"], "baseline needs out=: write novelty-metric baseline"),
        (["perturbed", "reference=aflow", "out=x.pdf"], "x.pdf has no known format"),
        (["perturbed", "reference=aflo", "out=x.csv"], "aflo"),
        (["perturbed", "reference=aflow", "out=x.csv", "n=0"], "n is '0'; it must be"),
        (["held_out", "reference=aflow", "out=x.csv", "n=999"], "contains 288 crystals; n=999"),
    ],
)
def test_invalid_calls(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["baseline", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_lists_the_null_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in NULL_MODELS)
