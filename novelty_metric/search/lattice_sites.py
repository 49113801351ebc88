"""Route 1: parents by a purely geometric match of lattice and sites.

pymatgen is imported only through the matcher that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.search.pettifor import map_cost, pettifor_numbers
from novelty_metric.search.ranking import Cheapest

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.reference import Reference
    from novelty_metric.search.bounds import CostBounds
    from novelty_metric.search.matching import FrameworkMatch, Matching

Screen = Callable[[np.ndarray], np.ndarray]
"""From positions in the reference to which of them might match; it may refuse, never wrongly."""

_FIRST_BATCH = 32
_LARGEST_BATCH = 4096


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
    generated: Structure,
    reference: Reference,
    matching: Matching,
    bounds: CostBounds,
    *,
    k: int,
    admissible: Screen,
    screen: Screen | None = None,
    max_pair_tests: int | None = None,
) -> LatticeSitesResult:
    """The k cheapest reference crystals that match geometrically, exactly.

    Candidates are tested in the order of the lower bound on their cost (then fewer sites, then
    lower position, which is the order of ties), until the k-th best real key is below the next
    bound's: everything later would rank behind it.

    Parameters
    ----------
    generated : Structure
        Clean and reduced.
    reference : Reference
    matching : Matching
    bounds : CostBounds
        Of that reference.
    k : int
    admissible : callable
        Cheap refusals over many positions at once; a pair refused here is not counted as tested.
    screen : callable, optional
        A compiled pair test, called on batches of positions; what it lets through is put to
        pymatgen.
    max_pair_tests : int, optional
        Stop after so many pairs; the result is then marked unfinished if anything was left that
        could have mattered. The count is the same with and without `screen`.
    """
    numbers = np.asarray(generated.atomic_numbers, dtype=np.int64)
    indices, lower = bounds.commensurate(pettifor_numbers(numbers))
    keep = admissible(indices)
    indices, lower = indices[keep], lower[keep]
    n_sites = bounds.n_sites[indices]
    order = np.lexsort((indices, n_sites, lower))
    indices, lower, n_sites = indices[order], lower[order], n_sites[order]

    best: Cheapest[RankedMatch] = Cheapest(k)
    unfinished: list[str] = []
    tests = 0
    screened_to, passed = 0, np.zeros(0, dtype=bool)
    for place, (index, bound, size) in enumerate(
        zip(indices.tolist(), lower.tolist(), n_sites.tolist(), strict=True)
    ):
        if best.certain_before((bound, size, index)):
            break
        if max_pair_tests is not None and tests >= max_pair_tests:
            left = len(indices) - place
            unfinished.append(
                f"lattice-and-sites search stopped at max_pair_tests={max_pair_tests}, "
                f"{left} reference crystals untested"
            )
            break
        tests += 1
        if screen is not None:
            if place >= screened_to:
                size_of_batch = min(max(_FIRST_BATCH, place), _LARGEST_BATCH)
                passed = screen(indices[place : place + size_of_batch])
                screened_from, screened_to = place, place + size_of_batch
            if not passed[place - screened_from]:
                continue
        try:
            match = matching.framework_match(generated, reference.structure(index))
        except (ValueError, np.linalg.LinAlgError) as error:
            unfinished.append(
                f"pymatgen failed on the match with {reference.ids[index]!r} ({error})"
            )
            continue
        if match is None:
            continue
        ranked = _ranked(index, numbers, _numbers(reference, index), match)
        best.offer((ranked.cost, size, index), ranked)
    parents = tuple(ranked for _, ranked in best.in_order())
    return LatticeSitesResult(parents, tuple(unfinished), tests)


def _numbers(reference: Reference, index: int) -> np.ndarray:
    sites = slice(int(reference.offsets[index]), int(reference.offsets[index + 1]))
    return np.asarray(reference.numbers[sites], dtype=np.int64)


def _ranked(
    index: int, generated: np.ndarray, parent: np.ndarray, match: FrameworkMatch
) -> RankedMatch:
    # A supercell repeats each site in place (a a b b …), as `make_supercell` does.
    on_parent = np.repeat(parent, len(match.sites) // len(parent))
    on_generated = generated[list(match.sites)]
    cost = map_cost(pettifor_numbers(on_parent), pettifor_numbers(on_generated))
    return RankedMatch(index, cost, match, on_parent, on_generated)
