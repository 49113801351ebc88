"""Shares and means with their uncertainty: intervals, changes, bounds for unknown results."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
class Estimate:
    """A mean with its 95 % interval; the limits are None for a single value."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """Difference of two shares with its 95 % interval, all from -1 to 1."""

    value: float
    low: float
    high: float

    @property
    def beyond_noise(self) -> bool:
        """True if the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Lowest and highest possible value of a share."""

    low: float
    high: float


def wilson(hits: float, total: float, *, z: float = Z_95) -> Interval | None:
    """Share of hits with Wilson's score interval; None if nothing was counted.

    The interval holds every p for which ``|hits / total − p| ≤ z·sqrt(p(1 − p) / total)``; it stays
    within [0, 1] and has a width even at 0 and 1, unlike the textbook one.

    Parameters
    ----------
    hits, total : number, int
        With 0 ≤ hits ≤ total; hits may be a mean, and then no whole number.
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


def newcombe(
    before: tuple[float, int], after: tuple[float, int], *, correlation: float = 0.0
) -> Change | None:
    """Change of a share with Newcombe's hybrid score interval; None if nothing was counted.

    With l, u the Wilson limits of p1 = before and p2 = after, and r the correlation::

        low  = p2 - p1 - sqrt((p2 - l2)² - 2 r (p2 - l2)(u1 - p1) + (u1 - p1)²)
        high = p2 - p1 + sqrt((u2 - p2)² - 2 r (u2 - p2)(p1 - l1) + (p1 - l1)²)

    Parameters
    ----------
    before, after : (hits, total)
    correlation : float
        Of the two estimates, from -1 to 1: 0 for samples of their own. For one sample measured
        twice it is the coefficient phi of the 2 × 2 table.

    Raises
    ------
    ValueError
        If the counts are not 0 ≤ hits ≤ total, or the correlation is invalid.

    Notes
    -----
    Source: R. G. Newcombe, Stat. Med. 17, 873 (1998), method 10, for independent samples, and
    17, 2635 (1998), methods 8 and 10, for paired ones.

    Examples
    --------
    >>> change = newcombe((48, 80), (56, 70))
    >>> f"{change.value:.4f} [{change.low:.4f}, {change.high:.4f}]"
    '0.2000 [0.0524, 0.3339]'
    """
    if not -1 <= correlation <= 1:
        raise ValueError(f"correlation {correlation}")
    first, second = wilson(*before), wilson(*after)
    if first is None or second is None:
        return None

    def reach(one: float, other: float) -> float:
        # Rounding can take the sum of squares below 0 where the two cancel.
        return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    value = second.value - first.value
    below = reach(second.value - second.low, first.high - first.value)
    above = reach(second.high - second.value, first.value - first.low)
    return Change(value, max(-1.0, value - below), min(1.0, value + above))


def share_bounds(
    hits: int, total: int, *, undecided: int = 0, may_join_hit: int = 0, may_join_miss: int = 0
) -> Bounds | None:
    """Lowest and highest share of hits, if some results and some members are unknown.

    ``low  = hits / (total + may_join_miss)``: every undecided member is a miss, and all possible
    misses are members. ``high = (hits + undecided + may_join_hit) / (total + may_join_hit)``: every
    undecided member is a hit, and all possible hits are members.

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


def mean_estimate(
    values: Sequence[float], *, lowest: float = -math.inf, highest: float = math.inf
) -> Estimate | None:
    """Mean with Student's t interval, ``mean ± t(0.975, n − 1)·s / sqrt(n)``; None without values.

    Parameters
    ----------
    values : sequence of float
    lowest, highest : float
        Limits of what the mean can be; the interval is cut there.

    Notes
    -----
    Source: Student, Biometrika 6, 1 (1908). Exact for normal values; for skewed ones it is right
    for large n, and a test says how nearly for the costs of parents.

    Examples
    --------
    >>> mean = mean_estimate([1.0, 2.0, 3.0])
    >>> f"{mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]"
    '2.00 [-0.48, 4.48]'
    """
    count = len(values)
    if count == 0:
        return None
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, None, None)
    from scipy.special import stdtrit

    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, 0.975)) * spread / math.sqrt(count)
    return Estimate(mean, max(lowest, mean - half), min(highest, mean + half))
