"""Formats ``cif``, ``cif_folder``, ``cif_zip`` and ``cif_tar``: a CIF file, and many of them.

Archives are never unpacked to disk.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.cif_text import cif_entries
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.source import (
    COMPRESSION_SUFFIXES,
    READ_ERRORS,
    decode,
    decompressed,
    one_line,
    open_binary,
    open_text,
    read_member,
    stem,
)

_COMPRESSED = "|".join(map(re.escape, COMPRESSION_SUFFIXES))
_CIF_NAME = re.compile(rf"\.cif({_COMPRESSED})?$", re.IGNORECASE)
_TAR_BLOCK = 512


def read_cif(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The data blocks in order, read one at a time."""
    with open_text(path) as file:
        yield from cif_entries(file, options.name or stem(path), "")


def read_cif_folder(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The CIF files of the folder and its subfolders in natural order; other files are ignored.

    Raises
    ------
    InputError
        If `path` is not a folder or holds no CIF file.
    """
    if not path.is_dir():
        raise InputError(f"{path}: not a folder")
    names = _names_in_folder(path)
    if not names:
        others = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        hint = f"; it contains {', '.join(others[:5])}: {_how_to_name(path)}" if others else ""
        raise InputError(f"{path}: the folder contains no .cif file{hint}")
    yield from _entries(names, [partial(_open, path / name) for name in names], READ_ERRORS)


def count_cif_folder(path: Path, options: ReadOptions) -> int | None:
    """Number of CIF files."""
    return len(_names_in_folder(path))


def _how_to_name(path: Path) -> str:
    """A pattern for the files of the folder, or else for those of its subfolders."""
    files = sorted(file.suffix for file in path.glob("[!.]*.*") if file.is_file())
    inside = sorted(file.name for file in path.glob("[!.]*/[!.]*") if file.is_file())
    if not files and not inside:
        return "name the file itself"
    pattern = f"*{files[0]}" if files else f"*/{inside[0]}"
    return f"name the files, such as '{path}/{pattern}'"


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _names_in_folder(path: Path) -> list[str]:
    names = []
    for folder, _, files in os.walk(path):  # links to folders are not followed: they may go round
        inside = Path(folder).relative_to(path)
        names += [name for file in files if is_cif_name(name := (inside / file).as_posix())]
    return sorted(names, key=natural_key)


def read_cif_zip(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The CIF files in the order of the archive; other members are ignored.

    Raises
    ------
    InputError
        If the archive holds no CIF file.
    """
    with zipfile.ZipFile(path) as archive:
        members = _members_of_zip(archive)
        if not members:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            raise _no_cif(path, names[:5])
        openers = [
            _LINK if stat.S_ISLNK(member.external_attr >> 16) else partial(archive.open, member)
            for member in members
        ]
        errors = (*READ_ERRORS, RuntimeError)  # an encrypted member
        yield from _entries([member.filename for member in members], openers, errors)


def count_cif_zip(path: Path, options: ReadOptions) -> int | None:
    """Number of CIF files."""
    with zipfile.ZipFile(path) as archive:
        return len(_members_of_zip(archive))


def _members_of_zip(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [
        member
        for member in archive.infolist()
        if is_cif_name(member.filename) and not member.is_dir()  # which fails without a name
    ]


def read_cif_tar(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The CIF files in the order of the archive, read as a stream; other members are ignored.

    The archive is passed over twice, as the ids depend on the names of all members.

    Raises
    ------
    InputError
        If the archive holds no CIF file, or ends before its end mark.
    """
    names: list[str] = []
    others: list[str] = []
    # Decompressed here: tarfile's own streams take a gzip file that is cut short for a whole one.
    with open_binary(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in _members_of_tar(archive):
            if _is_cif(member):
                names.append(member.name)
            elif len(others) < 5:
                others.append(member.name)
        file.seek(archive.offset)
        end = file.read(_TAR_BLOCK)
    if len(end) < _TAR_BLOCK or end.strip(b"\x00"):
        raise InputError(f"{path}: the archive is cut short or damaged after {len(names)} crystals")
    if not names:
        raise _no_cif(path, others)
    with open_binary(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        openers = (
            partial(_extracted, archive, member)
            if member.isfile()
            else _LINK
            if member.issym() or member.islnk()
            else "not a file"
            for member in _members_of_tar(archive)
            if _is_cif(member)
        )
        # What is wrong below a member is wrong with the archive: no error is its own.
        yield from _entries(names, openers, ())


def _members_of_tar(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # else every header is kept
        yield member


def _is_cif(member: tarfile.TarInfo) -> bool:
    return is_cif_name(member.name) and not member.isdir()


def _extracted(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], archive.extractfile(member))


# Names and members


_LINK = "a link, not followed"


def is_cif_name(name: str) -> bool:
    """True for the path of a CIF in a folder or archive; not if hidden or a copy of macOS."""
    parts = _parts(name)
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    return bool(parts) and _CIF_NAME.search(parts[-1]) is not None


def _parts(name: str) -> list[str]:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return [part for part in parts if part not in ("/", ".", "..")]


def _no_cif(path: Path, held: Sequence[str]) -> InputError:
    what = ", ".join(held) or "nothing"
    return InputError(
        f"{path}: the archive contains no .cif file; it contains {what}: unpack it, and name the "
        "files"
    )


def member_ids(names: Sequence[str]) -> list[str]:
    """Ids of the members: their paths below the common folder, without ``.cif``.

    Members that all lie in one folder have their file names as ids, wherever that folder is.

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


def _entries(
    names: Sequence[str],
    openers: Iterable[Callable[[], IO[bytes]] | str],
    errors: tuple[type[Exception], ...],
) -> Iterator[Entry]:
    """The crystals of the members; an entry with the reason for one that can't be read.

    An opener gives the bytes as a stream; text is the reason why there are none. `errors` are
    what a damaged member raises.
    """
    for own_id, name, opener in zip(member_ids(names), names, openers, strict=True):
        if isinstance(opener, str):
            yield Entry.unreadable(own_id, name, opener)
            continue
        try:
            text = member_text(opener, errors)
        except ValueError as error:
            yield Entry.unreadable(own_id, name, one_line(error))
        else:
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
