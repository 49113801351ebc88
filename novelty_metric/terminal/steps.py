"""The next commands for the user, ready to copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from novelty_metric.terminal.console import printable


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
