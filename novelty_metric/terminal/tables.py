"""Parts that all tables share: the frame, cells with numbers, names and colours."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Estimate
from novelty_metric.support.text import percent_interval
from novelty_metric.terminal.console import printable
from novelty_metric.verdict import Verdict

VERDICT_STYLES = {
    Verdict.DUPLICATE: "red",
    Verdict.SUBSTITUTED: "yellow",
    Verdict.UNMATCHED: "green",
    Verdict.UNDECIDED: "magenta",
}
VERDICT_ABBREVIATIONS = {
    Verdict.DUPLICATE: "dupl.",
    Verdict.SUBSTITUTED: "subst.",
    Verdict.UNMATCHED: "unm.",
    Verdict.UNDECIDED: "undec.",
}


def plain_table(*, gap: int = 1) -> Table:
    """A table with a line under its header and no frame.

    Parameters
    ----------
    gap : int
        Blanks on either side of the columns; a rule needs none.
    """
    return Table(
        box=box.SIMPLE_HEAD,
        padding=(0, gap),
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
    )


def fact_grid(facts: Iterable[tuple[str, str, str]], console: Console) -> Table:
    """Facts below one another: name, text and style of each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text, style in facts:
        grid.add_row(name, Text(printable(text, console), style=style))
    return grid


def estimate_cell(mean: Estimate, digits: int, *, signed: bool = False) -> str:
    """A mean with its 95 % interval, if that is known.

    Parameters
    ----------
    signed : bool
        With signs, for what can be below zero.
    """
    value = f"{mean.value:{'+' if signed else ''}.{digits}f}"
    if mean.low is None or mean.high is None:
        return value
    if signed:
        return f"{value} [{mean.low:+.{digits}f}, {mean.high:+.{digits}f}]"
    return f"{value} [{mean.low:.{digits}f}-{mean.high:.{digits}f}]"


def novelty_cell(report: NoveltyReport, digits: int = 0, *, pad: bool = True) -> str:
    """Novelty for a column, in per cent; without relaxations, its highest possible value."""
    share, bounds = report.novelty_interval, report.novelty_bounds
    if report.novelty_is_bound and bounds is not None:
        return f"at most {100 * bounds.high:.{digits}f}"
    return percent_interval(share, digits, pad=pad)
