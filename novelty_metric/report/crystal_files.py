"""Crystals with properties in one file; the file name's ending selects the format."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.crystal_records import CrystalRecord
from novelty_metric.errors import InputError
from novelty_metric.report.explanation import folder_name

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

TABLE_FILE = "crystals.csv"
"""Name of the table of properties in a zip of CIFs."""

Crystals = Sequence[tuple[Mapping[str, Any], CrystalRecord]]
"""The properties of each crystal, including ``id`` (the same keys for all), and the crystal."""


def write_crystals(out: Path, crystals: Crystals) -> None:
    """Write the crystals to one file; create its folder if necessary.

    Parameters
    ----------
    out : path
        ``*.extxyz`` or ``*.xyz``, ``*.zip`` (CIFs and a table), ``*.csv`` (with a column ``cif``)
        or ``*.json`` (pymatgen structures).

    Raises
    ------
    InputError
        If the ending is not known, or the file can't be written.
    """
    from novelty_metric.support.folders import write_atomically, writing

    form = format_of(out)
    with writing(f"out={out}", out.parent):
        write_atomically(out, form(crystals))


def structure_with(properties: Mapping[str, Any], record: CrystalRecord) -> Structure:
    """The crystal with its properties."""
    structure = record.to_structure()
    structure.properties = dict(properties)
    return structure


def extxyz(crystals: Crystals) -> bytes:
    """Extended XYZ, one frame per crystal; positions to 1e-8 Å."""
    from ase.io.extxyz import write_extxyz

    stream = io.StringIO()
    write_extxyz(stream, (_atoms(properties, record) for properties, record in crystals))
    return stream.getvalue().encode()


def _atoms(properties: Mapping[str, Any], record: CrystalRecord) -> Atoms:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms(
        numbers=record.numbers, cell=record.lattice, scaled_positions=record.frac_coords, pbc=True
    )
    known = {k: v for k, v in properties.items() if v is not None}
    # The energy of a frame is a result of a calculation, for `Atoms.get_potential_energy`.
    energy = known.pop("energy", None)
    if energy is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    atoms.info = {k: _text(v) if isinstance(v, str) else v for k, v in known.items()}
    return atoms


def _text(text: str) -> str:
    """The value for ASE from which it reads this text again, not a number or flag such as 007."""
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict

    if not text.startswith("_JSON "):
        written = text.replace("\\", "\\\\")
        back = key_val_str_to_dict(key_val_dict_to_str({"text": written})).get("text")
        if isinstance(back, str) and back == text:
            return written
    return f"_JSON {json.dumps(text)}".replace("\\", "\\\\")


def _json(crystals: Crystals) -> bytes:
    # The id once more, where readers of records look for it.
    content = [
        {"id": properties["id"], **structure_with(properties, record).as_dict()}
        for properties, record in crystals
    ]
    return (json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _cif_zip(crystals: Crystals) -> bytes:
    names = [f"{folder_name(properties['id'])}.cif" for properties, _ in crystals]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (_, record) in zip(names, crystals, strict=True):
            _add(archive, name, _cif(record).encode())
        _add(archive, TABLE_FILE, _table(crystals, "file", names))
    return stream.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # Without the time, so that the same crystals give the same bytes.
    archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def _cif(record: CrystalRecord) -> str:
    text: str = record.to_structure().to(fmt="cif")
    return text


def _table(crystals: Crystals, last: str, values: Sequence[str]) -> bytes:
    """The properties as CSV, with an additional last column."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for place, ((properties, _), value) in enumerate(zip(crystals, values, strict=True)):
        if place == 0:
            writer.writerow([*properties, last])
        writer.writerow([*properties.values(), value])
    return stream.getvalue().encode()


_FORMATS: dict[str, Callable[[Crystals], bytes]] = {
    ".extxyz": extxyz,
    ".xyz": extxyz,
    ".zip": _cif_zip,
    ".csv": lambda crystals: _table(crystals, "cif", [_cif(record) for _, record in crystals]),
    ".json": _json,
}


def format_of(out: Path) -> Callable[[Crystals], bytes]:
    """The function that makes the content of a file with this ending.

    Raises
    ------
    InputError
        If the ending is not known, or the path is a folder.
    """
    form = _FORMATS.get(out.suffix.lower())
    if form is None:
        raise InputError(
            f"out={out} has no known format; name a file that ends in {', '.join(_FORMATS)}"
        )
    if out.is_dir():
        raise InputError(f"out={out} is a folder; name a file")
    return form
