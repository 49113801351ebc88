"""Shares with their uncertainty: Wilson's interval, and bounds over what is not known."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054
"""Normal quantile of 0.975: two-sided 95 %."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A share with its 95 % interval, all from 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and greatest value that a share can still take."""

    low: float
    high: float


def wilson(hits: int, total: int, *, z: float = Z_95) -> Interval | None:
    """Share of hits with Wilson's score interval, or None where nothing was counted.

    The interval holds every p for which ``|hits / total − p| ≤ z·sqrt(p(1 − p) / total)``; it stays
    within [0, 1] and has a width even at 0 and 1, unlike the textbook one.

    Parameters
    ----------
    hits, total : int
        With 0 ≤ hits ≤ total.
    z : float
        Normal quantile of the level; 95 % by default.

    Raises
    ------
    ValueError
        If the counts are not 0 ≤ hits ≤ total.

    Notes
    -----
    Source: E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927).

    Examples
    --------
    >>> share = wilson(5, 50)
    >>> f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
    '0.100 [0.043, 0.214]'
    """
    if not 0 <= hits <= total:
        raise ValueError(f"{hits} hits of {total}")
    if total == 0:
        return None
    share = hits / total
    spread = z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt((share * (1 - share) + spread / 4) / total) / (1 + spread)
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == total else min(1.0, centre + half)
    return Interval(share, low, high)


def share_bounds(
    hits: int, total: int, *, undecided: int = 0, may_join_hit: int = 0, may_join_miss: int = 0
) -> Bounds | None:
    """Least and greatest share of hits, when some answers and some members are not known.

    ``low  = hits / (total + may_join_miss)``: every undecided member is a miss, and whoever may
    join as a miss does.
    ``high = (hits + undecided + may_join_hit) / (total + may_join_hit)``: every undecided member is
    a hit, and whoever may join as a hit does.

    Parameters
    ----------
    hits, total : int
        Known hits, and the members they are counted among.
    undecided : int
        Members, within `total`, that may be hits or not.
    may_join_hit, may_join_miss : int
        Outsiders that may turn out to be members and hits, or members and misses. One whose answer
        is open as well is counted in both.

    Returns
    -------
    Bounds or None
        Over every outcome that has a member at all; None if there is no such outcome.

    Raises
    ------
    ValueError
        If a count is negative, or hits and undecided together exceed the total.
    """
    if min(hits, undecided, may_join_hit, may_join_miss) < 0 or hits + undecided > total:
        raise ValueError(f"{hits} hits and {undecided} undecided of {total}")
    if total + may_join_hit + may_join_miss == 0:
        return None
    most_members = total + may_join_miss
    low = hits / most_members if most_members else 1.0
    most_members = total + may_join_hit
    high = (hits + undecided + may_join_hit) / most_members if most_members else 0.0
    return Bounds(low, high)
