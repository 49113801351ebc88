"""Ratios of two shares, and of a share to what real crystals lead one to expect."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from novelty_metric.support.statistics import Z_95, Interval, wilson


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with its 95 % interval, from 0 to infinity.

    Attributes
    ----------
    value : float or None
        None where both shares are 0.
    low, high : float
        `high` is infinite where the data set no upper limit.
    """

    value: float | None
    low: float
    high: float

    @property
    def text(self) -> str:
        """Such as ``4.7 [3.1-7.0]``; without an upper limit ``at least 3.3``."""
        if self.value is None:
            return "unknown"
        if not math.isfinite(self.high):
            return f"at least {self.low:.1f}"
        return f"{self.value:.1f} [{self.low:.1f}-{self.high:.1f}]"


@dataclass(frozen=True, slots=True)
class Stratum:
    """Counts of one crystal system.

    Attributes
    ----------
    hits, total : int
        Of the model.
    base_hits, base_total : int
        Of real crystals.
    """

    hits: int
    total: int
    base_hits: int
    base_total: int


@dataclass(frozen=True, slots=True)
class Standardised:
    """Observed hits beside the number that real crystals of the same crystal systems would give.

    Attributes
    ----------
    observed : int
    expected : float
    ratio : Ratio
        ``observed / expected``.
    """

    observed: int
    expected: float
    ratio: Ratio


def koopman(first: tuple[int, int], second: tuple[int, int], *, z: float = Z_95) -> Ratio | None:
    """Ratio of two independent binomial shares with Koopman's score interval.

    A ratio t belongs to the interval if the score test does not reject it: with the shares p1
    and p2 that are most likely under ``p1 / p2 = t``::

        (x1 − n1 p1)² / (n1 p1 (1 − p1)) + (x2 − n2 p2)² / (n2 p2 (1 − p2)) ≤ z²

    Parameters
    ----------
    first, second : (hits, total)
        Ratio of the first share to the second.
    z : float
        Normal quantile of the level; 95 % by default.

    Returns
    -------
    Ratio or None
        None where one of the totals is 0.

    Raises
    ------
    ValueError
        If the counts are not 0 ≤ hits ≤ total.

    Notes
    -----
    Source: P. A. R. Koopman, Biometrics 40, 513 (1984).

    Examples
    --------
    >>> ratio = koopman((36, 40), (16, 80))
    >>> f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
    '4.50 [2.94, 7.15]'
    """
    (x1, n1), (x2, n2) = first, second
    for hits, total in (first, second):
        if not 0 <= hits <= total:
            raise ValueError(f"{hits} hits of {total}")
    if n1 == 0 or n2 == 0:
        return None
    if x1 == 0 and x2 == 0:
        return Ratio(None, 0.0, math.inf)
    value = (x1 / n1) / (x2 / n2) if x2 else math.inf

    def excess(log_ratio: float) -> float:
        return _score(math.exp(log_ratio), x1, n1, x2, n2) - z * z

    # Away from a share of 0 the observed ratio is inside, and the score grows on both sides of it.
    inside = math.log((x1 + 0.5) / (n1 + 0.5) / ((x2 + 0.5) / (n2 + 0.5)))
    if x1 > 0 and x2 > 0:
        inside = math.log(value)
    low = 0.0 if x1 == 0 else math.exp(_root(excess, inside, -1.0))
    high = math.inf if x2 == 0 else math.exp(_root(excess, inside, 1.0))
    return Ratio(value, low, high)


def _score(ratio: float, x1: int, n1: int, x2: int, n2: int) -> float:
    """Koopman's chi-squared of a ratio.

    The most likely p1 solves a quadratic equation; its smaller root is the one below 1.
    """
    a = ratio * (n1 + x2) + x1 + n2
    root = math.sqrt(max(0.0, a * a - 4 * ratio * (n1 + n2) * (x1 + x2)))
    # The smaller root in the form that does not cancel.
    p1 = 2 * ratio * (x1 + x2) / (a + root)
    p2 = p1 / ratio
    return _chi_squared(x1, n1, p1) + _chi_squared(x2, n2, p2)


def _chi_squared(hits: int, total: int, share: float) -> float:
    if share <= 0 or share >= 1:
        return 0.0 if hits == total * round(share) else math.inf
    return (hits - total * share) ** 2 / (total * share * (1 - share))


def _root(excess: Callable[[float], float], inside: float, step: float) -> float:
    """Where `excess` turns positive on the way from `inside`, by bisection."""
    outside = inside + step
    while excess(outside) < 0 and abs(outside) < 100:
        inside, outside = outside, outside + step
        step *= 2
    for _ in range(80):
        middle = (inside + outside) / 2
        if excess(middle) < 0:
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2


PRIOR_CRYSTALS = 0.5
"""Weight of the base rate of all crystal systems in that of one, in crystals."""


def standardised(strata: Sequence[Stratum]) -> Standardised | None:
    """Observed over expected hits: is the model beyond real crystals of the symmetries it makes?

    The expected number is ``Σ n_s b_s`` over the crystal systems, with n_s the model's crystals in
    it and b_s the base rate. As some systems hold few real crystals, b_s is drawn towards the base
    rate b of all: ``b_s = (k_s + c b) / (m_s + c)`` for k_s hits of m_s, with c = 0.5 crystals.

    The interval is MOVER-R of the model's share (Wilson) over the expected share, whose own limits
    follow from those of the b_s (Wilson) by the method of variance estimates recovery.

    Returns
    -------
    Standardised or None
        None where the model or the real crystals have none.

    Notes
    -----
    Source: A. Donner and G. Y. Zou, Stat. Methods Med. Res. 21, 347 (2012).
    """
    total = sum(stratum.total for stratum in strata)
    base_total = sum(stratum.base_total for stratum in strata)
    if total == 0 or base_total == 0:
        return None
    observed = sum(stratum.hits for stratum in strata)
    crude = sum(stratum.base_hits for stratum in strata) / base_total
    expected = below = above = 0.0
    for stratum in strata:
        if not stratum.total:
            continue
        weight = stratum.total / total
        hits = stratum.base_hits + PRIOR_CRYSTALS * crude
        share = wilson(hits, stratum.base_total + PRIOR_CRYSTALS)
        assert share is not None
        expected += weight * share.value
        below += (weight * (share.value - share.low)) ** 2
        above += (weight * (share.high - share.value)) ** 2
    model = wilson(observed, total)
    assert model is not None
    limits = Interval(
        expected, max(0.0, expected - math.sqrt(below)), min(1.0, expected + math.sqrt(above))
    )
    return Standardised(observed, total * expected, _mover_ratio(model, limits))


def _mover_ratio(first: Interval, second: Interval) -> Ratio:
    """Ratio of two independent estimates from their limits."""
    a, b = first.value, second.value
    if b == 0:
        low = 0.0 if a == 0 else first.low / second.high
        return Ratio(None if a == 0 else math.inf, low, math.inf)
    square = (a * b) ** 2
    inner = square - first.low * second.high * (2 * a - first.low) * (2 * b - second.high)
    bottom = second.high * (2 * b - second.high)
    low = (a * b - math.sqrt(max(0.0, inner))) / bottom if bottom > 0 else first.low / second.high
    inner = square - first.high * second.low * (2 * a - first.high) * (2 * b - second.low)
    bottom = second.low * (2 * b - second.low)
    high = (a * b + math.sqrt(max(0.0, inner))) / bottom if bottom > 0 else math.inf
    return Ratio(a / b, max(0.0, low), high)


def copying_z(generated: Sequence[float], left_out: Sequence[float]) -> float | None:
    """Z of the three-sample test on data copying: negative where the model lies nearer.

    The Mann-Whitney statistic of the distances to the nearest reference crystal: of the generated
    crystals and of real ones that the reference does not hold. Below −3 the model copies; near 0 it
    lies as near to the reference as real crystals do.

    Parameters
    ----------
    generated, left_out : sequence of float
        Distances, here costs of the nearest parent; infinite where there is none. Equal ones count
        as ties.

    Returns
    -------
    float or None
        None where one of the two is empty, or all distances are equal.

    Notes
    -----
    Source: C. Meehan, K. Chaudhuri and S. Dasgupta, AISTATS 2020, arXiv 2004.05675, without its
    division of space into cells.
    """
    n, m = len(generated), len(left_out)
    if n == 0 or m == 0:
        return None
    counts: dict[float, list[int]] = {}
    for place, values in enumerate((generated, left_out)):
        for value in values:
            counts.setdefault(value, [0, 0])[place] += 1
    greater, ties, seen = 0.0, 0, 0
    for value in sorted(counts):
        own, other = counts[value]
        greater += own * (seen + other / 2)  # pairs in which the generated one is farther
        seen += other
        ties += (own + other) ** 3 - (own + other)
    size = n + m
    variance = n * m / 12 * (size + 1 - ties / (size * (size - 1)))
    if variance <= 0:
        return None
    return (greater - n * m / 2) / math.sqrt(variance)


def strata_of(
    model: Mapping[str, tuple[int, int]], base: Mapping[str, tuple[int, int]]
) -> list[Stratum]:
    """Strata from (hits, total) by crystal system, of the model and of real crystals."""
    none = (0, 0)
    names = dict.fromkeys((*model, *base))
    return [Stratum(*model.get(name, none), *base.get(name, none)) for name in names]
