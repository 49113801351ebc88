"""The verdicts by crystal system, with those of real crystals."""

from __future__ import annotations

from rich.table import Table

from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Interval
from novelty_metric.support.text import percent_interval
from novelty_metric.terminal.tables import VERDICT_ABBREVIATIONS, novelty_cell, plain_table
from novelty_metric.verdict import Verdict


def system_table(report: NoveltyReport) -> Table:
    """A row per crystal system of the eligible crystals, and one for all.

    The last column is the base rate: the share of unmatched among real crystals, where the
    reference is calibrated.
    """
    beside = report.beside_real_crystals
    table = plain_table()
    table.add_column("crystal system", no_wrap=True)
    table.add_column("n", justify="right")
    for verdict in Verdict:
        table.add_column(VERDICT_ABBREVIATIONS[verdict], justify="right")
    table.add_column("novelty, %", justify="right", no_wrap=True)
    if beside is not None:
        table.add_column("real crystals", justify="right", no_wrap=True)
    for name, group in report.breakdown("crystal_system").items():
        novelty = (
            f"at most {100 * group.novelty_bounds.high:.0f}"
            if report.novelty_is_bound
            else _cell(group.novelty)
        )
        counts = [str(group.counts[verdict]) for verdict in Verdict]
        real = [] if beside is None else [_cell(beside.base_rates.get(str(name)))]
        table.add_row(str(name), str(group.n), *counts, novelty, *real)
    counts = [str(report.counts[verdict]) for verdict in Verdict]
    real = [] if beside is None else [_cell(beside.base_rate)]
    table.add_row("all", str(report.n_eligible), *counts, novelty_cell(report), *real, style="bold")
    return table


def _cell(share: Interval | None) -> str:
    return percent_interval(share, 0, none="-", pad=True)
