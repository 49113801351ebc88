"""Null models: generators of crystals that need a reference and no training.

Whoever trains a model has to beat them. `NULL_MODELS` holds one function for each.

Examples
--------
>>> from novelty_metric.baselines import NULL_MODELS
>>> from novelty_metric.reference.named import open_reference
>>> crystals = list(NULL_MODELS["perturbed"].generate(open_reference("aflow"), n=2, seed=0))
>>> [crystal.id for crystal in crystals]
['perturbed-0-0', 'perturbed-0-1']
"""

from novelty_metric.baselines.base import NullCrystal, NullModel
from novelty_metric.baselines.registry import NULL_MODELS, maker_of

__all__ = ["NULL_MODELS", "NullCrystal", "NullModel", "maker_of"]
