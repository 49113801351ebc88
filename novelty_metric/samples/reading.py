"""Reading any of the formats: `read_samples` and `count_hint`.

Standard library only; what a format needs is imported when a file of it is read.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Sample
from novelty_metric.samples.detect import detect_format
from novelty_metric.samples.formats import FORMATS, ArrayConvention, Format, ReadOptions
from novelty_metric.samples.source import READ_ERRORS, damaged


def read_samples(
    path: Path | str,
    *,
    format: str | None = None,
    column: str | None = None,
    columns: Sequence[str] = (),
    energies: str | None = None,
    arrays: ArrayConvention | None = None,
    allow_pickle: bool = False,
    limit: int | None = None,
    seed: int | None = None,
) -> Iterator[Sample]:
    """The crystals that a model wrote, in the order of the file, none left out.

    A crystal that can't be read is a sample without a structure and with a one-line error. Whether
    a crystal that was read can be scored is for `novelty_metric.crystal.clean` to say.

    Parameters
    ----------
    path : path or str
        File or folder, in one of `FORMATS`.
    format : str, optional
        Name of the format; found by the file's contents if not given.
    column : str, optional
        Column of a table that holds the crystals; found if not given.
    columns : sequence of str
        Columns of a table to look for first; those that are not there, and files that are no
        tables, do no harm.
    energies : str, optional
        Column of a table, key of a JSON record, or key in the comment line of an extxyz frame that
        holds the energy of each crystal (eV); none is read unless it is named.
    arrays : ArrayConvention, optional
        What the arrays of a ``.pt`` file mean; by default degrees, Å and fractional coordinates.
    allow_pickle : bool
        Let a ``.pt`` file make any Python object. It can run code: only for files you trust.
    limit : int, optional
        Give the first so many crystals.
    seed : int, optional
        With `limit`: give that many drawn at random instead, each one as likely, in the order of
        the file. The same file, limit and seed give the same crystals.

    Yields
    ------
    Sample
        Its id is the sample's own (a column or key ``id``, else ``material_id``; the key of a JSON
        mapping); else, of a CIF file, its name without ``.cif`` and folders; else
        ``<file name without suffix>-<position>``, counted from 0, also for the data blocks of a CIF
        that holds several. An id that was there before gets ``__2``, ``__3``…

    Raises
    ------
    InputError
        At the call, if the file is missing, empty, in no known format, damaged, or holds no
        crystal; while reading, if it turns out to be cut short.
    """
    path = Path(path)
    if limit is not None and (isinstance(limit, bool) or limit < 1):
        raise InputError(f"limit is {limit!r}; it must be a whole number above 0")
    if seed is not None and limit is None:
        raise InputError(f"seed is {seed}, but nothing is drawn; say how many with limit=N")
    options = _options(column, columns, arrays, energies, allow_pickle=allow_pickle)
    entry = _entry(path, format, options)
    samples = _unique(_guarded(entry.read(path, options), path))
    first = next(samples, None)
    if first is None:
        raise InputError(f"{path}: holds no crystal")
    every = itertools.chain([first], samples)
    return itertools.islice(every, limit) if seed is None else _drawn(every, limit or 0, seed)


def _drawn(samples: Iterator[Sample], count: int, seed: int) -> Iterator[Sample]:
    """That many at random, in order; all where there are no more."""
    every = list(samples)
    rows = random.Random(seed).sample(range(len(every)), min(count, len(every)))
    yield from (every[row] for row in sorted(rows))


def count_hint(
    path: Path | str,
    *,
    format: str | None = None,
    column: str | None = None,
    columns: Sequence[str] = (),
    energies: str | None = None,
    arrays: ArrayConvention | None = None,
    allow_pickle: bool = False,
    limit: int | None = None,
) -> int | None:
    """How many samples `read_samples` will give, for a progress bar; None if not cheap to tell.

    Every member of an archive or folder counts as one. The parameters are those of `read_samples`.

    Raises
    ------
    InputError
        If the file is missing, empty, in no known format, or damaged.
    """
    path = Path(path)
    options = _options(column, columns, arrays, energies, allow_pickle=allow_pickle)
    entry = _entry(path, format, options)
    try:
        n_samples = entry.count(path, options)
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    return n_samples if n_samples is None or limit is None else min(n_samples, limit)


def table_columns(path: Path | str, format: str) -> list[str] | None:
    """Names of the columns of a table; None for what is no table, or has no header to be read."""
    path = Path(path)
    try:
        if format == "csv":
            from novelty_metric.samples.csv_table import header

            return header(path)
        if format == "parquet":
            import pyarrow.parquet as pq

            return list(pq.read_schema(path).names)
    except (*READ_ERRORS, InputError):  # reading it will say what is wrong
        pass
    return None


def _options(
    column: str | None,
    columns: Sequence[str],
    arrays: ArrayConvention | None,
    energies: str | None,
    *,
    allow_pickle: bool,
) -> ReadOptions:
    return ReadOptions(
        column=column,
        energies=energies,
        columns=tuple(columns),
        arrays=arrays or ArrayConvention(),
        allow_pickle=allow_pickle,
    )


def _entry(path: Path, format: str | None, options: ReadOptions) -> Format:
    found = detect_format(path) if format is None else format
    if found not in FORMATS:
        raise InputError(f"no format named {found!r}; known: {', '.join(FORMATS)}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    entry = FORMATS[found]
    if options.column is not None and not entry.takes_column:
        raise InputError(f"{path}: column={options.column} is for tables, and this is {found}")
    if options.energies is not None and not entry.takes_energies:
        known = ", ".join(one.name for one in FORMATS.values() if one.takes_energies)
        raise InputError(
            f"{path}: energies={options.energies}, but {found} has no place for energies; "
            f"these have: {known}"
        )
    return entry


def _guarded(samples: Iterator[Sample], path: Path) -> Iterator[Sample]:
    """The samples, with what a damaged file raises turned into one line."""
    n_read = 0
    try:
        for sample in samples:
            n_read += 1
            yield sample
    except READ_ERRORS as error:
        raise damaged(path, error, n_read) from error


def _unique(samples: Iterator[Sample]) -> Iterator[Sample]:
    """The samples, an id that was there before made a new one."""
    seen: dict[str, int] = {}
    for sample in samples:
        new_id = sample.id
        while new_id in seen:
            seen[sample.id] += 1
            new_id = f"{sample.id}__{seen[sample.id]}"
        seen[new_id] = 1
        yield sample if new_id == sample.id else dataclasses.replace(sample, id=new_id)
