"""Where the package keeps what it ships and what it makes, and how it writes a file."""

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


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
