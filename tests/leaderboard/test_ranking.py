"""Rarefied yields compared with enumeration and simulation, and ranks beyond chance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.leaderboard.ranking import (
    expected_unique,
    novel_groups,
    rarefied_yield,
    significantly_better,
)
from novelty_metric.protocol import Protocol
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import wilson
from novelty_metric.verdict import CrystalResult, Verdict

GROUPS = st.lists(st.integers(1, 4), max_size=4)


@given(GROUPS, st.integers(0, 4), st.data())
def test_expectation_agrees_with_enumeration(
    groups: list[int], others: int, data: st.DataObject
) -> None:
    members = [name for name, size in enumerate(groups) for _ in range(size)]
    pool = [*members, *[None] * others][:10]
    sizes = [pool.count(name) for name in set(pool) - {None}]
    drawn = data.draw(st.integers(0, len(pool)))
    draws = list(itertools.combinations(pool, drawn))
    found = sum(len(set(draw) - {None}) for draw in draws) / len(draws)
    assert expected_unique(sizes, len(pool), drawn) == pytest.approx(found)


@given(st.lists(st.integers(1, 500), max_size=30), st.integers(0, 5000), st.data())
def test_expectation_agrees_with_the_binomial_formula_and_never_decreases(
    groups: list[int], others: int, data: st.DataObject
) -> None:
    total = sum(groups) + others
    drawn = data.draw(st.integers(0, total))
    found = expected_unique(groups, total, drawn)
    exact = sum(1 - math.comb(total - g, drawn) / math.comb(total, drawn) for g in groups)
    assert found == pytest.approx(exact)
    assert expected_unique(groups, total, total) == pytest.approx(len(groups))
    if drawn:
        assert expected_unique(groups, total, drawn - 1) <= found + 1e-9


def test_impossible_numbers_are_refused() -> None:
    for groups, total, drawn in (([], 3, 4), ([2, 2], 3, 1), ([], 3, -1)):
        with pytest.raises(ValueError, match="of 3"):
            expected_unique(groups, total, drawn)


def report(groups: list[int | None], others: int) -> NoveltyReport:
    novel = [
        CrystalResult(
            id=str(i),
            smact_valid=True,
            eligible=True,
            verdict=Verdict.UNMATCHED,
            duplicate_group=group,
        )
        for i, group in enumerate(groups)
    ]
    rest = [
        CrystalResult(
            id=f"o{i}",
            smact_valid=True,
            eligible=True,
            verdict=Verdict.DUPLICATE,
            duplicate_group=1000 + i,
        )
        for i in range(others)
    ]
    context = RunContext(
        protocol=Protocol(),
        reference_name="r",
        reference_size=1,
        crystals_hash="",
        store_hash="",
    )
    return NoveltyReport.from_results([*novel, *rest], context)


@given(st.lists(st.none() | st.integers(0, 5), max_size=30), st.integers(1, 40))
def test_without_rarefaction_it_is_the_yield_of_the_report(
    groups: list[int | None], others: int
) -> None:
    made = report(groups, others)
    found = rarefied_yield(novel_groups(made), made.n_generated, made.n_generated)
    theirs = made.novel_yield_interval
    assert (found.value, found.low, found.high) == pytest.approx(
        (theirs.value, theirs.low, theirs.high)
    )


@pytest.mark.parametrize("repeats", [1.0, 0.2, 0.02])
def test_interval_contains_the_true_value(repeats: float) -> None:
    """Samples of a model that repeats itself, rarefied to a smaller number."""
    rng = np.random.default_rng(5)
    kinds, total, drawn, novel = int(400 * repeats), 200, 80, 0.3
    # True value: distinct kinds among `drawn` new samples, each novel with probability `novel`.
    truth = kinds * (1 - (1 - novel / kinds) ** drawn) / drawn
    held = 0
    for _ in range(1000):
        made = rng.integers(kinds, size=total)[rng.random(total) < novel]
        found = rarefied_yield(list(np.unique(made, return_counts=True)[1]), total, drawn)
        held += found.low <= truth <= found.high
    interval = wilson(held, 1000)
    assert interval is not None and interval.high >= 0.95


def test_models_without_significant_difference_share_a_rank() -> None:
    better = significantly_better(
        {"a": (0.5, 400), "b": (0.48, 400), "c": (0.2, 400), "d": (0.1, 20)}
    )
    assert better["a"] == better["b"] == ()
    assert better["c"] == ("a", "b")
    assert better["d"] == ("a", "b")


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.tuples(st.floats(0, 1), st.integers(1, 2000)), max_size=6
    )
)
def test_lower_yield_never_has_a_better_rank(yields: dict[str, tuple[float, int]]) -> None:
    better = significantly_better(yields)
    for name, names in better.items():
        assert all(yields[other][0] > yields[name][0] for other in names)
        assert all(name not in better[other] for other in names)
