"""Finished relaxations, kept by content in one SQLite file that several processes may share."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.folders import cache_folder
from novelty_metric.relaxation.base import PotentialInfo, Relaxation, RelaxSettings

if TYPE_CHECKING:
    from pymatgen.core import Structure

_VERSION = 2


class RelaxationCache:
    """Relaxations by crystal, potential and settings; the same work is never done twice.

    Parameters
    ----------
    path : path, optional
        The SQLite file; default ``relaxations.sqlite`` in `cache_folder`.

    Raises
    ------
    InputError
        If the file can't be written or is not such a cache.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else cache_folder() / "relaxations.sqlite"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS relaxations_v{_VERSION} "
                "(key TEXT PRIMARY KEY, potential TEXT, settings TEXT, result TEXT)"
            )
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"the relaxation cache {self.path} can't be used ({error}); "
                "set cache=false or NOVELTY_METRIC_CACHE to another folder"
            ) from error

    def get(
        self, structure: Structure, info: PotentialInfo, settings: RelaxSettings
    ) -> Relaxation | None:
        """What is known of this relaxation, or None."""
        row = self._connection.execute(
            f"SELECT result FROM relaxations_v{_VERSION} WHERE key = ?",
            (_key(structure, info, settings),),
        ).fetchone()
        if row is None:
            return None
        from pymatgen.core import Lattice, Structure

        kept = json.loads(row[0])
        crystal = kept.pop("crystal")
        relaxed = (
            Structure(Lattice(crystal["matrix"]), crystal["numbers"], crystal["frac_coords"])
            if crystal
            else None
        )
        return Relaxation(structure=relaxed, cached=True, **kept)

    def put(
        self,
        structure: Structure,
        info: PotentialInfo,
        settings: RelaxSettings,
        result: Relaxation,
    ) -> None:
        """Keep a result, unless it may come out otherwise next time."""
        if result.cached or not result.repeatable:
            return
        relaxed = result.structure
        kept = {
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
            "steps": result.steps,
            "seconds": result.seconds,
            "error": result.error,
        }
        self._connection.execute(
            f"INSERT OR REPLACE INTO relaxations_v{_VERSION} VALUES (?, ?, ?, ?)",
            (
                _key(structure, info, settings),
                info.key,
                json.dumps(asdict(settings)),
                json.dumps(kept),
            ),
        )

    def __len__(self) -> int:
        rows = self._connection.execute(f"SELECT COUNT(*) FROM relaxations_v{_VERSION}")
        return int(rows.fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _key(structure: Structure, info: PotentialInfo, settings: RelaxSettings) -> str:
    digest = hashlib.sha256()
    digest.update(np.ascontiguousarray(structure.lattice.matrix, dtype="<f8").tobytes())
    digest.update(np.asarray(structure.atomic_numbers, dtype="<i4").tobytes())
    digest.update(np.ascontiguousarray(structure.frac_coords, dtype="<f8").tobytes())
    digest.update(info.key.encode())
    digest.update(json.dumps(asdict(settings), sort_keys=True).encode())
    return digest.hexdigest()
