"""The headline of a report as printed: novelty, bounds, real crystals, novel yield."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from novelty_metric.report.agreement import UnderBoth
from novelty_metric.report.context import count_of_crystals
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.rediscovery import Rediscovery
from novelty_metric.support.text import percent, percent_interval, percent_range
from novelty_metric.terminal.calibration import base_rate_lines
from novelty_metric.terminal.console import printable

_MOST_YEARS = 4
CALIBRATE = "novelty-metric reference calibrate REFERENCE"


def headline_lines(
    report: NoveltyReport, console: Console, calibrate: str = CALIBRATE
) -> list[Text]:
    """The headline lines of the whole set, for a console.

    `calibrate` is the command that scores real crystals.
    """
    lines = [_novelty(report)]
    if report.n_eligible:
        lines.append(Text(printable(_new_to(report), console)))
    bounds = report.novelty_bounds
    if bounds is not None and bounds.low < bounds.high:
        lines.append(
            Text(
                f"between {percent(bounds.low, 1)} and {percent(bounds.high, 1)}"
                "  for any outcome of the unfinished relaxations"
            )
        )
    if report.second_potential is not None:
        lines.append(Text(second_potential_line(report.second_potential)))
    lines += base_rate_lines(report, calibrate)
    lines.append(_novel_yield(report))
    if report.rediscovery is not None:
        lines.append(Text(rediscovery_line(report.rediscovery)))
        if report.rediscovery.null_models:
            lines.append(Text(by_chance_line(report.rediscovery)))
    return lines


def second_potential_line(found: UnderBoth) -> str:
    """The number of crystals that are unmatched with both potentials."""
    share = found.unmatched
    if share is None:
        return f"unmatched under both potentials: unknown; {found.title} had nothing to score"
    return (
        f"unmatched under both {percent(share.value, 1)}  {found.n_unmatched} of "
        f"{found.n_eligible} (95 %: {percent_range(share)} %); "
        f"{found.counts['undecided']} undecided by {found.title}"
    )


def rediscovery_line(found: Rediscovery) -> str:
    """The number of matched crystals of the test set; by year if there are few years."""
    share = percent_interval(found.share, 1, unit=" %", none="none is new to the reference")
    years = ", ".join(f"{year}: {hits} of {n}" for year, (hits, n) in found.by_year().items())
    line = f"rediscovered {len(found.found)} of {found.total} crystals of {found.name} ({share})"
    return f"{line}; {years}" if 0 < len(found.years) <= _MOST_YEARS else line


def by_chance_line(found: Rediscovery) -> str:
    """Numbers of crystals that null models match with equally many samples, if they have enough."""
    numbers = []
    for one in found.null_models:
        expected = one.expected(found.n_samples)
        whole = f"{len(one.groups)} with {one.n_samples:,} samples"
        numbers.append(f"{one.name} {whole if expected is None else f'{expected:.1f}'}")
    return f"null models, with as many samples: {', '.join(numbers)}"


def _novelty(report: NoveltyReport) -> Text:
    share = report.novelty_interval
    if share is None:
        line = Text("novelty unknown", style="bold")
        line.append(f"  none of {count_of_crystals(len(report.results))} is eligible", "not bold")
        return line
    line = Text(report.headline, style="bold green")
    n_unmatched, n_eligible = report.counts["unmatched"], report.n_eligible
    if report.novelty_is_bound:
        counted = f"{n_unmatched} unmatched, {report.counts['undecided']} undecided of {n_eligible}"
    else:
        counted = f"{n_unmatched} of {n_eligible} eligible crystals are new"
        counted += f" (95 %: {percent_range(share)} %)"
    return line.append(f"  {counted}", "not bold default")


def _new_to(report: NoveltyReport) -> str:
    """The explanation of "new"."""
    context = report.context
    every = f"all {count_of_crystals(context.reference_size)} of {context.reference_name}"
    return f"new: unlike {every}, even with their elements exchanged"


def _novel_yield(report: NoveltyReport) -> Text:
    found = report.novel_yield_interval
    most = report.novel_yield_bounds.high
    what = f" of {report.n_generated} generated are new and distinct"
    if report.novelty_is_bound:
        line = Text(f"novel yield at most {percent(most, 1)}", style="bold")
        return line.append(f" {what}", "not bold")
    line = Text(f"novel yield {percent(found.value, 1)}", style="bold")
    if most > found.value:
        line.append(f" (at most {percent(most, 1)})", "not bold")
    line.append(f"  {report.n_unique_unmatched}{what}", "not bold")
    interval = f" (95 %: {percent_range(found)} %)"
    return line.append("" if most > found.value else interval, "not bold")
