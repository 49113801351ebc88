"""Ratios of two shares, and of a share to the value expected from real crystals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from novelty_metric.support.statistics import Z_95


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with its 95 % interval, from 0 to infinity.

    `value` is None where both shares are 0; `high` is infinite where the data set no upper limit.
    """

    value: float | None
    low: float
    high: float

    @property
    def text(self) -> str:
        """The ratio as text, such as ``4.7 [3.1-7.0]``; without an upper limit ``at least 3.3``."""
        if self.value is None:
            return "unknown"
        if not math.isfinite(self.high):
            return f"at least {self.low:.1f}"
        return f"{self.value:.1f} [{self.low:.1f}-{self.high:.1f}]"


@dataclass(frozen=True, slots=True)
class Stratum:
    """Counts of one crystal system: of the model, and of real crystals."""

    hits: int
    total: int
    base_hits: int
    base_total: int


@dataclass(frozen=True, slots=True)
class Standardised:
    """Observed hits, and the number expected from real crystals of the same crystal systems.

    `ratio` is observed / expected.
    """

    observed: int
    expected: float
    ratio: Ratio


def koopman(first: tuple[int, int], second: tuple[int, int]) -> Ratio | None:
    """Ratio of two independent binomial shares with Koopman's score interval.

    A ratio t belongs to the interval if the score test does not reject it: with the shares p1
    and p2 that are most likely under ``p1 / p2 = t``::

        (x1 − n1 p1)² / (n1 p1 (1 − p1)) + (x2 − n2 p2)² / (n2 p2 (1 − p2)) ≤ z²

    Parameters
    ----------
    first, second : (hits, total)
        Ratio of the first share to the second.

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
    for hits, total in (first, second):
        if not 0 <= hits <= total:
            raise ValueError(f"{hits} hits of {total}")
    if first[1] == 0 or second[1] == 0:
        return None
    return _ratio(*first, [_Rate(1.0, *second)])


@dataclass(frozen=True, slots=True)
class _Rate:
    """A base rate ``hits / total``, and its weight in the expected share."""

    weight: float
    hits: float
    total: float


def _ratio(hits: int, total: int, rates: Sequence[_Rate]) -> Ratio:
    """Ratio of the share to that expected from the base rates, with its score interval."""
    share = hits / total
    expected = sum(rate.weight * rate.hits / rate.total for rate in rates)
    if hits == expected == 0:
        return Ratio(None, 0.0, math.inf)
    value = share / expected if expected else math.inf
    # Away from a share of 0 the observed ratio is inside, and the score grows on both sides of it.
    least = 0.5 / (sum(rate.total for rate in rates) + 0.5)
    inside = math.log(
        value if 0 < value < math.inf else (hits + 0.5) / (total + 0.5) / (expected or least)
    )

    def excess(ratio: float) -> float:
        return _score(ratio, hits, total, rates) - Z_95 * Z_95

    low = 0.0 if value == 0 else math.exp(_root(excess, inside, -1.0))
    high = math.inf if value == math.inf else math.exp(_root(excess, inside, 1.0))
    return Ratio(value, low, high)


def _root(excess: Callable[[float], float], inside: float, step: float) -> float:
    """Logarithm of the ratio at which `excess` becomes positive beyond `inside`."""
    from scipy.optimize import brentq

    outside = inside + step
    while excess(math.exp(outside)) < 0 and abs(outside) < 100:
        inside, outside = outside, outside + step
        step *= 2
    return float(brentq(lambda place: excess(math.exp(place)), inside, outside, xtol=1e-12))


PRIOR_CRYSTALS = 0.5
"""Weight of the base rate of all crystal systems in that of one, as a number of crystals."""


def standardised(strata: Sequence[Stratum]) -> Standardised | None:
    """Observed / expected hits, compared with real crystals of the same crystal systems.

    The expected number is ``Σ n_s b_s`` over the crystal systems, with n_s the model's crystals in
    it and b_s the base rate. As some systems hold few real crystals, b_s is drawn towards the base
    rate b of all: ``b_s = (k_s + c b) / (m_s + c)`` for k_s hits of m_s, with c = 0.5 crystals.

    The interval is Koopman's with one base rate per crystal system: a ratio t belongs to it if the
    score test does not reject that the model's share is ``p = t Σ (n_s / n) b_s``, with p and the
    b_s that are most likely under it. With one crystal system it is that of `koopman`, but for c.

    Returns
    -------
    Standardised or None
        None where the model or the real crystals have none.

    Notes
    -----
    `benchmarks/ratios.py` measures how often the interval holds the true ratio.
    """
    if not any(stratum.total for stratum in strata):
        return None
    if not any(stratum.base_total for stratum in strata):
        return None
    hits, total, rates = _counts(strata)
    expected = total * sum(rate.weight * rate.hits / rate.total for rate in rates)
    return Standardised(hits, expected, _ratio(hits, total, rates))


def _counts(strata: Sequence[Stratum]) -> tuple[int, int, list[_Rate]]:
    """The model's hits and crystals, and the base rates, shrunk towards the overall rate."""
    hits, total = sum(one.hits for one in strata), sum(one.total for one in strata)
    crude = sum(one.base_hits for one in strata) / sum(one.base_total for one in strata)
    rates = [
        _Rate(
            one.total / total,
            one.base_hits + PRIOR_CRYSTALS * crude,
            one.base_total + PRIOR_CRYSTALS,
        )
        for one in strata
        if one.total
    ]
    return hits, total, rates


def score_of_ratio(ratio: float, strata: Sequence[Stratum]) -> float:
    """Chi-squared of a ratio; the interval of `standardised` holds those of at most z²."""
    return _score(ratio, *_counts(strata))


def _score(ratio: float, hits: int, total: int, rates: Sequence[_Rate]) -> float:
    """Chi-squared of ``p = ratio Σ weight b``, with the most likely shares under this condition.

    They solve ``(hits − total p) / (p (1 − p)) = −λ``, and with the counts of each base rate
    ``(hits − total b) / (b (1 − b)) = λ ratio weight``, for the λ that meets the condition; the sum
    of Pearson's terms is then λ² times the variance of ``p − ratio Σ weight b``.
    """
    from scipy.optimize import brentq

    def shares(multiplier: float) -> tuple[float, list[float]]:
        return _most_likely(hits, total, -multiplier), [
            _most_likely(rate.hits, rate.total, multiplier * ratio * rate.weight) for rate in rates
        ]

    def gap(multiplier: float) -> float:
        p, base = shares(multiplier)
        return p - ratio * sum(rate.weight * b for rate, b in zip(rates, base, strict=True))

    most = 1.0
    while gap(most) < 0 or gap(-most) > 0:
        most *= 8
    multiplier = brentq(gap, -most, most, xtol=1e-9)
    p, base = shares(multiplier)
    variance = p * (1 - p) / total + sum(
        (ratio * rate.weight) ** 2 * b * (1 - b) / rate.total
        for rate, b in zip(rates, base, strict=True)
    )
    return multiplier * multiplier * variance


def _most_likely(hits: float, total: float, pull: float) -> float:
    """The share b from 0 to 1 with ``hits / b − (total − hits) / (1 − b) = pull``."""
    centre = pull + total
    root = math.sqrt(max(0.0, centre * centre - 4 * pull * hits))
    # The smaller root, each time in the form that does not cancel.
    return 2 * hits / (centre + root) if centre > 0 else (centre - root) / (2 * pull)


def copying_z(generated: Sequence[float], left_out: Sequence[float]) -> float | None:
    """Z of the three-sample test for data copying; it is negative if the model lies nearer.

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
    import numpy as np

    values = np.concatenate([generated, left_out])
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # of equal values, their mean
    greater = float(ranks[places[:n]].sum()) - n * (n + 1) / 2  # pairs with the generated farther
    ties = int((counts.astype(object) ** 3 - counts).sum())
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
