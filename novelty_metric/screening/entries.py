"""Computed entries of pymatgen, and the hull of a user's own entries."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.screening.compositions import CompositionKey, atomic_number, reduced_key
from novelty_metric.screening.hull import Energies, KnownHull, LowerHull, fitting_energies
from novelty_metric.screening.json_stream import json_values
from novelty_metric.support.folders import cache_folder, replacing, user_path, writing
from novelty_metric.support.progress import ProgressCallback, no_progress

KNOWN_CLASSES = ("ComputedEntry", "ComputedStructureEntry", "PDEntry")
"""Entries of pymatgen whose energy is that of the crystal itself."""

KEEP_FROM = 5_000_000
"""The content of larger files (bytes) is cached in a faster format."""

_STAGE = "read entries of the hull"
_FORMAT = "novelty-metric entries 2"


class EntryRow(NamedTuple):
    """Reduced composition and energies of a computed entry.

    `energy` is as computed, `correction` is to be added (eV/atom; 0 for an entry without any);
    `run_type` such as ``GGA+U``, empty where the entry says nothing.
    """

    key: CompositionKey
    energy: float
    correction: float
    run_type: str


def content_hash(entries: Sequence[EntryRow]) -> str:
    """SHA-256 over compositions, energies and corrections; their order does not matter."""
    lines = sorted(f"{one.key} {one.energy!r} {one.correction!r}\n" for one in entries)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def hull_of_entries(
    entries: Sequence[EntryRow], name: str, which: Energies, **description: object
) -> KnownHull:
    """The hull of entries; `description` is what else a report says of it."""
    corrected = which == Energies.CORRECTED
    lower = LowerHull.of(
        (one.key, one.energy + one.correction if corrected else one.energy) for one in entries
    )
    return KnownHull(
        lower,
        {
            "name": name,
            **description,
            "content_hash": content_hash(entries),
            "entries": len(entries),
            "energies": str(which),
            "compositions": lower.n_compositions,
            "elements": len(lower.elements),
        },
    )


@dataclass(frozen=True)
class EntriesHull:
    """The hull of a user's own computed entries.

    Parameters
    ----------
    file : path
        JSON, compressed with gzip or not: a list of ``ComputedEntry``, ``ComputedStructureEntry``
        or ``PDEntry`` as dictionaries, a mapping from ids to them, or a pandas table with a column
        of them. They must span the elements of what is scored: a compound of an element without an
        elemental entry has no hull.
    energies : str
        ``corrected`` takes each entry's energy with its corrections, ``uncorrected`` without;
        ``auto`` what fits the potential, see `novelty_metric.screening.hull.fitting_energies`.
        Where no entry has a correction, it makes no difference.
    """

    file: str | Path
    energies: str = Energies.AUTO

    def open(self, potential: str, *, progress: ProgressCallback = no_progress) -> KnownHull:
        """See `novelty_metric.screening.hull.HullSource.open`."""
        path = user_path(str(self.file))
        entries = read_entries(path, progress=progress)
        if self.energies == Energies.AUTO and not any(one.correction for one in entries):
            which = Energies.UNCORRECTED
        else:
            which = fitting_energies(potential, self.energies)
        if which == Energies.FORMATION:
            raise InputError(
                f"{path}: computed entries contain total energies; formation energies need a hull "
                "of "
                "formation energies"
            )
        return hull_of_entries(entries, "entries", which, file=path.name)


def read_entries(path: Path, *, progress: ProgressCallback = no_progress) -> list[EntryRow]:
    """The entries of a JSON file; those of a large file are cached for the next time.

    Raises
    ------
    InputError
        If the file can't be read, is no JSON, holds no entry, or one that can't be used.
    """
    try:
        size = path.stat().st_size
        kept = None
        if size >= KEEP_FROM:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            kept = cache_folder() / "hulls" / f"{digest}.parquet"
            entries = _read_kept(kept)
            if entries is not None:
                return entries
        with path.open("rb") as file:
            entries = _parse(path, _ProgressFile(file, size, progress))
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error})") from error
    if kept is not None:
        _keep(entries, kept)
    return entries


def _parse(path: Path, file: _ProgressFile) -> list[EntryRow]:
    stream: Any = io.BufferedReader(file, 1 << 20)
    if stream.peek(2)[:2] == b"\x1f\x8b":
        stream = gzip.GzipFile(fileobj=stream)
    rows = []
    try:
        for where, value in json_values(io.TextIOWrapper(stream, encoding="utf-8-sig")):
            rows += [entry_row(entry, at) for at, entry in _held(value, where)]
    except EntryError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error, RecursionError) as error:
        raise InputError(f"{path}: not JSON, or cut short ({first_line(error)})") from error
    file.finished()
    if not rows:
        raise InputError(
            f"{path}: contains no entry; a list of ComputedEntry.as_dict() of pymatgen is expected"
        )
    return rows


class _ProgressFile(io.RawIOBase):
    """A file that reports the number of bytes read."""

    def __init__(self, file: BinaryIO, size: int, progress: ProgressCallback) -> None:
        self._file, self._size, self._progress = file, size, progress
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._done += len(data)
        self._progress(_STAGE, self._done, self._size)
        return len(data)

    def finished(self) -> None:
        self._progress(_STAGE, self._size, self._size)


class EntryError(Exception):
    """Error message for one entry, with its place."""


def _held(value: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entries in a value, each with its place.

    Text and numbers beside them, such as the ids of a table, are passed over; one in a list of
    entries is an entry that is broken.
    """
    prefix = f"{where}." if where else ""
    if isinstance(value, dict):
        if "composition" in value or "energy" in value:
            yield where, value
            return
        for name, item in value.items():
            yield from _held(item, f"{prefix}{name}")
    elif isinstance(value, list):
        found = 0
        for position, item in enumerate(value):
            before = found
            for at, entry in _held(item, f"{prefix}{position}"):
                found += 1
                yield at, entry
            if found == before and found:
                raise EntryError(f"entry {prefix}{position} is not an entry")


def entry_row(entry: Mapping[str, Any], where: str) -> EntryRow:
    """The row of an entry, as pymatgen's ``as_dict`` gives it; `where` names it if it has no id.

    Raises
    ------
    EntryError
        If it can't be used.
    """
    name = f"entry {entry.get('entry_id') or where or 'alone'}"
    kind = entry.get("@class")
    if kind is not None and kind not in KNOWN_CLASSES:
        raise EntryError(f"{name} is a {kind}; known: {', '.join(KNOWN_CLASSES)}")
    for needed in ("composition", "energy"):
        if needed not in entry:
            raise EntryError(f"{name} has no {needed}")
    if entry.get("energy_adjustments") and "correction" not in entry:
        raise EntryError(f"{name} has energy_adjustments but no correction, their sum")
    amounts = _amounts(entry["composition"], name)
    n_atoms = sum(amounts.values())
    energy = _number(entry["energy"], "energy", name)
    correction = _number(entry.get("correction") or 0.0, "correction", name)
    parameters = entry.get("parameters")
    run_type = parameters.get("run_type") if isinstance(parameters, dict) else None
    return EntryRow(
        reduced_key(amounts), energy / n_atoms, correction / n_atoms, str(run_type or "")
    )


def _number(value: Any, what: str, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise EntryError(f"the {what} of {name} is {value!r}; it must be a finite number (eV)")
    return float(value)


def _amounts(composition: Any, name: str) -> dict[int, float]:
    """Amount of each element, by atomic number."""
    if isinstance(composition, str):
        from pymatgen.core import Composition

        try:
            composition = {str(e): n for e, n in Composition(composition).items()}
        except ValueError:
            raise EntryError(f"the composition of {name}, {composition!r}, is not valid") from None
    amounts: dict[int, float] = {}
    if isinstance(composition, dict):
        for symbol, amount in composition.items():
            if symbol in ("@module", "@class", "@version"):
                continue
            number = atomic_number(symbol)
            value = _number(amount, f"amount of {symbol}", name) if number else 0.0
            if value <= 0:
                amounts = {}
                break
            amounts[number] = amounts.get(number, 0.0) + value
    if not amounts:
        raise EntryError(f"the composition of {name}, {composition!r}, is not valid")
    return amounts


# What was read of a large file, kept


def _keep(entries: Sequence[EntryRow], path: Path) -> None:
    """Write entries to the cache. If this fails, they are read from the JSON again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = (pa.list_(pa.list_(pa.float64())), pa.float64(), pa.float64(), pa.string())
    columns = [
        pa.array(values, kind)
        for values, kind in zip(zip(*entries, strict=True), kinds, strict=True)
    ]
    table = pa.table(columns, EntryRow._fields).replace_schema_metadata({"format": _FORMAT})
    with contextlib.suppress(InputError), writing(path, path.parent), replacing(path) as beside:
        pq.write_table(table, beside)


def _read_kept(path: Path) -> list[EntryRow] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, memory_map=False)
        if (table.schema.metadata or {}).get(b"format") != _FORMAT.encode():
            return None
        return [
            EntryRow(tuple((int(z), int(n) if n.is_integer() else n) for z, n in key), *others)
            for key, *others in zip(
                *(table.column(name).to_pylist() for name in EntryRow._fields), strict=True
            )
        ]
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError):
        return None
