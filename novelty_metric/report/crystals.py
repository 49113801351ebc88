"""The relaxed crystals of a report, and the files that they are exported to.

A crystal is the one that was compared: relaxed if the run relaxes, primitive and Niggli-reduced.
Samples without one, such as unreadable ones, are left out. Imported only when crystals are asked
for: pymatgen and ASE are needed here.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict, write_extxyz

from novelty_metric.crystal_records import CrystalRecord
from novelty_metric.errors import InputError
from novelty_metric.report.explanation import folder_name
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.report.novelty_report import NoveltyReport

PROPERTIES = (
    "id",
    "verdict",
    "eligible",
    "energy",
    "energy_per_atom",
    "e_above_hull",
    "parent",
)
"""What is told of each crystal; `energy` is that of the whole cell (eV)."""
TABLE_FILE = "crystals.csv"
"""The file in a zip of CIFs that names the properties of each."""


def structures_of(report: NoveltyReport, verdict: Verdict | str | None = None) -> list[Structure]:
    """The crystals with their properties; see `NoveltyReport.crystals`."""
    return [_structure(result, record) for result, record in _chosen(report, verdict)]


def export(
    report: NoveltyReport, out: Path, verdict: Verdict | str | None = None
) -> list[CrystalResult]:
    """Write the crystals to one file, in the format of its ending.

    Parameters
    ----------
    report : NoveltyReport
        With its crystals.
    out : path
        ``*.extxyz`` or ``*.xyz``, ``*.zip`` (CIFs and a table), ``*.csv`` (with a column ``cif``)
        or ``*.json`` (pymatgen structures).
    verdict : Verdict or str, optional
        That of the crystals to write; by default all are written.

    Returns
    -------
    list of CrystalResult
        The rows of the crystals that were written.

    Raises
    ------
    InputError
        If the ending or the verdict is not known, there is no such crystal, the report was read
        without crystals, or the file can't be written.
    """
    from novelty_metric.support.folders import write_atomically

    form = format_of(out)
    chosen = _chosen(report, verdict)
    if not chosen:
        counts = ", ".join(f"{count} {name}" for name, count in report.counts_all.items())
        what = "crystal" if verdict is None else f"{verdict} crystal"
        raise InputError(f"there is no {what} to write; samples per verdict: {counts}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, form(chosen))
    except OSError as error:
        raise InputError(f"out={out} can't be written ({error.strerror or error})") from error
    return [result for result, _ in chosen]


def extxyz(results: Iterable[CrystalResult]) -> str:
    """The crystals of these rows as extended XYZ, one frame each; positions to 1e-8 Å."""
    return _extxyz(_with_crystal(results)).decode()


def _with_crystal(results: Iterable[CrystalResult]) -> list[tuple[CrystalResult, CrystalRecord]]:
    return [
        (result, result.structures.relaxed)
        for result in results
        if result.structures is not None and result.structures.relaxed is not None
    ]


def _chosen(
    report: NoveltyReport, verdict: Verdict | str | None
) -> list[tuple[CrystalResult, CrystalRecord]]:
    known = [one.value for one in Verdict]
    if verdict is not None and verdict not in known:
        raise InputError(f"no verdict {str(verdict)!r}; known: {', '.join(known)}")
    if report.n_read and all(result.structures is None for result in report.results):
        raise InputError(
            "the report holds no crystals; read it with NoveltyReport.load(folder, "
            "structures=True), or score again if the run kept none"
        )
    wanted = (result for result in report.results if verdict in (None, result.verdict))
    return _with_crystal(wanted)


def _properties(result: CrystalResult, record: CrystalRecord) -> dict[str, Any]:
    per_atom = result.energy_per_atom
    values = (
        result.id,
        None if result.verdict is None else result.verdict.value,
        result.eligible,
        None if per_atom is None else per_atom * len(record.numbers),
        per_atom,
        result.e_above_hull,
        result.parent_id,
    )
    return dict(zip(PROPERTIES, values, strict=True))


def _structure(result: CrystalResult, record: CrystalRecord) -> Structure:
    structure = record.to_structure()
    structure.properties = _properties(result, record)
    return structure


# The formats

_Chosen = Sequence[tuple[CrystalResult, CrystalRecord]]


def _extxyz(chosen: _Chosen) -> bytes:
    stream = io.StringIO()
    write_extxyz(stream, (_atoms(result, record) for result, record in chosen))
    return stream.getvalue().encode()


def _atoms(result: CrystalResult, record: CrystalRecord) -> Atoms:
    atoms = Atoms(
        numbers=record.numbers, cell=record.lattice, scaled_positions=record.frac_coords, pbc=True
    )
    known = {k: v for k, v in _properties(result, record).items() if v is not None}
    # The energy of a frame is a result of a calculation, for `Atoms.get_potential_energy`.
    energy = known.pop("energy", None)
    if energy is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    atoms.info = {k: _text(v) if isinstance(v, str) else v for k, v in known.items()}
    return atoms


def _text(text: str) -> str:
    """What to hand to ASE so that it reads this text again, and no number or flag such as 007."""
    if not text.startswith("_JSON "):
        written = text.replace("\\", "\\\\")
        back = key_val_str_to_dict(key_val_dict_to_str({"text": written})).get("text")
        if isinstance(back, str) and back == text:
            return written
    return f"_JSON {json.dumps(text)}".replace("\\", "\\\\")


def _json(chosen: _Chosen) -> bytes:
    crystals = [_structure(result, record).as_dict() for result, record in chosen]
    return (json.dumps(crystals, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _csv(chosen: _Chosen) -> bytes:
    return _table(chosen, "cif", [_cif(record) for _, record in chosen])


def _cif_zip(chosen: _Chosen) -> bytes:
    names = [f"{folder_name(result.id)}.cif" for result, _ in chosen]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (_, record) in zip(names, chosen, strict=True):
            _add(archive, name, _cif(record).encode())
        _add(archive, TABLE_FILE, _table(chosen, "file", names))
    return stream.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # Without the time, so that the same crystals give the same bytes.
    archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def _cif(record: CrystalRecord) -> str:
    text: str = record.to_structure().to(fmt="cif")
    return text


def _table(chosen: _Chosen, last: str, values: Sequence[str]) -> bytes:
    """The properties as CSV, with one more column."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*PROPERTIES, last])
    for (result, record), value in zip(chosen, values, strict=True):
        writer.writerow([*_properties(result, record).values(), value])
    return stream.getvalue().encode()


_FORMATS: dict[str, Callable[[_Chosen], bytes]] = {
    ".extxyz": _extxyz,
    ".xyz": _extxyz,
    ".zip": _cif_zip,
    ".csv": _csv,
    ".json": _json,
}


def format_of(out: Path) -> Callable[[_Chosen], bytes]:
    """What makes the content of a file with this ending.

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
