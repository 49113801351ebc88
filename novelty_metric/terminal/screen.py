"""The short output of `score`: at most `MOST_LINES` lines at 80 columns, with the next commands."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from novelty_metric.report.context import count_of_crystals
from novelty_metric.report.exclusion import ExclusionReason
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.text import percent
from novelty_metric.terminal.console import printable
from novelty_metric.terminal.headline import CALIBRATE, headline_lines
from novelty_metric.terminal.run_settings import notes
from novelty_metric.terminal.tables import VERDICT_STYLES, fact_grid, system_table
from novelty_metric.verdict import Verdict

MOST_LINES = 30
"""Maximum number of lines at 80 columns or more, if paths fit into a line."""

BAR_WIDTH = 72
_BLOCKS = "░▒█?"
_ASCII = "-=#?"
MOST_REASONS = 3
"""Maximum number of reasons for crystals that are not eligible."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """A command to run next, with its purpose."""

    command: str
    purpose: str

    @property
    def line(self) -> str:
        """The command with its purpose as a shell comment, so that the whole line can be copied."""
        return f"{self.command}  # {self.purpose}"


def print_steps(steps: Sequence[NextStep], console: Console) -> None:
    """Print the commands, one line each without wrapping, so that they can be copied."""
    for step in steps:
        line = Text(printable(step.line, console))
        line.stylize("bold", 0, len(step.command))
        console.print(line, soft_wrap=True)


def steps_height(steps: Sequence[NextStep], console: Console) -> int:
    """Number of lines that the commands take on a terminal."""
    return sum(-(-len(step.line) // console.width) for step in steps)


def print_screen(
    report: NoveltyReport,
    console: Console,
    *,
    calibrate: str = CALIBRATE,
    steps: Sequence[NextStep] = (),
) -> None:
    """Print the result of a report, and the next steps; `calibrate` is as for `headline_lines`."""
    top: list[RenderableType] = [*headline_lines(report, console, calibrate), ""]
    if report.n_eligible:
        top += [verdict_bar(report, console), system_table(report), ""]
    facts = [("look at", _look_at(report, console.width - 16))]
    facts += [("not eligible", _not_eligible(report)), ("reference", against(report))]
    facts = [(name, text) for name, text in facts if text]
    found = notes(report)
    room = MOST_LINES - _height([*top, _grid(facts, console), ""], console)
    while len(steps) > 1 and steps_height(steps, console) + bool(found) > room:
        steps = steps[:-1]
    shown = _fitting(found, console, room - steps_height(steps, console))
    console.print(Group(*top, _grid([*facts, *shown], console)))
    if steps:
        console.print()
        print_steps(steps, console)


def verdict_bar(report: NoveltyReport, console: Console) -> Group:
    """The bar, with a legend below."""
    blocks = _BLOCKS if printable(_BLOCKS, console) == _BLOCKS else _ASCII
    signs = dict(zip(Verdict, blocks, strict=True))
    lengths = parts([report.counts[verdict] for verdict in Verdict], min(BAR_WIDTH, console.width))
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


def _look_at(report: NoveltyReport, width: int) -> str:
    """The new crystals closest to the hull, as many as fit into a line."""
    found = [row for row in report.new_crystals() if row.formula]
    energies = all(row.e_above_hull is not None for row in found)
    names = [str(row.formula) for row in found]
    if energies:  # adding 0 makes "-0.000" positive
        names = [f"{row.formula} {round(row.e_above_hull or 0.0, 3) + 0.0:+.3f}" for row in found]
    text = ""
    for shown in range(1, len(names) + 1):
        line = "new: " + ", ".join(names[:shown])
        line += " eV/atom from the hull" if energies else ""
        line += f", {len(names) - shown} more" if shown < len(names) else ""
        if len(line) > width:
            break
        text = line
    return text


def _not_eligible(report: NoveltyReport) -> str:
    counted = Counter(report.left_out)
    named = [
        f"{count} {ExclusionReason(reason).label}"
        for reason, count in counted.most_common(MOST_REASONS)
        if count
    ]
    others = counted.total() - sum(dict(counted.most_common(MOST_REASONS)).values())
    if others:
        named.append(f"{others} for other reasons")
    return f"{counted.total()} of {len(report.results)}: {', '.join(named)}" if named else ""


def against(report: NoveltyReport) -> str:
    """The reference and the settings, in one line."""
    context = report.context
    of = f"{context.reference_name} ({count_of_crystals(context.reference_size)})"
    return f"{of}; {context.protocol_text}"


def _grid(rows: Iterable[tuple[str, str]], console: Console) -> Table:
    return fact_grid(((*row, "") for row in rows), console)


def _height(parts: Sequence[RenderableType], console: Console) -> int:
    return len(console.render_lines(Group(*parts), pad=False))


def _fitting(
    found: Sequence[tuple[str, str]], console: Console, room: int
) -> list[tuple[str, str]]:
    """The notes that fit: in full, else one line each, else the first ones and a count."""
    whole = list(found)
    if not whole or _height([_grid(whole, console)], console) <= room:
        return whole
    width = console.width - 16
    short = [(name, textwrap.shorten(text, width, placeholder=" ...")) for name, text in whole]
    n_shown = len(short) if len(short) < room else max(room - 1, 0)
    hidden = len(short) - n_shown
    more = f"{hidden} more, and" if hidden else "shown"
    return [*short[:n_shown], ("more", f"{more} in full with detail=full")]
