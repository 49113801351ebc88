"""Folders of packaged data and of the cache, and atomic writing of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from novelty_metric.errors import InputError

DATA_FOLDER = Path(__file__).resolve().parents[1] / "data"
"""Folder of the packaged data."""


def cache_folder() -> Path:
    """``$NOVELTY_METRIC_CACHE``, or the user's cache folder of the operating system."""
    named = os.environ.get("NOVELTY_METRIC_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("novelty-metric", appauthor=False)


def user_path(text: str) -> Path:
    """A path as typed; ``~/`` is the home folder, which shells do not expand after ``=``."""
    path = Path(text)
    return path.expanduser() if text.startswith("~/") and not path.exists() else path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as beside, beside.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside a file; what is written there takes the place of the file at the end."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def writing(named: object, folder: Path | None = None, *, hint: str = "") -> Iterator[None]:
    """Turn an `OSError` of the files written within into one `InputError`.

    The error names what is written; `hint` is its end, such as what to do. A given folder is made
    if it does not exist.
    """
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"{named} can't be written ({error.strerror or error}){hint}") from error
