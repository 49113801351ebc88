"""Format ``pt``: files of ``torch.save``, read without running code.

The layout of the arrays is recognised by keys and shapes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.crystals import crystal_from_value, is_structure_dict
from novelty_metric.samples.formats import ARRAY_KEYS, ArrayConvention, ReadOptions
from novelty_metric.samples.source import one_line
from novelty_metric.samples.torch_arrays import (
    Crystals,
    flat_crystals,
    listed_crystals,
    padded_crystals,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

_SITE_KEYS = ("num_atoms", "atom_types", "frac_coords")
_TOKEN_KEYS = ("A0", "F1", "Y1", "pad_mask")


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The crystals in order, evaluation by evaluation. The whole file is held in memory.

    Raises
    ------
    InputError
        If the file can't be loaded, would make objects that may run code, or has no known layout.
    """
    evaluations = _evaluations(path, options)
    for number, crystals in enumerate(evaluations):
        where = f"evaluation {number}, " if len(evaluations) > 1 else ""
        for row, crystal in enumerate(crystals):
            yield Entry(None, f"{where}row {row}", crystal)


def count(path: Path, options: ReadOptions) -> int | None:
    """Number of crystals."""
    return sum(map(len, _evaluations(path, options)))


def _evaluations(path: Path, options: ReadOptions) -> list[Crystals]:
    """The crystals of each evaluation; most files hold one."""
    data = _load(path, allow_pickle=options.allow_pickle)
    convention = options.arrays or ArrayConvention()
    found = _arrays_by_name(data, convention, path)
    if found is None:
        found = _records(data, convention, path)
    if found is None:
        found = _tokens(data, path)
    if found is None:
        found = _structures(data)
    if found is None:
        if isinstance(data, Mapping):
            what = f"a mapping with the keys {_listed(data)}"
        elif isinstance(data, list | tuple) and data and isinstance(data[0], Mapping):
            what = f"a {type(data).__name__} of mappings with the keys {_listed(data[0])}"
        else:
            what = f"a {type(data).__name__}"
        raise InputError(
            f"{path}: contains {what}; the layouts that are read are those of DiffCSP, CDVAE, "
            "FlowMM, "
            f"Crystalite ({', '.join(_SITE_KEYS)}, lengths, angles; or {', '.join(_TOKEN_KEYS)}), "
            "and lists of mappings with the arrays of one crystal each; "
            "other names for the same arrays can be given in a model's config (arrays.keys)"
        )
    if not any(found):
        raise InputError(f"{path}: contains no crystal")
    return found


def _structures(data: Any) -> list[Crystals] | None:
    """The crystals of a list of ``Structure.as_dict()``, or of structures of a pickle."""
    first = data[0] if isinstance(data, list | tuple) and data else None
    if not (is_structure_dict(first) or hasattr(first, "as_dict")):
        return None
    return [[partial(_structure, value) for value in data]]


def _structure(value: Any) -> Structure:
    return crystal_from_value(value.as_dict() if hasattr(value, "as_dict") else value)


def _listed(keys: Iterable[Any]) -> str:
    return one_line(", ".join(map(str, keys)), 100) or "(none)"


def _arrays_by_name(data: Any, convention: ArrayConvention, path: Path) -> list[Crystals] | None:
    """The crystals of a mapping with DiffCSP's arrays; None if one is missing.

    M crystals with N sites in all: ``num_atoms`` (M,), ``atom_types`` (N,), ``frac_coords``
    (N, 3), and ``lengths`` and ``angles`` (M, 3), or ``lattices`` (M, 3, 3). Other keys, such as
    ``eval_setting``, ``spacegroups`` or ``time``, are left out. DiffCSP, DiffCSP++, SymmCD,
    CrystalFlow and FlowMM's ``eval_pt`` have one evaluation; CDVAE a leading axis of evaluations
    in every array, ``num_atoms`` (K, M); FlowMM's ``consolidated_*.pt`` every array in a list.
    """
    if not isinstance(data, Mapping):
        return None
    arrays = _named_arrays(data, convention)
    if not _has_cell(arrays) or not set(_SITE_KEYS) <= arrays.keys():
        return None
    in_lists = isinstance(arrays["num_atoms"], list | tuple)
    n_axes = 2 if in_lists else getattr(arrays["num_atoms"], "ndim", 1)
    if n_axes < 2:
        return [flat_crystals(arrays, convention, path)]
    if n_axes > 2:
        return None
    for key, value in arrays.items():
        if in_lists and not isinstance(value, list | tuple):
            raise InputError(f"{path}: num_atoms is a list of evaluations, but {key} is not a list")
    counts = {key: len(value) for key, value in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{key} {count}" for key, count in counts.items())
        what = "lists" if in_lists else "arrays"
        raise InputError(f"{path}: the {what} have different numbers of evaluations: {listed}")
    return [
        flat_crystals({key: value[index] for key, value in arrays.items()}, convention, path)
        for index in range(counts["num_atoms"])
    ]


def _named_arrays(data: Mapping[str, Any], convention: ArrayConvention) -> dict[str, Any]:
    theirs = {key: convention.keys.get(key, key) for key in ARRAY_KEYS}
    return {key: data[name] for key, name in theirs.items() if name in data}


def _has_cell(arrays: Mapping[str, Any]) -> bool:
    return {"lengths", "angles"} <= arrays.keys() or "lattices" in arrays


def _records(data: Any, convention: ArrayConvention, path: Path) -> list[Crystals] | None:
    """The crystals of a list of mappings with the arrays of one crystal, or of one batch, each.

    The names are those of `_arrays_by_name`; the cell vectors of one crystal may also be called
    ``lattice`` or ``cell``. A record that lacks an array is a crystal that can't be read.
    """
    if not isinstance(data, list | tuple):
        return None
    records = []
    for item in data:
        item = item if isinstance(item, Mapping) else {}
        arrays = _named_arrays(item, convention)
        cell = next((item[name] for name in ("lattice", "cell") if name in item), None)
        if not _has_cell(arrays) and cell is not None:
            arrays["lattices"] = cell
        is_whole = _has_cell(arrays) and {"atom_types", "frac_coords"} <= arrays.keys()
        records.append(arrays if is_whole else None)
    return [listed_crystals(records, convention, path)] if any(records) else None


def _tokens(data: Any, path: Path) -> list[Crystals] | None:
    """Crystalite's ``samples.pt``: a list of crystals as tokens, or one stack of them.

    ``A0`` (n,) atomic numbers, ``F1`` (n, 3) fractional coordinates, ``Y1`` (6,) logarithms of the
    lengths in Å and cosines of the angles, ``pad_mask`` (n,) True where a token is padding.
    """
    if isinstance(data, Mapping) and set(_TOKEN_KEYS) <= data.keys():
        return [padded_crystals({key: list(data[key]) for key in _TOKEN_KEYS}, path)]
    if not isinstance(data, list | tuple) or not data:
        return None
    if not all(isinstance(item, Mapping) and set(_TOKEN_KEYS) <= item.keys() for item in data):
        return None
    return [padded_crystals({key: [item[key] for item in data] for key in _TOKEN_KEYS}, path)]


def _load(path: Path, *, allow_pickle: bool) -> Any:
    """The content of the file, on the CPU: tensors, plain values and classes of `torch_classes`."""
    import torch

    from novelty_metric.samples.torch_classes import allowed_classes

    try:
        with torch.serialization.safe_globals(list(allowed_classes())), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of other kinds of file, we say below
            return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:  # a damaged file may raise anything
        # "Unsupported global: GLOBAL a.B was not…" or "…unsupported GLOBAL a.B whose module…"
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused is None:
            raise InputError(
                f"{path}: torch.load can't read it ({one_line(_last_line(error))})"
            ) from error
        raise InputError(
            f"{path}: contains an object of {refused[1]}, which is not loaded because it could run "
            "code; allow_pickle=true loads it; use it only for a file that you trust"
        ) from error


def _last_line(error: Exception) -> str:
    """The reason in torch's error message, which follows a long introduction."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if "error" in line.lower()] or lines
    return reasons[-1] if reasons else type(error).__name__
