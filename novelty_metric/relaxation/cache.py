"""Cache of finished relaxations, by content, in one SQLite file for several processes."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import time
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.relaxation.base import (
    Ended,
    PotentialInfo,
    Relaxation,
    RelaxSettings,
    RelaxTask,
    TrajectoryLog,
)
from novelty_metric.relaxation.optimizers import EVALUATED_ALONE, KEEPS_SYMMETRY
from novelty_metric.relaxation.relaxation_run import replay
from novelty_metric.support.folders import cache_folder

MAX_BYTES = 1 << 30
"""Maximum size of the content; above it, the least recently used results are dropped."""

_TABLE = "relaxations_v5"
_EARLIER_TABLES = ("relaxations_v1", "relaxations_v2", "relaxations_v3", "relaxations_v4")
_LOOK_EVERY = 200
"""Number of writes between two checks of the size."""
_ROOM_AFTER = 0.9
"""Fraction of the limit that remains after old results are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """Number of cached relaxations of one potential with one kind of settings.

    `last_used` is a day, as ``YYYY-MM-DD``.
    """

    potential: str
    settings: str
    count: int
    last_used: str


class RelaxationCache:
    """Relaxations by crystal, potential and settings; no work is done twice.

    The file is an SQLite database with one table of JSON results. With early stopping its row
    also holds the trajectory (arrays, as NumPy's ``.npz``), along which this or any other early
    stopping is asked again: a parent that comes up for another crystal is not relaxed again.

    Each result is one transaction with a write-ahead log: several processes may read and write at
    once, and one that is killed leaves what was finished before. If the file becomes unreadable or
    unwritable during a run, a warning is given, and the run continues without it.

    Parameters
    ----------
    path : path, optional
        The SQLite file; default ``relaxations.sqlite`` in `cache_folder`.
    max_bytes : int
        Beyond this size, what was not used for longest is dropped.

    Raises
    ------
    InputError
        If the file can't be written or is not such a cache.
    """

    def __init__(self, path: str | Path | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = Path(path) if path is not None else default_path()
        self._max_bytes = max_bytes
        self._writes = 0
        self._usable = True
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            # With the log, a killed process loses nothing so; a power cut may lose the last result.
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS {_TABLE} "
                "(key TEXT PRIMARY KEY, potential TEXT, settings TEXT, result TEXT, used INTEGER, "
                "looks BLOB)"
            )
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"the relaxation cache {self.path} can't be used ({error}); "
                "set cache=false or NOVELTY_METRIC_CACHE to another folder"
            ) from error

    def get(
        self, task: RelaxTask, info: PotentialInfo, settings: RelaxSettings
    ) -> Relaxation | None:
        """The cached result of this relaxation, or None."""
        key = _key(task, info, settings)
        row = self._execute(f"SELECT result, used, looks FROM {_TABLE} WHERE key = ?", (key,))
        if row is None:
            return None
        try:
            result = _read(row[0])
            trajectory = None if task.early_stopping is None else _unpacked(row[2])
        except (ValueError, KeyError, TypeError, OSError, EOFError, BadZipFile):
            return None  # someone else's row; it is written anew
        if trajectory is not None:
            replayed = replay(task, trajectory, result)
            if replayed is None:
                return None
            result = replayed
        if row[1] != _today():
            self._execute(f"UPDATE {_TABLE} SET used = ? WHERE key = ?", (_today(), key))
        return result

    def put(
        self,
        task: RelaxTask,
        info: PotentialInfo,
        settings: RelaxSettings,
        result: Relaxation,
    ) -> None:
        """Store a result, unless it could be different next time."""
        if result.cached or not result.repeatable:
            return
        row = (
            _key(task, info, settings),
            info.key,
            json.dumps(asdict(settings)),
            _written(result),
            _today(),
            None if result.trajectory is None else _packed(result.trajectory),
        )
        self._execute(f"INSERT OR REPLACE INTO {_TABLE} VALUES (?, ?, ?, ?, ?, ?)", row)
        self._writes += 1
        if self._usable and self._writes % _LOOK_EVERY == 0 and self.size > self._max_bytes:
            self._drop_oldest(self._max_bytes)

    def __len__(self) -> int:
        return int(self._connection.execute(f"SELECT COUNT(*) FROM {_TABLE}").fetchone()[0])

    @property
    def size(self) -> int:
        """Used bytes of the file."""
        pages, free, size = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def entries(self) -> list[CacheEntry]:
        """Content of the cache, by potential and settings."""
        rows = self._connection.execute(
            f"SELECT potential, settings, COUNT(*), MAX(used) FROM {_TABLE} "
            "GROUP BY potential, settings ORDER BY potential, settings"
        )
        return [
            CacheEntry(potential=potential, settings=settings, count=count, last_used=_day(used))
            for potential, settings, count, used in rows
        ]

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        unused_days: int | None = None,
        potential: str | None = None,
    ) -> int:
        """Drop results and return the space to the file system.

        Parameters
        ----------
        max_bytes : int, optional
            Drop the least recently used results until the rest has this size.
        unused_days : int, optional
            Drop results that were not used for more than this number of days.
        potential : str, optional
            Drop the results of this potential, with its name as in `entries`.

        Returns
        -------
        int
            Results dropped.
        """
        before = len(self)
        if unused_days is not None:
            self._connection.execute(
                f"DELETE FROM {_TABLE} WHERE used < ?", (_today() - unused_days,)
            )
        if potential is not None:
            self._connection.execute(f"DELETE FROM {_TABLE} WHERE potential = ?", (potential,))
        if max_bytes is not None and self.size > max_bytes:
            self._drop_oldest(max_bytes)
        self._give_back()
        return before - len(self)

    def clear(self) -> int:
        """Drop all results, also those of earlier versions; return the number of current ones."""
        dropped = len(self)
        self._connection.execute(f"DELETE FROM {_TABLE}")
        self._give_back()
        return dropped

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _drop_oldest(self, max_bytes: int) -> None:
        count = len(self)
        kept = int(count * min(1.0, _ROOM_AFTER * max_bytes / max(1, self.size)))
        self._execute(
            f"DELETE FROM {_TABLE} WHERE key IN "
            f"(SELECT key FROM {_TABLE} ORDER BY used, rowid LIMIT ?)",
            (count - kept,),
        )

    def _give_back(self) -> None:
        for table in _EARLIER_TABLES:
            self._connection.execute(f"DROP TABLE IF EXISTS {table}")
        self._connection.execute("VACUUM")

    def _execute(self, command: str, values: tuple[Any, ...]) -> Any:
        """The first row of the answer, or None; if the file fails, None from then on."""
        if not self._usable:
            return None
        try:
            return self._connection.execute(command, values).fetchone()
        except sqlite3.ProgrammingError:
            raise  # the cache was closed
        except sqlite3.Error as error:
            # Relaxations cost more than what the cache saves: the run goes on.
            self._usable = False
            warnings.warn(
                f"the relaxation cache {self.path} failed ({error}); continuing without it",
                stacklevel=3,
            )
            return None


def default_path() -> Path:
    """The default path of the cache."""
    return cache_folder() / "relaxations.sqlite"


def _key(task: RelaxTask, info: PotentialInfo, settings: RelaxSettings) -> str:
    structure = task.structure
    digest = hashlib.sha256()
    digest.update(np.ascontiguousarray(structure.lattice.matrix, dtype="<f8").tobytes())
    digest.update(np.asarray(structure.atomic_numbers, dtype="<i4").tobytes())
    digest.update(np.ascontiguousarray(structure.frac_coords, dtype="<f8").tobytes())
    digest.update(info.key.encode())
    digest.update(json.dumps(asdict(settings), sort_keys=True).encode())
    if settings.optimizer in KEEPS_SYMMETRY:
        digest.update(b"primitive cell")  # earlier ones relaxed the cell as it was given
    if settings.optimizer in EVALUATED_ALONE:
        digest.update(b"alone")  # earlier results depended on the batch
    if task.minima != "keep":
        digest.update(task.minima.encode() + b", a shake")  # earlier checks made none
    if task.early_stopping is not None:
        digest.update(b"watched")  # which one does not matter: the trajectory is the same
    return digest.hexdigest()


def _written(result: Relaxation) -> str:
    relaxed = result.structure
    return json.dumps(
        {
            "crystal": None
            if relaxed is None
            else {
                "matrix": relaxed.lattice.matrix.tolist(),
                "numbers": list(relaxed.atomic_numbers),
                "frac_coords": relaxed.frac_coords.tolist(),
            },
            "energy_before": result.energy_before,
            "energy_after": result.energy_after,
            "converged": result.converged,
            "ended": result.ended,
            "saddle": result.saddle,
            "energy_below": result.energy_below,
            "steps": result.steps,
            "seconds": result.seconds,
            "error": result.error,
        }
    )


def _read(text: str) -> Relaxation:
    from pymatgen.core import Lattice, Structure

    kept = json.loads(text)
    crystal = kept.pop("crystal")
    relaxed = (
        Structure(Lattice(crystal["matrix"]), crystal["numbers"], crystal["frac_coords"])
        if crystal
        else None
    )
    ended = kept.pop("ended", None)
    return Relaxation(structure=relaxed, cached=True, ended=Ended(ended) if ended else None, **kept)


def _packed(trajectory: TrajectoryLog) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **{f.name: getattr(trajectory, f.name) for f in fields(trajectory)})
    return stream.getvalue()


def _unpacked(packed: bytes) -> TrajectoryLog:
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return TrajectoryLog(**{f.name: arrays[f.name] for f in fields(TrajectoryLog)})


def _today() -> int:
    """Days since 1970; a coarse time, so that frequent use does not cause frequent writes."""
    return int(time.time() // 86400)


def _day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * 86400))
