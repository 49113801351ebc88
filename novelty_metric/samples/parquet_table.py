"""Format ``parquet``: a table with a column of CIF text or of pymatgen structures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Sample
from novelty_metric.samples.energies import with_energy
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.source import one_line, stem
from novelty_metric.samples.table import (
    SAMPLED_ROWS,
    energy_column,
    id_column,
    structure_column,
    value_sample,
)

_BATCH_ROWS = 256


def read(path: Path, options: ReadOptions) -> Iterator[Sample]:
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


def _read(path: Path, options: ReadOptions) -> Iterator[Sample]:
    import pyarrow as pa
    from pyarrow import parquet

    name = stem(path)
    with parquet.ParquetFile(path) as table:
        columns = table.schema_arrow.names
        candidates = [
            field.name for field in table.schema_arrow if _may_hold_crystals(pa, field.type)
        ]
        index = _find_column(path, table, columns, candidates, options)
        id_index = id_column(columns)
        energy_index = energy_column(path, columns, options.energies)
        wanted = [i for i in (index, id_index, energy_index) if i is not None]
        position = 0
        for batch in table.iter_batches(
            _BATCH_ROWS, columns=list(dict.fromkeys(columns[i] for i in wanted))
        ):
            nothing = [None] * batch.num_rows
            values, ids, energies = (
                nothing if i is None else batch.column(columns[i]).to_pylist()
                for i in (index, id_index, energy_index)
            )
            for value, own_id, energy in zip(values, ids, energies, strict=True):
                source = f"{path.name}:row {position}"
                sample = value_sample(value, own_id, f"{name}-{position}", source)
                yield with_energy(sample, energy)
                position += 1


def _find_column(
    path: Path, table: Any, columns: list[str], candidates: list[str], options: ReadOptions
) -> int:
    rows: list[list[Any]] = []
    if options.column is None and candidates:
        for batch in table.iter_batches(SAMPLED_ROWS, columns=candidates):
            values = batch.to_pydict()
            empty = [None] * batch.num_rows
            rows = [list(row) for row in zip(*(values.get(c, empty) for c in columns), strict=True)]
            break
    return structure_column(path, columns, rows, options.column, options.columns)


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
