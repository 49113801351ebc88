"""Binary crystals for many tests, with explicit sites: pymatgen's symmetry is slow."""

from __future__ import annotations

from pymatgen.core import Lattice, Structure

FACES = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]


def rocksalt(a: float, first: str, second: str) -> Structure:
    """The conventional cell, with eight sites."""
    moved = [[x + 0.5, y, z] for x, y, z in FACES]
    return Structure(Lattice.cubic(a), [first] * 4 + [second] * 4, FACES + moved)


def salt(a: float, first: str, second: str) -> Structure:
    """The primitive cell, with two sites; `a` is the length of the conventional cell."""
    cell = Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])
    return Structure(cell, [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])


def caesium_chloride(a: float, first: str, second: str) -> Structure:
    return Structure(Lattice.cubic(a), [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])
