"""Format ``csv``: a table as text, compressed or not, with a column of CIF text or structures."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.source import MAX_MEMBER_BYTES, one_line, open_text
from novelty_metric.samples.table import SAMPLED_ROWS, find_columns


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
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


def header(path: Path) -> list[str] | None:
    """Names of the columns; None if the header can't be read."""
    with open_text(path, newline="") as file:
        names = next(_table_rows(path, file), None)
    return names if isinstance(names, list) else None


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
