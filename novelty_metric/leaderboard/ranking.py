"""Yields at a common number of generated crystals, and ranks beyond chance.

Of the first hundred crystals of a model nearly all are distinct, of its first million few are: the
yield of unique crystals falls as more are drawn, and only yields at one number can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Interval, newcombe, wilson
from novelty_metric.verdict import Verdict


def novel_groups(report: NoveltyReport) -> tuple[int, ...]:
    """Sizes of the groups of equal eligible, unmatched crystals, largest first."""
    new = [row.duplicate_group for row in report.eligible if row.verdict == Verdict.UNMATCHED]
    groups = Counter(group for group in new if group is not None)
    return tuple(sorted([*groups.values(), *[1] * new.count(None)], reverse=True))


def expected_unique(groups: Sequence[int], total: int, drawn: int) -> float:
    """Expected number of groups in a random draw without replacement.

    With groups of g members among N, of which n are drawn::

        E = Σ 1 − C(N − g, n) / C(N, n)

    Parameters
    ----------
    groups : sequence of int
        Members of each group.
    total, drawn : int
        N and n, with n ≤ N.

    Raises
    ------
    ValueError
        If that many can't be drawn, or the groups hold more than there are.

    Notes
    -----
    Source: S. H. Hurlbert, Ecology 52, 577 (1971).

    Examples
    --------
    >>> expected_unique([2, 1], total=4, drawn=4)
    2.0
    >>> round(expected_unique([2, 1], total=4, drawn=1), 6)
    0.75
    """
    if not 0 <= drawn <= total or sum(groups) > total:
        raise ValueError(f"{drawn} of {total}, of which {sum(groups)} are in groups")
    expected = 0.0
    for size, count in sorted(Counter(groups).items()):
        missed = 1.0
        for place in range(size):
            missed *= max(0, total - drawn - place) / (total - place)
        expected += count * (1.0 - missed)
    return expected


def rarefied_yield(groups: Sequence[int], total: int, drawn: int) -> Interval:
    """Unique unmatched crystals per generated one, if `drawn` are generated, with 95 % interval.

    Parameters
    ----------
    groups : sequence of int
        Members of each group of equal unmatched crystals.
    total : int
        Crystals generated, N.
    drawn : int
        The common number, n ≤ N.

    Notes
    -----
    The interval is Wilson's for a share p = E / n of N. The rarefied count is a U-statistic of
    degree n, so that by Hoeffding, Ann. Math. Stat. 19, 293 (1948), N·var decreases with N:
    var(E) ≤ (n / N)·var(U), U being the distinct crystals in one draw of n. That is at most
    n·p(1 − p) (see `NoveltyReport.novel_yield_interval`), hence var(E / n) ≤ p(1 − p) / N. At
    n = N it is the interval of the report.
    """
    if drawn < 1:
        return Interval(0.0, 0.0, 1.0)
    share = min(1.0, expected_unique(groups, total, drawn) / drawn)
    found = wilson(share * total, total)
    assert found is not None  # total is at least one
    return Interval(share, found.low, found.high)


def significantly_better(
    yields: Mapping[str, tuple[float, int]],
) -> dict[str, tuple[str, ...]]:
    """For each model, the models whose yield is higher by more than chance, in the order given.

    Newcombe's 95 % interval of the difference lies above 0; pairs are judged one by one, without a
    correction for their number. `yields` holds the yield at the common number, and the crystals
    generated that it was measured on.
    """

    def is_better(one: str, other: str) -> bool:
        hits = [(yields[name][0] * yields[name][1], yields[name][1]) for name in (one, other)]
        change = newcombe(*hits)
        return change is not None and change.low > 0

    return {
        one: tuple(name for name in yields if name != one and is_better(one, name))
        for one in yields
    }
