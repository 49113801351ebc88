"""Format ``cif_tar``: a tar archive of CIF files, compressed or not; never unpacked to disk."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Sample
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.members import is_cif_name, member_samples, member_stem
from novelty_metric.samples.source import open_binary

_BLOCK = 512


def read(path: Path, options: ReadOptions) -> Iterator[Sample]:
    """The CIF files in the archive's order, read as a stream; other members are left alone.

    Raises
    ------
    InputError
        If the archive holds no CIF file, or ends before its end mark.
    """
    # Decompressed here: tarfile's own streams take a gzip file that is cut short for a whole one.
    n_cifs, others = 0, []
    with open_binary(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else every header is kept
            if not is_cif_name(member.name) or member.isdir():
                others.append(member.name)
                del others[5:]
                continue
            n_cifs += 1
            source = f"{path.name}:{member.name}"
            if not member.isfile():
                what = "a link, not followed" if member.issym() or member.islnk() else "not a file"
                yield Sample(member_stem(member.name), None, what, source)
                continue
            opener = partial(_open, archive, member)
            # What is wrong below a member is wrong with the archive: no error is the member's own.
            yield from member_samples(member.name, source, opener, ())
        file.seek(archive.offset)
        end = file.read(_BLOCK)
    if len(end) < _BLOCK or end.strip(b"\x00"):
        raise InputError(f"{path}: the archive is cut short or damaged after {n_cifs} crystals")
    if not n_cifs:
        held = ", ".join(others) or "nothing"
        raise InputError(f"{path}: the archive holds no .cif file; it holds {held}")


def _open(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], archive.extractfile(member))
