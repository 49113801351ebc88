"""Null model `random_prototype`: new compositions on prototypes of the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.baselines.base import (
    Draw,
    NullCrystal,
    crystals,
    elements_of,
    in_words,
    suitable,
    with_elements,
)
from novelty_metric.baselines.radii import atomic_radius
from novelty_metric.search.pettifor import symbol

if TYPE_CHECKING:
    from novelty_metric.reference import Reference

_DRAWS_PER_PROTOTYPE = 50


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
