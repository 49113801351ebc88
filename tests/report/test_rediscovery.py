"""Crystals of a test set that samples match: as a plain loop of pymatgen finds them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure
from pymatgen.core.structure_matcher import StructureMatcher

from novelty_metric import NoveltyReport, SubstitutionNovelty
from novelty_metric.cli import main
from novelty_metric.crystal import clean
from novelty_metric.errors import InputError
from novelty_metric.reference import Reference, open_reference
from novelty_metric.report.explanation import explain
from novelty_metric.report.rediscovery import Rediscovery, read_test_set
from novelty_metric.terminal.headline import rediscovery_line


@pytest.fixture(scope="module")
def aflow() -> Reference:
    return open_reference("aflow")


@pytest.fixture(scope="module")
def samples(aflow: Reference) -> list[Structure]:
    """Prototypes written otherwise: distorted a little or a lot, strained, as a supercell."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(0, 120, 2):
        structure = aflow.structure(index)
        if len(structure) > 12:
            continue
        structure.perturb(float(rng.choice([0.0, 0.1, 0.6])))
        structure.apply_strain(float(rng.choice([0.0, 0.03, 0.3])))
        if index % 3 == 0 and len(structure) < 5:
            structure.make_supercell([2, 1, 1])
        found.append(structure)
    return found


@pytest.fixture(scope="module")
def known(aflow: Reference) -> Reference:
    """The reference: a part of the prototypes."""
    return aflow.without(range(40, len(aflow)))


@pytest.fixture(scope="module")
def test_file(aflow: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 120 prototypes as a table with years, a row of it unreadable."""
    path = tmp_path_factory.mktemp("test set") / "test.csv"
    cifs = [aflow.structure(index).to(fmt="cif") for index in range(120)]
    table = {
        "id": [*aflow.ids[:120], "broken"],
        "cif": [*cifs, "no cif"],
        "Year": [*(2010 + index % 3 for index in range(120)), ""],
    }
    pd.DataFrame(table).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def report(samples: list[Structure], known: Reference, test_file: Path) -> NoveltyReport:
    metric = SubstitutionNovelty(known, relaxer=None, hull="none", rediscover=test_file)
    return metric(samples)


def test_as_a_plain_loop_of_pymatgen(
    report: NoveltyReport, samples: list[Structure], known: Reference, test_file: Path
) -> None:
    matcher = StructureMatcher()

    def same(one: Structure, other: Structure) -> bool:
        alike = one.composition.reduced_formula == other.composition.reduced_formula
        return alike and bool(matcher.fit(one, other))

    held = [known.structure(index) for index in range(len(known))]
    crystals = [one for one in read_test_set(test_file) if one.structure is not None]
    new = [one for one in crystals if not any(same(one.structure, other) for other in held)]
    found = report.rediscovery
    assert found is not None
    assert (found.total, found.known, found.unreadable) == (len(new), len(crystals) - len(new), 1)
    expected = {}
    for one in new:
        matching = [
            result.id
            for result, sample in zip(report.results, samples, strict=True)
            if same(clean(sample), one.structure)
        ]
        if matching:
            expected[one.id] = tuple(matching)
    assert 3 < len(expected) < len(new)
    assert {one.id: one.samples for one in found.found} == expected
    assert found.undecided == 0


def test_by_year(report: NoveltyReport, aflow: Reference) -> None:
    found = report.rediscovery
    assert found is not None
    years = {identifier: 2010 + index % 3 for index, identifier in enumerate(aflow.ids[:120])}
    by_year = found.by_year()
    assert sum(total for _, total in by_year.values()) == found.total
    for year, (hits, _) in by_year.items():
        assert hits == sum(years[one.id] == year for one in found.found)


def test_written_read_and_shown(report: NoveltyReport, tmp_path: Path) -> None:
    found = report.rediscovery
    assert found is not None
    report.save(tmp_path / "run")
    content = json.loads((tmp_path / "run" / "report.json").read_text())["rediscovery"]
    assert content["share"]["value"] == len(found.found) / found.total
    assert NoveltyReport.load(tmp_path / "run").rediscovery == found
    assert report.scalars()["novelty/n_rediscovered"] == len(found.found)
    hit = found.found[0]
    row = next(i for i, one in enumerate(report.results) if one.id == hit.samples[0])
    records = report.results[row].structures
    assert records is not None
    facts = dict(explain(report, row, records).facts)
    assert hit.id in facts["rediscovers"]
    assert facts["rediscovers"].endswith(" of test.csv")


def test_the_line_on_the_screen() -> None:
    found = Rediscovery("test.csv", 200, 4, 0, 0, (), {2010: 150, 2011: 50})
    assert rediscovery_line(found) == (
        "rediscovered 0 of 200 crystals of test.csv (0.0 % [0.0-1.9]); "
        "2010: 0 of 150, 2011: 0 of 50"
    )


def test_from_the_command_line(
    samples: list[Structure],
    known: Reference,
    test_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A finished run takes the test set later, without scoring again."""
    known.save(tmp_path / "known.arrow")
    cifs = [sample.to(fmt="cif") for sample in samples[:20]]
    pd.DataFrame({"cif": cifs}).to_csv(tmp_path / "gen.csv", index=False)
    words = [
        *("score", f"samples={tmp_path / 'gen.csv'}", f"reference={tmp_path / 'known.arrow'}"),
        *("relaxer=none", "hull=none", f"out={tmp_path / 'run'}"),
    ]
    assert main(words) == 0
    assert "rediscovered" not in capsys.readouterr().out
    assert main([*words, f"rediscover={test_file}"]) == 0
    assert "rediscovered " in capsys.readouterr().out
    assert NoveltyReport.load(tmp_path / "run").rediscovery is not None
    assert main([*words, "rediscover=nothing.csv"]) == 2
    assert "rediscover=nothing.csv: no such file" in capsys.readouterr().err


def test_years_that_fit_other_rows_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("novelty_metric.report.rediscovery._years", lambda path: [2010])
    path = tmp_path / "two.csv"
    cif = open_reference("aflow").structure(0).to(fmt="cif")
    pd.DataFrame({"cif": [cif, cif]}).to_csv(path, index=False)
    with pytest.raises(InputError, match="2 crystals, but 1 years"):
        read_test_set(path)
