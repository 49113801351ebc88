"""Route 1: parents by a purely geometric match of lattice and sites.

pymatgen is imported only through the matcher that is handed in.
"""

from __future__ import annotations

import heapq
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

_PASSED, _RAISED, _GIVEN_UP = "passed", "raised", "given up"
"""What is known of a pair that waits: it may match; so, and what it costs; nothing."""


@dataclass(frozen=True, slots=True)
class RankedMatch:
    """A parent of route 1: where it is, what it costs, and how the atoms lie on it."""

    index: int
    cost: float
    match: FrameworkMatch
    parent_numbers: np.ndarray
    generated_numbers: np.ndarray


@dataclass(frozen=True, slots=True)
class LatticeSitesResult:
    """The cheapest parents, what the search could not finish, and how many pairs it tested."""

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
        Of the generated crystal; what it lets through is put to pymatgen.
    max_pair_tests : int, optional
        Look at no more than so many pairs; the result is then marked unfinished if anything was
        left that could have mattered. The count is of the pairs that a search in the order of the
        first bounds has to look at; it is the same with and without `compiled`.
    """
    indices, lower = candidates
    order, known = _in_order(lower, _SORTED_FIRST if max_pair_tests is None else len(lower))
    indices, lower = indices[order], lower[order]
    n_sites = reference.n_sites[indices]
    end = len(indices) if max_pair_tests is None else min(len(indices), max_pair_tests)

    def key_at(place: int) -> Key:
        return float(lower[place]), int(n_sites[place]), int(indices[place])

    best: Cheapest[RankedMatch] = Cheapest(k)
    work = MatcherWork()
    unfinished: list[str] = []
    waiting: list[tuple[Key, str]] = []  # with what is known
    first: dict[int, FirstMatch | None] = {}
    place, n_given_up, first_given_up = 0, 0, ""
    while waiting or place < end:
        if place == known < end:
            order, more = _in_order(lower[known:], 4 * known)
            for values in (indices, lower, n_sites):
                values[known:] = values[known:][order]
            known += more
        if not waiting or (place < end and key_at(place) < waiting[0][0]):
            if best.certain_before(key_at(place)):
                break
            stop = _end_of_batch(lower, place, min(end, known), best)
            passed, given_up = np.ones(stop - place, dtype=bool), np.zeros(0, dtype=bool)
            if compiled is not None:
                passed, given_up = compiled.passes(indices[place:stop])
            for at in (np.flatnonzero(passed) + place).tolist():
                heapq.heappush(waiting, (key_at(at), _PASSED))
            for at in (np.flatnonzero(given_up) + place).tolist():
                heapq.heappush(waiting, (key_at(at), _GIVEN_UP))
            place = stop
            continue
        key, known_of_it = heapq.heappop(waiting)
        if best.certain_before(key):
            break
        bound, size, index = key
        if compiled is not None and known_of_it == _PASSED:
            finished, cost, first[index] = compiled.first_match(index)
            if not finished:
                known_of_it = _GIVEN_UP
            elif cost > bound:
                if np.isfinite(cost):
                    heapq.heappush(waiting, ((cost, size, index), _RAISED))
                continue
        if known_of_it == _GIVEN_UP:
            n_given_up += 1
            first_given_up = first_given_up or reference.ids[index]
            continue
        try:
            sites = reference.sites(index)
            parent = BareCell.of(
                reference.lattices[index], reference.frac_coords[sites], reference.numbers[sites]
            )
            match = matching.framework_match(generated, parent, first.pop(index, None), work)
        except TooMuchToCompareError:
            n_given_up += 1
            first_given_up = first_given_up or reference.ids[index]
            continue
        except (ValueError, np.linalg.LinAlgError) as error:
            unfinished.append(
                f"pymatgen failed on the match with {reference.ids[index]!r} ({error})"
            )
            continue
        if match is None:
            continue
        ranked = _ranked(index, generated.atomic_numbers, parent.atomic_numbers, match)
        best.offer((ranked.cost, size, index), ranked)

    if n_given_up:
        unfinished.append(
            f"too much to compare: the lattice-and-sites match with {n_given_up} reference "
            f"crystals was given up, the first of them {first_given_up!r}"
        )
    kept = best.in_order()
    tests = end
    if len(kept) == k:
        cost, size, index = kept[-1][0]
        later = (lower > cost) | (
            (lower == cost) & ((n_sites > size) | ((n_sites == size) & (indices > index)))
        )
        tests = min(end, len(indices) - int(later.sum()))
    if end < len(indices) and not best.certain_before(key_at(end)):
        unfinished.append(
            f"lattice-and-sites search stopped at max_pair_tests={max_pair_tests}, "
            f"{len(indices) - end} reference crystals untested"
        )
    return LatticeSitesResult(tuple(ranked for _, ranked in kept), tuple(unfinished), tests)


def _in_order(lower: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Order of candidates by bound, as they come among equals, but only of the first ones.

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
    """Where the next batch for the compiled test ends: growing, but nothing that can't matter."""
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
