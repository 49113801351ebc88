"""``novelty-metric explain``: the evidence for the verdict of one crystal."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from salts import rocksalt

from novelty_metric import Reference, SubstitutionNovelty
from novelty_metric.cli import main
from novelty_metric.crystal_records import CrystalRecords
from novelty_metric.report.explanation import explain, folder_name, hull_label
from novelty_metric.report.files import read_structures
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import CrystalResult, Parent, Route, TriedParent, Verdict


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without relaxation: a copy, a crystal with exchanged elements, and a refused one."""
    reference = Reference.from_structures([rocksalt(5.64, "Na", "Cl")], ids=["salt"], name="one")
    metric = SubstitutionNovelty(reference, relaxer=None, hull="none")
    folder = tmp_path_factory.mktemp("run")
    metric(
        [rocksalt(5.7, "Na", "Cl"), rocksalt(6.29, "K", "Cl"), rocksalt(5.2, "Mg", "Cl")],
        ids=["copy_1", "swap_1", "../bad"],
    ).save(folder)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with two crystals and an unreadable one."""
    path = tmp_path_factory.mktemp("two") / "two.json"
    crystals = [rocksalt(5.64, "Na", "Cl").as_dict(), rocksalt(6.29, "K", "Br").as_dict()]
    records = [{"id": "salt", "structure": crystals[0]}, {"structure": crystals[1]}, {"id": "2"}]
    path.write_text(json.dumps(records))
    return path


def test_crystal_of_a_file_needs_no_run(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "salt.arrow"
    Reference.from_structures([rocksalt(5.64, "Na", "Cl")], ids=["salt"], name="one").save(path)
    arguments = [f"reference={path}", "relaxer=none", f"out={tmp_path / 'here'}"]
    assert main(["explain", str(two), "id=two-1", *arguments]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "KBr, 8 sites, cubic, space group 225 verdict undecided" in text
    assert "source two.json:row 1" in text
    assert "lattice and sites 1: salt NaCl" in text
    assert "against one (1 crystal)" in text
    assert (tmp_path / "here" / "parent_substituted.cif").exists()


def test_candidate_as_text_and_structures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "swap_1", f"run={run}"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "swap_1 KCl, 8 sites, cubic, space group 225 verdict undecided" in text
    assert "candidate parents not relaxed" in text
    assert "Na -> K (1 site)" in text and "Cl stays (1 site)" in text
    assert "lattice and sites 1: salt NaCl, cost 0.50" in text
    folder = run / "explain" / "swap_1"
    files = ["explanation.txt", "generated.cif", "parent.cif", "parent_substituted.cif"]
    assert sorted(path.name for path in folder.iterdir()) == [
        *files,
        "reduced.cif",
    ]  # no relaxation
    generated = Structure.from_file(folder / "generated.cif")
    assert (len(generated), generated.volume) == (8, pytest.approx(6.29**3, rel=1e-6))
    exchanged = Structure.from_file(folder / "parent_substituted.cif")
    assert exchanged.composition.reduced_formula == "KCl"
    assert exchanged.volume == pytest.approx(5.64**3 / 4, rel=1e-6)
    kept = (folder / "explanation.txt").read_text().splitlines()
    assert "verdict" in " ".join(kept)
    assert [line for line in kept if line != line.rstrip()] == []


def test_duplicate(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "copy_1", f"run={run}", f"out={tmp_path / 'here'}"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "it matches salt NaCl of one, elements included" in text
    assert "(tolerance 0.3, in (V/N)^(1/3))" in text
    assert (tmp_path / "here" / "parent.cif").exists()


def test_ids_cannot_write_outside_the_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "../bad", f"run={run}"]) == 0
    assert "not eligible: composition refused by SMACT" in capsys.readouterr().out
    assert folder_name("../bad") != "../bad"
    assert (run / "explain" / folder_name("../bad") / "generated.cif").exists()
    names = ["..", ".", "", "a/b", "a_b", "x" * 300, "né"]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(
        name and "/" not in name and not name.startswith(".") and len(name) < 100
        for name in folders
    )


@pytest.fixture
def places(run: Path, two: Path, tmp_path: Path) -> dict[str, Path]:
    return {"run": run, "two": two, "empty": tmp_path}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["swap_2", "run={run}"], "did you mean 'swap_1'"),
        (["SWAP", "run={run}"], "did you mean 'swap_1'"),
        (["zzz", "run={run}"], "there are 'copy_1', 'swap_1', '../bad'"),
        (["swap_1"], "swap_1: no such file; for a crystal of a run add run=DIR"),
        ([], "needs one FILE, or an ID and run=DIR, none was given"),
        (["{two}"], "contains several crystals (salt, two-1, ...); name one: id=ID"),
        (["{two}", "id=sal"], "no sample 'sal' in {two}; did you mean 'salt'?"),
        (["{two}", "id=2", "relaxer=none"], "two.json:row 2 can't be read: "),
        (["{two}", "id=salt", "out=here", "limit=2"], "no setting named 'limit'"),
        (["run={run}"], "needs one ID, none was given"),
        (["a", "b", "run={run}"], "2 were given: a, b"),
        (["a", "run="], "run= has no value"),
        (["a", "run={run}/none"], "no such folder"),
        (["a", "run={run}/.."], "runs; name one of them"),
        (["a", "run={empty}"], "is not a run"),
        (["copy_1", "run={run}", "out={run}/report.json"], "can't be written"),
    ],
)
def test_invalid_calls(
    arguments: list[str],
    complaint: str,
    places: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", *(word.format(**places) for word in arguments)]) == 2
    err = capsys.readouterr().err
    assert complaint.format(**places) in err and err.count("\n") == 1


def test_crystals_are_loaded_exactly(run: Path) -> None:
    records = read_structures(run, 1)
    assert records.parent_relaxed is None and records.generated is not None
    assert np.array_equal(records.generated.lattice, np.diag([6.29] * 3))
    report = NoveltyReport.load(run)
    assert report.results[1].structures is None
    assert report.results[1].shortest_distance == pytest.approx(6.29 / 2)
    # A report that was loaded without crystals is saved without them; old ones are removed.
    report.save(run.parent / "again")
    assert not (run.parent / "again" / "structures.parquet").exists()
    assert read_structures(run.parent / "again", 1).generated is None
    assert dataclasses.replace(report) == NoveltyReport.load(run.parent / "again")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: novelty-metric explain ID run=DIR")


def facts(metric: SubstitutionNovelty, crystal: Structure, folder: Path) -> dict[str, str]:
    """The facts that `explain` gives for a crystal of a saved report."""
    metric([crystal], ids=["it"]).save(folder)
    report = NoveltyReport.load(folder)
    return dict(explain(report, 0, read_structures(folder, 0)).facts)


def searched(reference: Structure) -> SubstitutionNovelty:
    return SubstitutionNovelty(
        Reference.from_structures([reference], ids=["ref"], name="one"),
        relaxer=None,
        hull="none",
        scope="all",
    )


def zirconium() -> tuple[Structure, Structure]:
    """Zr in hcp, and a strained cell of four atoms that matches it only through a supercell."""
    sites = [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    hcp = Structure(Lattice.hexagonal(3.23, 5.15), ["Zr", "Zr"], sites)
    double = hcp * (2, 1, 1)
    double.translate_sites([0], [0.0, 0.0, 0.07])
    double.translate_sites([1], [0.05, 0.0, 0.0])
    return hcp, double


def test_match_through_a_supercell_is_explained(tmp_path: Path) -> None:
    hcp, double = zirconium()
    found = facts(searched(hcp), double, tmp_path / "a")
    assert found["why"].endswith("elements included, through a 2x supercell of ref")
    assert "refuses this pair and every other crystal" in found["plain matching"]
    found = facts(searched(double), hcp, tmp_path / "b")
    assert found["why"].endswith("through a 2x supercell of the sample")
    found = facts(searched(hcp), hcp, tmp_path / "c")
    assert found["why"].endswith("elements included")
    assert "accepts this pair too: not novel" in found["plain matching"]


def test_expanded_crystal_is_explained(tmp_path: Path) -> None:
    hcp, _ = zirconium()
    swollen = hcp.copy()
    swollen.scale_lattice(4 * hcp.volume)
    found = facts(searched(hcp), swollen, tmp_path)
    assert found["verdict"] != "duplicate"
    assert "accepts ref: not novel in S.U.N. It scales volumes" in found["plain matching"]


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (Route.LATTICE_SITES, "the same sites (cost 0). The search for parents limits the RMS of"),
        (Route.WYCKOFF, "the same Wyckoff letters (cost 0), but its cell or free coordinates"),
    ],
)
def test_parent_of_cost_0_that_is_not_a_duplicate_is_explained(
    route: Route, message: str, run: Path
) -> None:
    parent = Parent(
        route=route,
        rank=1,
        index=0,
        parent_id="twin",
        cost=0.0,
        match_rms=0.2,
        supercell=None,
        elements=("K", "Cl"),
        element_map={"K": {"K": 1}, "Cl": {"Cl": 1}},
        share_exchanged=0.0,
    )
    report = NoveltyReport.load(run)
    rows = [
        dataclasses.replace(report.results[1], parents=(*tried, TriedParent(parent=parent)))
        for tried in ((), report.results[1].parents)
    ]
    for row in (0, 1):
        changed = NoveltyReport.from_results(rows, report.context)
        told = dict(explain(changed, row, CrystalRecords()).facts)["no duplicate"]
        assert told.startswith("twin has the same elements on") and message in told
    copy = dataclasses.replace(rows[0], verdict=Verdict.DUPLICATE)
    duplicate = NoveltyReport.from_results([copy], report.context)
    assert "no duplicate" not in dict(explain(duplicate, 0, CrystalRecords()).facts)


@pytest.mark.parametrize(
    ("above", "products", "count", "text"),
    [
        (0.1, ["NaCl", "Cl2"], 3, "decomposes into NaCl + Cl2; 3 compounds known in its chemical"),
        (-0.1, ["NaCl", "Cl2"], 1, "more stable than NaCl + Cl2; 1 compound known in its"),
        (0.1, ["NaCl3"], 2, "NaCl3, of the same composition; 2 compounds known"),
        (0.1, ["Na"], 0, "Na, of the same composition"),
        (-1.0, ["Na", "Cl2"], 0, "Na + Cl2, the elements alone; no competing compound known"),
        (-1.0, ["Na", "Cl2"], 1, "the 1 compound known in its chemical system lies above them"),
        (-1.0, ["Na", "Cl2"], 4, "the 4 compounds known in its chemical system lie above them"),
    ],
)
def test_decomposition_as_text(above: float, products: list[str], count: int, text: str) -> None:
    row = CrystalResult(
        id="a",
        e_above_hull=above,
        n_competing=count,
        decomposition=dict.fromkeys(products, 1 / len(products)),
    )
    assert text in hull_label(row)
    assert hull_label(dataclasses.replace(row, decomposition=None)) == ""
