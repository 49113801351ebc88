"""What to run next, as commands that can be copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from novelty_metric.terminal.console import printable


@dataclass(frozen=True, slots=True)
class NextStep:
    """A command to run next, and what it is for."""

    command: str
    purpose: str

    @property
    def line(self) -> str:
        """The purpose is a comment of the shell, so that the whole line can be copied."""
        return f"{self.command}  # {self.purpose}"


def print_steps(steps: Sequence[NextStep], console: Console) -> None:
    """Print the commands, a line each, however long: a break would spoil the copy."""
    for step in steps:
        line = Text(printable(step.line, console))
        line.stylize("bold", 0, len(step.command))
        console.print(line, soft_wrap=True)


def steps_height(steps: Sequence[NextStep], console: Console) -> int:
    """Lines that the commands take on a terminal."""
    return sum(-(-len(step.line) // console.width) for step in steps)
