"""The errors a user can meet, each one line: what, where, what to do."""

from __future__ import annotations

from collections.abc import Iterable


class NoveltyMetricError(Exception):
    """Base of every error that the package raises on purpose."""


class InputError(NoveltyMetricError):
    """The call, or a file named in it, can't be used (exit status 2)."""


class CrystalError(NoveltyMetricError):
    """One crystal can't be used; it becomes a row with this message."""


class StoreError(InputError):
    """A prepared reference store is damaged, empty or does not fit the request."""


def near_or_known(name: str, known: Iterable[str]) -> str:
    """The end of a line on an unknown name: one that it may be meant for, or all that are known."""
    import difflib

    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
