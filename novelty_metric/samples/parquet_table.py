"""Format ``parquet``: a table with a column of CIF text or of pymatgen structures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.crystals import crystal_from_value
from novelty_metric.samples.energies import finite_energy
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.ids import id_text
from novelty_metric.samples.source import one_line
from novelty_metric.samples.table import SAMPLED_ROWS, TableColumns, find_columns

if TYPE_CHECKING:
    from pymatgen.core import Structure

_BATCH_ROWS = 256


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The rows in order, read batch by batch; rows are counted from 0.

    Raises
    ------
    InputError
        If the file is damaged or there is no structure column.
    """
    import pyarrow as pa

    try:
        yield from _read(path, options)
    except pa.ArrowException as error:
        raise InputError(f"{path}: damaged or cut short ({one_line(error)})") from error


def _read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path) as table:
        schema = table.schema_arrow
        columns = _find_columns(path, table, options)
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


def _find_columns(path: Path, table: Any, options: ReadOptions) -> TableColumns:
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


def count(path: Path, options: ReadOptions) -> int | None:
    """Number of rows, from the file's footer."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except pa.ArrowException as error:
        raise InputError(f"{path}: damaged or cut short ({one_line(error)})") from error
