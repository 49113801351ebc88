"""One crystal: checks on input, reduction, symmetry."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.errors import CrystalError
from novelty_metric.primitive import niggli, primitive

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

MIN_DISTANCE = 0.1
"""Two sites closer than this (Å) are coincident; a potential has no meaning there."""

SHORTEST_VALID_DISTANCE = 0.5
"""No crystal has two atoms closer than this (Å).

Source: the check of structures of CDVAE (Xie et al., ICLR 2022).
"""

SHORTEST_PERIOD = 0.5
"""The symmetry of a cell with a shorter vector (Å) is not searched. No material has such a cell,
and spglib needs up to half a minute before it fails.
"""

MAX_COORDINATE = 1e6
"""Above this value a fractional coordinate has lost its position in the cell to rounding."""


def clean(structure: Any, *, max_sites: int | None = None) -> Structure:
    """The crystal in the form that the method uses: ordered, neutral species, no site properties.

    Oxidation states and labels are dropped, deuterium and tritium become hydrogen.

    Parameters
    ----------
    structure : pymatgen Structure or ASE Atoms
    max_sites : int, optional
        Refuse a crystal with more sites.

    Raises
    ------
    CrystalError
        If the crystal has no sites, too many, a partly occupied site, something that is not an
        element, a number that is not finite, a cell without volume, a coordinate beyond
        `MAX_COORDINATE`, or coincident atoms.
    """
    from pymatgen.core import DummySpecies, Element, Lattice, Structure

    structure = _to_pymatgen(structure)
    n_sites = len(structure)
    if n_sites == 0:
        raise CrystalError("no atoms")
    if max_sites is not None and n_sites > max_sites:
        raise CrystalError(f"{n_sites} sites, more than max_sites={max_sites}")
    if not structure.is_ordered:
        raise CrystalError("partly occupied or mixed sites")

    numbers = []
    for site in structure:
        specie = site.specie
        if isinstance(specie, DummySpecies):
            raise CrystalError(f"{specie.symbol!r} is not an element")
        element = specie if isinstance(specie, Element) else specie.element
        numbers.append(element.Z)

    matrix = np.array(structure.lattice.matrix, dtype=float)
    frac_coords = np.array(structure.frac_coords, dtype=float)
    if not np.isfinite(matrix).all():
        raise CrystalError("the cell contains a number that is not finite")
    if not np.isfinite(frac_coords).all():
        raise CrystalError("the coordinates contain a number that is not finite")
    furthest = float(np.abs(frac_coords).max())
    if furthest > MAX_COORDINATE:
        raise CrystalError(f"a fractional coordinate is {furthest:.3g}")
    volume = abs(float(np.linalg.det(matrix)))
    longest = float(np.linalg.norm(matrix, axis=1).max())
    if not math.isfinite(volume) or volume < 1e-3 or volume < 1e-6 * longest**3:
        raise CrystalError(f"the cell has no volume ({volume:.3g} Å³)")
    if longest > 1e4:
        raise CrystalError(f"the cell is {longest:.3g} Å long")
    cleaned = Structure(
        Lattice(matrix), [Element.from_Z(z) for z in numbers], frac_coords, to_unit_cell=False
    )
    shortest = shortest_distance(cleaned)
    if shortest < MIN_DISTANCE:
        raise CrystalError(f"coincident atoms ({shortest:.3g} Å apart)")
    return cleaned


def in_site_order(structure: Structure) -> Structure:
    """The crystal with its sites in the order of pymatgen's ``get_sorted_structure()``.

    The method takes the first match in pymatgen's order, which depends on the order of the sites.
    This is the one that pymatgen's CIF writer uses; sites of one element stay as they were. The few
    elements without an electronegativity, for which pymatgen's order depends on what is given, come
    last, by their symbols.

    Parameters
    ----------
    structure : Structure
        Of elements.
    """
    from pymatgen.core import Structure

    symbols = [site.specie.symbol for site in structure]
    order = sorted(range(len(symbols)), key=lambda at: _electronegativity_order(symbols[at]))
    if order == list(range(len(symbols))):
        return structure
    return Structure(
        structure.lattice,
        [symbols[at] for at in order],
        structure.frac_coords[order],
        to_unit_cell=False,
    )


@cache
def _electronegativity_order(symbol: str) -> tuple[float, str]:
    """Sorting key of an element in pymatgen's order of sites: Pauling electronegativity, then
    symbol.
    """
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an element that has none
        value = float(Element(symbol).X)
    return (math.inf if math.isnan(value) else value), symbol


def _to_pymatgen(structure: Any) -> Structure:
    from pymatgen.core import IStructure, Structure

    if isinstance(structure, Structure):
        return structure
    if isinstance(structure, IStructure):
        return Structure.from_sites(structure)
    # Told by name, as importing ASE only to ask would cost every caller.
    if any(base.__module__.startswith("ase.") for base in type(structure).__mro__):
        from pymatgen.io.ase import AseAtomsAdaptor

        try:
            rank = structure.cell.rank
            if rank == 3:
                return AseAtomsAdaptor.get_structure(structure)
        except Exception as error:
            reason = first_line(error)
            raise CrystalError(f"ASE Atoms could not be converted ({reason})") from error
        raise CrystalError(f"the cell has no volume ({rank} independent cell vectors)")
    raise CrystalError(
        f"{type(structure).__name__} is neither a pymatgen Structure nor an ASE Atoms"
    )


def shortest_distance(structure: Structure) -> float:
    """Shortest distance between two sites, including a site and its own images (Å)."""
    lattice, n_sites = structure.lattice, len(structure)
    # In an LLL-reduced cell the shortest lattice vector is a sum of these.
    steps = np.array([step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)])
    shortest = float(np.linalg.norm(steps @ lattice.lll_matrix, axis=1).min())
    if n_sites < 2:
        return shortest
    distances = lattice.get_all_distances(structure.frac_coords, structure.frac_coords)
    return min(shortest, float(distances[np.triu_indices(n_sites, k=1)].min()))


def reduce(structure: Structure) -> Structure:
    """Primitive cell (pymatgen's default tolerance), then Niggli cell.

    Raises
    ------
    CrystalError
        If pymatgen can't reduce the cell, or there is too much to look at; see `primitive`.
    """
    try:
        return niggli(primitive(structure))
    except CrystalError as error:
        raise CrystalError(f"the cell could not be reduced: {error}") from error
    except Exception as error:
        raise CrystalError(f"the cell could not be reduced ({first_line(error)})") from error


@dataclass(frozen=True, slots=True)
class Symmetry:
    """Space group and orbits of a crystal in the given cell.

    Attributes
    ----------
    space_group : int
        Number, 1 to 230.
    letters : tuple of str
        Wyckoff letter of each site, ``(n_sites,)``.
    orbits : tuple of int
        For each site the lowest index of a site of its orbit, ``(n_sites,)``.
    n_operations : int
        Symmetry operations of the cell; 0 where they were not counted.
    """

    space_group: int
    letters: tuple[str, ...]
    orbits: tuple[int, ...]
    n_operations: int = 0

    @property
    def crystal_system(self) -> str:
        """Crystal system of the space group."""
        return crystal_system(self.space_group)

    @property
    def occupied(self) -> tuple[int, ...]:
        """Wyckoff letter of each orbit (code points), sorted."""
        return tuple(sorted(ord(self.letters[site]) for site in set(self.orbits)))


def symmetry(structure: Structure, *, symprec: float, angle_tolerance: float) -> Symmetry | None:
    """Space group, Wyckoff letters and orbits by spglib through pymatgen; None if spglib fails.

    Parameters
    ----------
    symprec : float
        Distance tolerance (Å).
    angle_tolerance : float
        Angle tolerance (degrees).
    """
    analyzer = _analyzer(structure, symprec, angle_tolerance)
    if analyzer is None:
        return None
    dataset = analyzer.get_symmetry_dataset()
    equivalent = np.asarray(dataset.equivalent_atoms)
    first: dict[int, int] = {}
    for site, label in enumerate(equivalent.tolist()):
        first.setdefault(label, site)
    return Symmetry(
        space_group=int(dataset.number),
        letters=tuple(dataset.wyckoffs),
        orbits=tuple(first[label] for label in equivalent.tolist()),
        n_operations=len(dataset.rotations),
    )


def symmetrised(
    structure: Structure, usual: Symmetry, *, widest: float, angle_tolerance: float
) -> Structure | None:
    """The crystal of higher symmetry near this one.

    Parameters
    ----------
    structure : Structure
        Primitive.
    usual : Symmetry
        Its symmetry within a smaller distance tolerance.
    widest : float
        Distance tolerance (Å).
    angle_tolerance : float
        Angle tolerance (degrees).

    Returns
    -------
    Structure or None
        Reduced; None where `widest` shows no more symmetry than `usual`.

    Notes
    -----
    Of 7,344 generated and relaxed crystals, none showed more symmetry within 0.02 or 0.05 Å than
    within 0.1 Å.
    """
    wide = _analyzer(structure, widest, angle_tolerance)
    if wide is None or len(wide.get_symmetry_dataset().rotations) <= usual.n_operations:
        return None
    try:
        ideal = reduce(wide.get_primitive_standard_structure())
    except Exception:  # pymatgen and spglib raise types of their own, which change by version
        return None
    if ideal.composition.reduced_composition != structure.composition.reduced_composition:
        return None
    return in_site_order(ideal)


def _analyzer(
    structure: Structure, symprec: float, angle_tolerance: float
) -> SpacegroupAnalyzer | None:
    """The symmetry by spglib, through pymatgen; None if spglib finds none."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    if min(structure.lattice.abc) < SHORTEST_PERIOD:
        return None
    try:
        return SpacegroupAnalyzer(structure, symprec, angle_tolerance)
    except Exception:  # pymatgen and spglib raise types of their own, which change by version
        return None


_LAST_OF_SYSTEM = (
    (2, "triclinic"),
    (15, "monoclinic"),
    (74, "orthorhombic"),
    (142, "tetragonal"),
    (167, "trigonal"),
    (194, "hexagonal"),
    (230, "cubic"),
)
CRYSTAL_SYSTEMS = tuple(name for _, name in _LAST_OF_SYSTEM)


def crystal_system(space_group: int) -> str:
    """Crystal system of a space group number, 1 to 230."""
    for last, name in _LAST_OF_SYSTEM:
        if 1 <= space_group <= last:
            return name
    raise ValueError(f"{space_group} is not a space group number")


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type; at most 200 characters."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
