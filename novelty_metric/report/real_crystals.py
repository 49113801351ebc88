"""Comparison of a model with real crystals that the reference lacks: base rate and ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from novelty_metric.reference.calibration import Calibration, count_by_system
from novelty_metric.support.ratios import (
    Ratio,
    Standardised,
    copying_z,
    koopman,
    standardised,
    strata_of,
)
from novelty_metric.support.statistics import Interval, wilson
from novelty_metric.verdict import CrystalResult, Verdict


@dataclass(frozen=True, slots=True)
class BesideRealCrystals:
    """Comparison of a model with real crystals that were left out of its reference."""

    n: int
    """Eligible crystals of the calibration."""
    base_rate: Interval
    """Their share of unmatched."""
    by_crystal_system: Mapping[str, tuple[int, int]]
    """(unmatched, eligible) crystals of the calibration."""
    novelty_ratio: Ratio | None
    """Novelty of the model / base rate, with Koopman's interval."""
    standardised: Standardised | None
    """Unmatched crystals of the model / those that real crystals of its crystal systems would give.
    """
    duplicate_ratio: Ratio | None
    """Share of duplicates of the model / that of the left-out crystals."""
    copying_z: float | None
    """Of the costs of the nearest parents: below −3 the model lies nearer to the reference than
    real crystals do.
    """
    held_out: Interval | None = None
    """A second estimate of the base rate, by real crystals that the reference does not hold."""
    sensitivity: Interval | None = None
    """Share of known substitutions that the method finds, if a control was run. What it misses
    counts as unmatched, among the model's crystals and in the base rate.
    """

    @property
    def base_rates(self) -> dict[str, Interval]:
        """Proportion of unmatched real crystals by crystal system; empty systems are left out."""
        rates = {name: wilson(*counts) for name, counts in self.by_crystal_system.items()}
        return {name: rate for name, rate in rates.items() if rate is not None}


def beside_real_crystals(
    eligible: Sequence[CrystalResult], calibration: Calibration | None
) -> BesideRealCrystals | None:
    """The comparison of the eligible crystals of a model; None without a calibration.

    None also where no crystal of the calibration is eligible.
    """
    if calibration is None or calibration.base_rate is None:
        return None
    unmatched, duplicate = Verdict.UNMATCHED.value, Verdict.DUPLICATE.value
    base = calibration.counts(unmatched)
    return BesideRealCrystals(
        n=calibration.count(unmatched)[1],
        base_rate=calibration.base_rate,
        by_crystal_system=base,
        novelty_ratio=koopman(_count(eligible, unmatched), calibration.count(unmatched)),
        standardised=standardised(strata_of(count_by_system(eligible, unmatched), base)),
        duplicate_ratio=koopman(_count(eligible, duplicate), calibration.count(duplicate)),
        copying_z=copying_z(
            [
                _distance(result.verdict, result.cost)
                for result in eligible
                if result.verdict not in (None, Verdict.UNDECIDED)
            ],
            [
                _distance(crystal.verdict, crystal.cost)
                for crystal in calibration.crystals
                if crystal.eligible and crystal.verdict != Verdict.UNDECIDED.value
            ],
        ),
        held_out=None if calibration.held_out is None else calibration.held_out.base_rate,
        sensitivity=None if calibration.sensitivity is None else calibration.sensitivity.share,
    )


def _count(eligible: Sequence[CrystalResult], verdict: str) -> tuple[int, int]:
    return sum(result.verdict == verdict for result in eligible), len(eligible)


def _distance(verdict: str | None, cost: float | None) -> float:
    """Cost of the nearest confirmed parent; infinite for an unmatched crystal."""
    return math.inf if verdict == Verdict.UNMATCHED or cost is None else cost
