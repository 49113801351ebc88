"""Format ``csv``: a table as text, compressed or not, with a column of CIF text or structures."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Sample
from novelty_metric.samples.energies import with_energy
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.source import MAX_MEMBER_BYTES, one_line, open_text, stem
from novelty_metric.samples.table import (
    SAMPLED_ROWS,
    energy_column,
    id_column,
    structure_column,
    value_sample,
)


def read(path: Path, options: ReadOptions) -> Iterator[Sample]:
    """The rows in order, read one at a time; rows are counted from 0, without the header.

    Raises
    ------
    InputError
        If there is no structure column, or the quotation marks are not a table's.
    """
    name = stem(path)
    with open_text(path, newline="") as file:
        header_line = file.readline(MAX_MEMBER_BYTES)
        file.seek(0)
        rows = _rows(path, csv.reader(file, delimiter=_delimiter(header_line), strict=True))
        columns = next(rows, None)
        if not isinstance(columns, list):
            raise InputError(f"{path}: the header can't be read")
        first = list(itertools.islice(rows, SAMPLED_ROWS))
        known = [row for row in first if isinstance(row, list)]
        index = structure_column(path, columns, known, options.column, options.columns)
        id_index = id_column(columns)
        energy_index = energy_column(path, columns, options.energies)
        for position, row in enumerate(itertools.chain(first, rows)):
            default_id, source = f"{name}-{position}", f"{path.name}:row {position}"
            if isinstance(row, str):
                yield Sample(default_id, None, row, source)
            elif len(row) != len(columns):
                error = f"{len(row)} fields where the header has {len(columns)}"
                yield Sample(default_id, None, error, source)
            else:
                own_id = None if id_index is None else row[id_index]
                sample = value_sample(row[index], own_id, default_id, source)
                yield sample if energy_index is None else with_energy(sample, row[energy_index])


def header(path: Path) -> list[str] | None:
    """Names of the columns; None if the header can't be read."""
    with open_text(path, newline="") as file:
        line = file.readline(MAX_MEMBER_BYTES)
        file.seek(0)
        names = next(_rows(path, csv.reader(file, delimiter=_delimiter(line), strict=True)), None)
    return names if isinstance(names, list) else None


def _delimiter(header: str) -> str:
    return max(",", "\t", ";", key=header.count)


def _rows(path: Path, reader: Iterator[list[str]]) -> Iterator[list[str] | str]:
    """Rows that are not blank; one that the end of the file cuts short is its error, in words."""
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
