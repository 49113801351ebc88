"""Unusable files give one clear error: the reason, the place, and what to do."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Structure
from sample_layouts import (
    WRITERS,
    add_to_tar,
    cif_text,
    diffcsp_arrays,
    write_json,
    write_json_lines,
    write_monty,
    write_parquet,
    write_plain_tar,
    write_pt,
    write_rows,
    write_tar,
    write_zip,
)

from novelty_metric.errors import InputError
from novelty_metric.samples import count_hint, detect_format, read_samples


def refusal(path: Path, **options: Any) -> str:
    """The error message of a refused file; it must be one line."""
    with pytest.raises(InputError) as caught:
        list(read_samples(path, **options))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    assert path.name in message or "limit" in message or "no format named" in message
    return message


def cut(path: Path, share: float) -> Path:
    """Keep the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_missing_and_empty_files(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "none.cif")
    assert "no such file or folder" in refusal(tmp_path / "none.cif", format="csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    assert "the file is empty" in refusal(tmp_path / "empty.csv")
    (tmp_path / "blank.csv").write_text(" \n\n")
    assert "the file is empty" in refusal(tmp_path / "blank.csv")
    (tmp_path / "empty.gz").write_bytes(gzip.compress(b""))
    assert "empty after decompression" in refusal(tmp_path / "empty.gz")
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe")


def test_unknown_formats(tmp_path: Path) -> None:
    for name, data, reason in [
        ("x.bin", bytes(range(256)), "not a format that can be read; known: cif, folder, zip"),
        ("x.txt", b"a few words\nand some more\n", "not a format that can be read"),
        ("x.png", b"\x89PNG\r\n\x1a\n\x00", "not a format that can be read"),
        ("x.pkl", pickle.dumps([1]), "a Python pickle, which is not read"),
        ("x.csv", b"version https://git-lfs.github.com/spec/v1\noid 1\n", "git lfs pull"),
        ("x.zip", b"<!DOCTYPE html>\n<html>", "a web page"),
        ("x.pkl.gz", gzip.compress(pickle.dumps([1])), "a Python pickle, which is not read"),
        ("y.gz", b"\x1f\x8b\x08\x00garbage", "damaged, cut short"),
    ]:
        (tmp_path / name).write_bytes(data)
        assert reason in refusal(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", b"")
    assert "NumPy arrays" in refusal(tmp_path / "x.npz")


def test_options(crystals: list[Structure], tmp_path: Path) -> None:
    path = write_json(crystals, tmp_path)
    assert refusal(path, format="xyz").startswith("no format named 'xyz'; known: cif,")
    assert "column=cif is only for tables, but this file is json" in refusal(path, column="cif")
    assert "must be a whole number above 0" in refusal(path, limit=0)
    with pytest.raises(InputError, match="no such file"):
        count_hint(tmp_path / "none")


@pytest.mark.parametrize("layout", WRITERS)
def test_wrong_format_option(layout: str, crystals: list[Structure], tmp_path: Path) -> None:
    """Any format for any file gives an error or rows with reasons, never a crash."""
    name, write = WRITERS[layout]
    path = write(crystals, tmp_path)
    for forced in ("cif", "folder", "zip", "tar", "extxyz", "csv", "json", "pt"):
        if forced == name:
            continue
        try:
            samples = list(read_samples(path, format=forced, limit=3))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert samples and all("\n" not in (sample.error or "") for sample in samples)


@pytest.mark.parametrize(
    ("write", "share", "reason"),
    [
        (write_zip, 0.7, "cut short or damaged: copy it again"),
        (write_tar, 0.6, "cut short"),
        (write_plain_tar, 0.3, "cut short"),
        (write_monty, 0.6, "cut short"),
        (write_json, 0.6, "not JSON, or cut short"),
        (write_parquet, 0.8, "damaged or cut short"),
        (write_pt, 0.7, "cut short or damaged"),
    ],
)
def test_truncated_files(
    write: Callable[..., Path],
    share: float,
    reason: str,
    crystals: list[Structure],
    tmp_path: Path,
) -> None:
    assert reason in refusal(cut(write(crystals, tmp_path), share))


def test_zip_of_an_unknown_version(crystals: list[Structure], tmp_path: Path) -> None:
    path = write_zip(crystals, tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 98  # the version that the first member requires
    path.write_bytes(data)
    assert "zip file version 9.8" in refusal(path)
    assert "zip file version 9.8" in refusal(path, format="zip")


def test_tar_truncated_anywhere_is_refused(crystals: list[Structure], tmp_path: Path) -> None:
    whole = write_plain_tar(crystals, tmp_path).read_bytes()
    path = tmp_path / "part.tar"
    with tarfile.open(tmp_path / "cifs.tar") as archive:
        end = max(member.offset_data + member.size for member in archive)
    for length in range(512, end, 512):
        path.write_bytes(whole[:length])
        refusal(path)
    path.write_bytes(whole)
    assert len(list(read_samples(path))) == len(crystals)


def test_truncated_compressed_table(crystals: list[Structure], tmp_path: Path) -> None:
    rows = [[index, cif_text(crystal)] for index, crystal in enumerate(crystals * 20)]
    path = cut(write_rows(tmp_path / "x.csv.gz", ["n", "cif"], rows), 0.6)
    assert "cut short" in refusal(path)


def test_folders_and_archives_without_crystals(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    no_kind = "contains no file named as a CIF, POSCAR, extxyz or JSON; it contains"
    assert refusal(folder).endswith(f"{no_kind} nothing")
    (folder / "a.csv").write_text("cif\n")
    assert refusal(folder).endswith(f"{no_kind} a.csv: name the files, such as '{folder}/*.csv'")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/samples.dat", "1\n")
    assert f"{no_kind} a/samples.dat: unpack it" in refusal(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    assert f"{no_kind} nothing" in refusal(tmp_path / "none.zip")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        add_to_tar(tar, "notes.txt", b"x")
    assert f"{no_kind} notes.txt" in refusal(tmp_path / "x.tar.gz")


def test_tables_without_structures(crystals: list[Structure], tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_rows(path, ["", "formula", "e_above_hull"], [[0, "NaCl", 0.1]])
    assert "the columns are (unnamed), formula, e_above_hull" in refusal(path)
    cif = cif_text(crystals[0])
    write_rows(path, ["a", "b"], [[cif, cif]])
    assert "several columns contain crystals (a, b); name one: column=" in refusal(path)
    assert "no column 'c'; the columns are a, b" in refusal(path, column="c")
    write_rows(path, ["id", "cif"], [])
    assert "contains no crystal" in refusal(path)
    path.write_text('id,cif\n1,"abc"def\n2,x\n')
    assert "line 2 is not CSV" in refusal(path)
    write_rows(path, ["group", "sites", "species", "numIons"], [[1, "[['1a']]", "['Li']", "[1]"]])
    assert "DiffCSP++" in refusal(path)
    parquet = write_parquet(crystals, tmp_path)
    assert "no column 'cif'; the columns are n, Generated CIF" in refusal(parquet, column="cif")
    import pyarrow as pa
    from pyarrow import parquet as pq

    pq.write_table(pa.table({"formula": ["NaCl"], "x": [1.0]}), parquet)
    assert "the columns are formula, x" in refusal(parquet)
    pq.write_table(pa.table({"cif": pa.array([], pa.string())}), parquet)
    assert "contains no crystal" in refusal(parquet)


def test_json_without_structures(crystals: list[Structure], tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    gene = {"group": 71, "sites": [["4h"]], "species": ["In"], "numIons": [4]}
    for data in ([gene] * 3, {"a": gene}, gene):
        path.write_text(json.dumps(data))
        message = refusal(path)
        assert "without cell or coordinates" in message and "DiffCSP++" in message
    path.write_text(json.dumps(gene) + "\n" + json.dumps(gene) + "\n")
    assert detect_format(path) == "jsonl" and "DiffCSP++" in refusal(path)
    for data, reason in [
        ([], "it is empty"),
        ({}, "it is empty"),
        ([1, 2], "found a list of int"),
        ([{"formula": "NaCl"}], "found a list of dict with the keys formula"),
        ({"formula": "NaCl"}, "found a mapping with the keys formula"),
    ]:
        path.write_text(json.dumps(data))
        assert reason in refusal(path)
    path.write_text("[" * 100_000)
    assert "not JSON, or cut short" in refusal(path)
    write_json_lines(crystals, tmp_path)
    assert "not JSON, or cut short" in refusal(tmp_path / "all.jsonl", format="json")


# --- .pt ---------------------------------------------------------------------------------------


def save(data: Any, folder: Path, **options: Any) -> Path:
    import torch

    path = folder / "x.pt"
    torch.save(data, path, **options)
    return path


class WritesOnUnpickling:
    """Create a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_is_loaded_only_on_request(
    zipped: bool, crystals: list[Structure], tmp_path: Path
) -> None:
    mark = tmp_path / "it_ran"
    path = save(
        {**diffcsp_arrays(crystals), "x": WritesOnUnpickling(mark)},
        tmp_path,
        _use_new_zipfile_serialization=zipped,
    )
    message = refusal(path)
    assert re.search(r"an object of \w+\.mkdir, .*allow_pickle=true", message)
    assert not mark.exists()
    assert len(list(read_samples(path, allow_pickle=True))) == len(crystals)
    assert mark.exists()


def test_only_namespaces_are_allowed(crystals: list[Structure], tmp_path: Path) -> None:
    arrays = diffcsp_arrays(crystals)
    path = save({**arrays, "eval_setting": argparse.Namespace(a=Path("x"))}, tmp_path)
    assert "pathlib." in refusal(path)
    assert len(list(read_samples(path, allow_pickle=True))) == len(crystals)
    path = save({**arrays, "made": crystals[0]}, tmp_path)
    assert "pymatgen.core" in refusal(path)


def test_extra_keys_are_ignored(crystals: list[Structure], tmp_path: Path) -> None:
    import torch

    arrays = {**diffcsp_arrays(crystals), "spacegroups": torch.ones(4), "time": 3.0}
    assert len(list(read_samples(save(arrays, tmp_path)))) == len(crystals)


def test_inconsistent_arrays(crystals: list[Structure], tmp_path: Path) -> None:
    import torch

    arrays = diffcsp_arrays(crystals)
    n_sites = sum(map(len, crystals))

    def message(**changed: Any) -> str:
        return refusal(save({**arrays, **changed}, tmp_path))

    more = torch.cat([arrays["num_atoms"][:-1], torch.tensor([5])])
    assert f"adds up to {n_sites + 4} atoms, but atom_types contains {n_sites}" in message(
        num_atoms=more
    )
    assert "frac_coords has the shape" in message(frac_coords=arrays["frac_coords"][:-1])
    assert "lengths has the shape (4, 3, 3)" in message(lengths=torch.ones(4, 3, 3))
    assert "as of a trajectory or of probabilities" in message(atom_types=torch.ones(n_sites, 100))
    assert "frac_coords has the shape (7," in message(
        frac_coords=arrays["frac_coords"].expand(7, n_sites, 3)
    )
    cdvae = {k: v[None] for k, v in arrays.items() if k != "eval_setting"}
    twice = cdvae["lengths"].expand(2, -1, -1)
    assert "different numbers of evaluations: num_atoms 1" in message(**{**cdvae, "lengths": twice})
    flowmm = {k: [v] for k, v in arrays.items() if k != "eval_setting"}
    assert "but lengths is not a list" in message(**{**flowmm, "lengths": arrays["lengths"]})
    assert "different numbers of evaluations: num_atoms 1" in message(
        **{**flowmm, "lengths": [arrays["lengths"]] * 3}
    )
    texts = [["a"] * len(crystals)]
    assert "num_atoms is a list, not an array" in message(**{**flowmm, "num_atoms": texts})
    stretched = torch.eye(3).expand(len(crystals), 3, 3) * 9
    assert "lengths and lattices describe different cells" in message(lattices=stretched)
    assert "num_atoms contains something other" in message(num_atoms=arrays["num_atoms"] - 2)
    assert "look like radians; if they are, add model.arrays.angles=radians" in message(
        angles=torch.deg2rad(arrays["angles"])
    )
    del arrays["lengths"]
    assert "a mapping with the keys eval_setting, frac_coords" in message()
    assert "contains a list; the layouts that are read are those of DiffCSP, CDVAE" in refusal(
        save([1], tmp_path)
    )
    assert "a list of mappings with the keys A0, F1" in refusal(
        save([{"A0": 1, "F1": 2}], tmp_path)
    )
    empty = {
        key: torch.zeros((0, 3) if key in ("frac_coords", "lengths", "angles") else (0,))
        for key in ("num_atoms", "atom_types", "frac_coords", "lengths", "angles")
    }
    assert "contains no crystal" in refusal(save(empty, tmp_path))


def test_invalid_crystals_of_a_pt_file(crystals: list[Structure], tmp_path: Path) -> None:
    import torch

    arrays = diffcsp_arrays([crystals[3]] * 9)
    nan, inf = float("nan"), float("inf")
    arrays["angles"][1, 0] = nan
    arrays["lengths"][2, 1] = inf
    arrays["lengths"][3, 2] = -3.0
    arrays["angles"][4] = torch.tensor([30.0, 30.0, 90.0])
    arrays["atom_types"][5] = 0
    arrays["atom_types"][6] = 119
    arrays["frac_coords"][7, 0] = nan
    arrays["num_atoms"] = torch.cat([arrays["num_atoms"], torch.tensor([0])])
    for key in ("lengths", "angles"):
        arrays[key] = torch.cat([arrays[key], arrays[key][:1]])
    samples = list(read_samples(save(arrays, tmp_path)))
    errors = [sample.error for sample in samples]
    assert [sample.id for sample in samples] == [f"x-{index}" for index in range(10)]
    assert [index for index, error in enumerate(errors) if error is None] == [0, 7, 8]
    assert errors[1].startswith("the cell contains a number that is not finite")  # type: ignore[union-attr]
    assert errors[3] == "a cell length is not above 0: 2.87, 2.87, -3"
    assert errors[4] == "no cell has the angles 30, 30, 90 (degrees)"
    assert errors[5] == "atomic number 0 is not an element"
    assert errors[6] == "atomic number 119 is not an element"
    assert errors[9] == "no atoms"
