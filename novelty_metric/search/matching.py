"""pymatgen's `StructureMatcher` with the settings of the protocol.

`StructureMatcher.fit` is neither symmetric in its arguments nor transitive, so their order is part
of the method: the generated crystal first in the duplicate test and on the lattice-and-sites route,
the relaxed parent first at the confirmation.

Two private methods of pymatgen are called, because no public one returns the match that `fit`
found, and none accepts elements that differ in number. Tests hold them against the public `fit`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from novelty_metric.primitive import niggli, primitive
from novelty_metric.search.bounds import Cells, may_match
from novelty_metric.search.cells import FrameworkMatch, supercell_of
from novelty_metric.search.compiled import TooMuchToCompareError, load_kernels, where_equal

if TYPE_CHECKING:
    from pymatgen.core import Lattice, Structure
    from pymatgen.core.structure_matcher import StructureMatcher

    from novelty_metric.protocol import Protocol
    from novelty_metric.search.cells import BareCell, FirstMatch


MOST_MATCHES = 50_000.0
"""Maximum number of translations whose distances pymatgen measures, for a crystal of a few sites in
a parent search, a duplicate test with one crystal, or a confirmation: some seconds.
"""


class MatcherWork:
    """Limit on the comparisons of pymatgen, which has no limit of its own."""

    def __init__(self) -> None:
        self._left = MOST_MATCHES

    def counted(self, matcher: Any) -> Any:
        """The matcher, which raises `TooMuchToCompareError` at the limit.

        Distances and their assignment grow with the cube of the number of sites, the comparison
        that comes before with its square.
        """
        matcher = copy.copy(matcher)
        distances, near, every = (
            matcher._cart_dists,
            matcher._cmp_fstruct,
            matcher._get_supercells,
        )

        def counted_distances(first: np.ndarray, *others: Any) -> Any:
            self._take(1 + (len(first) / 40) ** 3)
            return distances(first, *others)

        def counted_near(first: np.ndarray, *others: Any) -> Any:
            self._take(0.1 + 0.1 * (len(first) / 40) ** 2)
            return near(first, *others)

        def supercells(*arguments: Any) -> Iterator[tuple[Any, ...]]:
            for first, second, lattice, matrix in every(*arguments):
                yield first, second, _remembering(lattice), matrix

        matcher._cart_dists, matcher._cmp_fstruct = counted_distances, counted_near
        matcher._get_supercells = supercells
        return matcher

    def _take(self, work: float) -> None:
        self._left -= work
        if self._left < 0:
            raise TooMuchToCompareError("too much to compare")


@cache
def _remembering_lattice() -> type[Lattice]:
    """A `Lattice` that caches the values that pymatgen needs for every translation: half of the
    time.
    """
    from pymatgen.core import Lattice

    class Remembering(Lattice):
        @cached_property
        def lll_inverse(self) -> Any:
            return Lattice(self.matrix).lll_inverse

        @cached_property
        def reciprocal_lattice(self) -> Any:
            return Lattice(self.matrix).reciprocal_lattice

        @cached_property
        def abc(self) -> Any:
            return Lattice(self.matrix).abc

        @cached_property
        def _reduced(self) -> Any:
            return type(self)(Lattice.get_lll_reduced_lattice(self).matrix)

        def get_lll_reduced_lattice(self, delta: float = 0.75) -> Any:
            return self._reduced if delta == 0.75 else Lattice.get_lll_reduced_lattice(self, delta)

    return Remembering


def _remembering(lattice: Lattice) -> Lattice:
    return _remembering_lattice()(lattice.matrix)


def commensurate(n_first: int, n_second: int) -> bool:
    """True if one number of sites divides the other."""
    return n_first % n_second == 0 or n_second % n_first == 0


class Matchers(NamedTuple):
    """pymatgen's own `StructureMatcher` for each test."""

    duplicate: StructureMatcher
    framework: StructureMatcher
    confirm: StructureMatcher


def matchers(protocol: Protocol) -> Matchers:
    """The matchers with a protocol's `ltol`, `stol` and `angle_tol`."""
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
        """Create pymatgen's matchers."""
        self._protocol = protocol
        self._duplicate, framework, self._confirm = matchers(protocol)
        self._framework = _without_elements(framework)
        self._last_generated: tuple[Structure, Structure] | None = None

    def duplicate_rms(
        self,
        generated: Structure,
        reference: Structure,
        first: FirstMatch | None = None,
    ) -> float | None:
        """RMS site distance if the two crystals are equal, elements included, else None.

        The decision is that of ``fit(generated, reference, skip_structure_reduction=True)``, which
        takes the first match whose *largest* site distance is below `stol`.

        Parameters
        ----------
        generated, reference : Structure
            Both reduced.
        first : FirstMatch, optional
            As for `framework_match`.
        """
        matcher = self._duplicate
        if first is not None:
            matcher = _beginning_at(matcher, first)
        one, other = matcher._process_species([generated, reference])
        comparator = matcher._comparator
        if comparator.get_hash(one.composition) != comparator.get_hash(other.composition):
            return None
        return _match_rms(matcher, *matcher._preprocess(one, other, skip_structure_reduction=True))

    def confirm_rms(self, relaxed_parent: Structure, generated: Structure) -> float | None:
        """RMS site distance if the relaxed parent matches the generated crystal, else None.

        The decision is that of ``fit(relaxed_parent, generated)`` with ``primitive_cell=True``, for
        which both are reduced once more, Niggli cell first.

        Most pairs are refused before pymatgen lists a lattice vector, and none wrongly. Without
        supercells the sites of one go one to one onto those of the other, so their numbers are
        equal. The three vectors that pymatgen picks in the parent's lattice then have a determinant
        of ±1, so that with ``scale=False`` they span the parent's volume, while their lengths and
        angles are within the tolerances of the generated crystal's: `bounds.may_match` refuses
        what can't be both. What is left is that of the duplicate test with equal numbers of sites,
        and has its compiled refusals, which count their work.

        Raises
        ------
        TooMuchToCompareError
            Past `MOST_MATCHES`, or `MOST_WORK_OF_EQUALS`, `MOST_POINTS` or `MOST_ANGLES` of
            `compiled`.
        CrystalError
            If one can't be reduced, see `primitive`.
        """
        matcher = self._confirm
        hashes = {matcher._comparator.get_hash(s.composition) for s in (relaxed_parent, generated)}
        if len(hashes) > 1:
            return None
        first = primitive(niggli(*matcher._process_species([relaxed_parent])))
        if self._last_generated is None or self._last_generated[0] is not generated:
            # Many parents are compared with one crystal.
            again = primitive(niggli(*matcher._process_species([generated])))
            self._last_generated = generated, again
        second = self._last_generated[1]
        if len(first) != len(second) or not self._may_match(first, second):
            return None
        possible, begin = where_equal(load_kernels(), first, second, self._protocol)
        if possible is None:
            raise TooMuchToCompareError("too much to compare")
        if not possible:
            return None
        if begin is not None:
            matcher = _beginning_at(matcher, begin)
        return _match_rms(matcher, first, second, 1, True)

    def _may_match(self, first: Structure, second: Structure) -> bool:
        tolerances = {"ltol": self._protocol.ltol, "angle_tol": self._protocol.angle_tol}
        cells = (
            Cells.of(structure.lattice.matrix[None], np.array([len(structure)]), **tolerances)
            for structure in (first, second)
        )
        return bool(may_match(*cells, ltol=self._protocol.ltol)[0])

    def framework_match(
        self,
        generated: Structure | BareCell,
        reference: Structure | BareCell,
        first: FirstMatch | None = None,
        work: MatcherWork | None = None,
    ) -> FrameworkMatch | None:
        """The first purely geometric match, elements ignored, or None.

        What the method names is `_strict_match`, so that the two are never exchanged; `fit` would,
        through rounding, for 49, 98, 103 … times the sites.

        Parameters
        ----------
        generated, reference : Structure or BareCell
            Both reduced. If the number of sites of neither divides that of the other, there is no
            match.
        first : FirstMatch, optional
            Where pymatgen's walk over lattices and sites begins. For a caller who knows that it
            finds no match before.
        work : MatcherWork, optional
            Shared by several pairs.

        Raises
        ------
        TooMuchToCompareError
            Past `MOST_MATCHES`.
        """
        n_generated, n_reference = len(generated), len(reference)
        # pymatgen would raise, or refuse, such a pair.
        if not commensurate(n_generated, n_reference):
            return None
        # Of reduced structures, with `scale=False`, `_preprocess` makes copies and asks this.
        fu, first_supercell = self._framework._get_supercell_size(generated, reference)
        matcher = self._framework
        if first is not None:
            matcher = _beginning_at(matcher, first)
        matcher = (MatcherWork() if work is None else work).counted(matcher)
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
        supercell = None if n_reference == n_generated else supercell_of(matrix)
        return FrameworkMatch(float(rms), tuple(int(j) for j in mapping), supercell)


def _without_elements(matcher: Any) -> Any:
    """The matcher with the mask of `FrameworkComparator`: every site fits every site."""

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


class _From:
    """Numbers from `first` on in the first iteration, and all of them in later iterations."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.numbers = np.zeros(0, dtype=np.int64)

    def __iter__(self) -> Iterator[int]:
        first, self.first = self.first, 0
        return iter(self.numbers[self.numbers >= first].tolist())


def _beginning_at(matcher: Any, first: FirstMatch) -> Any:
    """The matcher without the steps before a match: other lattices and other first sites.

    With all of them if that lattice is not met.
    """
    matcher = copy.copy(matcher)
    every, mask_of = matcher._get_lattices, matcher._get_mask
    matrix_of_first = first.matrix
    sites = _From(first.site)

    def mask(*arguments: Any) -> tuple[np.ndarray, Iterable[int], int]:
        allowed, sites.numbers, anchor = mask_of(*arguments)
        return allowed, sites, anchor

    def lattices(
        target: Lattice, source: Any, supercell_size: int
    ) -> Iterator[tuple[Any, np.ndarray]]:
        if first.surely_near:
            yield _lattice_of(source.lattice, first), matrix_of_first
        met = False
        for lattice, matrix in every(target, source, supercell_size):
            here = np.array_equal(matrix, matrix_of_first)
            if met or (here and not first.surely_near):
                yield lattice, matrix
            met = met or here
        if not met:
            sites.first = 0
            yield from every(target, source, supercell_size)

    matcher._get_lattices, matcher._get_mask = lattices, mask
    return matcher


def _lattice_of(source: Lattice, first: FirstMatch) -> Lattice:
    """The lattice of a match, in the form of ``Lattice.find_all_mappings``.

    The vectors come from the same product, to be equal to the last bit.
    """
    from pymatgen.core import Lattice

    vectors = source.get_cartesian_coords(first.vectors.astype(np.float64))
    return Lattice(vectors[list(first.places)])


def _match_rms(
    matcher: Any, first: Structure, second: Structure, fu: int, first_supercell: bool
) -> float | None:
    matcher = MatcherWork().counted(matcher)
    match = matcher._match(first, second, fu, first_supercell, break_on_match=True)
    if match is None or not match[0] <= matcher.stol:
        return None
    # Without `use_rms` the value compared is the largest distance; the distances come second.
    return float(np.sqrt(np.mean(np.square(match[1]))))
