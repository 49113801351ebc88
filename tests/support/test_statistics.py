"""Wilson's interval, and bounds for unknown outcomes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from novelty_metric.support.statistics import Bounds, Estimate, mean_estimate, share_bounds, wilson


@given(st.integers(0, 3000), st.integers(1, 3000))
def test_wilson_agrees_with_scipy(hits: int, total: int) -> None:
    hits = min(hits, total)
    ours = wilson(hits, total)
    theirs = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert ours is not None
    assert ours.value == hits / total
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)
    assert 0.0 <= ours.low <= ours.value <= ours.high <= 1.0


def test_wilson_of_nothing_is_none() -> None:
    assert wilson(0, 0) is None


@pytest.mark.parametrize(("hits", "total"), [(-1, 3), (4, 3), (0, -1)])
def test_wilson_refuses_invalid_counts(hits: int, total: int) -> None:
    with pytest.raises(ValueError, match="hits of"):
        wilson(hits, total)


def outcomes(
    hits: int, total: int, *, undecided: int, only_hit: int, only_miss: int, either: int
) -> list[float]:
    """All possible shares, by enumeration of the outcomes of the unknown cases."""
    ways: list[list[tuple[int, int]]] = [[(0, 0), (1, 0)]] * undecided
    ways += [[(0, 0), (1, 1)]] * only_hit
    ways += [[(0, 0), (0, 1)]] * only_miss
    ways += [[(0, 0), (0, 1), (1, 1)]] * either
    shares = []
    for ends in product(*ways):
        more_hits, more_members = sum(h for h, _ in ends), sum(m for _, m in ends)
        if total + more_members:
            shares.append((hits + more_hits) / (total + more_members))
    return shares


small = st.integers(0, 2)


@given(st.tuples(small, small, small), st.tuples(small, small, small))
def test_bounds_agree_with_enumeration_of_all_outcomes(
    members: tuple[int, int, int], outsiders: tuple[int, int, int]
) -> None:
    hits, undecided, misses = members
    only_hit, only_miss, either = outsiders
    total = hits + undecided + misses
    bounds = share_bounds(
        hits,
        total,
        undecided=undecided,
        may_join_hit=only_hit + either,
        may_join_miss=only_miss + either,
    )
    shares = outcomes(
        hits,
        total,
        undecided=undecided,
        only_hit=only_hit,
        only_miss=only_miss,
        either=either,
    )
    if not shares:
        assert bounds is None
        return
    assert bounds == Bounds(min(shares), max(shares))


def test_bounds_refuse_more_results_than_members() -> None:
    with pytest.raises(ValueError, match="undecided"):
        share_bounds(2, 3, undecided=2)
    with pytest.raises(ValueError, match="undecided"):
        share_bounds(0, 3, may_join_hit=-1)


# Calculated by hand


def test_wilson_calculated_by_hand() -> None:
    # z = 2, one of four: z²/n = 1, centre (1/4 + 1/2) / 2 = 3/8, half-width 2·sqrt((3/16 + 1/4) /
    # 4) / 2 = sqrt(7/64).
    share = wilson(1, 4, z=2.0)
    assert share is not None
    assert (share.low, share.high) == pytest.approx((3 / 8 - 7**0.5 / 8, 3 / 8 + 7**0.5 / 8))
    # 95 %, eight of ten: centre 0.99207 / 1.38415, half-width 1.95996·sqrt(0.0256037) / 1.38415.
    share = wilson(8, 10)
    assert share is not None
    assert (share.low, share.high) == pytest.approx((0.49016, 0.94332), abs=1e-5)


def test_student_calculated_by_hand() -> None:
    # Mean 2, s = 1, t(0.975, 2) = 4.30265: half-width 4.30265 / sqrt(3) = 2.48414.
    mean = mean_estimate([1.0, 2.0, 3.0])
    assert mean is not None and mean.low is not None and mean.high is not None
    assert (mean.value, mean.low, mean.high) == pytest.approx((2, -0.48414, 4.48414), abs=1e-5)
    assert mean_estimate([1.0, 2.0, 3.0], lowest=0.0, highest=4.0) == Estimate(2.0, 0.0, 4.0)
    assert mean_estimate([7.0]) == Estimate(7.0, None, None)
    assert mean_estimate([]) is None


def test_bounds_calculated_by_hand() -> None:
    # Two hits of five, one of the five undecided. Two more could join: one would be a hit, one a
    # miss. Lowest: the undecided one is a miss and the miss joins, 2 of 6. Highest: both are hits,
    # 4 of 6.
    bounds = share_bounds(2, 5, undecided=1, may_join_hit=1, may_join_miss=1)
    assert bounds == Bounds(2 / 6, 4 / 6)


# Coverage by simulation


@pytest.mark.parametrize(("n", "p"), list(product((20, 100, 500), (0.05, 0.2, 0.5, 0.9))))
def test_coverage_of_wilson(n: int, p: float) -> None:
    draws = 4000
    limits = [wilson(hits, n) for hits in range(n + 1)]
    hits = np.random.default_rng([n, int(100 * p)]).binomial(n, p, size=draws)
    covered = sum(limits[k].low <= p <= limits[k].high for k in hits.tolist())  # type: ignore[union-attr]
    # Known coverage of Wilson's interval at these n and p, with the noise of 4,000 draws: at least
    # 0.92.
    assert 0.92 < covered / draws < 0.995


def test_coverage_of_the_mean_of_skewed_costs() -> None:
    rng = np.random.default_rng(3)
    covered, draws = 0, 1000
    for _ in range(draws):
        # 40 % are duplicates with cost 0; the others have a skewed distribution.
        costs = rng.exponential(10.0, size=100) * (rng.uniform(size=100) > 0.4)
        mean = mean_estimate(costs.tolist(), lowest=0.0)
        assert mean is not None and mean.low is not None and mean.high is not None
        covered += mean.low <= 6.0 <= mean.high
    assert 0.92 < covered / draws < 0.97


@pytest.mark.parametrize("shape", ["all different", "even", "steep", "mostly novel"])
def test_coverage_of_the_yield(shape: str) -> None:
    """The number of distinct novel crystals; crystals of one kind count once."""
    n, draws = 200, 4000
    rng = np.random.default_rng(11)
    kinds = {"all different": 100_000, "even": 150, "steep": 2000, "mostly novel": 300}[shape]
    weights = np.ones(kinds) if shape != "steep" else 1 / np.arange(1, kinds + 1)
    weights /= weights.sum()
    novel = rng.uniform(size=kinds) < (0.9 if shape == "mostly novel" else 0.3)
    # A kind occurs at least once with probability 1 - (1 - p)^n.
    truth = float((1 - (1 - weights[novel]) ** n).sum()) / n
    covered = 0
    ends = np.cumsum(weights)[:-1]
    for _ in range(draws):
        met = np.unique(np.searchsorted(ends, rng.uniform(size=n)))
        share = wilson(int(novel[met].sum()), n)
        assert share is not None
        covered += share.low <= truth <= share.high
    # Without equal crystals it is a binomial proportion, for which Wilson's coverage is 94 to 95 %.
    assert covered / draws > 0.935
