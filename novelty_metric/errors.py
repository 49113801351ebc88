"""The errors a user can meet, each one line: what, where, what to do."""

from __future__ import annotations


class NoveltyMetricError(Exception):
    """Base of every error that the package raises on purpose."""


class InputError(NoveltyMetricError):
    """The call, or a file named in it, can't be used (exit status 2)."""


class CrystalError(NoveltyMetricError):
    """One crystal can't be used; it becomes a row with this message."""


class StoreError(InputError):
    """A prepared reference store is damaged, empty or does not fit the request."""
