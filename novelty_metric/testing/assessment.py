"""Comparison of a report with its baseline: worse by more than the tolerance, and than chance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, overload

from novelty_metric.comparison.compare import Comparison, Difference, compare
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.ratios import Ratio
from novelty_metric.support.statistics import Change, Interval
from novelty_metric.support.text import percent_interval
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
class Assessment:
    """The comparison of a report with its baseline.

    Attributes
    ----------
    comparison : Comparison
    watched : tuple of dict
        The compared shares as plain values: `share`, its `tolerance` with the largest change
        `allowed` by it (from 0 to 1), the `status` (see `Status`), and what the comparison found.
        None is unknown.
    """

    comparison: Comparison
    watched: tuple[dict[str, Any], ...]

    @property
    def regressed(self) -> bool:
        """True if any share is worse by more than the tolerance, and by more than chance."""
        return any(share["status"] == Status.REGRESSED for share in self.watched)


def assess(
    baseline: NoveltyReport, report: NoveltyReport, tolerances: Iterable[Tolerance]
) -> Assessment:
    """Compare a report with its baseline, share by share."""
    comparison = compare(baseline, report)
    watched = [_watched(one, comparison.differences[one.share]) for one in tolerances]
    return Assessment(comparison=comparison, watched=tuple(watched))


def _watched(tolerance: Tolerance, difference: Difference) -> dict[str, Any]:
    before, after = difference.before.interval, difference.after.interval
    change = difference.change
    allowed = None if before is None else tolerance.allowed(before.value)
    if allowed is None:
        status = Status.UNKNOWN
    elif change is None:
        # Something was eligible, now nothing is: no share can be worse than none at all.
        status = Status.REGRESSED
    elif (worse := change.value * tolerance.direction) <= 0:
        status = Status.KEPT
    elif worse <= allowed + 1e-12:  # exactly the tolerance is tolerated, up to rounding
        status = Status.WITHIN_TOLERANCE
    else:
        status = Status.REGRESSED if change.beyond_noise else Status.WITHIN_NOISE
    return {
        "share": tolerance.share,
        "tolerance": str(tolerance),
        "allowed": allowed,
        "status": status.value,
        "before": numbers(before),
        "before_of": difference.before.total,
        "after": numbers(after),
        "after_of": difference.after.total,
        "change": numbers(change),
        "p_value": difference.p_value,
        "test": difference.test.value,
    }


@overload
def numbers(share: Interval | Change) -> list[float]: ...


@overload
def numbers(share: None) -> None: ...


def numbers(share: Interval | Change | None) -> list[float] | None:
    """Value, lower and upper limit."""
    return None if share is None else [share.value, share.low, share.high]


def broken_floors(check: NoveltyCheck, report: NoveltyReport) -> list[str]:
    """A line for each violated limit: `min_unmatched`, `max_duplicate` and `min_ratio`.

    These are limits on what was measured: no interval excuses them. With nothing eligible, a
    least value is not kept, unless the check allows that.
    """
    beside = report.beside_real_crystals
    found: dict[str, Interval | Ratio | None] = {
        "min_unmatched": report.fractions.get("unmatched"),
        "max_duplicate": report.fractions.get("duplicate"),
        "min_ratio": None if beside is None else beside.novelty_ratio,
    }
    lines = []
    for name, share in found.items():
        limit = getattr(check, name)
        if limit is None:
            continue
        value, sign = None if share is None else share.value, 1 if name.startswith("min_") else -1
        if value is None:
            # Nothing is eligible; or of a ratio, it is not known.
            kept = sign < 0 or (not report.n_eligible and check.allow_empty)
        else:
            kept = sign * (value - limit) >= -1e-12  # up to rounding
        if not kept:
            lines.append(_floor_line(name, limit, share, report))
    return lines


def _floor_line(
    name: str, limit: float, found: Interval | Ratio | None, report: NoveltyReport
) -> str:
    share, wanted = "novelty ratio" if name == "min_ratio" else name[4:], f"{name}={limit:g}"
    if not report.n_eligible:
        return f"{share}: nothing is eligible, so {wanted} is not kept"
    if found is None:
        return f"{share}: unknown, as the reference is not calibrated; {CALIBRATE}"
    if found.value is None:
        return f"{share}: unknown, as neither a generated nor a real crystal is unmatched"
    if isinstance(found, Ratio):
        assert report.beside_real_crystals is not None
        real = percent_interval(report.beside_real_crystals.base_rate, unit=" %")
        shown = f"{found.text} for {report.n_eligible} eligible (real crystals: {real} unmatched)"
    else:
        shown = f"{percent_interval(found, unit=' %')} of {report.n_eligible} eligible"
    inside = found.low <= limit <= found.high
    return f"{share} {shown}: {'above' if name.startswith('max_') else 'below'} {wanted}" + (
        " (which lies within the interval)" if inside else ""
    )


CALIBRATE = "run `novelty-metric reference calibrate REFERENCE` with the settings of the test"
