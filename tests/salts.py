"""Crystals of two elements that many tests use, written out: symmetry takes pymatgen its time."""

from __future__ import annotations

from pymatgen.core import Lattice, Structure

FACES = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]


def rocksalt(a: float, first: str, second: str) -> Structure:
    """The conventional cell, eight sites."""
    moved = [[x + 0.5, y, z] for x, y, z in FACES]
    return Structure(Lattice.cubic(a), [first] * 4 + [second] * 4, FACES + moved)


def salt(a: float, first: str, second: str) -> Structure:
    """The primitive cell, two sites; `a` is that of the conventional one."""
    cell = Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])
    return Structure(cell, [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])


def caesium_chloride(a: float, first: str, second: str) -> Structure:
    return Structure(Lattice.cubic(a), [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])
