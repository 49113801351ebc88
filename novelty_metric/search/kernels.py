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

Reference crystals that are nearly the same but for their elements, a *family*, are refused together
where they can be. The test is that of one of them, the leader, with bounds in place of numbers.
On each lattice it is known by how much the squares of vectors differ at most among the members'
mean cells, brought to one volume, on which nothing depends, and how far apart their sites are. From
that follows how much the lengths of the same vector, what an assignment costs, and the RMS of its
vectors may differ. Where the bounds leave it open, each member is tested on that lattice by itself.

This module imports numba and is itself imported only on use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numba
import numpy as np

from novelty_metric.search.by_reference import ByReference, handed, taken
from novelty_metric.search.pettifor import NONE, WITHOUT_NUMBER

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, *, cache: bool = True, **options: Any) -> Function:
    """Compile for calls from Python: without the interpreter lock, and cached on disk if possible.

    numba keeps its cache beside the module, or in the user's cache folder if that is read-only. If
    neither can be written it raises at once; then the cache is done without.

    Arrays are not counted as they are handed around, so none may be made inside. numba does without
    that where its run-time for memory is off, an option that it does not document.
    """
    # With NumPy's error model a division needs no check for zero, which would keep loops scalar.
    options |= {"cache": cache, "nogil": True, "error_model": "numpy", "_nrt": False}
    njit: Any = numba.njit
    while True:
        try:
            return cast("Function", njit(**options)(function))
        except KeyError:
            del options["_nrt"]
        except RuntimeError:
            if not options["cache"]:
                raise
            options["cache"] = False


def internal(function: Function) -> Function:
    """`compiled`, and only for other compiled functions to call, without what Python needs for it.

    Called from Python it takes the process down.
    """
    return compiled(function, cache=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def inlined(function: Function) -> Function:
    """`internal`, and written out where it is called: a level less to optimise and to assemble."""
    return compiled(function, cache=False, inline="always")


SLACK = 1e-9
EDGE = 1e-7
"""How near to an edge or a tie (fractional, or relative) a decision counts as rounding's."""

FORBIDDEN = 1e20
"""Squared distance that pymatgen gives a pair outside the window."""

MOST_VECTORS = 100_000
MOST_CLASSES = 256
"""Classes of equivalent lattices that are remembered for a pair."""
MOST_SPREAD = 0.2
"""Relative change of squares of vectors past which a family is not tested as one."""
MOST_BRANCHES, MOST_CLOSED = 8, 8
"""Assignments that are looked at for a family, and pairs on the edge that one of them may lack."""
MOST_SUMS = np.array([50, 12])
"""Sums of vectors for which a least assignment of a family is sought, among pairs of small reduced
cost and among all."""
MOST_TIES = 5
"""At most 2 to this power ways through the ties of one lattice reduction are followed."""

VALUES = np.arange(3)
"""Numbers that are no literals to numba, which would compile what they are handed to once for each
number."""

WHOLE = 2.0**32
LARGEST = 2**32 - 1
"""Fractional vectors are compared as integers, of so many parts to a period: rounding by one is far
less than `EDGE`, whole periods fall away of themselves, and eight or more are compared at a time.
"""

LAST_BYTE = np.uint64(0xFF)
ALL_BYTES = np.uint64(0xFFFFFFFFFFFFFFFF)
NO_BYTES = np.uint64(0)
ONE_BYTE, TWO_BYTES, FOUR_BYTES = np.uint64(8), np.uint64(16), np.uint64(32)
"""To count eight bytes at once, as parts of one word; the last three are numbers of bits."""

_IMAGES_TIE, _ON_EDGE, _BEYOND = 1, 2, 4
"""What rounding, or the spread of a family, decides about a pair of sites: which image is nearest,
whether it is in reach, whether pymatgen looks at the nearest one at all."""

_REFUSED, _UNSURE, _SURE = range(3)
"""What one lattice and translation come to: pymatgen refuses it, may take it, or takes it."""

NO_VECTORS, NO_LATTICE, NOT_COVERED, TOO_FAR, LET_THROUGH, ACCEPTED, GIVEN_UP = range(7)
"""How far a pair came: no lattice vectors of the right lengths; none that span a cell with the
right angles and volume; no translation that covers all sites; none whose RMS is small enough; a
match that pymatgen may accept, or accepts beyond doubt. Or there was too much to compare."""


@dataclass(frozen=True)
class Vectors(ByReference):
    """Vectors of a lattice: coefficients, Cartesian, of unit length (M, 3); lengths (M,)."""

    coefficients: np.ndarray
    cart: np.ndarray
    unit: np.ndarray
    length: np.ndarray

    @classmethod
    def empty(cls, most: int) -> Vectors:
        """Memory for so many."""
        return cls(
            np.empty((most, 3), np.int64), np.empty((most, 3)), np.empty((most, 3)), np.empty(most)
        )


@dataclass(frozen=True)
class Reductions(ByReference):
    """The reduced forms of one average cell that rounding might lead to, V at most.

    `cells` (V, 3, 3); `backs` (V, 3, 3) take fractional coordinates there; `windows` (V, 3) are
    pymatgen's on them, or as large as they may be in a family, and `least_windows` (V, 3) as small;
    `images` (V, 3, 27) the lattice vectors to the cells around, by component; a vector whose square
    is below `safe` (V,) has no image as near, and one below `step` (V,), the square of the least
    distance of lattice planes, is among the images that pymatgen looks at.
    """

    cells: np.ndarray
    backs: np.ndarray
    windows: np.ndarray
    least_windows: np.ndarray
    images: np.ndarray
    safe: np.ndarray
    step: np.ndarray


@dataclass(frozen=True)
class Scratch(ByReference):
    """Arrays that every step writes over, made once for a thread. N is the most sites of a pair.

    `first` and `second` hold fractional coordinates by axis, (3, N), `first_reduced` and
    `second_reduced` the same on each reduction. What is known of pairs of sites lies in one row,
    T's site i and G's j at ``i * _width(n) + j`` for n sites: `apart` the fractional vectors
    between them, by axis, on the average cell and on its reduction; `allowed` whether they are
    within the window, and the same memory as words, `allowed_words`; `cost`, `vectors` and `doubt`
    what `_distance` found. `in_row` and `in_column` count the allowed ones; `waiting` holds rows
    and columns with but one; `settled` each column's row and each row's column; `rest` the rows and
    columns without, with their costs in `open_cost`, (N, N); `site_cost` is the elements' part, (N,
    N); `floats`, `ints` and `flags` are the state of the assignment; `own` and `found` vectors of
    G's lattice and of another's; `shell` which of them could stand for each target vector, (3, M);
    `near` short lists of them, (2, M); `points` the lattice points of a supercell; `operations` of
    T that fix its first site; `classes` of lattices that were tested; `squares` of a vector to its
    images; `small` 3×3 matrices; `parameters` lengths and angles of cells, (5, 6); `labels` the
    elements of the two sides, (2, N), as modified Pettifor numbers, or as numbers that have to be
    equal where `by_element` says so, (1,); `same` then marks the pairs of sites with equal ones,
    laid out as `allowed`, and `same_words` is that memory as words; `matrix` the coefficients of
    the lattice in hand; `first_match`, (5,), what `cost_of_first_match` gives; `work` how much was
    compared, and how much may be, about nanoseconds; `spread`, (3,), by how much the members of a
    family differ from the crystal at hand (0 for a pair): squares of vectors on the mean cell,
    relative, and places of sites (Å), at most and root mean square; `windows`, (2, 3), pymatgen's
    on the mean cell, a little wider, a little narrower; `bounds`, (4, 3), least and greatest
    lengths of lattice vectors, cosines of the angles between them; `branches` those of
    `_members_refused`: how many pairs are known of, and which, from 1, closed ones negative.
    """

    reductions: Reductions
    first: np.ndarray
    second: np.ndarray
    first_reduced: np.ndarray
    second_reduced: np.ndarray
    apart: np.ndarray
    allowed: np.ndarray
    allowed_words: np.ndarray
    in_row: np.ndarray
    in_column: np.ndarray
    waiting: np.ndarray
    settled: np.ndarray
    rest: np.ndarray
    cost: np.ndarray
    vectors: np.ndarray
    doubt: np.ndarray
    open_cost: np.ndarray
    site_cost: np.ndarray
    floats: np.ndarray
    ints: np.ndarray
    flags: np.ndarray
    own: Vectors
    found: Vectors
    shell: np.ndarray
    near: np.ndarray
    points: np.ndarray
    operations: np.ndarray
    classes: np.ndarray
    squares: np.ndarray
    small: np.ndarray
    parameters: np.ndarray
    labels: np.ndarray
    by_element: np.ndarray
    same: np.ndarray
    same_words: np.ndarray
    matrix: np.ndarray
    first_match: np.ndarray
    work: np.ndarray
    spread: np.ndarray
    windows: np.ndarray
    bounds: np.ndarray
    branches: np.ndarray

    @classmethod
    def empty(cls, most: int) -> Scratch:
        """Memory for pairs of so many sites."""
        ways = (1 << MOST_TIES) + 1
        size = most * row_length(most)
        words, same_words = np.empty(size // 8, np.uint64), np.empty(size // 8, np.uint64)
        return cls(
            Reductions(
                np.empty((ways, 3, 3)),
                np.empty((ways, 3, 3)),
                np.empty((ways, 3)),
                np.empty((ways, 3)),
                np.empty((ways, 3, 27)),
                np.empty(ways),
                np.empty(ways),
            ),
            np.empty((3, most)),
            np.empty((3, most)),
            np.empty((ways, 3, most)),
            np.empty((ways, 3, most)),
            np.empty((2, 3, size), np.uint32),
            words.view(np.uint8),
            words,
            np.empty(most, np.int64),
            np.empty(row_length(most), np.int64),
            np.empty(2 * most + 1, np.int64),
            np.empty((2, most), np.int64),
            np.empty((2, most), np.int64),
            np.empty(size),
            np.empty((size, 3)),
            np.empty(size, np.uint8),
            np.empty((most, most)),
            np.empty((most, most)),
            np.empty((3, most)),
            np.empty((4, most), np.int64),
            np.empty((2, most), np.uint8),
            Vectors.empty(MOST_VECTORS),
            Vectors.empty(MOST_VECTORS),
            np.empty((3, MOST_VECTORS + 1), np.int64),
            np.empty((2, 2 * MOST_VECTORS + 2), np.int64),
            np.empty((most, 3)),
            np.empty((48, 6), np.int64),
            np.empty(MOST_CLASSES, np.int64),
            np.empty(27),
            np.empty((11, 3, 3)),
            np.empty((5, 6)),
            np.zeros((2, most), np.int64),
            np.zeros(1, np.int64),
            same_words.view(np.uint8),
            same_words,
            np.empty((3, 3), np.int64),
            np.full(5, -1, np.int64),
            np.zeros(2, np.int64),
            np.zeros(3),
            np.empty((2, 3)),
            np.empty((4, 3)),
            np.empty((MOST_BRANCHES + 1, MOST_CLOSED + 1), np.int64),
        )


@dataclass(frozen=True)
class Pairs(ByReference):
    """A generated crystal and a reference: `lattice` (3, 3) and `frac` (n, 3) of the one.

    Of the other `lattices` (N, 3, 3), `offsets`, int64 (N + 1,), and `fracs` (ΣN, 3).
    """

    lattice: np.ndarray
    frac: np.ndarray
    lattices: np.ndarray
    offsets: np.ndarray
    fracs: np.ndarray

    @classmethod
    def of(
        cls,
        lattice: np.ndarray,
        frac_coords: np.ndarray,
        lattices: np.ndarray,
        offsets: np.ndarray,
        all_frac_coords: np.ndarray,
    ) -> Pairs:
        """From arrays of any kind, whose values are copied only if they have to be converted."""
        return cls(
            np.ascontiguousarray(lattice, dtype=np.float64),
            np.ascontiguousarray(frac_coords, dtype=np.float64),
            np.ascontiguousarray(lattices, dtype=np.float64),
            np.ascontiguousarray(offsets, dtype=np.int64),
            np.ascontiguousarray(all_frac_coords, dtype=np.float64),
        )


@dataclass(frozen=True)
class Families(ByReference):
    """The families of a reference, and what is known of each for one generated crystal.

    A family's crystals are of one number of sites, their cells and sites nearly the same. `of`,
    int32 (N,), is the family of each reference crystal, or -1; `members`, int64, those of all
    families, the leader before the others, and `offsets`, int64 (F + 1,), where each begins, so
    that -1 has none. `shifts`, (F + 1, 2): how far a site, seen from the first, is at most from the
    same site of the leader (Å, on the leader's cell), and the root mean square over sites; 0 for
    -1. `parameters`, (N, 6), lengths (Å) and angles (radians) of the reference's cells. `means`,
    (M, 6), M the members of the largest, are written over: their mean cells for one lattice.
    `known`, uint8 (F,).
    """

    of: np.ndarray
    members: np.ndarray
    offsets: np.ndarray
    shifts: np.ndarray
    parameters: np.ndarray
    means: np.ndarray
    known: np.ndarray

    def unknown(self) -> Families:
        """The same families, of which nothing is known, with memory of their own."""
        known = np.full(len(self.known), _UNKNOWN, dtype=np.uint8)
        return replace(self, known=known, means=np.empty_like(self.means))


_UNKNOWN, _ALL_REFUSED, _OPEN = range(3)
"""Of a family: nothing; that all are refused; that each member has to be tested."""


@internal
def inverted(matrix: np.ndarray, out: np.ndarray) -> float:
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


@internal
def inner(one: np.ndarray, other: np.ndarray) -> float:
    """Inner product of two vectors, (3,)."""
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


@internal
def cell_parameters(matrix: np.ndarray, out: np.ndarray) -> None:
    """Lengths (Å) and angles (radians) of a cell into `out`, (6,)."""
    for i in range(3):
        out[i] = np.sqrt(matrix[i, 0] ** 2 + matrix[i, 1] ** 2 + matrix[i, 2] ** 2)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        dot = (
            matrix[j, 0] * matrix[k, 0] + matrix[j, 1] * matrix[k, 1] + matrix[j, 2] * matrix[k, 2]
        )
        out[3 + i] = np.arccos(min(1.0, max(-1.0, dot / (out[j] * out[k]))))


@internal
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


@internal
def _lll(
    cell: np.ndarray, choices: int, reduced: np.ndarray, mapping: np.ndarray, small: np.ndarray
) -> int:
    """LLL reduction (delta 0.75) in pymatgen's order of steps, into `reduced` and `mapping`.

    Whenever rounding would decide a step (a coefficient to be rounded lies half-way, or the Lovász
    condition holds with equality), the next bit of `choices` decides instead.

    Returns
    -------
    int
        How many steps were decided so; -1 if the reduction does not end.
    """
    a, b, u, steps, m = small[6], small[7], small[8], small[9], small[10, 0]
    for row in range(3):
        for column in range(3):
            a[row, column] = cell[column, row]
            u[row, column] = 0.0
            steps[row, column] = 1.0 if row == column else 0.0
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


@internal
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


@internal
def _reductions(  # noqa: PLR0917
    cell: np.ndarray,
    reach: float,
    out: Reductions,
    small: np.ndarray,
    spread: np.ndarray,
    means: np.ndarray,
) -> int:
    """All reduced forms of a cell that rounding might lead to, with pymatgen's windows on them.

    For a family, of the mean cell of its leader, by all the steps that its members' lead to.

    Parameters
    ----------
    cell : (3, 3)
    reach : float
        Site tolerance (Å).
    out : Reductions
    small : (11, 3, 3)
        Written over, but for the second and the third.
    spread : (3,)
        Of `Scratch`.
    means : (M, 6)
        Lengths and angles of the mean cells of a family's members; none for a pair.

    Returns
    -------
    int
        How many there are; 0 if they are too many.
    """
    cells, inverse, mapping = out.cells, small[4], small[5]
    of_member, reduced = small[3], small[0]
    n_members = len(means)
    volume = abs(inverted(cell, inverse))
    found, size = VALUES[0], 1.0
    for member in range(max(1, n_members)):
        if n_members > 0:
            _average_cell(means[member], means[member], of_member)
            size = (abs(inverted(of_member, inverse)) / volume) ** (1 / 3)
        choices, last = VALUES[0], 0
        while choices <= last:
            ties = _lll(of_member if n_members > 0 else cell, choices, reduced, mapping, small)
            if ties < 0 or ties > MOST_TIES:
                return 0
            last = max(last, (1 << ties) - 1)
            choices += 1
            at = _known_reduction(mapping, cell, found, out)
            if at == found:
                if found + 1 == len(cells):
                    return 0
                _describe(found, mapping, inverse, out, spread)
                found += 1
            inverted(reduced, inverse)
            for k in range(3):
                square = inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2
                window = 2 * np.sqrt(square) * reach * size
                out.windows[at, k] = max(out.windows[at, k], window)
                out.least_windows[at, k] = min(out.least_windows[at, k], window)
    if spread[1] > 0:
        for at in range(found):
            inverted(cells[at], inverse)
            for k in range(3):
                square = inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2
                shift = spread[1] * np.sqrt(square / (1 - spread[0]))
                out.windows[at, k] += shift
                out.least_windows[at, k] -= shift
    return found


@internal
def _known_reduction(mapping: np.ndarray, cell: np.ndarray, found: int, out: Reductions) -> int:
    """Which of so many reduced cells a mapping leads to; if none, put it behind them."""
    cells = out.cells
    for i in range(3):
        for k in range(3):
            cells[found, i, k] = (
                mapping[i, 0] * cell[0, k] + mapping[i, 1] * cell[1, k] + mapping[i, 2] * cell[2, k]
            )
    for earlier in range(found):
        apart = 0.0
        for i in range(3):
            for k in range(3):
                apart = max(apart, abs(cells[earlier, i, k] - cells[found, i, k]))
        if apart < 1e-6:
            return earlier
    return found


@internal
def _describe(
    at: int, mapping: np.ndarray, inverse: np.ndarray, out: Reductions, spread: np.ndarray
) -> None:
    """Fill in what belongs to a reduced cell, but for the windows."""
    cells = out.cells
    shrunk, grown = np.sqrt(1 - spread[0]), np.sqrt(1 + spread[0])
    inverted(mapping, out.backs[at])
    inverted(cells[at], inverse)
    least_step = np.inf  # square of the least distance of lattice planes
    for k in range(3):
        square = inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2
        least_step = min(least_step, 1 / square)
        out.windows[at, k] = 0.0
        out.least_windows[at, k] = np.inf
    shortest = np.inf
    for place in range(27):
        p, q, r = place // 9 - 1, place // 3 % 3 - 1, place % 3 - 1
        square = 0.0
        for k in range(3):
            value = p * cells[at, 0, k] + q * cells[at, 1, k] + r * cells[at, 2, k]
            out.images[at, k, place] = value
            square += value * value
        if place != 13:
            shortest = min(shortest, square)
    # A vector is nearest, and alone, if it is shorter than half the shortest lattice vector:
    # one of these, or one with a coefficient of 2 or more, at least two planes away.
    alone = max(0.0, np.sqrt(min(shortest / 4, least_step)) * shrunk - spread[1]) / grown
    out.safe[at] = (1 - EDGE) * alone**2
    out.step[at] = least_step


@internal
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


@internal
def _least_site_cost(scratch: Scratch, n: int) -> float:
    """Least sum of differences of Pettifor numbers over assignments of entries still marked.

    Marked are the entries of `allowed` above 0.
    """
    site_cost, labels = scratch.site_cost, scratch.labels
    width = _width(n)
    total = 0.0
    several = False
    for i in range(n):
        marked = 0
        for j in range(n):
            site_cost[i, j] = FORBIDDEN
            if scratch.allowed[i * width + j] > 0:
                one, other = labels[0, j], labels[1, i]
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


@internal
def _as_near(square: float, spread: np.ndarray) -> float:
    """Square up to which another image may be as near, for some member, as one of that square."""
    return (np.sqrt(square * (1 + spread[0])) + 2 * spread[1]) ** 2 / (1 - spread[0])


@internal
def _equally_near(
    apart: tuple[float, float, float], images: np.ndarray, limit: float, k: int
) -> tuple[float, float]:
    """Least and greatest component k of a vector's images up to a squared length."""
    lowest, highest = np.inf, -np.inf
    for place in range(27):
        dx = apart[0] + images[0, place]
        dy = apart[1] + images[1, place]
        dz = apart[2] + images[2, place]
        if dx * dx + dy * dy + dz * dz <= limit:
            value = dx if k == 0 else dy if k == 1 else dz
            lowest = min(lowest, value)
            highest = max(highest, value)
    return lowest, highest


@internal
def _steps_within(
    own: np.ndarray, low: np.ndarray, high: np.ndarray, inverse: np.ndarray
) -> tuple[int, int, int]:
    """How many cell vectors of each kind lead from one sum to the ends of the box, at most."""
    x = max(high[0] - own[0], own[0] - low[0]) + 1e-6
    y = max(high[1] - own[1], own[1] - low[1]) + 1e-6
    z = max(high[2] - own[2], own[2] - low[2]) + 1e-6
    p_most = int(x * abs(inverse[0, 0]) + y * abs(inverse[1, 0]) + z * abs(inverse[2, 0]))
    q_most = int(x * abs(inverse[0, 1]) + y * abs(inverse[1, 1]) + z * abs(inverse[2, 1]))
    r_most = int(x * abs(inverse[0, 2]) + y * abs(inverse[1, 2]) + z * abs(inverse[2, 2]))
    return p_most, q_most, r_most


@internal
def _sums_within(
    own: np.ndarray, low: np.ndarray, high: np.ndarray, cell: np.ndarray, inverse: np.ndarray
) -> tuple[float, float]:
    """Least and greatest square of the sum of vectors over assignments that tie, from one sum.

    Another assignment permutes the sites' ends and takes other images, so its sum differs from
    `own` by a lattice vector, and lies in the box from `low` to `high`.
    """
    p_most, q_most, r_most = _steps_within(own, low, high, inverse)
    nearest, furthest = np.inf, 0.0
    for p in range(-p_most, p_most + 1):
        for q in range(-q_most, q_most + 1):
            for r in range(-r_most, r_most + 1):
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


def row_length(n: int) -> int:
    """Length of a row of `Scratch.apart` and `.allowed`: whole words of eight bytes."""
    return (n + 7) // 8 * 8


_width = internal(row_length)


@internal
def _differences(first: np.ndarray, second: np.ndarray, n: int, apart: np.ndarray) -> None:
    """Fractional vectors from every site of T to every site of G, as `WHOLE`ths, into `apart`.

    What is more than a whole period falls away, as integers are taken modulo their range.
    """
    width = _width(n)
    for k in range(3):
        for i in range(n):
            other = np.int64(second[k, i] * WHOLE)
            for j in range(n):
                apart[k, i * width + j] = np.uint32(np.int64(first[k, j] * WHOLE) - other)


@internal
def _mark(  # noqa: PLR0917
    apart: np.ndarray, n: int, start: int, window: np.ndarray, slack: float, scratch: Scratch
) -> bool:
    """Mark which sites of G each site of T may go to, T moved by its first site onto `start`.

    Parameters
    ----------
    apart : uint32, (3, n · width)
        From `_differences`.
    window : (3,)
        Greatest components, fractional; `slack` is added.

    Returns
    -------
    bool
        Whether each site of T has one.
    """
    allowed, words = scratch.allowed, scratch.allowed_words
    width = _width(n)
    limit_x, limit_y, limit_z = (
        _as_whole(window[0] + slack),
        _as_whole(window[1] + slack),
        _as_whole(window[2] + slack),
    )
    # -limit to limit becomes 0 to twice the limit.
    x = limit_x - np.int64(apart[0, start])
    y = limit_y - np.int64(apart[1, start])
    z = limit_z - np.int64(apart[2, start])
    most_x, most_y, most_z = (
        np.uint32(min(2 * limit_x, LARGEST)),
        np.uint32(min(2 * limit_y, LARGEST)),
        np.uint32(min(2 * limit_z, LARGEST)),
    )
    for place in range(n * width):
        allowed[place] = (
            (np.uint32(apart[0, place] + x) <= most_x)
            & (np.uint32(apart[1, place] + y) <= most_y)
            & (np.uint32(apart[2, place] + z) <= most_z)
        )
    n_words = width // 8
    if scratch.by_element[0]:
        for at in range(n * n_words):
            words[at] &= scratch.same_words[at]
    in_use = ALL_BYTES >> np.uint64(8 * (width - n))
    any_row_empty = False
    for i in range(n):
        words[(i + 1) * n_words - 1] &= in_use
        any_allowed = NO_BYTES
        for at in range(n_words):
            any_allowed |= words[i * n_words + at]
        any_row_empty |= any_allowed == NO_BYTES
    return not any_row_empty


@internal
def _as_whole(window: float) -> int:
    """A window in `WHOLE`ths; at half a period it holds everything."""
    return int(max(0.0, min(window, 0.5)) * WHOLE)


@internal
def _count(n: int, scratch: Scratch) -> bool:
    """Count what is marked by row and by column, eight at a time as the bytes of a word.

    Returns
    -------
    bool
        Whether each row and each column has something.
    """
    words, in_row, in_column = scratch.allowed_words, scratch.in_row, scratch.in_column
    width = _width(n)
    n_words = width // 8
    for i in range(n):
        total = NO_BYTES
        for at in range(n_words):
            # Bytes are added up by halves; there are eight at most, so none overflows.
            word = words[i * n_words + at]
            word += word >> FOUR_BYTES
            word += word >> TWO_BYTES
            word += word >> ONE_BYTE
            total += word & LAST_BYTE
        in_row[i] = total
    for j in range(width):
        in_column[j] = 0
    for low in range(0, n, 255):
        for at in range(n_words):
            total = NO_BYTES
            for i in range(low, min(n, low + 255)):
                total += words[i * n_words + at]
            for j in range(8):
                in_column[8 * at + j] += (total >> np.uint64(8 * j)) & LAST_BYTE
    least = n
    for j in range(n):
        least = min(least, in_column[j])
    return least > 0


@internal
def _nearest_image(  # noqa: PLR0917
    x: float, y: float, z: float, images: np.ndarray, squares: np.ndarray, spread: np.ndarray
) -> tuple[float, int, bool, float]:
    """Least square of a vector over its images, which one it is, whether another may be as near.

    And up to which square it may.
    """
    for place in range(27):
        dx, dy, dz = x + images[0, place], y + images[1, place], z + images[2, place]
        squares[place] = dx * dx + dy * dy + dz * dz
    best = squares[0]
    for place in range(1, 27):
        best = min(best, squares[place])
    limit = _as_near(best, spread) * (1 + EDGE)
    near, at = 0, 0
    for place in range(27):
        near += squares[place] < limit
        at = place if squares[place] == best else at
    return best, at, near > 1, limit


@internal
def _distance(  # noqa: PLR0917
    i: int, j: int, start: int, width: int, variant: int, scratch: Scratch
) -> float:
    """Squared distance from T's site i, moved as by `start`, to G's site j; kept, and the vector.

    The place of the pair in ``scratch.cost`` and the others is ``i * width + j``.
    """
    first, second = scratch.first_reduced[variant], scratch.second_reduced[variant]
    vectors, cell = scratch.vectors, scratch.reductions.cells[variant]
    place = i * width + j
    x = (first[0, j] - second[0, i]) - (first[0, start] - second[0, 0])
    y = (first[1, j] - second[1, i]) - (first[1, start] - second[1, 0])
    z = (first[2, j] - second[2, i]) - (first[2, start] - second[2, 0])
    x, y, z = x - np.rint(x), y - np.rint(y), z - np.rint(z)
    dx = x * cell[0, 0] + y * cell[1, 0] + z * cell[2, 0]
    dy = x * cell[0, 1] + y * cell[1, 1] + z * cell[2, 1]
    dz = x * cell[0, 2] + y * cell[1, 2] + z * cell[2, 2]
    best = dx * dx + dy * dy + dz * dz
    window = scratch.reductions.least_windows[variant]
    on_edge = (
        (abs(x) > window[0] - EDGE) | (abs(y) > window[1] - EDGE) | (abs(z) > window[2] - EDGE)
    )
    tie = beyond = False
    if best > scratch.reductions.safe[variant]:
        images = scratch.reductions.images[variant]
        dx, dy, dz = _as_wrapped(i, j, start, variant, scratch)
        spread, step = scratch.spread, scratch.reductions.step[variant]
        best, at, tie, limit = _nearest_image(dx, dy, dz, images, scratch.squares, spread)
        dx, dy, dz = dx + images[0, at], dy + images[1, at], dz + images[2, at]
        if spread[0] + spread[1] > 0 and limit >= step:
            # An image that is not looked at here may be there: none is nearer than this.
            beyond = True
            best = min(best, step)
    vectors[place, 0] = dx
    vectors[place, 1] = dy
    vectors[place, 2] = dz
    scratch.doubt[place] = _IMAGES_TIE * tie + _ON_EDGE * on_edge + _BEYOND * beyond
    scratch.cost[place] = best
    return best


@internal
def _as_wrapped(
    i: int, j: int, start: int, variant: int, scratch: Scratch
) -> tuple[float, float, float]:
    """Vector (Å) from T's site i, moved and wrapped into the cell, to G's site j.

    pymatgen looks at the images around that.
    """
    first, second = scratch.first_reduced[variant], scratch.second_reduced[variant]
    cell = scratch.reductions.cells[variant]
    dx, dy, dz = 0.0, 0.0, 0.0
    for k in range(3):
        moved = second[k, i] + (first[k, start] - second[k, 0])
        step = first[k, j] - (moved - np.floor(moved))
        dx += step * cell[k, 0]
        dy += step * cell[k, 1]
        dz += step * cell[k, 2]
    return dx, dy, dz


@internal
def _settle(n: int, start: int, variant: int, limit: float, scratch: Scratch) -> int:
    """Give the sites that can go to one place only their place, until all others have a choice.

    Every assignment gives them that place, so their spread alone is a lower bound on the RMS.

    Parameters
    ----------
    limit : float
        Sum of squared distances (Å²) from their mean at which a match is surely refused.

    Returns
    -------
    int
        How many sites are left, or -1 if there is no assignment, or none near enough.
    """
    allowed, doubt, vectors = scratch.allowed, scratch.doubt, scratch.vectors
    in_row, in_column, waiting = scratch.in_row, scratch.in_column, scratch.waiting
    row_of, column_of = scratch.settled[0], scratch.settled[1]
    if not _count(n, scratch):
        return -1
    width = _width(n)
    top = 0
    for i in range(n):
        row_of[i] = column_of[i] = -1
        waiting[top] = i
        top += in_row[i] == 1
    for j in range(n):
        waiting[top] = n + j
        top += in_column[j] == 1
    settled, counted = 0, 0
    total, x, y, z = 0.0, 0.0, 0.0, 0.0
    while top > 0:
        top -= 1
        i, j = 0, 0
        if waiting[top] < n:
            i = waiting[top]
            if column_of[i] >= 0:
                continue
            while not allowed[i * width + j]:
                j += 1
        else:
            j = waiting[top] - n
            if row_of[j] >= 0:
                continue
            while not allowed[i * width + j]:
                i += 1
        row_of[j], column_of[i] = i, j
        settled += 1
        square = _distance(i, j, start, width, variant, scratch)
        place = i * width + j
        if not doubt[place] & (_IMAGES_TIE | _BEYOND):
            counted += 1
            total += square
            x += vectors[place, 0]
            y += vectors[place, 1]
            z += vectors[place, 2]
            if total - (x * x + y * y + z * z) / counted >= limit:
                return -1
        # The rest of its column, then of its row, without a branch to mispredict.
        empty = 0
        for other in range(n):
            place = other * width + j
            gone = allowed[place] * (other != i)
            allowed[place] -= gone
            in_row[other] -= gone
            waiting[top] = other
            top += gone * (in_row[other] == 1)
            empty += gone * (in_row[other] == 0)
        for other in range(n):
            place = i * width + other
            gone = allowed[place] * (other != j)
            allowed[place] -= gone
            in_column[other] -= gone
            waiting[top] = n + other
            top += gone * (in_column[other] == 1)
            empty += gone * (in_column[other] == 0)
        if empty > 0:
            return -1
    return n - settled


@internal
def _assign_the_rest(n: int, left: int, start: int, variant: int, scratch: Scratch) -> bool:
    """Least-cost assignment of the sites that `_settle` left; False if there is none.

    Their rows and columns are put into ``scratch.rest``, their costs into ``scratch.open_cost``.
    """
    allowed, open_cost = scratch.allowed, scratch.open_cost
    rows, columns = scratch.rest[0], scratch.rest[1]
    row_of, column_of = scratch.settled[0], scratch.settled[1]
    n_rows, n_columns = 0, 0
    for i in range(n):
        rows[n_rows] = i
        columns[n_columns] = i
        n_rows += column_of[i] < 0
        n_columns += row_of[i] < 0
    width = _width(n)
    for p in range(left):
        for q in range(left):
            place = rows[p] * width + columns[q]
            open_cost[p, q] = FORBIDDEN
            if allowed[place]:
                open_cost[p, q] = _distance(rows[p], columns[q], start, width, variant, scratch)
    if not _assign(open_cost, left, scratch):
        return False
    for p in range(left):
        column_of[rows[p]] = columns[scratch.ints[1, p]]
    return True


@internal
def _members_refused(  # noqa: PLR0917
    n: int, left: int, start: int, variant: int, refused: float, scratch: Scratch
) -> bool:
    """Whether pymatgen refuses each member of a family, after `_assign_the_rest` for the leader.

    What a member assigns is not known: its vectors are a little longer or shorter, and pairs on the
    edge of the window are open to some members only. If a member may make the assignment that costs
    the leader least, its own costs it no more, so that only pairs of small reduced cost can be in
    it. If it may not, one of the pairs of that assignment that are on the edge is closed to it:
    then the same is asked of the assignment without that pair, and so on.

    Parameters
    ----------
    refused : float
        Mean square (Å²) from the mean, of the leader's vectors, that refuses every member.
    """
    allowed, vectors, doubt, cost = scratch.allowed, scratch.vectors, scratch.doubt, scratch.cost
    open_cost, all_costs, branches = scratch.open_cost, scratch.site_cost, scratch.branches
    rows, columns, column_of = scratch.rest[0], scratch.rest[1], scratch.settled[1]
    u, v, own = scratch.floats[0], scratch.floats[1], scratch.small[0, 0]
    eps, shift = scratch.spread[0], scratch.spread[2]
    width = _width(n)
    for p in range(left):
        for q in range(left):
            all_costs[p, q] = open_cost[p, q]
    here = branches[MOST_BRANCHES]  # a copy of the branch in hand
    branches[0, 0] = 0
    waiting, tried = 1, 0
    while waiting > 0:
        waiting -= 1
        tried += 1
        length = branches[waiting, 0]
        for at in range(1 + length):
            here[at] = branches[waiting, at]
        for p in range(left):
            for q in range(left):
                open_cost[p, q] = all_costs[p, q]
        for at in range(1, 1 + length):
            if here[at] < 0:
                open_cost[(-here[at] - 1) // left, (-here[at] - 1) % left] = FORBIDDEN
        if tried > 1:
            if not _assign(open_cost, left, scratch):
                continue
            for p in range(left):
                column_of[rows[p]] = columns[scratch.ints[1, p]]
        total, doubts = 0.0, 0
        for k in range(3):
            own[k] = 0.0
        for i in range(n):
            place = i * width + column_of[i]
            total += cost[place]
            doubts |= doubt[place]
            for k in range(3):
                own[k] += vectors[place, k]
        most = (np.sqrt(total * (1 + eps)) + 2 * np.sqrt(n) * shift) ** 2 / (1 - eps)
        excess = most - total + EDGE * (total + n * refused)
        several = False
        for p in range(left):
            for q in range(left):
                place = rows[p] * width + columns[q]
                near = open_cost[p, q] - u[p] - v[q] <= excess
                allowed[place] = near
                several |= near & (columns[q] != column_of[rows[p]])
                doubts |= near * (doubt[place] & _BEYOND)
        if doubts & _BEYOND or total / n - inner(own, own) / (n * n) < refused:
            return False
        if (several or doubts & _IMAGES_TIE) and not _other_sums_refused(
            n, left, start, variant, total, refused, MOST_SUMS[0], scratch
        ):
            return False
        on_edge = False
        for p in range(left):
            on_edge |= doubt[rows[p] * width + column_of[rows[p]]] & _ON_EDGE > 0
        if tried == 1 and on_edge:
            # Often it does not matter which pairs a member assigns.
            for p in range(left):
                for q in range(left):
                    place = rows[p] * width + columns[q]
                    allowed[place] = all_costs[p, q] < FORBIDDEN
                    doubts |= allowed[place] * (doubt[place] & _BEYOND)
            if not doubts & _BEYOND and _other_sums_refused(
                n, left, start, variant, total, refused, MOST_SUMS[1], scratch
            ):
                return True
        # Each pair on the edge may be the one that is closed, those before it being open then.
        for p in range(left):
            q = 0
            while columns[q] != column_of[rows[p]]:
                q += 1
            if not doubt[rows[p] * width + columns[q]] & _ON_EDGE:
                continue
            pair = p * left + q + 1
            known = False
            for at in range(1, 1 + length):
                known |= here[at] == pair
            if known:
                continue
            if tried + waiting == MOST_BRANCHES or length == MOST_CLOSED:
                return False
            here[0] = length + 1
            here[length + 1] = -pair
            for at in range(2 + length):
                branches[waiting, at] = here[at]
            here[length + 1] = pair
            length += 1
            waiting += 1
    return True


@internal
def _other_sums_refused(  # noqa: PLR0917
    n: int,
    left: int,
    start: int,
    variant: int,
    total: float,
    refused: float,
    most_sums: int,
    scratch: Scratch,
) -> bool:
    """Whether all assignments of marked pairs are surely refused whose vectors have another sum.

    With the sum s the mean is s/n, and the squares from it are no less than those of the assignment
    for which they are least.

    Parameters
    ----------
    total : float
        What an assignment costs at least (Å²). That one's sum is in ``scratch.small[0, 0]``.
    most_sums : int
        For how many sums a least assignment is sought before it counts as not surely refused.
    """
    own, mean = scratch.small[0, 0], scratch.small[0, 1]
    low, high, inverse = scratch.small[4, 0], scratch.small[4, 2], scratch.small[5]
    cell = scratch.reductions.cells[variant]
    _box_of_sums(n, start, variant, scratch)
    inverted(cell, inverse)
    p_most, q_most, r_most = _steps_within(own, low, high, inverse)
    solved = 0
    if (2 * p_most + 1) * (2 * q_most + 1) * (2 * r_most + 1) > 100 * most_sums:
        return False
    for p in range(-p_most, p_most + 1):
        for q in range(-q_most, q_most + 1):
            for r in range(-r_most, r_most + 1):
                square = 0.0
                inside = (p != 0) | (q != 0) | (r != 0)
                for k in range(3):
                    value = own[k] + p * cell[0, k] + q * cell[1, k] + r * cell[2, k]
                    square += value * value
                    mean[k] = value / n
                    inside &= low[k] - 1e-6 <= value <= high[k] + 1e-6
                if not inside or total / n - square / (n * n) >= refused:
                    continue
                solved += 1
                if (
                    solved > most_sums
                    or _least_from(mean, n, left, start, variant, scratch) < n * refused
                ):
                    return False
    return True


@internal
def _least_from(  # noqa: PLR0917
    mean: np.ndarray, n: int, left: int, start: int, variant: int, scratch: Scratch
) -> float:
    """Least sum of squares from a mean (Å²) over assignments of marked pairs."""
    rows, columns, row_of = scratch.rest[0], scratch.rest[1], scratch.settled[0]
    cost = scratch.open_cost
    width = _width(n)
    total = 0.0
    for j in range(n):
        if row_of[j] >= 0:
            total += _square_from(mean, row_of[j], j, start, variant, width, scratch)
    for p in range(left):
        for q in range(left):
            cost[p, q] = FORBIDDEN
            if scratch.allowed[rows[p] * width + columns[q]]:
                cost[p, q] = _square_from(mean, rows[p], columns[q], start, variant, width, scratch)
    if left == 0:
        return total
    if not _assign(cost, left, scratch):
        return np.inf
    for p in range(left):
        total += cost[p, scratch.ints[1, p]]
    return total


@internal
def _square_from(  # noqa: PLR0917
    mean: np.ndarray, i: int, j: int, start: int, variant: int, width: int, scratch: Scratch
) -> float:
    """Square (Å²) of a pair's vector from a mean, or of the nearest one that it may have."""
    vectors, place = scratch.vectors, i * width + j
    dx = vectors[place, 0] - mean[0]
    dy = vectors[place, 1] - mean[1]
    dz = vectors[place, 2] - mean[2]
    least = dx * dx + dy * dy + dz * dz
    if not scratch.doubt[place] & _IMAGES_TIE:
        return least
    images = scratch.reductions.images[variant]
    x, y, z = _as_wrapped(i, j, start, variant, scratch)
    limit = _as_near(scratch.cost[place], scratch.spread) * (1 + 2 * EDGE)
    for at in range(27):
        dx, dy, dz = x + images[0, at], y + images[1, at], z + images[2, at]
        if dx * dx + dy * dy + dz * dz <= limit:
            dx, dy, dz = dx - mean[0], dy - mean[1], dz - mean[2]
            least = min(least, dx * dx + dy * dy + dz * dz)
    return least


@internal
def _site_test(  # noqa: PLR0917
    n: int,
    start: int,
    variant: int,
    normalization: float,
    stol: float,
    with_cost: bool,
    scratch: Scratch,
) -> tuple[int, float]:
    """Distances on a reduced cell, assignment, translation, RMS; T's first site on G's `start`.

    After `_mark`.

    Parameters
    ----------
    variant : int
        Which of ``scratch.reductions``.
    with_cost : bool
        Also give the least cost of the atom map.

    Returns
    -------
    int
        `_REFUSED`, `_UNSURE` or `_SURE`.
    float
        Lower bound of the sum of differences of Pettifor numbers over the map, unless refused.
    """
    allowed, vectors, doubt = scratch.allowed, scratch.vectors, scratch.doubt
    # Whatever lies on an edge is marked as allowed: if even so there is no way, there is none.
    spread = scratch.spread
    refused = (stol * (1 + EDGE) / normalization + spread[2]) ** 2 / (1 - spread[0])
    left = _settle(n, start, variant, n * refused * (1 + EDGE), scratch)
    if left < 0 or (left > 0 and not _assign_the_rest(n, left, start, variant, scratch)):
        return _REFUSED, 0.0
    if spread[0] + spread[1] > 0:
        all_refused = _members_refused(n, left, start, variant, refused, scratch)
        return _REFUSED if all_refused else _UNSURE, 0.0
    width = _width(n)
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
            doubts |= allowed[place] * (doubt[place] & _ON_EDGE)
    if doubts & _ON_EDGE:
        return _UNSURE, _least_site_cost(scratch, n) if with_cost else 0.0
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
    nearest = furthest = inner(own, own)
    if tied:
        nearest, furthest = _tied_sums(n, start, variant, scratch)
    least = (total / n - furthest / (n * n)) * normalization**2
    greatest = (total / n - nearest / (n * n)) * normalization**2
    if least >= refused * normalization**2:
        return _REFUSED, 0.0
    if scratch.by_element[0]:
        # Which vectors are assigned is not known in a tie: then it is as if one lay on the edge.
        largest = stol if tied else _largest_from_mean(n, scratch) * normalization
        if largest >= stol * (1 + EDGE):
            return _REFUSED, 0.0
        greatest = largest**2
    answer = _UNSURE if greatest >= (stol * (1 - EDGE)) ** 2 else _SURE
    return answer, _least_site_cost(scratch, n) if with_cost else 0.0


@internal
def _largest_from_mean(n: int, scratch: Scratch) -> float:
    """Largest distance (Å) of the assigned vectors from their mean, the best translation."""
    vectors, column_of = scratch.vectors, scratch.settled[1]
    width = _width(n)
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
def _tied_sums(n: int, start: int, variant: int, scratch: Scratch) -> tuple[float, float]:
    """Least and greatest square of the sum of vectors over all assignments of (nearly) equal cost.

    Takes the entries that are marked in `allowed`, and all equally near images.
    """
    low, own, high = scratch.small[4, 0], scratch.small[4, 1], scratch.small[4, 2]
    _box_of_sums(n, start, variant, scratch)
    cell, inverse = scratch.reductions.cells[variant], scratch.small[5]
    inverted(cell, inverse)
    return _sums_within(own, low, high, cell, inverse)


@internal
def _box_of_sums(n: int, start: int, variant: int, scratch: Scratch) -> None:
    """Sum of the assigned vectors, its least and greatest components over marked pairs.

    Into ``scratch.small[4]``: the least, its own, the greatest.
    """
    vectors, column_of = scratch.vectors, scratch.settled[1]
    images = scratch.reductions.images[variant]
    low, own, high = scratch.small[4, 0], scratch.small[4, 1], scratch.small[4, 2]
    width = _width(n)
    for k in range(3):
        low[k] = own[k] = high[k] = 0.0
        for i in range(n):
            lowest = highest = vectors[i * width + column_of[i], k]
            own[k] += lowest
            for j in range(n):
                place = i * width + j
                if scratch.allowed[place] == 0:
                    continue
                lowest = min(lowest, vectors[place, k])
                highest = max(highest, vectors[place, k])
                if scratch.doubt[place] & _IMAGES_TIE:
                    apart = _as_wrapped(i, j, start, variant, scratch)
                    limit = _as_near(scratch.cost[place], scratch.spread) * (1 + 2 * EDGE)
                    least_of_images, most_of_images = _equally_near(apart, images, limit, k)
                    lowest = min(lowest, least_of_images)
                    highest = max(highest, most_of_images)
            low[k] += lowest
            high[k] += highest


@internal
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


@internal
def _inverted_about_first(coords: np.ndarray, n: int) -> bool:
    """Whether wrapped sites, (3, n), are inverted into themselves at the first, all but exactly."""
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
            )
        if not found:
            return False
    return True


@internal
def _is_exchange(matrix: np.ndarray) -> bool:
    """Whether a matrix of integers with determinant ±1 has no more than one in a row."""
    entries = 0.0
    for i in range(3):
        for k in range(3):
            entries += abs(matrix[i, k])
    return entries < 3.5


@internal
def _lattice_test(  # noqa: PLR0917
    aligned: np.ndarray,
    target: np.ndarray,
    n: int,
    expand_first: bool,
    fu: int,
    stol: float,
    sure: bool,
    in_order: bool,
    means: np.ndarray,
    scratch: Scratch,
) -> tuple[int, float]:
    """All translations on one pair of lattices; the sites are `scratch.first` and `.second`.

    Parameters
    ----------
    aligned, target : (6,)
        Lengths and angles of the two cells.
    expand_first : bool
        Whether G is the crystal that was expanded, by `fu`.
    sure : bool
        Whether pymatgen surely takes this pair of lattices.
    means : (M, 6)
        See `_reductions`.
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
    average, inverse, spread = scratch.small[1], scratch.small[2], scratch.spread
    windows = scratch.windows
    _average_cell(aligned, target, average)
    volume = abs(inverted(average, inverse))
    normalization = (n / volume) ** (1 / 3)
    for k in range(3):
        length = np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        most = length * (2 * stol / normalization + spread[1]) / np.sqrt(1 - spread[0])
        windows[0, k] = most * (1 + SLACK) + SLACK
        windows[1, k] = 2 * length * stol / normalization * (1 - SLACK) - SLACK
    first, second = scratch.first, scratch.second
    expanded = first if expand_first else second
    # Sites of G that are copies of one another by its supercell's translations are all the same.
    stride = fu if expand_first else 1
    backs = scratch.reductions.backs
    if spread[0] > MOST_SPREAD:
        return LET_THROUGH, -1.0
    variants = _reductions(
        average, stol / normalization, scratch.reductions, scratch.small, spread, means
    )
    if variants == 0:
        return LET_THROUGH, -1.0
    # If reduction only exchanges and turns axes, the windows on both cells hold the same.
    same = not in_order and variants == 1 and _is_exchange(backs[0])
    with_cost = in_order and not scratch.by_element[0]
    came_to = NOT_COVERED
    lowest = np.inf
    for turned in range(1 if in_order else 2):
        if turned:
            if _inverted_about_first(second, n):
                break
            for k in range(3):
                for i in range(n):
                    value = -expanded[k, i]
                    expanded[k, i] = value - np.floor(value)
        on_reduced = False
        at_hand = -1  # the reduced form of which there are the differences
        if not same:
            _differences(first, second, n, scratch.apart[0])
        for start in range(0, n, stride):
            if scratch.by_element[0] and scratch.labels[0, start] != scratch.labels[1, 0]:
                continue
            scratch.work[0] += n * n // 8
            if scratch.work[0] > scratch.work[1]:
                return GIVEN_UP, -1.0
            covered, surely_covered = same, False
            for narrow in range(int(same), 2 if in_order else 1):
                found = _mark(
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
                    _wrap_onto(first, backs[variant], n, scratch.first_reduced[variant])
                    _wrap_onto(second, backs[variant], n, scratch.second_reduced[variant])
                on_reduced = True
            worst = _SURE
            for variant in range(variants):
                if variant != at_hand:
                    _differences(
                        scratch.first_reduced[variant],
                        scratch.second_reduced[variant],
                        n,
                        scratch.apart[1],
                    )
                    at_hand = variant
                window = scratch.reductions.windows[variant]
                if not _mark(scratch.apart[1], n, start, window, EDGE, scratch):
                    worst = _REFUSED
                    came_to = max(came_to, NOT_COVERED if same else TOO_FAR)
                    continue
                scratch.work[0] += 6 * n * n
                answer, cost = _site_test(
                    n, start, variant, normalization, stol, with_cost, scratch
                )
                worst = min(worst, answer)
                came_to = max(came_to, TOO_FAR)
                if answer != _REFUSED:
                    if not in_order:
                        return LET_THROUGH, lowest
                    if scratch.first_match[3] < 0:
                        scratch.first_match[3] = start
                    came_to = LET_THROUGH
                    lowest = min(lowest, cost)
            if worst == _SURE and sure and surely_covered:
                return ACCEPTED, lowest
    return came_to, lowest


@internal
def _expand(  # noqa: PLR0917
    frac: np.ndarray, n: int, matrix: np.ndarray, fu: int, out: np.ndarray, scratch: Scratch
) -> bool:
    """Sites of a supercell, wrapped, site by site, into `out`, (3, n·fu).

    False if their number is not right.

    The lattice points come in lexicographic order of their coefficients, as in pymatgen.
    """
    inverse, real, points = scratch.small[4], scratch.small[5], scratch.points
    for i in range(3):
        for k in range(3):
            real[i, k] = matrix[i, k]
    inverted(real, inverse)
    found = 0
    if fu == 1:
        points[0, 0] = points[0, 1] = points[0, 2] = 0.0
        found = 1
    else:
        p_low, p_high = _extent(matrix, VALUES[0])
        q_low, q_high = _extent(matrix, VALUES[1])
        r_low, r_high = _extent(matrix, VALUES[2])
        for p in range(p_low, p_high + 1):
            for q in range(q_low, q_high + 1):
                for r in range(r_low, r_high + 1):
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
                            points[found, k] = (
                                p * inverse[0, k] + q * inverse[1, k] + r * inverse[2, k]
                            )
                        found += 1
    if found != fu:
        return False
    for k in range(3):
        for i in range(n):
            moved = (
                frac[i, 0] * inverse[0, k] + frac[i, 1] * inverse[1, k] + frac[i, 2] * inverse[2, k]
            )
            for point in range(fu):
                value = moved + points[point, k]
                out[k, i * fu + point] = value - np.floor(value)
    return True


@internal
def _extent(matrix: np.ndarray, k: int) -> tuple[int, int]:
    """Least and greatest component k of the corners of a cell."""
    low, high = 0, 0
    for row in range(3):
        low += min(0, matrix[row, k])
        high += max(0, matrix[row, k])
    return low, high


@internal
def _vectors(
    lattice: np.ndarray, lowest: float, highest: float, out: Vectors, inverse: np.ndarray
) -> int:
    """Lattice vectors with lengths in a range (Å), of each v and -v one.

    `inverse`, (3, 3), is written over.

    Returns
    -------
    int
        How many; -1 if they are too many.
    """
    coefficients, cart, unit, length = out.coefficients, out.cart, out.unit, out.length
    inverted(lattice, inverse)
    p_most, q_most, r_most = (
        _reach(inverse, VALUES[0], highest),
        _reach(inverse, VALUES[1], highest),
        _reach(inverse, VALUES[2], highest),
    )
    least = lowest * lowest * (1 - SLACK)
    most = highest * highest * (1 + SLACK)
    found = 0
    for p in range(p_most + 1):
        for q in range(0 if p == 0 else -q_most, q_most + 1):
            x = p * lattice[0, 0] + q * lattice[1, 0]
            y = p * lattice[0, 1] + q * lattice[1, 1]
            z = p * lattice[0, 2] + q * lattice[1, 2]
            for r in range(1 if p == 0 and q == 0 else -r_most, r_most + 1):
                dx = x + r * lattice[2, 0]
                dy = y + r * lattice[2, 1]
                dz = z + r * lattice[2, 2]
                square = dx * dx + dy * dy + dz * dz
                if square < least or square > most:
                    continue
                if found == MOST_VECTORS:
                    return -1
                coefficients[found, 0] = p
                coefficients[found, 1] = q
                coefficients[found, 2] = r
                cart[found, 0] = dx
                cart[found, 1] = dy
                cart[found, 2] = dz
                length[found] = np.sqrt(square)
                inverse_length = 1 / length[found]
                unit[found, 0] = dx * inverse_length
                unit[found, 1] = dy * inverse_length
                unit[found, 2] = dz * inverse_length
                found += 1
    return found


@internal
def _reach(inverse: np.ndarray, k: int, longest: float) -> int:
    """Greatest coefficient k of a lattice vector of that length, from the inverse of the cell."""
    steepest = np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
    return int(longest * steepest + 1e-6)


@internal
def _given_vectors(lattice: np.ndarray, in_order: np.ndarray, out: Vectors) -> int:
    """The lattice vectors of given coefficients, in that order; -1 if they are too many."""
    coefficients, cart, unit, length = out.coefficients, out.cart, out.unit, out.length
    if len(in_order) > MOST_VECTORS:
        return -1
    for place in range(len(in_order)):
        square = 0.0
        for k in range(3):
            coefficients[place, k] = in_order[place, k]
            cart[place, k] = (
                in_order[place, 0] * lattice[0, k]
                + in_order[place, 1] * lattice[1, k]
                + in_order[place, 2] * lattice[2, k]
            )
            square += cart[place, k] ** 2
        length[place] = np.sqrt(square)
        for k in range(3):
            unit[place, k] = cart[place, k] / max(length[place], SLACK)  # zero is listed too
    return len(in_order)


@internal
def _by_length(vectors: Vectors, count: int) -> None:
    """Put so many vectors in order of length, by Shell's method: `argsort` compiles for seconds."""
    coefficients, cart = vectors.coefficients, vectors.cart
    unit, length = vectors.unit, vectors.length
    gap = 1
    while gap < count:
        gap = 3 * gap + 1
    while gap > 0:
        for place in range(gap, count):
            at = place
            while at >= gap and length[at - gap] > length[at]:
                length[at - gap], length[at] = length[at], length[at - gap]
                for k in range(3):
                    here, there = (at, k), (at - gap, k)
                    coefficients[here], coefficients[there] = (
                        coefficients[there],
                        coefficients[here],
                    )
                    cart[here], cart[there] = cart[there], cart[here]
                    unit[here], unit[there] = unit[there], unit[here]
                at -= gap
        gap //= 3


@internal
def _place_of(value: float, increasing: np.ndarray, count: int) -> int:
    """How many of the first `count` numbers are below a value."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if increasing[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@internal
def _shells(
    length: np.ndarray, start: int, stop: int, bounds: np.ndarray, shell: np.ndarray
) -> tuple[int, int, int]:
    """Which vectors from `start` to `stop` could stand for each target vector; their numbers."""
    a, b, c = 0, 0, 0
    a_least, a_most = bounds[0, 0], bounds[1, 0]
    b_least, b_most = bounds[0, 1], bounds[1, 1]
    c_least, c_most = bounds[0, 2], bounds[1, 2]
    for place in range(start, stop):
        value = length[place]
        # Written always, kept if it belongs there: no branch to mispredict.
        shell[0, a] = place
        a += a_least < value < a_most
        shell[1, b] = place
        b += b_least < value < b_most
        shell[2, c] = place
        c += c_least < value < c_most
    return a, b, c


@internal
def _at_angle(  # noqa: PLR0917
    a: int,
    others: np.ndarray,
    count: int,
    unit: np.ndarray,
    low: float,
    high: float,
    turned: bool,
    near: np.ndarray,
) -> int:
    """Which of so many vectors are at an angle to one whose cosine is in a range; how many.

    Into `near`, twice the vector's place; `turned` too, then once more, plus one.
    """
    x, y, z = unit[a, 0], unit[a, 1], unit[a, 2]
    middle, reach = (high + low) / 2, (high - low) / 2
    found = 0
    for at in range(count):
        # As in `_shells`.
        place = others[at]
        cosine = x * unit[place, 0] + y * unit[place, 1] + z * unit[place, 2]
        near[found] = 2 * place
        found += abs(cosine - middle) <= reach
        near[found] = 2 * place + 1
        found += turned & (abs(cosine + middle) <= reach)
    return found


@internal
def _surely_near(parameters: np.ndarray, wanted: np.ndarray, ltol: float, angle_tol: float) -> bool:
    """Whether a cell is within the tolerances of the target by more than rounding."""
    for k in range(3):
        ratio = parameters[k] / wanted[k]
        if ratio > (1 + ltol) * (1 - SLACK) or ratio * (1 + ltol) < 1 + SLACK:
            return False
        if abs(parameters[3 + k] - wanted[3 + k]) > angle_tol * np.pi / 180 - EDGE:
            return False
    return True


@internal
def _operations_at_first(
    lattice: np.ndarray, frac: np.ndarray, n: int, operations: np.ndarray
) -> int:
    """Symmetry operations of a crystal that fix its first site and only exchange or turn its axes.

    Operations by all but rounding, that is: those of a crystal symmetric within a tolerance, as
    symmetry searches find them, would not do.

    Parameters
    ----------
    lattice, frac : (3, 3), (n, 3)
    operations : int64, (48, 6)
        Axis i goes to axis ``operations[m, i]``, with the sign ``operations[m, 3 + i]``.

    Returns
    -------
    int
        How many, the identity among them.
    """
    found = 0
    for choice in range(48):
        one = choice // 16
        other = (one + 1 + choice // 8 % 2) % 3
        operation = operations[found]
        operation[0], operation[1], operation[2] = one, other, 3 - one - other
        for k in range(3):
            operation[3 + k] = 1 - 2 * (choice >> k & 1)
        if _keeps_metric(lattice, operation) and _keeps_sites(frac, n, operation):
            found += 1
    return found


@internal
def _operations_of_all(
    family: int, families: Families, pairs: Pairs, operations: np.ndarray, count: int
) -> int:
    """Keep those of the leader's operations that every member of a family has; how many."""
    if families.shifts[family, 0] > SLACK:
        return 1
    members = families.members[families.offsets[family] : families.offsets[family + 1]]
    kept = 0
    for place in range(count):
        of_all = True
        for member in range(len(members)):
            of_all &= _keeps_metric(pairs.lattices[members[member]], operations[place])
        if of_all:
            for k in range(6):
                operations[kept, k] = operations[place, k]
            kept += 1
    return kept


@internal
def _keeps_metric(lattice: np.ndarray, operation: np.ndarray) -> bool:
    """Whether exchanged and turned axes have the lengths and angles of the axes they replace."""
    for i in range(3):
        for k in range(i, 3):
            there = inner(lattice[operation[i]], lattice[operation[k]])
            there *= operation[3 + i] * operation[3 + k]
            here = inner(lattice[i], lattice[k])
            size = inner(lattice[i], lattice[i]) + inner(lattice[k], lattice[k])
            if abs(there - here) > SLACK / 10 * size:
                return False
    return True


@internal
def _keeps_sites(frac: np.ndarray, n: int, operation: np.ndarray) -> bool:
    """Whether exchanged and turned axes, about the first site, bring every site onto one."""
    p, q, r = operation[0], operation[1], operation[2]
    for i in range(n):
        # x = Σ xᵢ aᵢ goes to Σ xᵢ ± a of `operation[i]`.
        image_p = operation[3] * (frac[i, 0] - frac[0, 0]) + frac[0, p]
        image_q = operation[4] * (frac[i, 1] - frac[0, 1]) + frac[0, q]
        image_r = operation[5] * (frac[i, 2] - frac[0, 2]) + frac[0, r]
        found = 0
        for j in range(n):
            dp, dq, dr = frac[j, p] - image_p, frac[j, q] - image_q, frac[j, r] - image_r
            found |= (
                (abs(dp - np.rint(dp)) < SLACK / 10)
                & (abs(dq - np.rint(dq)) < SLACK / 10)
                & (abs(dr - np.rint(dr)) < SLACK / 10)
            )
        if not found:
            return False
    return True


@internal
def _class_of(matrix: np.ndarray, operations: np.ndarray, count: int, of_source: bool) -> int:
    """A number that equivalent lattices share; -1 if their coefficients are too large for it.

    Parameters
    ----------
    matrix : int64, (3, 3)
        Coefficients of the source's vectors.
    operations, count
        From `_operations_at_first`, of T.
    of_source : bool
        T is the source, and not the target.
    """
    for i in range(3):
        for k in range(3):
            if abs(matrix[i, k]) > 15:
                return -1
    greatest = -1
    for place in range(count):
        operation = operations[place]
        code = 0
        sign = 0
        for i in range(3):
            for k in range(3):
                if of_source:
                    value = operation[3 + k] * matrix[i, operation[k]]
                else:
                    value = operation[3 + i] * matrix[operation[i], k]
                if sign == 0 and value != 0:
                    sign = 1 if value > 0 else -1
                code = 32 * code + 16 + sign * value
        greatest = max(greatest, code)
    return greatest


@internal
def _only_exchanged_by_reduction(parameters: np.ndarray, ltol: float, tolerance: float) -> bool:
    """Whether LLL reduction can only reorder the mean of such a cell and one within tolerance.

    With c the largest cosine and r the largest ratio of lengths, no coefficient of the Gram-Schmidt
    process exceeds c·r/(1 - c), in whatever order the vectors are: below one half none is ever
    subtracted from another.
    """
    cosine = 0.0
    for k in range(3):
        away = abs(parameters[3 + k] - np.pi / 2) + tolerance / 2
        cosine = max(cosine, np.sin(min(away, np.pi / 2)))
    shortest = min(parameters[0], parameters[1], parameters[2])
    longest = max(parameters[0], parameters[1], parameters[2])
    return cosine * (1 + ltol) * longest / shortest < 0.45 * (1 - cosine)


@internal
def _deviation(
    parameters: np.ndarray,
    cell: np.ndarray,
    back: np.ndarray,
    power: float,
    gram: np.ndarray,
) -> float:
    """Relative change of squares of vectors, at most, from a cell to one of other parameters.

    Parameters
    ----------
    parameters : (6,)
        Lengths and angles (radians).
    cell, back : (3, 3)
        The cell and its inverse.
    power : float
        Of the ratio of the volumes, by which lengths are scaled first: 1/3 for equal volumes, or 0.
    gram : (3, 3)
        Written over.
    """
    for i in range(3):
        gram[i, i] = parameters[i] ** 2
        j, k = (i + 1) % 3, (i + 2) % 3
        gram[j, k] = gram[k, j] = parameters[j] * parameters[k] * np.cos(parameters[3 + i])
    square = gram[0, 0] * (gram[1, 1] * gram[2, 2] - gram[1, 2] ** 2)
    square += gram[0, 1] * (gram[1, 2] * gram[0, 2] - gram[0, 1] * gram[2, 2])
    square += gram[0, 2] * (gram[0, 1] * gram[1, 2] - gram[1, 1] * gram[0, 2])
    if square <= 0:
        return np.inf
    volume = (
        cell[0, 0] * (cell[1, 1] * cell[2, 2] - cell[1, 2] * cell[2, 1])
        + cell[0, 1] * (cell[1, 2] * cell[2, 0] - cell[1, 0] * cell[2, 2])
        + cell[0, 2] * (cell[1, 0] * cell[2, 1] - cell[1, 1] * cell[2, 0])
    )
    scale = (volume**2 / square) ** power
    for i in range(3):
        for k in range(3):
            gram[i, k] = scale * gram[i, k] - inner(cell[i], cell[k])
    # |v|² = f·gram·f with f = v·back; its change is at most this matrix's norm times |v|².
    total = 0.0
    for i in range(3):
        for k in range(3):
            value = 0.0
            for p in range(3):
                for q in range(3):
                    value += back[i, p] * gram[p, q] * back[k, q]
            total += value * value
    return np.sqrt(total)


@internal
def _takes(  # noqa: PLR0917
    index: int,
    matrix: np.ndarray,
    parameters: np.ndarray,
    wanted: np.ndarray,
    expand_first: bool,
    ltol: float,
    angle_tol: float,
    families: Families,
    pairs: Pairs,
    scratch: Scratch,
) -> bool:
    """Whether pymatgen may take a lattice for one member of a family, at `index` in the reference.

    The parameters of the two cells are put into ``scratch.parameters[2:4]``: of the lattice, and of
    the target. See `_family_spread`.
    """
    one, other, moved = scratch.parameters[2], scratch.parameters[3], scratch.small[5]
    if expand_first:
        for k in range(6):
            one[k] = parameters[k]
            other[k] = families.parameters[index, k]
    else:
        lattice = pairs.lattices[index]
        for i in range(3):
            for k in range(3):
                moved[i, k] = (
                    matrix[i, 0] * lattice[0, k]
                    + matrix[i, 1] * lattice[1, k]
                    + matrix[i, 2] * lattice[2, k]
                )
        cell_parameters(moved, one)
        for k in range(6):
            other[k] = wanted[k]
    near = True
    for k in range(3):
        ratio = one[k] / other[k]
        near &= (ratio < (1 + ltol) * (1 + SLACK)) & (ratio * (1 + ltol) > 1 - SLACK)
        near &= abs(one[3 + k] - other[3 + k]) < angle_tol * np.pi / 180 + EDGE
    return near


@internal
def _family_spread(  # noqa: PLR0917
    matrix: np.ndarray,
    parameters: np.ndarray,
    wanted: np.ndarray,
    expand_first: bool,
    own_cell: np.ndarray,
    ltol: float,
    angle_tol: float,
    family: int,
    families: Families,
    pairs: Pairs,
    scratch: Scratch,
) -> int:
    """Into ``scratch.spread``: how far members of a family are from its leader on one lattice.

    Parameters
    ----------
    matrix : int64, (3, 3)
        Coefficients of the source's vectors.
    parameters, wanted : (6,)
        Of the leader's pair: those of the lattice, and of the target's cell.
    expand_first : bool
        The members are the targets, and not the sources.
    own_cell : (3, 3)
        The leader's cell, or the one that the lattice makes of it.

    Returns
    -------
    int
        How many members pymatgen may take this lattice for.
    """
    average, back = scratch.small[1], scratch.small[2]
    gram = scratch.small[4]
    one, other, mean_of_leader = scratch.parameters[2], scratch.parameters[3], scratch.parameters[4]
    _average_cell(parameters, wanted, average)
    inverted(average, back)
    taken, deviation = 0, 0.0
    for index in families.members[families.offsets[family] : families.offsets[family + 1]]:
        if not _takes(
            index,
            matrix,
            parameters,
            wanted,
            expand_first,
            ltol,
            angle_tol,
            families,
            pairs,
            scratch,
        ):
            continue
        mean = families.means[taken]
        for k in range(6):
            mean[k] = (one[k] + other[k]) / 2
        taken += 1
        deviation = max(deviation, _deviation(mean, average, back, 1 / 3, gram))
    # The sites' shifts are known on the leader's own cell, not on the mean cell.
    for k in range(6):
        mean_of_leader[k] = (parameters[k] + wanted[k]) / 2
    inverted(own_cell, back)
    from_own = _deviation(mean_of_leader, own_cell, back, 0.0, gram)
    scratch.spread[0] = deviation * (1 + EDGE) + SLACK
    for place in range(2):
        shift = families.shifts[family, place] * np.sqrt((1 + from_own) * (1 + scratch.spread[0]))
        scratch.spread[1 + place] = shift * (1 + EDGE)
    return taken


@internal
def _bounds_of_pair(target: np.ndarray, ltol: float, angle_tol: float, bounds: np.ndarray) -> None:
    """Lengths and cosines of the vectors that may stand for the target's, into ``scratch.bounds``.

    Most pairs end here or soon after: without a single angle.
    """
    cos_tol, sin_tol = np.cos(angle_tol * np.pi / 180), np.sin(angle_tol * np.pi / 180)
    for k in range(3):
        length = np.sqrt(inner(target[k], target[k]))
        bounds[0, k] = length * (1 - SLACK) / (1 + ltol)
        bounds[1, k] = length * (1 + SLACK) * (1 + ltol)
    for k in range(3):
        one, other = target[(k + 1) % 3], target[(k + 2) % 3]
        cosine = inner(one, other) / np.sqrt(inner(one, one) * inner(other, other))
        sine = np.sqrt(max(0.0, 1 - cosine * cosine))
        bounds[2, k], bounds[3, k] = -1 - EDGE, 1 + EDGE
        if cosine > -cos_tol:
            bounds[2, k] = cosine * cos_tol - sine * sin_tol - EDGE
        if cosine < cos_tol:
            bounds[3, k] = cosine * cos_tol + sine * sin_tol + EDGE


@internal
def _bounds_of_family(  # noqa: PLR0917
    wanted: np.ndarray,
    expand_first: bool,
    ltol: float,
    angle_tol: float,
    other_lattice: np.ndarray,
    family: int,
    families: Families,
    pairs: Pairs,
    scratch: Scratch,
) -> None:
    """`_bounds_of_pair` of a family's leader, such that they hold for every member.

    Of the leader's own vectors, if its members are the sources.
    """
    bounds = scratch.bounds
    tolerance = angle_tol * np.pi / 180
    shortest, longest, away = 1.0, 1.0, SLACK
    members = families.members[families.offsets[family] : families.offsets[family + 1]]
    if not expand_first:
        back, gram = scratch.small[1], scratch.small[2]
        volume = abs(inverted(other_lattice, back))
        for index in members:
            deviation = _deviation(families.parameters[index], other_lattice, back, 1 / 3, gram)
            scale = (abs(inverted(pairs.lattices[index], gram)) / volume) ** (1 / 3)
            longest = max(longest, scale * np.sqrt(1 + deviation))
            shortest = min(shortest, scale * np.sqrt(max(0.0, 1 - deviation)))
            # <a, b> changes by deviation·|a||b| at most, and |a||b| by that share.
            away = max(away, 2 * deviation / max(1e-3, 1 - deviation) + SLACK)
    for k in range(3):
        bounds[0, k] = wanted[k]
        bounds[1, k] = wanted[k]
        bounds[2, k] = wanted[3 + k]
        bounds[3, k] = wanted[3 + k]
        if expand_first:
            for index in members:
                bounds[0, k] = min(bounds[0, k], families.parameters[index, k])
                bounds[1, k] = max(bounds[1, k], families.parameters[index, k])
                bounds[2, k] = max(bounds[2, k], families.parameters[index, 3 + k])
                bounds[3, k] = min(bounds[3, k], families.parameters[index, 3 + k])
        bounds[0, k] *= (1 - SLACK) / ((1 + ltol) * longest)
        bounds[1, k] *= (1 + SLACK) * (1 + ltol) / max(1e-3, shortest)
        bounds[2, k] = np.cos(min(bounds[2, k] + tolerance, np.pi)) - away
        bounds[3, k] = np.cos(max(bounds[3, k] - tolerance, 0.0)) + away


@inlined
def _pair_test(  # noqa: PLR0917
    index: int,
    family: int,
    ltol: float,
    stol: float,
    angle_tol: float,
    in_order: np.ndarray,
    n_own: int,
    families: Families,
    pairs: Pairs,
    scratch: Scratch,
) -> tuple[int, float]:
    """One pair, G then T; their numbers of sites divide one another.

    With a family T is its leader, and the pair is refused only if that of each member is.

    `GIVEN_UP` as soon as there is more to compare than ``scratch.work`` allows.

    With coefficients of lattice vectors in pymatgen's order (``in_order``), every lattice is tested
    up to the first match that pymatgen surely accepts; the second value is then a lower bound of
    the sum of site costs (-1: unknown, infinite: refused). Without, the first match that it may
    accept ends the test; ``scratch.own`` then holds, if `n_own` is not negative, so many of G's
    lattice vectors by length: all that are not too long for this and other T.
    """
    lattice, frac, other_lattice = pairs.lattice, pairs.frac, pairs.lattices[index]
    other_frac = pairs.fracs[pairs.offsets[index] : pairs.offsets[index + 1]]
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
    to_the_first = len(in_order) > 0
    wanted, parameters = scratch.parameters[0], scratch.parameters[1]
    members = families.members[families.offsets[family] : families.offsets[family + 1]]
    of_family = len(members) > 0
    scratch.spread[0] = scratch.spread[1] = scratch.spread[2] = 0.0
    bounds = scratch.bounds
    if of_family:
        cell_parameters(target, wanted)
        _bounds_of_family(
            wanted,
            expand_first,
            ltol,
            angle_tol,
            other_lattice,
            family,
            families,
            pairs,
            scratch,
        )
    else:
        _bounds_of_pair(target, ltol, angle_tol, bounds)
    shortest = min(bounds[0, 0], bounds[0, 1], bounds[0, 2])
    longest = max(bounds[1, 0], bounds[1, 1], bounds[1, 2])
    vectors, start, stop = scratch.found, 0, 0
    if to_the_first:
        stop = _given_vectors(source, in_order, vectors)
    elif expand_first and n_own >= 0:
        vectors = scratch.own
        start = _place_of(shortest, vectors.length, n_own)
        stop = _place_of(longest, vectors.length, n_own)
    else:
        stop = _vectors(source, shortest, longest, vectors, scratch.small[5])
    if stop < 0:
        return LET_THROUGH, -1.0
    shell, near = scratch.shell, scratch.near
    n_a, n_b, n_c = _shells(vectors.length, start, stop, bounds, shell)
    if min(n_a, n_b, n_c) == 0:
        return NO_VECTORS, np.inf
    came_to = NO_LATTICE
    lowest = np.inf

    tolerance = angle_tol * np.pi / 180
    alpha_low, beta_low, gamma_low = bounds[2, 0], bounds[2, 1], bounds[2, 2]
    alpha_high, beta_high, gamma_high = bounds[3, 0], bounds[3, 1], bounds[3, 2]
    coefficients, cart, unit = vectors.coefficients, vectors.cart, vectors.unit
    matrix, aligned, own_cell = scratch.matrix, scratch.small[0], scratch.small[3]
    first_match = scratch.first_match
    taken = 0
    # Of v and -v only one is listed, unless they are given: then the other has to be thought of.
    # All three turned around are left to `_lattice_test`.
    turned = not to_the_first
    started = False
    # Lattices that an operation of T turns into one that was refused are refused too, if that
    # operation fixes T's anchor, the first site, and leads to the same cells. Where T is the
    # source it turns the whole cell. Where T is the target it exchanges axes, which the reduction
    # of the mean cell has to allow.
    by_class, first_lattice = not to_the_first, True
    operations, classes = scratch.operations, scratch.classes
    n_operations, n_classes = 0, 0
    for place_a in range(n_a):
        a = shell[0, place_a]
        # The fewer first: where none is near, the others need not be looked at.
        n_near_b, n_near_c = 1, 1
        if n_b <= n_c:
            n_near_b = _at_angle(a, shell[1], n_b, unit, gamma_low, gamma_high, turned, near[0])
        if n_near_b > 0:
            n_near_c = _at_angle(a, shell[2], n_c, unit, beta_low, beta_high, turned, near[1])
        if n_near_c > 0 and n_b > n_c:
            n_near_b = _at_angle(a, shell[1], n_b, unit, gamma_low, gamma_high, turned, near[0])
        if min(n_near_b, n_near_c) == 0:
            continue
        for place_b in range(n_near_b):
            scratch.work[0] += n_near_c
            if scratch.work[0] > scratch.work[1]:
                return GIVEN_UP, -1.0
            b, b_sign = near[0, place_b] >> 1, 1 - 2 * (near[0, place_b] & 1)
            bx, by, bz = unit[b, 0], unit[b, 1], unit[b, 2]
            # b × a, so that the volume of the cell is -c times it.
            mx = coefficients[a, 1] * coefficients[b, 2] - coefficients[a, 2] * coefficients[b, 1]
            my = coefficients[a, 2] * coefficients[b, 0] - coefficients[a, 0] * coefficients[b, 2]
            mz = coefficients[a, 0] * coefficients[b, 1] - coefficients[a, 1] * coefficients[b, 0]
            for place_c in range(n_near_c):
                c, c_sign = near[1, place_c] >> 1, 1 - 2 * (near[1, place_c] & 1)
                det = mx * coefficients[c, 0] + my * coefficients[c, 1] + mz * coefficients[c, 2]
                if abs(det) != fu:
                    continue
                alpha = b_sign * c_sign * (bx * unit[c, 0] + by * unit[c, 1] + bz * unit[c, 2])
                if alpha < alpha_low or alpha > alpha_high:
                    continue
                for k in range(3):
                    matrix[0, k] = coefficients[a, k]
                    matrix[1, k] = b_sign * coefficients[b, k]
                    matrix[2, k] = c_sign * coefficients[c, k]
                    aligned[0, k] = cart[a, k]
                    aligned[1, k] = b_sign * cart[b, k]
                    aligned[2, k] = c_sign * cart[c, k]
                cell_parameters(aligned, parameters)
                if first_lattice:
                    first_lattice = False
                    if not of_family:
                        cell_parameters(target, wanted)
                    by_class &= not expand_first or _only_exchanged_by_reduction(
                        wanted, ltol, tolerance
                    )
                    for place in range(len(members)):
                        by_class &= not expand_first or _only_exchanged_by_reduction(
                            families.parameters[members[place]], ltol, tolerance
                        )
                if of_family:
                    scratch.work[0] += 100 * len(members)
                    for i in range(3):
                        for k in range(3):
                            own_cell[i, k] = target[i, k] if expand_first else aligned[i, k]
                    taken = _family_spread(
                        matrix,
                        parameters,
                        wanted,
                        expand_first,
                        own_cell,
                        ltol,
                        angle_tol,
                        family,
                        families,
                        pairs,
                        scratch,
                    )
                    if taken == 0:
                        continue
                if by_class:
                    if n_operations == 0:
                        n_operations = _operations_at_first(
                            other_lattice, other_frac, n_second, operations
                        )
                        if of_family:
                            n_operations = _operations_of_all(
                                family, families, pairs, operations, n_operations
                            )
                    if n_operations > 1:
                        code = _class_of(matrix, operations, n_operations, not expand_first)
                        known = False
                        for earlier in range(n_classes):
                            known |= classes[earlier] == code
                        if known:
                            continue
                        if code >= 0 and n_classes < MOST_CLASSES:
                            classes[n_classes] = code
                            n_classes += 1
                sure = to_the_first and _surely_near(parameters, wanted, ltol, angle_tol)
                # Once; of a family, for all its members, then if need be one by one.
                answer, cost = NO_LATTICE, np.inf
                one, other, n_means = parameters, wanted, taken
                for member in range(-1, len(members)):
                    if member >= 0:
                        at = members[member]
                        if not _takes(
                            at,
                            matrix,
                            parameters,
                            wanted,
                            expand_first,
                            ltol,
                            angle_tol,
                            families,
                            pairs,
                            scratch,
                        ):
                            continue
                        one, other, n_means = scratch.parameters[2], scratch.parameters[3], 0
                        started = False
                        for k in range(3):
                            scratch.spread[k] = 0.0
                        sites = pairs.fracs[pairs.offsets[at] : pairs.offsets[at + 1]]
                        if expand_first:
                            large = sites
                        else:
                            small = sites
                    if not started:
                        for i in range(n):
                            for k in range(3):
                                kept[k, i] = large[i, k] - np.floor(large[i, k])
                    if not _expand(small, n_small, matrix, fu, expanded, scratch):
                        return LET_THROUGH, -1.0
                    answer, cost = _lattice_test(
                        one,
                        other,
                        n,
                        expand_first,
                        fu,
                        stol,
                        sure,
                        to_the_first,
                        families.means[:n_means],
                        scratch,
                    )
                    started = member < 0
                    may_match = answer >= LET_THROUGH or cost < 0
                    if answer == GIVEN_UP or may_match == (member >= 0):
                        break
                if not started:  # the leader's sites back in place
                    small, large = (frac, other_frac) if expand_first else (other_frac, frac)
                if cost < 0:
                    return max(answer, LET_THROUGH), -1.0
                if to_the_first and answer >= LET_THROUGH > came_to:
                    first_match[0], first_match[1], first_match[2], first_match[4] = a, b, c, sure
                lowest = min(lowest, cost)
                came_to = max(came_to, min(answer, LET_THROUGH))
                if answer == ACCEPTED or (answer == LET_THROUGH and not to_the_first):
                    return LET_THROUGH, lowest
    return came_to, lowest


_taken_pairs, _taken_families, _taken_scratch = taken(Pairs), taken(Families), taken(Scratch)


@compiled
def _scan(  # noqa: PLR0917
    handed_pairs: Any,
    indices: np.ndarray,
    labels: np.ndarray,
    other_labels: np.ndarray,
    ltol: float,
    stol: float,
    angle_tol: float,
    by_element: int,
    in_order: np.ndarray,
    handed_families: Any,
    work: np.ndarray,
    answers: np.ndarray,
    costs: np.ndarray,
    handed_scratch: Any,
) -> None:
    """What `furthest_steps` and `cost_of_first_match` hand on; of the latter there is one index.

    One function, as each that holds the pair test takes seconds more to compile. Of a family, all
    are tested together first.
    """
    pairs, families = _taken_pairs(handed_pairs), _taken_families(handed_families)
    scratch = _taken_scratch(handed_scratch)
    lattice, offsets = pairs.lattice, pairs.offsets
    n, longest = len(pairs.frac), 0.0
    for index in indices:
        if offsets[index + 1] - offsets[index] >= n:
            for k in range(3):
                vector = pairs.lattices[index, k]
                longest = max(longest, inner(vector, vector))
    for k in range(2):
        scratch.work[k] = work[k]
    scratch.by_element[0] = by_element
    for k in range(5):
        scratch.first_match[k] = -1
    n_own = -len(in_order)
    if n_own == 0:
        n_own = _vectors(lattice, 0.0, np.sqrt(longest) * (1 + ltol), scratch.own, scratch.small[5])
        if n_own > 0:
            _by_length(scratch.own, n_own)
    else:
        most = max(n, len(other_labels))
        for i in range(most):
            scratch.labels[0, i] = labels[i * n // most]
            scratch.labels[1, i] = other_labels[i * len(other_labels) // most]
        if by_element:
            for i in range(most):
                for j in range(most):
                    marked = scratch.labels[0, j] == scratch.labels[1, i]
                    scratch.same[i * _width(most) + j] = marked
    for place in range(len(indices)):
        index = indices[place]
        family = families.of[index] if len(families.of) > 0 else -1
        known = families.known[family] if family >= 0 else _OPEN
        if known == _ALL_REFUSED:
            answers[place] = TOO_FAR
            continue
        # All of its family, then, if not all are refused, this one.
        for of_all in range(int(known == _UNKNOWN), -1, -1):
            answers[place], costs[place] = _pair_test(
                families.members[families.offsets[family]] if of_all else index,
                family if of_all else -1,
                ltol,
                stol,
                angle_tol,
                in_order,
                min(n_own, -1) if of_all else n_own,
                families,
                pairs,
                scratch,
            )
            refused = answers[place] < LET_THROUGH
            if of_all:
                families.known[family] = _ALL_REFUSED if refused else _OPEN
                if refused:
                    answers[place] = TOO_FAR
                    break
    for k in range(2):
        work[k] = scratch.work[k]


def given(values: np.ndarray, dtype: type) -> np.ndarray:
    """An array as the kernels take it: read-only, so that they are compiled for one kind only."""
    view: np.ndarray = np.ascontiguousarray(values, dtype=dtype).view()
    view.flags.writeable = False
    return view


_NONE = given(np.zeros(0), np.int64)
_NO_VECTORS = given(np.zeros((0, 3)), np.int64)
NO_FAMILIES = Families(
    np.zeros(0, dtype=np.int32),
    np.zeros(0, dtype=np.int64),
    np.zeros(1, dtype=np.int64),
    np.zeros((1, 2)),
    np.zeros((0, 6)),
    np.zeros((0, 6)),
    np.zeros(0, dtype=np.uint8),
)
_OF_THREAD = threading.local()


def _scratch_for(most: int) -> Scratch:
    """Arrays of this thread for pairs of so many sites; made anew for more than ever before."""
    scratch: Scratch | None = getattr(_OF_THREAD, "scratch", None)
    if scratch is None or scratch.first.shape[1] < most:
        scratch = _OF_THREAD.scratch = Scratch.empty(max(most, _MOST_USUAL))
    return scratch


_MOST_USUAL = 24


def furthest_steps(
    pairs: Pairs,
    indices: np.ndarray,
    work: np.ndarray,
    families: Families | None = None,
    *,
    ltol: float,
    stol: float,
    angle_tol: float,
) -> np.ndarray:
    """How far each pair comes; pymatgen refuses all that are not let through.

    Parameters
    ----------
    pairs : Pairs
        The generated crystal and the reference, reduced.
    indices : int64, (C,)
        Positions to test; their numbers of sites divide, or are divided by, `n_sites`.
    work : int64, (2,)
        Comparisons done, of lattice vectors and of sites, weighted by about what they take, to
        which those here are added; and how many may be: once there are more, what needs one is
        `GIVEN_UP`.
    families : Families, optional
        Crystals of the reference that are refused together where they can be. What is found out
        about them is kept in `known`.
    ltol, stol, angle_tol : float
        The matcher's tolerances; degrees.

    Returns
    -------
    uint8, (C,)
        `NO_VECTORS`, `NO_LATTICE`, `NOT_COVERED`, `TOO_FAR`, `LET_THROUGH` or `GIVEN_UP`; `TOO_FAR`
        for all that were refused with their family.
    """
    answers = np.empty(len(indices), dtype=np.uint8)
    offsets = pairs.offsets
    most = max(len(pairs.frac), int((offsets[indices + 1] - offsets[indices]).max(initial=0)))
    _scan(
        handed(pairs),
        given(indices, np.int64),
        _NONE,
        _NONE,
        float(ltol),
        float(stol),
        float(angle_tol),
        0,
        _NO_VECTORS,
        handed(families or NO_FAMILIES),
        work,
        answers,
        np.empty(len(indices)),
        handed(_scratch_for(most)),
    )
    return answers


def cost_of_first_match(  # noqa: PLR0917
    pairs: Pairs,
    index: int,
    pettifor: np.ndarray,
    other_pettifor: np.ndarray,
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
    pettifor, other_pettifor : uint8, (n,), (m,)
        Their modified Pettifor numbers.
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
    n_sites, other_n_sites = len(pettifor), len(other_pettifor)
    answer, cost = np.empty(1, dtype=np.uint8), np.empty(1)
    scratch = _scratch_for(max(n_sites, other_n_sites))
    _scan(
        handed(pairs),
        given(np.array([index]), np.int64),
        given(pettifor, np.int64),
        given(other_pettifor, np.int64),
        float(ltol),
        float(stol),
        float(angle_tol),
        int(by_element),
        given(in_order, np.int64),
        handed(NO_FAMILIES),
        work,
        answer,
        cost,
        handed(scratch),
    )
    lowest = float(cost[0]) / max(n_sites, other_n_sites)
    return int(answer[0]), lowest, scratch.first_match.copy() if 0 <= lowest < np.inf else None


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
    """Whether pymatgen refuses two crystals as equal, elements included.

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
        return GIVEN_UP, None
    _, element, counts = np.unique(other_numbers, return_inverse=True, return_counts=True)
    anchor = int(np.argmin(counts[element]))
    order = np.r_[anchor, np.delete(np.arange(len(other_numbers)), anchor)]
    answer, _, first_match = cost_of_first_match(
        Pairs.of(
            lattice,
            frac_coords,
            other_lattice[None],
            np.array([0, len(order)]),
            other_frac_coords[order],
        ),
        0,
        numbers,
        other_numbers[order],
        in_order,
        work,
        ltol=ltol,
        stol=stol,
        angle_tol=angle_tol,
        by_element=True,
    )
    return answer, first_match
