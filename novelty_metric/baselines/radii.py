"""Radii of atoms and ions, used to scale a cell if its elements are exchanged."""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Species


@cache
def atomic_radius(number: int) -> float | None:
    """Atomic radius (Å): measured (Slater 1964), else computed; None if there is none."""
    from pymatgen.core import Element

    element = Element.from_Z(number)
    found = element.atomic_radius or element.atomic_radius_calculated
    return None if found is None else float(found)


@cache
def ionic_radius(species: Species) -> float | None:
    """Ionic radius (Å) from pymatgen's table; None if the table lacks the ion."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an oxidation state that the table lacks
        found = species.ionic_radius
    return None if found is None else float(found)
