"""Selection of a report's crystals for analyses of structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from novelty_metric.crystal_records import CrystalRecord
from novelty_metric.errors import InputError
from novelty_metric.verdict import CrystalResult

if TYPE_CHECKING:
    from novelty_metric.report.novelty_report import NoveltyReport


def analyzed_crystals(report: NoveltyReport) -> list[tuple[CrystalResult, CrystalRecord]]:
    """The eligible crystals, each with the cell that was compared, else the generated cell.

    Raises
    ------
    InputError
        If there are eligible crystals, and the report holds the cell of none.
    """
    found = []
    for result in report.eligible:
        kept = result.structures
        record = None if kept is None else kept.relaxed or kept.generated
        if record is not None:
            found.append((result, record))
    if report.eligible and not found:
        raise InputError(
            "the report contains no crystals; read it with NoveltyReport.load(folder, "
            "structures=True)"
        )
    return found
