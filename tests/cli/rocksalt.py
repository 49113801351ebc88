"""Rock salt for the tests of the command line."""

from __future__ import annotations

from pymatgen.core import Lattice, Structure

FACES = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]


def rocksalt(a: float, first: str, second: str) -> Structure:
    moved = [[x + 0.5, y, z] for x, y, z in FACES]
    return Structure(Lattice.cubic(a), [first] * 4 + [second] * 4, FACES + moved)
