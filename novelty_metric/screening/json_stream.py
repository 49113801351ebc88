"""Reader for JSON larger than memory, value by value.

`ijson` takes 4.0 s in place of 5.0 s for 200 MB of entries, and as much memory
(``benchmarks/README.md``). But it needs the place of the values, which differs between files,
and it refuses NaN and Infinity, which Python's `json` writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

CHUNK = 1 << 20
"""Number of characters read at a time."""

WHOLE = 1 << 24
"""Largest array or object (characters) decoded at once; of a larger one, each item is decoded."""

_SPACE = re.compile(r"[ \t\n\r]*")
_END = re.compile(r"[ \t\n\r,\]}]")
_DECODER = json.JSONDecoder()


def json_values(
    stream: TextIO, *, whole: int = WHOLE, chunk: int = CHUNK
) -> Iterator[tuple[str, Any]]:
    """The values of a JSON text, each as large as can be decoded at once, with their places.

    A small text is one value, as `json.loads` gives it. Large arrays and objects are divided until
    their items are small. Every value is given once. Several texts one after the other, as in JSON
    lines, are read one after the other. A place is the keys and positions on the way to the value,
    such as ``entry.17``; empty for the whole text.

    Raises
    ------
    ValueError
        If the text is no JSON, or is cut off.
    """
    reader = _Reader(stream, whole, chunk)
    position = 0
    while position == 0 or reader.next_character():
        yield from _walk(reader, str(position) if position else "")
        position += 1


class _Reader:
    """A text and the position up to which it is parsed."""

    def __init__(self, stream: TextIO, whole: int, chunk: int) -> None:
        self._stream = stream
        self._whole = whole
        self._chunk = chunk
        self._text = ""
        self._at = 0
        self._ended = False

    def next_character(self) -> str:
        """The next character after white space, without consuming it; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                return ""

    def take(self, wanted: str) -> None:
        """Consume a character.

        Raises
        ------
        ValueError
            If another one comes.
        """
        found = self.next_character()
        if found != wanted:
            reason = f"{found!r} was found" if found else "it ends"
            raise ValueError(f"{reason} where {wanted!r} belongs")
        self._at += 1

    def value(self) -> tuple[bool, Any]:
        """The next value; for one too large to decode at once, False, and nothing is consumed."""
        first = self.next_character()
        if not first:
            raise ValueError("it ends where a value belongs")
        if first not in '[{"':
            # A number at the end of what was read may go on.
            while _END.search(self._text, self._at) is None and self._read():
                pass
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if first in "[{" and len(self._text) - self._at > self._whole:
                    return False, None
                if not self._read(self._whole if first in "[{" else 1):
                    after = self._text[error.pos : error.pos + 20]
                    place = f" at {after!r}" if after else ", where it ends"
                    raise ValueError(f"{error.msg}{place}") from error
                continue
            except RecursionError as error:
                raise ValueError("it is nested too deeply") from error
            self._at = end
            return True, value

    def _read(self, least: int = 1) -> bool:
        """Read at least `least` characters, drop the parsed ones; True if more text follows."""
        parts = [self._text[self._at :]]
        size = len(parts[0])
        while not self._ended and (len(parts) == 1 or size < least):
            parts.append(self._stream.read(self._chunk))
            size += len(parts[-1])
            self._ended = not parts[-1]
        more = size > len(parts[0])
        self._text, self._at = "".join(parts), 0
        return more


def _walk(reader: _Reader, where: str) -> Iterator[tuple[str, Any]]:
    decoded, value = reader.value()
    if decoded:
        yield where, value
        return
    is_object = reader.next_character() == "{"
    opening, closing = "{}" if is_object else "[]"
    reader.take(opening)
    prefix = f"{where}." if where else ""
    position = 0
    while position or reader.next_character() != closing:
        name = position
        if is_object:
            _, name = reader.value()
            if not isinstance(name, str):
                raise ValueError("an object has a key that is not text")
            reader.take(":")
        yield from _walk(reader, f"{prefix}{name}")
        position += 1
        if reader.next_character() != ",":
            break
        reader.take(",")
    reader.take(closing)
    if position == 0:
        yield where, {} if is_object else []
