"""How many crystals keep their verdict with another potential."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.relaxation.potentials import model_title
from novelty_metric.report.breakdown import UNKNOWN
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Interval, wilson
from novelty_metric.verdict import CrystalResult, Verdict

Pair = tuple[CrystalResult, CrystalResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementGroup:
    """Crystals of one verdict or crystal system, by the first report.

    Attributes
    ----------
    breakdown : str
        ``all``, ``verdict`` or ``crystal_system``.
    group : str
        The verdict or crystal system.
    kept : int
        Crystals with the same verdict in both reports.
    total : int
        Crystals that are eligible in both reports.
    """

    breakdown: str
    group: str
    kept: int
    total: int

    @property
    def share(self) -> Interval | None:
        """Proportion that keeps its verdict, with its 95 % Wilson interval."""
        return wilson(self.kept, self.total)

    def row(self) -> dict[str, Any]:
        """Plain values, for tables and files."""
        share = self.share
        return {
            "breakdown": self.breakdown,
            "group": self.group,
            "kept": self.kept,
            "total": self.total,
            "share": None if share is None else share.value,
            "low": None if share is None else share.low,
            "high": None if share is None else share.high,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Verdicts of the same crystals with two potentials.

    Attributes
    ----------
    first, second : str
        Titles of the potentials.
    groups : tuple of AgreementGroup
        All crystals, then by verdict and by crystal system; groups without crystals are omitted.
    only_first, only_second : int
        Crystals that are eligible with this potential only. They are in no group.
    """

    first: str
    second: str
    groups: tuple[AgreementGroup, ...]
    only_first: int
    only_second: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files."""
        return {
            "potentials": [self.first, self.second],
            "eligible_with_one_only": [self.only_first, self.only_second],
            "groups": [group.row() for group in self.groups],
        }


def verdict_agreement(first: NoveltyReport, second: NoveltyReport) -> Agreement:
    """Compare the verdicts of two reports on the same crystals, paired by id."""
    others = {row.id: row for row in second.results}
    pairs = [(row, others[row.id]) for row in first.results if row.id in others]
    both = [(one, other) for one, other in pairs if one.eligible and other.eligible]
    return Agreement(
        first=_title(first),
        second=_title(second),
        groups=tuple(_groups(both)),
        only_first=sum(bool(one.eligible and not other.eligible) for one, other in pairs),
        only_second=sum(bool(other.eligible and not one.eligible) for one, other in pairs),
    )


def _groups(pairs: Sequence[Pair]) -> Iterator[AgreementGroup]:
    yield _group("all", "all", pairs)
    yield from _by("verdict", [verdict.value for verdict in Verdict], pairs, _verdict)
    yield from _by("crystal_system", [*CRYSTAL_SYSTEMS, UNKNOWN], pairs, _system)


def _by(
    breakdown: str, names: Sequence[str], pairs: Sequence[Pair], key: Callable[[CrystalResult], str]
) -> Iterator[AgreementGroup]:
    for name in names:
        members = [pair for pair in pairs if key(pair[0]) == name]
        if members:
            yield _group(breakdown, name, members)


def _group(breakdown: str, name: str, pairs: Sequence[Pair]) -> AgreementGroup:
    kept = sum(one.verdict == other.verdict for one, other in pairs)
    return AgreementGroup(breakdown=breakdown, group=name, kept=kept, total=len(pairs))


def _verdict(row: CrystalResult) -> str:
    return "" if row.verdict is None else row.verdict.value


def _system(row: CrystalResult) -> str:
    return row.crystal_system or UNKNOWN


def _title(report: NoveltyReport) -> str:
    potential = report.context.potential
    return "no potential" if potential is None else model_title(potential.name)
