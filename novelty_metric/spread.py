"""The documented import path of `spread` from `novelty_metric.comparison.spread`."""

from novelty_metric.comparison.spread import spread

__all__ = ["spread"]
