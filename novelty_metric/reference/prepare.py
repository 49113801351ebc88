"""Preparation of one reference crystal: cleaning, reduction, symmetry, digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.crystal import clean, reduce, symmetry

if TYPE_CHECKING:
    from pymatgen.core import Structure

LATTICE_QUANTUM = 1e-6
"""Rounding of cell vectors before they are hashed (Å)."""

COORDINATE_QUANTUM = 1e-8
"""Rounding of wrapped fractional coordinates before they are hashed."""


@dataclass(frozen=True, slots=True)
class PreparedCrystal:
    """A reference crystal in its reduced cell; a row of `novelty_metric.reference.Reference`.

    `orbits` holds for each site the lowest index of a site of its orbit, its own if undetermined;
    `digest` is the SHA-256 of the crystal as it came in, see `crystal_digest`.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    numbers: np.ndarray
    space_group: int
    wyckoff_letters: np.ndarray
    orbits: np.ndarray
    digest: bytes


def prepare(structure: Any, *, symprec: float, angle_tolerance: float) -> PreparedCrystal:
    """Clean and reduce a crystal (pymatgen or ASE), and determine its symmetry (Å, degrees).

    Raises
    ------
    CrystalError
        If the crystal can't be used or its cell can't be reduced.
    """
    cleaned = clean(structure)
    digest = crystal_digest(cleaned)
    reduced = reduce(cleaned)
    space_group, letters, orbits = found_symmetry(
        reduced, symprec=symprec, angle_tolerance=angle_tolerance
    )
    return PreparedCrystal(
        lattice=np.array(reduced.lattice.matrix, dtype=np.float64),
        frac_coords=np.array(reduced.frac_coords, dtype=np.float64).reshape(-1, 3),
        numbers=np.array([site.specie.Z for site in reduced], dtype=np.uint8),
        space_group=space_group,
        wyckoff_letters=letters,
        orbits=orbits,
        digest=digest,
    )


def found_symmetry(
    reduced: Structure, *, symprec: float, angle_tolerance: float
) -> tuple[int, np.ndarray, np.ndarray]:
    """Space group, Wyckoff letters and orbits of a reduced crystal, as in `PreparedCrystal`.

    The tolerances are in Å and degrees.
    """
    found = symmetry(reduced, symprec=symprec, angle_tolerance=angle_tolerance)
    if found is None:
        n_sites = len(reduced)
        return 0, np.zeros(n_sites, dtype=np.uint8), np.arange(n_sites, dtype=np.int32)
    letters = np.array([ord(letter) for letter in found.letters], dtype=np.uint8)
    return found.space_group, letters, np.array(found.orbits, dtype=np.int32)


def crystal_digest(cleaned: Structure) -> bytes:
    """SHA-256 of a cleaned crystal in its original cell.

    Numbers are hashed on a grid finer than any file holds them on purpose, and coordinates modulo
    lattice vectors, so that the last bits of another CPU or library version change nothing.
    """
    lattice = np.rint(np.asarray(cleaned.lattice.matrix, dtype=np.float64) / LATTICE_QUANTUM)
    coords = np.asarray(cleaned.frac_coords, dtype=np.float64)
    per_cell = round(1 / COORDINATE_QUANTUM)
    wrapped = np.rint((coords - np.floor(coords)) * per_cell).astype("<i8") % per_cell
    numbers = np.array([site.specie.Z for site in cleaned], dtype="<u1")
    digest = hashlib.sha256(b"crystal 1\n")
    digest.update(len(numbers).to_bytes(8, "little"))
    digest.update(lattice.astype("<i8").tobytes())
    digest.update(numbers.tobytes())
    digest.update(np.ascontiguousarray(wrapped, dtype="<i8").tobytes())
    return digest.digest()
