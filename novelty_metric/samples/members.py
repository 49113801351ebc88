"""What folders and archives of CIF files have in common."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO, cast

from novelty_metric.samples.base import Sample
from novelty_metric.samples.cif_text import cif_samples
from novelty_metric.samples.source import decode, one_line, read_member

_CIF_NAME = re.compile(r"\.cif(\.gz)?$", re.IGNORECASE)


def is_cif_name(name: str) -> bool:
    """Whether a member is a CIF by its name; hidden files and macOS's copies are not.

    Parameters
    ----------
    name : str
        Path inside the folder or archive, with ``/``.
    """
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in _DOTS]
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    return bool(parts) and _CIF_NAME.search(parts[-1]) is not None


_DOTS = (".", "..")


def member_stem(name: str) -> str:
    """Id of a member: its file name without folders and without ``.cif``."""
    return _CIF_NAME.sub("", name.replace("\\", "/").rpartition("/")[2]) or name


def member_samples(
    name: str,
    source: str,
    open_member: Callable[[], IO[bytes]],
    errors: tuple[type[Exception], ...],
) -> Iterator[Sample]:
    """The crystals of one member; what can't be opened or read is a row with the reason.

    Parameters
    ----------
    name : str
        Path inside the folder or archive; it is only a label.
    source : str
        File and member.
    open_member : callable
        Gives the member's bytes as a stream.
    errors : tuple of exception types
        What a damaged member raises.
    """
    try:
        try:
            with open_member() as file:
                data = read_member(file)
        except errors as error:
            raise ValueError(one_line(error)) from error
        if data.startswith(b"\x1f\x8b"):
            data = _decompressed(data)
    except ValueError as error:
        yield Sample(member_stem(name), None, one_line(error), source)
        return
    yield from cif_samples(io.StringIO(decode(data)), member_stem(name), source)


def _decompressed(data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return read_member(cast(IO[bytes], file))
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(one_line(error)) from error


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that puts ``gen_2`` before ``gen_10``."""
    return [
        (0, int(piece), piece) if piece.isdecimal() else (1, 0, piece)
        for piece in re.split(r"(\d+)", name)
        if piece
    ]
