"""pymatgen's `StructureMatcher` with the protocol's settings, to the letter.

`StructureMatcher.fit` is neither symmetric in its arguments nor transitive, so their order is part
of the method: the generated crystal first in the duplicate test and on the lattice-and-sites route,
the relaxed parent first at the confirmation.

Two private methods of pymatgen are called, because no public one returns the match that `fit`
found, and none accepts elements that differ in number. Tests hold them against the public `fit`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from novelty_metric.search.compiled import lattice_points

if TYPE_CHECKING:
    from pymatgen.core import Lattice, Structure
    from pymatgen.core.structure_matcher import StructureMatcher

    from novelty_metric.protocol import Protocol
    from novelty_metric.verdict import Supercell


@dataclass(frozen=True, slots=True)
class FrameworkMatch:
    """A purely geometric match of a generated crystal G with a reference crystal T.

    Attributes
    ----------
    rms : float
        RMS site distance in (V/N)^(1/3).
    sites : tuple of int
        For each site of T, or of T's supercell if there is one, the site of G that lies on it.
    supercell : 3×3 integers or None
        Matrix for ``T.make_supercell``; None unless G has more sites than T.
    """

    rms: float
    sites: tuple[int, ...]
    supercell: Supercell | None


@dataclass(frozen=True, slots=True)
class BareCell:
    """As much of a `Structure` as the lattice-and-sites match looks at, without making its sites.

    Attributes
    ----------
    lattice : Lattice
    frac_coords : float64, (n_sites, 3)
    cart_coords : float64, (n_sites, 3)
        Å.
    """

    lattice: Lattice
    frac_coords: np.ndarray
    cart_coords: np.ndarray

    @classmethod
    def of(cls, matrix: np.ndarray, frac_coords: np.ndarray) -> BareCell:
        """A cell, with coordinates as a `Structure` of them has them.

        Parameters
        ----------
        matrix : float64, (3, 3)
            Cell vectors as rows (Å).
        frac_coords : float64, (n_sites, 3)
        """
        from pymatgen.core import Lattice

        lattice = Lattice(np.array(matrix))
        # Row by row, as a site does it: one product for all may round otherwise.
        cart_coords = [np.dot(row, lattice.matrix) for row in frac_coords]
        return cls(lattice, np.array(frac_coords), np.array(cart_coords))

    def __len__(self) -> int:
        return len(self.frac_coords)


def commensurate(n_first: int, n_second: int) -> bool:
    """Whether one number of sites divides the other."""
    return n_first % n_second == 0 or n_second % n_first == 0


class Matchers(NamedTuple):
    """pymatgen's `StructureMatcher` for each test, as it stands."""

    duplicate: StructureMatcher
    framework: StructureMatcher
    confirm: StructureMatcher


def matchers(protocol: Protocol) -> Matchers:
    """Those of a protocol: its `ltol`, `stol` and `angle_tol`."""
    from pymatgen.core.structure_matcher import FrameworkComparator, StructureMatcher

    tolerances: dict[str, Any] = {
        "ltol": protocol.ltol,
        "stol": protocol.stol,
        "angle_tol": protocol.angle_tol,
        "scale": False,
    }
    reduced: dict[str, Any] = {
        **tolerances,
        "primitive_cell": False,
        "attempt_supercell": True,
        "supercell_size": "num_sites",
    }
    return Matchers(
        StructureMatcher(**reduced),
        StructureMatcher(**reduced, comparator=FrameworkComparator()),
        StructureMatcher(**tolerances, primitive_cell=True, attempt_supercell=False),
    )


class Matching:
    """The three matchers of a protocol.

    Parameters
    ----------
    protocol : Protocol
        Its `ltol`, `stol` and `angle_tol` are used.
    """

    def __init__(self, protocol: Protocol) -> None:
        """Set up pymatgen's matchers."""
        self._duplicate, framework, self._confirm = matchers(protocol)
        self._framework = _without_elements(framework)

    def duplicate_rms(
        self,
        generated: Structure,
        reference: Structure,
        first_lattice: np.ndarray | None = None,
    ) -> float | None:
        """RMS site distance if the two crystals are equal, elements included, else None.

        The decision is that of ``fit(generated, reference, skip_structure_reduction=True)``, which
        takes the first match whose *largest* site distance is below `stol`.

        Parameters
        ----------
        generated, reference : Structure
            Both reduced.
        first_lattice : int64, (3, 3), optional
            As for `framework_match`.
        """
        matcher = self._duplicate
        if first_lattice is not None:
            matcher = _beginning_at(matcher, first_lattice)
        return _fit_rms(matcher, generated, reference, skip_structure_reduction=True)

    def confirm_rms(self, relaxed_parent: Structure, generated: Structure) -> float | None:
        """RMS site distance if the relaxed parent is the generated crystal, else None.

        The decision is that of ``fit(relaxed_parent, generated)`` with ``primitive_cell=True``:
        pymatgen reduces both once more.
        """
        return _fit_rms(self._confirm, relaxed_parent, generated, skip_structure_reduction=False)

    def framework_match(
        self,
        generated: Structure | BareCell,
        reference: Structure | BareCell,
        first_lattice: np.ndarray | None = None,
    ) -> FrameworkMatch | None:
        """The first purely geometric match, elements ignored, or None.

        What the method names is `_strict_match`, so that the two are never exchanged; `fit` would,
        through rounding, for 49, 98, 103 … times the sites.

        Parameters
        ----------
        generated, reference : Structure or BareCell
            Both reduced. If the number of sites of neither divides that of the other, there is no
            match.
        first_lattice : int64, (3, 3), optional
            Coefficients of the supercell's vectors at which pymatgen's walk over lattices begins.
            For a caller who knows that it finds no match on any before.
        """
        n_generated, n_reference = len(generated), len(reference)
        # pymatgen would raise, or refuse, such a pair.
        if not commensurate(n_generated, n_reference):
            return None
        # Of reduced structures, with `scale=False`, `_preprocess` makes copies and asks this.
        fu, first_supercell = self._framework._get_supercell_size(generated, reference)
        matcher = self._framework
        if first_lattice is not None:
            matcher = _beginning_at(matcher, first_lattice)
        match = matcher._strict_match(
            generated, reference, fu, first_supercell, use_rms=True, break_on_match=True
        )
        if match is None:
            return None
        rms, _, matrix, _, mapping = match
        # mapping[i] = j: site i of T, expanded if G is the larger, lies on site j of G, expanded
        # if T is the larger. pymatgen expands site by site (a a b b …), hence the division.
        if n_reference > n_generated:
            return FrameworkMatch(float(rms), tuple(int(j) // fu for j in mapping), None)
        supercell = None if n_reference == n_generated else _supercell(matrix)
        return FrameworkMatch(float(rms), tuple(int(j) for j in mapping), supercell)


def _without_elements(matcher: Any) -> Any:
    """The matcher with the mask that `FrameworkComparator` always gives: any site fits any."""

    def mask(
        first: Any, second: Any, fu: int, first_supercell: bool
    ) -> tuple[np.ndarray, np.ndarray, int]:
        n_first, n_second = len(first), len(second)
        if first_supercell:
            # Of the sites of an expanded first structure only one of each kind is a start.
            return np.zeros((n_second, n_first * fu), np.int64), np.arange(0, n_first * fu, fu), 0
        return np.zeros((n_second * fu, n_first), np.int64), np.arange(n_first), 0

    matcher._get_mask = mask
    return matcher


def _beginning_at(matcher: Any, first_lattice: np.ndarray) -> Any:
    """The matcher without the lattices that come before one; with all if that is not among them."""
    matcher = copy.copy(matcher)
    every = matcher._get_lattices

    def lattices(
        target: Lattice, source: Any, supercell_size: int
    ) -> Iterator[tuple[Any, np.ndarray]]:
        surely = _surely_a_mapping(
            source.lattice, target, first_lattice, matcher.ltol, matcher.angle_tol
        )
        if surely is not None:
            yield surely, first_lattice
        met = False
        for lattice, matrix in every(target, source, supercell_size):
            here = np.array_equal(matrix, first_lattice)
            if met or (here and surely is None):
                yield lattice, matrix
            met = met or here
        if not met:
            yield from every(target, source, supercell_size)

    matcher._get_lattices = lattices
    return matcher


def _surely_a_mapping(
    source: Lattice, target: Lattice, matrix: np.ndarray, ltol: float, angle_tol: float
) -> Lattice | None:
    """The lattice of three vectors of the source's, if pymatgen is sure to find it near the target.

    The vectors come from the same product as in ``Lattice.find_all_mappings``, to be equal to the
    last bit. None where one of the tolerances is near: then pymatgen has to be asked.
    """
    from pymatgen.core import Lattice

    lengths = np.array(target.lengths)
    coefficients = lattice_points(source.matrix, lengths.max() * (1 + ltol))
    if len(coefficients) == 0:
        return None
    cart = source.get_cartesian_coords(coefficients.astype(np.float64))
    at = [np.flatnonzero((coefficients == row).all(axis=1)) for row in matrix]
    if any(len(places) != 1 for places in at):
        return None
    vectors = cart[[int(places[0]) for places in at]]
    found = np.sqrt((vectors**2).sum(axis=1))
    ratios = found / lengths
    if ratios.max() > (1 + ltol) * (1 - _SURE) or ratios.min() < (1 + _SURE) / (1 + ltol):
        return None
    cosines = np.clip((vectors @ vectors.T) / np.outer(found, found), -1, 1)
    angles = np.degrees(np.arccos(cosines[[1, 0, 0], [2, 2, 1]]))
    if np.abs(angles - np.array(target.angles)).max() > angle_tol - _SURE:
        return None
    return Lattice(vectors)


_SURE = 1e-6
"""How far from a tolerance a length (relative) or an angle (degrees) is surely on one side of it,
far above rounding: the arc cosine loses half of the digits near 0 and 180°."""


def _fit_rms(
    matcher: Any, first: Structure, second: Structure, *, skip_structure_reduction: bool
) -> float | None:
    first, second = matcher._process_species([first, second])
    comparator = matcher._comparator
    if comparator.get_hash(first.composition) != comparator.get_hash(second.composition):
        return None
    first, second, fu, first_supercell = matcher._preprocess(
        first, second, skip_structure_reduction=skip_structure_reduction
    )
    match = matcher._match(first, second, fu, first_supercell, break_on_match=True)
    if match is None or not match[0] <= matcher.stol:
        return None
    # Without `use_rms` the value compared is the largest distance; the distances come second.
    return float(np.sqrt(np.mean(np.square(match[1]))))


def _supercell(matrix: Any) -> Supercell:
    rows = [tuple(int(value) for value in row) for row in np.asarray(matrix).tolist()]
    return tuple(rows)  # type: ignore[return-value]
