"""Relaxation: potentials, the relaxer that runs them, and the cache of what is finished."""

from novelty_metric.relaxation.base import (
    Ended,
    PotentialInfo,
    Relaxation,
    Relaxer,
    RelaxSettings,
    RelaxTask,
    Watch,
)

__all__ = [
    "Ended",
    "PotentialInfo",
    "RelaxSettings",
    "RelaxTask",
    "Relaxation",
    "Relaxer",
    "Watch",
]
