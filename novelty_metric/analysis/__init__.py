"""Analyses beyond the verdicts: controls, sensitivity, prototypes, fingerprints, exchanges."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novelty_metric.analysis.amd import average_minimum_distances, reference_fingerprints
    from novelty_metric.analysis.coverage import Coverage, Prototype, prototype_coverage
    from novelty_metric.analysis.fingerprints import Fingerprints, fingerprint_analysis
    from novelty_metric.analysis.possible_prototypes import (
        count_by_crystal_system,
        count_prototypes,
    )
    from novelty_metric.analysis.substitutions import exchanges, parent_changes

_HOME = {
    "Coverage": "coverage",
    "Fingerprints": "fingerprints",
    "Prototype": "coverage",
    "average_minimum_distances": "amd",
    "count_by_crystal_system": "possible_prototypes",
    "count_prototypes": "possible_prototypes",
    "exchanges": "substitutions",
    "fingerprint_analysis": "fingerprints",
    "parent_changes": "substitutions",
    "prototype_coverage": "coverage",
    "reference_fingerprints": "amd",
}

__all__ = [
    "Coverage",
    "Fingerprints",
    "Prototype",
    "average_minimum_distances",
    "count_by_crystal_system",
    "count_prototypes",
    "exchanges",
    "fingerprint_analysis",
    "parent_changes",
    "prototype_coverage",
    "reference_fingerprints",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
