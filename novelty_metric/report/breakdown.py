"""The eligible crystals in groups, with the verdicts, proportions and novelty of each group."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from novelty_metric.report.exclusion import fixed_verdict
from novelty_metric.support.statistics import Bounds, Interval, share_bounds, wilson
from novelty_metric.verdict import CrystalResult, Verdict

BREAKDOWNS = ("crystal_system", "space_group", "n_elements", "n_sites", "kind")
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Group:
    """A group of eligible crystals.

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
        Lowest and highest novelty of the group, as for the headline. A crystal of unknown group
        that could have been eligible can belong to any group.
    """

    n: int
    share: Interval
    counts: Mapping[str, int]
    fractions: Mapping[str, Interval]
    novelty: Interval
    novelty_bounds: Bounds


def break_down(
    eligible: Sequence[CrystalResult], could_join: Sequence[CrystalResult], by: str
) -> dict[str | int, Group]:
    """The groups of a breakdown, in order; see `NoveltyReport.breakdown`.

    `could_join` are the crystals that could have been eligible.
    """
    members: dict[str | int, list[CrystalResult]] = {}
    for result in eligible:
        if by == "kind" and (result.verdict != Verdict.SUBSTITUTED or result.kind is None):
            continue
        value = _group_of(result, by)
        members.setdefault(UNKNOWN if value is None else value, []).append(result)
    # A sub-kind is of substituted crystals, which nothing that is open can become novel in.
    joining_any = () if by == "kind" else could_join
    total = sum(map(len, members.values()))
    groups: dict[str | int, Group] = {}
    for key in sorted(members, key=_group_order):
        counts = count_verdicts(members[key])
        joining = [r for r in joining_any if _group_of(r, by) in (None, key)]
        shares = verdict_shares(counts, len(members[key]))
        share, bounds = wilson(len(members[key]), total), novelty_bounds(counts, joining)
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


def count_verdicts(results: Iterable[CrystalResult]) -> dict[str, int]:
    """Number of crystals per verdict."""
    counted = Counter(result.verdict for result in results)
    return {verdict.value: counted[verdict] for verdict in Verdict}


def verdict_shares(counts: Mapping[str, int], total: int) -> dict[str, Interval]:
    """Proportion of each verdict; empty if there are no crystals."""
    shares = {verdict: wilson(count, total) for verdict, count in counts.items()}
    return {verdict: share for verdict, share in shares.items() if share is not None}


def novelty_bounds(counts: Mapping[str, int], may_join: Iterable[CrystalResult]) -> Bounds | None:
    """Bounds of unmatched / all of `counts`; they include crystals that could still be counted."""
    hit = miss = 0
    for result in may_join:
        fixed = fixed_verdict(result)
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
    """The group of a crystal in a breakdown; None if it is not known."""
    if by == "n_elements":
        return len(set(re.findall(r"[A-Z][a-z]?", result.formula or ""))) or None
    if by == "n_sites":
        return None if result.n_sites is None else _size_range(result.n_sites)
    value: str | int | None = getattr(result, by)
    return value.value if isinstance(value, Enum) else value


def _size_range(n_sites: int) -> str:
    """Groups by cell size: four consecutive site counts each up to 20, then twenty each."""
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
