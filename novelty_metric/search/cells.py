"""Cells in the form of the search, and the first match of two cells in a sequence of lattices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Lattice, Structure

    from novelty_metric.verdict import Supercell


@dataclass(frozen=True)
class BareCell:
    """The part of a `Structure` that the search needs, without its sites: arrays made once.

    Attributes
    ----------
    lattice : Lattice
    frac_coords : float64, (n_sites, 3)
    atomic_numbers : int64, (n_sites,)
    """

    lattice: Lattice
    frac_coords: np.ndarray
    atomic_numbers: np.ndarray

    @classmethod
    def of(
        cls, matrix: np.ndarray, frac_coords: np.ndarray, atomic_numbers: np.ndarray
    ) -> BareCell:
        """Make a cell from arrays.

        Parameters
        ----------
        matrix : float64, (3, 3)
            Cell vectors as rows (Å).
        frac_coords : float64, (n_sites, 3)
        atomic_numbers : integer, (n_sites,)
        """
        from pymatgen.core import Lattice

        numbers = np.array(atomic_numbers, dtype=np.int64)
        return cls(Lattice(np.array(matrix)), np.array(frac_coords), numbers)

    @classmethod
    def of_structure(cls, structure: Structure) -> BareCell:
        """The cell of a crystal."""
        numbers = np.array(structure.atomic_numbers, dtype=np.int64)
        return cls(structure.lattice, np.asarray(structure.frac_coords, dtype=np.float64), numbers)

    @cached_property
    def cart_coords(self) -> np.ndarray:
        """Cartesian coordinates of the sites (Å), float64 (n_sites, 3), as in a `Structure`.

        Row by row, as a site does it: one product for all may round otherwise.
        """
        return np.array([np.dot(row, self.lattice.matrix) for row in self.frac_coords])

    def __len__(self) -> int:
        return len(self.frac_coords)


@dataclass(frozen=True, slots=True)
class FrameworkMatch:
    """A purely geometric match of a generated crystal G with a reference crystal T.

    Attributes
    ----------
    rms : float
        RMS site distance in (V/N)^(1/3).
    sites : tuple of int
        For each site of T, or of T's supercell if there is one, the site of G that lies on it.
    supercell : 3×3 integers or None
        Matrix for ``T.make_supercell``; None unless G has more sites than T.
    """

    rms: float
    sites: tuple[int, ...]
    supercell: Supercell | None


class FirstMatch(NamedTuple):
    """The first match of a pair that pymatgen may accept; it refuses all earlier ones.

    Attributes
    ----------
    vectors : int64, (V, 3)
        Coefficients of the lattice vectors of the source (the crystal with fewer sites, or G) from
        which pymatgen picks three, in its order.
    places : tuple of int
        Which three span the lattice of that match.
    site : int
        The site of G, or of its supercell, that pymatgen moves T's first site onto; 0, before
        which there is none, if that is not known.
    surely_near : bool
        Whether the lattice is within pymatgen's tolerances by more than rounding.
    """

    vectors: np.ndarray
    places: tuple[int, int, int]
    site: int
    surely_near: bool

    @classmethod
    def of(cls, vectors: np.ndarray, found: np.ndarray | None) -> FirstMatch | None:
        """Make it from the result of `kernels.cost_of_first_match`."""
        if found is None:
            return None
        a, b, c, site, surely_near = found.tolist()
        return cls(vectors, (a, b, c), site, bool(surely_near))

    @property
    def matrix(self) -> np.ndarray:
        """Coefficients of the three vectors, int64 (3, 3)."""
        return self.vectors[list(self.places)]


def supercell_of(matrix: Any) -> Supercell:
    """An integer matrix as a `Supercell`."""
    rows = [tuple(int(value) for value in row) for row in np.asarray(matrix).tolist()]
    return tuple(rows)  # type: ignore[return-value]
