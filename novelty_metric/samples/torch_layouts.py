"""The layouts of arrays in a ``.pt`` file, each recognised by its keys and shapes.

A new layout is a function from what was loaded to its batches, or None if it is not its own; it
goes into `LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.samples.formats import ARRAY_KEYS, ArrayConvention
from novelty_metric.samples.source import one_line
from novelty_metric.samples.torch_arrays import Batch, flat_crystals, padded_crystals

_SITE_KEYS = ("num_atoms", "atom_types", "frac_coords")
_TOKEN_KEYS = ("A0", "F1", "Y1", "pad_mask")


def diffcsp(data: Any, convention: ArrayConvention, path: Path) -> list[Batch] | None:
    """A mapping with flat arrays: DiffCSP, DiffCSP++, SymmCD, CrystalFlow, FlowMM's ``eval_pt``.

    M crystals with N sites in all: ``num_atoms`` (M,), ``atom_types`` (N,), ``frac_coords``
    (N, 3), and ``lengths`` and ``angles`` (M, 3), or ``lattices`` (M, 3, 3). Other keys, such as
    ``eval_setting``, ``spacegroups`` or ``time``, are left out.
    """
    arrays = _named(data, convention)
    if arrays is None or isinstance(arrays["num_atoms"], list | tuple):
        return None
    if getattr(arrays["num_atoms"], "ndim", 1) > 1:
        return None
    return [flat_crystals(arrays, convention, path)]


def cdvae(data: Any, convention: ArrayConvention, path: Path) -> list[Batch] | None:
    """CDVAE: as `diffcsp`, every array with a leading axis of evaluations, ``num_atoms`` (K, M).

    The crystals of one evaluation come after those of the one before.
    """
    arrays = _named(data, convention)
    if arrays is None or getattr(arrays["num_atoms"], "ndim", 1) != 2:
        return None
    return _each_evaluation(arrays, "arrays", convention, path)


def flowmm(data: Any, convention: ArrayConvention, path: Path) -> list[Batch] | None:
    """FlowMM's ``consolidated_*.pt``: as `diffcsp`, every array in a list, one per evaluation."""
    arrays = _named(data, convention)
    if arrays is None or not isinstance(arrays["num_atoms"], list | tuple):
        return None
    odd = [key for key, value in arrays.items() if not isinstance(value, list | tuple)]
    if odd:
        raise InputError(f"{path}: num_atoms is a list of evaluations, but {odd[0]} is not a list")
    return _each_evaluation(arrays, "lists", convention, path)


def crystalite(data: Any, convention: ArrayConvention, path: Path) -> list[Batch] | None:
    """Crystalite's ``samples.pt``: a list of crystals as tokens, or one stack of them.

    ``A0`` (n,) atomic numbers, ``F1`` (n, 3) fractional coordinates, ``Y1`` (6,) logarithms of the
    lengths in Å and cosines of the angles, ``pad_mask`` (n,) True where a token is padding.
    """
    if isinstance(data, Mapping) and set(_TOKEN_KEYS) <= data.keys():
        tokens = {key: list(data[key]) for key in _TOKEN_KEYS}
        return [padded_crystals(tokens, path)]
    if not isinstance(data, list | tuple) or not data:
        return None
    if not all(isinstance(item, Mapping) and set(_TOKEN_KEYS) <= item.keys() for item in data):
        return None
    return [padded_crystals({key: [item[key] for item in data] for key in _TOKEN_KEYS}, path)]


def _named(data: Any, convention: ArrayConvention) -> dict[str, Any] | None:
    """The arrays with DiffCSP's names; None if one is missing."""
    if not isinstance(data, Mapping):
        return None
    theirs = {key: convention.keys.get(key, key) for key in ARRAY_KEYS}
    arrays = {key: data[name] for key, name in theirs.items() if name in data}
    cell = {"lengths", "angles"} <= arrays.keys() or "lattices" in arrays
    return arrays if cell and set(_SITE_KEYS) <= arrays.keys() else None


def _each_evaluation(
    arrays: Mapping[str, Any], what: str, convention: ArrayConvention, path: Path
) -> list[Batch]:
    counts = {key: len(value) for key, value in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise InputError(f"{path}: the {what} have different numbers of evaluations: {listed}")
    return [
        flat_crystals({key: value[index] for key, value in arrays.items()}, convention, path)
        for index in range(counts["num_atoms"])
    ]


Layout = Callable[[Any, ArrayConvention, Path], list[Batch] | None]

LAYOUTS: dict[str, Layout] = {
    "DiffCSP": diffcsp,
    "CDVAE": cdvae,
    "FlowMM": flowmm,
    "Crystalite": crystalite,
}
"""The layouts by the model that introduced them, tried in this order."""


def find_layout(data: Any, convention: ArrayConvention, path: Path) -> list[Batch]:
    """The crystals of a loaded file, one batch per evaluation; most files hold one.

    Raises
    ------
    InputError
        If the file has no known layout, or has one and does not keep to it.
    """
    for layout in LAYOUTS.values():
        batches = layout(data, convention, path)
        if batches is not None:
            if not sum(map(len, batches)):
                raise InputError(f"{path}: holds no crystal")
            return batches
    if isinstance(data, Mapping):
        found = f"a mapping with the keys {one_line(', '.join(map(str, data)), 100) or '(none)'}"
    elif isinstance(data, list | tuple) and data and isinstance(data[0], Mapping):
        keys = one_line(", ".join(map(str, data[0])), 100) or "(none)"
        found = f"a {type(data).__name__} of mappings with the keys {keys}"
    else:
        found = f"a {type(data).__name__}"
    raise InputError(
        f"{path}: holds {found}; the layouts that are read are those of {', '.join(LAYOUTS)} "
        f"({', '.join(_SITE_KEYS)}, lengths, angles; or {', '.join(_TOKEN_KEYS)}); other names "
        "for the same arrays can be given in a model's config (arrays.keys)"
    )
