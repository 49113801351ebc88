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

NO_VECTORS, NO_LATTICE, NOT_COVERED, TOO_FAR, LET_THROUGH = range(5)
"""How far a pair came: no lattice vectors of the right lengths; none that span a cell with the
right angles and volume; no translation that covers all sites; none whose RMS is small enough."""


class Scratch(NamedTuple):
    """Arrays that every step writes over, made once for a scan. N is the most sites of a pair.

    `cells`, `backs` and `windows` hold the reductions of one average lattice; `expanded`, `moved`
    and `on_reduced` fractional coordinates, (N, 3) or (2, N, 3); `cart` Cartesian ones; `cost`,
    `vectors` and `image_tie` what `_site_test` knows of each pair of sites, (N, N); `floats`,
    `ints` and `flags` the state of the assignment; `shell`, `shell_cart` and `shell_length` lattice
    vectors by target axis, (3, MOST_VECTORS); `near` a short list of them.
    """

    cells: np.ndarray
    backs: np.ndarray
    windows: np.ndarray
    expanded: np.ndarray
    moved: np.ndarray
    on_reduced: np.ndarray
    cart: np.ndarray
    cost: np.ndarray
    vectors: np.ndarray
    image_tie: np.ndarray
    floats: np.ndarray
    ints: np.ndarray
    flags: np.ndarray
    shell: np.ndarray
    shell_cart: np.ndarray
    shell_length: np.ndarray
    near: np.ndarray


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
    for i in range(n):
        u[i] = 0.0
        v[i] = 0.0
        row_of[i] = -1
        column_of[i] = -1
    for current in range(n):
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
def _site_test(  # noqa: PLR0917
    first: np.ndarray,
    second: np.ndarray,
    n: int,
    cell: np.ndarray,
    window: np.ndarray,
    normalization: float,
    stol: float,
    scratch: Scratch,
) -> int:
    """Distances on the reduced cell, assignment, translation, RMS.

    Parameters
    ----------
    first, second : (n, 3)
        Fractional coordinates on the reduced cell: of G, and of T moved onto it.
    cell, window : (3, 3), (3,)
        The reduced cell, and pymatgen's fractional window on it.
    """
    cost, vectors, image_tie = scratch.cost, scratch.vectors, scratch.image_tie
    cart = scratch.cart
    safe = 0.0  # a vector shorter than half the least distance of lattice planes has no rival
    inverse = np.empty((3, 3))
    _inverse(cell, inverse)
    for k in range(3):
        safe = max(safe, inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
    safe = (1 - EDGE) * 0.25 / safe
    for i in range(n):
        for k in range(3):
            one = second[i, 0] - np.floor(second[i, 0])
            two = second[i, 1] - np.floor(second[i, 1])
            three = second[i, 2] - np.floor(second[i, 2])
            cart[0, i, k] = one * cell[0, k] + two * cell[1, k] + three * cell[2, k]
            one = first[i, 0] - np.floor(first[i, 0])
            two = first[i, 1] - np.floor(first[i, 1])
            three = first[i, 2] - np.floor(first[i, 2])
            cart[1, i, k] = one * cell[0, k] + two * cell[1, k] + three * cell[2, k]
    on_edge = False
    x = np.empty(3)
    for i in range(n):
        any_allowed = False
        for j in range(n):
            cost[i, j] = FORBIDDEN
            image_tie[i, j] = False
            allowed = True
            for k in range(3):
                step = first[j, k] - second[i, k]
                step -= np.rint(step)
                x[k] = step
                beyond = abs(step) - window[k]
                if beyond > EDGE:
                    allowed = False
                    break
                if beyond > -EDGE:
                    on_edge = True
            if not allowed:
                continue
            any_allowed = True
            best = 0.0
            for k in range(3):
                value = x[0] * cell[0, k] + x[1] * cell[1, k] + x[2] * cell[2, k]
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
        if not any_allowed:
            # Whatever lies on an edge is counted as allowed, so this row is empty for pymatgen.
            return TOO_FAR
    if not _assign(cost, n, scratch):
        return TOO_FAR
    if on_edge:
        return LET_THROUGH
    u, v, column_of = scratch.floats[0], scratch.floats[1], scratch.ints[1]
    total = 0.0
    tie = False
    for i in range(n):
        total += cost[i, column_of[i]]
    eps = EDGE * (total / n + EDGE / normalization**2)
    # Least and greatest sum of vectors over all assignments of (nearly) equal cost: only entries
    # without reduced cost take part in them.
    reach = 0.0
    for k in range(3):
        low = high = 0.0
        for i in range(n):
            own = vectors[i, column_of[i], k]
            lowest = highest = own
            for j in range(n):
                if cost[i, j] - u[i] - v[j] <= eps:
                    if image_tie[i, j]:
                        tie = True
                    lowest = min(lowest, vectors[i, j, k])
                    highest = max(highest, vectors[i, j, k])
            low += lowest
            high += highest
        reach += max(abs(low), abs(high)) ** 2
    if tie:
        return LET_THROUGH
    least = (total / n - reach / (n * n)) * normalization**2
    if least < (stol * (1 + EDGE)) ** 2:
        return LET_THROUGH
    return TOO_FAR


@compiled
def _lattice_test(  # noqa: PLR0917
    aligned: np.ndarray,
    target: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    n: int,
    stride: int,
    stol: float,
    scratch: Scratch,
) -> int:
    """All translations on one pair of lattices.

    Parameters
    ----------
    aligned, target : (6,)
        Lengths and angles of the two cells.
    first, second : (n, 3)
        Fractional coordinates of G and T, one of them expanded.
    stride : int
        Every how many sites of G the first site of T is put.
    """
    average = np.empty((3, 3))
    inverse = np.empty((3, 3))
    _average_cell(aligned, target, average)
    volume = abs(_inverse(average, inverse))
    normalization = (n / volume) ** (1 / 3)
    window = np.empty(3)
    for k in range(3):
        length = np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        window[k] = 2 * length * stol / normalization * (1 + SLACK) + SLACK
    moved, on_reduced = scratch.moved, scratch.on_reduced
    cells, backs, windows = scratch.cells, scratch.backs, scratch.windows
    variants = 0
    came_to = NOT_COVERED
    for start in range(0, n, stride):
        covered = True
        for i in range(n):
            found = False
            for k in range(3):
                moved[i, k] = second[i, k] + first[start, k] - second[0, k]
            for j in range(n):
                inside = True
                for k in range(3):
                    step = moved[i, k] - first[j, k]
                    if abs(step - np.rint(step)) > window[k]:
                        inside = False
                        break
                if inside:
                    found = True
                    break
            if not found:
                covered = False
                break
        if not covered:
            continue
        if variants == 0:
            variants = _reductions(average, stol / normalization, cells, backs, windows)
            if variants == 0:
                return LET_THROUGH
        for variant in range(variants):
            for i in range(n):
                for k in range(3):
                    one = other = 0.0
                    for row in range(3):
                        one += first[i, row] * backs[variant, row, k]
                        other += moved[i, row] * backs[variant, row, k]
                    on_reduced[0, i, k] = one
                    on_reduced[1, i, k] = other
            answer = _site_test(
                on_reduced[0],
                on_reduced[1],
                n,
                cells[variant],
                windows[variant],
                normalization,
                stol,
                scratch,
            )
            if answer == LET_THROUGH:
                return LET_THROUGH
            came_to = TOO_FAR
    return came_to


@compiled
def _expand(frac: np.ndarray, n: int, matrix: np.ndarray, fu: int, out: np.ndarray) -> bool:
    """Sites of a supercell, wrapped, site by site, into `out`; False if their number is not right.

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
                out[i * fu + point, k] = value - np.floor(value)
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
    scratch: Scratch,
) -> int:
    """One pair, G then T; their numbers of sites divide one another."""
    n_first, n_second = len(frac), len(other_frac)
    expand_first = n_second >= n_first
    if expand_first:
        source, target, fu, n = lattice, other_lattice, n_second // n_first, n_second
    else:
        source, target, fu, n = other_lattice, lattice, n_first // n_second, n_first
    shell, shell_cart, shell_length = scratch.shell, scratch.shell_cart, scratch.shell_length
    expanded, near = scratch.expanded, scratch.near
    wanted = np.empty(6)
    _parameters(target, wanted)
    inverse = np.empty((3, 3))
    _inverse(source, inverse)
    longest = max(wanted[0], wanted[1], wanted[2]) * (1 + ltol) * (1 + SLACK)
    reach = np.empty(3, np.int64)
    for k in range(3):
        length = np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        reach[k] = int(np.floor(longest * length + 1e-6))

    # Vectors of the source's lattice by the target vector that they could stand for.
    counts = np.zeros(3, np.int64)
    least = np.empty(3)
    most = np.empty(3)
    for axis in range(3):
        least[axis] = wanted[axis] / (1 + ltol) * (1 - SLACK)
        most[axis] = wanted[axis] * (1 + ltol) * (1 + SLACK)
    for p in range(-reach[0], reach[0] + 1):
        for q in range(-reach[1], reach[1] + 1):
            for r in range(-reach[2], reach[2] + 1):
                x = p * source[0, 0] + q * source[1, 0] + r * source[2, 0]
                y = p * source[0, 1] + q * source[1, 1] + r * source[2, 1]
                z = p * source[0, 2] + q * source[1, 2] + r * source[2, 2]
                length = np.sqrt(x * x + y * y + z * z)
                for axis in range(3):
                    if least[axis] < length < most[axis]:
                        place = counts[axis]
                        if place == MOST_VECTORS:
                            return LET_THROUGH
                        shell[axis, place, 0] = p
                        shell[axis, place, 1] = q
                        shell[axis, place, 2] = r
                        shell_cart[axis, place, 0] = x
                        shell_cart[axis, place, 1] = y
                        shell_cart[axis, place, 2] = z
                        shell_length[axis, place] = length
                        counts[axis] = place + 1
    if counts.min() == 0:
        return NO_VECTORS
    came_to = NO_LATTICE

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
            cosine = _dot(shell_cart[0, a], shell_cart[2, c])
            cosine /= shell_length[0, a] * shell_length[2, c]
            if low[1] <= cosine <= high[1]:
                near[n_near] = c
                n_near += 1
        if n_near == 0:
            continue
        for b in range(counts[1]):
            cosine = _dot(shell_cart[0, a], shell_cart[1, b])
            cosine /= shell_length[0, a] * shell_length[1, b]
            if cosine < low[2] or cosine > high[2]:
                continue
            for place in range(n_near):
                c = near[place]
                cosine = _dot(shell_cart[1, b], shell_cart[2, c])
                cosine /= shell_length[1, b] * shell_length[2, c]
                if cosine < low[0] or cosine > high[0]:
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
                if not _expand(
                    frac if expand_first else other_frac,
                    n_first if expand_first else n_second,
                    matrix,
                    fu,
                    expanded,
                ):
                    return LET_THROUGH
                _parameters(aligned, parameters)
                answer = _lattice_test(
                    parameters,
                    wanted,
                    expanded if expand_first else frac,
                    other_frac if expand_first else expanded,
                    n,
                    fu if expand_first else 1,
                    stol,
                    scratch,
                )
                if answer == LET_THROUGH:
                    return LET_THROUGH
                came_to = max(came_to, answer)
    return came_to


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
    scratch = Scratch(
        np.empty((1 << MOST_TIES, 3, 3)),
        np.empty((1 << MOST_TIES, 3, 3)),
        np.empty((1 << MOST_TIES, 3)),
        np.empty((most, 3)),
        np.empty((most, 3)),
        np.empty((2, most, 3)),
        np.empty((2, most, 3)),
        np.empty((most, most)),
        np.empty((most, most, 3)),
        np.empty((most, most), np.bool_),
        np.empty((3, most)),
        np.empty((4, most), np.int64),
        np.empty((2, most), np.bool_),
        np.empty((3, MOST_VECTORS, 3), np.int64),
        np.empty((3, MOST_VECTORS, 3)),
        np.empty((3, MOST_VECTORS)),
        np.empty(MOST_VECTORS, np.int64),
    )
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
            scratch,
        )


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
