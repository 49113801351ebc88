"""The documented import path of `pairwise` from `novelty_metric.comparison.pairwise`."""

from novelty_metric.comparison.pairwise import pairwise

__all__ = ["pairwise"]
