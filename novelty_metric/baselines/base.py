"""Definition of a null model, and functions that the generators share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.errors import InputError

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.reference import Reference

MOST_DRAWS = 2000
"""Maximum number of draws for one crystal; after that an error is raised."""


@dataclass(frozen=True)
class NullCrystal:
    """A crystal of a null model, with the reference crystal that it was made from.

    `exchanged` are the exchanged elements, such as ``Na->K O->S``; empty: none.
    """

    id: str
    structure: Structure
    parent_id: str | None = None
    exchanged: str = ""


Generator = Callable[["Reference", int, int], Iterator[NullCrystal]]
"""A function of a reference, a number of crystals and a seed that returns crystals.

The same seed gives the same crystals, and a larger number the same ones and more.
"""


@dataclass(frozen=True)
class NullModel:
    """A null model with its name.

    `does` is a phrase for the help; `source` a citation, empty without one. Where `leave_one_out`,
    its crystals are those of the reference: each has to be scored against the others.
    """

    name: str
    does: str
    source: str
    generator: Generator
    leave_one_out: bool = False

    def generate(self, reference: Reference, *, n: int, seed: int = 0) -> Iterator[NullCrystal]:
        """Make n crystals.

        Raises
        ------
        InputError
            If the reference holds no suitable crystals, or a package is missing.
        """
        return self.generator(reference, n, seed)


Draw = tuple["Structure", "int | None", str]
"""A crystal, the position of its parent, and the exchanged elements."""


def crystals(
    name: str,
    reference: Reference,
    n: int,
    seed: int,
    draw: Callable[[np.random.Generator], Draw | None],
) -> Iterator[NullCrystal]:
    """Draw until there are n crystals of the null model; each has its own random numbers.

    `draw` makes one crystal, or None if these random numbers give none.

    Raises
    ------
    InputError
        If `MOST_DRAWS` draws in a row give none.
    """
    for place in range(n):
        rng = np.random.default_rng((seed, place))
        for _ in range(MOST_DRAWS):
            made = draw(rng)
            if made is not None:
                structure, parent, exchanged = made
                parent_id = None if parent is None else reference.ids[parent]
                yield NullCrystal(f"{name}-{seed}-{place}", structure, parent_id, exchanged)
                break
        else:
            raise InputError(
                f"{name}: {MOST_DRAWS:,} draws gave no crystal number {place + 1} of {n}; the "
                f"reference {reference.name} ({len(reference):,} crystals) is too small for it, or "
                "its crystals are not suitable"
            )


def suitable(name: str, reference: Reference, which: np.ndarray, what: str) -> np.ndarray:
    """Positions (int64) of the reference crystals that a null model can use.

    `what` they are is for the error.

    Raises
    ------
    InputError
        If there is none.
    """
    found = np.flatnonzero(which)
    if len(found) == 0:
        raise InputError(
            f"{name}: none of the {len(reference):,} crystals of the reference "
            f"{reference.name} is {what}"
        )
    return found


def in_words(pairs: Iterable[tuple[str, str]]) -> str:
    """The exchanged elements as text, such as ``Na->K O->S``; each pair once."""
    return " ".join(dict.fromkeys(f"{old}->{new}" for old, new in pairs if old != new))


def with_elements(
    structure: Structure, numbers: np.ndarray, *, lengths_by: float = 1.0
) -> Structure:
    """The crystal with these atomic numbers on its sites, and the cell's lengths times a factor."""
    from pymatgen.core import Element, Lattice, Structure

    return Structure(
        Lattice(structure.lattice.matrix * lengths_by),
        [Element.from_Z(int(number)) for number in numbers],
        structure.frac_coords,
        to_unit_cell=False,
    )


def elements_of(reference: Reference) -> np.ndarray:
    """Atomic numbers of the elements in a reference, in increasing order."""
    return np.unique(reference.numbers).astype(np.int64)


@cache
def atomic_radius(number: int) -> float | None:
    """Atomic radius (Å): measured (Slater 1964), else computed; None if there is none."""
    from pymatgen.core import Element

    element = Element.from_Z(number)
    found = element.atomic_radius or element.atomic_radius_calculated
    return None if found is None else float(found)


def write(crystals: Iterable[NullCrystal], out: Path) -> None:
    """Write crystals with id, ``made_from`` (the parent) and ``exchanged``.

    Raises
    ------
    InputError
        If the ending is not known, or the file can't be written.
    """
    from novelty_metric.crystal_records import CrystalRecord
    from novelty_metric.report.crystals import write_crystals

    write_crystals(
        out,
        [
            (
                {"id": one.id, "made_from": one.parent_id, "exchanged": one.exchanged or None},
                CrystalRecord.of(one.structure),
            )
            for one in crystals
        ],
    )
