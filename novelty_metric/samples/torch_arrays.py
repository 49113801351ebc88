"""Arrays of a ``.pt`` file: checks, and division into crystals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError
from novelty_metric.samples.crystals import (
    UnreadableCrystal,
    crystal_from_matrix,
    crystal_from_parameters,
    element,
)
from novelty_metric.samples.formats import LENGTH_UNITS, ArrayConvention
from novelty_metric.samples.source import one_line
from novelty_metric.samples.torch_classes import StoredArray

if TYPE_CHECKING:
    import numpy as np
    from pymatgen.core import Element, Structure

    Array = np.ndarray[Any, np.dtype[Any]]

LATTICE_TOLERANCE = 0.01
"""Maximum relative difference between the lengths of a lattice and the lengths given beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatCrystals:
    """M crystals with N sites in total, one after the other.

    Attributes
    ----------
    num_atoms : array
        Sites of each crystal, ``(M,)``.
    ends : array
        Sites of it and of those before it, ``(M,)``.
    atom_types : array
        Atomic number of each site, ``(N,)``.
    coords : array
        Fractional coordinates, or Cartesian ones (Å), ``(N, 3)``.
    cartesian : bool
    lengths, angles : array or None
        a, b, c (Å) and α, β, γ (degrees), ``(M, 3)``.
    lattices : array or None
        Cell vectors as rows (Å), ``(M, 3, 3)``; used where there are no lengths, and for Cartesian
        coordinates, which mean nothing without the directions of the cell vectors.
    """

    num_atoms: Array
    ends: Array
    atom_types: Array
    coords: Array
    cartesian: bool = False
    lengths: Array | None = None
    angles: Array | None = None
    lattices: Array | None = None

    def __len__(self) -> int:
        return len(self.num_atoms)

    def crystal(self, index: int) -> Structure:
        """Make one crystal. A `ValueError` gives the reason if this is impossible."""
        end = int(self.ends[index])
        sites = slice(end - int(self.num_atoms[index]), end)
        species = _species(self.atom_types[sites].tolist())
        coords = self.coords[sites]
        if self.lengths is None or self.angles is None or self.cartesian:
            assert self.lattices is not None  # checked when the batch was made
            return crystal_from_matrix(
                self.lattices[index].tolist(), species, coords, cartesian=self.cartesian
            )
        return crystal_from_parameters(
            self.lengths[index].tolist(), self.angles[index].tolist(), species, coords
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedCrystals:
    """M crystals as tokens, including padding.

    Attributes
    ----------
    atom_types, frac_coords, padding : sequence of arrays
        ``(n,)``, ``(n, 3)`` and ``(n,)`` of each crystal.
    cells : sequence of arrays
        Logarithms of the lengths (Å), then cosines of the angles, ``(6,)`` of each crystal.
    """

    atom_types: Sequence[Array]
    frac_coords: Sequence[Array]
    padding: Sequence[Array]
    cells: Sequence[Array]

    def __len__(self) -> int:
        return len(self.atom_types)

    def crystal(self, index: int) -> Structure:
        """Make one crystal. A `ValueError` gives the reason if this is impossible."""
        real = ~self.padding[index].astype(bool)
        species = _species(self.atom_types[index][real].tolist())
        logarithms, cosines = (
            part.tolist() for part in (self.cells[index][:3], self.cells[index][3:])
        )
        if any(abs(cosine) > 1 for cosine in cosines):
            raise UnreadableCrystal(f"no angle has the cosine {max(cosines, key=abs):.6g}")
        if not all(logarithm < 20 for logarithm in logarithms):  # also what is not a number
            raise UnreadableCrystal(f"a length is exp({max(logarithms):.4g}) Å")
        lengths = [math.exp(logarithm) for logarithm in logarithms]
        angles = [math.degrees(math.acos(cosine)) for cosine in cosines]
        return crystal_from_parameters(lengths, angles, species, self.frac_coords[index][real])


Batch = FlatCrystals | PaddedCrystals


def flat_crystals(
    arrays: Mapping[str, Any], convention: ArrayConvention, path: Path
) -> FlatCrystals:
    """Check flat arrays and convert them to Å and degrees.

    Raises
    ------
    InputError
        If the arrays do not fit together, or are not what the convention says they are.
    """
    import numpy as np

    checked = {key: _array(value, key, path) for key, value in arrays.items()}
    num_atoms, atom_types = checked["num_atoms"], checked["atom_types"]
    _check_shapes(checked, path)
    if (num_atoms < 0).any() or (num_atoms != np.floor(num_atoms)).any():
        raise InputError(f"{path}: num_atoms holds something other than numbers of atoms")
    num_atoms = num_atoms.astype(np.int64)
    if num_atoms.sum() != len(atom_types):
        raise InputError(
            f"{path}: num_atoms adds up to {num_atoms.sum()} atoms, but atom_types holds "
            f"{len(atom_types)}: the arrays do not belong together"
        )
    lengths, angles, lattices = (checked.get(key) for key in ("lengths", "angles", "lattices"))
    if angles is not None:
        angles = _in_degrees(angles, convention.angles, path)
    unit = LENGTH_UNITS[convention.lengths]
    cartesian = convention.coordinates == "cartesian"
    if cartesian and lattices is None:
        raise InputError(
            f"{path}: Cartesian coordinates need the cell vectors, an array lattices (M, 3, 3); "
            "lengths and angles do not give the orientation of the cell"
        )
    if lengths is not None and lattices is not None:
        _check_lattices(lengths, lattices, path)
    return FlatCrystals(
        num_atoms=num_atoms,
        ends=np.cumsum(num_atoms),
        atom_types=atom_types,
        coords=checked["frac_coords"] * (unit if cartesian else 1.0),
        cartesian=cartesian,
        lengths=None if lengths is None else lengths * unit,
        angles=angles,
        lattices=None if lattices is None else lattices * unit,
    )


def padded_crystals(tokens: Mapping[str, Sequence[Any]], path: Path) -> PaddedCrystals:
    """Check tokens: ``A0``, ``F1``, ``Y1`` and ``pad_mask``, an entry per crystal.

    Raises
    ------
    InputError
        If they do not fit together.
    """
    checked = {
        key: [_array(value, key, path) for value in values] for key, values in tokens.items()
    }
    counts = {key: len(values) for key, values in checked.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise InputError(f"{path}: different numbers of crystals: {listed}")
    for index, types in enumerate(checked["A0"]):
        n_tokens = types.size
        expected = {"A0": (n_tokens,), "F1": (n_tokens, 3), "Y1": (6,), "pad_mask": (n_tokens,)}
        for key, shape in expected.items():
            found = checked[key][index].shape
            if found != shape:
                raise InputError(
                    f"{path}: {key} of crystal {index} has the shape {found} where Crystalite's "
                    f"layout has {shape}"
                )
    return PaddedCrystals(
        atom_types=checked["A0"],
        frac_coords=checked["F1"],
        cells=checked["Y1"],
        padding=checked["pad_mask"],
    )


def _species(numbers: Sequence[float]) -> list[Element]:
    species = []
    for number in numbers:
        if not math.isfinite(number) or number != int(number):
            raise UnreadableCrystal(f"atomic number {number} is not an element")
        species.append(element(int(number)))
    return species


def _in_degrees(angles: Array, unit: str, path: Path) -> Array:
    """The angles in degrees; angles impossible in the stated unit are refused."""
    import numpy as np

    finite = angles[np.isfinite(angles)]
    if not finite.size:
        return angles
    largest = float(finite.max())
    if unit == "degrees" and largest <= math.pi:
        raise InputError(
            f"{path}: no angle is above {largest:.4g}: angles are expected in degrees, and these "
            "look like radians; if they are, add model.arrays.angles=radians"
        )
    if unit == "radians" and largest > math.pi:
        raise InputError(
            f"{path}: an angle is {largest:.4g}; this cannot be radians, which arrays.angles gives"
        )
    return np.degrees(angles) if unit == "radians" else angles


def _check_lattices(lengths: Array, lattices: Array, path: Path) -> None:
    """Refuse lengths and lattices that describe different cells for most crystals."""
    import numpy as np

    with np.errstate(all="ignore"):
        norms = np.linalg.norm(lattices, axis=2)
        difference = np.abs(norms - lengths).max(axis=1) / np.abs(lengths).max(axis=1)
    difference = difference[np.isfinite(difference)]
    if difference.size and np.median(difference) > LATTICE_TOLERANCE:
        raise InputError(
            f"{path}: lengths and lattices describe different cells (typically by "
            f"{100 * np.median(difference):.0f} %): the arrays do not belong together"
        )


MAX_ARRAY_BYTES = 2_000_000_000
"""Maximum size of an array made from a tensor. A few bytes in a file can stand for any number of
zeros (sparse) or copies (expanded).
"""


def _array(value: Any, key: str, path: Path) -> Array:
    import numpy as np

    if isinstance(value, StoredArray):
        value = value.array
    elif hasattr(value, "detach"):
        value = _dense(value, key, path)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iufb":
        is_array = isinstance(value, np.ndarray)
        what = f"an array of {value.dtype}" if is_array else f"a {type(value).__name__}"
        raise InputError(
            f"{path}: {key} is {what} and not an array of numbers, as in the layouts that are read"
        )
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _dense(tensor: Any, key: str, path: Path) -> Any:
    """A NumPy array of a tensor: sparse, quantised, of low precision, or on another device."""
    import torch

    try:
        tensor = tensor.detach()
        if tensor.is_nested:
            raise ValueError("a nested tensor, whose rows differ in length")
        if tensor.is_meta:
            raise ValueError("a tensor without its numbers (device meta)")
        if tensor.numel() * 8 > MAX_ARRAY_BYTES:
            raise ValueError(f"{tensor.numel()} numbers, more than fit in 2 GB")
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        tensor = tensor.cpu().resolve_conj().resolve_neg()
        return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
    except Exception as error:  # torch raises types of its own, which change by version
        raise InputError(
            f"{path}: {key} can't be read ({one_line(error)}); save it as a plain tensor of numbers"
        ) from error


def _check_shapes(arrays: Mapping[str, Array], path: Path) -> None:
    import numpy as np

    n_crystals, n_sites = arrays["num_atoms"].size, len(np.atleast_1d(arrays["atom_types"]))
    expected = {
        "num_atoms": (n_crystals,),
        "atom_types": (n_sites,),
        "frac_coords": (n_sites, 3),
        "lengths": (n_crystals, 3),
        "angles": (n_crystals, 3),
        "lattices": (n_crystals, 3, 3),
    }
    for key, array in arrays.items():
        if array.shape != expected[key]:
            hint = ""
            if len(array.shape) == len(expected[key]) + 1:
                hint = "; one more axis, as of a trajectory or of probabilities, is not read"
            raise InputError(
                f"{path}: {key} has the shape {array.shape} where DiffCSP's layout has "
                f"{expected[key]}{hint}"
            )
