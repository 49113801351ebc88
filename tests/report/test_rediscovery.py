"""Crystals of a test set that samples match, compared with a simple loop over pymatgen."""

from __future__ import annotations

import itertools
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
from novelty_metric.errors import InputError, StoreError
from novelty_metric.reference import Reference, open_reference
from novelty_metric.report.explanation import explain
from novelty_metric.report.rediscovery import (
    NullModelFound,
    Rediscovery,
    read_null_models,
    read_test_set,
)
from novelty_metric.terminal.headline import by_chance_line, rediscovery_line

N_TESTED = 72
"""Number of prototypes in the test set."""


@pytest.fixture(scope="module")
def aflow() -> Reference:
    return open_reference("aflow")


@pytest.fixture(scope="module")
def samples(aflow: Reference) -> list[Structure]:
    """Changed prototypes: distorted a little or much, strained, or as a supercell."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(0, N_TESTED, 2):
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
    """The reference: some of the prototypes."""
    return aflow.without(range(40, len(aflow)))


@pytest.fixture(scope="module")
def test_file(aflow: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first prototypes as a table with years and one unreadable row."""
    path = tmp_path_factory.mktemp("test set") / "test.csv"
    cifs = [aflow.structure(index).to(fmt="cif") for index in range(N_TESTED)]
    table = {
        "id": [*aflow.ids[:N_TESTED], "broken"],
        "cif": [*cifs, "no cif"],
        "Year": [*(2010 + index % 3 for index in range(N_TESTED)), ""],
    }
    pd.DataFrame(table).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def report(samples: list[Structure], known: Reference, test_file: Path) -> NoveltyReport:
    metric = SubstitutionNovelty(known, relaxer=None, hull="none", rediscover=test_file)
    return metric(samples)


def test_agrees_with_a_simple_loop_over_pymatgen(
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


def test_counts_by_year(report: NoveltyReport, aflow: Reference) -> None:
    found = report.rediscovery
    assert found is not None
    years = {identifier: 2010 + index % 3 for index, identifier in enumerate(aflow.ids[:N_TESTED])}
    by_year = found.by_year()
    assert sum(total for _, total in by_year.values()) == found.total
    for year, (hits, _) in by_year.items():
        assert hits == sum(years[one.id] == year for one in found.found)


def test_rediscovery_is_saved_loaded_and_explained(report: NoveltyReport, tmp_path: Path) -> None:
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


def test_line_on_the_screen() -> None:
    found = Rediscovery("test.csv", 200, 4, 0, 0, (), {2010: 150, 2011: 50})
    assert rediscovery_line(found) == (
        "rediscovered 0 of 200 crystals of test.csv (0.0 % [0.0-1.9]); "
        "2010: 0 of 150, 2011: 0 of 50"
    )


def test_expected_matches_of_null_models() -> None:
    found = NullModelFound("ion_exchange", 6, (3, 1, 1))
    # Every subset of the six samples; 0 to 2, 3, and 4 match one crystal each.
    for drawn in range(1, 7):
        choices = [set(some) for some in itertools.combinations(range(6), drawn)]
        mean = sum(bool(c & {0, 1, 2}) + (3 in c) + (4 in c) for c in choices) / len(choices)
        assert found.expected(drawn) == pytest.approx(mean)
    assert found.expected(7) is None
    fewer = NullModelFound("perturbed", 1, ())
    model = Rediscovery("t.csv", 9, 0, 0, 0, (), {}, 2, "ab", (found, fewer))
    assert by_chance_line(model) == (
        "null models, with as many samples: ion_exchange 1.5, perturbed 0 with 1 samples"
    )
    assert Rediscovery.from_dict(json.loads(json.dumps(model.to_dict()))) == model


def test_null_model_is_shown_beside_a_model(
    samples: list[Structure],
    known: Reference,
    test_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known.save(tmp_path / "known.arrow")
    arguments = ["score", f"reference={tmp_path / 'known.arrow'}", "relaxer=none", "hull=none"]
    for name, ids in (("null", "ion_exchange-0-{}"), ("model", "m{}")):
        cifs = [sample.to(fmt="cif") for sample in samples[-12:]]
        ids_of = [ids.format(i) for i in range(len(cifs))]
        pd.DataFrame({"id": ids_of, "cif": cifs}).to_csv(tmp_path / f"{name}.csv", index=False)
        run = [f"samples={tmp_path / f'{name}.csv'}", f"out={tmp_path / name}"]
        assert main([*arguments, *run, f"rediscover={test_file}"]) == 0
        output = capsys.readouterr().out
        assert ("null models, with as many samples: ion_exchange" in output) == (name == "model")
    found = NoveltyReport.load(tmp_path / "model").rediscovery
    null = NoveltyReport.load(tmp_path / "null").rediscovery
    assert found is not None and null is not None and len(null.found) > 3
    # The same crystals with other ids.
    (beside,) = found.null_models
    assert beside.expected(found.n_samples) == len(found.found) == len(null.found)
    assert null.null_models == ()
    content = json.loads((tmp_path / "model" / "report.json").read_text())["rediscovery"]
    assert content["null_models"][0]["with_as_many_samples"] == len(null.found)
    (kept,) = tmp_path.glob("known.*.rediscovery.json")
    kept.write_text("{}")
    with pytest.raises(StoreError, match="damaged"):
        read_null_models(open_reference(tmp_path / "known.arrow"), found.test_set)


def test_rediscovery_from_the_command_line(
    samples: list[Structure],
    known: Reference,
    test_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A test set can be added to a finished run without scoring it again."""
    known.save(tmp_path / "known.arrow")
    cifs = [sample.to(fmt="cif") for sample in samples[:20]]
    pd.DataFrame({"cif": cifs}).to_csv(tmp_path / "gen.csv", index=False)
    arguments = [
        *("score", f"samples={tmp_path / 'gen.csv'}", f"reference={tmp_path / 'known.arrow'}"),
        *("relaxer=none", "hull=none", f"out={tmp_path / 'run'}"),
    ]
    assert main(arguments) == 0
    assert "rediscovered" not in capsys.readouterr().out
    assert main([*arguments, f"rediscover={test_file}"]) == 0
    assert "rediscovered " in capsys.readouterr().out
    assert NoveltyReport.load(tmp_path / "run").rediscovery is not None
    assert main([*arguments, "rediscover=nothing.csv"]) == 2
    assert "rediscover=nothing.csv: no such file" in capsys.readouterr().err


def test_wrong_number_of_years_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("novelty_metric.report.rediscovery._years", lambda path: [2010])
    path = tmp_path / "two.csv"
    cif = open_reference("aflow").structure(0).to(fmt="cif")
    pd.DataFrame({"cif": [cif, cif]}).to_csv(path, index=False)
    with pytest.raises(InputError, match="2 crystals, but 1 years"):
        read_test_set(path)
