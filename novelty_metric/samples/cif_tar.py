"""Format ``cif_tar``: a tar archive of CIF files, compressed or not; never unpacked to disk."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.members import is_cif_name, member_entries, member_ids
from novelty_metric.samples.source import open_binary

_BLOCK = 512


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The CIF files in the order of the archive, read as a stream; other members are ignored.

    The archive is passed over twice, as the ids depend on the names of all members.

    Raises
    ------
    InputError
        If the archive holds no CIF file, or ends before its end mark.
    """
    names, others = _names(path)
    if not names:
        held = ", ".join(others) or "nothing"
        raise InputError(f"{path}: the archive holds no .cif file; it holds {held}")
    ids = iter(member_ids(names))
    with open_binary(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in _members(archive):
            if not _is_cif(member):
                continue
            own_id = next(ids)
            if member.isfile():
                opener = partial(_open, archive, member)
                # What is wrong below a member is wrong with the archive: no error is its own.
                yield from member_entries(own_id, member.name, opener, ())
            else:
                what = "a link, not followed" if member.issym() or member.islnk() else "not a file"
                yield Entry.unreadable(own_id, member.name, what)


def _names(path: Path) -> tuple[list[str], list[str]]:
    """Names of the CIF files and of some other members."""
    names: list[str] = []
    others: list[str] = []
    # Decompressed here: tarfile's own streams take a gzip file that is cut short for a whole one.
    with open_binary(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in _members(archive):
            if _is_cif(member):
                names.append(member.name)
            elif len(others) < 5:
                others.append(member.name)
        file.seek(archive.offset)
        end = file.read(_BLOCK)
    if len(end) < _BLOCK or end.strip(b"\x00"):
        raise InputError(f"{path}: the archive is cut short or damaged after {len(names)} crystals")
    return names, others


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # else every header is kept
        yield member


def _is_cif(member: tarfile.TarInfo) -> bool:
    return is_cif_name(member.name) and not member.isdir()


def _open(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], archive.extractfile(member))
