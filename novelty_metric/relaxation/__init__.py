"""Relaxation: potentials, the relaxer that runs them, and the cache of what is finished."""

from novelty_metric.relaxation.base import (
    PotentialInfo,
    Relaxation,
    Relaxer,
    RelaxSettings,
    RelaxTask,
)

__all__ = ["PotentialInfo", "RelaxSettings", "RelaxTask", "Relaxation", "Relaxer"]
