"""Finished rows of a run on disk; after an interruption, the run continues from them."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.report.rows import row_from_json, row_to_json
from novelty_metric.samples.draw import Draw
from novelty_metric.verdict import CrystalResult

JOURNAL_FILE = "journal.sqlite"
SCHEMA_VERSION = "2"
EVERYTHING = Draw()
_SECONDS = 1.0
"""Maximum time before a finished row is written (s)."""
_ENDING = 0.5
"""Time (s) in which a process that ends its run has deleted the journal. Opening it in this time is
an I/O error.
"""


class Journal:
    """Rows by the position of their sample, in one SQLite file that only one process opens.

    Rows are JSON, compressed by zlib. What was written is whole whenever the process ends, also by
    a signal or a power cut. A row waits at most a second for its turn; call `flush` now and then.

    `identity` has the plain values on which the rows depend: settings, hashes, versions. With
    `overwrite`, rows of another identity are dropped. `draw` selects the samples; rows of a smaller
    draw, where positions differ, wait by id until `take_earlier` asks for them.

    Raises
    ------
    InputError
        If another process has it open, it can't be written, or it is of another identity or of a
        draw that holds more.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        *,
        overwrite: bool = False,
        draw: Draw = EVERYTHING,
    ) -> None:
        self.path = folder / JOURNAL_FILE
        self._written = time.monotonic()
        self._waiting = False
        try:
            self._connection = sqlite3.connect(
                # As an address, so that a folder's name may hold any bytes.
                "file:" + urllib.parse.quote(os.fsencode(self.path)),
                uri=True,
                timeout=0.5,
                isolation_level=None,
                check_same_thread=False,
            )
            self._begin(folder, identity, draw, overwrite=overwrite)
        except sqlite3.Error as error:
            if "I/O" in str(error):
                time.sleep(_ENDING)
            raise self._input_error(error) from error

    def _begin(
        self, folder: Path, identity: Mapping[str, Any], draw: Draw, *, overwrite: bool
    ) -> None:
        """Create the tables, or continue those of a run with the same identity."""
        own = json.dumps({"schema": SCHEMA_VERSION, **identity}, sort_keys=True)
        execute = self._connection.execute
        # One process alone: no file of shared memory, which network file systems can't hold.
        execute("PRAGMA locking_mode=EXCLUSIVE")
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=FULL")
        execute("BEGIN EXCLUSIVE")
        execute("CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT)")
        kept = self._about("identity")
        kept_draw = self._about("draw")
        smaller = None if kept_draw is None else Draw(*json.loads(kept_draw))
        other = _other_run(kept, own, smaller, draw)
        if other is not None:
            if not overwrite:
                execute("ROLLBACK")
                self._connection.close()
                raise InputError(
                    f"{folder} contains an unfinished run {other}, name another folder, or add "
                    "overwrite=true"
                )
            for table in ("rows", "earlier"):
                execute(f"DROP TABLE IF EXISTS {table}")
            execute("DELETE FROM about")
            smaller = None
        execute(
            "CREATE TABLE IF NOT EXISTS rows "
            "(position INTEGER PRIMARY KEY, formula TEXT, comparable INTEGER, row BLOB)"
        )
        execute("CREATE TABLE IF NOT EXISTS earlier (id TEXT PRIMARY KEY, row BLOB)")
        if smaller is not None and smaller != draw:
            self._set_all_aside()
        for name, value in (("identity", own), ("draw", json.dumps(astuple(draw)))):
            execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))
        execute("COMMIT")

    # Writing

    def add(self, position: int, row: CrystalResult) -> None:
        """Store the row of a sample."""
        comparable = row.structures is not None and row.structures.relaxed is not None
        values = (position, row.formula, comparable, _packed(row))
        with self._writing():
            self._begin_waiting()
            self._connection.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", values)
        self.flush(force=False)

    def add_earlier(self, rows: Iterable[CrystalResult], seconds: Mapping[str, float]) -> None:
        """Store the rows of a finished report on a smaller draw, by id; only once per journal.

        Parameters
        ----------
        rows : iterable of CrystalResult
        seconds : mapping
            Time per step of that report (s).
        """
        if self._about("earlier") is not None:
            return
        packed = ((row.id, _packed(row)) for row in rows)
        with self._writing():
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR IGNORE INTO earlier VALUES (?, ?)", packed)
            self._connection.execute("INSERT INTO about VALUES ('earlier', 'added')")
            self._connection.execute("COMMIT")
        self.add_seconds(seconds)

    def set_aside(self, row: CrystalResult) -> None:
        """Store a row of a smaller draw by its id."""
        values = (row.id, _packed(row))
        with self._writing():
            self._connection.execute("INSERT OR REPLACE INTO earlier VALUES (?, ?)", values)

    def take_earlier(self, identifier: str) -> CrystalResult | None:
        """Take the row with this id from the smaller draw."""
        found = self._connection.execute("SELECT row FROM earlier WHERE id = ?", (identifier,))
        row = found.fetchone()
        if row is None:
            return None
        with self._writing():
            self._begin_waiting()  # written to the disk together with its result
            self._connection.execute("DELETE FROM earlier WHERE id = ?", (identifier,))
        return row_from_json(zlib.decompress(row[0]))

    @property
    def n_earlier(self) -> int:
        """Rows of a smaller draw that were not yet taken."""
        return int(self._connection.execute("SELECT COUNT(*) FROM earlier").fetchone()[0])

    def flush(self, *, force: bool = True) -> None:
        """Write buffered rows to disk; without `force` once per second."""
        now = time.monotonic()
        if not self._waiting or not (force or now - self._written > _SECONDS):
            return
        with self._writing():
            self._connection.execute("COMMIT")
        self._waiting, self._written = False, now

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Add to the time per step, which includes earlier processes."""
        total = self.seconds()
        for step, more in seconds.items():
            total[step] = total.get(step, 0.0) + more
        with self._writing():
            self._connection.execute(
                "INSERT OR REPLACE INTO about VALUES ('seconds', ?)", (json.dumps(total),)
            )

    # Reading

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM rows").fetchone()[0])

    def __contains__(self, position: int) -> bool:
        found = self._connection.execute("SELECT 1 FROM rows WHERE position = ?", (position,))
        return found.fetchone() is not None

    def seconds(self) -> dict[str, float]:
        """Time per step so far (s)."""
        kept = self._about("seconds")
        return {} if kept is None else json.loads(kept)

    def rows(self) -> Iterator[CrystalResult]:
        """All rows, in the order of the samples."""
        for (packed,) in self._connection.execute("SELECT row FROM rows ORDER BY position"):
            yield row_from_json(zlib.decompress(packed))

    def comparable(self) -> Iterator[list[tuple[int, CrystalResult]]]:
        """Positions and rows with a reduced cell, grouped by formula, in order.

        A formula that only one row has is left out: see `positions`.
        """
        formulas = self._connection.execute(
            "SELECT formula FROM rows WHERE comparable GROUP BY formula HAVING COUNT(*) > 1"
        ).fetchall()
        for (formula,) in formulas:
            yield [
                (position, row_from_json(zlib.decompress(packed)))
                for position, packed in self._connection.execute(
                    "SELECT position, row FROM rows WHERE comparable AND formula = ? "
                    "ORDER BY position",
                    (formula,),
                )
            ]

    def positions(self) -> Iterator[int]:
        """Positions of the rows with a reduced cell, in order."""
        for (position,) in self._connection.execute(
            "SELECT position FROM rows WHERE comparable ORDER BY position"
        ):
            yield position

    # Ending

    def close(self) -> None:
        """Write everything and release the file."""
        try:
            self.flush()
        finally:
            self._connection.close()

    def remove(self) -> None:
        """Delete the journal; the run is finished."""
        self._connection.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _set_all_aside(self) -> None:
        for position, packed in self._connection.execute(
            "SELECT position, row FROM rows ORDER BY position"
        ).fetchall():
            identifier = row_from_json(zlib.decompress(packed)).id
            self._connection.execute(
                "INSERT OR REPLACE INTO earlier VALUES (?, ?)", (identifier, packed)
            )
            self._connection.execute("DELETE FROM rows WHERE position = ?", (position,))

    def _about(self, name: str) -> str | None:
        found = self._connection.execute("SELECT value FROM about WHERE name = ?", (name,))
        row = found.fetchone()
        return None if row is None else str(row[0])

    def _begin_waiting(self) -> None:
        if not self._waiting:
            self._connection.execute("BEGIN")
            self._waiting = True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._input_error(error) from error

    def _input_error(self, error: sqlite3.Error) -> InputError:
        self._waiting = False  # SQLite has taken back what it could not write
        message = str(error)
        if "locked" in message or ("I/O" in message and not self.path.exists()):
            return InputError(
                f"another process works in {self.path.parent}; wait for it, or name another "
                "folder with out="
            )
        if "full" in message:
            return InputError(
                f"the disk of {self.path.parent} is full; finished crystals are kept: make room "
                "and repeat the command"
            )
        return InputError(
            f"{self.path} can't be used ({message}); its content is kept: solve this problem and "
            "repeat the command, or name another folder with out="
        )


def _packed(row: CrystalResult) -> bytes:
    return zlib.compress(row_to_json(row).encode(), 1)


def _other_run(kept: str | None, own: str, kept_draw: Draw | None, draw: Draw) -> str | None:
    """Error message if the journal belongs to another run, with what to do; None if the run can
    continue.
    """
    if kept is None:
        return None
    if kept != own:
        return (
            f"of other settings or versions ({_difference(kept, own)}); give the settings of that "
            "run"
        )
    if kept_draw is not None and not draw.holds(kept_draw):
        return (
            f"with {kept_draw}, and {draw} does not contain those crystals; a limit can be raised: "
            "give that one or more"
        )
    return None


def _difference(before: str, now: str) -> str:
    old, new = json.loads(before), json.loads(now)
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return ", ".join(names[:3]) + (" and more" if len(names) > 3 else "")
