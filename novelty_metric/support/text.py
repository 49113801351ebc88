"""Numbers as text: durations, shares in per cent, and tables as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol


class Limits(Protocol):
    """A range of shares, from 0 to 1, such as `novelty_metric.support.statistics.Bounds`."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


class WithLimits(Limits, Protocol):
    """A share, or a change of one, with its interval."""

    @property
    def value(self) -> float: ...


def duration(seconds: float, *, about: bool = False) -> str:
    """A duration as text, such as ``<0.1 s``, ``3.2 s``, ``4 min`` or ``2 h 13 min``.

    Parameters
    ----------
    about : bool
        For an estimate: below 90 s in tens of seconds, such as ``40 s``.
    """
    if about and seconds < 90:
        return f"{max(10, 10 * round(seconds / 10))} s"
    if not about and seconds < 99.95:
        return f"{seconds:.1f} s" if seconds >= 0.1 else "<0.1 s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def percent(share: float | None, digits: int = 0) -> str:
    """A share from 0 to 1 as text, such as ``17 %``; a dash for None."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def percent_range(
    share: Limits | None, digits: int = 1, *, dash: str = "-", none: str = "", pad: bool = False
) -> str:
    """The limits in per cent, such as ``9.8-35.0``; `none` for no share.

    `pad` puts blanks before short numbers, so that those of a column stand below one another.
    """
    if share is None:
        return none
    width = 3 + (digits + 1 if digits else 0) if pad else 0
    low, high = f"{100 * share.low:.{digits}f}", f"{100 * share.high:.{digits}f}"
    return f"{low:>{max(width - 1, 0)}}{dash}{high:>{width}}"


def percent_interval(
    share: WithLimits | None,
    digits: int = 1,
    limit_digits: int | None = None,
    *,
    unit: str = "",
    dash: str = "-",
    none: str = "",
    pad: bool = False,
) -> str:
    """A share with its limits in per cent, such as ``19.4 [9.8-35.0]``; see `percent_range`.

    The limits have as many decimals as the share by default; the unit is written after the share.
    """
    if share is None:
        return none
    limits = percent_range(
        share, digits if limit_digits is None else limit_digits, dash=dash, pad=pad
    )
    return f"{100 * share.value:.{digits}f}{unit} [{limits}]"


def points_interval(
    change: WithLimits | None,
    limit_digits: int = 0,
    *,
    unit: str = "",
    pad: bool = False,
) -> str:
    """A change in percentage points with its limits, such as ``-25.0 [-41, -6]``."""
    if change is None:
        return ""
    width = 3 if pad else 0
    low, high = (f"{100 * end:+.{limit_digits}f}" for end in (change.low, change.high))
    return f"{100 * change.value:+.1f}{unit} [{low:>{width}}, {high:>{width}}]"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV, with the names of the columns in the first line."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
