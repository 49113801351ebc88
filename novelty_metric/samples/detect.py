"""Detection of a file's format from its content, not from its name.

Standard library only.
"""

from __future__ import annotations

import itertools
import re
import tarfile
import zipfile
from pathlib import Path

from novelty_metric.errors import InputError
from novelty_metric.samples.formats import FORMATS
from novelty_metric.samples.poscar import is_poscar
from novelty_metric.samples.source import (
    MAX_MEMBER_BYTES,
    READ_ERRORS,
    compression,
    damaged,
    one_line,
    open_binary,
)

_HEAD_BYTES = 65_536
_KINDS = {
    b"PK\x03\x04": "a zip archive or .pt file",
    b"PK\x05\x06": "a zip archive or .pt file",
    b"PAR1": "a Parquet table",
    # of ``torch.save`` before it wrote zip archives: a pickled magic number
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.": "a .pt file",
}
"""Files that need random access, by their first bytes."""


def detect_format(path: Path | str) -> str:
    """Name of the format of a file or folder, a key of `FORMATS`.

    Raises
    ------
    InputError
        If `path` does not exist, is empty, can't be opened, or has no known format.
    """
    path = Path(path)
    try:
        return _detect(path)
    except READ_ERRORS as error:
        raise damaged(path, error) from error


def _detect(path: Path) -> str:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise InputError(f"{path}: neither a file nor a folder")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise InputError(f"{path}: the file is empty")
    outside = compression(head)
    if outside is not None:
        with open_binary(path) as file:
            head = file.read(_HEAD_BYTES)
        if not head:
            raise InputError(f"{path}: the file is empty after decompression")
        inside = _kind(head)
        if inside is None and (name := compression(head)):
            inside = f"a file compressed with {name}"
        if inside is not None:
            raise InputError(
                f"{path}: {inside} compressed a second time with {outside}; decompress it "
                "once and give the result"
            )
    elif (kind := _kind(head)) is not None:
        return {"a Parquet table": "parquet", "a .pt file": "pt"}.get(kind) or _detect_zip(path)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":  # a protocol of pickle
        raise InputError(
            f"{path}: a Python pickle, which is not read because it can run code; "
            "write the crystals as JSON, extxyz or CIF"
        )
    if _is_tar(head):
        return "tar"
    found = None if b"\x00" in head else _detect_text(path, head.decode("utf-8-sig", "replace"))
    if found is None:
        raise InputError(
            f"{path}: not a format that can be read; known: {', '.join(FORMATS)} "
            "(name one with format=); if ASE reads the file, convert it with "
            f"`ase convert {path.name} samples.extxyz`"
        )
    return found


def _kind(head: bytes) -> str | None:
    return next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), None)


def _detect_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{path}: a zip archive that can't be opened ({one_line(error)}); "
            "it is cut short or damaged: copy it again"
        ) from error
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "pt"
    if names and all(name.endswith(".npy") for name in names):
        raise InputError(
            f"{path}: NumPy arrays (.npz), which are not read; known: {', '.join(FORMATS)}"
        )
    return "zip"


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.HeaderError:  # the header's checksum decides, so that text is never a tar
        return False
    return True


def _detect_text(path: Path, head: str) -> str | None:
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path}: the file is empty")
    first, second = lines[0], lines[1] if len(lines) > 1 else ""
    if first.startswith("version https://git-lfs"):
        raise InputError(f"{path}: a Git LFS pointer and not the file; run `git lfs pull`")
    if first.lower().startswith(("<!doctype html", "<html")):
        raise InputError(f"{path}: a web page, not a file of crystals; download it again")
    if first[0] in "{[":
        return detect_json(path)
    if is_poscar(head.splitlines()):
        return "poscar"
    if _is_extxyz(lines):
        return "extxyz"
    if _is_cif(lines):
        return "cif"
    if _is_csv(first, second):
        return "csv"
    # Rubbish in a file named as a CIF is a crystal that can't be read, as it is in a folder.
    return "cif" if re.search(r"\.cif(\.|$)", path.name.lower()) else None


def detect_json(path: Path) -> str:
    """``json`` or ``jsonl``, by the first two lines."""
    ends: list[bytes] = []  # of the first two lines that are not blank: first and last byte
    with open_binary(path) as file:
        for _ in range(1000):
            line = file.readline(MAX_MEMBER_BYTES)
            if not line or len(ends) == 2:
                break
            if line := line.removeprefix(b"\xef\xbb\xbf").strip():
                ends.append(line[:1] + line[-1:])
    return "jsonl" if ends[:1] == [b"{}"] and ends[-1][:1] == b"{" and len(ends) == 2 else "json"


def _is_extxyz(lines: list[str]) -> bool:
    """True if a line has only a count of atoms: the first, or one before a comment."""
    comment = re.compile(r"\b(lattice|properties)\s*=", re.IGNORECASE)
    if lines[0].isdecimal() and not (len(lines) > 1 and lines[1].startswith('"')):
        return True  # else a table whose only column has a number for a name
    return any(
        line.isdecimal() and comment.search(after) for line, after in itertools.pairwise(lines)
    )


def _is_cif(lines: list[str]) -> bool:
    significant = [line for line in lines if not line.startswith("#")][:2]
    if not significant:
        return False
    first, second = significant[0].lower(), significant[-1].lower()
    if first == "loop_" or first.startswith(("_cell_", "_symmetry_", "_atom_", "_chem")):
        return True
    if not first.startswith("data_"):
        return False
    # A table may have a column named data_…: what follows tells.
    return second == first or second.startswith(("_", "loop_", "data_", "save_"))


def _is_csv(first: str, second: str) -> bool:
    if any(mark in first for mark in ",;\t"):
        return True
    if second.startswith('"') or (second.lower().endswith(".cif") and " " not in second):
        return True
    return bool(second) and first.strip('"').lower() in _LONE_COLUMNS


_LONE_COLUMNS = ("cif", "structure", "cifs", "structures")
