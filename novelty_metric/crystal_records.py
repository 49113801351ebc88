"""The crystals behind a verdict, in a form small enough to keep for every sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure


@dataclass(frozen=True, slots=True, eq=False)
class CrystalRecord:
    """A cell with its atoms as plain arrays.

    Attributes
    ----------
    lattice : float64, (3, 3)
        Cell vectors as rows (Å).
    numbers : uint8, (n_sites,)
        Atomic numbers.
    frac_coords : float64, (n_sites, 3)
    """

    lattice: NDArray[np.float64]
    numbers: NDArray[np.uint8]
    frac_coords: NDArray[np.float64]

    @classmethod
    def of(cls, structure: Structure) -> CrystalRecord:
        """The record of an ordered crystal."""
        return cls(
            np.array(structure.lattice.matrix, dtype=np.float64),
            np.array(structure.atomic_numbers, dtype=np.uint8),
            np.array(structure.frac_coords, dtype=np.float64),
        )

    def to_structure(self) -> Structure:
        """The crystal, with the same order of sites and the same coordinates."""
        from pymatgen.core import Element, Lattice, Structure

        return Structure(
            Lattice(self.lattice),
            [Element.from_Z(int(number)) for number in self.numbers],
            self.frac_coords,
            to_unit_cell=False,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CrystalRecord):
            return NotImplemented
        return (
            np.array_equal(self.lattice, other.lattice)
            and np.array_equal(self.numbers, other.numbers)
            and np.array_equal(self.frac_coords, other.frac_coords)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrystalRecords:
    """At most four crystals for a sample, for any number of candidates.

    Attributes
    ----------
    generated : CrystalRecord or None
        As it came in.
    relaxed : CrystalRecord or None
        Relaxed if the run relaxes, primitive, Niggli-reduced: what was compared.
    parent : CrystalRecord or None
        The reference crystal that the row names: the equal one, or the parent shown.
    parent_relaxed : CrystalRecord or None
        The parent shown with its elements exchanged, after its relaxation.
    """

    generated: CrystalRecord | None = None
    relaxed: CrystalRecord | None = None
    parent: CrystalRecord | None = None
    parent_relaxed: CrystalRecord | None = None
