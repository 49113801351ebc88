"""Functions that open files and describe their faults in one line.

Standard library only: importing this module costs nothing.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from novelty_metric.errors import InputError

MAX_MEMBER_BYTES = 50_000_000
"""Maximum text of one crystal: a CIF, a member of an archive, a line."""

MAX_WHOLE_BYTES = 2_000_000_000
"""Maximum size of a file that must be held in memory as a whole (JSON), after decompression."""

READ_ERRORS = (
    OSError,
    EOFError,
    NotImplementedError,  # a version or a method of zip that Python does not know
    UnicodeError,
    csv.Error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions of damaged or unreadable files."""

COMPRESSION_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LONGEST_MAGIC = max(map(len, _MAGIC))


def compression(head: bytes) -> str | None:
    """The compression that the first bytes show: gzip, bzip2, xz or zstd."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def open_binary(path: Path) -> IO[bytes]:
    """The file's bytes as a stream, decompressed if the first bytes show a compression."""
    file = path.open("rb")
    try:
        return decompressed(file)
    except BaseException:
        file.close()
        raise


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """The decompressed stream, or the stream itself if it is not compressed.

    Closing what is given back closes `file`.
    """
    head = file.read(_LONGEST_MAGIC)
    file.seek(0)
    name = compression(head)
    if name is None:
        return file
    return io.BufferedReader(_Decompressed(file, _OPENERS[name]), 1 << 16)


def _zstd(file: IO[bytes]) -> IO[bytes]:
    import pyarrow as pa

    # pyarrow closes what it has read from, and the file may be read again from its beginning.
    left_open = pa.PythonFile(_LeftOpen(file), mode="r")
    return cast(IO[bytes], pa.CompressedInputStream(left_open, "zstd"))


class _LeftOpen(io.RawIOBase):
    """A wrapper that leaves the wrapped file open when it is closed."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return int(self._file.readinto(buffer))


_OPENERS: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
    "gzip": lambda file: cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb")),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": _zstd,
}


class _Decompressed(io.RawIOBase):
    """A compressed file, read decompressed; seeking back starts from the beginning."""

    def __init__(self, file: IO[bytes], opener: Callable[[IO[bytes]], IO[bytes]]) -> None:
        self._file = file
        self._opener = opener
        self._stream = opener(file)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the length of a compressed file is not known")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if target < self._at:
            self._file.seek(0)
            self._stream, self._at = self._opener(self._file), 0
        while self._at < target:
            data = self._stream.read(min(target - self._at, _SKIPPED_AT_ONCE))
            if not data:
                break
            self._at += len(data)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


_SKIPPED_AT_ONCE = 1 << 20


def open_text(path: Path, *, newline: str | None = None) -> IO[str]:
    """The file's text as a stream, decompressed; invalid UTF-8 becomes U+FFFD.

    A replaced byte in a comment does no harm, and one in a number fails that crystal alone.
    """
    return io.TextIOWrapper(
        open_binary(path), encoding="utf-8-sig", errors="replace", newline=newline
    )


def read_whole(path: Path) -> bytes:
    """All bytes of a file, decompressed.

    Raises
    ------
    InputError
        If there are more than `MAX_WHOLE_BYTES`.
    """
    with open_binary(path) as file:
        data = file.read(MAX_WHOLE_BYTES + 1)
    if len(data) > MAX_WHOLE_BYTES:
        raise InputError(
            f"{path}: more than {MAX_WHOLE_BYTES / 1e9:.0f} GB of text; "
            "write JSON lines, extxyz or Parquet, which are read piece by piece"
        )
    return data


def read_member(file: IO[bytes]) -> bytes:
    """All bytes of an archive member or a small file.

    Raises
    ------
    ValueError
        If there are more than `MAX_MEMBER_BYTES`.
    """
    data = file.read(MAX_MEMBER_BYTES + 1)
    if len(data) > MAX_MEMBER_BYTES:
        raise ValueError(f"more than {MAX_MEMBER_BYTES / 1e6:.0f} MB")
    return data


def decode(data: bytes) -> str:
    """Text of a CIF: UTF-8, else Latin-1, which older crystallographic software writes."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def stem(path: Path) -> str:
    """The file's name without its suffix and its compression suffix."""
    name = path.name
    for suffix in COMPRESSION_SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return Path(name).stem or path.name


def damaged(path: Path, error: Exception, n_read: int = 0) -> InputError:
    """Error message for a file that raised one of `READ_ERRORS` after `n_read` crystals."""
    if getattr(error, "errno", None) is not None:  # the system's word, such as no permission
        return InputError(f"{path}: can't be read ({one_line(error)})")
    after = f" after {n_read} crystals" if n_read else ""
    return InputError(
        f"{path}: damaged, cut short, or in another format than expected{after} ({one_line(error)})"
        "; copy it again"
    )


def one_line(error: BaseException | str, limit: int = 200) -> str:
    """The message of an exception, in one line of at most `limit` characters."""
    if isinstance(error, BaseException):
        text = str(error).strip()
        name = type(error).__name__
        if not text:
            text = name
        elif isinstance(error, LookupError | OverflowError | RecursionError):
            text = f"{name}: {text}"  # a KeyError says nothing but the key
    else:
        text = error
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
