"""Parts that JSON and JSON lines share: a value, its id, and values that are not crystals."""

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
from novelty_metric.samples.energies import record_energy
from novelty_metric.samples.formats import ReadOptions
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


def json_entry(value: Any, place: str, options: ReadOptions, key: str | None = None) -> Entry:
    """The entry of one JSON value.

    Parameters
    ----------
    place : str
        Position in the file.
    options : ReadOptions
        Name the keys of a record with its id and its energy.
    key : str or None
        Under which a mapping holds the value: its id, unless `options` name another.
    """
    own_id, energy = key, None
    if isinstance(value, Mapping):
        energy = record_energy(value, options.energies)
        if key is None or options.id_column is not None:
            own_id = record_id(value, options.id_column) or key
    return Entry(own_id, place, partial(_crystal, value), energy)


def _crystal(value: Any) -> Structure:
    return crystal_from_value(held_crystal(value))
