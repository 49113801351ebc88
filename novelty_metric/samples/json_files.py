"""Formats ``json`` and ``jsonl``: pymatgen structures as JSON, compressed or not.

``json`` is a list of them, a mapping from ids to them, one alone, or a mapping that holds the list
beside other keys; ``jsonl`` has one on every line. Each is a ``Structure.as_dict()``, CIF text, or
a record that holds either.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.checks import UnreadableCrystal
from novelty_metric.samples.crystals import (
    GENE_MESSAGE,
    STRUCTURE_KEYS,
    crystal_from_value,
    is_gene,
    is_structure_dict,
    looks_like_crystal,
)
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.ids import SAMPLED_RECORDS, check_names, record_energy, record_id
from novelty_metric.samples.source import MAX_MEMBER_BYTES, one_line, open_text, read_whole

if TYPE_CHECKING:
    from pymatgen.core import Structure


def read_json(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The crystals in order. The whole file is held in memory.

    Raises
    ------
    InputError
        If the file is not JSON, is cut short, holds no crystal, or holds genes without coordinates.
    """
    try:
        data = json.loads(read_whole(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON, or cut short ({one_line(error)})") from error
    items = list(_items(_without_wrapper(path, data)))
    values = [value for value, _, _ in items]
    if not values:
        raise InputError(f"{path}: the JSON contains no crystal: it is empty")
    if not any(map(_holds_crystal, values)):
        if any(is_gene(value) for value in values):
            raise InputError(f"{path}: {GENE_MESSAGE}")
        raise InputError(
            f"{path}: the JSON contains no crystal; expected Structure.as_dict() of pymatgen in a "
            f"list, in a mapping from ids, or alone; found {_describe(data)}"
        )
    _check_names(path, values, options)
    for value, place, key in items:
        yield _entry(value, place, options, key)


def read_jsonl(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The lines in order, read one at a time; blank lines are not counted.

    Raises
    ------
    InputError
        If the first line is a gene without coordinates, or the key of the ids is in no line.
    """
    with open_text(path) as file:
        values = _lines(file)
        first = list(itertools.islice(values, SAMPLED_RECORDS))
        if first and is_gene(first[0]):
            raise InputError(f"{path}: {GENE_MESSAGE}")
        _check_names(path, first, options)
        for position, value in enumerate(itertools.chain(first, values)):
            yield _entry(value, f"row {position}", options)


def _without_wrapper(path: Path, data: Any) -> Any:
    """The list inside a mapping such as ``{"structures": [...], "model": ...}``, or the data.

    Raises
    ------
    InputError
        If there are several such lists.
    """
    if not isinstance(data, dict) or any(map(_holds_crystal, [data, *data.values()])):
        return data
    lists = {key: value for key, value in data.items() if isinstance(value, list)}
    found = [key for key, value in lists.items() if any(map(_holds_crystal, value))]
    if len(found) > 1:
        raise InputError(
            f"{path}: several lists contain crystals ({one_line(', '.join(found), 80)}); "
            "write one of them to a file of its own"
        )
    return data[found[0]] if found else data


def _items(data: Any) -> Iterator[tuple[Any, str, str | None]]:
    """Values with their places, and with their keys if a mapping holds them."""
    if isinstance(data, list):
        for position, value in enumerate(data):
            yield value, f"row {position}", None
    elif isinstance(data, str) or (
        data and isinstance(data, dict) and (_holds_crystal(data) or is_gene(data))
    ):
        yield data, "row 0", None
    elif isinstance(data, dict):
        for key, value in data.items():
            if key not in _MONTY_KEYS:
                yield value, key, key


_MONTY_KEYS = ("@module", "@class", "@version")


def _describe(data: Any) -> str:
    if isinstance(data, list):
        keys = one_line(", ".join(data[0]), 80) if isinstance(data[0], dict) else None
        return f"a list of {type(data[0]).__name__}" + (
            f" with the keys {keys}" if keys is not None else ""
        )
    if isinstance(data, dict):
        return f"a mapping with the keys {one_line(', '.join(data), 80)}"
    return f"a {type(data).__name__}"


def _lines(file: IO[str]) -> Iterator[Any]:
    """The value of each line; an `UnreadableCrystal` for a line without one."""
    while line := file.readline(MAX_MEMBER_BYTES):
        if len(line) == MAX_MEMBER_BYTES and not line.endswith("\n"):
            while (rest := file.readline(MAX_MEMBER_BYTES)) and not rest.endswith("\n"):
                pass
            yield UnreadableCrystal(f"more than {MAX_MEMBER_BYTES / 1e6:.0f} MB in one line")
        elif line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                yield UnreadableCrystal(f"not JSON ({one_line(error)})")


def _check_names(path: Path, values: Iterable[Any], options: ReadOptions) -> None:
    records = (value for value in values if isinstance(value, Mapping))
    check_names(path, records, id_column=options.id_column, energies=options.energies)


def _holds_crystal(value: Any) -> bool:
    return looks_like_crystal(_held_crystal(value))


def _held_crystal(value: Any) -> Any:
    """The crystal inside a record such as ``{"id": …, "structure": …}``, or the value itself."""
    if isinstance(value, Mapping) and not is_structure_dict(value):
        lowered = {str(key).lower(): key for key in value}
        for key in STRUCTURE_KEYS:
            if key.lower() in lowered and looks_like_crystal(value[lowered[key.lower()]]):
                return value[lowered[key.lower()]]
    return value


def _entry(value: Any, place: str, options: ReadOptions, key: str | None = None) -> Entry:
    """The entry of a value; the key under which a mapping holds it is its id by default."""
    own_id, energy = key, None
    if isinstance(value, Mapping):
        energy = record_energy(value, options.energies)
        if key is None or options.id_column is not None:
            own_id = record_id(value, options.id_column) or key
    return Entry(own_id, place, partial(_crystal, value), energy)


def _crystal(value: Any) -> Structure:
    if isinstance(value, UnreadableCrystal):
        raise value
    return crystal_from_value(_held_crystal(value))
