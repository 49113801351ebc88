"""Many compositions as arrays, and the packaged energies of the elements."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from types import MappingProxyType

import numpy as np

from novelty_metric.support.folders import DATA_FOLDER

CompositionKey = tuple[tuple[int, float], ...]
"""Atomic numbers in increasing order, each with its amount; equal for equal compositions."""

_ROUND = 9
"""Decimals of the fractions if a composition has non-integer amounts."""


@dataclass(frozen=True, eq=False)
class Compositions:
    """Compositions, concatenated.

    Attributes
    ----------
    starts : int64, (N + 1,)
        Composition i has the entries ``starts[i]:starts[i + 1]`` of the other two.
    numbers : int64, (M,)
        Atomic numbers, increasing within a composition.
    amounts : float64, (M,)
        Amount of each element.
    """

    starts: np.ndarray
    numbers: np.ndarray
    amounts: np.ndarray

    @classmethod
    def of(cls, keys: Iterable[CompositionKey]) -> Compositions:
        """Make them from their keys."""
        listed = list(keys)
        sizes = [len(key) for key in listed]
        pairs = np.array([pair for key in listed for pair in key], dtype=np.float64).reshape(-1, 2)
        return cls(
            np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
            pairs[:, 0].astype(np.int64),
            pairs[:, 1],
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def key(self, index: int) -> CompositionKey:
        """Key of one composition; whole amounts are int."""
        part = slice(self.starts[index], self.starts[index + 1])
        return tuple(
            (z, int(n) if n.is_integer() else n)
            for z, n in zip(self.numbers[part].tolist(), self.amounts[part].tolist(), strict=True)
        )

    def keys(self) -> list[CompositionKey]:
        """Keys of all compositions, in order."""
        return [self.key(index) for index in range(len(self))]

    @cached_property
    def n_elements(self) -> np.ndarray:
        """Number of elements of each composition, int64 (N,)."""
        return np.diff(self.starts)

    @cached_property
    def owners(self) -> np.ndarray:
        """Index of the composition of each entry, int64 (M,)."""
        return np.repeat(np.arange(len(self)), self.n_elements)

    @cached_property
    def fractions(self) -> np.ndarray:
        """Atomic fraction of each entry, float64 (M,)."""
        return self.amounts / np.bincount(self.owners, self.amounts, len(self))[self.owners]

    @cached_property
    def elements(self) -> np.ndarray:
        """Elements of each composition as a bit set, see `element_bits`, uint64 (2, N)."""
        bits = np.zeros((2, len(self)), dtype=np.uint64)
        words, places = np.divmod(self.numbers, 64)
        np.bitwise_or.at(bits, (words, self.owners), np.uint64(1) << places.astype(np.uint64))
        return bits

    def within(self, elements: Iterable[int]) -> np.ndarray:
        """Positions of the compositions that contain only these elements, int64."""
        low, high = ~element_bits(elements)
        return np.flatnonzero(((self.elements[0] & low) | (self.elements[1] & high)) == 0)

    def fractions_of(self, positions: np.ndarray, elements: Iterable[int]) -> np.ndarray:
        """Fraction of each element in the compositions at these positions, (n_elements,
        n_positions).

        The compositions must have no other elements.
        """
        rows = np.full(128, -1)
        listed = list(elements)
        rows[listed] = np.arange(len(listed))
        sizes = self.n_elements[positions]
        columns = np.repeat(np.arange(len(positions)), sizes)
        ends = np.cumsum(sizes)
        entries = np.arange(int(sizes.sum())) + np.repeat(
            self.starts[positions] - (ends - sizes), sizes
        )
        found = np.zeros((len(listed), len(positions)))
        found[rows[self.numbers[entries]], columns] = self.fractions[entries]
        return found


def element_bits(elements: Iterable[int]) -> np.ndarray:
    """A set of atomic numbers as bits of two words, uint64 (2,)."""
    bits = sum(1 << z for z in elements)
    return np.array([bits & 0xFFFFFFFFFFFFFFFF, bits >> 64], dtype=np.uint64)


def reduced_key(amounts: Mapping[int, float]) -> CompositionKey:
    """The reduced composition of amounts by atomic number; fractions if they are not whole."""
    amounts = dict(sorted(amounts.items()))
    whole = {z: round(amount) for z, amount in amounts.items()}
    if all(n > 0 and abs(n - amounts[z]) < 1e-6 for z, n in whole.items()):
        divisor = math.gcd(*whole.values())
        return tuple((z, n // divisor) for z, n in whole.items())
    total = sum(amounts.values())
    return tuple((z, round(amount / total, _ROUND)) for z, amount in amounts.items())


@lru_cache(maxsize=4096)
def atomic_number(symbol: str) -> int:
    """Atomic number of an element or a species such as ``Fe3+``; 0 for other text."""
    from pymatgen.core import DummySpecies, get_el_sp

    try:
        found = get_el_sp(symbol)
    except (ValueError, AttributeError, TypeError):
        return 0
    return 0 if isinstance(found, DummySpecies) else int(found.Z)


@cache
def elemental_energies() -> Mapping[str, float]:
    """Lowest Materials Project energy of 89 elements (eV/atom), by symbol.

    GGA/GGA+U energies of the MP2020 scheme, the scale of CHGNet's energies; source and licence
    stand at the head of the file.
    """
    with (DATA_FOLDER / "mp_elemental_energies.csv").open(encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(line for line in handle if not line.startswith("#"))
        energies = {row["element"]: float(row["energy_per_atom_eV"]) for row in rows}
    return MappingProxyType(energies)
