"""Small crystals for the tests of the readers."""

from __future__ import annotations

from functools import cache

import pytest
from pymatgen.core import Lattice, Structure


@pytest.fixture
def crystals() -> list[Structure]:
    """Four crystals: rock salt, a perovskite, a triclinic cell, and a single atom."""
    return [crystal.copy() for crystal in _made()]


@cache
def _made() -> list[Structure]:
    return [
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3]),
        Structure(
            Lattice.cubic(3.905),
            ["Sr", "Ti", "O", "O", "O"],
            [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        ),
        Structure(
            Lattice.from_parameters(4.1, 5.2, 6.3, 78.0, 96.5, 112.25),
            ["Li", "Fe", "P"],
            [[0.11, 0.22, 0.37], [0.52, 0.61, 0.74], [0.87, 0.05, 0.43]],
        ),
        Structure(Lattice.cubic(2.87), ["Fe"], [[0, 0, 0]]),
    ]
