"""The training set, prepared once: build, store, named data sets, calibration, energies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from novelty_metric.support.lazy import lazily

if TYPE_CHECKING:
    from novelty_metric.reference.build import build_reference
    from novelty_metric.reference.energies import reference_energies
    from novelty_metric.reference.named import open_reference
    from novelty_metric.reference.store import Reference

__all__ = ["Reference", "build_reference", "open_reference", "reference_energies"]

__getattr__ = lazily(
    __name__,
    {
        "build": ["build_reference"],
        "energies": ["reference_energies"],
        "named": ["open_reference"],
        "store": ["Reference"],
    },
)
