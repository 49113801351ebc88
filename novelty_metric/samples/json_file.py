"""Format ``json``: pymatgen structures as JSON, compressed or not.

A list of them, a mapping from ids to them, or one alone; each a ``Structure.as_dict()``, CIF text,
or a record that holds either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.crystals import GENE_MESSAGE, is_gene, looks_like_crystal
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.ids import check_names
from novelty_metric.samples.json_values import held_crystal, json_entry
from novelty_metric.samples.source import one_line, read_whole


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
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
    entries = list(_entries(data))
    values = [value for value, _, _ in entries]
    if not values:
        raise InputError(f"{path}: the JSON holds no crystal: it is empty")
    if not any(looks_like_crystal(held_crystal(value)) for value in values):
        if any(is_gene(value) for value in values):
            raise InputError(f"{path}: {GENE_MESSAGE}")
        raise InputError(
            f"{path}: the JSON holds no crystal; expected Structure.as_dict() of pymatgen in a "
            f"list, in a mapping from ids, or alone; found {_describe(data)}"
        )
    check_names(
        path,
        (v for v in values if isinstance(v, Mapping)),
        id_column=options.id_column,
        energies=options.energies,
    )
    for value, place, key in entries:
        yield json_entry(value, place, options, key)


def _entries(data: Any) -> Iterator[tuple[Any, str, str | None]]:
    """Values with their places, and with their keys if a mapping holds them."""
    if isinstance(data, list):
        for position, value in enumerate(data):
            yield value, f"row {position}", None
    elif isinstance(data, dict) and data:
        if looks_like_crystal(held_crystal(data)) or is_gene(data):
            yield data, "row 0", None
            return
        for key, value in data.items():
            if key not in _MONTY_KEYS:
                yield value, key, key
    elif isinstance(data, str):
        yield data, "row 0", None


_MONTY_KEYS = ("@module", "@class", "@version")


def _describe(data: Any) -> str:
    if isinstance(data, list):
        return f"a list of {type(data[0]).__name__}" + (
            f" with the keys {one_line(', '.join(data[0]), 80)}"
            if isinstance(data[0], dict)
            else ""
        )
    if isinstance(data, dict):
        return f"a mapping with the keys {one_line(', '.join(data), 80)}"
    return f"a {type(data).__name__}"
