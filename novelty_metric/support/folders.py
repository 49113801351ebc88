"""Where the package keeps what it ships, and what it makes on a user's machine."""

from __future__ import annotations

import os
from pathlib import Path

DATA_FOLDER = Path(__file__).resolve().parents[1] / "data"
"""Data that the package carries."""


def cache_folder() -> Path:
    """``$NOVELTY_METRIC_CACHE``, or the user's cache folder of the operating system."""
    named = os.environ.get("NOVELTY_METRIC_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("novelty-metric", appauthor=False)


def user_path(text: str) -> Path:
    """A path as typed; ``~/`` is the home folder, which shells leave alone after ``=``."""
    path = Path(text)
    return path.expanduser() if text.startswith("~/") and not path.exists() else path
