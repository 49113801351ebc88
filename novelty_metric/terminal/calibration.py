"""Comparison with real crystals: the line under the headline, and the output of `calibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.support.statistics import wilson
from novelty_metric.support.text import (
    percent,
    percent_interval,
    percent_range,
    points_interval,
)
from novelty_metric.terminal.tables import plain_table
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from novelty_metric.reference.calibration import Calibration, RealCrystals, Sensitivity
    from novelty_metric.report.novelty_report import NoveltyReport


def base_rate_lines(report: NoveltyReport, calibrate: str) -> list[Text]:
    """The comparison of the headline with real crystals, or the command that has them scored."""
    if report.novelty is None or report.novelty_is_bound:
        return []
    beside = report.beside_real_crystals
    if beside is None:
        if report.context.sample_energies is not None:
            return []
        return [Text(f"base rate of real crystals unknown: {calibrate}")]
    answer = in_short(report)
    lines = [] if answer is None else [Text(answer, style="bold")]
    new = sum(unmatched for unmatched, _ in beside.by_crystal_system.values())
    line = Text(f"real crystals {percent(beside.base_rate.value, 1)}", style="bold")
    of = f"  {new} of {beside.n} are new to the others"
    lines.append(line.append(f"{of} (95 %: {percent_range(beside.base_rate)} %)", "not bold"))
    if beside.sensitivity is not None:
        found = percent_interval(beside.sensitivity, 0, unit=" %")
        lines.append(Text(f"sensitivity: the method finds {found} of known substitutions"))
    ratios = []
    if beside.novelty_ratio is not None:
        ratios.append(f"novelty ratio (real: 1) {beside.novelty_ratio.text}")
    if beside.standardised is not None:
        ratios.append(f"with equal crystal systems {beside.standardised.ratio.text}")
    return [*lines, Text("; ".join(ratios))] if ratios else lines


def in_short(report: NoveltyReport) -> str | None:
    """The comparison of the model with real crystals, as text; None without a ratio."""
    beside = report.beside_real_crystals
    if beside is None or report.novelty is None or report.novelty_is_bound:
        return None
    expected = beside.standardised
    ratio = beside.novelty_ratio if expected is None else expected.ratio
    if ratio is None:
        return None
    real = "real crystals" + ("" if expected is None else " of equal crystal systems")
    if ratio.high < 1:
        bounds = report.novelty_bounds
        if bounds is not None and bounds.high >= beside.base_rate.value:
            return "in short: new less often than real crystals, unless the unfinished are new"
        return f"in short: new less often than {real}"
    if ratio.low > 1:
        return f"in short: new more often than {real}"
    return f"in short: new as often as {real}, within noise"


def print_calibration(name: str, calibration: Calibration, console: Console) -> None:
    """Print the base rate, by verdict and by crystal system; `name` is the reference as typed."""
    n_eligible = calibration.count(Verdict.UNMATCHED)[1]
    console.print(
        f"{n_eligible} of {calibration.n_drawn} crystals of {name} are eligible; each was scored "
        "against the others"
    )
    shown: list[RealCrystals] = [calibration]
    if calibration.held_out is not None:
        shown.append(calibration.held_out)
    verdicts = plain_table("verdict", *("crystals", "% [95 % interval]") * len(shown))
    for verdict in Verdict:
        cells = []
        for some in shown:
            hits, total = some.count(verdict)
            cells += [str(hits), percent_interval(wilson(hits, total))]
        verdicts.add_row(verdict.value, *cells)
    systems = plain_table("eligible", "sum", "unmatched", "base rate, % [95 %]")
    counts = calibration.counts(Verdict.UNMATCHED)
    for system in CRYSTAL_SYSTEMS:
        if system in counts:
            hits, total = counts[system]
            rate = percent_interval(wilson(hits, total), 0)
            systems.add_row(system, str(total), str(hits), rate)
    if calibration.held_out is not None:
        held_out = calibration.held_out
        console.print(
            f"{held_out.count(Verdict.UNMATCHED)[1]} of {held_out.n_drawn} crystals of "
            f"{held_out.name} are eligible; each was scored against all of {name} (columns to the "
            "right)"
        )
    for table in (verdicts, systems):
        console.print()
        console.print(table)
    console.print()
    for line in agreement_lines(calibration):
        console.print(line)
    console.print("Reports with the same settings now show a comparison with these crystals.")


def agreement_lines(calibration: Calibration) -> list[str]:
    """The agreement of the two estimates of the base rate, and the misses of the method."""
    lines = []
    change = calibration.change_to_held_out
    if change is not None:
        agree = "differ by more than chance" if change.beyond_noise else "agree"
        lines.append(
            f"The two base rates {agree}: held out minus left out "
            f"{points_interval(change, 1)} percentage points."
        )
    if calibration.sensitivity is not None:
        lines.append(sensitivity_line(calibration.sensitivity))
    return lines


def sensitivity_line(sensitivity: Sensitivity) -> str:
    """The known substitutions that the method finds, such as 19 of 20."""
    n, share = sensitivity.total, percent_interval(sensitivity.share, 0, unit=" %")
    return (
        f"The method finds {sensitivity.hits} of {n} known substitutions ({share}); the base "
        "rate contains such misses too."
    )
