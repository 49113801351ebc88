"""Progress of a long run, independent of the display."""

from __future__ import annotations

from collections.abc import Callable

WHOLE = "score"
"""The stage that counts the finished samples of a run; other stages lie within it."""

ProgressCallback = Callable[[str, int, int | None], None]
"""Called as ``progress(stage, done, total)``; `total` is None if it is unknown.

A stage begins with its first call, usually with `done` = 0, and ends when `done` reaches `total`
or another stage begins. Stages may overlap; calls come from one thread.
"""


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Ignore the progress."""
