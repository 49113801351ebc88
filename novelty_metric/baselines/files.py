"""The crystals of a null model in one file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from novelty_metric.baselines.base import NullCrystal
from novelty_metric.crystal_records import CrystalRecord


def write(crystals: Iterable[NullCrystal], out: Path) -> None:
    """Write crystals with id, ``made_from`` (the parent) and ``exchanged``.

    Raises
    ------
    InputError
        If the ending is not known, or the file can't be written.
    """
    from novelty_metric.report.crystal_files import write_crystals

    write_crystals(
        out,
        [
            (
                {
                    "id": crystal.id,
                    "made_from": crystal.parent_id,
                    "exchanged": crystal.exchanged or None,
                },
                CrystalRecord.of(crystal.structure),
            )
            for crystal in crystals
        ],
    )
