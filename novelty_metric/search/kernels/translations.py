"""Step 9: all translations for one pair of lattices, with their RMS."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.assignment import assign_the_rest, least_site_cost, settle
from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.constants import (
    ACCEPTED,
    EDGE,
    IMAGES_TIE,
    LET_THROUGH,
    NOT_COVERED,
    ON_EDGE,
    REFUSED,
    SLACK,
    SURE,
    TOO_FAR,
    UNSURE,
    WORK_LIMIT_REACHED,
)
from novelty_metric.search.kernels.coverage import differences, mark
from novelty_metric.search.kernels.distances import distance_of
from novelty_metric.search.kernels.geometry import average_cell, inner, inverted
from novelty_metric.search.kernels.memory import Scratch, row_width
from novelty_metric.search.kernels.reduction import reduced_forms
from novelty_metric.search.kernels.ties import tied_sums


@internal
def lattice_test(  # noqa: PLR0917
    aligned: np.ndarray,
    target: np.ndarray,
    n: int,
    expand_first: bool,
    fu: int,
    stol: float,
    sure: bool,
    in_order: bool,
    scratch: Scratch,
) -> tuple[int, float]:
    """All translations for one pair of lattices; the sites are `scratch.first` and `.second`.

    Parameters
    ----------
    aligned, target : (6,)
        Lengths and angles of the two cells.
    expand_first : bool
        Whether G is the crystal that was expanded, by `fu`.
    sure : bool
        Whether pymatgen surely takes this pair of lattices.
    in_order : bool
        Go on, in pymatgen's order, to the first match that pymatgen surely accepts, and give the
        least cost up to there. Else stop at the first that it may accept, and try the lattice
        turned around too: the opposite vectors span a cell of the same lengths and angles, on which
        the expanded crystal has the opposite coordinates. Where T's first site, its anchor, is a
        centre of inversion of T, that is the same test once more.

    Returns
    -------
    int
        How far it came.
    float
        Lower bound of the sum of site costs if pymatgen's match is one of these, else infinite; -1
        if nothing is known.
    """
    average, inverse, windows = scratch.small[1], scratch.small[2], scratch.windows
    average_cell(aligned, target, average)
    volume = abs(inverted(average, inverse))
    normalization = (n / volume) ** (1 / 3)
    for k in range(3):
        length = np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        reach = 2 * length * stol / normalization
        windows[0, k] = reach * (1 + SLACK) + SLACK
        windows[1, k] = reach * (1 - SLACK) - SLACK
    first, second = scratch.first, scratch.second
    expanded = first if expand_first else second
    # Sites of G that are copies of one another by its supercell's translations are all the same.
    stride = fu if expand_first else 1
    backs = scratch.reductions.backs
    variants = reduced_forms(average, stol / normalization, scratch.reductions, scratch.small)
    if variants == 0:
        return LET_THROUGH, -1.0
    # If reduction only exchanges and turns axes, the windows on both cells hold the same.
    same = not in_order and variants == 1 and _is_exchange(backs[0])
    with_cost = in_order and not scratch.by_element[0]
    came_to = NOT_COVERED
    lowest = np.inf
    for turned in range(1 if in_order else 2):
        if turned:
            if inverted_about_first(second, n, scratch):
                break
            for k in range(3):
                for i in range(n):
                    value = -expanded[k, i]
                    expanded[k, i] = value - np.floor(value)
        on_reduced = False
        at_hand = -1  # the reduced form of which there are the differences
        if not same:
            differences(first, second, n, scratch.apart[0])
        for start in range(0, n, stride):
            if scratch.by_element[0] and scratch.labels[0, start] != scratch.labels[1, 0]:
                continue
            scratch.work[0] += n * n // 8
            if scratch.work[0] > scratch.work[1]:
                return WORK_LIMIT_REACHED, -1.0
            covered, surely_covered = same, False
            for narrow in range(int(same), 2 if in_order else 1):
                found = mark(
                    scratch.apart[0], n, start, windows[narrow], EDGE * (1 - 2 * narrow), scratch
                )
                covered = covered or found
                surely_covered = found and narrow == 1
                if not found:
                    break
            if not covered:
                continue
            if not on_reduced:
                for variant in range(variants):
                    wrap_onto(first, backs[variant], n, scratch.first_reduced[variant])
                    wrap_onto(second, backs[variant], n, scratch.second_reduced[variant])
                on_reduced = True
            worst = SURE
            for variant in range(variants):
                if variant != at_hand:
                    differences(
                        scratch.first_reduced[variant],
                        scratch.second_reduced[variant],
                        n,
                        scratch.apart[1],
                    )
                    at_hand = variant
                window = scratch.reductions.windows[variant]
                if not mark(scratch.apart[1], n, start, window, EDGE, scratch):
                    worst = REFUSED
                    came_to = max(came_to, NOT_COVERED if same else TOO_FAR)
                    continue
                scratch.work[0] += 6 * n * n
                answer, cost = site_test(n, start, variant, normalization, stol, with_cost, scratch)
                worst = min(worst, answer)
                came_to = max(came_to, TOO_FAR)
                if answer != REFUSED:
                    if not in_order:
                        return LET_THROUGH, lowest
                    if scratch.first_match[3] < 0:
                        scratch.first_match[3] = start
                    came_to = LET_THROUGH
                    lowest = min(lowest, cost)
            if worst == SURE and sure and surely_covered:
                return ACCEPTED, lowest
    return came_to, lowest


@internal
def site_test(  # noqa: PLR0917
    n: int,
    start: int,
    variant: int,
    normalization: float,
    stol: float,
    with_cost: bool,
    scratch: Scratch,
) -> tuple[int, float]:
    """Distances, assignment, translation and RMS in a reduced cell; T's first site is at `start`.

    After `mark`. Where all matches count, a sphere takes the place of pymatgen's window, and where
    several assignments are equally near the RMS is that before the last shift, which is the same
    for all of them: the answer is never `UNSURE`. The mean square goes to ``scratch.least[3]``.

    Parameters
    ----------
    variant : int
        Which of ``scratch.reductions``.
    with_cost : bool
        Also give the least cost of the atom map.

    Returns
    -------
    int
        `REFUSED`, `UNSURE` or `SURE`.
    float
        Lower bound of the sum of differences of Pettifor numbers over the map, unless refused.
    """
    allowed, vectors, doubt = scratch.allowed, scratch.vectors, scratch.doubt
    every = scratch.every[0] > 0
    if every:
        keep_near(n, start, variant, 2 * stol / normalization, scratch)
    # Whatever lies on an edge is marked as allowed: if even so there is no way, there is none.
    refused = (stol * (1 + EDGE) / normalization) ** 2
    left = settle(n, start, variant, n * refused * (1 + EDGE), scratch)
    if left < 0 or (left > 0 and not assign_the_rest(n, left, start, variant, scratch)):
        return REFUSED, 0.0
    width = row_width(n)
    column_of, own = scratch.settled[1], scratch.small[0, 0]
    rows, columns = scratch.rest[0], scratch.rest[1]
    total = 0.0
    doubts = 0
    for k in range(3):
        own[k] = 0.0
    for i in range(n):
        place = i * width + column_of[i]
        total += scratch.cost[place]
        doubts |= doubt[place]
        for k in range(3):
            own[k] += vectors[place, k]
    for p in range(left):
        for q in range(left):
            place = rows[p] * width + columns[q]
            doubts |= allowed[place] * (doubt[place] & ON_EDGE)
    if doubts & ON_EDGE and not every:
        return UNSURE, least_site_cost(scratch, n) if with_cost else 0.0
    # Only entries without reduced cost take part in assignments of (nearly) equal cost; they alone
    # stay marked in `allowed`.
    tied = doubts > 0
    u, v = scratch.floats[0], scratch.floats[1]
    eps = EDGE * (total / n + EDGE / normalization**2)
    for p in range(left):
        for q in range(left):
            if scratch.open_cost[p, q] - u[p] - v[q] > eps:
                allowed[rows[p] * width + columns[q]] = 0
            elif columns[q] != column_of[rows[p]]:
                tied = True
    if every:
        tied = (doubts & IMAGES_TIE) > 0 or (tied and _other_assignment(n, left, scratch))
        square = total / n if tied else total / n - inner(own, own) / (n * n)
        scratch.least[3] = max(0.0, square) * normalization**2
        if scratch.least[3] >= stol**2:
            return REFUSED, 0.0
        return SURE, least_site_cost(scratch, n) if with_cost else 0.0
    nearest = furthest = inner(own, own)
    if tied:
        nearest, furthest = tied_sums(n, start, variant, scratch)
    least = (total / n - furthest / (n * n)) * normalization**2
    greatest = (total / n - nearest / (n * n)) * normalization**2
    if least >= refused * normalization**2:
        return REFUSED, 0.0
    if scratch.by_element[0]:
        # Which vectors are assigned is not known in a tie: then it is as if one lay on the edge.
        largest = stol if tied else _largest_from_mean(n, scratch) * normalization
        if largest >= stol * (1 + EDGE):
            return REFUSED, 0.0
        greatest = largest**2
    answer = UNSURE if greatest >= (stol * (1 - EDGE)) ** 2 else SURE
    return answer, least_site_cost(scratch, n) if with_cost else 0.0


@internal
def keep_near(n: int, start: int, variant: int, furthest: float, scratch: Scratch) -> None:
    """Keep only the marked pairs of sites up to a distance (Å)."""
    width = row_width(n)
    for i in range(n):
        for j in range(n):
            if scratch.allowed[i * width + j]:
                square = distance_of(i, j, start, width, variant, scratch)
                scratch.allowed[i * width + j] = square < furthest * furthest


@internal
def _other_assignment(n: int, left: int, scratch: Scratch) -> bool:
    """True if the marked entries contain a second assignment of the sites with a choice.

    A row leads to another if its site may go where the other's goes. A second assignment is a
    circle of rows: rows that lead to none are taken out until nothing changes.
    """
    rows, column_of, out = scratch.rest[0], scratch.settled[1], scratch.flags[0]
    width = row_width(n)
    for p in range(left):
        out[p] = False
    kept, changed = left, True
    while changed:
        changed = False
        for p in range(left):
            leads = False
            for q in range(left):
                marked = scratch.allowed[rows[p] * width + column_of[rows[q]]] > 0
                leads |= (q != p) & (not out[q]) & marked
            if not leads and not out[p]:
                out[p] = changed = True
                kept -= 1
    return kept > 0


@internal
def _largest_from_mean(n: int, scratch: Scratch) -> float:
    """Largest distance (Å) of the assigned vectors from their mean, the best translation."""
    vectors, column_of = scratch.vectors, scratch.settled[1]
    width = row_width(n)
    x, y, z = 0.0, 0.0, 0.0
    for i in range(n):
        place = i * width + column_of[i]
        x += vectors[place, 0] / n
        y += vectors[place, 1] / n
        z += vectors[place, 2] / n
    largest = 0.0
    for i in range(n):
        place = i * width + column_of[i]
        dx, dy, dz = vectors[place, 0] - x, vectors[place, 1] - y, vectors[place, 2] - z
        largest = max(largest, dx * dx + dy * dy + dz * dz)
    return np.sqrt(largest)


@internal
def wrap_onto(coords: np.ndarray, matrix: np.ndarray, n: int, out: np.ndarray) -> None:
    """Fractional coordinates, (3, n), in another cell, wrapped into it."""
    for k in range(3):
        for i in range(n):
            value = (
                coords[0, i] * matrix[0, k]
                + coords[1, i] * matrix[1, k]
                + coords[2, i] * matrix[2, k]
            )
            out[k, i] = value - np.floor(value)


@internal
def inverted_about_first(coords: np.ndarray, n: int, scratch: Scratch) -> bool:
    """True if inversion at T's first site maps the wrapped sites of T, (3, n), onto themselves.

    All but exactly. Where all matches count, elements included.
    """
    labels, any_element = scratch.labels[1], scratch.every[0] == 0
    x, y, z = 2 * coords[0, 0], 2 * coords[1, 0], 2 * coords[2, 0]
    for i in range(n):
        found = 0
        for j in range(n):
            dx = coords[0, i] + coords[0, j] - x
            dy = coords[1, i] + coords[1, j] - y
            dz = coords[2, i] + coords[2, j] - z
            found |= (
                (abs(dx - np.rint(dx)) < SLACK / 10)
                & (abs(dy - np.rint(dy)) < SLACK / 10)
                & (abs(dz - np.rint(dz)) < SLACK / 10)
                & (any_element | (labels[i] == labels[j]))
            )
        if not found:
            return False
    return True


@internal
def _is_exchange(matrix: np.ndarray) -> bool:
    """True if an integer matrix with determinant ±1 has one non-zero entry per row."""
    entries = 0.0
    for i in range(3):
        for k in range(3):
            entries += abs(matrix[i, k])
    return entries < 3.5
