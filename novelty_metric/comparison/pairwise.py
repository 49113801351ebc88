"""Comparison of several models in pairs: the differences that chance does not explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from novelty_metric.comparison.compare import Difference, compare
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The change of one share between two reports, as one of many tests."""

    first: str
    second: str
    """Names of the reports."""
    difference: Difference
    """From the first to the second."""
    p_adjusted: float | None
    """Its p-value times what Holm's method asks for the number of pairs, at most 1; None where
    there is no p-value.
    """


def pairwise(
    reports: Mapping[str, NoveltyReport],
    share: str = Verdict.UNMATCHED.value,
    *,
    against: str | None = None,
) -> tuple[Pair, ...]:
    """Compare all pairs of several reports, in order.

    Among twenty pairs of equal models, one differs "significantly" by chance. The adjusted p-values
    bound the probability that *any* pair does: Holm, Scand. J. Stat. 6, 65 (1979).

    Parameters
    ----------
    reports : mapping
        By name.
    share : str
        One of `novelty_metric.comparison.compare.SHARES`.
    against : str, optional
        Name of the report with which the others are compared; None: all pairs.

    Examples
    --------
    >>> adjusted([0.01, 0.04, 0.03, None])
    [0.03, 0.06, 0.06, None]
    """
    pairs = [
        (first, second, compare(reports[first], reports[second]).differences[share])
        for first, second in combinations(reports, 2)
        if against is None or against in (first, second)
    ]
    corrected = adjusted([difference.p_value for *_, difference in pairs])
    return tuple(
        Pair(first=first, second=second, difference=difference, p_adjusted=value)
        for (first, second, difference), value in zip(pairs, corrected, strict=True)
    )


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for multiple tests by Holm's method; None stays None and is not counted."""
    known = sorted(
        (value, position) for position, value in enumerate(p_values) if value is not None
    )
    found: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (value, position) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * value))
        found[position] = least
    return found
