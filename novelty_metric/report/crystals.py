"""The relaxed crystals of a report, and their export to files.

A crystal is the one that was compared: relaxed if the run relaxes, primitive and Niggli-reduced.
Samples without one, such as unreadable ones, are left out. Imported only when crystals are asked
for: pymatgen and ASE are needed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.crystal_records import CrystalRecord
from novelty_metric.errors import InputError
from novelty_metric.report import crystal_files
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
"""Properties of each exported crystal; `energy` is that of the whole cell (eV)."""


def to_be_shown(report: NoveltyReport, count: int) -> list[str]:
    """Ids of some scored crystals: the verdicts take turns, beginning with unmatched."""
    order = (Verdict.UNMATCHED, Verdict.SUBSTITUTED, Verdict.DUPLICATE, Verdict.UNDECIDED)
    ids = [[row.id for row in report.results if row.verdict is verdict] for verdict in order]
    in_turn = chain.from_iterable(zip_longest(*ids))
    return list(islice((name for name in in_turn if name is not None), count))


def structures_of(report: NoveltyReport, verdict: Verdict | str | None = None) -> list[Structure]:
    """The crystals with their properties; see `NoveltyReport.crystals`."""
    return [
        crystal_files.structure_with(_properties(result, record), record)
        for result, record in _chosen(report, verdict)
    ]


def export(
    report: NoveltyReport, out: Path, verdict: Verdict | str | None = None
) -> list[CrystalResult]:
    """Write the crystals to one file; the file name's ending selects the format.

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
    crystal_files.format_of(out)
    chosen = _chosen(report, verdict)
    if not chosen:
        counts = ", ".join(f"{count} {name}" for name, count in report.counts_all.items())
        what = "crystal" if verdict is None else f"{verdict} crystal"
        raise InputError(f"there is no {what} to write; samples per verdict: {counts}")
    crystal_files.write_crystals(
        out, [(_properties(result, record), record) for result, record in chosen]
    )
    return [result for result, _ in chosen]


def extxyz(results: Iterable[CrystalResult]) -> str:
    """The crystals of these rows as extended XYZ, one frame each; positions to 1e-8 Å."""
    crystals = [(_properties(*found), found[1]) for found in _with_crystal(results)]
    return crystal_files.extxyz(crystals).decode()


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
            "the report contains no crystals; read it with NoveltyReport.load(folder, "
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
