"""The supported formats, and the settings of their readers.

Standard library only; a format's module is imported when a file of that format is read.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry

ARRAY_KEYS = ("num_atoms", "atom_types", "frac_coords", "lengths", "angles", "lattices")
"""Names of the arrays of a ``.pt`` file in DiffCSP and FlowMM."""

ANGLE_UNITS = ("degrees", "radians")
LENGTH_UNITS = {"angstrom": 1.0, "nm": 10.0, "bohr": 0.529177210544}
"""Å per unit; CODATA 2022 for the Bohr radius."""
COORDINATES = ("fractional", "cartesian")
_NO_OTHER_KEYS = {"extra": "forbid"}
"""Type for pydantic, which checks the conventions in a model's config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayConvention:
    """Conventions of the arrays of a ``.pt`` file, which the file itself does not state.

    Attributes
    ----------
    keys : mapping
        From one of `ARRAY_KEYS` to the name that the file has for it, where they differ.
    angles : str
        ``"degrees"`` or ``"radians"``.
    lengths : str
        Unit of lengths, lattices and Cartesian coordinates: ``"angstrom"``, ``"nm"``, ``"bohr"``.
    coordinates : str
        ``"fractional"`` or ``"cartesian"``; the latter needs ``lattices``.

    Raises
    ------
    InputError
        If one of them is not one of these.
    """

    __pydantic_config__ = _NO_OTHER_KEYS
    keys: Mapping[str, str] = field(default_factory=dict)
    angles: str = "degrees"
    lengths: str = "angstrom"
    coordinates: str = "fractional"

    def __post_init__(self) -> None:
        for name, known in (
            ("angles", ANGLE_UNITS),
            ("lengths", tuple(LENGTH_UNITS)),
            ("coordinates", COORDINATES),
        ):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"arrays.{name} is {value!r}; known: {', '.join(known)}")
        for key in self.keys:
            if key not in ARRAY_KEYS:
                raise InputError(f"arrays.keys names {key!r}; known: {', '.join(ARRAY_KEYS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options of a reader; those of `novelty_metric.samples.read_samples`, and a name.

    `name` stands for the file in the ids of its crystals; empty for its own name.
    """

    column: str | None = None
    columns: Sequence[str] = ()
    energies: str | None = None
    arrays: ArrayConvention | None = None
    id_column: str | None = None
    allow_pickle: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes
    ----------
    name : str
    description : str
        One line for a list of formats.
    module : str
        Of this room, with ``read(path, options) -> Iterator[Entry]`` and, where the number of
        crystals is cheap to tell, ``count(path, options) -> int | None``; or ``read_NAME`` and
        ``count_NAME`` in a module of several formats. Ids need not be unique yet.
    takes_column : bool
        Whether `ReadOptions.column` means something.
    takes_id_column : bool
        Whether `ReadOptions.id_column` does, and `ReadOptions.energies`.
    is_whole : bool
        Whether a file is held in memory as a whole, however little of it is parsed.
    """

    name: str
    description: str
    module: str
    takes_column: bool = False
    takes_id_column: bool = False
    is_whole: bool = False

    def read(self, path: Path, options: ReadOptions) -> Iterator[Entry]:
        """The crystals of a file of this format, in file order."""
        entries: Iterator[Entry] = self._function("read")(path, options)
        return entries

    def count(self, path: Path, options: ReadOptions) -> int | None:
        """Number of crystals in the file; None if counting is expensive."""
        counter = self._function("count")
        return None if counter is None else counter(path, options)

    def _function(self, name: str) -> Any:
        module = importlib.import_module(f"novelty_metric.samples.{self.module}")
        return getattr(module, f"{name}_{self.name}", None) or getattr(module, name, None)


_FILES = "of CIF, POSCAR, extxyz or JSON files"
_COLUMN = "with a column of CIF text, paths of CIF files, or pymatgen structures"

FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format("cif", "CIF file; every data_ block is a crystal", "cif_text"),
        Format("folder", f"folder {_FILES}, its subfolders too", "members"),
        Format("zip", f"zip archive {_FILES}", "members"),
        Format("tar", f"tar archive {_FILES}, such as .tar.gz", "members"),
        Format("poscar", "POSCAR or CONTCAR of VASP, one crystal per file", "poscar"),
        Format("extxyz", "extended XYZ, one frame per crystal", "extxyz", takes_id_column=True),
        Format("csv", f"table {_COLUMN}", "tables", takes_column=True, takes_id_column=True),
        Format(
            "parquet",
            f"Parquet table {_COLUMN}",
            "tables",
            takes_column=True,
            takes_id_column=True,
        ),
        Format(
            "json",
            "JSON of pymatgen structures: list, mapping or one",
            "json_files",
            takes_id_column=True,
            is_whole=True,
        ),
        Format(
            "jsonl", "JSON lines, one pymatgen structure a line", "json_files", takes_id_column=True
        ),
        Format("pt", "torch.save of arrays, as DiffCSP and others do", "torch_file", is_whole=True),
    )
}
"""The formats by name."""
