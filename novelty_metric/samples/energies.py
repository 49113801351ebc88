"""Energies that stand beside the crystals of a file, read only where they are asked for.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from novelty_metric.samples.ids import wanted_name


def finite_energy(value: Any) -> float | None:
    """An energy as it stands in a file or in memory; None for what is not a finite number."""
    if isinstance(value, bool):
        return None
    try:
        energy = float(value)
    except (TypeError, ValueError):
        return None
    return energy if math.isfinite(energy) else None


def record_energy(record: Mapping[str, Any], wanted: str | None) -> float | None:
    """The energy of a record under the name asked for; None if none was asked for."""
    name = None if wanted is None else wanted_name(list(record), wanted)
    return None if name is None else finite_energy(record[name])
