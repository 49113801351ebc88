"""The headline of a report: novelty, bounds, real crystals, novel yield, graded novelty."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from novelty_metric.report.context import count_of_crystals
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.text import percent, percent_range
from novelty_metric.terminal.calibration import base_rate_lines


def print_headline(report: NoveltyReport, console: Console) -> None:
    """Print the figures of the whole set, one a line."""
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
