"""Summary of several reports: on the terminal, as CSV, as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.folders import write_atomically, writing
from novelty_metric.support.text import csv_text, percent_interval, percent_range
from novelty_metric.terminal.console import stdout_console
from novelty_metric.terminal.tables import novelty_cell, plain_table
from novelty_metric.verdict import Verdict

CSV_FILE = "summary.csv"
MARKDOWN_FILE = "summary.md"

COLUMNS = (
    "run",
    "samples",
    "unreadable",
    "eligible",
    *(verdict.value for verdict in Verdict),
    "novelty, %",
    "bounds, %",
    "novel yield, %",
)
"""Columns. Counts of the verdicts are over the eligible; the novelty has a 95 % interval."""

_MODEL = "model="


def rows(reports: Mapping[str, NoveltyReport]) -> list[dict[str, str]]:
    """A row per report, in order."""
    table = []
    for name, report in reports.items():
        values = [
            name,
            str(len(report.results)),
            str(report.n_unreadable),
            str(report.n_eligible),
            *(str(report.counts[verdict]) for verdict in Verdict),
            novelty_cell(report, 1, pad=False),
            percent_range(report.novelty_bounds),
            f"at most {100 * report.novel_yield_bounds.high:.1f}"
            if report.novelty_is_bound
            else percent_interval(report.novel_yield_interval),
        ]
        table.append(dict(zip(COLUMNS, values, strict=True)))
    return table


def headline(report: NoveltyReport, *, known: bool) -> str:
    """A report in one line."""
    counted = f"{report.counts['unmatched']} of {report.n_eligible} eligible"
    if report.novelty is None:
        line = f"{report.headline}, none of {len(report.results)} is eligible"
    elif report.novelty_is_bound:
        line = f"{report.headline}, {counted} unmatched, {report.counts['undecided']} undecided"
    else:
        line = f"novelty {novelty_cell(report, 1, pad=False)} %, {counted}"
    return f"{line} (already finished)" if known else line


def show(reports: Mapping[str, NoveltyReport]) -> None:
    """Print the table, narrow enough for a terminal."""
    columns = ("n", "elig.", "dupl.", "subst.", "unm.", "undec.", "novelty, %", "bounds")
    table = plain_table("run", *columns, wrap=False)
    table.columns[0].overflow, table.columns[0].min_width = "fold", 12
    names = shown_names(reports)
    unreadable = []
    for name, report in reports.items():
        shown = names[name]
        if report.n_unreadable:
            unreadable.append(f"{shown} {report.n_unreadable}")
        table.add_row(
            shown,
            str(len(report.results)),
            str(report.n_eligible),
            *(str(report.counts[verdict]) for verdict in Verdict),
            novelty_cell(report),
            percent_range(report.novelty_bounds, 0),
        )
    console = stdout_console(sys.stdout)
    console.print()
    console.print(table)
    if unreadable:
        console.print(f"could not be read: {', '.join(unreadable)}")


def shown_names(names: Iterable[str]) -> dict[str, str]:
    """Displayed names of runs: the models alone, if nothing else differs."""
    names = list(names)
    only_models = all(name.startswith(_MODEL) and "," not in name for name in names)
    return {name: name.removeprefix(_MODEL) if only_models else name for name in names}


def write(table: Sequence[Mapping[str, str]], folder: Path) -> None:
    """Write the table to `folder`: as CSV with the runs' folder names, and as Markdown.

    Raises
    ------
    InputError
        If the folder can't be written.
    """
    names = shown_names(row["run"] for row in table)
    readable = [{**row, "run": names[row["run"]]} for row in table]
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"|---|{'---:|' * (len(COLUMNS) - 1)}",
        *(f"| {' | '.join(row[column] for column in COLUMNS)} |" for row in readable),
    ]
    with writing(f"out={folder}"):
        write_atomically(folder / CSV_FILE, csv_text(COLUMNS, table).encode())
        write_atomically(folder / MARKDOWN_FILE, ("\n".join(lines) + "\n").encode())
