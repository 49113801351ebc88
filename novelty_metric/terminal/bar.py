"""The verdicts of the eligible crystals as one bar, distinguishable without colour."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.text import Text

from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.text import percent
from novelty_metric.terminal.console import can_print
from novelty_metric.terminal.tables import VERDICT_STYLES
from novelty_metric.verdict import Verdict

WIDTH = 72
_BLOCKS = "░▒█?"
_ASCII = "-=#?"


def verdict_bar(report: NoveltyReport, console: Console) -> Group:
    """The bar, with a legend below."""
    blocks = _BLOCKS if can_print(_BLOCKS, console) else _ASCII
    signs = dict(zip(Verdict, blocks, strict=True))
    lengths = parts([report.counts[verdict] for verdict in Verdict], min(WIDTH, console.width))
    bar, legend = Text(), Text()
    for verdict, length in zip(Verdict, lengths, strict=True):
        style = VERDICT_STYLES[verdict]
        bar.append(signs[verdict] * length, style)
        if not length:
            continue
        share = report.fractions[verdict.value].value
        legend.append(signs[verdict], style)
        name = "unmatched (new)" if verdict is Verdict.UNMATCHED else verdict.value
        legend.append(f" {name} {percent(share)}  ")
    legend.rstrip()
    return Group(bar, legend)


def parts(counts: Sequence[int], length: int) -> list[int]:
    """Integer lengths proportional to the counts, with the sum `length`.

    What occurs has at least one character; the characters that rounding leaves over go to the
    largest remainders.
    """
    total = sum(counts)
    exact = [length * count / total for count in counts]
    found = [max(int(part), count > 0) for part, count in zip(exact, counts, strict=True)]
    while (left := length - sum(found)) != 0:
        step = 1 if left > 0 else -1
        open_ = [at for at, count in enumerate(counts) if count and found[at] + step >= 1]
        found[max(open_, key=lambda at: step * (exact[at] - found[at]))] += step
    return found
