"""The pair test over a reference, for one pair in pymatgen's order, and with elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from novelty_metric.search.kernels.by_reference import from_kernel, to_kernel
from novelty_metric.search.kernels.compilation import compiled, given
from novelty_metric.search.kernels.constants import (
    ANY_MATCH,
    CHEAPEST_MAP,
    LET_THROUGH,
    MOST_VECTORS,
    WORK_LIMIT_REACHED,
)
from novelty_metric.search.kernels.geometry import inner
from novelty_metric.search.kernels.lattice_vectors import order_by_length, vectors_between
from novelty_metric.search.kernels.memory import Pairs, Scratch, scratch_for
from novelty_metric.search.kernels.pair_test import pair_test

_pairs_from, _scratch_from = from_kernel(Pairs), from_kernel(Scratch)


@compiled
def _scan(  # noqa: PLR0917
    pairs_table: Any,
    indices: np.ndarray,
    ltol: float,
    stol: float,
    angle_tol: float,
    by_element: int,
    every: int,
    in_order: np.ndarray,
    work: np.ndarray,
    answers: np.ndarray,
    costs: np.ndarray,
    scratch_table: Any,
) -> None:
    """Arguments that `furthest_steps` and `cost_of_first_match` pass on; the latter has one index.

    One function, as each that holds the pair test takes seconds more to compile.
    """
    pairs, scratch = _pairs_from(pairs_table), _scratch_from(scratch_table)
    lattice, offsets = pairs.lattice, pairs.offsets
    n, longest = len(pairs.frac), 0.0
    for index in indices:
        if offsets[index + 1] - offsets[index] >= n:
            for k in range(3):
                vector = pairs.lattices[index, k]
                longest = max(longest, inner(vector, vector))
    for k in range(2):
        scratch.work[k] = work[k]
    scratch.by_element[0], scratch.every[0] = by_element, every
    for k in range(5):
        scratch.first_match[k] = -1
    for k in range(3):
        scratch.least[k] = np.inf
    n_own = -len(in_order)
    if n_own == 0:
        n_own = vectors_between(
            lattice, 0.0, np.sqrt(longest) * (1 + ltol), scratch.own, scratch.small[5]
        )
        if n_own > 0:
            order_by_length(scratch.own, n_own)
    for place in range(len(indices)):
        answers[place], costs[place] = pair_test(
            indices[place], ltol, stol, angle_tol, in_order, n_own, pairs, scratch
        )
    for k in range(2):
        work[k] = scratch.work[k]


_NO_VECTORS = given(np.zeros((0, 3)), np.int64)


def furthest_steps(
    pairs: Pairs,
    indices: np.ndarray,
    work: np.ndarray,
    *,
    ltol: float,
    stol: float,
    angle_tol: float,
    every: bool = False,
) -> np.ndarray:
    """The last step that each pair reaches; pymatgen refuses all pairs that do not pass.

    Parameters
    ----------
    pairs : Pairs
        The generated crystal and the reference, reduced.
    indices : int64, (C,)
        Positions to test; their numbers of sites divide, or are divided by, `n_sites`.
    work : int64, (2,)
        Comparisons done, of lattice vectors and of sites, weighted by about what they take, to
        which those here are added; and how many may be: once there are more, what needs one is
        `WORK_LIMIT_REACHED`.
    ltol, stol, angle_tol : float
        The matcher's tolerances; degrees.
    every : bool
        All matches count, see `cheapest_map`: then exactly those that have one are let through.

    Returns
    -------
    uint8, (C,)
        `NO_VECTORS`, `NO_LATTICE`, `NOT_COVERED`, `TOO_FAR`, `LET_THROUGH` or `WORK_LIMIT_REACHED`.
    """
    answers = np.empty(len(indices), dtype=np.uint8)
    offsets = pairs.offsets
    most = max(len(pairs.frac), int((offsets[indices + 1] - offsets[indices]).max(initial=0)))
    _scan(
        to_kernel(pairs),
        given(indices, np.int64),
        float(ltol),
        float(stol),
        float(angle_tol),
        0,
        ANY_MATCH if every else 0,
        _NO_VECTORS,
        work,
        answers,
        np.empty(len(indices)),
        to_kernel(scratch_for(most)),
    )
    return answers


def cost_of_first_match(
    pairs: Pairs,
    index: int,
    in_order: np.ndarray,
    work: np.ndarray,
    *,
    ltol: float,
    stol: float,
    angle_tol: float,
    by_element: bool = False,
) -> tuple[int, float, np.ndarray | None]:
    """Lower bound of the cost of the atom map that pymatgen finds for one pair.

    Lattices and translations are gone through in pymatgen's order, up to the first match that it
    accepts beyond doubt. What pymatgen returns is that one, or one before it about which rounding
    decides: the least cost among these is no higher than the real one. Nearly always they are one,
    and the bound is the cost. Of an assignment that ties, the cheapest version counts.

    Parameters
    ----------
    pairs : Pairs
        The generated crystal G and the reference, reduced.
    index : int
        Which crystal of the reference is T.
    in_order : int64, (V, 3)
        Coefficients of the vectors of the source's lattice (the crystal with fewer sites, or G)
        that are no longer than (1 + ltol) times the target's longest cell vector, in the order in
        which pymatgen's ``Lattice.get_points_in_sphere`` lists them.
    work : int64, (2,)
        As for `furthest_steps`.
    ltol, stol, angle_tol : float
        The matcher's tolerances; degrees.
    by_element : bool
        See `first_equal`; the numbers of the sites are then those of their elements.

    Returns
    -------
    int
        How far the pair came.
    float
        Mean over sites, as `pettifor.map_cost`; infinite if pymatgen refuses the pair, negative if
        nothing could be found out.
    int64, (5,), or None
        The first match that pymatgen may accept; it refuses all that come before. Which vectors of
        `in_order` span its lattice, which site of G, expanded if T has more, the first of T is
        moved onto, and whether pymatgen surely takes that lattice.
    """
    if len(in_order) == 0:
        return LET_THROUGH, -1.0, None
    answer, cost = np.empty(1, dtype=np.uint8), np.empty(1)
    most = _most_sites(pairs, index)
    scratch = scratch_for(most)
    _scan(
        to_kernel(pairs),
        given(np.array([index]), np.int64),
        float(ltol),
        float(stol),
        float(angle_tol),
        int(by_element),
        0,
        given(in_order, np.int64),
        work,
        answer,
        cost,
        to_kernel(scratch),
    )
    lowest = float(cost[0]) / most
    return int(answer[0]), lowest, scratch.first_match.copy() if 0 <= lowest < np.inf else None


def cheapest_map(
    pairs: Pairs,
    index: int,
    work: np.ndarray,
    *,
    ltol: float,
    stol: float,
    angle_tol: float,
) -> tuple[int, float, float, np.ndarray, np.ndarray]:
    """The atom map of least cost among all matches of one pair.

    Parameters
    ----------
    pairs, index, work, ltol, stol, angle_tol
        As for `cost_of_first_match`.

    Returns
    -------
    int
        How far the pair came.
    float
        Mean cost over sites, as `pettifor.map_cost`; infinite if the pair does not match.
    float
        RMS distance in (V/N)^(1/3).
    int64, (N,)
        G's site for each of T's sites, both expanded to as many as the larger crystal has.
    int64, (3, 3)
        Coefficients of the lattice vectors of the smaller crystal (of G if they have as many).
    """
    answer, cost = np.empty(1, dtype=np.uint8), np.empty(1)
    most = _most_sites(pairs, index)
    scratch = scratch_for(most)
    _scan(
        to_kernel(pairs),
        given(np.array([index]), np.int64),
        float(ltol),
        float(stol),
        float(angle_tol),
        0,
        CHEAPEST_MAP,
        _NO_VECTORS,
        work,
        answer,
        cost,
        to_kernel(scratch),
    )
    lowest, rms = scratch.least[:2].tolist()
    sites = scratch.atom_map[:most].copy()
    return int(answer[0]), lowest / most, rms, sites, scratch.map_lattice.copy()


def _most_sites(pairs: Pairs, index: int) -> int:
    return max(len(pairs.frac), int(pairs.offsets[index + 1] - pairs.offsets[index]))


def first_equal(  # noqa: PLR0917
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    numbers: np.ndarray,
    other_lattice: np.ndarray,
    other_frac_coords: np.ndarray,
    other_numbers: np.ndarray,
    in_order: np.ndarray,
    work: np.ndarray,
    *,
    ltol: float,
    stol: float,
    angle_tol: float,
) -> tuple[int, np.ndarray | None]:
    """True if pymatgen refuses two crystals as equal, elements included.

    As `cost_of_first_match`, but a site goes only to one of the same element, the first site of the
    rarest element is the anchor, and the largest distance counts and not the RMS.

    Parameters
    ----------
    lattice, frac_coords : float64, (3, 3), (n, 3)
        The generated crystal.
    other_lattice, other_frac_coords : float64, (3, 3), (m, 3)
        The other.
    numbers, other_numbers : integer, (n,), (m,)
        Equal for equal elements. In the same proportions on both sides.

    Returns
    -------
    int
        How far the pair came.
    int64, (5,), or None
        As for `cost_of_first_match`, but for the site: the order of T's sites is another here.
    """
    if len(in_order) > MOST_VECTORS:  # more than pymatgen would end with
        return WORK_LIMIT_REACHED, None
    _, element, counts = np.unique(other_numbers, return_inverse=True, return_counts=True)
    anchor = int(np.argmin(counts[element]))
    order = np.r_[anchor, np.delete(np.arange(len(other_numbers)), anchor)]
    answer, _, first_match = cost_of_first_match(
        Pairs.of(
            lattice,
            frac_coords,
            numbers,
            other_lattice[None],
            np.array([0, len(order)]),
            other_frac_coords[order],
            other_numbers[order],
        ),
        0,
        in_order,
        work,
        ltol=ltol,
        stol=stol,
        angle_tol=angle_tol,
        by_element=True,
    )
    return answer, first_match
