"""The expressions of ``--novelty-fail``.

::

    EXPR  = TERM { "," TERM }
    TERM  = SHARE ":" [ "+" | "-" ] NUMBER [ "%" ]
    SHARE = "unmatched" | "novelty" | "duplicate" | "substituted" | "undecided"
          | "novel_yield" | "eligible"

``unmatched:-5%`` fails when the share fell by more than 5 % of the baseline's value,
``novel_yield:0.02`` when it became worse by more than two percentage points, ``duplicate:+0.03``
when it rose by more than three; each only if that is also more than sampling noise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

WORSE = {
    "unmatched": -1,
    "novel_yield": -1,
    "eligible": -1,
    "duplicate": 1,
    "substituted": 1,
    "undecided": 1,
}
"""Shares that can be compared, with the direction in which each becomes worse."""

ALIASES = {"novelty": "unmatched"}

_TERM = re.compile(
    r"(?P<share>\w+)\s*:\s*(?P<sign>[+-]?)\s*(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<percent>%?)"
)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The allowed change of a share before a test fails.

    Attributes
    ----------
    share : str
        One of `WORSE`.
    direction : int
        -1: a fall is watched; 1: a rise.
    size : float
        From 0 to 1.
    relative : bool
        `size` is a part of the baseline's value, not of all crystals.
    """

    share: str
    direction: int
    size: float
    relative: bool

    def allowed(self, baseline: float) -> float:
        """Largest allowed change from this baseline, as a share from 0 to 1."""
        return self.size * baseline if self.relative else self.size

    def __str__(self) -> str:
        sign = "-" if self.direction < 0 else "+"
        number = f"{100 * self.size:g}%" if self.relative else f"{self.size:g}"
        return f"{self.share}:{sign}{number}"


def parse_tolerances(expression: str) -> tuple[Tolerance, ...]:
    """Parse an expression such as ``unmatched:-5%,duplicate:+0.03``.

    Raises
    ------
    ValueError
        In one line, if the expression is invalid, a share is unknown or named twice, or a number is
        too large.

    Examples
    --------
    >>> [str(tolerance) for tolerance in parse_tolerances("novelty:-5%, novel_yield:0.02")]
    ['unmatched:-5%', 'novel_yield:-0.02']
    """
    found: dict[tuple[str, int], Tolerance] = {}
    for term in expression.split(","):
        tolerance = _parse_term(term.strip(), expression)
        key = tolerance.share, tolerance.direction
        if key in found:
            raise ValueError(f"{expression!r} names {tolerance.share} twice in one direction")
        found[key] = tolerance
    return tuple(found.values())


def _parse_term(term: str, expression: str) -> Tolerance:
    match = _TERM.fullmatch(term)
    if match is None:
        what = f"{term!r} in {expression!r}" if term != expression else repr(term)
        raise ValueError(
            f"{what} is not of the form SHARE:[+|-]NUMBER[%], such as unmatched:-5% or "
            "duplicate:+0.03"
        )
    share = ALIASES.get(match["share"], match["share"])
    if share not in WORSE:
        raise ValueError(
            f"{term!r}: no share named {share!r}; known: {', '.join([*WORSE, *ALIASES])}"
        )
    number, relative = float(match["number"]), bool(match["percent"])
    size = number / 100 if relative else number
    if size > 1:
        raise ValueError(
            f"{term!r}: {match['number']}{match['percent']} is more than the whole; "
            "0.05 is five percentage points, 5% a twentieth of the baseline's value"
        )
    direction = {"-": -1, "+": 1, "": WORSE[share]}[match["sign"]]
    return Tolerance(share, direction, size, relative)
