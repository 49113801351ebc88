"""Parts that all tables share: the frame, cells with numbers, names and colours."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Estimate, Interval
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


def plain_table(
    name: str, *numbers: str, gap: int = 1, wrap_name: bool = True, wrap: bool = True
) -> Table:
    """A table with a line under its header and no frame.

    Parameters
    ----------
    name, *numbers : str
        Headers of the first column, and of columns that are aligned to the right.
    gap : int
        Blanks on either side of the columns; a rule needs none.
    wrap_name, wrap : bool
        Whether the first column, and the others, may take several lines.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, gap),
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
    )
    table.add_column(name, no_wrap=not wrap_name)
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=not wrap)
    return table


def system_table(report: NoveltyReport) -> Table:
    """A row per crystal system of the eligible crystals, and one for all.

    The last column is the base rate: the share of unmatched among real crystals, where the
    reference is calibrated.
    """
    beside = report.beside_real_crystals
    verdicts = [VERDICT_ABBREVIATIONS[verdict] for verdict in Verdict]
    table = plain_table("crystal system", "n", *verdicts, wrap_name=False)
    table.add_column("novelty, %", justify="right", no_wrap=True)
    if beside is not None:
        table.add_column("real crystals", justify="right", no_wrap=True)
    for name, group in report.breakdown("crystal_system").items():
        novelty = (
            f"at most {100 * group.novelty_bounds.high:.0f}"
            if report.novelty_is_bound
            else _share_cell(group.novelty)
        )
        counts = [str(group.counts[verdict]) for verdict in Verdict]
        real = [] if beside is None else [_share_cell(beside.base_rates.get(str(name)))]
        table.add_row(str(name), str(group.n), *counts, novelty, *real)
    counts = [str(report.counts[verdict]) for verdict in Verdict]
    real = [] if beside is None else [_share_cell(beside.base_rate)]
    table.add_row("all", str(report.n_eligible), *counts, novelty_cell(report), *real, style="bold")
    return table


def _share_cell(share: Interval | None) -> str:
    return percent_interval(share, 0, none="-", pad=True)


def fact_grid(facts: Iterable[tuple[str, str, str]], console: Console) -> Table:
    """Facts below one another: name, text and style of each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text, style in facts:
        grid.add_row(name, Text(printable(text, console), style=style))
    return grid


def estimate_cell(mean: Estimate, digits: int, *, signed: bool = False) -> str:
    """A mean with its 95 % interval, if that is known; signed if it can be below zero."""
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
