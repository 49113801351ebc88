"""Parts that folders and archives of CIF files share."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO

from novelty_metric.samples.base import Entry
from novelty_metric.samples.cif_text import cif_entries
from novelty_metric.samples.source import (
    COMPRESSION_SUFFIXES,
    READ_ERRORS,
    decode,
    decompressed,
    one_line,
    read_member,
)

_COMPRESSED = "|".join(map(re.escape, COMPRESSION_SUFFIXES))
_CIF_NAME = re.compile(rf"\.cif({_COMPRESSED})?$", re.IGNORECASE)


def is_cif_name(name: str) -> bool:
    """True if a member is a CIF by its name; hidden files and macOS's copies are not.

    Parameters
    ----------
    name : str
        Path inside the folder or archive, with ``/``.
    """
    parts = _parts(name)
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    return bool(parts) and _CIF_NAME.search(parts[-1]) is not None


def _parts(name: str) -> list[str]:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return [part for part in parts if part not in ("/", ".", "..")]


def member_ids(names: Sequence[str]) -> list[str]:
    """Ids of the members: their paths below the common folder, without ``.cif``.

    Members that all lie in one folder have their file names as ids, wherever that folder is.

    Parameters
    ----------
    names : sequence of str
        Paths of all CIF files inside the folder or archive.

    Examples
    --------
    >>> member_ids(["out/gen_0.cif", "out/gen_1.cif.gz"])
    ['gen_0', 'gen_1']
    >>> member_ids(["out/a/gen_0.cif", "out/b/gen_0.cif", "out/last.cif"])
    ['a/gen_0', 'b/gen_0', 'last']
    """
    paths = [_parts(name) for name in names]
    levels = zip(*(path[:-1] for path in paths), strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, levels))
    return [without_suffix("/".join(path[shared:])) for path in paths]


def without_suffix(name: str) -> str:
    """A path without ``.cif`` and a compression suffix."""
    return _CIF_NAME.sub("", name)


def member_entries(
    own_id: str,
    name: str,
    open_member: Callable[[], IO[bytes]],
    errors: tuple[type[Exception], ...],
) -> Iterator[Entry]:
    """The crystals of one member; if it cannot be opened or read, an entry with the reason.

    Parameters
    ----------
    own_id : str
        Of `member_ids`.
    name : str
        Path inside the folder or archive; it is only a label.
    open_member : callable
        Gives the member's bytes as a stream.
    errors : tuple of exception types
        What a damaged member raises.
    """
    try:
        text = member_text(open_member, errors)
    except ValueError as error:
        yield Entry.unreadable(own_id, name, one_line(error))
        return
    yield from cif_entries(io.StringIO(text, newline=None), own_id, name)


def member_text(
    open_member: Callable[[], IO[bytes]], errors: tuple[type[Exception], ...] = READ_ERRORS
) -> str:
    """Text of a CIF file, decompressed if necessary.

    Raises
    ------
    ValueError
        If it is too long, or damaged.
    """
    try:
        with open_member() as file:
            data = read_member(file)
    except errors as error:
        raise ValueError(one_line(error)) from error
    try:
        return decode(read_member(decompressed(io.BytesIO(data))))
    except READ_ERRORS as error:
        raise ValueError(one_line(error)) from error


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that puts ``gen_2`` before ``gen_10``."""
    return [
        (0, int(piece), piece) if piece.isdecimal() else (1, 0, piece)
        for piece in re.split(r"(\d+)", name)
        if piece
    ]
