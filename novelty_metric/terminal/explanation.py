"""The evidence for one crystal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from novelty_metric.report.explanation import Explanation
from novelty_metric.terminal.console import printable
from novelty_metric.terminal.tables import VERDICT_STYLES, fact_grid


def print_explanation(found: Explanation, console: Console) -> None:
    """Print one crystal's evidence."""
    console.print(Text(printable(found.title, console), style="bold"))
    styles = {("verdict", verdict.value): style for verdict, style in VERDICT_STYLES.items()}
    facts = [(*fact, styles.get(fact, "")) for fact in found.facts]
    console.print(fact_grid(facts, console))
    if found.candidates:
        n = len(found.candidates)
        console.print(f"\n{n} candidate parent{'' if n == 1 else 's'}")
    for what, outcome in found.candidates:
        console.print(Text(f"  {printable(what, console)}"), soft_wrap=True)
        style = "green" if outcome.startswith("confirmed") else ""
        console.print(Text(f"    {printable(outcome, console)}", style=style), soft_wrap=True)
