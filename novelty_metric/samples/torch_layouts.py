"""The layouts of arrays in a ``.pt`` file, each recognised by its keys and shapes.

A new layout is a function from what was loaded to `FlatCrystals`, or None if it is not its own;
it goes into `LAYOUTS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError
from novelty_metric.samples.crystals import UnreadableCrystal, crystal_from_parameters, element
from novelty_metric.samples.source import one_line

if TYPE_CHECKING:
    import numpy as np
    from pymatgen.core import Structure

    Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatCrystals:
    """M crystals with N sites in all, one after the other.

    Attributes
    ----------
    num_atoms : array
        Sites of each crystal, ``(M,)``.
    atom_types : array
        Atomic number of each site, ``(N,)``.
    frac_coords : array
        Fractional coordinates, ``(N, 3)``.
    lengths : array
        a, b, c (Å), ``(M, 3)``.
    angles : array
        α, β, γ (degrees), ``(M, 3)``.
    """

    num_atoms: Array
    atom_types: Array
    frac_coords: Array
    lengths: Array
    angles: Array

    def __len__(self) -> int:
        return len(self.num_atoms)

    def __iter__(self) -> Iterator[tuple[Structure | None, str | None]]:
        """Each crystal, or None and the reason why it can't be built."""
        start = 0
        for index, n_sites in enumerate(self.num_atoms.tolist()):
            sites = slice(start, start + n_sites)
            start += n_sites
            try:
                yield self._crystal(index, sites), None
            except UnreadableCrystal as error:
                yield None, str(error)
            except Exception as error:  # numbers of a model may break pymatgen in any way
                yield None, one_line(error)

    def _crystal(self, index: int, sites: slice) -> Structure:
        species = []
        for number in self.atom_types[sites].tolist():
            if not math.isfinite(number) or number != int(number):
                raise UnreadableCrystal(f"atomic number {number} is not an element")
            species.append(element(int(number)))
        return crystal_from_parameters(
            self.lengths[index].tolist(),
            self.angles[index].tolist(),
            species,
            self.frac_coords[sites],
        )


_KEYS = ("num_atoms", "atom_types", "frac_coords", "lengths", "angles")


def diffcsp(data: Any, path: Path) -> FlatCrystals | None:
    """DiffCSP, DiffCSP++ and those who write as they do: a mapping with five flat arrays.

    Other keys, such as ``eval_setting``, are left out.

    Raises
    ------
    InputError
        If the arrays do not fit together, or the angles can only be radians.
    """
    import numpy as np

    if not isinstance(data, Mapping) or not set(_KEYS) <= data.keys():
        return None
    arrays = {key: _array(data[key], key, path) for key in _KEYS}
    num_atoms, atom_types = arrays["num_atoms"], arrays["atom_types"]
    _check_shapes(arrays, path)
    if (num_atoms < 0).any() or (num_atoms != np.floor(num_atoms)).any():
        raise InputError(f"{path}: num_atoms holds something other than numbers of atoms")
    num_atoms = num_atoms.astype(np.int64)
    if num_atoms.sum() != len(atom_types):
        raise InputError(
            f"{path}: num_atoms adds up to {num_atoms.sum()} atoms, but atom_types holds "
            f"{len(atom_types)}: the arrays do not belong together"
        )
    angles = arrays["angles"][np.isfinite(arrays["angles"])]
    if angles.size and angles.max() <= math.pi:
        raise InputError(
            f"{path}: no angle is above {angles.max():.4g}: angles are expected in degrees, "
            "and these look like radians"
        )
    return FlatCrystals(
        num_atoms=num_atoms,
        atom_types=atom_types,
        frac_coords=arrays["frac_coords"],
        lengths=arrays["lengths"],
        angles=arrays["angles"],
    )


def _array(value: Any, key: str, path: Path) -> Array:
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.double() if value.is_floating_point() else value).numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: {key} is a {type(value).__name__} and not an array of numbers, as in "
            "DiffCSP's layout"
        )
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _check_shapes(arrays: Mapping[str, Array], path: Path) -> None:
    n_crystals, n_sites = len(_one(arrays, "num_atoms")), len(_one(arrays, "atom_types"))
    expected = {
        "num_atoms": (n_crystals,),
        "atom_types": (n_sites,),
        "frac_coords": (n_sites, 3),
        "lengths": (n_crystals, 3),
        "angles": (n_crystals, 3),
    }
    for key, shape in expected.items():
        found = arrays[key].shape
        if found != shape:
            hint = ""
            if len(found) == len(shape) + 1:
                hint = "; a leading axis of evaluations, as CDVAE writes it, is not read"
            raise InputError(
                f"{path}: {key} has the shape {found} where DiffCSP's layout has {shape}{hint}"
            )


def _one(arrays: Mapping[str, Array], key: str) -> Array:
    """The array as a flat one, so that its length is that of its last axis."""
    array = arrays[key]
    return array if array.ndim == 1 else array.reshape(-1)


Layout = Callable[[Any, Path], FlatCrystals | None]

LAYOUTS: dict[str, Layout] = {"DiffCSP": diffcsp}
"""The layouts by the model that first wrote them, tried in this order."""


def find_layout(data: Any, path: Path) -> FlatCrystals:
    """The crystals of a loaded file.

    Raises
    ------
    InputError
        If the file has no known layout, or has one and does not keep to it.
    """
    for layout in LAYOUTS.values():
        crystals = layout(data, path)
        if crystals is not None:
            if not len(crystals):
                raise InputError(f"{path}: holds no crystal")
            return crystals
    if isinstance(data, Mapping):
        found = f"a mapping with the keys {one_line(', '.join(map(str, data)), 100) or '(none)'}"
    else:
        found = f"a {type(data).__name__}"
    raise InputError(
        f"{path}: holds {found}; the layouts that are read are {', '.join(LAYOUTS)}'s "
        f"({', '.join(_KEYS)})"
    )
