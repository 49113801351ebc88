"""Elements of a CIF: the element of each site, and the check against the formula."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from novelty_metric.samples.checks import UnreadableCrystal, is_element
from novelty_metric.samples.source import one_line

NULL = ("?", ".", "")
"""Values for unknown, not applicable and empty."""

_SYMBOL = re.compile(r"\s*([A-Za-z]+)[0-9+.-]*\s*")
_FORMULA = re.compile(r"\s*(?:[A-Z][a-z]?\s*(?:\d+\.?\d*|\.\d+)?\s*)+")
_FORMULA_TERM = re.compile(r"([A-Z][a-z]?)\s*(\d+\.?\d*|\.\d+)?")


@lru_cache(maxsize=4096)
def site_symbol(type_symbol: str | None, label: str | None, formula: frozenset[str]) -> str:
    """Symbol of the element of a site.

    The type symbol decides, where there is one. A label is read as an element followed by
    anything, as ``OW1`` or ``H2A``; where it could be two elements (``CA1``) or a group of atoms
    (``OH1``), the elements of the formula decide. A missing column gives None.

    Raises
    ------
    UnreadableCrystal
        If neither tells the element.
    """
    if type_symbol is not None and type_symbol not in NULL:
        match = _SYMBOL.fullmatch(type_symbol)
        symbol = match[1].capitalize() if match else ""
        if is_element(symbol):
            return symbol
        raise UnreadableCrystal(f"{one_line(repr(type_symbol), 40)} is not an element")
    if label is None or label in NULL:
        raise UnreadableCrystal(f"{type_symbol or label!r} is not an element")
    possible = _symbols_of_label(label)
    if len(possible) == 1 and not _is_group(label):
        return possible[0]
    told = [symbol for symbol in possible if symbol in formula]
    if len(told) == 1 and not (_is_group(label) and "H" in formula):
        return told[0]
    if possible:
        raise UnreadableCrystal(
            f"the label {one_line(repr(label), 40)} does not determine the element, and there is "
            "no _atom_site_type_symbol"
        )
    if type_symbol is not None:
        raise UnreadableCrystal(
            f"{type_symbol!r} is not an element, and the label {one_line(repr(label), 40)} does "
            "not begin with one"
        )
    raise UnreadableCrystal(f"{one_line(repr(label), 40)} is not an element")


def _symbols_of_label(label: str) -> list[str]:
    """Elements with which a label can begin."""
    letters = re.match(r"[A-Za-z]*", label)[0]  # type: ignore[index]
    first, second, third = letters[:1].upper(), letters[1:2], letters[2:3]
    two = first + second.lower()
    if second.islower():
        if second == "w" and not third and first in ("O", "H"):  # of water
            return [first]
        return [two] if is_element(two) and not third.islower() else []
    # An upper-case second letter is part of the symbol, or the name of the site.
    possible = [two] if second and is_element(two) else []
    if is_element(first):
        possible.append(first)
    return possible if possible != ["T"] else []  # a tetrahedral site, and hardly tritium


def _is_group(label: str) -> bool:
    """True if the label can be an atom with hydrogen atoms that are not listed."""
    return re.match(r"O-?H|H2O|NH\d", label, re.IGNORECASE) is not None


@lru_cache(maxsize=4096)
def formula_counts(text: str) -> Mapping[str, float] | None:
    """Number of atoms per element in ``_chemical_formula_sum``; None if it is not a plain sum.

    Deuterium and tritium count as hydrogen.
    """
    if len(text) > 1000 or not _FORMULA.fullmatch(text):
        return None
    counts: dict[str, float] = {}
    for symbol, count in _FORMULA_TERM.findall(text):
        if not is_element(symbol):
            return None
        symbol = hydrogen(symbol)
        counts[symbol] = counts.get(symbol, 0.0) + float(count or 1)
    return counts if sum(counts.values()) > 0 else None


def hydrogen(symbol: str) -> str:
    """The element's symbol; H for its isotopes."""
    return "H" if symbol in ("D", "T") else symbol


def content_fault(
    counts: Mapping[str, float], formula: Mapping[str, float], n_units: float | None
) -> str | None:
    """A message if the atoms of the cell, with occupancies, disagree with the formula, else None.

    Some programs write the formula of the whole cell beside the number of formula units. So a
    formula that can be divided by it is taken either way. Without that number the formula is
    compared as a ratio.
    """
    n_atoms, n_formula = sum(counts.values()), sum(formula.values())
    if n_units is None:
        factors = [n_atoms / n_formula]
    else:
        factors = [n_units]
        if all(abs(c / n_units - round(c / n_units)) < 1e-6 for c in formula.values()):
            factors.append(1.0)
    tolerance = 0.1 if n_units is None else 0.5
    for factor in factors:
        if all(
            abs(counts.get(symbol, 0.0) - factor * formula.get(symbol, 0.0)) < tolerance
            for symbol in counts.keys() | formula.keys()
        ):
            return None
    if n_units is None:
        return f"the sites contain {_told(counts)}, and _chemical_formula_sum is {_told(formula)}"
    return (
        f"the sites contain {_told(counts)}, but _chemical_formula_sum and _cell_formula_units_Z "
        "say "
        f"{_told({symbol: n_units * count for symbol, count in formula.items()})}"
    )


def _told(counts: Mapping[str, float]) -> str:
    return " ".join(f"{symbol}{count:.6g}" for symbol, count in counts.items())
