"""A comparison of two reports, and the spread of several."""

from __future__ import annotations

from dataclasses import astuple

from rich.console import Console
from rich.text import Text

from novelty_metric.comparison.compare import Comparison, Share
from novelty_metric.comparison.spread import SpreadReport
from novelty_metric.report.context import count_of_crystals
from novelty_metric.support.statistics import Estimate
from novelty_metric.support.text import percent_interval, points_interval
from novelty_metric.terminal.tables import estimate_cell, plain_table

MOST_CHANGES = 20
"""Maximum number of crystals that a comparison lists by default."""


def print_comparison(
    comparison: Comparison, console: Console, *, all_changes: bool = False
) -> None:
    """Print a comparison: shares with their changes, the crystals that changed, and warnings.

    Of these crystals the first `MOST_CHANGES` are listed, or all.
    """
    columns = ("before, %", "of", "after, %", "of", "change, points", "p")
    table = plain_table("share", *columns, wrap=False)
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
    _print_ratios(comparison, console)
    tests = {d.test.value for d in comparison.differences.values() if d.p_value is not None}
    console.print(f"\n95 % intervals; p by {', '.join(sorted(tests)) or 'no test'}")
    if not comparison.n_shared:
        console.print("no crystal in common, so single crystals cannot be compared")
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


def _print_ratios(comparison: Comparison, console: Console) -> None:
    """Print the comparison of both runs with real crystals."""
    if not comparison.ratios:
        return
    table = plain_table("to real crystals", "before", "after", "after / before", wrap=False)
    for ratio in comparison.ratios:
        found = (ratio.before, ratio.after, ratio.change)
        table.add_row(ratio.name, *("" if one is None else one.text for one in found))
    console.print()
    console.print(table)
    if all(ratio.change is None for ratio in comparison.ratios):
        console.print("not compared: the runs have different calibrations, or one has none")


def _share_cells(share: Share) -> tuple[str, str]:
    return percent_interval(share.interval, 1, 0, pad=True), str(share.total)


def print_spread(found: SpreadReport, console: Console) -> None:
    """Print the figures of several runs: mean, spread, and the spread expected by chance."""
    columns = ("runs", "mean [95 %]", "sd", "sd by chance", "least", "most")
    table = plain_table("figure", *columns, wrap=False)
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
            estimate_cell(Estimate(mean[0], mean[1], mean[2]), digits),
            *("" if v is None else f"{factor * v:.{digits}f}" for v in others),
        )
    console.print(table)
    console.print(
        "\nshares of crystals in %, graded novelty from 0 to 1, ratios to real crystals; sd: "
        "standard deviation between the runs; a few runs give a poor estimate"
    )
    for mismatch in found.mismatches:
        console.print(f"warning: {mismatch}: not the same measurement", style="yellow")
