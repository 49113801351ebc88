"""Comparison of two reports: what changed, whether chance explains it, and which crystals.

A change of a share is given with Newcombe's hybrid score interval. Where both reports scored the
same crystals, these are paired: what they have in common makes the interval narrower.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from novelty_metric.comparison.permutation import Outcome, paired_p_value
from novelty_metric.comparison.ratios import RatioChange, ratio_changes
from novelty_metric.comparison.same_crystals import pairs_by_content
from novelty_metric.crystal_records import CrystalRecord
from novelty_metric.errors import InputError
from novelty_metric.report.context import RunContext, protocol_changes
from novelty_metric.report.exclusion import exclusion_reason
from novelty_metric.report.explanation import ROUTES
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Change, Interval, newcombe, wilson
from novelty_metric.verdict import CrystalResult, Verdict

NOVEL_YIELD = "novel_yield"
ELIGIBLE = "eligible"
SHARES = (*(verdict.value for verdict in Verdict), ELIGIBLE, NOVEL_YIELD)
"""The compared shares: each verdict and the eligible crystals, and two shares of all generated."""

PAIRED_BY = ("id", "content")
"""The ways to identify the same crystals in two reports."""

NOT_ELIGIBLE = "not eligible"
UNREADABLE = "unreadable"


class ChangeTest(StrEnum):
    """The test behind a p-value."""

    FISHER = "Fisher's exact test"
    MCNEMAR = "McNemar's exact test"
    SWAP = "paired permutation test"


@dataclass(frozen=True, slots=True)
class Share:
    """Hits / counted, with the 95 % Wilson interval; None if none is counted."""

    hits: int
    total: int

    @property
    def interval(self) -> Interval | None:
        """The value and its limits."""
        return wilson(self.hits, self.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Change of one share."""

    name: str
    """One of `SHARES`."""
    before: Share
    after: Share
    change: Change | None
    """after - before; None where one report has nothing to count."""
    p_value: float | None
    """Two-sided, of `test`, for no change at all."""
    test: ChangeTest


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictChange:
    """A crystal that both reports scored, with different results.

    `before` and `after` are a verdict, ``not eligible`` or ``unreadable``; `why_before` and
    `why_after` give the evidence.
    """

    id: str
    formula: str | None
    before: str
    after: str
    why_before: str
    why_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A setting that decides verdicts and differs between the reports."""

    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.what} was {self.before}, is {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of `compare`.

    Attributes
    ----------
    differences : mapping
        By name, in the order of `SHARES`.
    n_shared : int
        Crystals that both reports scored.
    same_samples : bool
        True if both reports contain exactly these crystals.
    changes : tuple of VerdictChange
        In the order of the later report.
    ratios : tuple of RatioChange
        To real crystals; empty where no reference is calibrated.
    mismatches : tuple of Mismatch
        Differences in the reference, protocol, potential, hull and similar settings. With any of
        them, the reports do not measure the same quantity.
    versions : tuple of Mismatch
        Libraries with different versions; they may explain a change.
    not_relaxed : tuple of str
        For each report without relaxations, the upper bound of its novelty.
    """

    differences: Mapping[str, Difference]
    n_shared: int
    same_samples: bool
    changes: tuple[VerdictChange, ...]
    mismatches: tuple[Mismatch, ...]
    versions: tuple[Mismatch, ...]
    not_relaxed: tuple[str, ...] = ()
    ratios: tuple[RatioChange, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons against a comparison of these reports, one line each."""
        mismatches = (f"{mismatch}: not the same measurement" for mismatch in self.mismatches)
        return (*mismatches, *self.not_relaxed)


def compare(before: NoveltyReport, after: NoveltyReport, *, by: str = "id") -> Comparison:
    """Compare two reports.

    Crystals are the same if their ids are equal and no crystal with a common id has another formula
    (two draws from a model often have the same numbering). With ``by="content"`` ids are ignored,
    and `pairs_by_content` finds the same crystals, for example in two files of the same samples
    with another order or format.

    Parameters
    ----------
    before, after : NoveltyReport
    by : str
        ``"id"`` or ``"content"``; the latter needs reports with crystals, which
        `novelty_metric.report.files.with_structures` adds to one that was loaded.

    Raises
    ------
    InputError
        If `by` is neither, or a report has no crystals to compare.

    Notes
    -----
    The interval of a change is `novelty_metric.support.statistics.newcombe`. The correlation of the
    two shares is that of their residuals ``hit - share`` over the crystals in common that are
    counted in both. If both have the same eligible crystals, it is phi, and the interval is
    Newcombe's method 10 for paired samples. Crystals that only one report scored reduce it.

    If the reports do not have all crystals in common, the p-value is that of Fisher's exact test.
    Otherwise it is that of a permutation test, which swaps the two results of each crystal in every
    possible way. If both reports count the same crystals, this is McNemar's exact test.

    Examples
    --------
    >>> from novelty_metric.protocol import Protocol
    >>> context = RunContext(
    ...     protocol=Protocol.named("paper"),
    ...     reference_name="mp_20",
    ...     reference_size=27136,
    ...     crystals_hash="",
    ...     store_hash="",
    ... )
    >>> def report(novel):
    ...     rows = [
    ...         CrystalResult(
    ...             id=str(i),
    ...             eligible=True,
    ...             smact_valid=True,
    ...             verdict=Verdict.UNMATCHED if i < novel else Verdict.DUPLICATE,
    ...         )
    ...         for i in range(100)
    ...     ]
    ...     return NoveltyReport.from_results(rows, context)
    >>> found = compare(report(30), report(15))
    >>> change = found.differences["unmatched"].change
    >>> f"{change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}]", len(found.changes)
    ('-0.15 [-0.23, -0.08]', 15)
    """
    shared = _shared(before, after, by)
    same = len(shared) == len(before.results) == len(after.results) and (
        before.n_generated == after.n_generated
    )
    differences = {
        name: _difference(name, before, after, shared, same_samples=same) for name in SHARES
    }
    changes = []
    for row, old_row in ((new, old) for old, new in shared):
        new, old = after.results[row], before.results[old_row]
        if (_label(new), new.verdict) != (_label(old), old.verdict):
            changes.append(
                VerdictChange(
                    id=new.id,
                    formula=new.formula or old.formula,
                    before=_label(old),
                    after=_label(new),
                    why_before=_evidence(old),
                    why_after=_evidence(new),
                )
            )
    return Comparison(
        differences=differences,
        n_shared=len(shared),
        same_samples=same,
        changes=tuple(changes),
        mismatches=context_mismatches(before.context, after.context),
        versions=_version_changes(before.context, after.context),
        not_relaxed=tuple(
            f"{name}: {report.headline}; its unmatched crystals are not the novelty"
            for name, report in (("before", before), ("after", after))
            if report.novelty_is_bound
        ),
        ratios=ratio_changes(before, after),
    )


def context_mismatches(before: RunContext, after: RunContext) -> tuple[Mismatch, ...]:
    """Settings that decide verdicts and differ; empty if the runs measure the same quantity."""
    found = []

    def note(what: str, old: str, new: str) -> None:
        found.append(Mismatch(what=what, before=old, after=new))

    if before.crystals_hash != after.crystals_hash:
        names = [
            f"{it.reference_name} ({it.crystals_hash[:12] or 'no hash'})" for it in (before, after)
        ]
        note("reference", *names)
    ours, theirs = before.protocol.to_dict(), after.protocol.to_dict()
    for name in ours:
        if name != "name" and ours[name] != theirs[name]:
            presets = [protocol_changes(context.protocol)[0] for context in (before, after)]
            shown = [f"{ours[name]} ({presets[0]})", f"{theirs[name]} ({presets[1]})"]
            note(f"protocol.{name}", *(shown if presets[0] != presets[1] else map(str, shown)))
    keys = [getattr(context.potential, "key", "none") for context in (before, after)]
    if keys[0] != keys[1]:
        note("potential", *keys)
    if before.compared_hull != after.compared_hull:
        note("hull", *_hull_words(before, after))
    for name in ("scope", "relax_samples", "leave_one_out", "smact_oxidation_states"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            note(name, str(old), str(new))
    return tuple(found)


def _hull_words(before: RunContext, after: RunContext) -> list[str]:
    """Both hulls, with the properties that differ."""
    hulls = [before.compared_hull, after.compared_hull]
    words = [str(hull["name"]) for hull in hulls]
    if words[0] != words[1]:
        return words
    keys = sorted(hulls[0].keys() | hulls[1].keys())
    differing = [key for key in keys if hulls[0].get(key) != hulls[1].get(key)]
    shown = [
        ", ".join(
            f"{k}={str(hull.get(k))[: 12 if k.endswith('_hash') else None]}" for k in differing
        )
        for hull in hulls
    ]
    return [f"{word} ({part})" for word, part in zip(words, shown, strict=True)]


def _version_changes(before: RunContext, after: RunContext) -> tuple[Mismatch, ...]:
    old, new = before.versions, after.versions
    return tuple(
        Mismatch(what=name, before=old.get(name, "absent"), after=new.get(name, "absent"))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


# Crystals


def _shared(before: NoveltyReport, after: NoveltyReport, by: str) -> list[tuple[int, int]]:
    """Rows of the common crystals; empty if an id now belongs to another crystal."""
    if by not in PAIRED_BY:
        raise InputError(f"by is {by!r}; known: {', '.join(PAIRED_BY)}")
    if by == "content":
        return pairs_by_content(_generated(before), _generated(after))
    row_of = {result.id: row for row, result in enumerate(before.results)}
    shared = []
    for row, result in enumerate(after.results):
        old_row = row_of.get(result.id)
        if old_row is None:
            continue
        formulas = {before.results[old_row].formula, result.formula} - {None}
        if len(formulas) > 1:
            return []
        shared.append((old_row, row))
    return shared


def _generated(report: NoveltyReport) -> list[CrystalRecord | None]:
    """The generated crystals."""
    kept = [None if row.structures is None else row.structures.generated for row in report.results]
    if kept and not any(record is not None for record in kept):
        raise InputError(
            "by=content compares the crystals themselves, but a report contains none; give the "
            "folders of runs that were scored with out="
        )
    return kept


def _label(result: CrystalResult) -> str:
    if not result.readable:
        return UNREADABLE
    return NOT_ELIGIBLE if exclusion_reason(result) else str(result.verdict)


def _evidence(result: CrystalResult) -> str:
    """A short reason for the result of a crystal."""
    if exclusion_reason(result) is not None:
        return result.error or "no reason given"
    parent = result.parent_id or "an unnamed crystal"
    if result.verdict == Verdict.DUPLICATE:
        return f"equals {parent}{_number(', rms', result.match_rms)}"
    if result.verdict == Verdict.SUBSTITUTED:
        route = f", {ROUTES[result.route]}" if result.route is not None else ""
        return f"parent {parent} confirmed{route}{_number(', cost', result.cost, 1)}"
    if result.verdict == Verdict.UNDECIDED:
        return result.error or "unfinished"
    if not result.n_parents:
        return "no parent found" if result.n_parents == 0 else "no parent confirmed"
    if result.n_parents == 1:
        return f"its only parent, {parent}, not confirmed"
    cheapest = f", cheapest {parent}" if result.parent_id else ""
    return f"none of {result.n_parents} parents confirmed{cheapest}"


def _number(name: str, value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{name} {value:.{digits}f}"


# Shares


def _outcomes(report: NoveltyReport, name: str) -> list[Outcome]:
    """For each row: True if it is counted, and True if it is a hit."""
    if name == ELIGIBLE:
        return [(True, exclusion_reason(result) is None) for result in report.results]
    if name != NOVEL_YIELD:
        return [
            (exclusion_reason(result) is None, _label(result) == name) for result in report.results
        ]
    outcomes: list[Outcome] = []
    seen: set[int] = set()
    for result in report.results:
        group = result.duplicate_group
        first = group is None or group not in seen
        hit = _label(result) == Verdict.UNMATCHED and first
        if hit and group is not None:
            seen.add(group)
        outcomes.append((True, hit))
    return outcomes


def _difference(
    name: str,
    before: NoveltyReport,
    after: NoveltyReport,
    shared: list[tuple[int, int]],
    *,
    same_samples: bool,
) -> Difference:
    from scipy.stats import fisher_exact

    old, new = _outcomes(before, name), _outcomes(after, name)
    first, second = _share(old, before, name), _share(new, after, name)
    pairs = Counter((old[row], new[other]) for row, other in shared)
    unlisted = 0
    if name in (ELIGIBLE, NOVEL_YIELD) and same_samples:
        # Generated but never given: no hit in either.
        unlisted = before.n_generated - len(before.results)
        pairs[(True, False), (True, False)] += unlisted
    correlation = _correlation(pairs, first, second)
    change = newcombe(
        (first.hits, first.total), (second.hits, second.total), correlation=correlation
    )
    if same_samples:
        counted_alike = all(one[0] == other[0] for one, other in pairs if pairs[one, other])
        test = ChangeTest.MCNEMAR if counted_alike else ChangeTest.SWAP
        p_value = None if change is None else paired_p_value(pairs)
    else:
        test = ChangeTest.FISHER
        table = [[share.hits, share.total - share.hits] for share in (first, second)]
        p_value = None if change is None else float(fisher_exact(table).pvalue)
    return Difference(
        name=name, before=first, after=second, change=change, p_value=p_value, test=test
    )


def _share(outcomes: Iterable[Outcome], report: NoveltyReport, name: str) -> Share:
    counted = Counter(outcomes)
    hits = counted[True, True]
    if name in (ELIGIBLE, NOVEL_YIELD):
        return Share(hits, report.n_generated)
    return Share(hits, hits + counted[True, False])


def _correlation(pairs: Mapping[tuple[Outcome, Outcome], int], one: Share, other: Share) -> float:
    """Correlation of two shares, caused by crystals that both count."""
    if not one.total or not other.total:
        return 0.0
    p, q = one.hits / one.total, other.hits / other.total
    variance = one.total * p * (1 - p) * other.total * q * (1 - q)
    if variance <= 0:
        return 0.0
    products = sum(
        count * (old[1] - p) * (new[1] - q)
        for (old, new), count in pairs.items()
        if old[0] and new[0]
    )
    if products > 0:  # Newcombe's correction for continuity
        products = max(products - 0.5, 0.0)
    return max(-1.0, min(1.0, products / math.sqrt(variance)))
