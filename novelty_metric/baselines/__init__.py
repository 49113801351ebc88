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
from novelty_metric.baselines.ion_exchange import ion_exchange
from novelty_metric.baselines.real import held_out, perturbed
from novelty_metric.baselines.substitution import random_prototype, random_substitution
from novelty_metric.baselines.symmetric import random_symmetric

__all__ = ["NULL_MODELS", "NullCrystal", "NullModel", "maker_of"]

_SZYMANSKI = "Szymanski and Bartel, Mater. Horiz. (2025), arXiv 2501.02144"

NULL_MODELS: dict[str, NullModel] = {
    model.name: model
    for model in (
        NullModel(
            "held_out",
            "crystals of the reference; score them with leave_one_out=true",
            "",
            held_out,
            leave_one_out=True,
        ),
        NullModel(
            "random_substitution",
            "crystals of the reference with elements exchanged orbit by orbit",
            "Negishi and Walsh, arXiv 2606.23166",
            random_substitution,
        ),
        NullModel(
            "ion_exchange",
            "ions replaced by data-mined probabilities, charge-balanced",
            f"Hautier et al., Inorg. Chem. 50, 656 (2011); {_SZYMANSKI}",
            ion_exchange,
        ),
        NullModel(
            "random_prototype",
            "charge-balanced compositions on prototypes of the reference",
            _SZYMANSKI,
            random_prototype,
        ),
        NullModel(
            "random_symmetric",
            "compositions of the reference in random space groups (needs PyXtal)",
            "Fredericks et al., Comput. Phys. Commun. 261, 107810 (2021)",
            random_symmetric,
        ),
        NullModel(
            "perturbed",
            "crystals of the reference, sites moved by 0.3 Å, cells strained by 5 %",
            "",
            perturbed,
        ),
    )
}
"""The null models, in the order of lists."""


def maker_of(identifier: str) -> str | None:
    """The null model of a crystal, from the id that `baseline` gave it; None for other crystals."""
    return next((name for name in NULL_MODELS if identifier.startswith(f"{name}-")), None)
