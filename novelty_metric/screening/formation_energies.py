"""Formation energies by composition, in one Parquet file.

The columns are ``numbers`` (atomic numbers, increasing), ``amounts`` (of each element, reduced),
``formation_energy`` (eV/atom) and ``on_hull``; the key ``novelty_metric.formation_energies`` of the
file's metadata holds a JSON object: ``format``, ``format_version``, ``unit``, and `About`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.relaxation.potentials import published_model
from novelty_metric.screening.compositions import CompositionKey, Compositions
from novelty_metric.support.folders import DATA_FOLDER, replacing, writing

MP_20 = DATA_FOLDER / "mp_20.formation_energies.parquet"
"""The packaged file, see ``scripts/make_mp_20_hull.py``."""


def packaged(potential: str) -> Path:
    """The packaged file for the own scale of the potential with this name; it may not exist."""
    published = published_model(potential)
    name = potential if published is None else published.name
    return DATA_FOLDER / f"mp_20.{name}.formation_energies.parquet"


_FORMAT = "novelty-metric formation energies"
_FORMAT_VERSION = 1
_KEY = b"novelty_metric.formation_energies"


@dataclass(frozen=True, kw_only=True)
class About:
    """Origin of formation energies.

    `name` is that of the hull made of them, `date` that of the data (ISO 8601 where known to the
    day); `scheme` says whose energies they are, such as ``MP2020-corrected GGA and GGA+U``.
    """

    name: str
    source: str
    licence: str
    date: str
    scheme: str


_ABOUT = tuple(field.name for field in dataclasses.fields(About))


@dataclass(frozen=True, eq=False)
class FormationEnergies:
    """A formation energy per composition; elements are included, at zero.

    Attributes
    ----------
    compositions : Compositions
        Reduced, each once.
    energies : float64, (N,)
        Formation energy (eV/atom).
    on_hull : bool, (N,)
        The energy is that of the source's own hull, competing phases that are not listed here
        included; elsewhere it is that of the lowest crystal known.
    about : About
    """

    compositions: Compositions
    energies: np.ndarray
    on_hull: np.ndarray
    about: About

    def __len__(self) -> int:
        return len(self.compositions)

    def joined(self, crystals: Mapping[CompositionKey, float]) -> FormationEnergies:
        """These, and the formation energies (eV/atom) of compositions that they lack."""
        added = Compositions.of(crystals)
        mine = self.compositions
        return dataclasses.replace(
            self,
            compositions=Compositions(
                np.concatenate([mine.starts, added.starts[1:] + mine.starts[-1]]),
                np.concatenate([mine.numbers, added.numbers]),
                np.concatenate([mine.amounts, added.amounts]),
            ),
            energies=np.concatenate([self.energies, list(crystals.values())]),
            on_hull=np.concatenate([self.on_hull, np.zeros(len(added), dtype=bool)]),
        )

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over compositions and energies, in their order."""
        digest = hashlib.sha256()
        parts = (self.compositions.starts, self.compositions.numbers, self.compositions.amounts)
        for values, kind in zip((*parts, self.energies), ("<i8", "<i8", "<f8", "<f8"), strict=True):
            digest.update(np.ascontiguousarray(values, dtype=kind).tobytes())
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write the file; integer amounts up to 255 and single-precision energies keep it small.

        Raises
        ------
        InputError
            If it can't be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        starts = pa.array(self.compositions.starts, pa.int32())
        amounts = self.compositions.amounts
        small = bool(np.all((amounts == np.rint(amounts)) & (amounts <= 255)))
        content = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "unit": "eV/atom",
            **dataclasses.asdict(self.about),
        }
        table = pa.table(
            {
                "numbers": pa.ListArray.from_arrays(
                    starts, pa.array(self.compositions.numbers, pa.uint8())
                ),
                "amounts": pa.ListArray.from_arrays(
                    starts, pa.array(amounts, pa.uint8() if small else pa.float64(), safe=False)
                ),
                "formation_energy": pa.array(self.energies, pa.float32()),
                "on_hull": pa.array(self.on_hull, pa.bool_()),
            }
        ).replace_schema_metadata({_KEY: json.dumps(content)})
        with writing(f"{path}:", path.parent), replacing(path) as beside:
            pq.write_table(table, beside, compression="zstd", compression_level=19)

    @classmethod
    def read(cls, path: Path) -> FormationEnergies:
        """The content of a file.

        Raises
        ------
        InputError
            If it can't be read, is damaged, or is not such a file.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # `read_table` would import pyarrow's datasets first, which takes longer than to read.
            with pq.ParquetFile(path) as file:
                table = file.read(use_threads=False).combine_chunks()
            content = json.loads((table.schema.metadata or {})[_KEY])
            if content["format"] != _FORMAT:
                raise InputError(f"{path}: not a file of formation energies")
            if content["format_version"] > _FORMAT_VERSION:
                raise InputError(f"{path}: written by a newer novelty-metric; upgrade")
            about = About(
                **{field.name: content[field.name] for field in dataclasses.fields(About)}
            )
            numbers, amounts = (_chunk(table, name) for name in ("numbers", "amounts"))
            if not numbers.offsets.equals(amounts.offsets):
                raise ValueError("numbers and amounts are not of one length")
            found = cls(
                Compositions(
                    numbers.offsets.to_numpy().astype(np.int64),
                    numbers.values.to_numpy().astype(np.int64),
                    amounts.values.to_numpy().astype(np.float64),
                ),
                _chunk(table, "formation_energy").to_numpy().astype(np.float64),
                _chunk(table, "on_hull").to_numpy(zero_copy_only=False),
                about,
            )
            found._check()
        except OSError as error:
            raise InputError(f"{path}: can't be read ({error.strerror or error})") from error
        except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{path}: no formation energies can be read ({first_line(error)})"
            ) from error
        return found

    def _check(self) -> None:
        sizes, numbers = self.compositions.n_elements, self.compositions.numbers
        if not len(self) or not np.all(sizes > 0) or not np.all((numbers > 0) & (numbers < 128)):
            raise ValueError(
                "a composition without elements, or a number that is not an atomic number"
            )
        if not np.all(self.compositions.amounts > 0) or not np.all(np.isfinite(self.energies)):
            raise ValueError("an amount or an energy is not a usable number")


def _chunk(table: Any, name: str) -> Any:
    """A column as one array, without nulls."""
    column = table.column(name)
    if column.null_count:
        raise ValueError(f"{name} has missing values")
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
