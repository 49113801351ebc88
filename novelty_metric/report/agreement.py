"""Agreement of the verdicts with those of another potential."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING, Any

from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.relaxation.potentials import model_title
from novelty_metric.report.breakdown import UNKNOWN
from novelty_metric.report.rows import plain
from novelty_metric.support.statistics import Bounds, Interval, wilson
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    from novelty_metric.report.novelty_report import NoveltyReport

Pair = tuple[CrystalResult, Verdict | None]
"""A row, with the verdict of its crystal from the other potential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementGroup:
    """Crystals of one verdict or crystal system, grouped by the first report."""

    breakdown: str
    """``all``, ``verdict`` or ``crystal_system``."""
    group: str
    """The verdict or crystal system."""
    kept: int
    """Crystals with the same verdict in both reports."""
    total: int
    """Crystals that are eligible in both reports."""

    @property
    def share(self) -> Interval | None:
        """Proportion of crystals that keep their verdict, with its 95 % Wilson interval."""
        return wilson(self.kept, self.total)

    def row(self) -> dict[str, Any]:
        """Plain values, for tables and files."""
        share, low, high = (None,) * 3 if self.share is None else astuple(self.share)
        return {**asdict(self), "share": share, "low": low, "high": high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Verdicts of the same crystals with two potentials."""

    first: str
    second: str
    """Titles of the potentials."""
    groups: tuple[AgreementGroup, ...]
    """All crystals, then by verdict and by crystal system; groups without crystals are omitted."""
    only_first: int
    only_second: int
    """Crystals that are eligible with this potential only. They are in no group."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files."""
        return {
            "potentials": [self.first, self.second],
            "eligible_with_one_only": [self.only_first, self.only_second],
            "groups": [group.row() for group in self.groups],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderBoth:
    """Verdicts of a second potential on the eligible crystals of a report."""

    title: str
    """Of the second potential."""
    counts: Mapping[str, int]
    """Eligible crystals per verdict with the second potential."""
    n_unmatched: int
    """Eligible crystals that are unmatched with both."""
    n_open: int
    """Those that could be: undecided with a potential, and with the other not known to match."""
    n_eligible: int
    """With the first potential."""
    groups: tuple[AgreementGroup, ...]
    """How many keep their verdict, as in `Agreement`."""

    @property
    def unmatched(self) -> Interval | None:
        """Unmatched with both / eligible, with the 95 % Wilson interval."""
        return wilson(self.n_unmatched, self.n_eligible)

    @property
    def bounds(self) -> Bounds | None:
        """Lowest and highest proportion for any outcome of the unfinished relaxations."""
        n = self.n_eligible
        most = self.n_unmatched + self.n_open
        return Bounds(self.n_unmatched / n, most / n) if n else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files."""
        return {
            "counts": dict(self.counts),
            "unmatched_under_both": plain(self.unmatched),
            "bounds": plain(self.bounds),
            "groups": [group.row() for group in self.groups],
        }


def under_both(eligible: Sequence[CrystalResult], second: str) -> UnderBoth:
    """Compare the two verdicts of each row; `second` names the second potential."""
    pairs = [(row, row.verdict_second) for row in eligible]
    possible = (Verdict.UNMATCHED, Verdict.UNDECIDED)
    may_be = sum(row.verdict in possible and other in possible for row, other in pairs)
    both = sum(row.unmatched_under_both for row in eligible)
    return UnderBoth(
        title=model_title(second),
        counts={verdict.value: sum(other == verdict for _, other in pairs) for verdict in Verdict},
        n_unmatched=both,
        n_open=may_be - both,
        n_eligible=len(pairs),
        groups=tuple(_groups(pairs)),
    )


def verdict_agreement(first: NoveltyReport, second: NoveltyReport) -> Agreement:
    """Compare the verdicts of two reports on the same crystals, paired by id."""
    others = {row.id: row for row in second.results}
    pairs = [(row, others[row.id]) for row in first.results if row.id in others]
    both = [(one, other.verdict) for one, other in pairs if one.eligible and other.eligible]
    return Agreement(
        first=_title(first),
        second=_title(second),
        groups=tuple(_groups(both)),
        only_first=sum(bool(one.eligible and not other.eligible) for one, other in pairs),
        only_second=sum(bool(other.eligible and not one.eligible) for one, other in pairs),
    )


def _groups(pairs: Sequence[Pair]) -> Iterator[AgreementGroup]:
    names = [("all", "all"), *(("verdict", verdict.value) for verdict in Verdict)]
    names += [("crystal_system", system) for system in (*CRYSTAL_SYSTEMS, UNKNOWN)]
    for breakdown, name in names:
        some = pairs
        if breakdown != "all":
            some = [pair for pair in pairs if (getattr(pair[0], breakdown) or UNKNOWN) == name]
        if some or breakdown == "all":
            kept = sum(row.verdict == other for row, other in some)
            yield AgreementGroup(breakdown=breakdown, group=name, kept=kept, total=len(some))


def _title(report: NoveltyReport) -> str:
    potential = report.context.potential
    return "no potential" if potential is None else model_title(potential.name)
