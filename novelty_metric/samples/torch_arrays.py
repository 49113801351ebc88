"""Arrays of a ``.pt`` file: checks, and division into crystals."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

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


Crystals = list[Callable[[], "Structure"]]
"""A function for each crystal that makes it; a `ValueError` gives the reason if it can't."""


def flat_crystals(arrays: Mapping[str, Any], convention: ArrayConvention, path: Path) -> Crystals:
    """The crystals of flat arrays, checked and converted to Å and degrees.

    Lattices are used where there are no lengths, and for Cartesian coordinates, which mean nothing
    without the directions of the cell vectors.

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
        raise InputError(f"{path}: num_atoms contains something other than numbers of atoms")
    num_atoms = num_atoms.astype(np.int64)
    if num_atoms.sum() != len(atom_types):
        raise InputError(
            f"{path}: num_atoms adds up to {num_atoms.sum()} atoms, but atom_types contains "
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
    coords = checked["frac_coords"] * (unit if cartesian else 1.0)
    ends = np.cumsum(num_atoms)

    def crystal(index: int) -> Structure:
        sites = slice(ends[index] - num_atoms[index], ends[index])
        species = _species(atom_types[sites].tolist())
        if lengths is None or angles is None or cartesian:
            assert lattices is not None  # checked above
            cell = (lattices[index] * unit).tolist()
            return crystal_from_matrix(cell, species, coords[sites], cartesian=cartesian)
        edges, corners = (lengths[index] * unit).tolist(), angles[index].tolist()
        return crystal_from_parameters(edges, corners, species, coords[sites])

    return [partial(crystal, index) for index in range(len(num_atoms))]


def listed_crystals(
    records: Sequence[Mapping[str, Any] | None], convention: ArrayConvention, path: Path
) -> Crystals:
    """The crystals of records, each with the arrays of `flat_crystals` for one crystal or a batch.

    Lists of numbers are arrays too; of one crystal, ``num_atoms`` and the first axis of its cell
    may be missing. A record that can't be read (None: one that lacks an array) is one crystal with
    the reason.

    Raises
    ------
    InputError
        If no record can be read, with the reason of the first.
    """
    crystals: Crystals = []
    errors: list[InputError] = []
    for record in records:
        try:
            if record is None:
                raise InputError(f"{path}: atom_types, frac_coords, or the cell is missing")
            crystals += flat_crystals(_with_first_axes(record, path), convention, path)
        except InputError as error:
            errors.append(error)
            crystals.append(partial(_refuse, str(error).removeprefix(f"{path}: ")))
    if len(errors) == len(records):
        raise errors[0]
    return crystals


def _with_first_axes(record: Mapping[str, Any], path: Path) -> dict[str, Array]:
    import numpy as np

    arrays = {}
    for key, value in record.items():
        if isinstance(value, list | tuple):
            with contextlib.suppress(ValueError, TypeError):  # what is no array is refused below
                value = np.array(value)
        arrays[key] = _array(value, key, path)
    for key, n_axes in (("num_atoms", 1), ("lengths", 2), ("angles", 2), ("lattices", 3)):
        if key in arrays and arrays[key].ndim == n_axes - 1:
            arrays[key] = arrays[key][None]
    arrays.setdefault("num_atoms", np.array([arrays["atom_types"].size]))
    return arrays


def _refuse(reason: str) -> NoReturn:
    raise UnreadableCrystal(reason)


def padded_crystals(tokens: Mapping[str, Sequence[Any]], path: Path) -> Crystals:
    """The crystals of tokens: ``A0``, ``F1``, ``Y1`` and ``pad_mask``, an entry per crystal.

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
    rows = zip(*(checked[key] for key in ("A0", "F1", "Y1", "pad_mask")), strict=True)
    return [partial(_without_padding, *row) for row in rows]


def _without_padding(numbers: Array, coords: Array, cell: Array, padding: Array) -> Structure:
    real = ~padding.astype(bool)
    logarithms, cosines = cell[:3].tolist(), cell[3:].tolist()
    species = _species(numbers[real].tolist())
    if any(abs(cosine) > 1 for cosine in cosines):
        raise UnreadableCrystal(f"no angle has the cosine {max(cosines, key=abs):.6g}")
    if not all(logarithm < 20 for logarithm in logarithms):  # also what is not a number
        raise UnreadableCrystal(f"a length is exp({max(logarithms):.4g}) Å")
    lengths = [math.exp(logarithm) for logarithm in logarithms]
    angles = [math.degrees(math.acos(cosine)) for cosine in cosines]
    return crystal_from_parameters(lengths, angles, species, coords[real])


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
            f"{path}: {key} is {what}, not an array of numbers, as in the layouts that are read"
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
