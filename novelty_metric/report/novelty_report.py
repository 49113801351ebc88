"""What a run found: headline, fractions with intervals, breakdowns, and every row behind them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from novelty_metric.protocol import PRESETS, Protocol
from novelty_metric.report.graded import GradedNovelty, graded_novelty
from novelty_metric.report.quality import Quality, count_unique, quality, stable
from novelty_metric.screening.composition import DEFAULT_SET
from novelty_metric.support.statistics import Bounds, Interval, share_bounds, wilson
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    import pandas as pd

    from novelty_metric.relaxation.base import PotentialInfo

PAPER_POTENTIAL = "MACE-MPA-0"
_SPELLING = {"chgnet": "CHGNet", "mace-mpa-0": PAPER_POTENTIAL}
BREAKDOWNS = ("crystal_system", "space_group", "n_elements", "n_sites", "kind")
UNKNOWN = "unknown"


class LeftOut(StrEnum):
    """Why a sample is not among the eligible crystals that the headline is over."""

    UNREADABLE = "unreadable"
    FAILED = "failed"
    SMACT_INVALID = "smact_invalid"
    NOT_CONVERGED = "not_converged"
    NO_HULL = "no_hull"
    NOT_METASTABLE = "not_metastable"
    OUT_OF_TIME = "out_of_time"

    @property
    def words(self) -> str:
        """The reason in words."""
        return _LEFT_OUT_WORDS[self]


_LEFT_OUT_WORDS = {
    LeftOut.UNREADABLE: "could not be read",
    LeftOut.FAILED: "could not be scored",
    LeftOut.SMACT_INVALID: "composition refused by SMACT",
    LeftOut.NOT_CONVERGED: "relaxation did not converge or failed",
    LeftOut.NO_HULL: "no energy above hull",
    LeftOut.NOT_METASTABLE: "too far above the hull",
    LeftOut.OUT_OF_TIME: "out of time before it was relaxed",
}


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Everything about a run but its crystals.

    Attributes
    ----------
    protocol : Protocol
    reference_name : str
    reference_size : int
        Crystals in the reference.
    crystals_hash, store_hash : str
        Hash over the reference's crystals alone, and over its prepared store.
    potential : PotentialInfo or None
        None if nothing was relaxed and no energy computed.
    hull : mapping
        What the energies above hull are measured from, as plain values; its ``name`` is shown.
        Empty, or named ``none``: there was no hull.
    scope : str
        ``eligible`` or ``all``: which crystals were searched for parents.
    exhaustive : bool
        Every candidate parent was relaxed, not only up to the first that confirms.
    relax_samples : bool
        False if the samples were taken as already relaxed.
    smact_oxidation_states : str
        The set of oxidation states that charge neutrality was tested with.
    n_generated : int or None
        Crystals that the model generated, if that is more than were given; None: those given.
    versions : mapping
        Version of each library that can change an answer.
    machine : mapping
        System, processor, cores and device, as text.
    seconds : mapping
        Wall time per step, in order. Starting Python, loading libraries, reading the samples and
        writing files are no steps.
    warnings : tuple of str
    """

    protocol: Protocol
    reference_name: str
    reference_size: int
    crystals_hash: str
    store_hash: str
    potential: PotentialInfo | None = None
    hull: Mapping[str, Any] = field(default_factory=dict)
    scope: str = "eligible"
    exhaustive: bool = False
    relax_samples: bool = True
    smact_oxidation_states: str = DEFAULT_SET
    n_generated: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Plain values, so that a report read back from files equals the one that was written.
        for name in ("hull", "versions", "machine", "seconds"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        object.__setattr__(self, "warnings", tuple(_text(str(line)) for line in self.warnings))

    @property
    def protocol_text(self) -> str:
        """The protocol in words, such as ``paper settings, CHGNet in place of MACE-MPA-0``."""
        base, changes = protocol_changes(self.protocol)
        words = f"{base} settings" + (f" (modified: {changes})" if changes else "")
        if self.potential is None:
            words += ", search only: nothing is relaxed"
        else:
            potential = _SPELLING.get(self.potential.name.lower(), self.potential.name)
            if potential != PAPER_POTENTIAL:
                words += f", {potential} in place of {PAPER_POTENTIAL}"
            elif base != "paper":
                words += f", {potential}"
        return words

    @property
    def has_hull(self) -> bool:
        """Whether energies above hull could be measured."""
        return bool(self.hull) and str(self.hull.get("name", "")).lower() != "none"

    @property
    def sample_energies(self) -> str | None:
        """What the energies are that came with the samples and were used for the hull, in words."""
        found = self.hull.get("sample_energies")
        return None if found is None else str(found)

    @property
    def measures_hull(self) -> bool:
        """Whether there is a hull, and energies to hold against it."""
        return self.has_hull and (self.potential is not None or self.sample_energies is not None)

    @property
    def hull_text(self) -> str:
        """What the energies above hull are measured from, in words."""
        return _hull_words(self.hull) if self.has_hull else "none"

    @property
    def eligibility(self) -> str:
        """What makes a crystal of this run eligible, in words."""
        chosen = self.smact_oxidation_states if self.smact_oxidation_states != DEFAULT_SET else ""
        if self.potential is None and self.sample_energies is None:
            # Without a potential there is no energy to hold against a hull.
            smact = "SMACT" + (f", {chosen}" if chosen else "")
            return f"chemistry alone ({smact}); nothing was relaxed, no energy was computed"
        words = ["SMACT-valid" + (f" ({chosen})" if chosen else "")]
        words.append("converged" if self.relax_samples else "taken as already relaxed")
        if self.has_hull:
            whose = f" by the samples' own {self.sample_energies}" if self.sample_energies else ""
            words.append(f"at most {self.protocol.metastable:g} eV/atom above hull{whose}")
        else:
            words.append("metastability not checked (no hull)")
        return ", ".join(words)


HULL_REMARKS = ("reference", "file", "note")
"""Facts of a hull that decide nothing: its crystals and entries are in the hashes."""

_MOST_NAMED = 12
"""Elements that are named one by one."""


def _hull_words(hull: Mapping[str, Any]) -> str:
    words = str(hull["name"])
    made_of = [str(hull["file"])] if hull.get("file") else []
    if "compositions" in hull and "scale" in hull:
        made_of.append(f"{hull['compositions']:,} compositions")
    elif "entries" in hull:
        made_of.append(f"{hull['entries']} entries")
    elif hull.get("crystals") is not None:
        made_of.append(count_of_crystals(hull["crystals"]))
    digest = hull.get("content_hash") or hull.get("crystals_hash")
    if digest:
        made_of.append(str(digest)[:12])
    if made_of:
        words += f" ({', '.join(made_of)})"
    if hull.get("scale"):
        words += f"; scale: {hull['scale']}"
        if hull.get("crystals") is not None:
            words += f"; {count_of_crystals(hull['crystals'])} of the reference among them"
    if hull.get("energies"):
        words += f"; energies with{'out' if hull['energies'] == 'uncorrected' else ''} corrections"
    if hull.get("sample_energies"):
        words += f"; distances by the samples' own {hull['sample_energies']}"
    if hull.get("as_published") is False:
        words += "; not the published file"
    if hull.get("skipped"):
        words += f"; {hull['skipped']} entries of other functionals left out"
    table = hull.get("elements_from_table") or []
    if table:
        shown = ", ".join(table[:_MOST_NAMED]) + (", ..." if len(table) > _MOST_NAMED else "")
        words += f"; {len(table)} elements that it lacks from a table: {shown}"
    lost = hull.get("crystals_without_energy") or 0
    if lost:
        words += f"; {count_of_crystals(lost)} of it without energy"
    if hull.get("note"):
        words += f"; {hull['note']}"
    return words


def count_of_crystals(count: int) -> str:
    """A number of crystals in words."""
    return f"{count} crystal{'' if count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Group:
    """Eligible crystals that have something in common.

    Attributes
    ----------
    n : int
    share : Interval
        n / the crystals of all groups.
    counts : mapping
        Crystals per verdict.
    fractions : mapping
        Share of each verdict in the group.
    novelty : Interval
        Unmatched / n.
    novelty_bounds : Bounds
        Least and greatest novelty of the group, as for the headline. A crystal that could have been
        eligible, and whose group is not known, may have been of any.
    """

    n: int
    share: Interval
    counts: Mapping[str, int]
    fractions: Mapping[str, Interval]
    novelty: Interval
    novelty_bounds: Bounds


@dataclass(frozen=True, repr=False)
class NoveltyReport:
    """The finished answer for one set of samples. Immutable; build it with `from_results`.

    The headline is ``novelty`` = unmatched / eligible. A crystal is *eligible* if the run says so
    and it has a verdict; whoever is not is counted, with the reason, in `left_out`, and those of
    them that could have been eligible widen `novelty_bounds`.

    Examples
    --------
    >>> from novelty_metric.protocol import Protocol
    >>> from novelty_metric.verdict import CrystalResult, Verdict
    >>> context = RunContext(
    ...     protocol=Protocol.named("paper"),
    ...     reference_name="mp_20",
    ...     reference_size=27136,
    ...     crystals_hash="",
    ...     store_hash="",
    ... )
    >>> rows = [
    ...     CrystalResult(id="a", smact_valid=True, eligible=True, verdict=Verdict.UNMATCHED),
    ...     CrystalResult(id="b", smact_valid=True, eligible=True, verdict=Verdict.DUPLICATE),
    ...     CrystalResult(id="c", smact_valid=True, converged=False, eligible=False),
    ... ]
    >>> report = NoveltyReport.from_results(rows, context)
    >>> report.novelty, report.left_out["not_converged"]
    (0.5, 1)
    >>> f"{report.novelty_bounds.low:.2f} to {report.novelty_bounds.high:.2f}"
    '0.33 to 0.67'
    """

    context: RunContext
    results: tuple[CrystalResult, ...]

    @classmethod
    def from_results(cls, results: Sequence[CrystalResult], context: RunContext) -> NoveltyReport:
        """The report on these rows, one per sample, in input order.

        Numbers become plain Python numbers, those that are not finite become None, and in texts
        control characters and what can't be written as UTF-8 are escaped; nothing else is changed.

        Raises
        ------
        ValueError
            If `context.n_generated` is less than the number of rows.
        """
        rows = tuple(plain_row(result) for result in results)
        if context.n_generated is not None and context.n_generated < len(rows):
            raise ValueError(f"n_generated={context.n_generated}, but there are {len(rows)} rows")
        return cls(context=context, results=rows)

    # Sample counts

    @property
    def n_generated(self) -> int:
        """Crystals that the model generated."""
        given = self.context.n_generated
        return len(self.results) if given is None else given

    @property
    def n_unreadable(self) -> int:
        """Samples that could not be read."""
        return sum(not result.readable for result in self.results)

    @property
    def n_read(self) -> int:
        """Samples that could be read."""
        return len(self.results) - self.n_unreadable

    @cached_property
    def n_scored(self) -> int:
        """Samples with a verdict."""
        return sum(result.verdict is not None for result in self.results)

    @cached_property
    def n_not_searched(self) -> int:
        """Screened and no duplicate, but not searched for parents because they are not eligible.

        They have no verdict; that happens with ``scope=eligible`` only.
        """
        no_answer = (LeftOut.UNREADABLE, LeftOut.FAILED)
        return sum(
            result.verdict is None and result.eligible is False and reason not in no_answer
            for result, reason in zip(self.results, self._reasons, strict=True)
        )

    @property
    def eligible(self) -> tuple[CrystalResult, ...]:
        """The eligible crystals, which the headline is over, in input order."""
        return self._eligible

    @property
    def n_eligible(self) -> int:
        """Eligible crystals, all with a verdict."""
        return len(self._eligible)

    @property
    def n_energy_suspect(self) -> int:
        """Eligible crystals whose energy above hull is too low to be believed."""
        return sum(result.energy_suspect is True for result in self._eligible)

    @property
    def n_no_competing_compound(self) -> int:
        """Crystals whose energy above hull is measured from the elements alone."""
        return sum(result.no_competing_compound is True for result in self.results)

    @property
    def n_stable(self) -> int:
        """Crystals, eligible or not, that are converged and within the limit of stability."""
        return len(self._stable)

    @property
    def n_stable_no_competing_compound(self) -> int:
        """Stable crystals whose energy above hull is measured from the elements alone."""
        return sum(result.no_competing_compound is True for result in self._stable)

    @cached_property
    def left_out(self) -> dict[str, int]:
        """Samples that are not eligible, by reason; with `n_eligible` they add up to all rows.

        The first reason of `LeftOut` that applies counts, the chemistry before an error.
        """
        counted = Counter(self._reasons)
        return {reason.value: counted[reason] for reason in LeftOut}

    # Verdicts

    @cached_property
    def counts(self) -> dict[str, int]:
        """Eligible crystals per verdict."""
        return _count(self._eligible)

    @cached_property
    def counts_all(self) -> dict[str, int]:
        """Samples per verdict, eligible or not."""
        return _count(self.results)

    @cached_property
    def fractions(self) -> dict[str, Interval]:
        """Share of each verdict among the eligible; empty while nothing is eligible."""
        return _shares(self.counts, self.n_eligible)

    @cached_property
    def fractions_all(self) -> dict[str, Interval]:
        """Share of each verdict among all samples that were screened and tested for duplicates.

        With ``scope=eligible`` those that were not searched for parents (`n_not_searched`) are in
        the denominator and in no verdict, so the shares add up to less than 1; leaving them out
        would make duplicates look more frequent than they are.
        """
        return _shares(self.counts_all, self.n_scored + self.n_not_searched)

    def __repr__(self) -> str:
        reference = self.context.reference_name
        return (
            f"<NoveltyReport: {self.headline}; {len(self.results)} samples, {self.n_eligible} "
            f"eligible, against {reference}>"
        )

    @property
    def headline(self) -> str:
        """The novelty in words, in per cent, or the most that it can be where nothing was relaxed.

        For example ``novelty 16.7 %``, or ``novelty at most 63.9 %: nothing was relaxed``.
        """
        if self.novelty is None or self.novelty_bounds is None:
            return "novelty unknown"
        if self.novelty_is_bound:
            return f"novelty at most {100 * self.novelty_bounds.high:.1f} %: nothing was relaxed"
        return f"novelty {100 * self.novelty:.1f} %"

    @property
    def novelty_is_bound(self) -> bool:
        """Whether nothing was relaxed, as with ``relaxer=none``.

        What has a candidate parent is then undecided: `novelty` is the least that the novelty can
        be, which says little, and `novelty_bounds` the most.
        """
        return self.context.potential is None

    @property
    def novelty(self) -> float | None:
        """Unmatched / eligible; None while nothing is eligible. See `novelty_is_bound`."""
        interval = self.novelty_interval
        return None if interval is None else interval.value

    @property
    def novelty_interval(self) -> Interval | None:
        """The headline with its 95 % interval (chance alone, not the undecided)."""
        return self.fractions.get(Verdict.UNMATCHED.value)

    @cached_property
    def without_suspect(self) -> NoveltyReport:
        """The report without the crystals whose energy above hull is too low to be believed.

        They still count as generated.
        """
        trusted = tuple(result for result in self.results if result.energy_suspect is not True)
        context = dataclasses.replace(self.context, n_generated=self.n_generated)
        return NoveltyReport(context=context, results=trusted)

    @property
    def novelty_without_suspect(self) -> Interval | None:
        """The headline over the eligible crystals whose energy can be believed."""
        return self.without_suspect.novelty_interval

    @cached_property
    def novelty_bounds(self) -> Bounds | None:
        """Least and greatest headline that the unfinished work allows.

        With u unmatched, d undecided and e eligible crystals::

            low  = u / (e + m)             high = (u + d + h) / (e + h)

        where m and h count the crystals that are not eligible but could have been, and then
        matched (m) or unmatched (h). These are the SMACT-valid crystals that did not converge,
        have no energy above hull, or were stopped by an error or a deadline. One counts in m and in
        h, unless it
        is converged and its verdict is known: that verdict would not change with the hull.
        SMACT-invalid and unreadable crystals, and those that are no crystal at all, can't become
        eligible. None while no crystal is or could have been eligible.
        """
        return _novelty_bounds(self.counts, self._could_join)

    @cached_property
    def novel_yield_interval(self) -> Interval:
        """Unique eligible unmatched crystals / all generated, with its 95 % interval.

        Equal samples (one `duplicate_group`) count once. Nothing generated: 0 within [0, 1].

        Notes
        -----
        The count U of distinct novel crystals among n is no binomial one: of two equal crystals one
        counts. It varies less than one, so that Wilson's interval of U / n holds its expectation at
        this n more often than in 95 % of the draws. By Efron and Stein, Ann. Stat. 9, 586 (1981),
        ``var(U) ≤ E[S](1 − E[S] / n)``, with S ≤ U the novel crystals that nothing else equals,
        which is at most the binomial variance ``E[U](1 − E[U] / n)`` while the yield is at most
        1/2; for larger ones a simulation shows the same. A bootstrap would be wrong here: a
        resample repeats crystals, and finds fewer distinct ones than the sample it comes from.
        """
        novel = [r for r in self._eligible if r.verdict == Verdict.UNMATCHED]
        return wilson(_unique(novel), self.n_generated) or Interval(0.0, 0.0, 1.0)

    @property
    def novel_yield(self) -> float:
        """Unique eligible unmatched crystals / all generated; 0 if nothing was generated."""
        return self.novel_yield_interval.value

    @cached_property
    def novel_yield_bounds(self) -> Bounds:
        """Least and greatest yield that the unfinished work allows, as for `novelty_bounds`."""
        open_or_novel = (Verdict.UNMATCHED, Verdict.UNDECIDED)
        possible = [r for r in self._eligible if r.verdict in open_or_novel]
        possible += [r for r in self._could_join if _fixed_verdict(r) in (None, Verdict.UNMATCHED)]
        most = _unique(possible) / self.n_generated if self.n_generated else 0.0
        return Bounds(self.novel_yield, max(most, self.novel_yield))

    @cached_property
    def graded(self) -> GradedNovelty:
        """How far the eligible crystals are from their nearest parents.

        Where a verdict jumps this changes little by little, and needs no relaxation of a parent.
        """
        return graded_novelty(self._eligible)

    @cached_property
    def quality(self) -> Quality:
        """Validity, and stable, unique and novel by plain matching."""
        return quality(
            self.results,
            n_generated=self.n_generated,
            threshold=self.context.protocol.metastable,
            has_hull=self.context.measures_hull,
        )

    def breakdown(self, by: str) -> dict[str | int, Group]:
        """The eligible crystals in groups, with the verdicts and the novelty of each.

        Parameters
        ----------
        by : str
            ``crystal_system``, ``space_group``, ``n_elements`` or ``n_sites`` (as it was given,
            in ranges such as ``5-8``); or ``kind``, for the substituted crystals alone, by the
            routes that hold a confirmed parent (filled with ``exhaustive=true`` only).

        Raises
        ------
        ValueError
            If `by` is none of these.
        """
        if by not in BREAKDOWNS:
            raise ValueError(f"no breakdown by {by!r}; known: {', '.join(BREAKDOWNS)}")
        members: dict[str | int, list[CrystalResult]] = {}
        for result in self._eligible:
            if by == "kind" and (result.verdict != Verdict.SUBSTITUTED or result.kind is None):
                continue
            value = _group_of(result, by)
            members.setdefault(UNKNOWN if value is None else value, []).append(result)
        # A sub-kind is of substituted crystals, which nothing that is open can become novel in.
        could_join = () if by == "kind" else self._could_join
        total = sum(map(len, members.values()))
        groups: dict[str | int, Group] = {}
        for key in sorted(members, key=_group_order):
            counts = _count(members[key])
            joining = [r for r in could_join if _group_of(r, by) in (None, key)]
            shares = _shares(counts, len(members[key]))
            share, bounds = wilson(len(members[key]), total), _novelty_bounds(counts, joining)
            assert share is not None and bounds is not None  # a group has a member
            groups[key] = Group(
                n=len(members[key]),
                share=share,
                counts=counts,
                fractions=shares,
                novelty=shares[Verdict.UNMATCHED.value],
                novelty_bounds=bounds,
            )
        return groups

    def breakdown_frame(self, by: str) -> pd.DataFrame:
        """`breakdown` as a table: a row per group and verdict, in order.

        Columns: the name given as `by`, ``verdict``, ``count``, ``n`` (eligible crystals of the
        group), ``fraction``, and ``low`` and ``high``, its 95 % interval (Wilson).

        Raises
        ------
        ValueError
            If there is no such breakdown.
        """
        import pandas as pd

        rows = [
            (key, verdict, group.counts[verdict], group.n, share.value, share.low, share.high)
            for key, group in self.breakdown(by).items()
            for verdict, share in group.fractions.items()
        ]
        columns = [by, "verdict", "count", "n", "fraction", "low", "high"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def decided(self) -> float | None:
        """How complete the run is: decided crystals / crystals to be decided.

        To be decided are the eligible crystals, and those that a deadline stopped before they were
        relaxed, which could have been eligible; decided are the eligible ones with a verdict other
        than ``undecided``. None while there is nothing to be decided.
        """
        total = self.n_eligible + self.left_out[LeftOut.OUT_OF_TIME.value]
        return (self.n_eligible - self.counts[Verdict.UNDECIDED.value]) / total if total else None

    def scalars(self, prefix: str = "novelty") -> dict[str, float]:
        """Finite numbers for a logger, by name; what can't be computed is absent.

        Parameters
        ----------
        prefix : str
            Every name starts with it and a slash.
        """
        values: dict[str, float | None] = {
            "novelty": self.novelty,
            **_ends("ci", self.novelty_interval),
            **_ends("bound", self.novelty_bounds),
            "novel_yield": self.novel_yield,
            **_ends("novel_yield_ci", self.novel_yield_interval),
            "graded": None if self.graded.score is None else self.graded.score.value,
            "cost_median": self.graded.cost.quantiles.get("0.5"),
            "sun": None if self.quality.sun is None else self.quality.sun.value,
            "decided": self.decided,
            "n_samples": float(len(self.results)),
            "n_unreadable": float(self.n_unreadable),
            "n_eligible": float(self.n_eligible),
            "n_energy_suspect": float(self.n_energy_suspect),
            "n_out_of_time": float(self.left_out[LeftOut.OUT_OF_TIME.value]),
        }
        values.update({verdict: share.value for verdict, share in self.fractions.items()})
        return {
            f"{prefix}/{name}": value
            for name, value in values.items()
            if value is not None and math.isfinite(value)
        }

    # Tables and files

    def to_frame(self) -> pd.DataFrame:
        """A row per sample, in input order, with the columns of ``verdicts.parquet``."""
        from novelty_metric.report.files import verdicts_frame

        return verdicts_frame(self.results)

    def parents_frame(self) -> pd.DataFrame:
        """A row per candidate parent, with the columns of ``parents.parquet``."""
        from novelty_metric.report.files import parents_frame

        return parents_frame(self.results)

    def save(self, folder: str | Path) -> Path:
        """Write the report to a folder, which is made if it does not exist; see `report_files`.

        Raises
        ------
        InputError
            If the folder can't be written.
        """
        from novelty_metric.report.files import save_report

        return save_report(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, *, structures: bool = False) -> NoveltyReport:
        """Read a report that `save` wrote; equal to the one written.

        Parameters
        ----------
        folder : path
        structures : bool
            Read the crystals too, which the analyses of prototypes and fingerprints need.

        Raises
        ------
        InputError
            If a file is missing, damaged, of another schema, or not of this report.
        """
        from novelty_metric.report.files import load_report, with_structures

        report = load_report(Path(folder))
        return with_structures(report, Path(folder)) if structures else report

    # What the numbers are made of

    @cached_property
    def _reasons(self) -> tuple[LeftOut | None, ...]:
        return tuple(_reason_left_out(result) for result in self.results)

    @cached_property
    def _eligible(self) -> tuple[CrystalResult, ...]:
        pairs = zip(self.results, self._reasons, strict=True)
        return tuple(result for result, reason in pairs if reason is None)

    @cached_property
    def _stable(self) -> tuple[CrystalResult, ...]:
        limit = self.context.protocol.metastable
        return tuple(result for result in self.results if stable(result, limit) is True)

    @cached_property
    def _could_join(self) -> tuple[CrystalResult, ...]:
        unfinished = (
            LeftOut.NOT_CONVERGED,
            LeftOut.NO_HULL,
            LeftOut.FAILED,
            LeftOut.OUT_OF_TIME,
        )
        return tuple(
            result
            for result, reason in zip(self.results, self._reasons, strict=True)
            # An error before the chemistry was checked means that the sample is no crystal.
            if reason in unfinished
            and (result.smact_valid is True or reason == LeftOut.OUT_OF_TIME)
        )


def protocol_changes(protocol: Protocol) -> tuple[str, str]:
    """Preset that a protocol starts from, and what differs from it, such as ``fmax=0.02``.

    A protocol that is named after no preset is its own start, with no difference.
    """
    base = protocol.name.split(" (modified", 1)[0]
    preset = PRESETS.get(base)
    if preset is None:
        return protocol.name, ""
    ours, theirs = protocol.to_dict(), preset.to_dict()
    return base, ", ".join(
        f"{name}={value}"
        for name, value in ours.items()
        if name != "name" and value != theirs[name]
    )


def _reason_left_out(result: CrystalResult) -> LeftOut | None:
    if not result.readable:
        return LeftOut.UNREADABLE
    if result.eligible and result.verdict is not None:
        return None
    if result.smact_valid is False:
        return LeftOut.SMACT_INVALID
    if result.eligible is None and result.verdict is not None:
        return LeftOut.OUT_OF_TIME
    if result.converged is False:
        return LeftOut.NOT_CONVERGED
    if result.eligible is not False or result.smact_valid is None:
        return LeftOut.FAILED
    return LeftOut.NO_HULL if result.e_above_hull is None else LeftOut.NOT_METASTABLE


def _fixed_verdict(result: CrystalResult) -> Verdict | None:
    """The verdict that a crystal would keep if it became eligible; None while that is open."""
    unknown = result.converged is False or result.eligible is None
    if unknown or result.verdict == Verdict.UNDECIDED:
        return None
    return result.verdict


def _novelty_bounds(counts: Mapping[str, int], may_join: Iterable[CrystalResult]) -> Bounds | None:
    """Bounds of unmatched / all of `counts`, with those that could have been counted too."""
    hit = miss = 0
    for result in may_join:
        fixed = _fixed_verdict(result)
        hit += fixed in (None, Verdict.UNMATCHED)
        miss += fixed != Verdict.UNMATCHED
    return share_bounds(
        counts[Verdict.UNMATCHED.value],
        sum(counts.values()),
        undecided=counts[Verdict.UNDECIDED.value],
        may_join_hit=hit,
        may_join_miss=miss,
    )


def _group_of(result: CrystalResult, by: str) -> str | int | None:
    """The group of a breakdown that a crystal belongs to; None while that is not known."""
    if by == "n_elements":
        return _n_elements(result.formula)
    if by == "n_sites":
        return None if result.n_sites is None else _size_range(result.n_sites)
    value: str | int | None = getattr(result, by)
    return value.value if isinstance(value, Enum) else value


def _ends(name: str, interval: Interval | Bounds | None) -> dict[str, float | None]:
    """The two ends of an interval, or of bounds, by name."""
    return {f"{name}_{end}": getattr(interval, end, None) for end in ("low", "high")}


def _unique(results: Iterable[CrystalResult]) -> int:
    return count_unique(result.duplicate_group for result in results)


def _count(results: Iterable[CrystalResult]) -> dict[str, int]:
    counted = Counter(result.verdict for result in results)
    return {verdict.value: counted[verdict] for verdict in Verdict}


def _shares(counts: Mapping[str, int], total: int) -> dict[str, Interval]:
    shares = {verdict: wilson(count, total) for verdict, count in counts.items()}
    return {verdict: share for verdict, share in shares.items() if share is not None}


def _n_elements(formula: str | None) -> int | None:
    found = set(re.findall(r"[A-Z][a-z]?", formula or ""))
    return len(found) or None


def _size_range(n_sites: int) -> str:
    """Cells of about equal size: four numbers of sites together up to 20, then twenty."""
    width = 4 if n_sites <= 20 else 20
    first = (n_sites - 1) // width * width + 1
    return f"{first}-{first + width - 1}"


def _group_order(key: str | int) -> tuple[int, int, str]:
    from novelty_metric.crystal import CRYSTAL_SYSTEMS

    if isinstance(key, int):
        return (0, key, "")
    if key in CRYSTAL_SYSTEMS:
        return (1, CRYSTAL_SYSTEMS.index(key), "")
    first = key.partition("-")[0]
    return (3 if key == UNKNOWN else 2, int(first) if first.isdecimal() else 0, key)


_Row = TypeVar("_Row")


def plain_row(result: CrystalResult) -> CrystalResult:
    """The row with plain Python numbers, those that are not finite as None, and text as UTF-8."""
    parents = tuple(_plain_row(tried, parent=_plain_row(tried.parent)) for tried in result.parents)
    return _plain_row(result, parents=parents)


def _plain_row(row: _Row, **ready: Any) -> _Row:
    changed = dict(ready)
    for column in dataclasses.fields(row):  # type: ignore[arg-type]
        if column.name not in ready:
            value = getattr(row, column.name)
            plain = _plain_value(value)
            if plain is not value:
                changed[column.name] = plain
    return dataclasses.replace(row, **changed) if changed else row  # type: ignore[type-var]


def _plain_value(value: Any) -> Any:
    """The value itself where it is plain already; numbers of NumPy and odd text made plain."""
    if isinstance(value, Enum) or value is None:
        return value
    if not isinstance(value, str) and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _text(value) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """Values that JSON holds and gives back unchanged."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    value = _plain_value(value.value if isinstance(value, Enum) else value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else _text(str(value))


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _text(text: str) -> str:
    """Text that UTF-8 can hold and that moves no cursor: what is neither is escaped.

    File names may carry bytes that are no character, and strangers' names a terminal's commands.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
