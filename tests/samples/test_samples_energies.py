"""Energies of samples: read on request only, from every format that contains them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ase.io
import pandas as pd
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from novelty_metric.errors import InputError
from novelty_metric.samples import read_samples

SALT = Structure(Lattice.cubic(4.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
GIVEN = [-7.25, None, float("nan"), float("inf"), 0.0]
READ = [-7.25, None, None, None, 0.0]


def csv(path: Path) -> Path:
    table = pd.DataFrame({"cif": [SALT.to(fmt="cif")] * 5, "dft": GIVEN})
    table.to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def parquet(path: Path) -> Path:
    table = pd.DataFrame({"id": list("abcde"), "dft": GIVEN, "cif": [SALT.to(fmt="cif")] * 5})
    table.to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def as_json(path: Path) -> Path:
    records = [{"structure": SALT.as_dict(), "dft": energy} for energy in GIVEN]
    path.with_suffix(".json").write_text(json.dumps(records))
    return path.with_suffix(".json")


def jsonl(path: Path) -> Path:
    records = [{"structure": SALT.as_dict(), "dft": energy} for energy in GIVEN]
    path.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, records)))
    return path.with_suffix(".jsonl")


def extxyz(path: Path, key: str = "dft") -> Path:
    frames = []
    for energy in GIVEN:
        atoms = AseAtomsAdaptor.get_atoms(SALT)
        atoms.info.clear()
        if energy is not None:
            atoms.info[key] = energy
        frames.append(atoms)
    ase.io.write(path.with_suffix(".extxyz"), frames)
    return path.with_suffix(".extxyz")


@pytest.mark.parametrize("write", [csv, parquet, as_json, jsonl, extxyz])
def test_energies_are_read_on_request(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / "gen")
    assert [sample.energy for sample in read_samples(path)] == [None] * 5
    samples = list(read_samples(path, energies="dft"))
    assert [sample.energy for sample in samples] == READ
    assert all(sample.structure is not None and sample.error is None for sample in samples)


def test_energy_of_a_frame_written_by_ase(tmp_path: Path) -> None:
    atoms = AseAtomsAdaptor.get_atoms(SALT)
    atoms.calc = SinglePointCalculator(atoms, energy=-7.25)
    ase.io.write(tmp_path / "gen.extxyz", [atoms, atoms])
    assert [s.energy for s in read_samples(tmp_path / "gen.extxyz", energies="energy")] == [
        -7.25
    ] * 2
    assert [s.energy for s in read_samples(tmp_path / "gen.extxyz")] == [None] * 2


def test_text_is_not_an_energy(tmp_path: Path) -> None:
    table = pd.DataFrame({"cif": [SALT.to(fmt="cif")] * 4, "dft": ["-7.25", "n/a", "", "True"]})
    table.to_csv(tmp_path / "gen.csv", index=False)
    found = [s.energy for s in read_samples(tmp_path / "gen.csv", energies="dft")]
    assert found == [-7.25, None, None, None]
    (tmp_path / "gen.json").write_text(json.dumps([{"structure": SALT.as_dict(), "dft": True}]))
    assert [s.energy for s in read_samples(tmp_path / "gen.json", energies="dft")] == [None]


def test_formats_without_energies_give_one_clear_error(tmp_path: Path) -> None:
    for write, what in (
        (csv, "column"),
        (parquet, "column"),
        (as_json, "key"),
        (jsonl, "key"),
        (extxyz, "key"),
    ):
        path = write(tmp_path / "gen")
        text = rf"energies=e_pbe: there is no such {what}; the {what}s are .*dft"
        with pytest.raises(InputError, match=text):
            next(read_samples(path, energies="e_pbe"))
    SALT.to(filename=str(tmp_path / "gen.cif"))
    with pytest.raises(
        InputError, match=r"energies=dft is only for tables, JSON and extxyz, but .* cif"
    ):
        read_samples(tmp_path / "gen.cif", energies="dft")
