"""Parts that CSV and Parquet tables share: finding the columns with the crystals and their ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.crystals import (
    GENE_MESSAGE,
    STRUCTURE_KEYS,
    UnreadableCrystal,
    crystal_from_cif,
    crystal_from_value,
    looks_like_crystal,
)
from novelty_metric.samples.energies import finite_energy
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.ids import id_names_in, id_text, no_such_name, plain_name, wanted_name
from novelty_metric.samples.members import is_cif_name, member_text, without_suffix
from novelty_metric.samples.source import one_line

if TYPE_CHECKING:
    from pymatgen.core import Structure

SAMPLED_ROWS = 64
"""Number of rows searched for the structure column."""

_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Positions of the columns to read.

    Attributes
    ----------
    crystals : int
        Position of the column with the crystals, or with the paths of their CIF files.
    ids : int or None
        Position of the column with the samples' own ids.
    energies : int or None
        Position of the column with the samples' own energies.
    folder : path
        Folder of the table, below which the CIF files that it names have to be.
    """

    crystals: int
    ids: int | None
    energies: int | None
    folder: Path

    def entry(self, value: Any, own_id: Any, energy: Any, place: str) -> Entry:
        """The entry of a row. A missing column has the value None."""
        sample_id, own_energy = id_text(own_id), finite_energy(energy)
        if not looks_like_path(value):
            return Entry(sample_id, place, partial(crystal_from_value, value), own_energy)
        name = _text(value)
        parse = partial(_crystal_from_file, self.folder, name)
        return Entry(sample_id or without_suffix(name), place, parse, own_energy)


def find_columns(
    path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]], options: ReadOptions
) -> TableColumns:
    """Find the columns with the crystals, the ids and, on request, the energies.

    Parameters
    ----------
    columns : sequence of str
    rows : sequence of rows
        The first rows, in the order of `columns`.

    Raises
    ------
    InputError
        If there is no column with crystals, several and no name tells which, none of the name
        asked for, or two of the name that is meant.
    """
    crystals = _structure_column(path, columns, rows, options.column, options.columns)
    ids = _id_column(path, columns, options.id_column)
    energies = None
    if options.energies is not None:
        energies = _named_column(path, columns, options.energies, "energies")
    return TableColumns(crystals, ids, energies, path.parent)


def _structure_column(
    path: Path,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    wanted: str | None,
    preferred: Sequence[str],
) -> int:
    """Position of the column that holds the crystals.

    The one asked for, else the first of those preferred that is there. Else, of several columns
    that hold crystals, the one with the first name in `STRUCTURE_KEYS`; if none does, the same of
    columns that hold paths of CIF files; a column with such a name is taken, too, if no column
    holds anything readable.
    """
    if wanted is not None:
        if wanted not in columns:
            raise InputError(
                f"{path}: there is no column {wanted!r}; the columns are {_listed(columns)}"
            )
        return _only(path, columns, wanted)
    for name in preferred:
        if name in columns:
            return _only(path, columns, name)
    holding = _holding(looks_like_crystal, columns, rows)
    holding = holding or _holding(looks_like_path, columns, rows)
    for key in STRUCTURE_KEYS:
        alike = [
            index
            for index in holding or range(len(columns))
            if plain_name(columns[index]) == plain_name(key)
        ]
        if alike:
            _refuse_twins(path, [columns[index] for index in alike], columns[alike[0]])
            return alike[0]
    if len(holding) == 1:
        return holding[0]
    if holding:
        several = [columns[index] for index in holding]
        _refuse_twins(path, several, several[0])
        raise InputError(
            f"{path}: several columns hold crystals ({', '.join(several)}); name one: column="
        )
    if {"group", "sites", "species"} <= set(columns):
        raise InputError(f"{path}: {GENE_MESSAGE}")
    raise InputError(
        f"{path}: no column holds CIF text, paths of CIF files or pymatgen structures; the columns "
        f"are {_listed(columns)}"
    )


def _holding(
    test: Callable[[Any], bool], columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[int]:
    """Positions of the columns whose value in this row passes the test."""
    return [
        index
        for index, _ in enumerate(columns)
        if any(len(row) > index and test(row[index]) for row in rows)
    ]


def _id_column(path: Path, columns: Sequence[str], wanted: str | None) -> int | None:
    if wanted is None:
        names = id_names_in(columns)
        return _only(path, columns, names[0]) if names else None
    return _named_column(path, columns, wanted, "id_column")


def _named_column(path: Path, columns: Sequence[str], wanted: str, setting: str) -> int:
    name = wanted_name(columns, wanted)
    if name is None:
        raise InputError(no_such_name(path, setting, wanted, columns, "column"))
    return _only(path, columns, name)


def _only(path: Path, columns: Sequence[str], name: str) -> int:
    _refuse_twins(path, columns, name)
    return columns.index(name)


def _refuse_twins(path: Path, columns: Sequence[str], name: str) -> None:
    """Refuse a column whose name is not unique."""
    if list(columns).count(name) > 1:
        raise InputError(f"{path}: two columns are called {name!r}; rename one of them")


def _listed(columns: Sequence[str]) -> str:
    return one_line(", ".join(name or "(unnamed)" for name in columns), 300)


def looks_like_path(value: Any) -> bool:
    """True if a cell holds the path of a CIF file."""
    text = _text(value)
    return len(text) < _LONGEST_PATH and "\n" not in text and is_cif_name(text)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value[: _LONGEST_PATH + 1].decode("utf-8", "replace")
    return value.strip() if isinstance(value, str) else ""


def _crystal_from_file(folder: Path, name: str) -> Structure:
    """The crystal of a CIF file named in a table."""
    path = (folder / name.replace("\\", "/")).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UnreadableCrystal(
            f"{one_line(name, 100)}: outside the folder of the table; only files below it are read"
        )
    if not path.is_file():
        raise UnreadableCrystal(f"{one_line(name, 100)}: no such file in the folder of the table")
    return crystal_from_cif(member_text(lambda: path.open("rb")))
