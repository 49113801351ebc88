"""A report and its progress on a terminal.

Imports rich, so it is itself imported only by the command line. The words are plain ASCII; rich
draws the rules of the tables in ASCII as well where the terminal's encoding asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import astuple
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

import rich.progress
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from novelty_metric.analysis.agreement import Agreement
from novelty_metric.analysis.controls import ControlsResult
from novelty_metric.comparison.compare import Comparison, Share
from novelty_metric.comparison.spread import SpreadReport
from novelty_metric.relaxation.potentials import model_title
from novelty_metric.report.context import count_of_crystals
from novelty_metric.report.exclusion import ExclusionReason
from novelty_metric.report.explanation import Explanation
from novelty_metric.report.graded import QUANTILES
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.statistics import Bounds, Estimate, Interval
from novelty_metric.support.text import (
    duration,
    percent,
    percent_interval,
    percent_range,
    points_interval,
)
from novelty_metric.terminal.calibration import base_rate_cell, base_rate_lines
from novelty_metric.terminal.progress_lines import ProgressLines
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from novelty_metric.analysis.sensitivity import Sensitivity

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
_ABBREVIATIONS = {
    Verdict.DUPLICATE: "dupl.",
    Verdict.SUBSTITUTED: "subst.",
    Verdict.UNMATCHED: "unm.",
    Verdict.UNDECIDED: "undec.",
}


def without_trailing_blanks(text: str) -> str:
    """The text without what fills the last column of a table."""
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


class _WithoutTrailingBlanks:
    """A stream that is no terminal, without the blanks that fill a table's last column."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write whole lines, as rich does."""
        return self._stream.write(without_trailing_blanks(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def stdout_console(stream: TextIO) -> Console:
    """A console that prints to a stream, coloured only on a terminal."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.file = cast("TextIO", _WithoutTrailingBlanks(stream))
    return console if console.width <= WIDEST else _narrowed(console)


def printable(text: object, console: Console) -> str:
    """The text with what a console can't encode replaced: it would end the program half-way."""
    return str(text).encode(console.encoding, "replace").decode(console.encoding)


def _narrowed(console: Console) -> Console:
    console.width = WIDEST
    return console


def print_report(report: NoveltyReport, console: Console, *, seconds: float | None = None) -> None:
    """Print a report: headline, verdicts, crystal systems, what was left out, and the settings.

    Parameters
    ----------
    seconds : float, optional
        Wall time of the command, which the steps of the report do not add up to.
    """
    _print_headline(report, console)
    tables = [_verdict_table(report)]
    if report.n_eligible:
        tables.append(_system_table(report))
    if report.graded.n:
        tables.append(_nearest_table(report))
    if report.n_read:
        tables.append(_quality_table(report))
    if any(report.left_out.values()):
        tables.append(_left_out_table(report))
    for table in tables:
        console.print()
        console.print(table)
    console.print()
    _print_settings(report, console, seconds=seconds)


def _print_headline(report: NoveltyReport, console: Console) -> None:
    line = Text()
    share = report.novelty_interval
    if share is None:
        line.append("novelty unknown", style="bold")
        line.append(f"  none of {count_of_crystals(len(report.results))} is eligible")
    else:
        line.append(report.headline, style="bold green")
        n_unmatched, n_eligible = report.counts["unmatched"], report.n_eligible
        if report.novelty_is_bound:
            n_open = report.counts["undecided"]
            line.append(f"  {n_unmatched} unmatched, {n_open} undecided of {n_eligible}")
        else:
            line.append(f"  {n_unmatched} of {n_eligible} eligible unmatched")
            line.append(f" (95 %: {percent_range(share)} %)")
    console.print(line)
    bounds = report.novelty_bounds
    if bounds is not None and bounds.low < bounds.high:
        console.print(
            f"between {percent(bounds.low, 1)} and {percent(bounds.high, 1)}"
            "  for any outcome of the unfinished relaxations"
        )
    for text in base_rate_lines(report):
        console.print(Text(text))
    found = report.novel_yield_interval
    most = report.novel_yield_bounds.high
    generated = f"  unique unmatched crystals of {report.n_generated} generated"
    if report.novelty_is_bound:
        line = Text(f"novel yield at most {percent(most, 1)}", style="bold")
        line.append(generated, "not bold")
    else:
        line = Text(f"novel yield {percent(found.value, 1)}", style="bold")
        limit = f" (at most {percent(most, 1)})" if most > found.value else ""
        line.append(f"{limit}{generated}", "not bold")
        line.append(f" (95 %: {percent_range(found)} %)", "not bold")
    console.print(line)
    score = report.graded.score
    if score is not None:
        line = Text(f"graded novelty {score.value:.3f}", style="bold")
        line.append("  from 0 (copies) to 1 (no parent)", "not bold")
        if score.low is not None and score.high is not None:
            line.append(f" (95 %: {score.low:.3f}-{score.high:.3f})", "not bold")
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
            percent_interval(report.fractions.get(verdict.value), pad=True),
            str(report.counts_all[verdict]),
            percent_interval(report.fractions_all.get(verdict.value), pad=True),
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
        table.add_column(_ABBREVIATIONS[verdict], justify="right")
    table.add_column("novelty, %", justify="right", no_wrap=True)
    calibrated = report.beside_real_crystals is not None
    if calibrated:
        table.add_column("real", justify="right", no_wrap=True)
    for name, group in report.breakdown("crystal_system").items():
        counts = [str(group.counts[verdict]) for verdict in Verdict]
        novelty = (
            f"at most {100 * group.novelty_bounds.high:.0f}"
            if report.novelty_is_bound
            else percent_interval(group.novelty, 0, pad=True)
        )
        real = [base_rate_cell(report, str(name))] if calibrated else []
        table.add_row(str(name), str(group.n), *counts, novelty, *real)
    return table


def _nearest_table(report: NoveltyReport) -> Table:
    """How far the nearest parents are: mean and quantiles."""
    graded = report.graded
    table = _table()
    table.add_column("nearest parent")
    table.add_column("n", justify="right")
    table.add_column("mean [95 %]", justify="right")
    for level in QUANTILES:
        table.add_column(f"{100 * level:g} %", justify="right")
    for name, values, digits in (
        ("Pettifor cost", graded.cost, 1),
        ("RMS distance", graded.match_rms, 3),
        ("share exchanged", graded.share_exchanged, 2),
    ):
        if values.mean is not None:
            quantiles = [f"{value:.{digits}f}" for value in values.quantiles.values()]
            table.add_row(name, str(values.n), _estimate(values.mean, digits), *quantiles)
    none = graded.without_parent
    if none is not None and none.value > 0:
        table.add_row(
            "no parent at all",
            str(graded.n - graded.cost.n),
            f"{percent_interval(none, pad=True)} %",
        )
    if graded.unknown:
        table.add_row("not known", str(graded.unknown))
    return table


def _quality_table(report: NoveltyReport) -> Table:
    """Headlines and the figures of earlier papers, with and without suspect energies."""
    n_suspect = _n_suspect(report)
    reports = [report, report.without_suspect] if n_suspect else [report]
    table = _table()
    table.add_column("figure")
    table.add_column("% [95 % interval]", justify="right")
    table.add_column("bounds, %", justify="right")
    if n_suspect:
        of_them = f"({report.n_energy_suspect} eligible)"
        table.add_column(f"without {n_suspect} suspect\n{of_them}", justify="right")

    def add(
        name: str,
        share: Callable[[NoveltyReport], Interval | None],
        bounds: Bounds | None = None,
        *,
        headline: bool = True,
        is_bound: bool = False,
    ) -> None:
        found = [share(one) for one in (reports if headline else reports[:1])]
        if found[0] is not None:
            shown = [percent_interval(one, pad=True) for one in found]
            if is_bound and bounds is not None:
                shown[0] = f"at most {100 * bounds.high:.1f}"
            table.add_row(name, shown[0], percent_range(bounds), *shown[1:])

    new = {"is_bound": report.novelty_is_bound}
    add("novelty, of the eligible", lambda one: one.novelty_interval, report.novelty_bounds, **new)
    add("novel yield", lambda one: one.novel_yield_interval, report.novel_yield_bounds, **new)
    add("valid: structure", lambda one: one.quality.structurally_valid, headline=False)
    add("valid: composition (SMACT)", lambda one: one.quality.smact_valid, headline=False)
    add("valid: both", lambda one: one.quality.valid, headline=False)
    limit = report.quality.stable_threshold
    add(f"stable (<= {limit:g} eV/atom)", lambda one: one.quality.stable)
    add("unique", lambda one: one.quality.unique)
    add("novel by plain matching", lambda one: one.quality.novel)
    add("stable, unique, novel", lambda one: one.quality.sun, report.quality.sun_bounds)
    add("  with <= 0 eV/atom", lambda one: one.quality.sun_on_hull)
    return table


def _n_suspect(report: NoveltyReport) -> int:
    """Of all crystals, eligible or not, those whose energy can't be believed."""
    return sum(result.energy_suspect is True for result in report.results)


def _left_out_table(report: NoveltyReport) -> Table:
    table = _table()
    table.add_column("not eligible")
    table.add_column("crystals", justify="right")
    for reason, count in report.left_out.items():
        if count:
            table.add_row(ExclusionReason(reason).label, str(count))
    return table


def _print_settings(
    report: NoveltyReport, console: Console, *, seconds: float | None = None
) -> None:
    context = report.context
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")

    def add(name: str, value: str, style: str = "") -> None:
        grid.add_row(name, Text(printable(value, console), style=style))

    digest = f", {context.crystals_hash[:12]}" if context.crystals_hash else ""
    add(
        "reference",
        f"{context.reference_name} ({count_of_crystals(context.reference_size)}{digest})",
    )
    add("protocol", context.protocol_text)
    potential = context.potential
    title = "none" if potential is None else f"{model_title(potential.name)} {potential.version}"
    add("potential", title)
    add("hull", context.hull_text)
    add("eligible", context.eligibility)
    n_suspect = _n_suspect(report)
    if n_suspect:
        trusted = report.novelty_without_suspect
        without = "unknown"
        if trusted is not None:
            without = f"{percent(trusted.value, 1)} ({percent_range(trusted)} %)"
        add(
            "suspect",
            f"{count_of_crystals(n_suspect)}, {report.n_energy_suspect} of them eligible, below "
            f"{context.protocol.suspect:g} eV/atom above hull: the hull lacks their compounds, or "
            f"the potential fails on them; novelty without them: {without}",
            "yellow",
        )
    n_alone = report.n_no_competing_compound
    if n_alone:
        add(
            "hull gaps",
            f"no competing compound known for {count_of_crystals(n_alone)}, "
            f"{report.n_stable_no_competing_compound} of the {report.n_stable} stable ones: their "
            "energy above hull is measured from the elements alone",
            "yellow",
        )
    steps = ", ".join(f"{step} {duration(took)}" for step, took in context.seconds.items())
    if steps:
        add("time", steps if seconds is None else f"{duration(seconds)} for this command; {steps}")
    for line in context.warnings:
        add("warning", line, "yellow")
    console.print(grid)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False)


def _estimate(mean: Estimate, digits: int) -> str:
    value = f"{mean.value:.{digits}f}"
    if mean.low is None or mean.high is None:
        return value
    return f"{value} [{mean.low:.{digits}f}-{mean.high:.{digits}f}]"


def novelty_cell(report: NoveltyReport, digits: int = 0, *, pad: bool = True) -> str:
    """Novelty in a column, in per cent; where nothing was relaxed, the most it can be."""
    share, bounds = report.novelty_interval, report.novelty_bounds
    if report.novelty_is_bound and bounds is not None:
        return f"at most {100 * bounds.high:.{digits}f}"
    return percent_interval(share, digits, pad=pad)


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
            points_interval(change, pad=True),
            "" if difference.p_value is None else f"{difference.p_value:.2g}",
        )
    console.print(table)
    tests = {d.test.value for d in comparison.differences.values() if d.p_value is not None}
    console.print(f"\n95 % intervals; p by {', '.join(sorted(tests)) or 'no test'}")
    if not comparison.n_shared:
        console.print("no crystal in common, so none can be followed one by one")
    else:
        changes = comparison.changes
        console.print(
            f"{len(changes)} of {count_of_crystals(comparison.n_shared)} in common changed"
        )
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


_SETTINGS = {
    "tolerances, fixed parents": "tol. x, fixed",
    "tolerances, re-selected parents": "tol. x, again",
}


def print_sensitivity(found: Sensitivity, console: Console) -> None:
    """Print the variations of a report, a line each, the value of the protocol marked."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("setting", no_wrap=True)
    names = ("value", "elig", "dupl", "subst", "unm", "und", "novelty, %", "change", "other")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for variation in found.variations:
        report, change = variation.report, variation.change
        begins = before != variation.setting
        if before is not None and begins:
            table.add_section()
        value, potential = variation.value, report.context.potential
        if isinstance(value, str):  # a key with a hash, too long for a line
            shown = value if potential is None else printable(model_title(potential.name), console)
        else:
            shown = f"{value:g}"
        table.add_row(
            _SETTINGS.get(variation.setting, variation.setting.value) if begins else "",
            f"* {shown}" if variation.is_base else shown,
            str(report.n_eligible),
            *(str(report.counts[verdict]) for verdict in Verdict),
            novelty_cell(report),
            "" if variation.is_base else points_interval(change, pad=True),
            "" if variation.is_base else str(len(variation.changed)),
            style="bold" if variation.is_base else "",
        )
        before = variation.setting
    console.print(table)
    console.print(
        "\n* value of the protocol. Novelty in %, its change in points, with 95 % intervals, that "
        "of the change for paired samples; other: crystals with another verdict. tol. x: factor of "
        "ltol, stol and angle_tol; fixed: in the duplicate test and the confirmation alone, with "
        "the same parents; again: parents searched again with this setting."
    )
    for agreement in found.agreements:
        _print_agreement(agreement, console)
    console.print()
    _print_settings(found.base, console)


def _print_agreement(found: Agreement, console: Console) -> None:
    """Print how many crystals keep their verdict with another potential."""
    whole = found.groups[0]
    first, second = printable(found.first, console), printable(found.second, console)
    share = percent_interval(whole.share, 1, none="no crystal is eligible with both")
    console.print(
        f"\n{second} in place of {first}: {whole.kept} of {whole.total} crystals that are eligible "
        f"with both keep their verdict, % [95 %]: {share}",
        markup=False,
    )
    console.print(
        f"eligible with {first} only: {found.only_first}, "
        f"with {second} only: {found.only_second}\n",
        markup=False,
    )
    table = _table()
    table.add_column(f"with {first}", no_wrap=True)
    for name in ("keep", "of", "% [95 %]"):
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for group in found.groups[1:]:
        if before is not None and group.breakdown != before:
            table.add_section()
        before = group.breakdown
        share = percent_interval(group.share, 0, pad=True)
        table.add_row(group.group, str(group.kept), str(group.total), share)
    console.print(table)


def print_explanation(found: Explanation, console: Console) -> None:
    """Print one crystal's evidence."""
    console.print(Text(printable(found.title, console), style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in found.facts:
        style = _COLOURS[Verdict(text)] if name == "verdict" and text in list(Verdict) else ""
        grid.add_row(name, Text(printable(text, console), style=style))
    console.print(grid)
    if found.candidates:
        console.print(f"\n{len(found.candidates)} candidate parents")
    for what, outcome in found.candidates:
        console.print(Text(f"  {printable(what, console)}"), soft_wrap=True)
        style = "green" if outcome.startswith("confirmed") else ""
        console.print(Text(f"    {printable(outcome, console)}", style=style), soft_wrap=True)


def print_controls(found: ControlsResult, console: Console) -> None:
    """Print the controls: shares of right answers, and the answers that were wrong."""
    table = _table()
    table.add_column("control", no_wrap=True)
    table.add_column("measure", no_wrap=True)
    for name in ("n", "% [95 %]", "bounds", "method", "code"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for row in found.rows:
        share, bounds = row.share, row.bounds
        open_ = bounds is not None and bounds.low < bounds.high
        judged = row.control != last and not row.control.startswith("held_out")
        table.add_row(
            row.control if row.control != last else "",
            _measure(row.measure),
            str(row.n),
            percent_interval(share, 0, pad=True),
            percent_range(bounds, 0) if open_ else "",
            str(row.method) if judged else "",
            Text(str(row.code), style="red" if row.code else "") if judged else "",
        )
        last = row.control
    console.print(table)
    console.print(
        "\n%: share with the right answer (held_out: with that verdict, where none is right or "
        "wrong); bounds: for any outcome of the undecided. sens. (sensitivity): of crystals "
        "that are so, those that are called so; spec. (specificity): of those that are not, those "
        "that are not called so; known: duplicate or substituted. method, code: wrong answers that "
        "the published method gives too, and those that are this program's own."
    )
    alike: dict[tuple[str, str, str], list[str]] = {}
    for case in found.cases:
        if case.fault is not None:
            # A distance behind a comma is of one crystal alone.
            key = (case.control, case.fault.value, case.why.split(", RMS")[0])
            alike.setdefault(key, []).append(case.id)
    if alike:
        console.print("\nwrong answers, by the method or by the code:")
    for (control, fault, why), names in alike.items():
        line = f"  {control}, {len(names)} by the {fault}: {why}; such as {names[0]}"
        style = "red" if fault == "code" else ""
        console.print(Text(printable(line, console), style=style))
    settings = found.settings
    console.print(
        f"\nreference {settings['reference']}, {settings['protocol']}, seed {settings['seed']}"
    )


def _measure(words: str) -> str:
    """A control's measure, short enough for its column."""
    for long, short in (("sensitivity", "sens."), ("specificity", "spec."), (", of ", ", ")):
        words = words.replace(long, short)
    return words


def print_spread(found: SpreadReport, console: Console) -> None:
    """Print the figures of several runs: mean, spread between them, and what chance explains."""
    table = _table()
    table.add_column("figure")
    for name in ("runs", "mean [95 %]", "sd", "sd by chance", "least", "most"):
        table.add_column(name, justify="right", no_wrap=True)
    for figure in found.figures:
        values = [value for value in figure.values if value is not None]
        if figure.mean is None:
            table.add_row(figure.name, "0")
            continue
        factor, digits = (100, 1) if figure.is_share else (1, 3)
        mean = [None if v is None else factor * v for v in astuple(figure.mean)]
        assert mean[0] is not None
        others = (figure.deviation, figure.by_chance, min(values), max(values))
        table.add_row(
            figure.name,
            str(len(values)),
            _estimate(Estimate(mean[0], mean[1], mean[2]), digits),
            *("" if v is None else f"{factor * v:.{digits}f}" for v in others),
        )
    console.print(table)
    console.print(
        "\nshares of crystals in %, graded novelty from 0 to 1; sd: standard deviation between the "
        "runs; a few runs give a poor estimate"
    )
    for mismatch in found.mismatches:
        console.print(f"warning: {mismatch}: not the same measurement", style="yellow")


def _share_cells(share: Share) -> tuple[str, str]:
    return percent_interval(share.interval, 1, 0, pad=True), str(share.total)


class Progress:
    """Bars of a running metric on a terminal; a line now and then where the stream is none.

    An instance is a `novelty_metric.support.progress.ProgressCallback`, to be used within ``with``.

    Parameters
    ----------
    stream : text stream
        Usually standard error, so that results can be piped away.
    wanted : bool
        False shows nothing.
    """

    def __init__(self, stream: TextIO, *, wanted: bool = True) -> None:
        console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._bars: rich.progress.Progress | None = None
        self._lines: ProgressLines | None = None
        if wanted and not console.is_terminal:
            self._lines = ProgressLines(
                lambda line: print(f"novelty-metric: {line}", file=stream, flush=True)
            )
        elif wanted:
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
        if self._lines is not None:
            self._lines.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        if self._lines is not None:
            self._lines.__exit__(kind, error, trace)

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show where a stage stands."""
        if self._lines is not None:
            self._lines(stage, done, total)
        if self._bars is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)
