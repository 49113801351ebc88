"""The reason why a sample is not eligible, and whether it could become eligible."""

from __future__ import annotations

from enum import StrEnum

from novelty_metric.verdict import CrystalResult, Verdict


class ExclusionReason(StrEnum):
    """Why a sample is not among the eligible crystals, over which the headline is computed."""

    UNREADABLE = "unreadable", "could not be read"
    FAILED = "failed", "could not be scored"
    SMACT_INVALID = "smact_invalid", "composition refused by SMACT"
    NOT_CONVERGED = "not_converged", "relaxation did not converge or failed"
    NO_HULL = "no_hull", "no energy above hull"
    NOT_METASTABLE = "not_metastable", "too far above the hull"
    OUT_OF_TIME = "out_of_time", "out of time before it was relaxed"

    label: str

    def __new__(cls, value: str, label: str = "") -> ExclusionReason:
        """A name with the reason as text."""
        member = str.__new__(cls, value)
        member._value_, member.label = value, label
        return member


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
