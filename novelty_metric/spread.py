"""The documented import path of `spread`, which lives in `novelty_metric.comparison.spread`."""

from novelty_metric.comparison.spread import spread

__all__ = ["spread"]
