"""A console for a stream, and the characters that it can print.

Imports rich, so it is itself imported only by the command line. The words are plain ASCII; rich
draws the rules of the tables in ASCII as well where the terminal's encoding asks for it.
"""

from __future__ import annotations

import re
from typing import Any, TextIO, cast

from rich.console import Console

WIDEST = 100
"""Maximum width of tables (columns): wider lines are harder to read."""


def without_trailing_blanks(text: str) -> str:
    """The text without trailing blanks, which fill the last column of a table."""
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


class _WithoutTrailingBlanks:
    """A non-terminal stream without the trailing blanks of tables."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write whole lines, as rich does."""
        return self._stream.write(without_trailing_blanks(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def stdout_console(stream: TextIO) -> Console:
    """A console that prints to a stream; coloured only on a terminal."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.file = cast("TextIO", _WithoutTrailingBlanks(stream))
    console.width = min(console.width, WIDEST)
    return console


def printable(text: object, console: Console) -> str:
    """The text with characters replaced that the console cannot encode, to avoid an error."""
    return str(text).encode(console.encoding, "replace").decode(console.encoding)
