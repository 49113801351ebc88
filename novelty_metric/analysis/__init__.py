"""Analyses beyond the verdicts: controls, sensitivity, prototypes, fingerprints, exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from novelty_metric.support.lazy import lazily

if TYPE_CHECKING:
    from novelty_metric.analysis.amd import average_minimum_distances, reference_fingerprints
    from novelty_metric.analysis.coverage import Coverage, Prototype, prototype_coverage
    from novelty_metric.analysis.fingerprints import Fingerprints, fingerprint_analysis
    from novelty_metric.analysis.possible_prototypes import (
        count_by_crystal_system,
        count_prototypes,
    )
    from novelty_metric.analysis.substitutions import exchanges, parent_changes

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

__getattr__ = lazily(
    __name__,
    {
        "amd": ["average_minimum_distances", "reference_fingerprints"],
        "coverage": ["Coverage", "Prototype", "prototype_coverage"],
        "fingerprints": ["Fingerprints", "fingerprint_analysis"],
        "possible_prototypes": ["count_by_crystal_system", "count_prototypes"],
        "substitutions": ["exchanges", "parent_changes"],
    },
)
