"""The training set, prepared once: build, store, named data sets, calibration, energies."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novelty_metric.reference.build import build_reference
    from novelty_metric.reference.energies import reference_energies
    from novelty_metric.reference.named import open_reference
    from novelty_metric.reference.store import Reference

__all__ = ["Reference", "build_reference", "open_reference", "reference_energies"]

_HOME = {
    "Reference": "store",
    "build_reference": "build",
    "open_reference": "named",
    "reference_energies": "energies",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
