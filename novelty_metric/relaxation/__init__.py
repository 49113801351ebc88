"""Relaxation: potentials, the relaxer that runs them, and the cache of finished relaxations."""

from novelty_metric.relaxation.base import (
    EarlyStopping,
    Ended,
    PotentialInfo,
    Relaxation,
    Relaxer,
    RelaxSettings,
    RelaxTask,
)

__all__ = [
    "EarlyStopping",
    "Ended",
    "PotentialInfo",
    "RelaxSettings",
    "RelaxTask",
    "Relaxation",
    "Relaxer",
]
