"""The file of a prepared reference.

One uncompressed Arrow IPC file with one record batch, a row per crystal, so that the flat per-site
arrays are mapped from disk as they are. The schema carries a JSON text, and the SHA-256 of the
whole file (taken with zeros in its own place), which is checked before Arrow parses anything: Arrow
reads beyond its buffers when it is led astray.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError, StoreError
from novelty_metric.reference.arrays import DIGEST_BYTES, CrystalArrays
from novelty_metric.reference.manifest import FORMAT, FORMAT_VERSION
from novelty_metric.support.folders import replacing, writing

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".arrow"
REBUILD = "build or fetch it again"

_TEXT = b"novelty_metric.reference"
_SEAL = b"novelty_metric.reference.seal"
_SEAL_HEAD = b"novelty-metric file sha256 "
_NO_HASH = b"0" * 64
_SEALS = re.compile(re.escape(_SEAL_HEAD) + b"([0-9a-f]{64})")
_N_SEALS = 2  # the schema stands at the beginning and, again, in the footer
_MAGIC = b"ARROW1"


def write(path: Path, arrays: CrystalArrays, text: str) -> None:
    """Write arrays and their JSON text to a file. If this fails, no file is left.

    Raises
    ------
    InputError
        If it can't be written.
    """
    import pyarrow as pa

    with writing(f"{path}:", path.parent), replacing(path) as beside:
        batch = _to_batch(arrays, text.encode())
        with pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        _seal(beside)


def read(path: Path) -> tuple[CrystalArrays, str]:
    """Map the arrays of a file and return them with their JSON text.

    Sizes, types and the text's hash are checked; the arrays' own hash is the caller's to check.

    Raises
    ------
    StoreError
        If the file is missing, damaged, of another kind or of a newer format.
    """
    import pyarrow as pa

    _check_ends(path)
    _check_seal(path)
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path), "rb"))
        text = _text(path, reader.schema.metadata or {})
        if reader.num_record_batches != 1:
            raise _damaged(path, f"{reader.num_record_batches} batches instead of one")
        batch = reader.get_batch(0)
        batch.validate(full=True)
        return _from_batch(path, batch), text
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        raise _damaged(path, first_line(error)) from error


def _damaged(path: Path, reason: str) -> StoreError:
    return StoreError(f"{path}: damaged ({reason}); {REBUILD}")


def _check_ends(path: Path) -> None:
    try:
        if path.is_dir():
            raise StoreError(f"{path}: a folder, not a prepared reference (NAME{SUFFIX})")
        size = path.stat().st_size
        with path.open("rb") as handle:
            head = handle.read(len(_MAGIC))
            handle.seek(max(0, size - len(_MAGIC)))
            tail = handle.read()
    except OSError as error:
        raise StoreError(f"{path}: can't be read ({error.strerror or error})") from error
    if head != _MAGIC:
        what = "an empty file" if size == 0 else "not a prepared reference"
        raise StoreError(
            f"{path}: {what}; make one with `novelty-metric reference build SOURCE out=FILE`"
        )
    if tail != _MAGIC or size < 2 * len(_MAGIC):
        raise StoreError(f"{path}: cut off (its end is missing); {REBUILD}")


def _seal(path: Path) -> None:
    """Put the hash of a newly written file into its place."""
    with path.open("r+b") as handle, mmap.mmap(handle.fileno(), 0) as content:
        places = [found.span(1) for found in _SEALS.finditer(content)]
        if len(places) != _N_SEALS:
            raise InputError(
                f"an id or a name contains the text {_SEAL_HEAD.decode()!r}; rename it"
            )
        digest = _hash_without(content, places)
        for start, end in places:
            content[start:end] = digest


def _check_seal(path: Path) -> None:
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        found = list(_SEALS.finditer(whole))
        if len(found) != _N_SEALS:
            # Something else in Arrow's format, unless it names itself as ours.
            if _SEAL in whole[:]:
                raise _damaged(path, "its hash is missing")
            raise StoreError(f"{path}: an Arrow file, but not a prepared reference")
        written = {item.group(1) for item in found}
        if written != {_hash_without(whole, [item.span(1) for item in found])}:
            raise _damaged(path, "its content was changed")


def _hash_without(content: mmap.mmap, places: list[tuple[int, int]]) -> bytes:
    """SHA-256 (hexadecimal) of the content, with zeros at these places."""
    digest = hashlib.sha256()
    position = 0
    with memoryview(content) as view:
        for start, end in places:
            with view[position:start] as before:
                digest.update(before)
            digest.update(_NO_HASH)
            position = end
        with view[position:] as rest:
            digest.update(rest)
    return digest.hexdigest().encode()


def _text(path: Path, metadata: Mapping[bytes, bytes]) -> str:
    foreign = StoreError(f"{path}: an Arrow file, but not a prepared reference")
    if _TEXT not in metadata:
        raise foreign
    text = metadata[_TEXT]
    try:
        content = json.loads(text)
        version, kind = int(content["format_version"]), content["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, "its manifest can't be read") from error
    if kind != FORMAT:
        raise foreign
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{path}: written in format {version}, this version reads up to {FORMAT_VERSION}; "
            "upgrade novelty-metric"
        )
    return text.decode()


def _to_batch(arrays: CrystalArrays, text: bytes) -> pa.RecordBatch:
    import pyarrow as pa

    def per_site(values: pa.Array) -> pa.Array:
        return pa.LargeListArray.from_arrays(pa.array(arrays.offsets), values)

    triples = pa.FixedSizeListArray.from_arrays(pa.array(arrays.frac_coords.reshape(-1)), 3)
    digests = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(DIGEST_BYTES), len(arrays), [None, pa.py_buffer(arrays.digests.tobytes())]
    )
    columns = {
        "id": pa.array(arrays.ids, type=pa.large_string()),
        "lattice": pa.FixedSizeListArray.from_arrays(pa.array(arrays.lattices.reshape(-1)), 9),
        "space_group": pa.array(arrays.space_groups),
        "numbers": per_site(pa.array(arrays.numbers)),
        "frac_coords": per_site(triples),
        "wyckoff_letters": per_site(pa.array(arrays.wyckoff_letters)),
        "orbits": per_site(pa.array(arrays.orbits)),
        "digest": digests,
    }
    schema = pa.schema(
        [pa.field(name, column.type, nullable=False) for name, column in columns.items()],
        metadata={_TEXT: text, _SEAL: _SEAL_HEAD + _NO_HASH},
    )
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)


def _column_types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {
        "id": pa.large_string(),
        "lattice": pa.list_(pa.float64(), 9),
        "space_group": pa.int16(),
        "numbers": pa.large_list(pa.uint8()),
        "frac_coords": pa.large_list(pa.list_(pa.float64(), 3)),
        "wyckoff_letters": pa.large_list(pa.uint8()),
        "orbits": pa.large_list(pa.int32()),
        "digest": pa.binary(DIGEST_BYTES),
    }


def _from_batch(path: Path, batch: pa.RecordBatch) -> CrystalArrays:
    for name, kind in _column_types().items():
        position = batch.schema.get_field_index(name)
        if position < 0 or batch.schema.field(position).type != kind:
            raise _damaged(path, f"column {name!r} is missing or of another type")
        if batch.column(position).null_count:
            raise _damaged(path, f"column {name!r} has missing values")

    n_crystals = batch.num_rows
    offsets = batch.column("numbers").offsets.to_numpy(zero_copy_only=True)
    flat: dict[str, np.ndarray] = {}
    for name in ("numbers", "frac_coords", "wyckoff_letters", "orbits"):
        column = batch.column(name)
        values = column.values.flatten() if name == "frac_coords" else column.values
        array = values.to_numpy(zero_copy_only=True)
        flat[name] = array.reshape(-1, 3) if name == "frac_coords" else array
        these = column.offsets.to_numpy(zero_copy_only=True)
        if not np.array_equal(these, offsets):
            raise _damaged(path, f"column {name!r} does not fit the others")
        if len(these) != n_crystals + 1 or these[0] != 0 or (np.diff(these) < 0).any():
            raise _damaged(path, f"column {name!r} has wrong offsets")
        if these[-1] != len(flat[name]):
            raise _damaged(path, f"column {name!r} has a wrong length")
    content = batch.column("digest").buffers()[1] or b""
    digests = np.frombuffer(content, np.uint8, DIGEST_BYTES * n_crystals)
    return CrystalArrays(
        ids=tuple(batch.column("id").to_pylist()),
        lattices=batch.column("lattice").flatten().to_numpy().reshape(-1, 3, 3),
        offsets=offsets,
        space_groups=batch.column("space_group").to_numpy(zero_copy_only=True),
        digests=digests.reshape(-1, DIGEST_BYTES),
        **flat,
    )
