"""The evidence for one crystal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from novelty_metric.report.explanation import Explanation
from novelty_metric.terminal.console import printable
from novelty_metric.terminal.tables import VERDICT_STYLES
from novelty_metric.verdict import Verdict


def print_explanation(found: Explanation, console: Console) -> None:
    """Print one crystal's evidence."""
    console.print(Text(printable(found.title, console), style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in found.facts:
        style = VERDICT_STYLES[Verdict(text)] if name == "verdict" and text in list(Verdict) else ""
        grid.add_row(name, Text(printable(text, console), style=style))
    console.print(grid)
    if found.candidates:
        n = len(found.candidates)
        console.print(f"\n{n} candidate parent{'' if n == 1 else 's'}")
    for what, outcome in found.candidates:
        console.print(Text(f"  {printable(what, console)}"), soft_wrap=True)
        style = "green" if outcome.startswith("confirmed") else ""
        console.print(Text(f"    {printable(outcome, console)}", style=style), soft_wrap=True)
