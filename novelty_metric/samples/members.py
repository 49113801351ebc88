"""Formats ``folder``, ``zip`` and ``tar``: a folder or archive of files of one kind.

The kinds are CIF, POSCAR, CONTCAR, extxyz and JSON, told by the names of the files. Where there
are CIFs, other files are ignored. Archives are never unpacked to disk.
"""

from __future__ import annotations

import dataclasses
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
from novelty_metric.samples.base import LONGEST_REASON, Entry
from novelty_metric.samples.detect import detect_json
from novelty_metric.samples.formats import FORMATS, ReadOptions
from novelty_metric.samples.source import (
    COMPRESSION_SUFFIXES,
    READ_ERRORS,
    decode,
    decompressed,
    one_line,
    open_binary,
    read_member,
)

_COMPRESSED = "|".join(map(re.escape, COMPRESSION_SUFFIXES))
_KINDS = {
    kind: re.compile(rf"({pattern})({_COMPRESSED})?$", re.IGNORECASE)
    for kind, pattern in {
        "cif": r"\.cif",
        "extxyz": r"\.(ext)?xyz",
        "json": r"\.jsonl?",
        "contcar": r"^CONTCAR.*|[-_.]CONTCAR",
        "poscar": r"^POSCAR.*|[-_.]POSCAR|\.vasp",
    }.items()
}
_SUFFIX = re.compile(
    rf"(\.(cif|(ext)?xyz|jsonl?|poscar|contcar|vasp))?({_COMPRESSED})?$", re.IGNORECASE
)
_TAR_BLOCK = 512


def read_folder(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The crystals of the files in the folder and its subfolders, in natural order.

    Raises
    ------
    InputError
        If `path` is not a folder, or holds files of no kind or of several.
    """
    if not path.is_dir():
        raise InputError(f"{path}: not a folder")
    kind, names = _chosen(path, _names_in_folder(path), _how_to_name(path))
    openers = [partial(_open, path / name) for name in names]
    yield from _entries(kind, names, openers, READ_ERRORS, options)


def count_folder(path: Path, options: ReadOptions) -> int | None:
    """Number of files; None if one may hold several crystals."""
    return _count(path, _names_in_folder(path))


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
        names += [(inside / file).as_posix() for file in files]
    return sorted(names, key=natural_key)


def read_zip(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The crystals of the members in the order of the archive.

    Raises
    ------
    InputError
        If the archive holds files of no kind or of several.
    """
    with zipfile.ZipFile(path) as archive:
        members = _members_of_zip(archive)
        kind, names = _chosen(path, [member.filename for member in members], _UNPACK)
        openers = (
            _LINK if stat.S_ISLNK(member.external_attr >> 16) else partial(archive.open, member)
            for member in members
            if member_kind(member.filename) == kind
        )
        errors = (*READ_ERRORS, RuntimeError)  # an encrypted member
        yield from _entries(kind, names, openers, errors, options)


def count_zip(path: Path, options: ReadOptions) -> int | None:
    """Number of members; None if one may hold several crystals."""
    with zipfile.ZipFile(path) as archive:
        return _count(path, [member.filename for member in _members_of_zip(archive)])


def _members_of_zip(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    named = (member for member in archive.infolist() if member.filename)
    return [member for member in named if not member.is_dir()]  # which fails without a name


def read_tar(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The crystals of the members in the order of the archive, read as a stream.

    The archive is passed over twice, as the ids depend on the names of all members.

    Raises
    ------
    InputError
        If the archive holds files of no kind or of several, or ends before its end mark.
    """
    # Decompressed here: tarfile's own streams take a gzip file that is cut short for a whole one.
    with open_binary(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        found = [member.name for member in _members_of_tar(archive) if not member.isdir()]
        file.seek(archive.offset)
        end = file.read(_TAR_BLOCK)
    if len(end) < _TAR_BLOCK or end.strip(b"\x00"):
        raise InputError(f"{path}: the archive is cut short or damaged after {len(found)} files")
    kind, names = _chosen(path, found, _UNPACK)
    with open_binary(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        openers = (
            partial(_extracted, archive, member)
            if member.isfile()
            else _LINK
            if member.issym() or member.islnk()
            else "not a file"
            for member in _members_of_tar(archive)
            if not member.isdir() and member_kind(member.name) == kind
        )
        # What is wrong below a member is wrong with the archive: no error is its own.
        yield from _entries(kind, names, openers, (), options)


def _members_of_tar(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # else every header is kept
        yield member


def _extracted(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], archive.extractfile(member))


# Names and members


_LINK = "a link, not followed"


def member_kind(name: str) -> str | None:
    """The kind of a file in a folder or archive; None if hidden, a copy of macOS, or unknown."""
    parts = _parts(name)
    if not parts or any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    return next((kind for kind, pattern in _KINDS.items() if pattern.search(parts[-1])), None)


def _parts(name: str) -> list[str]:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return [part for part in parts if part not in ("/", ".", "..")]


_UNPACK = "unpack it, and name the files"


def _chosen(path: Path, names: Sequence[str], advice: str) -> tuple[str, list[str]]:
    """The kind of the files that are read, and their names.

    Raises
    ------
    InputError
        If there is no CIF, and files of no kind or of several.
    """
    found: dict[str | None, list[str]] = {}
    for name in names:
        found.setdefault(member_kind(name), []).append(name)
    others = [name for name in found.pop(None, []) if not name.startswith(".")]
    if "cif" in found:
        return "cif", found["cif"]
    if len(found) == 1:
        kind, chosen = found.popitem()
        return str(kind), chosen
    if found:
        held = ", ".join(f"{len(chosen)} {kind}" for kind, chosen in found.items())
        reason = f"contains files of several kinds ({held})"
    else:
        reason = "contains no file named as a CIF, POSCAR, extxyz or JSON"
        reason += f"; it contains {', '.join(others[:5]) or 'nothing'}"
    raise InputError(f"{path}: {reason}{f': {advice}' if found or others else ''}")


def _count(path: Path, names: Sequence[str]) -> int | None:
    kind, chosen = _chosen(path, names, _UNPACK)
    return None if kind in ("extxyz", "json") else len(chosen)


def member_ids(names: Sequence[str]) -> list[str]:
    """Ids of the members: their paths below the common folder, without suffixes.

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
    """A path without the suffix of its kind and a compression suffix."""
    return _SUFFIX.sub("", name)


@dataclasses.dataclass(slots=True)
class _Member:
    """A decompressed member in memory, which readers open as they open a path."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name

    def open(self, mode: str) -> IO[bytes]:
        return io.BytesIO(self.data)


def _entries(
    kind: str,
    names: Sequence[str],
    openers: Iterable[Callable[[], IO[bytes]] | str],
    errors: tuple[type[Exception], ...],
    options: ReadOptions,
) -> Iterator[Entry]:
    """The crystals of the members; an entry with the reason for a member that can't be read.

    An opener gives the bytes as a stream; text is the reason why there are none. `errors` are
    what a damaged member raises.
    """
    for own_id, name, opener in zip(member_ids(names), names, openers, strict=True):
        try:
            if isinstance(opener, str):
                raise ValueError(opener)
            member = _Member(name, member_text(opener, errors).encode())
            yield from _crystals(
                kind, cast(Path, member), dataclasses.replace(options, name=own_id)
            )
        except (InputError, ValueError) as error:
            reason = str(error).removeprefix(f"{name}: ")
            yield Entry.unreadable(own_id, name, one_line(reason, LONGEST_REASON))


def _crystals(kind: str, member: Path, options: ReadOptions) -> Iterator[Entry]:
    """The crystals of a member; if it holds only one, without an id, the id is the member's."""
    if kind == "json":
        kind = detect_json(member)
    found = FORMATS["poscar" if kind == "contcar" else kind].read(member, options)
    first, second = next(found, None), next(found, None)
    if first is None:
        raise ValueError("contains no crystal")
    for position, entry in enumerate(itertools.chain([first], [second] if second else [], found)):
        yield dataclasses.replace(
            entry,
            id=entry.id or (f"{options.name}-{position}" if second else options.name),
            place=f"{member}:{entry.place}" if second else str(member),
        )


def member_text(
    open_member: Callable[[], IO[bytes]], errors: tuple[type[Exception], ...] = READ_ERRORS
) -> str:
    """Text of a file, decompressed if necessary.

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
