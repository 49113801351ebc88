"""The relaxed crystals of a report, and crystals with properties in one file.

A crystal is the one that was compared: relaxed if the run relaxes, primitive and Niggli-reduced.
Samples without one, such as unreadable ones, are left out. pymatgen and ASE are imported when
crystals are written.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.crystal_records import CrystalRecord
from novelty_metric.errors import InputError
from novelty_metric.report.explanation import folder_name
from novelty_metric.support.folders import write_atomically, writing
from novelty_metric.verdict import UNDER_BOTH, CrystalResult, Verdict

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from novelty_metric.report.novelty_report import NoveltyReport

Crystals = Sequence[tuple[Mapping[str, Any], CrystalRecord]]
"""The properties of each crystal, including ``id`` (the same keys for all), and the crystal."""

PROPERTIES = ("id", "verdict", "eligible", "energy", "energy_per_atom", "e_above_hull", "parent")
"""Properties of each exported crystal; `energy` is that of the whole cell (eV)."""


def to_be_shown(report: NoveltyReport, count: int) -> list[str]:
    """Ids of some scored crystals: the verdicts take turns, beginning with unmatched."""
    order = (Verdict.UNMATCHED, Verdict.SUBSTITUTED, Verdict.DUPLICATE, Verdict.UNDECIDED)
    ids = [[row.id for row in report.results if row.verdict is verdict] for verdict in order]
    in_turn = chain.from_iterable(zip_longest(*ids))
    return list(islice((name for name in in_turn if name is not None), count))


def structures_of(report: NoveltyReport, verdict: Verdict | str | None = None) -> list[Structure]:
    """The crystals with their properties; see `NoveltyReport.crystals`."""
    return [_structure(*crystal) for crystal in _crystals(_chosen(report, verdict))]


def export(
    report: NoveltyReport, out: Path, verdict: Verdict | str | None = None
) -> list[CrystalResult]:
    """Write the crystals of a verdict, by default all, to one file, see `write_crystals`.

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
    format_of(out)
    chosen = [row for row in _chosen(report, verdict) if _has_crystal(row)]
    if not chosen:
        counts = ", ".join(f"{count} {name}" for name, count in report.counts_all.items())
        what = "crystal" if verdict is None else f"{verdict} crystal"
        raise InputError(f"there is no {what} to write; samples per verdict: {counts}")
    write_crystals(out, _crystals(chosen))
    return chosen


def extxyz(results: Iterable[CrystalResult]) -> str:
    """The crystals of these rows as extended XYZ, one frame each; positions to 1e-8 Å."""
    return _extxyz(_crystals(results)).decode()


def _chosen(report: NoveltyReport, verdict: Verdict | str | None) -> list[CrystalResult]:
    known = [*Verdict, UNDER_BOTH]
    if verdict is not None and verdict not in known:
        raise InputError(f"no verdict {str(verdict)!r}; known: {', '.join(known)}")
    if report.n_read and all(result.structures is None for result in report.results):
        raise InputError(
            "the report contains no crystals; read it with NoveltyReport.load(folder, "
            "structures=True), or score again if the run kept none"
        )
    if verdict != UNDER_BOTH:
        return [result for result in report.results if verdict in (None, result.verdict)]
    if report.second_potential is None:
        raise InputError(
            f"the run has one potential; {UNDER_BOTH} needs a run with second_potential="
        )
    return [row for row in report.results if row.unmatched_under_both]


def _has_crystal(row: CrystalResult) -> bool:
    return row.structures is not None and row.structures.relaxed is not None


def _crystals(rows: Iterable[CrystalResult]) -> Crystals:
    found = []
    for row in rows:
        record = None if row.structures is None else row.structures.relaxed
        if record is not None:
            verdict, per_atom = row.verdict, row.energy_per_atom
            values = (
                *(row.id, None if verdict is None else verdict.value, row.eligible),
                None if per_atom is None else per_atom * len(record.numbers),
                *(per_atom, row.e_above_hull, row.parent_id),
            )
            found.append((dict(zip(PROPERTIES, values, strict=True)), record))
    return found


# Files


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
    form = format_of(out)
    with writing(f"out={out}", out.parent):
        write_atomically(out, form(crystals))


def _structure(properties: Mapping[str, Any], record: CrystalRecord) -> Structure:
    structure = record.to_structure()
    structure.properties = dict(properties)
    return structure


def _extxyz(crystals: Crystals) -> bytes:
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
        line = key_val_dict_to_str({"text": written, "next": 1})
        back = key_val_str_to_dict(line).get("text")
        if isinstance(back, str) and back == text:
            return written
    return f"_JSON {json.dumps(text)}".replace("\\", "\\\\")


def _json(crystals: Crystals) -> bytes:
    # The id once more, where readers of records look for it.
    content = [{"id": crystal[0]["id"], **_structure(*crystal).as_dict()} for crystal in crystals]
    return (json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _cif_zip(crystals: Crystals) -> bytes:
    names = [f"{folder_name(properties['id'])}.cif" for properties, _ in crystals]
    files = dict(zip(names, map(str.encode, _cifs(crystals)), strict=True))
    files["crystals.csv"] = _table(crystals, "file", names)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            # Without the time, so that the same crystals give the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _cifs(crystals: Crystals) -> list[str]:
    return [record.to_structure().to(fmt="cif") for _, record in crystals]


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
    ".extxyz": _extxyz,
    ".xyz": _extxyz,
    ".zip": _cif_zip,
    ".csv": lambda crystals: _table(crystals, "cif", _cifs(crystals)),
    ".json": _json,
}


def format_of(out: Path) -> Callable[[Crystals], bytes]:
    """The function that makes the content of a file with this ending.

    `InputError` if the ending is not known, or the path is a folder.
    """
    form = _FORMATS.get(out.suffix.lower())
    if form is None:
        raise InputError(
            f"out={out} has no known format; name a file that ends in {', '.join(_FORMATS)}"
        )
    if out.is_dir():
        raise InputError(f"out={out} is a folder; name a file")
    return form
