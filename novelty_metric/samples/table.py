"""What CSV and Parquet tables have in common: which columns hold the crystals and their ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Sample
from novelty_metric.samples.crystals import (
    GENE_MESSAGE,
    ID_KEYS,
    STRUCTURE_KEYS,
    UnreadableCrystal,
    crystal_from_value,
    looks_like_crystal,
)
from novelty_metric.samples.source import one_line

SAMPLED_ROWS = 64
"""Rows that are looked at to find the structure column."""


def structure_column(
    path: Path,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    wanted: str | None,
    preferred: Sequence[str] = (),
) -> int:
    """Position of the column that holds the crystals.

    The one asked for, else the first of those preferred that is there. Else, of several columns
    that hold crystals, the one with the first name in `STRUCTURE_KEYS`; a column with such a name
    is taken, too, if no column holds anything readable.

    Parameters
    ----------
    columns : sequence of str
    rows : sequence of rows
        The first rows, in the order of `columns`.
    wanted : str or None
        Name asked for by the caller.
    preferred : sequence of str
        Names to look for first.

    Raises
    ------
    InputError
        If there is none, or several and no name tells which.
    """
    listed = one_line(", ".join(name or "(unnamed)" for name in columns), 300)
    if wanted is not None:
        return _position(path, columns, wanted)
    for name in preferred:
        if name in columns:
            return columns.index(name)
    holding = [
        index
        for index, _ in enumerate(columns)
        if any(len(row) > index and looks_like_crystal(row[index]) for row in rows)
    ]
    for key in STRUCTURE_KEYS:
        for index in holding or range(len(columns)):
            if columns[index].strip().lower() == key.lower():
                return index
    if len(holding) == 1:
        return holding[0]
    if holding:
        several = ", ".join(columns[index] for index in holding)
        raise InputError(f"{path}: several columns hold crystals ({several}); name one: column=")
    if {"group", "sites", "species"} <= set(columns):
        raise InputError(f"{path}: {GENE_MESSAGE}")
    raise InputError(
        f"{path}: no column holds CIF text or pymatgen structures; the columns are {listed}"
    )


def energy_column(path: Path, columns: Sequence[str], wanted: str | None) -> int | None:
    """Position of the column with the samples' energies; None if none was asked for.

    Raises
    ------
    InputError
        If there is no such column.
    """
    return None if wanted is None else _position(path, columns, wanted)


def _position(path: Path, columns: Sequence[str], wanted: str) -> int:
    if wanted in columns:
        return columns.index(wanted)
    listed = one_line(", ".join(name or "(unnamed)" for name in columns), 300)
    raise InputError(f"{path}: there is no column {wanted!r}; the columns are {listed}")


def id_column(columns: Sequence[str]) -> int | None:
    """Position of the column with the samples' own ids, if there is one."""
    lowered = [name.strip().lower() for name in columns]
    return next((lowered.index(key) for key in ID_KEYS if key in lowered), None)


def value_sample(value: Any, own_id: Any, default_id: str, source: str) -> Sample:
    """The sample of one value; its own id is kept unless it is blank."""
    text = "" if own_id is None else str(own_id).strip()
    sample_id = default_id if text.lower() in ("", "nan", "none") else text
    try:
        return Sample(sample_id, crystal_from_value(value), None, source)
    except UnreadableCrystal as error:
        return Sample(sample_id, None, str(error), source)
