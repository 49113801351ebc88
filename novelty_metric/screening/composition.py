"""Chemical plausibility of a composition."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.errors import InputError

if TYPE_CHECKING:
    from pymatgen.core import Composition

DEFAULT_SET = "icsd24, 3 or more reports"
"""Name in ``report.json`` of the oxidation states that `smact_validity` uses by default."""

_LOOKUPS = {
    "icsd24": "lookup_element_oxidation_states_icsd24",
    "icsd16": "lookup_element_oxidation_states_icsd",
    "smact14": "lookup_element_oxidation_states",
    "pymatgen_sp": "lookup_element_oxidation_states_sp",
    "wiki": "lookup_element_oxidation_states_wiki",
}
OXIDATION_STATE_SETS = tuple(_LOOKUPS)
"""SMACT's names of its other sets."""

MOST_ATOMS = 10**6
"""Maximum number of atoms in a reduced formula. The possible total charges are a row of bits; this
many atoms take some megabytes and a tenth of a second.
"""


@dataclass(frozen=True, eq=False)
class OxidationStates:
    """One of SMACT's sets of oxidation states, by element. Compared by identity.

    `name` is as reports show it; that of a file holds the start of its SHA-256.
    """

    name: str
    states: Mapping[str, tuple[int, ...]]


def oxidation_states_name(given: str | Path | None) -> str:
    """The name of a set of oxidation states in reports, determined without SMACT.

    Parameters
    ----------
    given : str, path or None
        One of `OXIDATION_STATE_SETS`, a file in SMACT's format (an element and its oxidation states
        a line), or None for the default of `smact_validity`: the ICSD of 2024, each ion reported at
        least 3 times. SMACT's own ``icsd24`` asks for more than 5 reports.

    Raises
    ------
    InputError
        If there is no such set and no such file, or the file is not in SMACT's format.
    """
    if given is None:
        return DEFAULT_SET
    if given in _LOOKUPS:
        return str(given)
    path = Path(given)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(
            f"no oxidation states named {str(given)!r}; known to SMACT: {', '.join(_LOOKUPS)}, "
            "or a file in its format"
        ) from error
    _parsed(path, content)
    return f"{path.name}, sha256 {hashlib.sha256(content).hexdigest()[:12]}"


def load_oxidation_states(given: str | Path | None = None) -> OxidationStates:
    """A set of oxidation states, in the form that SMACT reads; see `oxidation_states_name`."""
    return _load(given, oxidation_states_name(given))


@functools.lru_cache(maxsize=16)
def _load(given: str | Path | None, name: str) -> OxidationStates:
    if given is None:
        from smact.utils.oxidation import ICSD24OxStatesFilter

        table = ICSD24OxStatesFilter().filter()
        listed = {
            str(element): [int(state) for state in str(states).split()]
            for element, states in zip(table["element"], table["oxidation_state"], strict=True)
        }
    elif given in _LOOKUPS:
        from pymatgen.core import Element
        from smact import data_loader

        lookup = getattr(data_loader, _LOOKUPS[str(given)])
        listed = {element.symbol: lookup(element.symbol) or [] for element in Element}
    else:
        listed = _parsed(Path(given), Path(given).read_bytes())
    return OxidationStates(name, {el: tuple(states) for el, states in listed.items() if states})


def _parsed(path: Path, content: bytes) -> dict[str, list[int]]:
    """A file in SMACT's format: ``#`` begins a comment; lines without a digit are ignored."""
    rows: dict[str, list[int]] = {}
    try:
        for line in content.decode().splitlines():
            words = line.split()
            if words and not line.lstrip().startswith("#") and any(map(str.isdigit, line)):
                rows[words[0]] = [int(word) for word in words[1:]]
    except ValueError as error:
        raise InputError(
            f"smact_oxidation_states={path} is not in SMACT's format, a line such as "
            f"'Fe 2 3' per element ({error})"
        ) from error
    if not rows:
        raise InputError(f"smact_oxidation_states={path} contains no oxidation states")
    return rows


def smact_valid(
    composition: Composition | str, oxidation_states: OxidationStates | None = None
) -> bool:
    """Charge neutrality and electronegativity order, with the results of SMACT's `smact_validity`.

    The defaults of SMACT 4 hold: the Pauling test is on, alloys and single elements are valid,
    mixed valence is off. A composition on which SMACT raises, as it does for superheavy elements,
    is invalid.

    SMACT tries every combination of oxidation states, of which 18 elements can have 10¹³. The
    answer here is the same and takes a time that grows with the number of elements.

    Parameters
    ----------
    composition : pymatgen Composition or formula
    oxidation_states : OxidationStates, optional
        Default: those that `smact_validity` takes.

    Raises
    ------
    ValueError
        If the text is not a formula, an amount is not finite, or the reduced formula has more than
        `MOST_ATOMS` atoms.

    Examples
    --------
    >>> smact_valid("NaCl"), smact_valid("Na2Cl")
    (True, False)

    Notes
    -----
    Source: Davies et al., J. Open Source Softw. 4, 1361 (2019).
    """
    from pymatgen.core import Composition

    amounts = Composition(composition).get_el_amt_dict()
    if not amounts:
        raise ValueError(f"{composition!r} contains no element")
    if not all(map(math.isfinite, amounts.values())):
        raise ValueError(f"{composition!r} contains an amount that is not finite")
    # SMACT cuts amounts to whole numbers.
    counts = {symbol: int(amount) for symbol, amount in amounts.items()}
    divisor = math.gcd(*counts.values())
    reduced = {symbol: count // divisor for symbol, count in counts.items()} if divisor else counts
    if sum(reduced.values()) > MOST_ATOMS:
        raise ValueError(f"{sum(reduced.values())} atoms in a formula, more than {MOST_ATOMS}")
    if oxidation_states is None:
        oxidation_states = load_oxidation_states()
    return _smact_valid(tuple(sorted(reduced.items())), oxidation_states)


@functools.lru_cache(maxsize=65536)
def _smact_valid(counts: tuple[tuple[str, int], ...], oxidation_states: OxidationStates) -> bool:
    from smact import metals
    from smact.data_loader import lookup_element_data

    symbols = [symbol for symbol, _ in counts]
    if len(symbols) == 1 or set(symbols) <= set(metals):
        return True
    if not any(count for _, count in counts):
        return False  # SMACT divides by their greatest common divisor, zero
    ions = []
    for symbol, count in counts:
        states = oxidation_states.states.get(symbol)
        data = lookup_element_data(symbol)
        # Without an electronegativity no pair of this element passes SMACT's Pauling test.
        if states is None or data is None or data["el_neg"] is None:
            return False
        ions.append((data["el_neg"], count, states))
    return neutral_and_ordered(ions)


def neutral_and_ordered(ions: Iterable[tuple[float, int, Sequence[int]]]) -> bool:
    """True if some choice of one oxidation state per element passes both tests of SMACT.

    The charges sum to zero, and every cation is less electronegative than every anion; oxidation
    state 0 is neither.

    Parameters
    ----------
    ions : iterable of tuple
        For each element its electronegativity, number of atoms, and oxidation states.

    Notes
    -----
    Sort the elements by electronegativity and cut the row in two, never between equals. If the
    elements before the cut take states ≥ 0 and those behind it states ≤ 0, the order is kept. And
    every choice that keeps the order has such a cut: behind the last element that is at most as
    electronegative as the most electronegative cation (before the first, if there is no cation);
    no anion is before it, no cation behind it. So a choice exists exactly if, for some cut, a
    positive charge that the first part can reach equals a negative one that the second can. The
    charges that a part can reach are a row of bits, which an element of n atoms in state q shifts
    by n·q.
    """
    row = sorted(ions)
    positive = [1]  # bit c: the elements before the cut can have the charge c
    for _, count, states in row:
        positive.append(_shifted(positive[-1], count, [q for q in states if q >= 0]))
    negative = 1
    for cut in range(len(row), -1, -1):
        between_equals = 0 < cut < len(row) and row[cut - 1][0] == row[cut][0]
        if not between_equals and positive[cut] & negative:
            return True
        if cut:
            _, count, states = row[cut - 1]
            negative = _shifted(negative, count, [-q for q in states if q <= 0])
    return False


def _shifted(reached: int, count: int, charges: Iterable[int]) -> int:
    result = 0
    for charge in charges:
        result |= reached << count * charge
    return result
