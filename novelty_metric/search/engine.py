"""`ParentSearch`: all searches in a reference for one generated crystal.

pymatgen is imported when a `ParentSearch` is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.search import duplicates
from novelty_metric.search.bounds import (
    Cells,
    CostBounds,
    cells_of_reference,
    may_match,
)
from novelty_metric.search.cells import BareCell
from novelty_metric.search.compiled import CompiledTest, load_kernels
from novelty_metric.search.lattice_sites import RankedMatch, search_lattice_sites
from novelty_metric.search.matching import Matching
from novelty_metric.search.pettifor import pettifor_numbers, symbol
from novelty_metric.search.plain_matching import PlainTest
from novelty_metric.search.wyckoff import RankedOrbits, WyckoffIndex
from novelty_metric.verdict import DuplicateMatch, Parent, Route

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.crystal import Symmetry
    from novelty_metric.protocol import Protocol
    from novelty_metric.reference import Reference


@dataclass(frozen=True, slots=True)
class ParentsResult:
    """Candidate parents of one crystal.

    Attributes
    ----------
    parents : tuple of Parent
        Lattice-and-sites parents by rank, then Wyckoff parents by rank.
    unfinished : tuple of str
        Reasons why a parent could have been missed; empty if the answer is exact.
    pair_tests : int
        Pairs put to the geometric test of the lattice-and-sites route.
    """

    parents: tuple[Parent, ...]
    unfinished: tuple[str, ...]
    pair_tests: int


class ParentSearch:
    """Duplicates and candidate parents of generated crystals in a reference.

    After `prepare` it may be asked by several threads at once; the compiled test runs without the
    interpreter lock.

    Parameters
    ----------
    reference : Reference
    protocol : Protocol
        Its tolerances, `k` and `max_pair_tests`. Past that limit the result says so in
        `ParentsResult.unfinished`, unless nothing that was left could have mattered.
    compiled : bool
        Put pairs to the compiled test first. It changes no answer, only the
        time: pymatgen still decides on, and maps, every pair that the compiled test lets through.

    Raises
    ------
    InputError
        If the reference was prepared with other symmetry settings, or numba can't be imported.
    """

    def __init__(
        self,
        reference: Reference,
        protocol: Protocol,
        *,
        compiled: bool = True,
    ) -> None:
        """Index the reference."""
        reference.require(protocol)
        if protocol.map == "best" and not compiled:
            raise InputError("protocol.map=best needs the compiled search")
        self.reference = reference
        self.protocol = protocol
        self.matching = Matching(protocol)
        self._kernels = load_kernels() if compiled else None

    @property
    def compiled(self) -> bool:
        """True if the compiled pair test is in use."""
        return self._kernels is not None

    @cached_property
    def _cells(self) -> Cells:
        """Cells of the reference's crystals, in the order of `CostBounds`."""
        return cells_of_reference(self.reference, self.protocol).take(self._bounds.order)

    @cached_property
    def _bounds(self) -> CostBounds:
        return CostBounds(self.reference)

    @cached_property
    def _wyckoff(self) -> WyckoffIndex:
        return WyckoffIndex(self.reference, self._bounds, best=self.protocol.map == "best")

    @cached_property
    def _compositions(self) -> duplicates.CompositionIndex:
        return duplicates.CompositionIndex(self.reference)

    def prepare(self) -> None:
        """Build all indices and compile now, not at the first search."""
        with load_kernels("kernels.compilation").quick_compilation():
            _ = self._cells, self._bounds, self._wyckoff, self._compositions
            if len(self.reference):
                self._candidates(BareCell.of_structure(self.reference.structure(0)))
                self.may_match(self.reference.structure(0), np.zeros(1, dtype=np.int64))

    def duplicate(
        self, generated: Structure, *, leave_out: int | None = None
    ) -> DuplicateMatch | None:
        """The first reference crystal, by position, that equals the generated crystal.

        Parameters
        ----------
        generated : Structure
            Clean and reduced.
        leave_out : int, optional
            Position of a crystal that counts as absent from the reference.

        Raises
        ------
        TooMuchToCompareError
            If none is found to be equal, and that was not found out of one.
        """
        return duplicates.find_duplicate(
            generated,
            self._cell,
            self.reference,
            self._compositions,
            self._cells_at,
            test=self._equal,
            leave_out=leave_out,
        )

    def plain_match(
        self,
        generated: Structure,
        duplicate: DuplicateMatch | None,
        *,
        leave_out: int | None = None,
    ) -> int | None:
        """Position of a reference crystal that pymatgen's `StructureMatcher()` accepts; or None.

        Parameters
        ----------
        generated : Structure
            Clean and reduced.
        duplicate : DuplicateMatch or None
            That of the crystal: its reference crystal is named if it is accepted.
        leave_out : int, optional
            As for `duplicate`.

        Raises
        ------
        TooMuchToCompareError
            As `duplicate`.
        """
        return duplicates.find_plain_match(
            generated,
            self.reference,
            self._compositions,
            test=self.plain,
            duplicate=duplicate,
            leave_out=leave_out,
        )

    def parents(
        self,
        generated: Structure,
        symmetry: Symmetry | None,
        *,
        effort: float = 1.0,
        leave_out: int | None = None,
    ) -> ParentsResult:
        """The k cheapest parents of each route.

        Parameters
        ----------
        generated : Structure
            Clean and reduced.
        symmetry : Symmetry or None
            Of that cell; None leaves the Wyckoff route unfinished.
        effort : float
            Share of `compiled.MOST_WORK` that may be done, from 0 to 1.
        leave_out : int, optional
            As for `duplicate`: the k cheapest of the others are among the k + 1 cheapest of all.
        """
        k = self.protocol.k + (leave_out is not None)
        own = BareCell.of_structure(generated)
        by_sites = search_lattice_sites(
            own,
            self.reference,
            self.matching,
            self._candidates(own),
            k=k,
            compiled=self.compiled_test(own, effort),
            max_pair_tests=self.protocol.max_pair_tests or None,
        )
        by_letters = self._wyckoff.search(
            own.atomic_numbers,
            np.asarray(own.lattice.matrix),
            own.frac_coords,
            symmetry,
            k=k,
        )
        ranked = ((Route.LATTICE_SITES, by_sites.parents), (Route.WYCKOFF, by_letters.parents))
        parents = [
            self._parent(route, rank, found)
            for route, all_found in ranked
            for rank, found in enumerate(
                [one for one in all_found if one.index != leave_out][: self.protocol.k], start=1
            )
        ]
        return ParentsResult(
            tuple(parents), by_sites.unfinished + by_letters.unfinished, by_sites.pair_tests
        )

    def is_new_prototype(
        self, symmetry: Symmetry | None, *, leave_out: int | None = None
    ) -> bool | None:
        """True if no reference crystal has the same space group and occupied Wyckoff positions.

        Up to the relabellings of the normalizer; elements play no part.

        Parameters
        ----------
        symmetry : Symmetry or None
            Of the generated crystal; None if it could not be determined, and so is the answer.
        leave_out : int, optional
            As for `duplicate`.
        """
        if symmetry is None:
            return None
        return not self._wyckoff.has_prototype(
            symmetry.space_group, symmetry.occupied, leave_out=leave_out
        )

    def may_match(self, generated: Structure, indices: np.ndarray) -> np.ndarray:
        """A mask of the pairs to test with pymatgen, bool (C,); the others are surely refused.

        Parameters
        ----------
        generated : Structure
            Clean and reduced.
        indices : int64, (C,)
            Positions in the reference; the numbers of sites divide one another.
        """
        cell = self._cell(generated)
        possible = may_match(cell, self._cells_at(indices), ltol=self.protocol.ltol)
        test = self.compiled_test(generated)
        if test is not None:
            possible[possible] = np.logical_or(*test.passes(indices[possible]))
        return possible

    def compiled_test(
        self, generated: Structure | BareCell, effort: float = 1.0
    ) -> CompiledTest | None:
        """The compiled pair test of one clean, reduced crystal; None if it is not in use."""
        if self._kernels is None:
            return None
        return CompiledTest(self._kernels, generated, self.reference, self.protocol, effort=effort)

    def group_equal(
        self, structures: Sequence[Structure], too_late: Callable[[], bool] = duplicates.never
    ) -> duplicates.SampleGroups:
        """The groups of equal crystals, by the duplicate test and by plain matching.

        Parameters
        ----------
        structures : sequence of Structure
            Clean and reduced.
        too_late : callable
            As for `duplicates.group_equal`.
        """
        return duplicates.SampleGroups(
            duplicates.group_equal(structures, self._equal, too_late),
            duplicates.group_equal(structures, self.plain, too_late),
        )

    @cached_property
    def _equal(self) -> duplicates.EqualTest:
        return duplicates.EqualTest(self.matching, self.protocol, self._kernels)

    @cached_property
    def plain(self) -> PlainTest:
        """Plain matching of two crystals."""
        return PlainTest(self._kernels)

    def _candidates(self, own: BareCell) -> tuple[np.ndarray, np.ndarray]:
        return self._bounds.candidates(
            pettifor_numbers(own.atomic_numbers),
            self._cell(own),
            self._cells,
            ltol=self.protocol.ltol,
        )

    def _cells_at(self, indices: np.ndarray) -> Cells:
        return self._cells.take(self._bounds.place[indices])

    def _cell(self, structure: Structure | BareCell) -> Cells:
        lattice, n_sites = np.asarray(structure.lattice.matrix), len(structure)
        tolerances = {"ltol": self.protocol.ltol, "angle_tol": self.protocol.angle_tol}
        return Cells.of(lattice[None], np.array([n_sites]), **tolerances)

    def _parent(self, route: Route, rank: int, found: RankedMatch | RankedOrbits) -> Parent:
        geometric = found.match if isinstance(found, RankedMatch) else None
        old = [symbol(z) for z in found.parent_numbers.tolist()]
        new = [symbol(z) for z in found.generated_numbers.tolist()]
        element_map: dict[str, dict[str, int]] = {}
        for before, after in zip(old, new, strict=True):
            counts = element_map.setdefault(before, {})
            counts[after] = counts.get(after, 0) + 1
        exchanged = sum(before != after for before, after in zip(old, new, strict=True))
        return Parent(
            route=route,
            rank=rank,
            index=found.index,
            parent_id=self.reference.ids[found.index],
            cost=found.cost,
            match_rms=None if geometric is None else geometric.rms,
            supercell=None if geometric is None else geometric.supercell,
            elements=tuple(new),
            element_map=element_map,
            share_exchanged=exchanged / len(new),
        )


def group_equal(structures: Sequence[Structure], protocol: Protocol) -> duplicates.Groups:
    """`ParentSearch.group_equal` without a reference."""
    test = duplicates.EqualTest(Matching(protocol), protocol, load_kernels())
    return duplicates.group_equal(structures, test)
