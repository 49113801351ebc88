"""The geometric pair test of the lattice-and-sites route, compiled over a whole reference.

`furthest_steps` answers, for one generated crystal G against many reference crystals T, whether
pymatgen's `StructureMatcher` (`FrameworkComparator`, `scale=False`, RMS, any match) refuses the
pair. It only ever refuses: a pair that it lets through still goes to pymatgen, which decides, and
gives the map and the cost. So the one thing it must never do is to refuse a pair that pymatgen
accepts. To that end it follows pymatgen's cascade step by step, and

- every comparison that *lets a pair go on* has a slack far above rounding;
- where rounding decides *which of several answers* pymatgen takes, all of them are looked at, or
  the pair is let through: ties in the reduction of the average lattice (hexagonal and
  face-centred cells tie all the time), sites on the edge of the window outside which pymatgen
  drops distances, equally near images, and assignments of equal cost.

The cascade, after W. D. Richards and S. Dacek's matcher in pymatgen (MIT licence): lattices of the
smaller cell near the larger's cell, translations of T's first site onto sites of G, coverage of all
sites within a fractional window on the average lattice, distances on its LLL-reduced form within a
second window, assignment, best translation, RMS. The assignment is the shortest augmenting path
method (D. F. Crouse, IEEE Trans. Aerosp. Electron. Syst. 52, 1679 (2016)) as in SciPy.

This module imports numba and is itself imported only on use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np

from novelty_metric.search.pettifor import NONE, WITHOUT_NUMBER

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile without the interpreter lock, cached on disk wherever a place can be written.

    numba keeps its cache beside the module, or in the user's cache folder if that is read-only. If
    neither can be written it raises at once; then the cache is done without.
    """
    quick: Any
    try:
        quick = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        quick = numba.njit(nogil=True)(function)
    return cast("Function", quick)


SLACK = 1e-9
EDGE = 1e-7
"""How near to an edge or a tie (fractional, or relative) a decision counts as rounding's."""

FORBIDDEN = 1e20
"""Squared distance that pymatgen gives a pair outside the window."""

MOST_VECTORS = 20000
MOST_TIES = 5
"""At most 2 to this power ways through the ties of one lattice reduction are followed."""

_REFUSED, _UNSURE, _SURE = range(3)
"""What one lattice and translation come to: pymatgen refuses it, may take it, or takes it."""

NO_VECTORS, NO_LATTICE, NOT_COVERED, TOO_FAR, LET_THROUGH = range(5)
"""How far a pair came: no lattice vectors of the right lengths; none that span a cell with the
right angles and volume; no translation that covers all sites; none whose RMS is small enough."""


class Scratch(NamedTuple):
    """Arrays that every step writes over, made once for a scan. N is the most sites of a pair.

    `cells`, `backs` and `windows` hold the reductions of one average lattice;
    `expanded`, `first`, `second` and `moved` fractional coordinates by axis, (3, N), and
    `first_reduced`, `second_reduced` the same on each reduction; `allowed` whether two sites are
    within the window, (N, N): 0 no, 1 perhaps, 2 surely; `cost`, `vectors` and `image_tie` what
    `_site_test` knows of each pair of sites; `site_cost` the elements' part, (N, N); `floats`,
    `ints` and `flags` the state of the assignment; `shell`, `shell_cart` and `shell_length` lattice
    vectors by target axis, (3, MOST_VECTORS); `near` a short list of them; `pettifor` the modified
    Pettifor numbers of the two sides, (2, N); `first_matrix` the coefficients of the first lattice
    with a match that pymatgen may accept.
    """

    cells: np.ndarray
    backs: np.ndarray
    windows: np.ndarray
    expanded: np.ndarray
    first: np.ndarray
    second: np.ndarray
    moved: np.ndarray
    first_reduced: np.ndarray
    second_reduced: np.ndarray
    cart: np.ndarray
    allowed: np.ndarray
    cost: np.ndarray
    vectors: np.ndarray
    image_tie: np.ndarray
    site_cost: np.ndarray
    floats: np.ndarray
    ints: np.ndarray
    flags: np.ndarray
    shell: np.ndarray
    shell_cart: np.ndarray
    shell_length: np.ndarray
    near: np.ndarray
    pettifor: np.ndarray
    first_matrix: np.ndarray


@compiled
def _inverse(matrix: np.ndarray, out: np.ndarray) -> float:
    """Inverse of a 3×3 matrix into `out`; returns the determinant."""
    det = (
        matrix[0, 0] * (matrix[1, 1] * matrix[2, 2] - matrix[1, 2] * matrix[2, 1])
        + matrix[0, 1] * (matrix[1, 2] * matrix[2, 0] - matrix[1, 0] * matrix[2, 2])
        + matrix[0, 2] * (matrix[1, 0] * matrix[2, 1] - matrix[1, 1] * matrix[2, 0])
    )
    for i in range(3):
        for j in range(3):
            out[i, j] = (
                matrix[(j + 1) % 3, (i + 1) % 3] * matrix[(j + 2) % 3, (i + 2) % 3]
                - matrix[(j + 2) % 3, (i + 1) % 3] * matrix[(j + 1) % 3, (i + 2) % 3]
            ) / det
    return det


@compiled
def _dot(one: np.ndarray, other: np.ndarray) -> float:
    """Inner product of two vectors, (3,)."""
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


@compiled
def _parameters(matrix: np.ndarray, out: np.ndarray) -> None:
    """Lengths (Å) and angles (radians) of a cell into `out`, (6,)."""
    for i in range(3):
        out[i] = np.sqrt(matrix[i, 0] ** 2 + matrix[i, 1] ** 2 + matrix[i, 2] ** 2)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        dot = (
            matrix[j, 0] * matrix[k, 0] + matrix[j, 1] * matrix[k, 1] + matrix[j, 2] * matrix[k, 2]
        )
        out[3 + i] = np.arccos(min(1.0, max(-1.0, dot / (out[j] * out[k]))))


@compiled
def _average_cell(one: np.ndarray, other: np.ndarray, out: np.ndarray) -> None:
    """Cell with the mean lengths and angles of two, in pymatgen's orientation, into `out`."""
    a, b, c = (one[0] + other[0]) / 2, (one[1] + other[1]) / 2, (one[2] + other[2]) / 2
    alpha, beta, gamma = (one[3] + other[3]) / 2, (one[4] + other[4]) / 2, (one[5] + other[5]) / 2
    value = (np.cos(alpha) * np.cos(beta) - np.cos(gamma)) / (np.sin(alpha) * np.sin(beta))
    gamma_star = np.arccos(min(1.0, max(-1.0, value)))
    out[0, 0], out[0, 1], out[0, 2] = a * np.sin(beta), 0.0, a * np.cos(beta)
    out[1, 0] = -b * np.sin(alpha) * np.cos(gamma_star)
    out[1, 1] = b * np.sin(alpha) * np.sin(gamma_star)
    out[1, 2] = b * np.cos(alpha)
    out[2, 0], out[2, 1], out[2, 2] = 0.0, 0.0, c


@compiled
def _lll(cell: np.ndarray, choices: int, reduced: np.ndarray, mapping: np.ndarray) -> int:
    """LLL reduction (delta 0.75) in pymatgen's order of steps, into `reduced` and `mapping`.

    Whenever rounding would decide a step (a coefficient to be rounded lies half-way, or the Lovász
    condition holds with equality), the next bit of `choices` decides instead.

    Returns
    -------
    int
        How many steps were decided so; -1 if the reduction does not end.
    """
    a = cell.T.copy()
    b = np.zeros((3, 3))
    u = np.zeros((3, 3))
    m = np.zeros(3)
    steps = np.eye(3)
    ties = 0
    for s in range(3):
        _orthogonalise(a, b, u, m, s)
    k = 2
    for _ in range(200):
        if k > 3:
            break
        for i in range(k - 1, 0, -1):
            value = u[k - 1, i - 1]
            low = np.floor(value)
            if abs(value - low - 0.5) < EDGE:
                q = low + ((choices >> ties) & 1)
                ties += 1
            else:
                q = np.floor(value + 0.5)
            if q != 0:
                for row in range(3):
                    a[row, k - 1] -= q * a[row, i - 1]
                    steps[row, k - 1] -= q * steps[row, i - 1]
                for column in range(i - 1):
                    u[k - 1, column] -= q * u[i - 1, column]
                u[k - 1, i - 1] -= q
        left = m[k - 1]
        right = (0.75 - u[k - 1, k - 2] ** 2) * m[k - 2]
        if abs(left - right) < EDGE * m[k - 2]:
            holds = ((choices >> ties) & 1) == 0
            ties += 1
        else:
            holds = left >= right
        if holds:
            k += 1
            continue
        for row in range(3):
            a[row, k - 1], a[row, k - 2] = a[row, k - 2], a[row, k - 1]
            steps[row, k - 1], steps[row, k - 2] = steps[row, k - 2], steps[row, k - 1]
        _orthogonalise(a, b, u, m, k - 2)
        _orthogonalise(a, b, u, m, k - 1)
        if k > 2:
            k -= 1
        else:
            for column in range(2):
                dot = 0.0
                for row in range(3):
                    dot += a[row, 2] * b[row, column]
                u[2, column] = dot / m[column]
    if k <= 3:
        return -1
    for i in range(3):
        for j in range(3):
            reduced[i, j] = a[j, i]
            mapping[i, j] = steps[j, i]
    return ties


@compiled
def _orthogonalise(a: np.ndarray, b: np.ndarray, u: np.ndarray, m: np.ndarray, s: int) -> None:
    """Gram-Schmidt of column `s` against the columns before it."""
    for column in range(s):
        dot = 0.0
        for row in range(3):
            dot += a[row, s] * b[row, column]
        u[s, column] = dot / m[column]
    for row in range(3):
        value = a[row, s]
        for column in range(s):
            value -= b[row, column] * u[s, column]
        b[row, s] = value
    m[s] = b[0, s] ** 2 + b[1, s] ** 2 + b[2, s] ** 2


@compiled
def _reductions(
    cell: np.ndarray, reach: float, cells: np.ndarray, backs: np.ndarray, windows: np.ndarray
) -> int:
    """All reduced forms of a cell that rounding might lead to, with pymatgen's windows on them.

    Parameters
    ----------
    cell : (3, 3)
    reach : float
        Site tolerance (Å).
    cells, backs, windows : (V, 3, 3), (V, 3, 3), (V, 3)
        For the reduced cells, the matrices that take fractional coordinates there, and the windows.

    Returns
    -------
    int
        How many there are; 0 if they are too many.
    """
    inverse = np.empty((3, 3))
    mapping = np.empty((3, 3))
    found, choices, last = 0, 0, 0
    while choices <= last:
        ties = _lll(cell, choices, cells[found], mapping)
        if ties < 0 or ties > MOST_TIES:
            return 0
        last = max(last, (1 << ties) - 1)
        choices += 1
        new = True
        for earlier in range(found):
            if np.abs(cells[earlier] - cells[found]).max() < 1e-6:
                new = False
        if not new:
            continue
        _inverse(mapping, backs[found])
        _inverse(cells[found], inverse)
        for k in range(3):
            length = np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
            windows[found, k] = 2 * length * reach
        found += 1
    return found


@compiled
def _assign(cost: np.ndarray, n: int, scratch: Scratch) -> bool:
    """Least-cost assignment of n rows to n columns, with its dual variables.

    Leaves the dual variables in ``scratch.floats[:2]``, each row's column in ``scratch.ints[1]``.
    Returns False as soon as a row can only take a forbidden entry: then every assignment holds one.
    """
    u, v, shortest = scratch.floats[0], scratch.floats[1], scratch.floats[2]
    row_of, column_of = scratch.ints[0], scratch.ints[1]
    path, remaining = scratch.ints[2], scratch.ints[3]
    row_seen, column_seen = scratch.flags[0], scratch.flags[1]
    # A first solution of the dual problem, and what can be assigned by it at once.
    for i in range(n):
        row_of[i] = -1
        column_of[i] = -1
        u[i] = np.inf
        v[i] = np.inf
        for j in range(n):
            u[i] = min(u[i], cost[i, j])
        if u[i] > FORBIDDEN / 10:
            return False
    for i in range(n):
        for j in range(n):
            v[j] = min(v[j], cost[i, j] - u[i])
    for i in range(n):
        if v[i] > FORBIDDEN / 10:
            return False
    for i in range(n):
        for j in range(n):
            if row_of[j] < 0 and cost[i, j] - u[i] - v[j] <= 0.0:
                row_of[j] = i
                column_of[i] = j
                break
    for current in range(n):
        if column_of[current] >= 0:
            continue
        for j in range(n):
            row_seen[j] = False
            column_seen[j] = False
            shortest[j] = np.inf
            remaining[j] = n - 1 - j
        left = n
        lowest = 0.0
        i = current
        sink = -1
        while sink < 0:
            row_seen[i] = True
            reached = lowest
            lowest = np.inf
            place = -1
            for t in range(left):
                j = remaining[t]
                distance = reached + cost[i, j] - u[i] - v[j]
                if distance < shortest[j]:
                    path[j] = i
                    shortest[j] = distance
                if shortest[j] < lowest or (shortest[j] == lowest and row_of[j] < 0):
                    lowest = shortest[j]
                    place = t
            if lowest > FORBIDDEN / 10:
                return False
            j = remaining[place]
            if row_of[j] < 0:
                sink = j
            else:
                i = row_of[j]
            column_seen[j] = True
            left -= 1
            remaining[place] = remaining[left]
        u[current] += lowest
        for i in range(n):
            if row_seen[i] and i != current:
                u[i] += lowest - shortest[column_of[i]]
        for j in range(n):
            if column_seen[j]:
                v[j] -= lowest - shortest[j]
        j = sink
        while True:
            i = path[j]
            row_of[j] = i
            previous = column_of[i]
            column_of[i] = j
            if i == current:
                break
            j = previous
    return True


@compiled
def _apart(one: float, other: float) -> float:
    """Distance of two wrapped fractional coordinates, through the cell's side if that is nearer."""
    step = abs(one - other)
    return 1.0 - step if step > 0.5 else step


@compiled
def _covered(first: np.ndarray, second: np.ndarray, n: int, window: np.ndarray) -> bool:
    """Whether each site of `second` lies within the window of one of `first`; both wrapped."""
    for i in range(n):
        x, y, z = second[0, i], second[1, i], second[2, i]
        found = 0
        for j in range(n):
            found |= (
                (_apart(first[0, j], x) <= window[0])
                & (_apart(first[1, j], y) <= window[1])
                & (_apart(first[2, j], z) <= window[2])
            )
        if not found:
            return False
    return True


@compiled
def _may_be_assigned(allowed: np.ndarray, n: int, scratch: Scratch) -> bool:
    """Whether all rows find columns of their own among the allowed ones, by augmenting paths."""
    row_of, came_from, queue = scratch.ints[0], scratch.ints[2], scratch.ints[3]
    seen = scratch.flags[1]
    for j in range(n):
        row_of[j] = -1
    for current in range(n):
        free = -1
        for j in range(n):
            if allowed[current, j] > 0 and row_of[j] < 0:
                free = j
                break
        if free >= 0:
            row_of[free] = current
            continue
        for j in range(n):
            seen[j] = False
        queue[0] = current
        done, known = 0, 1
        while done < known and free < 0:
            i = queue[done]
            done += 1
            for j in range(n):
                if allowed[i, j] > 0 and not seen[j]:
                    seen[j] = True
                    came_from[j] = i
                    if row_of[j] < 0:
                        free = j
                        break
                    queue[known] = row_of[j]
                    known += 1
        if free < 0:
            return False
        # Back along the path: each row on it takes the column by which it was left.
        j = free
        while j >= 0:
            i = came_from[j]
            before = -1
            if i != current:
                for other in range(n):
                    if row_of[other] == i:
                        before = other
                        break
            row_of[j] = i
            j = before
    return True


@compiled
def _least_site_cost(scratch: Scratch, n: int) -> float:
    """Least sum of differences of Pettifor numbers over assignments of entries still marked.

    Marked are the entries of `allowed` above 0.
    """
    site_cost, pettifor = scratch.site_cost, scratch.pettifor
    total = 0.0
    several = False
    for i in range(n):
        marked = 0
        for j in range(n):
            site_cost[i, j] = FORBIDDEN
            if scratch.allowed[i, j] > 0:
                one, other = pettifor[0, j], pettifor[1, i]
                step = abs(one - other)
                if NONE in (one, other):
                    step = WITHOUT_NUMBER
                site_cost[i, j] = step
                total += step
                marked += 1
        several |= marked > 1
    if not several:
        return total
    if not _assign(site_cost, n, scratch):
        return 0.0
    total = 0.0
    for i in range(n):
        total += site_cost[i, scratch.ints[1, i]]
    return total


@compiled
def _equally_near(
    one: np.ndarray, other: np.ndarray, cell: np.ndarray, square: float, k: int
) -> tuple[float, float]:
    """Least and greatest component k of the vectors to images at that squared distance."""
    lowest, highest = np.inf, -np.inf
    for p in range(-1, 2):
        for q in range(-1, 2):
            for r in range(-1, 2):
                dx = other[0] - one[0] + p * cell[0, 0] + q * cell[1, 0] + r * cell[2, 0]
                dy = other[1] - one[1] + p * cell[0, 1] + q * cell[1, 1] + r * cell[2, 1]
                dz = other[2] - one[2] + p * cell[0, 2] + q * cell[1, 2] + r * cell[2, 2]
                if dx * dx + dy * dy + dz * dz <= square * (1 + 2 * EDGE):
                    value = dx if k == 0 else dy if k == 1 else dz
                    lowest = min(lowest, value)
                    highest = max(highest, value)
    return lowest, highest


@compiled
def _sums_within(
    own: np.ndarray, low: np.ndarray, high: np.ndarray, cell: np.ndarray, inverse: np.ndarray
) -> tuple[float, float]:
    """Least and greatest square of the sum of vectors over assignments that tie, from one sum.

    Another assignment permutes the sites' ends and takes other images, so its sum differs from
    `own` by a lattice vector, and lies in the box from `low` to `high`.
    """
    reach = np.empty(3, np.int64)
    for k in range(3):
        furthest = 0.0
        for c in range(3):
            step = max(high[c] - own[c], own[c] - low[c]) + 1e-6
            furthest += step * abs(inverse[c, k])
        reach[k] = int(np.floor(furthest))
    nearest, furthest = np.inf, 0.0
    for p in range(-reach[0], reach[0] + 1):
        for q in range(-reach[1], reach[1] + 1):
            for r in range(-reach[2], reach[2] + 1):
                square = 0.0
                inside = True
                for k in range(3):
                    value = own[k] + p * cell[0, k] + q * cell[1, k] + r * cell[2, k]
                    square += value * value
                    inside &= low[k] - 1e-6 <= value <= high[k] + 1e-6
                if inside:
                    nearest = min(nearest, square)
                    furthest = max(furthest, square)
    return nearest, furthest


@compiled
def _site_test(  # noqa: PLR0917
    first: np.ndarray,
    second: np.ndarray,
    n: int,
    cell: np.ndarray,
    window: np.ndarray,
    normalization: float,
    stol: float,
    with_cost: bool,
    scratch: Scratch,
) -> tuple[int, float]:
    """Distances on the reduced cell, assignment, translation, RMS.

    Parameters
    ----------
    first, second : (3, n)
        Wrapped fractional coordinates on the reduced cell: of G, and of T moved onto it.
    cell, window : (3, 3), (3,)
        The reduced cell, and pymatgen's fractional window on it.
    with_cost : bool
        Also give the least cost of the atom map.

    Returns
    -------
    int
        `_REFUSED`, `_UNSURE` or `_SURE`.
    float
        Lower bound of the sum of differences of Pettifor numbers over the map, unless refused.
    """
    cost, vectors, image_tie = scratch.cost, scratch.vectors, scratch.image_tie
    cart, allowed = scratch.cart, scratch.allowed
    wide = window + EDGE
    narrow = window - EDGE
    on_edge = 0
    for i in range(n):
        x, y, z = second[0, i], second[1, i], second[2, i]
        any_allowed = 0
        for j in range(n):
            one, two, three = (
                _apart(first[0, j], x),
                _apart(first[1, j], y),
                _apart(first[2, j], z),
            )
            within = int((one <= wide[0]) & (two <= wide[1]) & (three <= wide[2]))
            surely = int((one <= narrow[0]) & (two <= narrow[1]) & (three <= narrow[2]))
            allowed[i, j] = within + surely
            any_allowed |= within
            on_edge |= within - surely
        if not any_allowed:
            # Whatever lies on an edge is counted as allowed, so this row is empty for pymatgen.
            return _REFUSED, 0.0
    if not _may_be_assigned(allowed, n, scratch):
        return _REFUSED, 0.0
    if on_edge:
        return _UNSURE, _least_site_cost(scratch, n) if with_cost else 0.0

    safe = 0.0  # a vector shorter than half the least distance of lattice planes has no rival
    inverse = np.empty((3, 3))
    _inverse(cell, inverse)
    for k in range(3):
        safe = max(safe, inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
    safe = (1 - EDGE) * 0.25 / safe
    for i in range(n):
        for k in range(3):
            cart[0, i, k] = (
                second[0, i] * cell[0, k] + second[1, i] * cell[1, k] + second[2, i] * cell[2, k]
            )
            cart[1, i, k] = (
                first[0, i] * cell[0, k] + first[1, i] * cell[1, k] + first[2, i] * cell[2, k]
            )
    for i in range(n):
        for j in range(n):
            cost[i, j] = FORBIDDEN
            if allowed[i, j] == 0:
                continue
            image_tie[i, j] = False
            best = 0.0
            x, y, z = (
                first[0, j] - second[0, i],
                first[1, j] - second[1, i],
                first[2, j] - second[2, i],
            )
            x, y, z = x - np.rint(x), y - np.rint(y), z - np.rint(z)
            for k in range(3):
                value = x * cell[0, k] + y * cell[1, k] + z * cell[2, k]
                vectors[i, j, k] = value
                best += value * value
            if best > safe:
                # pymatgen looks at the images next to the coordinates wrapped into the cell.
                best, rival = np.inf, np.inf
                for p in range(-1, 2):
                    for q in range(-1, 2):
                        for r in range(-1, 2):
                            dx = cart[1, j, 0] - cart[0, i, 0]
                            dy = cart[1, j, 1] - cart[0, i, 1]
                            dz = cart[1, j, 2] - cart[0, i, 2]
                            dx += p * cell[0, 0] + q * cell[1, 0] + r * cell[2, 0]
                            dy += p * cell[0, 1] + q * cell[1, 1] + r * cell[2, 1]
                            dz += p * cell[0, 2] + q * cell[1, 2] + r * cell[2, 2]
                            d2 = dx * dx + dy * dy + dz * dz
                            if d2 < best:
                                rival = best
                                best = d2
                                vectors[i, j, 0] = dx
                                vectors[i, j, 1] = dy
                                vectors[i, j, 2] = dz
                            elif d2 < rival:
                                rival = d2
                image_tie[i, j] = rival - best < EDGE * best
            cost[i, j] = best
    if not _assign(cost, n, scratch):
        return _REFUSED, 0.0
    u, v, column_of = scratch.floats[0], scratch.floats[1], scratch.ints[1]
    total = 0.0
    for i in range(n):
        total += cost[i, column_of[i]]
    eps = EDGE * (total / n + EDGE / normalization**2)
    # The sum of vectors over all assignments of (nearly) equal cost and all equally near images:
    # only entries without reduced cost take part in them, and they alone stay marked in `allowed`.
    # Box of what the components of the sum can be:
    low, own, high = np.zeros(3), np.zeros(3), np.zeros(3)
    for k in range(3):
        for i in range(n):
            lowest = highest = vectors[i, column_of[i], k]
            own[k] += lowest
            for j in range(n):
                if allowed[i, j] == 0:
                    continue
                if cost[i, j] - u[i] - v[j] <= eps:
                    lowest = min(lowest, vectors[i, j, k])
                    highest = max(highest, vectors[i, j, k])
                    if image_tie[i, j]:
                        least_of_images, most_of_images = _equally_near(
                            cart[0, i], cart[1, j], cell, cost[i, j], k
                        )
                        lowest = min(lowest, least_of_images)
                        highest = max(highest, most_of_images)
                else:
                    allowed[i, j] = 0
            low[k] += lowest
            high[k] += highest
    nearest, furthest = _sums_within(own, low, high, cell, inverse)
    least = (total / n - furthest / (n * n)) * normalization**2
    greatest = (total / n - nearest / (n * n)) * normalization**2
    if least >= (stol * (1 + EDGE)) ** 2:
        return _REFUSED, 0.0
    answer = _UNSURE if greatest >= (stol * (1 - EDGE)) ** 2 else _SURE
    return answer, _least_site_cost(scratch, n) if with_cost else 0.0


@compiled
def _wrap_onto(coords: np.ndarray, matrix: np.ndarray, n: int, out: np.ndarray) -> None:
    """Fractional coordinates, (3, n), on another cell, wrapped into it."""
    for k in range(3):
        for i in range(n):
            value = (
                coords[0, i] * matrix[0, k]
                + coords[1, i] * matrix[1, k]
                + coords[2, i] * matrix[2, k]
            )
            out[k, i] = value - np.floor(value)


@compiled
def _move_onto(first: np.ndarray, second: np.ndarray, start: int, n: int, out: np.ndarray) -> None:
    """`second` moved so that its first site lies on site `start` of `first`; all wrapped."""
    for k in range(3):
        step = first[k, start] - second[k, 0]
        for i in range(n):
            value = second[k, i] + step
            out[k, i] = value - np.floor(value)


@compiled
def _lattice_test(  # noqa: PLR0917
    aligned: np.ndarray,
    target: np.ndarray,
    n: int,
    stride: int,
    stol: float,
    sure: bool,
    in_order: bool,
    scratch: Scratch,
) -> tuple[int, float]:
    """All translations on one pair of lattices; the sites are `scratch.first` and `.second`.

    Parameters
    ----------
    aligned, target : (6,)
        Lengths and angles of the two cells.
    stride : int
        Every how many sites of G the first site of T is put.
    sure : bool
        Whether pymatgen surely takes this pair of lattices.
    in_order : bool
        Go on, in pymatgen's order, to the first match that pymatgen surely accepts, and give the
        least cost up to there; else stop at the first that it may accept.

    Returns
    -------
    int
        How far it came; `LET_THROUGH + 1` if a match was surely accepted.
    float
        Lower bound of the sum of site costs if pymatgen's match is one of these, else infinite; -1
        if nothing is known.
    """
    average = np.empty((3, 3))
    inverse = np.empty((3, 3))
    _average_cell(aligned, target, average)
    volume = abs(_inverse(average, inverse))
    normalization = (n / volume) ** (1 / 3)
    wide = np.empty(3)
    narrow = np.empty(3)
    for k in range(3):
        length = np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        wide[k] = 2 * length * stol / normalization * (1 + SLACK) + SLACK
        narrow[k] = 2 * length * stol / normalization * (1 - SLACK) - SLACK
    first, second, moved = scratch.first, scratch.second, scratch.moved
    cells, backs, windows = scratch.cells, scratch.backs, scratch.windows
    variants = 0
    came_to = NOT_COVERED
    lowest = np.inf
    for start in range(0, n, stride):
        _move_onto(first, second, start, n, moved)
        if not _covered(first, moved, n, wide):
            continue
        surely_covered = in_order and _covered(first, moved, n, narrow)
        if variants == 0:
            variants = _reductions(average, stol / normalization, cells, backs, windows)
            if variants == 0:
                return LET_THROUGH, -1.0
            for variant in range(variants):
                _wrap_onto(first, backs[variant], n, scratch.first_reduced[variant])
                _wrap_onto(second, backs[variant], n, scratch.second_reduced[variant])
        worst = _SURE
        for variant in range(variants):
            on_reduced = scratch.first_reduced[variant]
            _move_onto(on_reduced, scratch.second_reduced[variant], start, n, moved)
            answer, cost = _site_test(
                on_reduced,
                moved,
                n,
                cells[variant],
                windows[variant],
                normalization,
                stol,
                in_order,
                scratch,
            )
            worst = min(worst, answer)
            came_to = max(came_to, TOO_FAR)
            if answer != _REFUSED:
                if not in_order:
                    return LET_THROUGH, lowest
                came_to = LET_THROUGH
                lowest = min(lowest, cost)
        if worst == _SURE and sure and surely_covered:
            return LET_THROUGH + 1, lowest
    return came_to, lowest


@compiled
def _expand(frac: np.ndarray, n: int, matrix: np.ndarray, fu: int, out: np.ndarray) -> bool:
    """Sites of a supercell, wrapped, site by site, into `out`, (3, n·fu).

    False if their number is not right.

    The lattice points come in lexicographic order of their coefficients, as in pymatgen.
    """
    real = matrix.astype(np.float64)
    inverse = np.empty((3, 3))
    _inverse(real, inverse)
    low = np.zeros(3, np.int64)
    high = np.zeros(3, np.int64)
    for k in range(3):
        for row in range(3):
            low[k] += min(0, matrix[row, k])
            high[k] += max(0, matrix[row, k])
    points = np.empty((fu, 3))
    found = 0
    for p in range(low[0], high[0] + 1):
        for q in range(low[1], high[1] + 1):
            for r in range(low[2], high[2] + 1):
                inside = True
                for k in range(3):
                    value = p * inverse[0, k] + q * inverse[1, k] + r * inverse[2, k]
                    if value < -1e-10 or value >= 1 - 1e-10:
                        inside = False
                        break
                if inside:
                    if found == fu:
                        return False
                    for k in range(3):
                        points[found, k] = p * inverse[0, k] + q * inverse[1, k] + r * inverse[2, k]
                    found += 1
    if found != fu:
        return False
    for i in range(n):
        for point in range(fu):
            for k in range(3):
                value = points[point, k]
                for row in range(3):
                    value += frac[i, row] * inverse[row, k]
                out[k, i * fu + point] = value - np.floor(value)
    return True


@compiled
def _shells(  # noqa: PLR0917
    source: np.ndarray,
    wanted: np.ndarray,
    ltol: float,
    in_order: np.ndarray,
    counts: np.ndarray,
    scratch: Scratch,
) -> bool:
    """Vectors of the source's lattice by the target vector that they could stand for.

    Where `in_order` is empty all are found, but of those for the first target vector only one of
    each v and -v; else just the vectors of those coefficients are taken. False if they are too
    many.
    """
    shell, shell_cart, shell_length = scratch.shell, scratch.shell_cart, scratch.shell_length
    least = np.empty(3)
    most = np.empty(3)
    for axis in range(3):
        least[axis] = wanted[axis] / (1 + ltol) * (1 - SLACK)
        most[axis] = wanted[axis] * (1 + ltol) * (1 + SLACK)
        counts[axis] = 0
    lowest, highest = least.min(), most.max()
    inverse = np.empty((3, 3))
    _inverse(source, inverse)
    reach = np.zeros(3, np.int64)
    total = len(in_order)
    if total == 0:
        for k in range(3):
            length = np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
            reach[k] = int(np.floor(highest * length + 1e-6))
        total = (reach[0] + 1) * (2 * reach[1] + 1) * (2 * reach[2] + 1)
    p, q, r = 0, -reach[1], -reach[2] - 1
    for place in range(total):
        if len(in_order) > 0:
            p, q, r = in_order[place, 0], in_order[place, 1], in_order[place, 2]
        else:
            r += 1
            if r > reach[2]:
                r = -reach[2]
                q += 1
                if q > reach[1]:
                    q = -reach[1]
                    p += 1
            if p == 0 and (q < 0 or (q == 0 and r <= 0)):
                continue
        x = p * source[0, 0] + q * source[1, 0] + r * source[2, 0]
        y = p * source[0, 1] + q * source[1, 1] + r * source[2, 1]
        z = p * source[0, 2] + q * source[1, 2] + r * source[2, 2]
        square = x * x + y * y + z * z
        if square < lowest * lowest * (1 - SLACK) or square > highest * highest * (1 + SLACK):
            continue
        length = np.sqrt(square)
        for axis in range(3):
            if least[axis] < length < most[axis]:
                signs = 2 if len(in_order) == 0 and axis > 0 else 1
                if counts[axis] + signs > MOST_VECTORS:
                    return False
                for sign in range(1, 1 - 2 * signs, -2):
                    at = counts[axis]
                    shell[axis, at, 0] = sign * p
                    shell[axis, at, 1] = sign * q
                    shell[axis, at, 2] = sign * r
                    shell_cart[axis, at, 0] = sign * x
                    shell_cart[axis, at, 1] = sign * y
                    shell_cart[axis, at, 2] = sign * z
                    shell_length[axis, at] = length
                    counts[axis] = at + 1
    return True


@compiled
def _surely_near(parameters: np.ndarray, wanted: np.ndarray, ltol: float, angle_tol: float) -> bool:
    """Whether a cell is within the tolerances of the target by more than rounding."""
    for k in range(3):
        ratio = parameters[k] / wanted[k]
        if ratio > (1 + ltol) * (1 - SLACK) or ratio * (1 + ltol) < 1 + SLACK:
            return False
        if abs(parameters[3 + k] - wanted[3 + k]) > angle_tol * np.pi / 180 - EDGE:
            return False
    return True


@compiled
def _pair_test(  # noqa: PLR0917
    lattice: np.ndarray,
    frac: np.ndarray,
    other_lattice: np.ndarray,
    other_frac: np.ndarray,
    ltol: float,
    stol: float,
    angle_tol: float,
    in_order: np.ndarray,
    scratch: Scratch,
) -> tuple[int, float]:
    """One pair, G then T; their numbers of sites divide one another.

    With coefficients of lattice vectors in pymatgen's order (``in_order``), every lattice is tested
    up to the first match that pymatgen surely accepts; the second value is then a lower bound of
    the sum of site costs (-1: unknown, infinite: refused). Without, the first match that it may
    accept ends the test.
    """
    n_first, n_second = len(frac), len(other_frac)
    expand_first = n_second >= n_first
    if expand_first:
        source, target, fu, n = lattice, other_lattice, n_second // n_first, n_second
        small, large, n_small = frac, other_frac, n_first
        expanded, kept = scratch.first, scratch.second
    else:
        source, target, fu, n = other_lattice, lattice, n_first // n_second, n_first
        small, large, n_small = other_frac, frac, n_second
        expanded, kept = scratch.second, scratch.first
    for i in range(n):
        for k in range(3):
            kept[k, i] = large[i, k] - np.floor(large[i, k])
    shell, shell_cart, shell_length = scratch.shell, scratch.shell_cart, scratch.shell_length
    near = scratch.near
    wanted = np.empty(6)
    _parameters(target, wanted)
    counts = np.zeros(3, np.int64)
    if not _shells(source, wanted, ltol, in_order, counts, scratch):
        return LET_THROUGH, -1.0
    if counts.min() == 0:
        return NO_VECTORS, np.inf
    to_the_first = len(in_order) > 0
    came_to = NO_LATTICE
    lowest = np.inf

    low = np.empty(3)
    high = np.empty(3)
    tolerance = angle_tol * np.pi / 180
    for axis in range(3):
        low[axis] = np.cos(min(wanted[3 + axis] + tolerance, np.pi)) - SLACK
        high[axis] = np.cos(max(wanted[3 + axis] - tolerance, 0.0)) + SLACK
    matrix = np.empty((3, 3), np.int64)
    aligned = np.empty((3, 3))
    parameters = np.empty(6)
    for a in range(counts[0]):
        n_near = 0
        for c in range(counts[2]):
            size = shell_length[0, a] * shell_length[2, c]
            dot = _dot(shell_cart[0, a], shell_cart[2, c])
            if low[1] * size <= dot <= high[1] * size:
                near[n_near] = c
                n_near += 1
        if n_near == 0:
            continue
        for b in range(counts[1]):
            size = shell_length[0, a] * shell_length[1, b]
            dot = _dot(shell_cart[0, a], shell_cart[1, b])
            if dot < low[2] * size or dot > high[2] * size:
                continue
            for place in range(n_near):
                c = near[place]
                size = shell_length[1, b] * shell_length[2, c]
                dot = _dot(shell_cart[1, b], shell_cart[2, c])
                if dot < low[0] * size or dot > high[0] * size:
                    continue
                for k in range(3):
                    matrix[0, k] = shell[0, a, k]
                    matrix[1, k] = shell[1, b, k]
                    matrix[2, k] = shell[2, c, k]
                    aligned[0, k] = shell_cart[0, a, k]
                    aligned[1, k] = shell_cart[1, b, k]
                    aligned[2, k] = shell_cart[2, c, k]
                det = (
                    matrix[0, 0] * (matrix[1, 1] * matrix[2, 2] - matrix[1, 2] * matrix[2, 1])
                    + matrix[0, 1] * (matrix[1, 2] * matrix[2, 0] - matrix[1, 0] * matrix[2, 2])
                    + matrix[0, 2] * (matrix[1, 0] * matrix[2, 1] - matrix[1, 1] * matrix[2, 0])
                )
                if abs(det) != fu:
                    continue
                _parameters(aligned, parameters)
                sure = to_the_first and _surely_near(parameters, wanted, ltol, angle_tol)
                # The opposite vectors span a cell of the same lengths and angles.
                for _ in range(1 if to_the_first else 2):
                    if not _expand(small, n_small, matrix, fu, expanded):
                        return LET_THROUGH, -1.0
                    answer, cost = _lattice_test(
                        parameters,
                        wanted,
                        n,
                        fu if expand_first else 1,
                        stol,
                        sure,
                        to_the_first,
                        scratch,
                    )
                    if cost < 0:
                        return LET_THROUGH, -1.0
                    if answer >= LET_THROUGH > came_to:
                        scratch.first_matrix[:] = matrix
                    lowest = min(lowest, cost)
                    came_to = max(came_to, min(answer, LET_THROUGH))
                    if answer > LET_THROUGH or (answer == LET_THROUGH and not to_the_first):
                        return LET_THROUGH, lowest
                    matrix = -matrix
    return came_to, lowest


@compiled
def _scratch(most: int) -> Scratch:
    ways = 1 << MOST_TIES
    return Scratch(
        np.empty((ways, 3, 3)),
        np.empty((ways, 3, 3)),
        np.empty((ways, 3)),
        np.empty((3, most)),
        np.empty((3, most)),
        np.empty((3, most)),
        np.empty((3, most)),
        np.empty((ways, 3, most)),
        np.empty((ways, 3, most)),
        np.empty((2, most, 3)),
        np.empty((most, most), np.uint8),
        np.empty((most, most)),
        np.empty((most, most, 3)),
        np.empty((most, most), np.bool_),
        np.empty((most, most)),
        np.empty((3, most)),
        np.empty((4, most), np.int64),
        np.empty((2, most), np.bool_),
        np.empty((3, MOST_VECTORS, 3), np.int64),
        np.empty((3, MOST_VECTORS, 3)),
        np.empty((3, MOST_VECTORS)),
        np.empty(MOST_VECTORS, np.int64),
        np.empty((2, most), np.int64),
        np.zeros((3, 3), np.int64),
    )


@compiled
def _scan(  # noqa: PLR0917
    lattice: np.ndarray,
    frac: np.ndarray,
    lattices: np.ndarray,
    offsets: np.ndarray,
    fracs: np.ndarray,
    indices: np.ndarray,
    ltol: float,
    stol: float,
    angle_tol: float,
    answers: np.ndarray,
) -> None:
    most = len(frac)
    for index in indices:
        most = max(most, offsets[index + 1] - offsets[index])
    scratch = _scratch(most)
    whole = np.empty((0, 3), np.int64)
    for place in range(len(indices)):
        index = indices[place]
        answers[place] = _pair_test(
            lattice,
            frac,
            lattices[index],
            fracs[offsets[index] : offsets[index + 1]],
            ltol,
            stol,
            angle_tol,
            whole,
            scratch,
        )[0]


@compiled
def _first_match(  # noqa: PLR0917
    lattice: np.ndarray,
    frac: np.ndarray,
    pettifor: np.ndarray,
    other_lattice: np.ndarray,
    other_frac: np.ndarray,
    other_pettifor: np.ndarray,
    in_order: np.ndarray,
    ltol: float,
    stol: float,
    angle_tol: float,
) -> tuple[float, np.ndarray]:
    n = max(len(frac), len(other_frac))
    scratch = _scratch(n)
    for i in range(n):
        scratch.pettifor[0, i] = pettifor[i * len(frac) // n]
        scratch.pettifor[1, i] = other_pettifor[i * len(other_frac) // n]
    _, lowest = _pair_test(
        lattice, frac, other_lattice, other_frac, ltol, stol, angle_tol, in_order, scratch
    )
    return lowest / n, scratch.first_matrix


def furthest_steps(  # noqa: PLR0917
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    lattices: np.ndarray,
    offsets: np.ndarray,
    all_frac_coords: np.ndarray,
    indices: np.ndarray,
    *,
    ltol: float,
    stol: float,
    angle_tol: float,
) -> np.ndarray:
    """How far each pair comes; pymatgen refuses all that are not let through.

    Parameters
    ----------
    lattice, frac_coords : float64, (3, 3), (n_sites, 3)
        The generated crystal, reduced.
    lattices, offsets, all_frac_coords : float64 (M, 3, 3), int64 (M + 1,), float64 (ΣN, 3)
        The reference.
    indices : int64, (C,)
        Positions to test; their numbers of sites divide, or are divided by, `n_sites`.
    ltol, stol, angle_tol : float
        The matcher's tolerances; degrees.

    Returns
    -------
    uint8, (C,)
        `NO_VECTORS`, `NO_LATTICE`, `NOT_COVERED`, `TOO_FAR` or `LET_THROUGH`.
    """
    answers = np.empty(len(indices), dtype=np.uint8)
    _scan(
        np.ascontiguousarray(lattice, dtype=np.float64),
        np.ascontiguousarray(frac_coords, dtype=np.float64),
        lattices,
        offsets,
        all_frac_coords,
        np.ascontiguousarray(indices, dtype=np.int64),
        float(ltol),
        float(stol),
        float(angle_tol),
        answers,
    )
    return answers


def cost_of_first_match(  # noqa: PLR0917
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    pettifor: np.ndarray,
    other_lattice: np.ndarray,
    other_frac_coords: np.ndarray,
    other_pettifor: np.ndarray,
    in_order: np.ndarray,
    *,
    ltol: float,
    stol: float,
    angle_tol: float,
) -> tuple[float, np.ndarray | None]:
    """Lower bound of the cost of the atom map that pymatgen finds for one pair.

    Lattices and translations are gone through in pymatgen's order, up to the first match that it
    accepts beyond doubt. What pymatgen returns is that one, or one before it about which rounding
    decides: the least cost among these is no higher than the real one. Nearly always they are one,
    and the bound is the cost. Of an assignment that ties, the cheapest version counts.

    Parameters
    ----------
    lattice, frac_coords, pettifor : float64 (3, 3), float64 (n, 3), uint8 (n,)
        The generated crystal G, reduced, with its modified Pettifor numbers.
    other_lattice, other_frac_coords, other_pettifor : float64 (3, 3), float64 (m, 3), uint8 (m,)
        The reference crystal T.
    in_order : int64, (V, 3)
        Coefficients of the vectors of the source's lattice (the crystal with fewer sites, or G)
        that are no longer than (1 + ltol) times the target's longest cell vector, in the order in
        which pymatgen's ``Lattice.get_points_in_sphere`` lists them.
    ltol, stol, angle_tol : float
        The matcher's tolerances; degrees.

    Returns
    -------
    float
        Mean over sites, as `pettifor.map_cost`; infinite if pymatgen refuses the pair, negative if
        nothing could be found out.
    int64, (3, 3), or None
        Coefficients of the first lattice on which pymatgen may accept a match; it refuses all that
        come before.
    """
    if len(in_order) == 0:
        return -1.0, None
    lowest, matrix = _first_match(
        np.ascontiguousarray(lattice, dtype=np.float64),
        np.ascontiguousarray(frac_coords, dtype=np.float64),
        np.ascontiguousarray(pettifor, dtype=np.int64),
        np.ascontiguousarray(other_lattice, dtype=np.float64),
        np.ascontiguousarray(other_frac_coords, dtype=np.float64),
        np.ascontiguousarray(other_pettifor, dtype=np.int64),
        np.ascontiguousarray(in_order, dtype=np.int64),
        float(ltol),
        float(stol),
        float(angle_tol),
    )
    return float(lowest), matrix if 0 <= lowest < np.inf else None
