"""Wilson's interval and the bounds over what is not known."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from novelty_metric.statistics import Bounds, share_bounds, wilson


@given(st.integers(0, 3000), st.integers(1, 3000))
def test_wilson_is_the_interval_that_scipy_gives(hits: int, total: int) -> None:
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
def test_wilson_refuses_counts_that_are_none(hits: int, total: int) -> None:
    with pytest.raises(ValueError, match="hits of"):
        wilson(hits, total)


def outcomes(
    hits: int, total: int, *, undecided: int, only_hit: int, only_miss: int, either: int
) -> list[float]:
    """Every share that can come out, by trying all ways in which the open cases may end."""
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
def test_bounds_are_the_extremes_of_all_outcomes(
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


def test_bounds_refuse_more_answers_than_members() -> None:
    with pytest.raises(ValueError, match="undecided"):
        share_bounds(2, 3, undecided=2)
    with pytest.raises(ValueError, match="undecided"):
        share_bounds(0, 3, may_join_hit=-1)
