"""Energies that stand beside the crystals of a file, read only where they are asked for."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from novelty_metric.samples.base import Sample


def with_energy(sample: Sample, value: Any) -> Sample:
    """The sample with an energy as it stands in the file; what is no finite number is none."""
    if isinstance(value, bool):
        return sample
    try:
        energy = float(value)
    except (TypeError, ValueError):
        return sample
    return dataclasses.replace(sample, energy=energy) if math.isfinite(energy) else sample
