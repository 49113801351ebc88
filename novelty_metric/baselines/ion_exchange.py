"""Null model `ion_exchange`: ions exchanged with data-mined probabilities."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.baselines.base import (
    Draw,
    NullCrystal,
    atomic_radius,
    crystals,
    in_words,
    suitable,
    with_elements,
)

if TYPE_CHECKING:
    from pymatgen.core import Composition, Species

    from novelty_metric.reference import Reference

THRESHOLD = 1e-3
"""Minimum probability of an exchange: pymatgen's default."""

MOST_ELEMENTS = 6
MOST_SITES = 40
"""Maximum number of atoms in a drawn crystal: oxidation states of more take minutes to guess."""

_DRAWS_PER_PARENT = 50


def ion_exchange(reference: Reference, n: int, seed: int) -> Iterator[NullCrystal]:
    """Reference crystals with ions replaced by likely ones, charge-balanced.

    The ions of a crystal are the likeliest oxidation states of its composition, one for each
    element. Each ion is drawn anew with pymatgen's conditional probability of the substitution; a
    draw counts if an element changes, the elements stay distinct, the charges balance, and its
    probability is at least `THRESHOLD`. The lengths of the cell scale with the sum of radii.

    Notes
    -----
    Source: G. Hautier et al., Inorg. Chem. 50, 656 (2011), as
    ``pymatgen.analysis.structure_prediction`` has it; as a null model: N. J. Szymanski and C. J.
    Bartel, Mater. Horiz. (2025), arXiv 2501.02144.
    """
    n_elements = np.array([len(reference.composition_key(i)) for i in range(len(reference))])
    small = (reference.n_sites <= MOST_SITES) & (n_elements <= MOST_ELEMENTS)
    usable = suitable("ion_exchange", reference, small, f"of at most {MOST_SITES} sites")
    table = _table()
    known: dict[int, tuple[Species, ...] | None] = {}

    def draw(rng: np.random.Generator) -> Draw | None:
        index = int(rng.choice(usable))
        structure = reference.structure(index)
        if index not in known:
            known[index] = _ions(structure.composition)
        old = known[index]
        new = None if old is None else table.draw(old, structure.composition, rng)
        if old is None or new is None:
            return None
        numbers = np.asarray(structure.atomic_numbers)
        change = {a.Z: b for a, b in zip(old, new, strict=True)}
        states = {ion.Z: ion for ion in old}
        factor = _lengths_by([(states[z], change[z]) for z in numbers.tolist()])
        if factor is None:
            return None
        made = with_elements(
            structure, np.array([change[z].Z for z in numbers.tolist()]), lengths_by=factor
        )
        pairs = [(a.element.symbol, b.element.symbol) for a, b in zip(old, new, strict=True)]
        return made, index, in_words(pairs)

    return crystals("ion_exchange", reference, n, seed, draw)


def _ions(composition: Composition) -> tuple[Species, ...] | None:
    """The most likely ions of a composition, with one charge per element; None if unknown."""
    from pymatgen.core import Species

    guesses = composition.oxi_state_guesses(max_sites=-1)
    if not guesses:
        return None
    states = guesses[0]
    if any(state == 0 or not float(state).is_integer() for state in states.values()):
        return None
    ions = tuple(Species(symbol, int(state)) for symbol, state in sorted(states.items()))
    return ions if all(ion in _table().place for ion in ions) else None


class _Table:
    """pymatgen's conditional probabilities as a matrix."""

    def __init__(self) -> None:
        """Read the probabilities."""
        from pymatgen.analysis.structure_prediction.substitution_probability import (
            SubstitutionProbability,
        )

        source = SubstitutionProbability()
        # A set, whose order changes from process to process.
        self.species: list[Species] = sorted(source.species, key=lambda ion: (ion.Z, ion.oxi_state))
        self.place = {ion: at for at, ion in enumerate(self.species)}
        self.charges = np.array([ion.oxi_state for ion in self.species])
        self.conditional = np.array(
            [[source.cond_prob(new, old) for new in self.species] for old in self.species]
        )
        self._weights = self.conditional / self.conditional.sum(axis=1, keepdims=True)

    def draw(
        self, old: Sequence[Species], composition: Composition, rng: np.random.Generator
    ) -> list[Species] | None:
        """New ions; None if a few draws give no suitable ones."""
        rows = [self.place[ion] for ion in old]
        amounts = np.array([composition[ion.element] for ion in old])
        for _ in range(_DRAWS_PER_PARENT):
            columns = [int(rng.choice(len(self.species), p=self._weights[row])) for row in rows]
            if abs(float(amounts @ self.charges[columns])) > 1e-8:
                continue
            new = [self.species[column] for column in columns]
            elements = [ion.element for ion in new]
            if len(set(elements)) < len(elements) or elements == [ion.element for ion in old]:
                continue
            likely = math.prod(
                self.conditional[row, column] for row, column in zip(rows, columns, strict=True)
            )
            if likely >= THRESHOLD:
                return new
        return None


@cache
def _table() -> _Table:
    return _Table()


def _lengths_by(sites: Sequence[tuple[Species, Species]]) -> float | None:
    """Sum of the new radii / sum of the old radii; None if an element has no radius.

    Of a site the ionic radii count, or the atomic ones if an ion has none.
    """
    before = after = 0.0
    for old, new in sites:
        first, second = _ionic_radius(old), _ionic_radius(new)
        if first is None or second is None:
            first, second = atomic_radius(old.Z), atomic_radius(new.Z)
        if first is None or second is None:
            return None
        before, after = before + first, after + second
    return after / before


@cache
def _ionic_radius(species: Species) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an oxidation state that the table lacks
        found = species.ionic_radius
    return None if found is None else float(found)
