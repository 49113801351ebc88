"""Formats ``csv`` and ``parquet``: tables with a column of CIF text or of pymatgen structures.

The columns with the crystals, their ids and energies are found by names and content.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

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
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.ids import (
    finite_energy,
    id_names_in,
    id_text,
    listed_names,
    no_such_name,
    plain_name,
    wanted_name,
)
from novelty_metric.samples.members import member_kind, member_text, without_suffix
from novelty_metric.samples.source import MAX_MEMBER_BYTES, READ_ERRORS, one_line, open_text

if TYPE_CHECKING:
    from pymatgen.core import Structure

SAMPLED_ROWS = 64
"""Number of rows searched for the structure column."""

_BATCH_ROWS = 256
_LONGEST_PATH = 4096


def read_csv(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The rows in order, read one at a time; rows are counted from 0, without the header.

    Raises
    ------
    InputError
        If there is no structure column, or the quotation marks are not a table's.
    """
    with open_text(path, newline="") as file:
        rows = _table_rows(path, file)
        names = next(rows, None)
        if not isinstance(names, list):
            raise InputError(f"{path}: the header can't be read")
        first = list(itertools.islice(rows, SAMPLED_ROWS))
        known = [row for row in first if isinstance(row, list)]
        columns = find_columns(path, names, known, options)
        for position, row in enumerate(itertools.chain(first, rows)):
            place = f"row {position}"
            if isinstance(row, str):
                yield Entry.unreadable(None, place, row)
            elif len(row) != len(names):
                error = f"{len(row)} fields where the header has {len(names)}"
                yield Entry.unreadable(None, place, error)
            else:
                own_id, energy = (
                    None if index is None else row[index]
                    for index in (columns.ids, columns.energies)
                )
                yield columns.entry(row[columns.crystals], own_id, energy, place)


def _table_rows(path: Path, file: IO[str]) -> Iterator[list[str] | str]:
    """The header and the rows of an open file."""
    line = file.readline(MAX_MEMBER_BYTES)
    file.seek(0)
    return _rows(path, csv.reader(file, delimiter=max(",\t;", key=line.count), strict=True))


def _rows(path: Path, reader: Iterator[list[str]]) -> Iterator[list[str] | str]:
    """The non-blank rows; for a row cut short by the end of the file, the error message."""
    while True:
        # The limit is one for the whole process: it is lifted for this call alone.
        limit = csv.field_size_limit(MAX_MEMBER_BYTES)
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                yield "the file ends inside a quoted field: it is cut short"
                return
            line = getattr(reader, "line_num", "?")
            raise InputError(f"{path}: line {line} is not CSV ({one_line(error)})") from error
        finally:
            csv.field_size_limit(limit)
        if row:
            yield row


# Parquet


def read_parquet(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The rows in order, read batch by batch; rows are counted from 0.

    Raises
    ------
    InputError
        If the file is damaged or there is no structure column.
    """
    import pyarrow as pa

    try:
        yield from _rows_of_parquet(path, options)
    except pa.ArrowException as error:
        raise InputError(f"{path}: damaged or cut short ({one_line(error)})") from error


def _rows_of_parquet(path: Path, options: ReadOptions) -> Iterator[Entry]:
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path) as table:
        schema = table.schema_arrow
        columns = _columns_of_parquet(path, table, options)
        asked = (columns.crystals, columns.ids, columns.energies)
        wanted = [index for index in asked if index is not None]
        nested = pa.types.is_nested(schema.types[columns.crystals])
        position = 0
        for batch in _batches(table, wanted, _BATCH_ROWS):
            found = dict(zip(wanted, batch, strict=True))
            values = found[columns.crystals]
            nothing = [None] * len(values)
            ids, energies = (
                nothing if index is None else _plain(found[index])
                for index in (columns.ids, columns.energies)
            )
            # Text is cheap to have; of a nested column only what is parsed is made into objects.
            crystals = values if nested else values.to_pylist()
            for value, own_id, energy in zip(crystals, ids, energies, strict=True):
                place = f"row {position}"
                if nested:
                    parse = partial(_nested_crystal, value)
                    yield Entry(id_text(own_id), place, parse, finite_energy(energy))
                else:
                    yield columns.entry(value, own_id, energy, place)
                position += 1


def _nested_crystal(scalar: Any) -> Structure:
    return crystal_from_value(scalar.as_py())


def _plain(column: Any) -> list[Any]:
    """Values of a column; single-precision values with their own digits, not as doubles."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
        return [value and float(str(value)) for value in column.to_numpy(zero_copy_only=False)]
    values: list[Any] = column.to_pylist()
    return values


def _batches(table: Any, wanted: Sequence[int], size: int) -> Iterator[list[Any]]:
    """The columns at these positions, in batches of rows; two columns can have the same name."""
    names = table.schema_arrow.names
    asked = {names[index] for index in wanted}
    for batch in table.iter_batches(size, columns=sorted(asked)):
        given: dict[str, list[Any]] = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            given.setdefault(name, []).append(column)
        yield [given[names[index]][names[:index].count(names[index])] for index in wanted]


def _columns_of_parquet(path: Path, table: Any, options: ReadOptions) -> TableColumns:
    import pyarrow as pa

    schema = table.schema_arrow
    rows: list[list[Any]] = []
    candidates = [i for i, kind in enumerate(schema.types) if _may_hold_crystals(pa, kind)]
    if options.column is None and candidates:
        for columns in _batches(table, candidates, SAMPLED_ROWS):
            values = {i: column.to_pylist() for i, column in zip(candidates, columns, strict=True)}
            empty = [None] * len(columns[0])
            rows = [
                list(row)
                for row in zip(*(values.get(i, empty) for i in range(len(schema))), strict=True)
            ]
            break
    return find_columns(path, schema.names, rows, options)


def _may_hold_crystals(pa: Any, kind: Any) -> bool:
    kind = getattr(kind, "value_type", kind) if pa.types.is_dictionary(kind) else kind
    is_kind = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_struct,
    )
    return any(check(kind) for check in is_kind)


def count_parquet(path: Path, options: ReadOptions) -> int | None:
    """Number of rows, from the file's footer."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except pa.ArrowException as error:
        raise InputError(f"{path}: damaged or cut short ({one_line(error)})") from error


# Columns


def table_columns(path: Path | str, format: str) -> list[str] | None:
    """Names of the columns of a table; None if it is not a table or its header is unreadable."""
    path = Path(path)
    try:
        if format == "csv":
            with open_text(path, newline="") as file:
                names = next(_table_rows(path, file), None)
            return names if isinstance(names, list) else None
        if format == "parquet":
            import pyarrow.parquet as pq

            return list(pq.read_schema(path).names)
    except (*READ_ERRORS, InputError):  # reading it will say what is wrong
        pass
    return None


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Positions of the columns with the crystals (or paths of CIF files), ids and energies.

    `folder` is that of the table, below which the CIF files that it names have to be.
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
    """Find the columns with the crystals, the ids and, on request, the energies, by the first rows.

    Raises
    ------
    InputError
        If there is no column with crystals, several and no name tells which, none of the name
        asked for, or two of the name that is meant.
    """
    crystals = _structure_column(path, columns, rows, options)
    ids = _named_column(path, columns, options.id_column, "id_column")
    if options.id_column is None and (names := id_names_in(columns)):
        ids = _only(path, columns, names[0])
    energies = _named_column(path, columns, options.energies, "energies")
    return TableColumns(crystals, ids, energies, path.parent)


def _structure_column(
    path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]], options: ReadOptions
) -> int:
    """Position of the column that holds the crystals.

    The one asked for, else the first of those preferred that is there. Else, of several columns
    that hold crystals, the one with the first name in `STRUCTURE_KEYS`; if none does, the same of
    columns that hold paths of CIF files; a column with such a name is taken, too, if no column
    holds anything readable.
    """
    if options.column is not None and options.column not in columns:
        known = listed_names(columns)
        raise InputError(f"{path}: there is no column {options.column!r}; the columns are {known}")
    for name in options.columns if options.column is None else [options.column]:
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
            f"{path}: several columns contain crystals ({', '.join(several)}); name one: column="
        )
    if {"group", "sites", "species"} <= set(columns):
        raise InputError(f"{path}: {GENE_MESSAGE}")
    raise InputError(
        f"{path}: no column contains CIF text, paths of CIF files or pymatgen structures; the "
        f"columns are {listed_names(columns)}"
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


def _named_column(
    path: Path, columns: Sequence[str], wanted: str | None, setting: str
) -> int | None:
    if wanted is None:
        return None
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


def looks_like_path(value: Any) -> bool:
    """True if a cell holds the path of a CIF file."""
    text = _text(value)
    return len(text) < _LONGEST_PATH and "\n" not in text and member_kind(text) == "cif"


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
