"""Equal crystals: generated crystals in the reference, and groups of generated crystals.

pymatgen is imported only through the matcher that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.reference.store import composition_key
from novelty_metric.search.bounds import Cells, may_match
from novelty_metric.search.compiled import TooMuchToCompareError, Work, where_equal
from novelty_metric.search.matching import commensurate
from novelty_metric.verdict import DuplicateMatch

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.protocol import Protocol
    from novelty_metric.reference import Reference
    from novelty_metric.search.matching import Matching
    from novelty_metric.search.plain_matching import PlainTest


class CompositionIndex:
    """The crystals of a reference by reduced composition.

    Each crystal has the mean of a fixed weight per element: the same, up to rounding, for all of
    the same reduced composition. Those near enough are then compared exactly.
    """

    def __init__(self, reference: Reference) -> None:
        """Sort the crystals by their mean weight.

        Parameters
        ----------
        reference : Reference
        """
        self._reference = reference
        sums = np.add.reduceat(_WEIGHTS[reference.numbers], reference.offsets[:-1])
        means = sums / reference.n_sites
        self._order = np.argsort(means, kind="stable")
        self._means = means[self._order]

    def find(self, numbers: Sequence[int]) -> np.ndarray:
        """Positions of the crystals with the reduced composition of these atoms, increasing.

        Parameters
        ----------
        numbers : sequence of int
            Atomic numbers, one per site.
        """
        mean = _WEIGHTS[np.asarray(numbers, dtype=np.intp)].mean()
        start, stop = np.searchsorted(self._means, [mean - _ROUNDING, mean + _ROUNDING])
        key = composition_key(numbers)
        near = np.sort(self._order[start:stop]).tolist()
        equal = [i for i in near if self._reference.composition_key(i) == key]
        return np.array(equal, dtype=np.int64)


_WEIGHTS = np.random.default_rng(118).random(256)
_ROUNDING = 1e-11
"""Much larger than the rounding error of a mean of numbers below 1."""


Possible = Callable[[int, np.ndarray], np.ndarray]
"""Type of a function: a position in a list of crystals and others, int64 (C,), give bool (C,)."""


@dataclass(frozen=True, slots=True)
class EqualTest:
    """The test whether two crystals are equal, elements included.

    Attributes
    ----------
    matching : Matching
        Decides.
    protocol : Protocol
        Its tolerances.
    kernels : module or None
        Compiled functions that refuse most pairs, and leave to pymatgen only the lattices on which
        it may accept one; None asks pymatgen about everything.
    """

    matching: Matching
    protocol: Protocol
    kernels: ModuleType | None = None

    def prepare(self, structure: Structure) -> Structure:
        """Return the crystal, which is already reduced."""
        return structure

    def possible_among(self, structures: Sequence[Structure]) -> Possible:
        """A function that tells which of these crystals may equal one; the others are surely
        refused.
        """
        ltol = self.protocol.ltol
        cells = Cells.of(
            np.array([structure.lattice.matrix for structure in structures]),
            np.array([len(structure) for structure in structures]),
            ltol=ltol,
            angle_tol=self.protocol.angle_tol,
        )
        return lambda first, others: may_match(
            cells.take(np.array([first])), cells.take(others), ltol=ltol
        )

    def rms(self, generated: Structure, other: Structure, work: Work | None = None) -> float | None:
        """RMS site distance of two clean, reduced crystals if they are equal, else None.

        Parameters
        ----------
        generated, other : Structure
        work : Work, optional
            What has been compared so far, and may be, where there are several pairs.

        Raises
        ------
        TooMuchToCompareError
            Past `work`, `compiled.MOST_POINTS` or `MOST_ANGLES`.
        """
        if not commensurate(len(generated), len(other)):
            return None
        possible, first = where_equal(self.kernels, generated, other, self.protocol, work)
        if possible is None:
            raise TooMuchToCompareError("too much to compare")
        if not possible:
            return None
        return self.matching.duplicate_rms(generated, other, first)


def find_duplicate(
    generated: Structure,
    cell: Callable[[Structure], Cells],
    reference: Reference,
    compositions: CompositionIndex,
    cells: Callable[[np.ndarray], Cells],
    *,
    test: EqualTest,
    leave_out: int | None = None,
) -> DuplicateMatch | None:
    """The first reference crystal that equals the generated one, elements included.

    Only crystals of the same reduced composition can be equal; they are tested by position.

    Parameters
    ----------
    generated : Structure
        Clean and reduced.
    cell : callable
        Gives the cell of the generated crystal; most are not asked for, as no composition is equal.
    cells : callable
        From positions in the reference to the cells there.
    compositions : CompositionIndex
        Of the reference.
    leave_out : int, optional
        Position of a crystal that counts as absent from the reference.

    Raises
    ------
    TooMuchToCompareError
        If none is found to be equal, and that was not found out of one.
    """
    candidates = compositions.find(generated.atomic_numbers)
    if leave_out is not None:
        candidates = candidates[candidates != leave_out]
    if len(candidates) == 0:
        return None
    possible = may_match(cell(generated), cells(candidates), ltol=test.protocol.ltol)
    found = _first_equal(generated, reference, candidates[possible].tolist(), test)
    if found is None:
        return None
    index, rms = found
    n_sites, n_parent = len(generated), int(reference.n_sites[index])
    n_common = max(n_sites, n_parent)
    return DuplicateMatch(
        index=index,
        parent_id=reference.ids[index],
        match_rms=rms,
        sample_cells=n_common // n_sites,
        parent_cells=n_common // n_parent,
    )


def find_plain_match(
    generated: Structure,
    reference: Reference,
    compositions: CompositionIndex,
    *,
    test: PlainTest,
    duplicate: DuplicateMatch | None,
    leave_out: int | None = None,
) -> int | None:
    """Position of a reference crystal that equals the generated one by plain matching, or None.

    Parameters
    ----------
    generated : Structure
        Clean and reduced.
    compositions : CompositionIndex
        Of the reference.
    duplicate : DuplicateMatch or None
        Tried first; the others by position.
    leave_out : int, optional
        As for `find_duplicate`.

    Raises
    ------
    TooMuchToCompareError
        If none is found to be equal, and that was not found out of one.
    """
    found = compositions.find(generated.atomic_numbers).tolist()
    candidates = [index for index in found if index != leave_out]
    if not candidates:
        return None
    if duplicate is not None:
        candidates.sort(key=lambda index: index != duplicate.index)
    equal = _first_equal(test.prepare(generated), reference, candidates, test)
    return None if equal is None else equal[0]


def _first_equal(
    generated: Structure,
    reference: Reference,
    candidates: Iterable[int],
    test: EqualTest | PlainTest,
) -> tuple[int, float] | None:
    """The first candidate that equals the generated crystal, and the RMS distance.

    Raises
    ------
    TooMuchToCompareError
        If none is found to be equal, and that was not found out of one.
    """
    unknown = []
    work = Work()
    for index in candidates:
        try:
            rms = test.rms(generated, test.prepare(reference.structure(index)), work)
        except TooMuchToCompareError:
            unknown.append(reference.ids[index])
            continue
        if rms is not None:
            return index, rms
    if unknown:
        raise TooMuchToCompareError(f"too much to compare with {', '.join(map(repr, unknown))}")
    return None


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of equal crystals.

    Attributes
    ----------
    number : list of int
        That of each crystal's group; groups are numbered from 0 by their first crystal.
    work_limit_reached : int
        Pairs with too much to compare. They count as equal, so that what is not known adds no new
        crystal.
    """

    number: list[int]
    work_limit_reached: int


@dataclass(frozen=True, slots=True)
class SampleGroups:
    """Groups of equal samples.

    Attributes
    ----------
    duplicates : Groups
        By the duplicate test.
    matching : Groups
        By plain matching, see `PlainTest`.
    """

    duplicates: Groups
    matching: Groups


def warnings_of(duplicates: int, matching: int) -> list[str]:
    """A warning if pairs of samples reached the work limit; else none.

    Parameters
    ----------
    duplicates, matching : int
        By the duplicate test, and by plain matching.
    """
    rules = ((duplicates, ""), (matching, " in the figures of plain matching"))
    return [
        f"{'1 pair' if count == 1 else f'{count} pairs'} of samples of one composition had "
        f"too much to compare and count as equal{where}"
        for count, where in rules
        if count
    ]


MOST_PAIRS = 5 * 10**6
"""Maximum number of compared pairs of samples with equal composition and similar volume and
lengths. 3,000 different samples take half an hour.
"""


def never() -> bool:
    """A deadline that never passes."""
    return False


def group_equal(
    structures: Sequence[Structure],
    test: EqualTest | PlainTest,
    too_late: Callable[[], bool] = never,
) -> Groups:
    """Group equal crystals as `StructureMatcher.group_structures` does.

    The first crystal not yet in a group opens one, and every later crystal that it matches (as the
    first structure of the pair) joins it. The answer depends on the order: matching is not
    transitive.

    Parameters
    ----------
    structures : sequence of Structure
        Clean and reduced.
    too_late : callable
        Asked before each pair; from then on what may be equal counts as equal.
    """
    work = Work()
    n_pairs = 0
    groups = [-1] * len(structures)
    work_limit_reached = 0
    by_composition: dict[object, list[int]] = {}
    for place, structure in enumerate(structures):
        by_composition.setdefault(composition_key(structure.atomic_numbers), []).append(place)
    firsts: list[int] = []
    for places in by_composition.values():
        if len(places) == 1:
            firsts += places
            groups[places[0]] = places[0]
            continue
        ready = [test.prepare(structures[place]) for place in places]
        possible = test.possible_among(ready)
        left = np.arange(len(places))
        while len(left):
            first, others = int(left[0]), left[1:]
            firsts.append(places[first])
            groups[places[first]] = places[first]
            equal = possible(first, others)
            for at in np.flatnonzero(equal).tolist():
                try:
                    n_pairs += 1
                    if n_pairs > MOST_PAIRS or too_late():
                        raise TooMuchToCompareError
                    equal[at] = test.rms(ready[first], ready[others[at]], work) is not None
                except TooMuchToCompareError:
                    work_limit_reached += 1
            for other in others[equal].tolist():
                groups[places[other]] = places[first]
            left = others[~equal]
    number = {first: position for position, first in enumerate(sorted(firsts))}
    return Groups([number[first] for first in groups], work_limit_reached)
