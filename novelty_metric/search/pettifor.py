"""Modified Pettifor numbers and the cost of an atom map."""

from __future__ import annotations

from typing import Any

import numpy as np

ORDER: tuple[str, ...] = (
    *("He", "Ne", "Ar", "Kr", "Xe", "Rn", "Fr", "Cs", "Rb", "K", "Na", "Li", "Ra", "Ba", "Sr"),
    *("Ca", "Eu", "Yb", "Lu", "Tm", "Y", "Er", "Ho", "Dy", "Tb", "Gd", "Sm", "Pm", "Nd", "Pr"),
    *("Ce", "La", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md"),
    *("No", "Lr", "Sc", "Zr", "Hf", "Ti", "Ta", "Nb", "V", "Cr", "Mo", "W", "Re", "Tc", "Os"),
    *("Ru", "Ir", "Rh", "Pt", "Pd", "Au", "Ag", "Cu", "Ni", "Co", "Fe", "Mn", "Mg", "Zn", "Cd"),
    *("Hg", "Be", "Al", "Ga", "In", "Tl", "Pb", "Sn", "Ge", "Si", "B", "C", "N", "P", "As", "Sb"),
    *("Bi", "Po", "Te", "Se", "S", "O", "At", "I", "Br", "Cl", "F", "H"),
)
"""Elements by modified Pettifor number, from 0.

Source: Glawe, Sanna, Gross and Marques, New J. Phys. 18, 093011 (2016).
"""

NONE = 255
"""Means in arrays that this element has no number."""

WITHOUT_NUMBER = 102
"""Cost of a site if either element has no number, even for equal elements."""

_SYMBOLS: tuple[str, ...] = (
    *("H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S"),
    *("Cl", "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga"),
    *("Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd"),
    *("Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm"),
    *("Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os"),
    *("Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa"),
    *("U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg"),
    *("Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"),
)
"""Element symbols by atomic number, from 1."""

_ATOMIC_NUMBER: dict[str, int] = {symbol: z for z, symbol in enumerate(_SYMBOLS, start=1)}


def _table() -> np.ndarray:
    table = np.full(256, NONE, dtype=np.uint8)
    for number, symbol in enumerate(ORDER):
        table[_ATOMIC_NUMBER[symbol]] = number
    table.setflags(write=False)
    return table


BY_ATOMIC_NUMBER: np.ndarray = _table()
"""Modified Pettifor number by atomic number, `NONE` if there is none, uint8 (256,)."""


def pettifor_number(element: int | str) -> int | None:
    """Modified Pettifor number of an element, or None if it has none.

    Parameters
    ----------
    element : int or str
        Atomic number, or symbol.

    Raises
    ------
    ValueError
        If it is not an element.

    Examples
    --------
    >>> pettifor_number("O"), pettifor_number(2), pettifor_number("Rf")
    (96, 0, None)
    """
    if isinstance(element, str):
        if element not in _ATOMIC_NUMBER:
            raise ValueError(f"{element!r} is not an element symbol")
        element = _ATOMIC_NUMBER[element]
    if not 1 <= element <= len(_SYMBOLS):
        raise ValueError(f"{element} is not an atomic number")
    number = int(BY_ATOMIC_NUMBER[element])
    return None if number == NONE else number


def symbol(atomic_number: int) -> str:
    """Element symbol of an atomic number, 1 to 118."""
    if not 1 <= atomic_number <= len(_SYMBOLS):
        raise ValueError(f"{atomic_number} is not an atomic number")
    return _SYMBOLS[atomic_number - 1]


def pettifor_numbers(atomic_numbers: Any) -> np.ndarray:
    """Modified Pettifor numbers of an array of atomic numbers, uint8; `NONE` if there is none."""
    return BY_ATOMIC_NUMBER[np.asarray(atomic_numbers, dtype=np.intp)]


def site_costs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cost of each pair of sites: |difference of numbers|; 102 if either has no number.

    Parameters
    ----------
    first, second : uint8
        Modified Pettifor numbers, broadcast against each other.

    Returns
    -------
    int64
    """
    costs = np.abs(first.astype(np.int64) - second.astype(np.int64))
    costs[(first == NONE) | (second == NONE)] = WITHOUT_NUMBER
    return costs


def map_cost(first: np.ndarray, second: np.ndarray) -> float:
    """Mean cost over the sites of an atom map.

    Summed in integers and divided once, so that equal costs are equal as floats too.

    Parameters
    ----------
    first, second : uint8, (n_sites,)
        Modified Pettifor numbers of the two elements on each site.
    """
    return int(site_costs(first, second).sum()) / len(first)
