"""Tables and code in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def code(text: str) -> str:
    """Text as code, also in a cell; empty for empty text."""
    if not text:
        return ""
    # Markdown's own marks can hold neither a backtick nor, in a cell, a bar.
    return f"<code>{escaped(text)}</code>" if set(text) & {"`", "|"} else f"`{text}`"


def escaped(text: str) -> str:
    """Plain text on one line, escaped for Markdown."""
    return _escaped(" ".join(text.split()))


def prose(text: str) -> str:
    """Text of a docstring or a comment: names in backticks become code, the rest is plain."""
    parts = " ".join(text.split()).replace("``", "`").split("`")
    # Every second part stands between backticks; an odd one is no pair.
    if len(parts) % 2 == 0:
        return escaped(text)
    return "".join(
        code(part) if position % 2 else _escaped(part) for position, part in enumerate(parts)
    )


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]{}|])", r"\\\1", html.escape(text, quote=False))
