"""Format ``cif_zip``: a zip archive of CIF files; never unpacked to disk."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.members import is_cif_name, member_entries, member_ids
from novelty_metric.samples.source import READ_ERRORS

_MEMBER_ERRORS = (*READ_ERRORS, RuntimeError)  # an encrypted member


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The CIF files in the order of the archive; other members are ignored.

    Raises
    ------
    InputError
        If the archive holds no CIF file.
    """
    with zipfile.ZipFile(path) as archive:
        members = _members(archive)
        if not members:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            held = ", ".join(names[:5]) or "nothing"
            raise InputError(f"{path}: the archive holds no .cif file; it holds {held}")
        ids = member_ids([member.filename for member in members])
        for member, own_id in zip(members, ids, strict=True):
            name = member.filename
            if stat.S_ISLNK(member.external_attr >> 16):
                yield Entry.unreadable(own_id, name, "a link, not followed")
                continue
            yield from member_entries(own_id, name, partial(archive.open, member), _MEMBER_ERRORS)


def count(path: Path, options: ReadOptions) -> int | None:
    """Number of CIF files."""
    with zipfile.ZipFile(path) as archive:
        return len(_members(archive))


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [
        member
        for member in archive.infolist()
        if is_cif_name(member.filename) and not member.is_dir()  # which fails without a name
    ]
