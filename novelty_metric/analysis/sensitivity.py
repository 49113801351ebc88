"""Sensitivity of the verdicts to the settings of the method, one setting at a time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.comparison.compare import compare
from novelty_metric.errors import InputError
from novelty_metric.metric import SubstitutionNovelty
from novelty_metric.report.agreement import Agreement, verdict_agreement
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Change
from novelty_metric.support.text import csv_text
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from novelty_metric.protocol import Protocol

KS = (1, 2, 3, 4, 5)
TOLERANCES = (1.0, 0.75, 0.5, 0.25)
SYMPRECS = (0.001, 0.01, 0.1)

CSV_FILE = "sensitivity.csv"
JSON_FILE = "sensitivity.json"
SCHEMA_VERSION = 1


class Setting(StrEnum):
    """The kind of setting that is varied.

    The tolerances `ltol`, `stol` and `angle_tol` are scaled together. With fixed parents, as in the
    paper, only the duplicate test and the confirmation are made with the scaled ones, and parents
    are searched with those of the protocol; re-selected parents are searched with the scaled ones.
    """

    K = "k"
    TOLERANCES_FIXED = "tolerances, fixed parents"
    TOLERANCES_RESELECTED = "tolerances, re-selected parents"
    SYMPREC = "symprec"
    POTENTIAL = "potential"


@dataclass(frozen=True, kw_only=True)
class Variation:
    """The report with one setting changed.

    Attributes
    ----------
    setting : Setting
    value : float, int or str
        Its value: parents per route, factor of the tolerances, Å, or the name of the potential.
    report : NoveltyReport
    is_base : bool
        This is the value of the protocol.
    changed : tuple of str
        Ids of the crystals whose verdict or eligibility is not that of the base report.
    change : Change or None
        Of the novelty, against the base report, with its 95 % interval for paired samples.
    """

    setting: Setting
    value: float | int | str
    report: NoveltyReport
    is_base: bool
    changed: tuple[str, ...]
    change: Change | None


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The report of the protocol, and reports with one setting changed at a time."""

    base: NoveltyReport
    variations: tuple[Variation, ...]

    @property
    def agreements(self) -> tuple[Agreement, ...]:
        """Agreement of the verdicts with each other potential."""
        return tuple(
            verdict_agreement(self.base, variation.report)
            for variation in self.variations
            if variation.setting == Setting.POTENTIAL and not variation.is_base
        )

    def to_frame(self) -> pd.DataFrame:
        """A row per variation.

        Columns: ``setting``, ``value``, ``is_base``, ``eligible`` (crystals); for each verdict its
        ``count`` among them, and ``share``, ``low`` and ``high`` (95 % Wilson), such as
        ``unmatched_share``, which is the novelty; ``novelty_least`` and ``novelty_greatest``, what
        the unfinished work allows; ``n_changed``; ``novelty_change``, ``change_low`` and
        ``change_high`` against the base (95 %, paired).
        """
        import pandas as pd

        return pd.DataFrame([_row(variation) for variation in self.variations])

    def save(self, folder: str | Path) -> Path:
        """Write ``sensitivity.csv`` and ``sensitivity.json``; the latter has the original settings.

        Raises
        ------
        InputError
            If the folder can't be written.
        """
        from novelty_metric.report.files import summary
        from novelty_metric.support.folders import write_atomically, writing

        rows = [_row(variation) for variation in self.variations]
        table = csv_text(list(rows[0]) if rows else [], rows)
        content = {
            "schema_version": SCHEMA_VERSION,
            "base": summary(self.base),
            "variations": [
                {**row, "changed": list(variation.changed)}
                for row, variation in zip(rows, self.variations, strict=True)
            ],
            "agreement": [agreement.to_dict() for agreement in self.agreements],
        }
        folder = Path(folder)
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        with writing(folder, folder, hint="; name another folder"):
            write_atomically(folder / CSV_FILE, table.encode())
            write_atomically(folder / JSON_FILE, text.encode())
        return folder


def sensitivity(
    metric: SubstitutionNovelty,
    *,
    ks: Sequence[int] = KS,
    tolerances: Sequence[float] = TOLERANCES,
    symprecs: Sequence[float] = SYMPRECS,
    potentials: Sequence[Any] = (),
    tell: Callable[[str], None] | None = None,
) -> Sensitivity:
    """Score the samples of a metric again with one setting changed at a time.

    What a change leaves alone is not computed again: samples are relaxed once, the parents of the
    largest `k` serve the smaller ones, and a relaxation of a parent that occurs again comes from
    the cache of relaxations, if the metric has one.

    Parameters
    ----------
    metric : SubstitutionNovelty
        With its samples, scored or not; it is left as it is.
    ks : sequence of int
        Parents per route.
    tolerances : sequence of float
        Factors of `ltol`, `stol` and `angle_tol`; see `Setting` for the two ways of scaling.
    symprecs : sequence of float
        Tolerance of the symmetry search (Å), of samples and reference.
    potentials : sequence of str, Potential or Relaxer
        With which everything is relaxed anew.
    tell : callable, optional
        Told in words which variation begins.

    Raises
    ------
    InputError
        If a value can't be used, or no sample was given.

    Notes
    -----
    Every report but those with fixed parents is that of a metric whose protocol has the changed
    value. Relaxations of parents that a protocol ends early (`accept_early`, `refuse_after`) look
    at the matcher's tolerances, so scaled ones need relaxations of their own there.
    """
    protocol = metric.protocol
    _check(ks, tolerances, symprecs)
    say = tell or (lambda words: None)
    say("parents of the largest k")
    largest = metric.variant(dataclasses.replace(protocol, k=max([protocol.k, *ks])))
    largest.compute()
    base = largest.variant(protocol).compute()
    if not base.results:
        raise InputError("no sample was given, so nothing can be varied")

    def variations() -> Iterator[Variation]:
        for k in ks:
            say(f"k={k}")
            changed = dataclasses.replace(protocol, k=k)
            yield _variation(base, Setting.K, k, largest.variant(changed), k == protocol.k)
        for setting in (Setting.TOLERANCES_FIXED, Setting.TOLERANCES_RESELECTED):
            fixed = setting == Setting.TOLERANCES_FIXED
            for factor in tolerances:
                say(f"{setting} x{factor:g}")
                scaled = scaled_tolerances(protocol, factor)
                variant = largest.variant(scaled, parents=protocol if fixed else None)
                yield _variation(base, setting, factor, variant, factor == 1)
        for symprec in symprecs:
            say(f"symprec={symprec:g}")
            changed = dataclasses.replace(protocol, symprec=symprec)
            yield _variation(
                base, Setting.SYMPREC, symprec, _with_symprec(largest, changed), changed == protocol
            )
        for potential in potentials:
            say("another potential")
            variant = metric.variant(protocol, relaxer=potential)
            yield _variation(base, Setting.POTENTIAL, "", variant, is_base=False)

    return Sensitivity(base=base, variations=tuple(variations()))


def scaled_tolerances(protocol: Protocol, factor: float) -> Protocol:
    """The protocol with `ltol`, `stol` and `angle_tol` multiplied by a factor."""
    return dataclasses.replace(
        protocol,
        ltol=protocol.ltol * factor,
        stol=protocol.stol * factor,
        angle_tol=protocol.angle_tol * factor,
    )


def _check(ks: Sequence[int], tolerances: Sequence[float], symprecs: Sequence[float]) -> None:
    for k in ks:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"k={k!r}; it must be a whole number above 0")
    for name, values in (("tolerances", tolerances), ("symprec", symprecs)):
        for value in values:
            if not 0 < value < float("inf"):
                raise InputError(f"{name}={value!r}; it must be a number above 0")


def _with_symprec(metric: SubstitutionNovelty, protocol: Protocol) -> SubstitutionNovelty:
    if protocol.symprec == metric.protocol.symprec:
        return metric.variant(protocol)
    reference = metric.reference.with_symmetry(
        symprec=protocol.symprec,
        angle_tolerance=protocol.symmetry_angle_tolerance,
        progress=lambda done, total: metric.progress("symmetry of the reference", done, total),
    )
    return metric.variant(protocol, reference=reference)


def _variation(
    base: NoveltyReport,
    setting: Setting,
    value: float | str,
    metric: SubstitutionNovelty,
    is_base: bool,
) -> Variation:
    with metric:
        report = metric.compute()
    if setting is Setting.POTENTIAL:
        is_base = report.context.potential == base.context.potential
        value = "none" if report.context.potential is None else report.context.potential.key
    found = compare(base, report)
    return Variation(
        setting=setting,
        value=value,
        report=report,
        is_base=is_base,
        changed=tuple(change.id for change in found.changes),
        change=found.differences[Verdict.UNMATCHED.value].change,
    )


def _row(variation: Variation) -> dict[str, Any]:
    report, change = variation.report, variation.change
    row: dict[str, Any] = {
        "setting": variation.setting.value,
        "value": variation.value,
        "is_base": variation.is_base,
        "eligible": report.n_eligible,
    }
    for verdict in Verdict:
        share = report.fractions.get(verdict.value)
        row[f"{verdict.value}_count"] = report.counts[verdict.value]
        for name in ("value", "low", "high"):
            column = f"{verdict.value}_{'share' if name == 'value' else name}"
            row[column] = None if share is None else getattr(share, name)
    bounds = report.novelty_bounds
    row["novelty_least"] = None if bounds is None else bounds.low
    row["novelty_greatest"] = None if bounds is None else bounds.high
    row["n_changed"] = len(variation.changed)
    row["novelty_change"] = None if change is None else change.value
    row["change_low"] = None if change is None else change.low
    row["change_high"] = None if change is None else change.high
    return row
