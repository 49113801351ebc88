"""Planted substitutions: crystals made from those of a reference by exchanging elements.

Their parent is known and stays in the reference. They are relaxed by another optimiser than those
of the protocols, and if wished by another potential, to the lowest minimum of several shaken
starts, as if a model or an experiment had made them. So a relaxation that misses parents shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.baselines import NULL_MODELS
from novelty_metric.baselines.real import moved, strained
from novelty_metric.errors import InputError
from novelty_metric.relaxation.base import Relaxation, Relaxer, RelaxSettings, RelaxTask

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

    from novelty_metric.reference import Reference

EXCHANGES = ("ion_exchange", "random_substitution")
"""Null models that exchange the elements of reference crystals."""

SETTINGS = RelaxSettings(fmax=0.01, max_steps=500, optimizer="fire")
"""Relaxation settings of planted crystals under all protocols; no protocol has this optimiser."""

STARTS = 3
SHAKE = 0.05
"""Displacement of each site of a start (Å)."""
STRAIN = 0.01
"""Strain of a start along its most strained axis."""

_DRAWS = 50
"""Maximum number of null-model crystals tried for one suitable crystal."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A crystal with a known parent, the crystal at the position `source` of the reference.

    `exchanged` is the parent with other elements, before anything moved. `structure` is the crystal
    after its own relaxation; if that failed, it is None, and `error` gives the reason.
    """

    id: str
    source: int
    exchanged: Structure
    structure: Structure | None = None
    error: str | None = None


def exchanged_crystals(
    reference: Reference, n: int, seed: int, exchange: str = EXCHANGES[0]
) -> Iterator[Planted]:
    """Crystals of a null model with new compositions that SMACT accepts.

    Parameters
    ----------
    reference : Reference
    n : int
        Maximum number; the same seed makes the same crystals, and a larger n adds crystals to them.
    seed : int
    exchange : str
        One of `EXCHANGES`.

    Raises
    ------
    InputError
        If there is no such null model, or the reference holds nothing that it can use.
    """
    if exchange not in EXCHANGES:
        raise InputError(f"exchange is {exchange!r}; known: {', '.join(EXCHANGES)}")
    drawn = NULL_MODELS[exchange].generate(reference, n=_DRAWS * n, seed=seed)
    wanted = (
        Planted(
            id=f"substituted-{one.id}",
            source=reference.position(one.parent_id),
            exchanged=one.structure,
        )
        for one in drawn
        if one.parent_id is not None and _new_and_valid(reference, one.structure.composition)
    )
    return islice(wanted, n)


def relaxed(planted: Sequence[Planted], relaxer: Relaxer, seed: int) -> list[Planted]:
    """The same crystals, each in the lowest minimum reached from `STARTS` perturbed starts.

    One none of whose relaxations converges has no structure, and an error.
    """
    queue: deque[RelaxTask] = deque()
    for at, one in enumerate(planted):
        for start in range(STARTS):
            rng = np.random.default_rng((seed, at, start))
            shaken = moved(strained(one.exchanged, rng, STRAIN), rng, SHAKE)
            queue.append(RelaxTask((at, start), shaken))
    ends = {task.key: result for task, result in relaxer.relax(queue, SETTINGS)}
    return [
        _lowest(one, [ends[at, start] for start in range(STARTS)]) for at, one in enumerate(planted)
    ]


def _lowest(planted: Planted, ends: Sequence[Relaxation]) -> Planted:
    """The crystal with the lowest energy; among equals the first."""
    energies = {
        at: end.energy_after
        for at, end in enumerate(ends)
        if end.converged and end.energy_after is not None
    }
    if not energies:
        reason = next((end.error for end in ends if end.error), "no relaxation converged")
        return replace(planted, error=f"could not be planted: {reason}")
    return replace(planted, structure=ends[min(energies, key=energies.__getitem__)].structure)


def _new_and_valid(reference: Reference, composition: Composition) -> bool:
    """True if no reference crystal has the composition, and SMACT accepts it."""
    from novelty_metric.reference.store import composition_key
    from novelty_metric.screening.composition import smact_valid

    numbers = [element.Z for element, count in composition.items() for _ in range(round(count))]
    known = len(reference.with_composition(composition_key(numbers))) > 0
    return not known and bool(smact_valid(composition))
