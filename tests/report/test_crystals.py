"""Crystals of a report: as structures, and in files for other programs."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import zipfile
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifParser
from static_relaxer import StaticRelaxer

from novelty_metric import Reference, SubstitutionNovelty
from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.report.context import RunContext
from novelty_metric.report.crystals import export, extxyz
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.samples import read_samples
from novelty_metric.verdict import CrystalResult, Verdict

KEYS = ["id", "verdict", "eligible", "energy", "energy_per_atom", "e_above_hull", "parent"]
IDS = ["gen_0", "007", "T", 'a "b" = c', "back\\slash", "a\u00a0b", "_JSON x", "../up"]


def crystal(seed: int) -> Structure:
    """A skewed cell with sites inside and outside it."""
    draw = np.random.default_rng(seed)
    lattice = Lattice(4 * np.eye(3) + draw.uniform(-0.7, 0.7, (3, 3)))
    coords = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [-0.2, 1.3, 0.25]])
    return Structure(lattice, ["Na", "Cl", "O"], coords + draw.uniform(-0.05, 0.05, (3, 3)))


def row(seed: int, identifier: str, **changes: object) -> CrystalResult:
    given: dict[str, object] = {
        "verdict": list(Verdict)[seed % 4],
        "eligible": seed % 3 != 0,
        "energy_per_atom": -3.1 - seed / 7,
        "e_above_hull": None if seed == 2 else 0.01 * seed,
        "parent_id": None if seed == 3 else f"00{seed}",
        "structures": CrystalRecords(
            generated=CrystalRecord.of(crystal(seed + 100)),
            relaxed=CrystalRecord.of(crystal(seed)),
        ),
    }
    return CrystalResult(id=identifier, smact_valid=True, **{**given, **changes})  # type: ignore[arg-type]


def report_of(rows: list[CrystalResult]) -> NoveltyReport:
    context = RunContext(
        protocol=Protocol.named("paper"),
        reference_name="mp_20",
        reference_size=9,
        crystals_hash="c",
        store_hash="d",
    )
    return NoveltyReport.from_results(rows, context)


@pytest.fixture(scope="module")
def report() -> NoveltyReport:
    rows = [row(seed, identifier) for seed, identifier in enumerate(IDS)]
    generated_only = CrystalRecords(generated=CrystalRecord.of(crystal(50)))
    rows.insert(2, row(50, "no_crystal", verdict=None, structures=generated_only))
    rows.insert(4, CrystalResult(id="unreadable", readable=False, error="no atoms"))
    return report_of(rows)


def rows_with_crystal(report: NoveltyReport) -> list[tuple[CrystalResult, CrystalRecord]]:
    """The expected rows, directly from the results."""
    found = []
    for result in report.results:
        if result.id not in ("no_crystal", "unreadable"):
            assert result.structures is not None and result.structures.relaxed is not None
            found.append((result, result.structures.relaxed))
    assert len(found) == len(IDS)
    return found


def check_same(structure: Structure, record: CrystalRecord, tolerance: float = 1e-7) -> None:
    """Equal cell vectors, and equal sites in the same order (Å, modulo the cell)."""
    assert structure.atomic_numbers == tuple(record.numbers)
    check_same_up_to_axes(structure, record, tolerance)
    np.testing.assert_allclose(structure.lattice.matrix, record.lattice, atol=tolerance)


def check_same_up_to_axes(structure: Structure, record: CrystalRecord, tolerance: float) -> None:
    """The same crystal; a CIF keeps lengths and angles of the cell, but not its orientation."""
    metric = record.lattice @ record.lattice.T
    found = structure.lattice.matrix @ structure.lattice.matrix.T
    np.testing.assert_allclose(found, metric, atol=10 * tolerance)
    apart = structure.frac_coords - record.frac_coords
    np.testing.assert_allclose((apart - np.round(apart)) @ record.lattice, 0, atol=tolerance)


def check_properties(found: dict[str, object], result: CrystalResult) -> None:
    assert found["id"] == result.id
    assert found.get("verdict") == result.verdict
    assert found["eligible"] == result.eligible
    assert found["energy_per_atom"] == result.energy_per_atom
    assert found.get("e_above_hull") == result.e_above_hull
    assert found.get("parent") == result.parent_id


def check_frames(frames: list[Atoms], report: NoveltyReport) -> None:
    for atoms, (result, record) in zip(frames, rows_with_crystal(report), strict=True):
        check_same(AseAtomsAdaptor.get_structure(atoms), record)
        check_properties(atoms.info, result)
        assert atoms.get_potential_energy() == pytest.approx(3 * result.energy_per_atom)
        assert atoms.pbc.all()


def test_structures_with_their_properties(report: NoveltyReport) -> None:
    found = report.crystals()
    for structure, (result, record) in zip(found, rows_with_crystal(report), strict=True):
        check_same(structure, record, 1e-12)
        check_properties(structure.properties, result)
        assert list(structure.properties) == KEYS
        assert structure.properties["energy"] == pytest.approx(3 * result.energy_per_atom)


@pytest.mark.parametrize("verdict", [*Verdict, *map(str, Verdict)])
def test_structures_of_one_verdict(report: NoveltyReport, verdict: str) -> None:
    found = [structure.properties["id"] for structure in report.crystals(verdict)]
    wanted = [result.id for result, _ in rows_with_crystal(report) if result.verdict == verdict]
    assert found == wanted and wanted


def test_unknown_verdict_is_an_error(report: NoveltyReport) -> None:
    with pytest.raises(InputError, match="no verdict 'novel'; known: duplicate, substituted"):
        report.crystals("novel")


def test_crystals_that_are_unmatched_with_both_potentials(report: NoveltyReport) -> None:
    with pytest.raises(InputError, match="needs a run with second_potential="):
        report.crystals("unmatched_under_both")
    unmatched, substituted = Verdict.UNMATCHED, Verdict.SUBSTITUTED
    rows = [
        row(1, "both", verdict=unmatched, verdict_second=unmatched),
        row(2, "first", verdict=unmatched, verdict_second=substituted),
        row(4, "second", verdict=substituted, verdict_second=unmatched),
        row(6, "not_eligible", verdict=unmatched, eligible=False),
    ]
    context = dataclasses.replace(report.context, second_potential=StaticRelaxer("other").info)
    found = NoveltyReport.from_results(rows, context).crystals("unmatched_under_both")
    assert [structure.properties["id"] for structure in found] == ["both"]


def test_report_read_without_crystals(report: NoveltyReport, tmp_path: Path) -> None:
    report.save(tmp_path)
    with pytest.raises(InputError, match="structures=True"):
        NoveltyReport.load(tmp_path).crystals()
    assert NoveltyReport.load(tmp_path, structures=True).crystals() == report.crystals()
    assert report_of([CrystalResult(id="bad", readable=False)]).crystals() == []


def test_saved_report_contains_crystals_as_extxyz(report: NoveltyReport, tmp_path: Path) -> None:
    report.save(tmp_path)
    check_frames(ase.io.read(tmp_path / "crystals.extxyz", ":"), report)
    kept = json.loads((tmp_path / "report.json").read_text())["files"]
    assert "crystals.extxyz" in kept
    # Saving a report without crystals removes crystals of an earlier report.
    bare = [dataclasses.replace(result, structures=None) for result in report.results]
    report_of(bare).save(tmp_path)
    assert not (tmp_path / "crystals.extxyz").exists()


@pytest.mark.parametrize("name", ["all.extxyz", "deep/er/all.xyz"])
def test_extxyz(report: NoveltyReport, tmp_path: Path, name: str) -> None:
    export(report, tmp_path / name)
    check_frames(ase.io.read(tmp_path / name, ":", format="extxyz"), report)


def test_json(report: NoveltyReport, tmp_path: Path) -> None:
    export(report, tmp_path / "all.json")
    found = [Structure.from_dict(one) for one in json.loads((tmp_path / "all.json").read_text())]
    assert found == report.crystals()
    assert [one.properties for one in found] == [one.properties for one in report.crystals()]


def from_cif(text: str) -> Structure:
    parser = CifParser.from_str(text, frac_tolerance=0)
    (structure,) = parser.parse_structures(primitive=False)
    return structure


def test_csv(report: NoveltyReport, tmp_path: Path) -> None:
    export(report, tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for found, (result, record) in zip(table, rows_with_crystal(report), strict=True):
        assert list(found) == [*KEYS, "cif"]
        check_same_up_to_axes(from_cif(found["cif"]), record, 1e-6)
        known = {
            key: float(found[key]) for key in ("energy_per_atom", "e_above_hull") if found[key]
        }
        texts = {key: found[key] or None for key in ("id", "verdict", "parent")}
        check_properties({**texts, **known, "eligible": found["eligible"] == "True"}, result)


def test_zip_of_cifs(report: NoveltyReport, tmp_path: Path) -> None:
    export(report, tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert len(archive.namelist()) == len(IDS) + 1
        table = pd.read_csv(archive.open("crystals.csv"), dtype={"id": str})
        assert list(table["id"]) == IDS
        for name, (_, record) in zip(table["file"], rows_with_crystal(report), strict=True):
            assert "/" not in name
            check_same_up_to_axes(from_cif(archive.read(name).decode()), record, 1e-6)
        archive.extractall(tmp_path / "out")
    atoms = ase.io.read(tmp_path / "out" / "gen_0.cif")
    assert atoms.get_volume() == pytest.approx(crystal(0).volume, rel=1e-6)
    again = tmp_path / "again.zip"
    export(report, again)
    assert again.read_bytes() == (tmp_path / "all.zip").read_bytes()


@pytest.mark.parametrize("name", ["all.extxyz", "all.csv", "all.json", "all.zip"])
def test_exported_file_can_be_scored(report: NoveltyReport, tmp_path: Path, name: str) -> None:
    export(report, tmp_path / name)
    samples = list(read_samples(tmp_path / name))
    assert len(samples) == len(IDS)
    if name.endswith((".extxyz", ".csv")):
        assert [sample.id for sample in samples] == IDS
    records = {result.id: record for result, record in rows_with_crystal(report)}
    assert {len(sample.structure) for sample in samples} == {3}
    by_id = {sample.id: sample.structure for sample in samples}
    if name != "all.json":
        check_same_up_to_axes(by_id["gen_0"], records["gen_0"], 1e-4)


@settings(max_examples=60)
@example("=")
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_ase_reads_ids_unchanged(identifier: str) -> None:
    (result,) = report_of([row(1, identifier)]).results
    stream = io.StringIO(extxyz([result]), newline="\n")
    assert ase.io.read(stream, format="extxyz").info["id"] == result.id


@pytest.mark.parametrize(
    ("name", "message"),
    [("all.pdf", "ends in .extxyz"), ("all", "no known format"), ("folder.csv", "is a folder")],
)
def test_file_that_cannot_be_written(
    report: NoveltyReport, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=message):
        export(report, tmp_path / name)


def test_verdict_without_crystals(tmp_path: Path) -> None:
    report = report_of([row(0, "a"), row(1, "b")])
    with pytest.raises(InputError, match=r"no unmatched crystal to write; .* 1 duplicate"):
        export(report, tmp_path / "none.csv", Verdict.UNMATCHED)
    assert list(tmp_path.iterdir()) == []


def test_report_of_the_metric_contains_crystals() -> None:
    faces = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    coords = np.vstack([faces, faces + np.array([0.5, 0, 0])])
    salt = Structure(Lattice.cubic(5.64), ["Na"] * 4 + ["Cl"] * 4, coords)
    metric = SubstitutionNovelty(Reference.from_structures([salt], ids=["salt"]), relaxer=None)
    (found,) = metric([salt]).crystals("duplicate")
    assert (len(found), found.properties["parent"]) == (2, "salt")
    assert found.volume == pytest.approx(5.64**3 / 4)
