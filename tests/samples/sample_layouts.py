"""Write a list of crystals to a file, for every format that the package reads."""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pymatgen.core import Structure


def cif_text(structure: Structure) -> str:
    return str(structure.to(fmt="cif"))


def write_cif(crystals: Sequence[Structure], folder: Path) -> Path:
    path = folder / "all.cif"
    path.write_text("\n".join(map(cif_text, crystals)))
    return path


def write_folder(crystals: Sequence[Structure], folder: Path) -> Path:
    path = folder / "cifs"
    path.mkdir()
    for index, crystal in enumerate(crystals):
        (path / f"gen_{index}.cif").write_text(cif_text(crystal))
    return path


def write_zip(crystals: Sequence[Structure], folder: Path) -> Path:
    path = folder / "cifs.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, crystal in enumerate(crystals):
            archive.writestr(f"gen_{index}.cif", cif_text(crystal))
    return path


def add_to_tar(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write_tar(crystals: Sequence[Structure], folder: Path, mode: str = "w:gz") -> Path:
    path = folder / ("cifs.tar.gz" if mode.endswith("gz") else "cifs.tar")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for index, crystal in enumerate(crystals):
            add_to_tar(archive, f"out/gen_{index}.cif", cif_text(crystal).encode())
    return path


def write_plain_tar(crystals: Sequence[Structure], folder: Path) -> Path:
    return write_tar(crystals, folder, "w")


def write_extxyz(crystals: Sequence[Structure], folder: Path) -> Path:
    from ase.io import write

    path = folder / "all.extxyz"
    write(path, [crystal.to_ase_atoms() for crystal in crystals], format="extxyz")
    return path


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_csv_cif(crystals: Sequence[Structure], folder: Path) -> Path:
    rows = [[index, cif_text(crystal), "x"] for index, crystal in enumerate(crystals)]
    return write_rows(folder / "table.csv", ["", "relxed_structure", "note"], rows)


def write_csv_repr(crystals: Sequence[Structure], folder: Path) -> Path:
    rows = [[repr(crystal.as_dict())] for crystal in crystals]
    return write_rows(folder / "table.csv.gz", ["cif"], rows)


def write_csv_json(crystals: Sequence[Structure], folder: Path) -> Path:
    rows = [[1.5, json.dumps(crystal.as_dict())] for crystal in crystals]
    return write_rows(folder / "table.csv", ["energy", "what a model made"], rows)


def write_csv_language_model(crystals: Sequence[Structure], folder: Path) -> Path:
    rows = []
    for crystal in crystals:
        lines = [" ".join(map(repr, map(float, crystal.lattice.abc)))]
        lines.append(" ".join(map(repr, map(float, crystal.lattice.angles))))
        for site in crystal:
            lines += [site.specie.symbol, " ".join(map(repr, map(float, site.frac_coords)))]
        rows.append(["\n".join(lines), "model"])
    return write_rows(folder / "table.csv", ["gen_str", "model_name"], rows)


def write_parquet(crystals: Sequence[Structure], folder: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    path = folder / "table.parquet"
    table = {"n": list(range(len(crystals))), "Generated CIF": list(map(cif_text, crystals))}
    parquet.write_table(pa.table(table), path)
    return path


def write_parquet_struct(crystals: Sequence[Structure], folder: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    path = folder / "table.parquet"
    values = []
    for crystal in crystals:  # a struct column cannot contain an empty mapping
        data = crystal.as_dict()
        del data["properties"]
        for site in data["sites"]:
            del site["properties"]
        values.append(data)
    parquet.write_table(pa.table({"structure": values}), path)
    return path


def write_json(crystals: Sequence[Structure], folder: Path) -> Path:
    path = folder / "all.json"
    path.write_text(json.dumps([crystal.as_dict() for crystal in crystals]))
    return path


def write_monty(crystals: Sequence[Structure], folder: Path) -> Path:
    from monty.serialization import dumpfn

    path = folder / "all.json.gz"
    dumpfn(list(crystals), path)
    return path


def write_json_mapping(crystals: Sequence[Structure], folder: Path) -> Path:
    path = folder / "all.json"
    data = {f"c{index}": crystal.as_dict() for index, crystal in enumerate(crystals)}
    path.write_text(json.dumps(data, indent=1))
    return path


def write_json_lines(crystals: Sequence[Structure], folder: Path) -> Path:
    path = folder / "all.jsonl"
    path.write_text("".join(json.dumps(crystal.as_dict()) + "\n" for crystal in crystals))
    return path


def diffcsp_arrays(crystals: Sequence[Structure]) -> dict[str, Any]:
    """The arrays of DiffCSP's file, and the arguments of its command line."""
    import numpy as np
    import torch

    return {
        "eval_setting": argparse.Namespace(model_path="x", num_evals=1),
        "frac_coords": torch.tensor(np.concatenate([c.frac_coords for c in crystals])),
        "num_atoms": torch.tensor([len(c) for c in crystals]),
        "atom_types": torch.tensor([z for c in crystals for z in c.atomic_numbers]),
        "lengths": torch.tensor([c.lattice.abc for c in crystals], dtype=torch.float64),
        "angles": torch.tensor([c.lattice.angles for c in crystals], dtype=torch.float64),
    }


def write_pt(crystals: Sequence[Structure], folder: Path) -> Path:
    import torch

    path = folder / "all.pt"
    torch.save(diffcsp_arrays(crystals), path)
    return path


def write_legacy_pt(crystals: Sequence[Structure], folder: Path) -> Path:
    import torch

    path = folder / "all.pt"
    torch.save(diffcsp_arrays(crystals), path, _use_new_zipfile_serialization=False)
    return path


WRITERS: dict[str, tuple[str, Callable[[Sequence[Structure], Path], Path]]] = {
    "cif": ("cif", write_cif),
    "cif folder": ("folder", write_folder),
    "cif zip": ("zip", write_zip),
    "cif tar.gz": ("tar", write_tar),
    "cif tar": ("tar", write_plain_tar),
    "extxyz": ("extxyz", write_extxyz),
    "csv of cif": ("csv", write_csv_cif),
    "csv of repr": ("csv", write_csv_repr),
    "csv of json": ("csv", write_csv_json),
    "csv of Crystal-text-LLM": ("csv", write_csv_language_model),
    "parquet of cif": ("parquet", write_parquet),
    "parquet of dict": ("parquet", write_parquet_struct),
    "json": ("json", write_json),
    "json by monty": ("json", write_monty),
    "json mapping": ("json", write_json_mapping),
    "json lines": ("jsonl", write_json_lines),
    "pt": ("pt", write_pt),
    "pt, old zipless": ("pt", write_legacy_pt),
}
"""Layout -> (name of the format, writer)."""
