"""Format ``cif_folder``: a folder of CIF files, sorted so that gen_2 comes before gen_10."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.members import is_cif_name, member_entries, member_ids, natural_key
from novelty_metric.samples.source import READ_ERRORS


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The CIF files of the folder and its subfolders in natural order; other files are ignored.

    Raises
    ------
    InputError
        If `path` is not a folder or holds no CIF file.
    """
    if not path.is_dir():
        raise InputError(f"{path}: not a folder")
    names = _names(path)
    if not names:
        others = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        hint = f"; it holds {', '.join(others[:5])}: name the file itself" if others else ""
        raise InputError(f"{path}: the folder holds no .cif file{hint}")
    for name, own_id in zip(names, member_ids(names), strict=True):
        yield from member_entries(own_id, name, partial(_open, path / name), READ_ERRORS)


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def count(path: Path, options: ReadOptions) -> int | None:
    """Number of CIF files."""
    return len(_names(path))


def _names(path: Path) -> list[str]:
    names = []
    for folder, _, files in os.walk(path):  # links to folders are not followed: they may go round
        inside = Path(folder).relative_to(path)
        names += [name for file in files if is_cif_name(name := (inside / file).as_posix())]
    return sorted(names, key=natural_key)
