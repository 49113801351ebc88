"""Step 1: is a composition chemically plausible?"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Composition


def smact_valid(composition: Composition | str) -> bool:
    """Charge neutrality and electronegativity order, by SMACT 4 with its defaults.

    The defaults are ICSD24 oxidation states, the Pauling test on, alloys and single elements
    valid, mixed valence off. A composition on which SMACT raises, as it does for superheavy
    elements, is invalid.

    Parameters
    ----------
    composition : pymatgen Composition or formula

    Raises
    ------
    ValueError
        If the text is not a formula.

    Examples
    --------
    >>> smact_valid("NaCl"), smact_valid("Na2Cl")
    (True, False)

    Notes
    -----
    Source: Davies et al., J. Open Source Softw. 4, 1361 (2019).
    """
    from pymatgen.core import Composition

    given = Composition(composition)
    if not given:
        raise ValueError(f"{composition!r} holds no element")
    return _smact_valid(tuple(sorted(given.get_el_amt_dict().items())))


@lru_cache(maxsize=65536)
def _smact_valid(amounts: tuple[tuple[str, float], ...]) -> bool:
    import warnings

    from pymatgen.core import Composition
    from smact.screening import smact_validity

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(smact_validity(Composition(dict(amounts))))
        except Exception:  # SMACT's own types differ by element and version; the rule is "invalid"
            return False
