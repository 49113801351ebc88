"""Null models `random_substitution` and `random_prototype`: other elements on the same sites."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.baselines.base import (
    Draw,
    NullCrystal,
    atomic_radius,
    crystals,
    elements_of,
    in_words,
    suitable,
    with_elements,
)
from novelty_metric.search.pettifor import NONE, pettifor_numbers, symbol

if TYPE_CHECKING:
    from novelty_metric.reference import Reference

PROBABILITY = 0.3149
"""Probability that the element of an orbit is exchanged.

Source: the code of the paper's authors (Negishi and Walsh, arXiv 2606.23166), August 2026.
"""

PAIRS_BY_DISTANCE: tuple[int, ...] = (
    *(0, 19867, 4302, 1867, 1095, 1497, 786, 523, 324, 381),
    *(211, 229, 192, 198, 195, 205, 176, 181, 174, 119),
    *(110, 78, 87, 85, 80, 79, 59, 49, 72, 78),
    *(60, 55, 41, 38, 56, 42, 37, 27, 42, 60),
    *(55, 71, 65, 54, 22, 34, 23, 27, 12, 17),
    *(18, 7, 15, 14, 9, 28, 33, 46, 26, 29),
    *(29, 22, 9, 10, 10, 22, 20, 22, 24, 2),
    *(12, 25, 18, 16, 12, 6, 8, 13, 12, 4),
    *(12, 19, 11, 18, 9, 41, 16, 22, 11, 13),
    *(17, 11, 7, 6, 2, 5, 0, 0, 0, 0),
    *(0, 0, 0),
)
"""Number of exchanged orbits in real pairs by the difference of modified Pettifor numbers, from 0.

Source: each of 24,264 crystals of MP-20 beside its cheapest candidate parent among the others, with
the same number of sites and another composition; ``benchmarks/null_models.py pairs`` counts them.
"""


_DRAWS_PER_PROTOTYPE = 50


def random_substitution(reference: Reference, n: int, seed: int) -> Iterator[NullCrystal]:
    """Reference crystals in which some Wyckoff orbits have another element.

    The distance of the new element from the old one, in modified Pettifor numbers, is drawn as
    among real pairs (`PAIRS_BY_DISTANCE`), from the distances at which the reference has an
    element; then one of these elements. The cell stays, and nothing asks for neutral charges. In a
    crystal with few orbits often none is exchanged: such a crystal is a copy.
    """
    usable = suitable(
        "random_substitution", reference, reference.space_groups > 0, "of known space group"
    )
    replacements = _Replacements(elements_of(reference))

    def draw(rng: np.random.Generator) -> Draw | None:
        index = int(rng.choice(usable))
        sites = reference.sites(index)
        orbits, old = reference.orbits[sites], reference.numbers[sites].astype(np.int64)
        new = old.copy()
        for orbit in np.unique(orbits):
            if rng.random() < PROBABILITY:
                new[orbits == orbit] = replacements.draw(int(old[orbit]), rng)
        exchanged = [(symbol(int(a)), symbol(int(b))) for a, b in zip(old, new, strict=True)]
        structure = with_elements(reference.structure(index), new)
        return structure, index, in_words(exchanged)

    return crystals("random_substitution", reference, n, seed, draw)


class _Replacements:
    """Draws a replacement for an element."""

    def __init__(self, elements: np.ndarray) -> None:
        """Store the atomic numbers from which to draw."""
        self._elements = elements[pettifor_numbers(elements) != NONE]
        self._weights: dict[int, np.ndarray] = {}

    def draw(self, old: int, rng: np.random.Generator) -> int:
        """The replacement; the element itself if there is no other."""
        if old not in self._weights:
            self._weights[old] = self._weights_of(old)
        weights = self._weights[old]
        total = weights.sum()
        return old if total == 0 else int(rng.choice(self._elements, p=weights / total))

    def _weights_of(self, old: int) -> np.ndarray:
        place = int(pettifor_numbers(old))
        if place == NONE:
            return np.zeros(len(self._elements))
        distances = np.abs(pettifor_numbers(self._elements).astype(np.int64) - place)
        counts = np.array(PAIRS_BY_DISTANCE, dtype=float)[distances]
        # Two elements at one distance share its weight.
        return counts / np.bincount(distances)[distances]


def random_prototype(reference: Reference, n: int, seed: int) -> Iterator[NullCrystal]:
    """Random charge-balanced compositions on random prototypes of the reference.

    A prototype is a space group with the Wyckoff letters of each element; all are drawn alike,
    however many crystals they have, and of a prototype one crystal. Its elements are replaced by
    others, drawn alike from those of the reference, until the composition is neutral with one
    oxidation state for each element, cations less electronegative than anions (SMACT's test). The
    lengths of the cell scale with the sum of atomic radii.

    Notes
    -----
    Source: N. J. Szymanski and C. J. Bartel, Mater. Horiz. (2025), arXiv 2501.02144.
    """
    several = np.array([len(reference.composition_key(i)) > 1 for i in range(len(reference))])
    usable = suitable(
        "random_prototype",
        reference,
        several & (reference.space_groups > 0),
        "a compound of known space group",
    )
    members: dict[object, list[int]] = {}
    for index in usable.tolist():
        members.setdefault(_prototype(reference, index), []).append(index)
    prototypes = list(members.values())
    candidates = np.array([z for z in elements_of(reference).tolist() if atomic_radius(z)])

    def draw(rng: np.random.Generator) -> Draw | None:
        index = int(rng.choice(prototypes[rng.integers(len(prototypes))]))
        numbers = reference.numbers[reference.sites(index)].astype(np.int64)
        old, inverse = np.unique(numbers, return_inverse=True)
        if len(candidates) < len(old):
            return None
        radii = [atomic_radius(z) for z in old.tolist()]
        for _ in range(_DRAWS_PER_PROTOTYPE):
            new = rng.choice(candidates, size=len(old), replace=False)
            if _charge_balanced(new, np.bincount(inverse)):
                break
        else:
            return None
        if None in radii:
            return None
        before = sum(radii[at] or 0.0 for at in inverse.tolist())
        after = sum(atomic_radius(int(new[at])) or 0.0 for at in inverse.tolist())
        made = with_elements(reference.structure(index), new[inverse], lengths_by=after / before)
        pairs = [(symbol(a), symbol(b)) for a, b in zip(old.tolist(), new.tolist(), strict=True)]
        return made, index, in_words(pairs)

    return crystals("random_prototype", reference, n, seed, draw)


def _prototype(reference: Reference, index: int) -> object:
    """Space group, and the Wyckoff letters of each element; elements have no order."""
    sites = reference.sites(index)
    letters: dict[int, list[int]] = {}
    found = zip(
        reference.numbers[sites].tolist(), reference.wyckoff_letters[sites].tolist(), strict=True
    )
    for number, letter in found:
        letters.setdefault(number, []).append(letter)
    return int(reference.space_groups[index]), tuple(
        sorted(map(tuple, map(sorted, letters.values())))
    )


def _charge_balanced(elements: np.ndarray, amounts: np.ndarray) -> bool:
    """True if SMACT finds it neutral; alloys, which pass SMACT without charges, are not."""
    from smact import metals

    from novelty_metric.screening.composition import smact_valid

    symbols = [symbol(z) for z in elements.tolist()]
    if set(symbols) <= set(metals):
        return False
    return smact_valid("".join(f"{el}{n}" for el, n in zip(symbols, amounts.tolist(), strict=True)))
