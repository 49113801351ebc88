"""The errors that users see. Each is one line: what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable


class NoveltyMetricError(Exception):
    """Base class of all errors that the package raises on purpose."""


class InputError(NoveltyMetricError):
    """The call, or a file named in it, cannot be used (exit status 2)."""


class CrystalError(NoveltyMetricError):
    """One crystal cannot be used; its row gives this message."""


class StoreError(InputError):
    """A prepared reference store is damaged, empty or does not fit the request."""


def near_or_known(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown name: the closest known name, or all known names."""
    import difflib

    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
