"""Energies stored beside the crystals of a file, read only on request.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from novelty_metric.samples.ids import wanted_name


def finite_energy(value: Any) -> float | None:
    """An energy from a file or from memory; None if it is not a finite number."""
    if isinstance(value, bool):
        return None
    try:
        energy = float(value)
    except (TypeError, ValueError):
        return None
    return energy if math.isfinite(energy) else None


def record_energy(record: Mapping[str, Any], wanted: str | None) -> float | None:
    """The energy of a record under the given name; None if no name is given."""
    name = None if wanted is None else wanted_name(list(record), wanted)
    return None if name is None else finite_energy(record[name])
