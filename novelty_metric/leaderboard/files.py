"""Files of strangers: inside the folder, of limited size, data only."""

from __future__ import annotations

import io
import stat
from pathlib import Path, PurePosixPath

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.leaderboard.submission import MAX_ROWS
from novelty_metric.verdict import CrystalResult

MAX_TABLE_BYTES = 20 * 2**20
MAX_TABLE_UNPACKED = 200 * 2**20


def read_inside(root: Path, name: str, *, most: int) -> bytes:
    """The content of a file of the folder; its size is looked at first, and links are refused.

    `InputError` if the file is missing, outside of the folder, behind a link, no file, or has more
    than `most` bytes.
    """
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or {"..", "."} & set(parts) or "\\" in name:
        raise InputError(f"{name} is outside of the folder; name a file in it")
    path = root
    try:
        for part in parts:
            path = path / part
            if stat.S_ISLNK(path.lstat().st_mode):
                raise InputError(
                    f"{name} is a link, or in a linked folder; replace it by the file itself"
                )
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{name} is not a file")
        if found.st_size > most:
            raise InputError(f"{name} has {found.st_size:,} bytes; at most {most:,} are allowed")
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise InputError(f"{name} can't be read ({error.strerror or error})") from error
    except ValueError as error:  # a name that can be none
        raise InputError(f"{name!r} is not a valid file name") from error
    if len(content) > most:
        raise InputError(f"{name} has more than {most:,} bytes")
    return content


def verdict_rows(content: bytes, unreadable: tuple[int, ...] = ()) -> tuple[CrystalResult, ...]:
    """The rows of a table of verdicts, whose columns must be exactly those of a report.

    `InputError` if the table has other columns or types, values that a report never holds, or is
    too large once unpacked.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from novelty_metric.report.files import LATER_COLUMNS, rows_of_table, verdict_schema

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        metadata = file.metadata
        size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        if metadata.num_rows > MAX_ROWS or size > MAX_TABLE_UNPACKED:
            raise InputError(f"it has {metadata.num_rows:,} rows, {size:,} bytes: too many")
        columns = {column.name: column.type for column in file.schema_arrow}
        expected = {
            column.name: column.type
            for column in verdict_schema()
            if column.name in columns or column.name not in LATER_COLUMNS
        }
        if columns != expected or len(file.schema_arrow) != len(expected):
            odd = sorted(set(columns.items()) ^ set(expected.items()), key=str)
            raise InputError(
                f"its columns are not those of a verdicts.parquet ({odd[0][0] if odd else 'twice'})"
            )
        # A process that ends at once, as after an error, must not meet a reading thread.
        table = file.read(use_threads=False)
        return rows_of_table(table, unreadable=frozenset(unreadable))
    except (pa.ArrowException, OSError) as error:
        raise InputError("it is not a Parquet file, or it is damaged") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"a value cannot be in a verdicts.parquet ({first_line(error)})"
        ) from error
