"""Spread of the figures over several runs, for example of one model with several seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from novelty_metric.comparison.compare import Mismatch, context_mismatches
from novelty_metric.comparison.ratios import NOVELTY_RATIO, OBSERVED_EXPECTED, observed_expected
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Estimate, Interval, mean_estimate
from novelty_metric.verdict import Verdict

GRADED = "graded novelty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over several runs."""

    name: str
    values: tuple[float | None, ...]
    """Of each run, in order; None where it is not known."""
    mean: Estimate | None
    """Over the runs that have it, each counted once, with Student's t interval."""
    deviation: float | None
    """Standard deviation between the runs; None with fewer than two."""
    by_chance: float | None
    """What it would be if the runs differed by the chance of a draw alone: sqrt(mean over the runs
    of p(1 − p) / n), with p the mean share. None where it is not a share.
    """

    @property
    def is_share(self) -> bool:
        """True for a share of crystals."""
        return self.name not in (GRADED, NOVELTY_RATIO, OBSERVED_EXPECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadReport:
    """The result of `spread`."""

    figures: tuple[Spread, ...]
    mismatches: tuple[Mismatch, ...]
    """Settings in which a run differs from the first: then they do not measure the same thing."""


Share = tuple[float, int] | None
"""The value, and the denominator of a share."""


def spread(reports: Sequence[NoveltyReport]) -> SpreadReport:
    """Mean and spread of the headline figures over several reports.

    Raises
    ------
    ValueError
        If there is no report.
    """
    if not reports:
        raise ValueError("no report")
    figures = [_spread(name, [share(one) for one in reports]) for name, share in _SHARES.items()]
    scores = [one.graded.score for one in reports]
    figures.append(_of(GRADED, [None if score is None else score.value for score in scores]))
    figures += _ratios(reports)
    mismatches = [
        mismatch
        for other in reports[1:]
        for mismatch in context_mismatches(reports[0].context, other.context)
    ]
    return SpreadReport(figures=tuple(figures), mismatches=tuple(dict.fromkeys(mismatches)))


def _ratios(reports: Sequence[NoveltyReport]) -> list[Spread]:
    """The ratios to real crystals, if a reference is calibrated."""
    besides = [report.beside_real_crystals for report in reports]
    if not any(besides):
        return []
    ratios = {
        NOVELTY_RATIO: [None if beside is None else beside.novelty_ratio for beside in besides],
        OBSERVED_EXPECTED: [observed_expected(beside) for beside in besides],
    }
    return [
        _of(name, [None if one is None else one.value for one in found], highest=math.inf)
        for name, found in ratios.items()
    ]


def _share(interval: Interval | None, total: int) -> Share:
    return None if interval is None else (interval.value, total)


def _verdict_share(verdict: Verdict) -> Callable[[NoveltyReport], Share]:
    return lambda one: _share(one.fractions.get(verdict.value), one.n_eligible)


_SHARES: Mapping[str, Callable[[NoveltyReport], Share]] = {
    **{verdict.value: _verdict_share(verdict) for verdict in Verdict},
    "unmatched, not suspect": lambda one: _share(
        one.novelty_without_suspect, one.without_suspect.n_eligible
    ),
    "eligible": lambda one: (
        (one.n_eligible / one.n_generated, one.n_generated) if one.n_generated else None
    ),
    "novel yield": lambda one: (one.novel_yield, one.n_generated) if one.n_generated else None,
    "valid": lambda one: _share(one.quality.valid, len(one.results)),
    "stable, unique, novel": lambda one: _share(one.quality.sun, one.n_generated),
}


def _spread(name: str, shares: Sequence[Share]) -> Spread:
    known = [share for share in shares if share is not None]
    by_chance = None
    if known:
        mean = math.fsum(value for value, _ in known) / len(known)
        by_chance = math.sqrt(math.fsum(mean * (1 - mean) / n for _, n in known) / len(known))
    return _of(name, [None if share is None else share[0] for share in shares], by_chance)


def _of(
    name: str,
    values: Sequence[float | None],
    by_chance: float | None = None,
    *,
    highest: float = 1.0,
) -> Spread:
    finite = [value if value is None or math.isfinite(value) else None for value in values]
    known = [value for value in finite if value is not None]
    return Spread(
        name=name,
        values=tuple(finite),
        mean=mean_estimate(known, lowest=0.0, highest=highest),
        deviation=statistics.stdev(known) if len(known) > 1 else None,
        by_chance=by_chance,
    )
