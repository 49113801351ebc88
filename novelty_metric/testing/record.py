"""The result of a check as plain values, sent from xdist workers to the controller."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.testing.assessment import Assessment, numbers

Numbers = list[float]
"""Value, lower and upper limit."""


class Outcome(StrEnum):
    """The outcome of a check."""

    PASSED = "ok"
    REGRESSED = "REGRESSED"
    BELOW_FLOOR = "OUT OF LIMITS"
    NEW_BASELINE = "new baseline"
    UPDATED = "updated"
    MISMATCH = "MISMATCH"
    EMPTY = "NOTHING TO CHECK"


FAILED = (
    Outcome.REGRESSED,
    Outcome.BELOW_FLOOR,
    Outcome.NEW_BASELINE,
    Outcome.MISMATCH,
    Outcome.EMPTY,
)


@dataclass(kw_only=True)
class Record:
    """One check.

    `counts` and `shares` (value, low, high) are those of the eligible crystals by verdict,
    `novelty_ratio` is None without a calibration, and its values are None where they are infinite
    or unknown. `watched` is that of `Assessment`. `changed` are the crystals with another verdict
    than in the baseline; if all crystals have their verdict, `unchanged` is true. `notes` are lines
    for the reader, and `new_baseline` is to be written by whoever owns the session.
    """

    nodeid: str
    name: str
    model: str
    outcome: str
    reference: str
    protocol: str
    potential: str
    generated: int
    eligible: int
    counts: dict[str, int]
    shares: dict[str, Numbers]
    novelty_ratio: list[float | None] | None
    novel_yield: Numbers
    seconds: float
    baseline_path: str
    watched: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    unchanged: bool = False
    notes: list[str] = field(default_factory=list)
    new_baseline: dict[str, Any] | None = None

    @classmethod
    def of(cls, report: NoveltyReport, **given: Any) -> Record:
        """The record of a report; `given` are attributes that the report does not have."""
        context = report.context
        digest = f", {context.crystals_hash[:12]}" if context.crystals_hash else ""
        potential, ratio = context.potential, None
        if report.beside_real_crystals is not None:
            ratio = report.beside_real_crystals.novelty_ratio
        values = None if ratio is None else (ratio.value, ratio.low, ratio.high)
        return cls(
            reference=f"{context.reference_name} ({context.reference_size} crystals{digest})",
            protocol=context.protocol_text,
            potential="none" if potential is None else f"{potential.name} {potential.version}",
            generated=report.n_generated,
            eligible=report.n_eligible,
            counts=dict(report.counts),
            shares={name: numbers(share) for name, share in report.fractions.items()},
            novelty_ratio=values
            and [one if one is not None and math.isfinite(one) else None for one in values],
            novel_yield=numbers(report.novel_yield_interval),
            **given,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for xdist and for JSON."""
        return asdict(self)

    def take(self, assessment: Assessment) -> None:
        """Add the comparison with the baseline."""
        self.watched = list(assessment.watched)
        comparison = assessment.comparison
        self.changed = [asdict(change) for change in comparison.changes]
        self.unchanged = comparison.same_samples and not comparison.changes
