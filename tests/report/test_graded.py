"""Graded novelty: distances to the nearest parents, and their distribution."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.report.graded import (
    COST_EDGES,
    crystal_score,
    graded_novelty,
)
from novelty_metric.support.statistics import wilson
from novelty_metric.verdict import CrystalResult, Parent, Route, TriedParent, Verdict


def candidate(cost: float, route: Route = Route.LATTICE_SITES, **changes: Any) -> TriedParent:
    rms = 0.1 if route is Route.LATTICE_SITES else None
    values: dict[str, Any] = {
        "route": route,
        "rank": 1,
        "index": 0,
        "parent_id": "t",
        "cost": cost,
        "match_rms": rms,
        "supercell": None,
        "elements": ("K", "Cl"),
        "element_map": {"Na": {"K": 1}, "Cl": {"Cl": 1}},
        "share_exchanged": 0.5,
    }
    return TriedParent(parent=Parent(**{**values, **changes}))


def crystal(
    verdict: Verdict | None, shown: TriedParent | None = None, **changes: Any
) -> CrystalResult:
    """A row with this candidate as its parent."""
    if shown is not None:
        names = ("cost", "match_rms", "share_exchanged")
        changes |= {name: getattr(shown.parent, name) for name in names}
        changes["parents"] = (shown,)
    return CrystalResult(id="g", verdict=verdict, **changes)


COPY = crystal(Verdict.DUPLICATE, cost=0.0, match_rms=0.02, share_exchanged=0.0)
ALONE = crystal(Verdict.UNMATCHED)


def test_refusal_by_relaxation_does_not_change_the_score() -> None:
    parent = candidate(1.0, Route.WYCKOFF)
    refused = dataclasses.replace(parent, relaxed=True, converged=True, confirmed=False)
    open_ = crystal(Verdict.UNDECIDED, parent)
    assert graded_novelty([open_]) == graded_novelty([crystal(Verdict.UNMATCHED, refused)])


def test_scores_range_from_copy_to_no_parent() -> None:
    half = crystal(Verdict.UNMATCHED, candidate(51.0))
    assert [crystal_score(r) for r in (COPY, half, ALONE)] == [0.0, 0.5, 1.0]
    assert crystal_score(crystal(Verdict.UNDECIDED)) is None
    assert crystal_score(crystal(None)) is None


def test_distribution_calculated_by_hand() -> None:
    rows = [COPY, crystal(Verdict.UNMATCHED, candidate(10.2)), ALONE, crystal(Verdict.UNDECIDED)]
    rows.append(crystal(Verdict.SUBSTITUTED, candidate(20.4, Route.WYCKOFF)))
    found = graded_novelty(rows)
    assert (found.n, found.unknown) == (4, 1)
    assert found.without_parent == wilson(1, 4)
    assert found.score is not None
    assert found.score.value == pytest.approx((0 + 0.1 + 1 + 0.2) / 4)
    assert (found.cost.n, found.match_rms.n, found.share_exchanged.n) == (3, 2, 3)
    assert found.cost.mean is not None and found.cost.mean.value == pytest.approx(10.2)
    assert found.cost.quantiles["0.5"] == 10.2
    # Halfway between 0 and 10.2.
    assert found.cost.quantiles["0.25"] == pytest.approx(5.1)
    assert dict(zip(COST_EDGES, found.cost.counts, strict=False)) == {
        0.0: 1,
        1.0: 0,
        2.0: 0,
        5.0: 0,
        10.0: 1,
        20.0: 1,
        50.0: 0,
    }


def test_no_results_have_no_interval() -> None:
    found = graded_novelty([])
    assert (found.n, found.score, found.without_parent) == (0, None, None)
    assert (found.cost.mean, found.cost.quantiles) == (None, {})


@given(st.lists(st.floats(0, 102), min_size=1, max_size=30), st.floats(0, 5))
def test_score_is_linear_in_every_cost(costs: list[float], more: float) -> None:
    def score(values: list[float]) -> float:
        found = graded_novelty([crystal(Verdict.UNMATCHED, candidate(c)) for c in values])
        assert found.score is not None
        assert sum(found.cost.counts) == len(values)
        return found.score.value

    moved = [min(102.0, costs[0] + more), *costs[1:]]
    assert score(moved) - score(costs) == pytest.approx(
        (moved[0] - costs[0]) / 102 / len(costs), abs=1e-9
    )
