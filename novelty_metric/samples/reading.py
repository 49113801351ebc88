"""Reading files of any supported format: `read_samples` and `count_hint`.

Standard library only; what a format needs is imported when a file of it is read.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry, Sample
from novelty_metric.samples.detect import detect_format
from novelty_metric.samples.draw import drawn_rows
from novelty_metric.samples.formats import FORMATS, ArrayConvention, Format, ReadOptions
from novelty_metric.samples.source import READ_ERRORS, damaged, stem

Paths = Path | str | Sequence[Path | str]


def read_samples(
    path: Paths,
    *,
    format: str | None = None,
    column: str | None = None,
    columns: Sequence[str] = (),
    id_column: str | None = None,
    energies: str | None = None,
    arrays: ArrayConvention | None = None,
    allow_pickle: bool = False,
    limit: int | None = None,
    seed: int | None = None,
) -> Iterator[Sample]:
    """Read all crystals that a model wrote, in the order of the files.

    A crystal that cannot be read is a sample without a structure, with a one-line error.
    `novelty_metric.crystal.clean` decides whether a crystal can be scored.

    Parameters
    ----------
    path : path, str or sequence of them
        File or folder, in one of `FORMATS`; several are read one after the other.
    format : str, optional
        Name of the format; by default detected from the content.
    column : str, optional
        Column of a table with the crystals; by default detected.
    columns : sequence of str
        Columns of a table to try first; missing columns, and files that are not tables, are
        ignored.
    id_column : str, optional
        Column of a table, or key of a JSON record or of the comment line of an extxyz frame, that
        holds the samples' own ids. Default: the first existing one of
        `novelty_metric.samples.ids.ID_NAMES`, regardless of case, spaces, hyphens and underscores.
    energies : str, optional
        The same for the samples' own energies (eV); by default no energies are read.
    arrays : ArrayConvention, optional
        What the arrays of a ``.pt`` file mean; by default degrees, Å and fractional coordinates.
    allow_pickle : bool
        Unpickle a ``.pt`` file. This can run any code in it, so use it only for files you trust.
    limit : int, optional
        Read only this many crystals, from the beginning; the others are not parsed.
    seed : int, optional
        With `limit`: draw this many at random with equal probability, in the order of the files.
        The same files, limit and seed give the same crystals; a larger limit adds crystals to them.
        The other crystals are counted but not parsed.

    Yields
    ------
    Sample
        Its id is the sample's own id, letter by letter (see `id_column`; the key of a JSON
        mapping). Without one, the id of a CIF file, or of a file in a folder or archive, is its
        name without suffix, with its folders if these are several. All other ids are ``<file
        name without suffix>-<position>``, counted from 0, also for the data blocks of a CIF with
        several. If several files have the same name, the folders are part of the name. A repeated
        id gets ``__2``, ``__3``…

    Raises
    ------
    InputError
        At the call, if a file is missing, empty, damaged, in an unknown format, or without
        crystals; while reading, if it is truncated.
    """
    if limit is not None and (isinstance(limit, bool) or limit < 1):
        raise InputError(f"limit is {limit!r}; it must be a whole number above 0")
    if seed is not None and limit is None:
        raise InputError(f"seed is {seed}, but there is no limit; give limit=N, the number to draw")
    options = ReadOptions(
        column=column,
        columns=columns,
        id_column=id_column,
        energies=energies,
        arrays=arrays,
        allow_pickle=allow_pickle,
    )
    sources = _sources(path, format, options)
    for source in sources:
        source.check(keep=len(sources) == 1)
    chosen = (
        itertools.islice(_entries(sources), limit)
        if seed is None
        else _drawn(sources, limit or 0, seed)
    )
    return (entry.sample(own_id, place) for entry, own_id, place in chosen)


_Named = tuple[Entry, str, str]
"""An entry, its id, and its place among all files."""


def _drawn(sources: Sequence[_Source], count: int, seed: int) -> Iterator[_Named]:
    """The given number of entries drawn at random, in order; all if there are fewer."""
    total = sum(1 for source in sources for _ in source.entries())
    rows = set(drawn_rows(total, count, seed))
    wanted = (entry for row, entry in enumerate(_entries(sources)) if row in rows)
    yield from itertools.islice(wanted, len(rows))


def _entries(sources: Sequence[_Source]) -> Iterator[_Named]:
    """The entries of all files; a repeated id gets a new one."""
    seen: dict[str, int] = {}
    for source in sources:
        for entry, own_id, place in source.entries():
            new_id = own_id
            while new_id in seen:
                seen[own_id] += 1
                new_id = f"{own_id}__{seen[own_id]}"
            seen[new_id] = 1
            yield entry, new_id, place


@dataclasses.dataclass(slots=True)
class _Source:
    """A file or folder to read."""

    path: Path
    label: str  # its name in the place of a crystal
    format: Format
    options: ReadOptions
    opened: Iterator[Entry] | None = None  # from the first entry on, if reading has begun
    held: list[Entry] | None = None  # all entries of a file that is held in memory as a whole

    def check(self, *, keep: bool) -> None:
        """Read the first entry, so that errors appear early; `keep` goes on from there later.

        Raises
        ------
        InputError
            If there is none, or the file can't be read.
        """
        entries = self._read()
        first = next(entries, None)
        if first is None:
            raise InputError(f"{self.path}: contains no crystal")
        if keep:
            self.opened = itertools.chain([first], entries)

    def entries(self) -> Iterator[_Named]:
        """The entries in order; ids need not be unique."""
        entries: Iterable[Entry]
        entries, self.opened = self.held or self.opened or self._read(), None
        if self.format.is_whole and self.held is None:
            entries = self.held = list(entries)
        name = self.options.name or stem(self.path)
        for position, entry in enumerate(entries):
            own_id = f"{name}-{position}" if entry.id is None else entry.id
            yield entry, own_id, f"{self.label}:{entry.place}" if entry.place else self.label

    def _read(self) -> Iterator[Entry]:
        """The entries; an error from a damaged file becomes one line."""
        n_read = 0
        try:
            for entry in self.format.read(self.path, self.options):
                n_read += 1
                yield entry
        except READ_ERRORS as error:
            raise damaged(self.path, error, n_read) from error


def _sources(given: Paths, format: str | None, options: ReadOptions) -> list[_Source]:
    """The files with their formats and labels; a label is a path if names are equal."""
    paths = [Path(given)] if isinstance(given, str | Path) else [Path(item) for item in given]
    if not paths:
        raise InputError("no file of samples was given")
    sources = []
    for path, label in zip(paths, _labels(paths), strict=True):
        name = (Path(label).parent / stem(path)).as_posix()
        own = dataclasses.replace(options, name=name)
        sources.append(_Source(path, label, _format(path, format, own), own))
    return sources


def _labels(paths: Sequence[Path]) -> list[str]:
    """Names of the files; paths below their common folder if two names are equal."""
    names = [path.name or str(path) for path in paths]
    if len(set(names)) == len(names):
        return names
    whole = [path.absolute() for path in paths]
    shared = os.path.commonpath([path.parent for path in whole])
    return [path.relative_to(shared).as_posix() for path in whole]


def count_hint(
    path: Paths, *, format: str | None = None, limit: int | None = None, **options: Any
) -> int | None:
    """The number of samples that `read_samples` will give, for a progress bar; None if unknown.

    Every member of an archive or folder counts as one. The parameters are those of `read_samples`.

    Raises
    ------
    InputError
        If a file is missing, empty, in no known format, or damaged.
    """
    total = 0
    for source in _sources(path, format, ReadOptions(**options)):
        try:
            n_samples = source.format.count(source.path, source.options)
        except READ_ERRORS as error:
            raise damaged(source.path, error) from error
        if n_samples is None:
            return None
        total += n_samples
    return total if limit is None else min(total, limit)


def _format(path: Path, format: str | None, options: ReadOptions) -> Format:
    found = detect_format(path) if format is None else format
    if found not in FORMATS:
        raise InputError(f"no format named {found!r}; known: {', '.join(FORMATS)}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    entry = FORMATS[found]
    if options.column is not None and not entry.takes_column:
        raise InputError(
            f"{path}: column={options.column} is only for tables, but this file is {found}"
        )
    for setting in ("id_column", "energies"):
        name = getattr(options, setting)
        if name is not None and not entry.takes_id_column:
            raise InputError(
                f"{path}: {setting}={name} is only for tables, JSON and extxyz, but this file is "
                f"{found}"
            )
    return entry
