"""A report and its progress on a terminal.

Imports rich, so it is itself imported only by the command line. The words are plain ASCII; rich
draws the rules of the tables in ASCII as well where the terminal's encoding asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

import rich.progress
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from novelty_metric.comparison import Comparison, Share
from novelty_metric.report import LeftOut, NoveltyReport
from novelty_metric.statistics import Change, Interval
from novelty_metric.verdict import Verdict

WIDEST = 100
"""Columns that the table takes at most: wider lines are harder to read."""

MOST_CHANGES = 20
"""Crystals that a comparison lists at most, unless all are asked for."""

_COLOURS = {
    Verdict.DUPLICATE: "red",
    Verdict.SUBSTITUTED: "yellow",
    Verdict.UNMATCHED: "green",
    Verdict.UNDECIDED: "magenta",
}
_LEFT_OUT = {
    LeftOut.UNREADABLE: "could not be read",
    LeftOut.FAILED: "could not be scored",
    LeftOut.SMACT_INVALID: "composition refused by SMACT",
    LeftOut.NOT_CONVERGED: "relaxation did not converge or failed",
    LeftOut.NO_HULL: "no energy above hull",
    LeftOut.NOT_METASTABLE: "too far above the hull",
    LeftOut.OUT_OF_TIME: "out of time before it was relaxed",
}


_MOST_NAMED = 12


def stdout_console(stream: TextIO) -> Console:
    """A console that prints to a stream, coloured only on a terminal."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return console if console.width <= WIDEST else _narrowed(console)


def _narrowed(console: Console) -> Console:
    console.width = WIDEST
    return console


def print_report(report: NoveltyReport, console: Console) -> None:
    """Print a report: headline, verdicts, crystal systems, what was left out, and the settings."""
    _print_headline(report, console)
    tables = [_verdict_table(report)]
    if report.n_eligible:
        tables.append(_system_table(report))
    if any(report.left_out.values()):
        tables.append(_left_out_table(report))
    for table in tables:
        console.print()
        console.print(table)
    console.print()
    _print_settings(report, console)


def _print_headline(report: NoveltyReport, console: Console) -> None:
    line = Text()
    share = report.novelty_interval
    if share is None:
        line.append("novelty unknown", style="bold")
        line.append(f"  none of {_crystals(len(report.results))} is eligible")
    else:
        line.append(f"novelty {_percent(share.value)}", style="bold green")
        line.append(f"  {report.counts['unmatched']} of {report.n_eligible} eligible unmatched")
        line.append(f" (95 %: {_range(share.low, share.high)})")
    console.print(line)
    bounds = report.novelty_bounds
    if bounds is not None and bounds.low < bounds.high:
        console.print(
            f"between {_percent(bounds.low)} and {_percent(bounds.high)}"
            "  whatever the unfinished work would have said"
        )
    found = report.novel_yield_interval
    line = Text(f"novel yield {_percent(found.value)}", style="bold")
    most = report.novel_yield_bounds.high
    limit = f" (at most {_percent(most)})" if most > found.value else ""
    line.append(f"{limit}  unique new ones of {report.n_generated} generated", "not bold")
    console.print(line)


def _verdict_table(report: NoveltyReport) -> Table:
    table = _table()
    table.add_column("verdict")
    for name in ("eligible", "all"):
        table.add_column(name, justify="right")
        table.add_column("% [95 % interval]", justify="right")
    for verdict in Verdict:
        table.add_row(
            Text(verdict.value, style=_COLOURS[verdict]),
            str(report.counts[verdict]),
            _with_interval(report.fractions, verdict),
            str(report.counts_all[verdict]),
            _with_interval(report.fractions_all, verdict),
        )
    n_searched = report.n_scored + report.n_not_searched
    if report.n_not_searched:
        table.add_row("not searched", "", "", str(report.n_not_searched), "")
    table.add_row("sum", str(report.n_eligible), "", str(n_searched), "")
    return table


def _system_table(report: NoveltyReport) -> Table:
    table = _table()
    table.add_column("eligible")
    table.add_column("sum", justify="right")
    for verdict in Verdict:
        table.add_column(verdict.value, justify="right")
    table.add_column("novelty, %", justify="right")
    for name, group in report.breakdown("crystal_system").items():
        counts = [str(group.counts[verdict]) for verdict in Verdict]
        table.add_row(str(name), str(group.n), *counts, _whole_interval(group.novelty))
    return table


def _left_out_table(report: NoveltyReport) -> Table:
    table = _table()
    table.add_column("not eligible")
    table.add_column("crystals", justify="right")
    for reason, count in report.left_out.items():
        if count:
            table.add_row(_LEFT_OUT[LeftOut(reason)], str(count))
    return table


def _print_settings(report: NoveltyReport, console: Console) -> None:
    context = report.context
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")

    def add(name: str, value: str, style: str = "") -> None:
        # What a console can't encode would end the program in the middle of a table.
        value = value.encode(console.encoding, "replace").decode(console.encoding)
        grid.add_row(name, Text(value, style=style))

    digest = f", {context.crystals_hash[:12]}" if context.crystals_hash else ""
    add("reference", f"{context.reference_name} ({_crystals(context.reference_size)}{digest})")
    add("protocol", context.protocol_text)
    potential = context.potential
    add("potential", "none" if potential is None else f"{potential.name} {potential.version}")
    add("hull", _hull(context.hull) if context.has_hull else "none")
    add("eligible", context.eligibility)
    if report.n_energy_suspect:
        trusted = report.novelty_without_suspect
        without = "unknown" if trusted is None else _percent(trusted.value)
        add(
            "suspect",
            f"{report.n_energy_suspect} eligible below {context.protocol.suspect:g} eV/atom above "
            "hull: the hull lacks their compounds, or the potential fails on them; novelty "
            f"without them: {without}",
            "yellow",
        )
    if context.seconds:
        add("time", ", ".join(f"{step} {_time(took)}" for step, took in context.seconds.items()))
    for line in context.warnings:
        add("warning", line, "yellow")
    console.print(grid)


def _hull(hull: Mapping[str, Any]) -> str:
    words = str(hull["name"])
    table = hull.get("elements_from_table") or []
    if table:
        shown = ", ".join(table[:_MOST_NAMED]) + (", ..." if len(table) > _MOST_NAMED else "")
        words += f"; {len(table)} elements that it lacks from a table: {shown}"
    lost = hull.get("crystals_without_energy") or 0
    if lost:
        words += f"; {_crystals(lost)} of it without energy"
    return words


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False)


def _with_interval(shares: Mapping[str, Interval], verdict: Verdict) -> str:
    share = shares.get(verdict.value)
    return "" if share is None else _interval(share)


def _interval(share: Interval) -> str:
    low, high = f"{100 * share.low:.1f}", f"{100 * share.high:.1f}"
    return f"{100 * share.value:.1f} [{low:>4}-{high:>5}]"


def _whole_interval(share: Interval) -> str:
    """Without decimals: the groups are small and the column narrow."""
    return f"{100 * share.value:.0f} [{100 * share.low:>2.0f}-{100 * share.high:>3.0f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f}-{100 * high:.1f} %"


def _crystals(count: int) -> str:
    return f"{count} crystal{'' if count == 1 else 's'}"


def _time(seconds: float) -> str:
    if seconds < 0.1:
        return "<0.1 s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def print_comparison(
    comparison: Comparison, console: Console, *, all_changes: bool = False
) -> None:
    """Print a comparison: shares with their change, the crystals that changed, and warnings.

    Parameters
    ----------
    all_changes : bool
        List every crystal whose verdict changed, not only the first `MOST_CHANGES`.
    """
    table = _table()
    table.add_column("share")
    for name in ("before, %", "of", "after, %", "of", "change, points", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for difference in comparison.differences.values():
        change = difference.change
        noticed = change is not None and change.beyond_noise
        table.add_row(
            Text(difference.name, style="bold" if noticed else ""),
            *_share_cells(difference.before),
            *_share_cells(difference.after),
            "" if change is None else _points(change),
            "" if difference.p_value is None else f"{difference.p_value:.2g}",
        )
    console.print(table)
    tests = {d.test.value for d in comparison.differences.values() if d.p_value is not None}
    console.print(f"\n95 % intervals; p by {', '.join(sorted(tests)) or 'no test'}")
    if not comparison.n_shared:
        console.print("no crystal in common, so none can be followed one by one")
    else:
        changes = comparison.changes
        console.print(f"{len(changes)} of {_crystals(comparison.n_shared)} in common changed")
        for line in changes if all_changes else changes[:MOST_CHANGES]:
            formula = f" {line.formula}" if line.formula else ""
            console.print(f"  {line.id}{formula}: {line.before} -> {line.after}", style="bold")
            console.print(f"    was: {line.why_before}")
            console.print(f"    now: {line.why_after}")
        if not all_changes and len(changes) > MOST_CHANGES:
            console.print(f"  and {len(changes) - MOST_CHANGES} more; --all lists them")
    for warning in comparison.warnings:
        console.print(f"warning: {warning}", style="yellow")
    for version in comparison.versions:
        console.print(f"other version: {version}")


def _share_cells(share: Share) -> tuple[str, str]:
    found = share.interval
    if found is None:
        return "", str(share.total)
    value, low, high = (100 * number for number in (found.value, found.low, found.high))
    return f"{value:.1f} [{low:>2.0f}-{high:>3.0f}]", str(share.total)


def _points(change: Change) -> str:
    value, low, high = (100 * number for number in (change.value, change.low, change.high))
    return f"{value:+.1f} [{low:+3.0f}, {high:+3.0f}]"


class Progress:
    """Bars of a running metric on a terminal; silent where the stream is none.

    An instance is a `novelty_metric.progress.ProgressCallback`, to be used within ``with``.

    Parameters
    ----------
    stream : text stream
        Usually standard error, so that results can be piped away.
    """

    def __init__(self, stream: TextIO) -> None:
        console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._bars: rich.progress.Progress | None = None
        if console.is_terminal:
            self._bars = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}", markup=False),
                rich.progress.BarColumn(bar_width=24),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TimeRemainingColumn(),
                console=console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __enter__(self) -> Progress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show where a stage stands."""
        if self._bars is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)
