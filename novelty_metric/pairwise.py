"""The documented import path of `pairwise`, which lives in `novelty_metric.comparison.pairwise`."""

from novelty_metric.comparison.pairwise import pairwise

__all__ = ["pairwise"]
