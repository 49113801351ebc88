"""Graded novelty: the distance of each crystal from its nearest parent, a continuous measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from novelty_metric.support.statistics import Estimate, Interval, mean_estimate, wilson
from novelty_metric.verdict import CrystalResult, Verdict

LARGEST_COST = 102.0
"""Mean cost of an atom map between elements without Pettifor numbers; see `search.pettifor`."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COST_EDGES = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, LARGEST_COST)
RMS_EDGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
SHARE_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def crystal_score(result: CrystalResult) -> float | None:
    """Graded novelty of one crystal: 0 for a duplicate, 1 if there is no parent.

    ``cost / 102`` of the reference crystal that the row names: the equal crystal of a duplicate,
    the confirmed parent of a substituted crystal, and the cheapest candidate of any other. None
    where the search did not end, or was not made: then "no parent" is not known to be true.
    """
    if result.cost is not None:
        return min(1.0, result.cost / LARGEST_COST)
    return 1.0 if result.verdict == Verdict.UNMATCHED else None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Statistics of the values of a set of crystals."""

    n: int
    """Crystals that have a value."""
    mean: Estimate | None
    """None if no crystal has one."""
    quantiles: Mapping[str, float]
    """By level, such as ``"0.5"``; linear between neighbouring values."""
    edges: tuple[float, ...]
    """Limits of the bins. The upper one belongs to the last bin. Shape (m + 1,)."""
    counts: tuple[int, ...]
    """Crystals per bin. Shape (m,)."""


@dataclass(frozen=True, slots=True)
class GradedNovelty:
    """Graded novelty of a set of crystals."""

    n: int
    """Crystals for which it is known."""
    unknown: int
    """Crystals whose search did not end, and that have no candidate."""
    score: Estimate | None
    """Mean of `crystal_score`."""
    without_parent: Interval | None
    """Share of them that have no parent."""
    cost: Distribution
    match_rms: Distribution
    share_exchanged: Distribution
    """Of the nearest parents. A crystal without a parent is in none of them, one whose nearest
    parent is of the Wyckoff route not in `match_rms`.
    """


def graded_novelty(results: Iterable[CrystalResult]) -> GradedNovelty:
    """Graded novelty of these rows."""
    rows = list(results)
    scores = [score for score in map(crystal_score, rows) if score is not None]
    nearest = [row for row in rows if row.cost is not None]
    return GradedNovelty(
        n=len(scores),
        unknown=len(rows) - len(scores),
        score=mean_estimate(scores, lowest=0.0, highest=1.0),
        without_parent=wilson(len(scores) - len(nearest), len(scores)),
        cost=_distribution([row.cost for row in nearest], COST_EDGES),
        match_rms=_distribution([row.match_rms for row in nearest], RMS_EDGES),
        share_exchanged=_distribution([row.share_exchanged or 0.0 for row in nearest], SHARE_EDGES),
    )


def _distribution(found: Iterable[float | None], edges: tuple[float, ...]) -> Distribution:
    values = [value for value in found if value is not None]
    # What lies beyond the last edge, as with wider tolerances, belongs to the last bin.
    counts, _ = np.histogram(np.minimum(values, edges[-1]), edges)
    levels = np.quantile(values, QUANTILES).tolist() if values else []
    return Distribution(
        n=len(values),
        mean=mean_estimate(sorted(values), lowest=0.0, highest=max(edges[-1], *values, 0.0)),
        quantiles={f"{level:g}": value for level, value in zip(QUANTILES, levels, strict=False)},
        edges=edges,
        counts=tuple(counts.tolist()),
    )
