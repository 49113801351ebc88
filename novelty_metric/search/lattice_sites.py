"""Route 1: parents by a purely geometric match of lattice and sites.

Which atom map of a pair counts is a setting, ``protocol.map``.

``first``, as in the paper: the map of the first match in pymatgen's order. It depends on the order
of the sites and on the choice of the cell.

``best``: the map of least cost among all matches. Those are defined without an order:

- *lattices*: all triples of vectors of the smaller crystal's lattice (of G's, if both have as many
  sites) whose lengths and angles are within the tolerances of the reduced cell of the larger, and
  whose determinant is ± the ratio of the numbers of sites. These are pymatgen's. The sites of both
  are compared on the cell of the mean lengths and angles;
- *translations*: each site of T's rarest element onto each site of G (the element of the lowest
  Pettifor number, if several are as rare; all elements without a number count as one);
- *assignment*: the one of the least sum of squared distances, shortest images, where no site goes
  further than 2 ``stol`` (V/N)^(1/3), the sphere inside pymatgen's window. Elements play no part;
- *acceptance*: the RMS distance is below ``stol`` after one more shift by the mean. Where several
  assignments, or images, are equally near (to 1e-7), it is the RMS before that shift, which is the
  same for all of them; each of them is then a match.

Of maps of equal cost the one of the least RMS is taken (to 1e-4), then of the least sum of squares
of the differences, then the first that was found. That last choice can change the placement of
the elements with the description of a crystal, but no cost.

``best`` neither refuses nor accepts exactly the pairs of ``first``: that moves only T's first site
onto the sites of G, and its window is a box.

pymatgen is imported only through the matcher that is passed in.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.search.cells import BareCell
from novelty_metric.search.compiled import TooMuchToCompareError
from novelty_metric.search.matching import MatcherWork
from novelty_metric.search.pettifor import map_cost, pettifor_numbers
from novelty_metric.search.ranking import Cheapest, Key

if TYPE_CHECKING:
    from novelty_metric.reference import Reference
    from novelty_metric.search.cells import FirstMatch
    from novelty_metric.search.compiled import CompiledTest
    from novelty_metric.search.matching import FrameworkMatch, Matching

_FIRST_BATCH = 32
_HUNDREDS = 512
_LARGEST_BATCH = 4096
_SORTED_FIRST = 256

_PASSED, _RAISED, _WORK_LIMIT_REACHED = "passed", "raised", "work limit reached"
"""State of a candidate pair: it may match; it may match, with a known cost; not known."""


@dataclass(frozen=True, slots=True)
class RankedMatch:
    """A parent of route 1: its position, its cost, and the atom map."""

    index: int
    cost: float
    match: FrameworkMatch
    parent_numbers: np.ndarray
    generated_numbers: np.ndarray


@dataclass(frozen=True, slots=True)
class LatticeSitesResult:
    """The cheapest parents, the unfinished pairs, and the number of tested pairs."""

    parents: tuple[RankedMatch, ...]
    unfinished: tuple[str, ...]
    pair_tests: int


def search_lattice_sites(
    generated: BareCell,
    reference: Reference,
    matching: Matching,
    candidates: tuple[np.ndarray, np.ndarray],
    *,
    k: int,
    compiled: CompiledTest | None = None,
    max_pair_tests: int | None = None,
) -> LatticeSitesResult:
    """The k cheapest reference crystals that match geometrically, exactly.

    A candidate's key is a lower bound on its cost, then its number of sites, then its position,
    which is the order of ties. The candidate of the lowest key is always looked at next: first by
    the compiled test, which refuses it or raises its bound, then by pymatgen, which gives the real
    cost. The search ends when the k-th best real key is below the next one: everything later would
    rank behind it.

    Parameters
    ----------
    generated : BareCell
        Of a clean, reduced crystal.
    reference : Reference
    matching : Matching
    candidates : tuple
        Positions, by number of sites, then position, with lower bounds on the cost: those of
        `CostBounds.candidates`. A pair that was refused there is not counted as tested.
    k : int
    compiled : CompiledTest, optional
        The test of the generated crystal; pymatgen tests the pairs that pass it.
    max_pair_tests : int, optional
        Maximum number of tested pairs; the result is marked unfinished if a remaining pair could
        have been relevant. The count is of the pairs that a search in the order of the first bounds
        has to look at; it is the same with and without `compiled`.
    """
    queue = _Queue(candidates, reference, max_pair_tests)
    best: Cheapest[RankedMatch] = Cheapest(k)
    undecided = _Undecided(reference)
    tests = _Tests(generated, reference, matching, compiled, undecided)
    waiting: list[tuple[Key, str]] = []  # with its state
    while waiting or queue.place < queue.end:
        queue.sort_next()
        if not waiting or (queue.place < queue.end and queue.key() < waiting[0][0]):
            if best.certain_before(queue.key()):
                break
            for entry in queue.batch(best, compiled):
                heapq.heappush(waiting, entry)
            continue
        key, state = heapq.heappop(waiting)
        if best.certain_before(key):
            break
        bound, size, index = key
        if state == _WORK_LIMIT_REACHED:
            undecided.over_limit.append(index)
            continue
        if state == _PASSED and compiled is not None:
            cost = tests.compiled_cost(index)
            if cost is None:
                continue
            if cost > bound:
                heapq.heappush(waiting, ((cost, size, index), _RAISED))
                continue
        ranked = tests.ranked(index)
        if ranked is not None:
            best.offer((ranked.cost, size, index), ranked)

    kept = best.in_order()
    unfinished = undecided.reasons()
    n_left = queue.n_untested(best)
    if n_left:
        unfinished.append(
            f"lattice-and-sites search stopped at max_pair_tests={max_pair_tests}, "
            f"{n_left} reference crystals untested"
        )
    n_tested = queue.n_tested(kept[-1][0] if len(kept) == k else None)
    return LatticeSitesResult(tuple(ranked for _, ranked in kept), tuple(unfinished), n_tested)


class _Undecided:
    """Pairs with an unknown result, and the reason."""

    def __init__(self, reference: Reference) -> None:
        self._ids = reference.ids
        self.over_limit: list[int] = []
        self.failed: list[tuple[int, str]] = []

    def reasons(self) -> list[str]:
        reasons = [
            f"pymatgen failed on the match with {self._ids[index]!r} ({error})"
            for index, error in self.failed
        ]
        if self.over_limit:
            reasons.append(
                f"too much to compare: the lattice-and-sites match with {len(self.over_limit)} "
                "reference crystals reached the work limit, the first of them "
                f"{self._ids[self.over_limit[0]]!r}"
            )
        return reasons


class _Tests:
    """The two tests of a pair: the compiled one, then pymatgen's. They record unknown results."""

    def __init__(
        self,
        generated: BareCell,
        reference: Reference,
        matching: Matching,
        compiled: CompiledTest | None,
        undecided: _Undecided,
    ) -> None:
        self._generated, self._reference = generated, reference
        self._matching, self._work = matching, MatcherWork()
        self._compiled, self._undecided = compiled, undecided
        self._first: dict[int, FirstMatch | None] = {}
        self._cheapest: dict[int, FrameworkMatch] = {}

    def compiled_cost(self, index: int) -> float | None:
        """The cost, or a bound on it, by the compiled test; None if the pair does not match."""
        assert self._compiled is not None
        if not self._compiled.best:
            finished, cost, self._first[index] = self._compiled.first_match(index)
            if not finished:
                self._undecided.over_limit.append(index)
            return cost if finished and cost != np.inf else None
        try:
            found = self._compiled.cheapest_map(index)
        except TooMuchToCompareError:
            self._undecided.over_limit.append(index)
            return None
        if found is None:
            return None
        cost, self._cheapest[index] = found
        return cost

    def ranked(self, index: int) -> RankedMatch | None:
        """The match by pymatgen; None if the pair does not match, or the result is unknown."""
        reference, generated = self._reference, self._generated
        try:
            sites = reference.sites(index)
            parent = BareCell.of(
                reference.lattices[index], reference.frac_coords[sites], reference.numbers[sites]
            )
            match = self._cheapest.pop(index, None)
            if match is None:
                first = self._first.pop(index, None)
                match = self._matching.framework_match(generated, parent, first, self._work)
        except TooMuchToCompareError:
            self._undecided.over_limit.append(index)
        except (ValueError, np.linalg.LinAlgError) as error:
            self._undecided.failed.append((index, str(error)))
        else:
            if match is not None:
                return _ranked(index, generated.atomic_numbers, parent.atomic_numbers, match)
        return None


class _Queue:
    """Candidates in the order of their keys; only the part that the search needs is sorted.

    Attributes
    ----------
    place : int
        Of the next candidate.
    end : int
        Where the search has to stop.
    """

    def __init__(
        self,
        candidates: tuple[np.ndarray, np.ndarray],
        reference: Reference,
        max_pair_tests: int | None,
    ) -> None:
        indices, lower = candidates
        limited = max_pair_tests is not None
        order, self._sorted = _in_order(lower, len(lower) if limited else _SORTED_FIRST)
        self._indices, self._lower = indices[order], lower[order]
        self._n_sites = reference.n_sites[self._indices]
        self.place = 0
        self.end = len(indices) if max_pair_tests is None else min(len(indices), max_pair_tests)

    def key(self) -> Key:
        """Key of the next candidate."""
        return self._key_at(self.place)

    def _key_at(self, place: int) -> Key:
        return float(self._lower[place]), int(self._n_sites[place]), int(self._indices[place])

    def sort_next(self) -> None:
        """Sort further candidates if all sorted ones were tested."""
        known = self._sorted
        if self.place == known < self.end:
            order, more = _in_order(self._lower[known:], 4 * known)
            for values in (self._indices, self._lower, self._n_sites):
                values[known:] = values[known:][order]
            self._sorted += more

    def batch(
        self, best: Cheapest[RankedMatch], compiled: CompiledTest | None
    ) -> Iterator[tuple[Key, str]]:
        """The next candidates that are not refused, each with its state."""
        start, end = self.place, min(self.end, self._sorted)
        self.place = stop = _end_of_batch(self._lower, start, end, best)
        if compiled is None:
            yield from ((self._key_at(place), _PASSED) for place in range(start, stop))
            return
        passed, limit_reached = compiled.passes(self._indices[start:stop])
        for known, places in ((_PASSED, passed), (_WORK_LIMIT_REACHED, limit_reached)):
            for at in (np.flatnonzero(places) + start).tolist():
                yield self._key_at(at), known

    def n_untested(self, best: Cheapest[RankedMatch]) -> int:
        """Number of candidates beyond the limit that could have been relevant."""
        left = len(self._indices) - self.end
        return 0 if left == 0 or best.certain_before(self._key_at(self.end)) else left

    def n_tested(self, worst: Key | None) -> int:
        """Number of candidates tested in the order of their bounds, given the worst key kept."""
        if worst is None:
            return self.end
        cost, size, index = worst
        lower, n_sites = self._lower, self._n_sites
        later = (lower > cost) | (
            (lower == cost) & ((n_sites > size) | ((n_sites == size) & (self._indices > index)))
        )
        return min(self.end, len(lower) - int(later.sum()))


def _in_order(lower: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Order of candidates by bound, stable among equals, for the first ones only.

    Most searches end long before the last. The order of the rest is left as it is.

    Returns
    -------
    order : int64, (C,)
    known : int
        How many are in order, at least `count` if there are as many.
    """
    if len(lower) <= 4 * count:
        return np.argsort(lower, kind="stable"), len(lower)
    near = lower <= np.partition(lower, count)[count]
    first = np.flatnonzero(near)
    order = first[np.argsort(lower[first], kind="stable")]
    return np.concatenate([order, np.flatnonzero(~near)]), len(first)


def _end_of_batch(lower: np.ndarray, place: int, end: int, best: Cheapest[RankedMatch]) -> int:
    """End of the next batch for the compiled test; batches grow, without irrelevant candidates."""
    # Past some hundreds there are hardly ever enough parents to end before the last.
    growth = place // 3 if place < _HUNDREDS else place
    stop = min(end, place + min(max(_FIRST_BATCH, growth), _LARGEST_BATCH))
    worst = best.worst()
    if worst is not None:
        stop = min(stop, int(np.searchsorted(lower[:end], worst[0], side="right")))
    return max(stop, place + 1)


def _ranked(
    index: int, generated: np.ndarray, parent: np.ndarray, match: FrameworkMatch
) -> RankedMatch:
    # A supercell repeats each site in place (a a b b …), as `make_supercell` does.
    on_parent = np.repeat(parent, len(match.sites) // len(parent))
    on_generated = generated[list(match.sites)]
    cost = map_cost(pettifor_numbers(on_parent), pettifor_numbers(on_generated))
    return RankedMatch(index, cost, match, on_parent, on_generated)
