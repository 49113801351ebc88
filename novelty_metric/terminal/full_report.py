"""All tables of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from novelty_metric.report.exclusion import ExclusionReason
from novelty_metric.report.graded import QUANTILES
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.rediscovery import Rediscovery
from novelty_metric.support.statistics import Bounds, Interval, wilson
from novelty_metric.support.text import percent_interval, percent_range
from novelty_metric.terminal.console import printable
from novelty_metric.terminal.headline import CALIBRATE, headline_lines
from novelty_metric.terminal.run_settings import count_suspect, print_settings
from novelty_metric.terminal.screen import NextStep, print_steps
from novelty_metric.terminal.tables import (
    VERDICT_STYLES,
    estimate_cell,
    plain_table,
    system_table,
)
from novelty_metric.verdict import Verdict


def print_report(
    report: NoveltyReport,
    console: Console,
    *,
    calibrate: str = CALIBRATE,
    steps: Sequence[NextStep] = (),
    out: Path | None = None,
    seconds: float | None = None,
) -> None:
    """Print a report: headline, verdicts, crystal systems, excluded crystals and settings.

    `calibrate` is as for `headline_lines`, `out` the folder that the report was written to, and
    `seconds` the wall time of the command, which the steps of the report do not add up to.
    """
    for line in [*headline_lines(report, console, calibrate), *_graded(report)]:
        console.print(line)
    tables = [_verdict_table(report)]
    if report.n_eligible:
        tables.append(system_table(report))
    if report.graded.n:
        tables.append(_nearest_table(report))
    if report.n_read:
        tables.append(_quality_table(report))
    if report.quality.relaxation_energy is not None:
        tables.append(_relaxation_table(report))
    if report.rediscovery is not None and report.rediscovery.years:
        tables.append(_years_table(report.rediscovery))
    if any(report.left_out.values()):
        tables.append(_left_out_table(report))
    for table in tables:
        console.print()
        console.print(table)
    console.print()
    print_settings(report, console, seconds=seconds)
    if out is not None:
        shown = printable(out, console)
        console.print(
            f"\nWritten to {shown}: report.json, config.json, verdicts.csv, crystals.extxyz,"
        )
        console.print("and as Parquet verdicts, parents, quality, evidence and structures.")
    if steps:
        console.print()
        print_steps(steps, console)


def _graded(report: NoveltyReport) -> list[Text]:
    score = report.graded.score
    if score is None:
        return []
    line = Text(f"graded novelty {score.value:.3f}", style="bold")
    line.append("  from 0 (copies) to 1 (no parent)", "not bold")
    if score.low is not None and score.high is not None:
        line.append(f" (95 %: {score.low:.3f}-{score.high:.3f})", "not bold")
    return [line]


def _verdict_table(report: NoveltyReport) -> Table:
    share = "% [95 % interval]"
    table = plain_table("verdict", "eligible", share, "all", share)
    for verdict in Verdict:
        table.add_row(
            Text(verdict.value, style=VERDICT_STYLES[verdict]),
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


def _nearest_table(report: NoveltyReport) -> Table:
    """Distances to the nearest parents: mean and quantiles."""
    graded = report.graded
    levels = [f"{100 * level:g} %" for level in QUANTILES]
    table = plain_table("nearest parent", "n", "mean [95 %]", *levels)
    for name, values, digits in (
        ("Pettifor cost", graded.cost, 1),
        ("RMS distance", graded.match_rms, 3),
        ("share exchanged", graded.share_exchanged, 2),
    ):
        if values.mean is not None:
            quantiles = [f"{value:.{digits}f}" for value in values.quantiles.values()]
            table.add_row(name, str(values.n), estimate_cell(values.mean, digits), *quantiles)
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
    """Headlines and the measures of earlier papers, with and without suspect energies."""
    n_suspect = count_suspect(report)
    reports = [report, report.without_suspect] if n_suspect else [report]
    table = plain_table("figure", "% [95 % interval]", "bounds, %")
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
    add("new prototypes, of the valid", lambda one: one.new_prototypes.share)
    add("  metastable of these", lambda one: one.new_prototypes.metastable_share)
    return table


def _relaxation_table(report: NoveltyReport) -> Table:
    """Changes of the samples by the relaxation."""
    table = plain_table("relaxation of the samples", "mean [95 %]")
    for name, mean, signed in (
        ("energy, eV/atom", report.quality.relaxation_energy, True),
        ("RMS distance, (V/N)^(1/3)", report.quality.relaxation_rmsd, False),
    ):
        if mean is not None:
            table.add_row(name, estimate_cell(mean, 3, signed=signed))
    return table


def _years_table(found: Rediscovery) -> Table:
    """Crystals of the test set that the samples match, by year of publication."""
    table = plain_table("year", "crystals", "rediscovered", "% [95 % interval]")
    for year, (hits, total) in found.by_year().items():
        share = percent_interval(wilson(hits, total), pad=True)
        table.add_row(str(year), str(total), str(hits), share)
    return table


def _left_out_table(report: NoveltyReport) -> Table:
    table = plain_table("not eligible", "crystals")
    for reason, count in report.left_out.items():
        if count:
            table.add_row(ExclusionReason(reason).label, str(count))
    return table
