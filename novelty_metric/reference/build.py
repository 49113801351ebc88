"""Preparation of a reference from files of crystals: resumable, in one or several processes."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import CrystalError, InputError, StoreError
from novelty_metric.reference import arrow_file
from novelty_metric.reference.arrays import CrystalArrays
from novelty_metric.reference.manifest import (
    FORMAT,
    FORMAT_VERSION,
    SkippedCrystal,
    package_versions,
    preparation_settings,
)
from novelty_metric.reference.prepare import prepare
from novelty_metric.reference.store import Progress, Reference
from novelty_metric.samples import count_hint, read_samples
from novelty_metric.support.workers import worker_pool

if TYPE_CHECKING:
    from novelty_metric.samples import Sample

CHUNK = 256
"""Number of crystals that are prepared and stored together."""


def build_reference(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    name: str | None = None,
    workers: int = 1,
    symprec: float = 0.01,
    angle_tolerance: float = 5.0,
    column: str | None = None,
    progress: Progress | None = None,
) -> Reference:
    """Prepare a reference from files and write its store.

    After an interruption, a call with the same source and settings continues the build; finished
    chunks are stored in ``<out>.parts``. The store does not depend on the number of workers.

    Parameters
    ----------
    source : path or sequence of paths
        In any format of `novelty_metric.samples`; several sources are combined.
    out : path
        File to write, ``NAME.arrow``; an older one is replaced when the new one is complete.
    name : str, optional
        Name of the reference in reports; by default the name of the file.
    workers : int
        Processes that prepare crystals; 1 works in this process.
    symprec : float
        Distance tolerance of the symmetry search (Å).
    angle_tolerance : float
        Its angle tolerance (degrees).
    column : str, optional
        Column of a table that holds the crystals.
    progress : callable, optional
        Called with the number of finished crystals and the total (None if it is unknown).

    Returns
    -------
    Reference
        Opened from `out`. Crystals that can't be used are in ``manifest.skipped``.

    Raises
    ------
    InputError
        If a source can't be read, no crystal of it can be used, or `out` can't be written.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(item) for item in source]
    target = Path(out)
    if not paths:
        raise InputError("no source of reference crystals was given")
    if target.suffix != arrow_file.SUFFIX:
        raise InputError(f"{target}: a prepared reference is called NAME{arrow_file.SUFFIX}")
    if workers < 1:
        raise InputError(f"workers is {workers}; it must be at least 1")

    settings = preparation_settings(symprec, angle_tolerance)
    samples = itertools.chain.from_iterable(
        [read_samples(path, column=column) for path in paths]  # all are opened before work begins
    )
    hints = [count_hint(path, column=column) for path in paths]
    total = None if None in hints else sum(hint for hint in hints if hint is not None)
    parts = _Parts(target.with_name(target.name + ".parts"), _key(paths, settings, column))

    arrays: list[CrystalArrays] = []
    skipped: list[SkippedCrystal] = []
    n_done = 0
    if progress is not None:
        progress(0, total)
    for chunk in _prepared_chunks(samples, parts, symprec, angle_tolerance, workers):
        arrays.append(chunk.arrays)
        skipped.extend(chunk.skipped)
        n_done += len(chunk.arrays) + len(chunk.skipped)
        if progress is not None:
            progress(n_done, None if total is None else max(total, n_done))
    reference = Reference.from_arrays(
        CrystalArrays.concatenate(arrays),
        name=target.stem if name is None else name,
        symprec=symprec,
        angle_tolerance=angle_tolerance,
        skipped=skipped,
        source=[path.name for path in paths],
    )
    reference.save(target)
    parts.remove()
    return Reference.open(target)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Samples that were prepared together."""

    arrays: CrystalArrays
    skipped: tuple[SkippedCrystal, ...]


class _Parts:
    """Finished chunks of an unfinished build, one Arrow file each.

    A chunk that belongs to another source, other settings or other package versions, or that can't
    be read, is prepared again.
    """

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        self._folder = folder
        self._settings = key["settings"]
        self._key = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()

    def load(self, number: int, n_samples: int) -> _Chunk | None:
        """The chunk with this number, if it exists and fits."""
        path = self._path(number)
        if not path.exists():
            return None
        try:
            arrays, text = arrow_file.read(path)
        except StoreError:
            return None
        content = json.loads(text)
        if content.get("build") != self._key or content.get("hash") != self._hash(arrays):
            return None
        skipped = tuple(SkippedCrystal(**item) for item in content["skipped"])
        return _Chunk(arrays, skipped) if len(arrays) + len(skipped) == n_samples else None

    def save(self, number: int, chunk: _Chunk) -> None:
        """Store a finished chunk."""
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "build": self._key,
            "hash": self._hash(chunk.arrays),
            "skipped": [asdict(item) for item in chunk.skipped],
        }
        arrow_file.write(self._path(number), chunk.arrays, json.dumps(content, sort_keys=True))

    def remove(self) -> None:
        """Remove the chunks, and the folder if nothing else is in it."""
        if not self._folder.is_dir():
            return
        for path in self._folder.glob(f"chunk-*{arrow_file.SUFFIX}"):
            path.unlink(missing_ok=True)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _hash(self, arrays: CrystalArrays) -> str:
        return arrays.store_hash(self._settings, arrays.crystals_hash())

    def _path(self, number: int) -> Path:
        return self._folder / f"chunk-{number:06d}{arrow_file.SUFFIX}"


def _prepared_chunks(
    samples: Iterable[Sample],
    parts: _Parts,
    symprec: float,
    angle_tolerance: float,
    workers: int,
) -> Iterator[_Chunk]:
    """The chunks in order, read from the parts or prepared now."""
    waiting: deque[tuple[int, _Chunk | Future[_Chunk]]] = deque()
    at_once = 0 if workers == 1 else 2 * workers
    remaining = iter(samples)
    batches = iter(lambda: list(itertools.islice(remaining, CHUNK)), [])
    try:
        with contextlib.nullcontext() if workers == 1 else worker_pool(workers) as pool:
            for number, batch in enumerate(batches):
                chunk: _Chunk | Future[_Chunk] | None = parts.load(number, len(batch))
                if chunk is None and pool is not None:
                    chunk = pool.submit(_prepare_chunk, batch, symprec, angle_tolerance)
                elif chunk is None:
                    chunk = _prepare_chunk(batch, symprec, angle_tolerance)
                    parts.save(number, chunk)
                waiting.append((number, chunk))
                while len(waiting) > at_once:
                    yield _finished(parts, *waiting.popleft())
            while waiting:
                yield _finished(parts, *waiting.popleft())
    except BrokenExecutor as error:
        raise InputError(
            "a worker process died; finished crystals are kept: try workers=1"
        ) from error


def _finished(parts: _Parts, number: int, chunk: _Chunk | Future[_Chunk]) -> _Chunk:
    if isinstance(chunk, _Chunk):
        return chunk
    result = chunk.result()
    parts.save(number, result)
    return result


def _prepare_chunk(batch: Sequence[Sample], symprec: float, angle_tolerance: float) -> _Chunk:
    prepared = []
    skipped = []
    for sample in batch:
        if sample.structure is None:
            reason = sample.error or "could not be read"
            skipped.append(SkippedCrystal(sample.id, sample.source, reason))
            continue
        try:
            crystal = prepare(sample.structure, symprec=symprec, angle_tolerance=angle_tolerance)
        except CrystalError as error:
            skipped.append(SkippedCrystal(sample.id, sample.source, str(error)))
        else:
            prepared.append((sample.id, crystal))
    return _Chunk(CrystalArrays.from_prepared(prepared), tuple(skipped))


def _key(paths: Sequence[Path], settings: dict[str, Any], column: str | None) -> dict[str, Any]:
    """Everything on which a finished chunk depends."""
    return {
        "sources": [_source_hash(path) for path in paths],
        "column": column,
        "settings": settings,
        "versions": package_versions(),
        "chunk": CHUNK,
        "format_version": FORMAT_VERSION,
    }


def _source_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and files of a folder."""
    digest = hashlib.sha256(path.name.encode())
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    for file in files:
        digest.update(f"\n{os.fspath(file.relative_to(path.parent))}\n".encode())
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
