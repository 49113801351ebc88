"""Null model `random_symmetric`: random space group, random Wyckoff positions (PyXtal)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.baselines.base import Draw, NullCrystal, crystals, suitable
from novelty_metric.errors import InputError
from novelty_metric.search.pettifor import symbol

if TYPE_CHECKING:
    from novelty_metric.reference import Reference

MOST_SITES = 40
"""Maximum number of sites of a drawn composition: PyXtal needs minutes to place more."""

_GROUPS_PER_COMPOSITION = 10


def random_symmetric(reference: Reference, n: int, seed: int) -> Iterator[NullCrystal]:
    """Compositions of the reference in random space groups, by PyXtal.

    The composition is that of the primitive cell of a reference crystal. Space groups are drawn
    alike from all 230, until PyXtal finds Wyckoff positions for the composition and places the
    atoms; it also draws the cell, its volume included.

    Raises
    ------
    InputError
        If PyXtal is missing.

    Notes
    -----
    Source: S. Fredericks et al., Comput. Phys. Commun. 261, 107810 (2021).
    """
    try:
        import pyxtal
    except ImportError as error:
        raise InputError(
            "random_symmetric needs PyXtal, which is not installed: "
            "pip install 'novelty-metric[pyxtal]'"
        ) from error
    usable = suitable(
        "random_symmetric",
        reference,
        reference.n_sites <= MOST_SITES,
        f"of at most {MOST_SITES} sites",
    )

    def draw(rng: np.random.Generator) -> Draw | None:
        index = int(rng.choice(usable))
        numbers, amounts = np.unique(reference.numbers[reference.sites(index)], return_counts=True)
        species = [symbol(z) for z in numbers.tolist()]
        for _ in range(_GROUPS_PER_COMPOSITION):
            made = _placed(pyxtal, int(rng.integers(1, 231)), species, amounts.tolist(), rng)
            if made is not None:
                return made, index, ""
        return None

    return crystals("random_symmetric", reference, n, seed, draw)


def _placed(
    pyxtal: Any, group: int, species: list[str], amounts: list[int], rng: np.random.Generator
) -> Any:
    """A crystal of this space group by PyXtal; None if PyXtal finds none."""
    from pyxtal.msg import Comp_CompatibilityError

    crystal = pyxtal.pyxtal()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cell that PyXtal makes larger
        try:
            crystal.from_random(
                3, group, species, amounts, conventional=False, max_count=1, random_state=rng
            )
        except (Comp_CompatibilityError, RuntimeError):
            return None
        if not crystal.valid:
            return None
        made = crystal.to_pymatgen()
        made.translate_sites(range(len(made)), np.zeros(3))  # into the cell, where PyXtal leaves it
        return made
