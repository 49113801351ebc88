"""Checks that all readers share: elements, and the lengths and angles of a cell.

pymatgen is imported by the functions that need it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from novelty_metric.samples.source import one_line

if TYPE_CHECKING:
    from pymatgen.core import Element


class UnreadableCrystal(ValueError):
    """A crystal that cannot be read; the message appears in its row."""


def element(name: str | int) -> Element:
    """Element by symbol or atomic number.

    Raises
    ------
    UnreadableCrystal
        If there is none.
    """
    try:
        return _elements()[name]
    except KeyError:
        what = f"atomic number {name}" if isinstance(name, int) else one_line(repr(name), 40)
        raise UnreadableCrystal(f"{what} is not an element") from None


def is_element(symbol: str) -> bool:
    """True for the symbol of an element, or D or T."""
    return symbol in _elements()


@cache
def _elements() -> dict[str | int, Element]:
    from pymatgen.core import Element

    isotopes = ("D", "T")  # of element 1, and not always members of the enumeration
    table: dict[str | int, Element] = {name: Element(name) for name in isotopes}
    for entry in Element:
        if entry.name not in isotopes:
            table[entry.symbol] = table[entry.Z] = entry
    return table


def check_cell(lengths: Sequence[float], angles: Sequence[float]) -> float:
    """Refuse cell lengths a, b, c (Å) and angles α, β, γ (degrees) that are impossible.

    pymatgen would bend impossible angles into possible ones.

    Returns
    -------
    float
        Volume of the cell with these angles and edges of 1.

    Raises
    ------
    UnreadableCrystal
        With the reason in one line.
    """
    values = [*lengths, *angles]
    if not all(math.isfinite(value) for value in values):
        raise UnreadableCrystal(f"the cell contains a number that is not finite: {_short(values)}")
    if min(lengths) <= 0:
        raise UnreadableCrystal(f"a cell length is not above 0: {_short(lengths)}")
    cosines = [math.cos(math.radians(angle)) for angle in angles]
    volume_squared = 1 + 2 * math.prod(cosines) - sum(cosine**2 for cosine in cosines)
    if not 0 < min(angles) <= max(angles) < 180 or volume_squared <= 0:
        raise UnreadableCrystal(f"no cell has the angles {_short(angles)} (degrees)")
    return math.sqrt(volume_squared)


def _short(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
