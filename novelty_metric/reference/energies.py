"""Energies of the reference's crystals with the potential of the metric.

They are single points of the stored (reduced, not relaxed) geometry, made once per reference and
potential and kept in a Parquet file beside the store: ``<store>.<potential>.energies.parquet``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.crystal import first_line
from novelty_metric.errors import StoreError
from novelty_metric.reference.named import references_folder
from novelty_metric.support.folders import DATA_FOLDER, replacing, writing

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.reference.store import Reference
    from novelty_metric.relaxation.base import PotentialInfo, Relaxer

SUFFIX = ".energies.parquet"
SAVE_EVERY = 15.0
"""Unfinished work is saved at this interval (s)."""

_FORMAT = "novelty-metric reference energies"
_FORMAT_VERSION = 1
_KEY = b"novelty_metric.energies"


def reference_energies(
    reference: Reference,
    relaxer: Relaxer,
    *,
    wanted: np.ndarray | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    directory: str | Path | None = None,
) -> np.ndarray:
    """Energy of every unrelaxed reference crystal (eV/atom), from the file or computed now.

    Interrupted work continues where it stopped, as does that of a call that wanted only some.

    Parameters
    ----------
    reference : Reference
    relaxer : Relaxer
        Asked for `info`, and for `energies` where they are not known yet.
    wanted : bool, (M,), optional
        The crystals whose energies are needed; default all.
    progress : callable, optional
        Called with crystals done and crystals in all that are needed.
    directory : path, optional
        Where the file is kept. By default beside the store, or in the user's cache folder where
        the store's folder can't be written or the reference has no file.

    Returns
    -------
    float64, (M,)
        NaN where the potential failed, or where the energy is not known and not wanted. Read-only.

    Raises
    ------
    StoreError
        If a file of that name belongs to other crystals or another potential, or is damaged.
    InputError
        If the file can't be written.
    """
    info = relaxer.info
    for path in energy_files(reference, info, directory=directory):
        if path.exists():
            energies, done = load_energies(path, reference, info)
            if not done.all():
                raise StoreError(f"{path}: damaged (energies are missing); delete it")
            return _read_only(energies)

    target = writable(energy_files(reference, info, directory=directory))
    partial = target.with_name(target.name + ".part")
    if partial.exists():
        energies, done = load_energies(partial, reference, info)
    else:
        energies = np.full(len(reference), math.nan)
        done = np.zeros(len(reference), dtype=bool)
    needed = np.ones(len(reference), dtype=bool) if wanted is None else wanted
    # Crystals of like size together fill a batch evenly.
    waiting = np.flatnonzero(needed & ~done)
    if not len(waiting) and not done.all():
        return _read_only(energies)
    waiting = waiting[np.argsort(reference.n_sites[waiting], kind="stable")]
    if progress is not None:
        progress(int(done[needed].sum()), int(needed.sum()))
    saved = time.monotonic()
    try:
        results = relaxer.energies(_Crystals(reference, waiting))
        for position, energy in zip(waiting.tolist(), results, strict=True):
            energies[position] = energy if math.isfinite(energy) else math.nan
            done[position] = True
            if progress is not None:
                progress(int(done[needed].sum()), int(needed.sum()))
            if time.monotonic() - saved > SAVE_EVERY:
                save_energies(partial, reference, info, energies, done)
                saved = time.monotonic()
    except BaseException:  # an interrupt too must not lose what was computed
        save_energies(partial, reference, info, energies, done)
        raise
    if not done.all():
        save_energies(partial, reference, info, energies, done)
        return _read_only(energies)
    save_energies(target, reference, info, energies, done)
    partial.unlink(missing_ok=True)
    return _read_only(energies)


def energy_files(
    reference: Reference, info: PotentialInfo, *, directory: str | Path | None = None
) -> list[Path]:
    """The paths where the energies are searched, in this order."""
    ending = f".{info.key}{SUFFIX}"
    if directory is not None:
        stem = reference.path.stem if reference.path is not None else _short_name(reference)
        return [Path(directory) / f"{stem}{ending}"]
    return beside_store(reference, ending)


def beside_store(reference: Reference, ending: str) -> list[Path]:
    """The places of a file that belongs to a reference: beside it, then the cache folder."""
    cached = references_folder() / f"{_short_name(reference)}{ending}"
    if reference.path is None:
        return [cached]
    return [reference.path.with_name(f"{reference.path.stem}{ending}"), cached]


def _short_name(reference: Reference) -> str:
    return f"{reference.name}-{reference.crystals_hash[:12]}".replace(os.sep, "_")


def save_energies(
    path: Path,
    reference: Reference,
    info: PotentialInfo,
    energies: np.ndarray,
    done: np.ndarray | None = None,
) -> None:
    """Write energies (eV/atom), with the crystals and the potential to which they belong.

    Raises
    ------
    InputError
        If the file can't be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    mask = None if done is None else ~np.asarray(done, dtype=bool)
    content = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "crystals_hash": reference.crystals_hash,
        "potential": dataclasses.asdict(info),
        "unit": "eV/atom",
    }
    table = pa.table(
        {
            "id": pa.array(reference.ids, type=pa.string()),
            "energy_per_atom": pa.array(
                np.asarray(energies, dtype=np.float64), mask=mask, from_pandas=False
            ),
        }
    ).replace_schema_metadata({_KEY: json.dumps(content, sort_keys=True)})
    with writing(f"{path}:", path.parent), replacing(path) as beside:
        pq.write_table(table, beside)


def load_energies(
    path: Path, reference: Reference, info: PotentialInfo
) -> tuple[np.ndarray, np.ndarray]:
    """Energies (eV/atom), NaN where the potential failed, and a mask of the computed ones.

    Raises
    ------
    StoreError
        If the file is damaged, or belongs to other crystals or another potential.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, memory_map=False)
        content = json.loads((table.schema.metadata or {})[_KEY])
        if content["format"] != _FORMAT:
            raise StoreError(f"{path}: not a file of reference energies")
        version = int(content["format_version"])
        crystals_hash, potential = content["crystals_hash"], content["potential"]
        ids = table.column("id").to_pylist()
        column = table.column("energy_per_atom").combine_chunks()
        done = column.is_valid().to_numpy(zero_copy_only=False)
        energies = column.fill_null(math.nan).to_numpy(zero_copy_only=False).astype(np.float64)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"{path}: damaged ({first_line(error)}); delete it") from error
    if version > _FORMAT_VERSION:
        raise StoreError(f"{path}: written by a newer novelty-metric; upgrade, or delete it")
    if crystals_hash != reference.crystals_hash or tuple(ids) != reference.ids:
        raise StoreError(f"{path}: made for other crystals than {reference.name!r}; delete it")
    if potential != dataclasses.asdict(info):
        raise StoreError(f"{path}: made with another potential than {info.key}; delete it")
    return energies, done.copy()


def writable(candidates: list[Path]) -> Path:
    """The first writable path; never one inside the installed package."""
    for path in candidates[:-1]:
        if path.parent != DATA_FOLDER and os.access(path.parent, os.W_OK):
            return path
    return candidates[-1]


class _Crystals(Sequence["Structure"]):
    """Reference crystals at given positions, made on request."""

    def __init__(self, reference: Reference, positions: np.ndarray) -> None:
        self._reference = reference
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Crystals(self._reference, self._positions[index])
        return self._reference.structure(int(self._positions[index]))


def _read_only(energies: np.ndarray) -> np.ndarray:
    energies.setflags(write=False)
    return energies
