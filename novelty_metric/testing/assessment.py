"""Comparison of a report with its baseline: worse by more than the tolerance, and than chance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from novelty_metric.comparison.compare import Comparison, Difference, compare
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.ratios import Ratio
from novelty_metric.support.statistics import Interval
from novelty_metric.testing.checks import NoveltyCheck
from novelty_metric.testing.tolerance import Tolerance


class Status(StrEnum):
    """The outcome for a share."""

    KEPT = "kept"
    WITHIN_TOLERANCE = "within tolerance"
    WITHIN_NOISE = "within noise"
    REGRESSED = "regressed"
    UNKNOWN = "nothing eligible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One share that is compared with the baseline.

    Attributes
    ----------
    tolerance : Tolerance
    difference : Difference
    allowed : float or None
        Largest change that is tolerated, from 0 to 1; None if it is unknown.
    status : Status
    """

    tolerance: Tolerance
    difference: Difference
    allowed: float | None
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A violated limit.

    Attributes
    ----------
    name : str
        Such as ``min_unmatched``.
    limit : float
    found : Interval, Ratio or None
        The share or the ratio; None where there is none.
    total : int
        Eligible crystals.
    base_rate : Interval or None
        Share of unmatched real crystals, of a ratio.
    """

    name: str
    limit: float
    found: Interval | Ratio | None
    total: int
    base_rate: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The comparison of a report with its baseline."""

    comparison: Comparison
    watched: tuple[Watched, ...]

    @property
    def regressed(self) -> bool:
        """True if any share is worse by more than the tolerance, and by more than chance."""
        return any(share.status is Status.REGRESSED for share in self.watched)


def assess(
    baseline: NoveltyReport, report: NoveltyReport, tolerances: Iterable[Tolerance]
) -> Assessment:
    """Compare a report with its baseline, share by share."""
    comparison = compare(baseline, report)
    watched = []
    for tolerance in tolerances:
        difference = comparison.differences[tolerance.share]
        before = difference.before.interval
        allowed = None if before is None else tolerance.allowed(before.value)
        watched.append(
            Watched(
                tolerance=tolerance,
                difference=difference,
                allowed=allowed,
                status=_status(tolerance, difference),
            )
        )
    return Assessment(comparison=comparison, watched=tuple(watched))


def _status(tolerance: Tolerance, difference: Difference) -> Status:
    before, change = difference.before.interval, difference.change
    if before is None:
        return Status.UNKNOWN
    if change is None:
        # Something was eligible, now nothing is: no share can be worse than none at all.
        return Status.REGRESSED
    worse = change.value * tolerance.direction
    if worse <= 0:
        return Status.KEPT
    # A change of exactly the tolerance is tolerated; so is what differs from it by rounding.
    if worse <= tolerance.allowed(before.value) + 1e-12:
        return Status.WITHIN_TOLERANCE
    return Status.REGRESSED if change.beyond_noise else Status.WITHIN_NOISE


def broken_floors(check: NoveltyCheck, report: NoveltyReport) -> tuple[Floor, ...]:
    """The limits `min_unmatched`, `max_duplicate` and `min_ratio` that are violated.

    These are limits on what was measured: no interval excuses them. With nothing eligible, a
    least value is not kept, unless the check allows that.
    """
    beside = report.beside_real_crystals
    floors = [
        Floor(name=name, limit=limit, found=report.fractions.get(verdict), total=report.n_eligible)
        for name, verdict, limit in (
            ("min_unmatched", "unmatched", check.min_unmatched),
            ("max_duplicate", "duplicate", check.max_duplicate),
        )
        if limit is not None
    ]
    if check.min_ratio is not None:
        floors.append(
            Floor(
                name="min_ratio",
                limit=check.min_ratio,
                found=None if beside is None else beside.novelty_ratio,
                total=report.n_eligible,
                base_rate=None if beside is None else beside.base_rate,
            )
        )
    return tuple(floor for floor in floors if not _kept(floor, check))


def _kept(floor: Floor, check: NoveltyCheck) -> bool:
    value = None if floor.found is None else floor.found.value
    if value is None:
        # Nothing is eligible; or of a ratio, it is not known.
        return floor.name == "max_duplicate" or (not floor.total and check.allow_empty)
    # What differs from the limit by rounding keeps it.
    if floor.name == "max_duplicate":
        return value <= floor.limit + 1e-12
    return value >= floor.limit - 1e-12
