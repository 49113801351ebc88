"""Folders and archives of POSCAR, extxyz and JSON files: each member is read as its own file."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pymatgen.core import Structure
from sample_layouts import add_to_tar, cif_text

from novelty_metric.errors import InputError
from novelty_metric.samples import count_hint, read_samples


def to_zip(folder: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "made.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return folder / "made.zip"


def to_tar(folder: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(folder / "made.tar.gz", "w:gz") as archive:
        for name, data in files.items():
            add_to_tar(archive, name, data)
    return folder / "made.tar.gz"


def to_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / "made"


PACKERS = [to_zip, to_tar, to_folder]
Packer = Callable[[Path, Mapping[str, bytes]], Path]


def poscar(crystal: Structure) -> bytes:
    return str(crystal.to(fmt="poscar")).encode()


def as_json(crystal: Structure) -> bytes:
    return json.dumps(crystal.as_dict()).encode()


def extxyz(*crystals: Structure) -> bytes:
    from ase.io import write

    text = io.StringIO()
    write(text, [crystal.to_ase_atoms() for crystal in crystals], format="extxyz")
    return text.getvalue().encode()


KINDS: dict[str, tuple[Callable[[Structure], bytes], str, str]] = {
    "POSCAR": (poscar, "runs/{}/POSCAR", "{}/POSCAR"),
    "CONTCAR": (poscar, "runs/CONTCAR_{}", "CONTCAR_{}"),
    "vasp": (poscar, "gen_{}.vasp", "gen_{}"),
    "extxyz": (extxyz, "gen_{}.extxyz", "gen_{}"),
    "xyz": (extxyz, "out/gen_{}.xyz", "gen_{}"),
    "json": (as_json, "gen_{}.json", "gen_{}"),
    "jsonl": (as_json, "gen_{}.jsonl", "gen_{}"),
}


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_members_are_read_and_named(
    kind: str, pack: Packer, crystals: list[Structure], tmp_path: Path
) -> None:
    write, name, own_id = KINDS[kind]
    files = {name.format(n): write(crystal) for n, crystal in enumerate(crystals)}
    *_, last = files
    files[f"{last}.gz"] = gzip.compress(files.pop(last))
    damaged = {name.format(9): b"\xff damaged", "notes.txt": b"x", "__MACOSX/._a.json": b""}
    path = pack(tmp_path, files | damaged)
    *samples, bad = read_samples(path)
    assert [sample.id for sample in samples] == [own_id.format(n) for n in range(len(crystals))]
    assert [sample.source for sample in samples] == [f"{path.name}:{name}" for name in files]
    for sample, crystal in zip(samples, crystals, strict=True):
        assert sample.structure is not None, sample.error
        assert sample.structure.matches(crystal, ltol=1e-5, stol=1e-5, angle_tol=1e-4, scale=False)
    assert bad.structure is None and bad.error and bad.id == own_id.format(9)
    if write is poscar:
        assert bad.error.startswith("not a POSCAR")
    if pack != to_tar:
        assert count_hint(path) == (5 if write is poscar else None)
    drawn = list(read_samples(path, limit=2, seed=1))
    assert {sample.id for sample in drawn} < {sample.id for sample in [*samples, bad]}


@pytest.mark.parametrize("pack", PACKERS)
def test_members_with_several_crystals(
    pack: Packer, crystals: list[Structure], tmp_path: Path
) -> None:
    path = pack(tmp_path, {"a.xyz": extxyz(*crystals[:2]), "b.xyz": extxyz(crystals[2])})
    samples = list(read_samples(path))
    assert [sample.id for sample in samples] == ["a-0", "a-1", "b"]
    places = ["a.xyz:frame 0", "a.xyz:frame 1", "b.xyz"]
    assert [sample.source for sample in samples] == [f"{path.name}:{place}" for place in places]
    lines = b"\n".join(map(as_json, crystals[:2]))
    listed = b"[" + as_json(crystals[2]) + b"]"
    own = json.dumps({"id": "0042", "structure": crystals[3].as_dict()}).encode()
    (tmp_path / "json").mkdir()
    path = pack(tmp_path / "json", {"a.json": lines, "b.json": listed, "c.json": own})
    samples = list(read_samples(path))
    assert [sample.id for sample in samples] == ["a-0", "a-1", "b", "0042"]
    assert [sample.structure for sample in samples] == crystals


@pytest.mark.parametrize("pack", PACKERS)
def test_several_kinds_are_refused_unless_there_are_cifs(
    pack: Packer, crystals: list[Structure], tmp_path: Path
) -> None:
    files = {"1/CONTCAR": poscar(crystals[0]), "1/POSCAR": poscar(crystals[0])}
    with pytest.raises(InputError, match=r"of several kinds \(1 contcar, 1 poscar\): .*name the"):
        read_samples(pack(tmp_path, files))
    files["a.cif"] = cif_text(crystals[0]).encode()
    (sample,) = read_samples(pack(tmp_path, files))
    assert sample.id == "a" and sample.structure is not None
