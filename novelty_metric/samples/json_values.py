"""What JSON and JSON lines have in common: a value, its id, and what is no crystal at all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from novelty_metric.samples.base import Entry
from novelty_metric.samples.crystals import (
    STRUCTURE_KEYS,
    crystal_from_value,
    is_structure_dict,
    looks_like_crystal,
)
from novelty_metric.samples.ids import record_id

if TYPE_CHECKING:
    from pymatgen.core import Structure


def held_crystal(value: Any) -> Any:
    """The crystal inside a record such as ``{"id": …, "structure": …}``, or the value itself."""
    if isinstance(value, Mapping) and not is_structure_dict(value):
        lowered = {str(key).lower(): key for key in value}
        for key in STRUCTURE_KEYS:
            if key.lower() in lowered and looks_like_crystal(value[lowered[key.lower()]]):
                return value[lowered[key.lower()]]
    return value


def json_entry(value: Any, place: str, id_column: str | None, key: str | None = None) -> Entry:
    """The entry of one JSON value.

    Parameters
    ----------
    place : str
        Position in the file.
    id_column : str or None
        Key of a record with its id; None for the usual names.
    key : str or None
        Under which a mapping holds the value: its id, unless `id_column` names another.
    """
    own_id = key
    if isinstance(value, Mapping) and (key is None or id_column is not None):
        own_id = record_id(value, id_column) or key
    return Entry(own_id, place, partial(_crystal, value))


def _crystal(value: Any) -> Structure:
    return crystal_from_value(held_crystal(value))
