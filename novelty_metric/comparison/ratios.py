"""Comparison of two runs with the same real crystals: ratios, and the ratio of these."""

from __future__ import annotations

from dataclasses import dataclass

from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.real_crystals import BesideRealCrystals
from novelty_metric.support.ratios import Ratio, koopman
from novelty_metric.verdict import Verdict

NOVELTY_RATIO = "novelty ratio"
OBSERVED_EXPECTED = "observed / expected"


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioChange:
    """A ratio to real crystals in two reports."""

    name: str
    """`NOVELTY_RATIO` or `OBSERVED_EXPECTED`."""
    before: Ratio | None
    after: Ratio | None
    """None where the report has no calibration."""
    change: Ratio | None
    """after / before of the novelty ratio, with its 95 % interval; None where the calibrations
    differ, and for `OBSERVED_EXPECTED`, whose base rates by crystal system do not cancel.
    """


def ratio_changes(before: NoveltyReport, after: NoveltyReport) -> tuple[RatioChange, ...]:
    """The ratios of two reports to real crystals; empty if one has no calibration.

    With one calibration in both, its base rate cancels in the quotient of the novelty ratios: its
    interval is Koopman's for the two novelties, as for samples that have no crystal in common.
    """
    one, other = before.beside_real_crystals, after.beside_real_crystals
    if one is None and other is None:
        return ()
    change = None
    first, second = before.context.calibration, after.context.calibration
    if first and second and (first.key, first.crystals) == (second.key, second.crystals):
        unmatched = [(it.counts[Verdict.UNMATCHED.value], it.n_eligible) for it in (after, before)]
        change = koopman(*unmatched)
    return (
        RatioChange(
            name=NOVELTY_RATIO,
            before=None if one is None else one.novelty_ratio,
            after=None if other is None else other.novelty_ratio,
            change=change,
        ),
        RatioChange(
            name=OBSERVED_EXPECTED,
            before=observed_expected(one),
            after=observed_expected(other),
            change=None,
        ),
    )


def observed_expected(beside: BesideRealCrystals | None) -> Ratio | None:
    """Unmatched crystals / those expected from real crystals of the same crystal systems."""
    if beside is None or beside.standardised is None:
        return None
    return beside.standardised.ratio
