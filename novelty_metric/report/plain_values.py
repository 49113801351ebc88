"""Values that files store without change: plain finite numbers and printable text."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from novelty_metric.verdict import CrystalResult

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_Row = TypeVar("_Row")


def plain_row(result: CrystalResult) -> CrystalResult:
    """The row with plain Python numbers (None if not finite) and valid UTF-8 text."""
    parents = tuple(_plain_row(tried, parent=_plain_row(tried.parent)) for tried in result.parents)
    return _plain_row(result, parents=parents)


def _plain_row(row: _Row, **ready: Any) -> _Row:
    changed = dict(ready)
    for column in dataclasses.fields(row):  # type: ignore[arg-type]
        if column.name not in ready:
            value = getattr(row, column.name)
            made_plain = _plain_scalar(value)
            if made_plain is not value:
                changed[column.name] = made_plain
    return dataclasses.replace(row, **changed) if changed else row  # type: ignore[type-var]


def _plain_scalar(value: Any) -> Any:
    """The value as plain Python: numbers of NumPy and invalid text are converted."""
    if isinstance(value, Enum) or value is None:
        return value
    if not isinstance(value, str) and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return printable_text(value) if isinstance(value, str) else value


def plain(value: Any) -> Any:
    """Values that JSON stores without change."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    value = _plain_scalar(value.value if isinstance(value, Enum) else value)
    return (
        value
        if isinstance(value, (str, int, float, bool, type(None)))
        else printable_text(str(value))
    )


def printable_text(text: str) -> str:
    """Text that UTF-8 can encode, without control characters; other characters are escaped.

    File names may carry bytes that are not characters, and strangers' names a terminal's commands.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
