"""What JSON and JSON lines have in common: a value, its id, and what is no crystal at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from novelty_metric.samples.base import Sample
from novelty_metric.samples.crystals import (
    ID_KEYS,
    STRUCTURE_KEYS,
    is_structure_dict,
    looks_like_crystal,
)
from novelty_metric.samples.energies import with_energy
from novelty_metric.samples.table import value_sample


def held_crystal(value: Any) -> Any:
    """The crystal inside a record such as ``{"id": …, "structure": …}``, or the value itself."""
    if isinstance(value, Mapping) and not is_structure_dict(value):
        lowered = {str(key).lower(): key for key in value}
        for key in STRUCTURE_KEYS:
            if key.lower() in lowered and looks_like_crystal(value[lowered[key.lower()]]):
                return value[lowered[key.lower()]]
    return value


def json_sample(value: Any, default_id: str, source: str, energies: str | None = None) -> Sample:
    """The sample of one JSON value; a record's own ``id`` or ``material_id`` is kept.

    Parameters
    ----------
    energies : str, optional
        Key of a record that holds its energy.
    """
    own_id = None
    if isinstance(value, Mapping):
        own_id = next((value[key] for key in ID_KEYS if type(value.get(key)) in (str, int)), None)
    sample = value_sample(held_crystal(value), own_id, default_id, source)
    if energies is None or not isinstance(value, Mapping):
        return sample
    return with_energy(sample, value.get(energies))
