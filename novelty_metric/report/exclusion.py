"""The reason why a sample is not eligible, and whether it could become eligible."""

from __future__ import annotations

from enum import StrEnum

from novelty_metric.verdict import CrystalResult, Verdict


class ExclusionReason(StrEnum):
    """Why a sample is not among the eligible crystals, over which the headline is computed."""

    UNREADABLE = "unreadable"
    FAILED = "failed"
    SMACT_INVALID = "smact_invalid"
    NOT_CONVERGED = "not_converged"
    NO_HULL = "no_hull"
    NOT_METASTABLE = "not_metastable"
    OUT_OF_TIME = "out_of_time"

    @property
    def label(self) -> str:
        """The reason as text."""
        return _LABELS[self]


_LABELS = {
    ExclusionReason.UNREADABLE: "could not be read",
    ExclusionReason.FAILED: "could not be scored",
    ExclusionReason.SMACT_INVALID: "composition refused by SMACT",
    ExclusionReason.NOT_CONVERGED: "relaxation did not converge or failed",
    ExclusionReason.NO_HULL: "no energy above hull",
    ExclusionReason.NOT_METASTABLE: "too far above the hull",
    ExclusionReason.OUT_OF_TIME: "out of time before it was relaxed",
}

_UNFINISHED = (
    ExclusionReason.NOT_CONVERGED,
    ExclusionReason.NO_HULL,
    ExclusionReason.FAILED,
    ExclusionReason.OUT_OF_TIME,
)


def exclusion_reason(result: CrystalResult) -> ExclusionReason | None:
    """The reason why a sample is not eligible; None for an eligible one."""
    if not result.readable:
        return ExclusionReason.UNREADABLE
    if result.eligible and result.verdict is not None:
        return None
    if result.smact_valid is False:
        return ExclusionReason.SMACT_INVALID
    if result.eligible is None and result.verdict is not None:
        return ExclusionReason.OUT_OF_TIME
    if result.converged is False:
        return ExclusionReason.NOT_CONVERGED
    if result.eligible is not False or result.smact_valid is None:
        return ExclusionReason.FAILED
    return (
        ExclusionReason.NO_HULL if result.e_above_hull is None else ExclusionReason.NOT_METASTABLE
    )


def could_become_eligible(result: CrystalResult, reason: ExclusionReason | None) -> bool:
    """True if the cause is unfinished work, not the crystal."""
    # An error before the chemistry was checked means that the sample is not a crystal.
    return reason in _UNFINISHED and (
        result.smact_valid is True or reason == ExclusionReason.OUT_OF_TIME
    )


def fixed_verdict(result: CrystalResult) -> Verdict | None:
    """The verdict of a crystal if it became eligible; None if that is not known."""
    unknown = result.converged is False or result.eligible is None
    if unknown or result.verdict == Verdict.UNDECIDED:
        return None
    return result.verdict
