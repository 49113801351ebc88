"""Verdicts of several reports as stacked bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from novelty_metric.figures.style import COLUMN, shortened
from novelty_metric.report.colors import VERDICT_COLORS
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from novelty_metric.report.novelty_report import NoveltyReport

_LONGEST = 24
"""Maximum length of a name (characters)."""


def verdict_bars(reports: Mapping[str, NoveltyReport]) -> Figure:
    """One bar per report: the proportions of the verdicts among its eligible crystals.

    The unmatched come first, so that they stand on one line and can be compared; the whisker is the
    95 % interval of their share. A report without an eligible crystal has no bar.

    Parameters
    ----------
    reports : mapping
        By name, drawn from the top.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    order = (Verdict.UNMATCHED, Verdict.UNDECIDED, Verdict.SUBSTITUTED, Verdict.DUPLICATE)
    names = list(reports)
    figure = Figure(figsize=(COLUMN, 0.75 + 0.26 * max(1, len(names))), layout="constrained")
    axes = figure.subplots()
    for row, report in enumerate(reports.values()):
        if report.novelty_interval is None:
            axes.text(1, row, "none eligible", va="center", fontsize=6, color="#555555")
            continue
        left = 0.0
        for verdict in order:
            width = 100 * report.fractions[verdict.value].value
            axes.barh(row, width, left=left, color=VERDICT_COLORS[verdict], height=0.74)
            left += width
        share = report.novelty_interval
        low, high = 100 * (share.value - share.low), 100 * (share.high - share.value)
        axes.errorbar(
            100 * share.value,
            row,
            xerr=[[max(0.0, low)], [max(0.0, high)]],
            color="black",
            linewidth=0.9,
            capsize=2,
        )
    labels = [
        f"{shortened(name, _LONGEST)} ({report.n_eligible})" for name, report in reports.items()
    ]
    axes.set_yticks(range(len(names)), labels=labels, fontsize=7, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the eligible crystals, %", fontsize=7)
    axes.tick_params(labelsize=7, length=2)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(
        handles=[Patch(color=VERDICT_COLORS[verdict], label=verdict.value) for verdict in order],
        loc="outside upper center",
        ncols=4,
        fontsize=6,
        frameon=False,
        handlelength=1,
        handleheight=1,
        columnspacing=1,
        handletextpad=0.4,
    )
    return figure
