"""Real crystals beside a model: the line under the headline, and what `calibrate` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.support.statistics import wilson
from novelty_metric.support.text import percent_interval
from novelty_metric.terminal.tables import plain_table
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from novelty_metric.reference.calibration import Calibration
    from novelty_metric.report.novelty_report import NoveltyReport


def base_rate_lines(report: NoveltyReport) -> list[str]:
    """What to read the headline against: real crystals, or how to have them scored."""
    if report.novelty is None or report.novelty_is_bound:
        return []
    beside = report.beside_real_crystals
    if beside is None:
        if report.context.sample_energies is not None:
            return []
        return ["base rate of real crystals unknown: novelty-metric reference calibrate REFERENCE"]
    rate = percent_interval(beside.base_rate, 1, unit=" %")
    lines = [f"real crystals, left out of this reference: {rate} unmatched, n = {beside.n}"]
    ratios = []
    if beside.novelty_ratio is not None:
        ratios.append(f"novelty ratio {beside.novelty_ratio.text}")
    if beside.standardised is not None:
        ratios.append(f"for its crystal systems {beside.standardised.ratio.text}")
    return [*lines, "  ".join(ratios)] if ratios else lines


def base_rate_cell(report: NoveltyReport, crystal_system: str) -> str:
    """Unmatched real crystals of a crystal system, such as ``3 of 26``."""
    beside = report.beside_real_crystals
    if beside is None:
        return ""
    hits, total = beside.by_crystal_system.get(crystal_system, (0, 0))
    return f"{hits} of {total}"


def print_calibration(name: str, calibration: Calibration, console: Console) -> None:
    """Print the base rate, by verdict and by crystal system.

    Parameters
    ----------
    name : str
        The reference as the user named it.
    """
    n_eligible = calibration.count(Verdict.UNMATCHED)[1]
    console.print(
        f"{n_eligible} of {calibration.n_drawn} crystals of {name} are eligible; each was scored "
        "against the others"
    )
    verdicts = plain_table()
    verdicts.add_column("verdict")
    verdicts.add_column("crystals", justify="right")
    verdicts.add_column("% [95 % interval]", justify="right")
    for verdict in Verdict:
        hits, total = calibration.count(verdict)
        verdicts.add_row(verdict.value, str(hits), percent_interval(wilson(hits, total)))
    systems = plain_table()
    for column in ("eligible", "sum", "unmatched", "base rate, % [95 %]"):
        systems.add_column(column, justify="left" if column == "eligible" else "right")
    counts = calibration.counts(Verdict.UNMATCHED)
    for system in CRYSTAL_SYSTEMS:
        if system in counts:
            hits, total = counts[system]
            rate = percent_interval(wilson(hits, total), 0)
            systems.add_row(system, str(total), str(hits), rate)
    for table in (verdicts, systems):
        console.print()
        console.print(table)
    console.print()
    console.print("Reports of the same settings now compare with these crystals.")
