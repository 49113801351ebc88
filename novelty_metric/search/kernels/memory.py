"""Arrays of the compiled functions: made once, overwritten by every step."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from novelty_metric.search.kernels.by_reference import ByReference
from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.constants import MOST_CLASSES, MOST_TIES, MOST_VECTORS


@dataclass(frozen=True)
class Vectors(ByReference):
    """Vectors of a lattice: coefficients, Cartesian, of unit length (M, 3); lengths (M,)."""

    coefficients: np.ndarray
    cart: np.ndarray
    unit: np.ndarray
    length: np.ndarray

    @classmethod
    def empty(cls, most: int) -> Vectors:
        """Memory for this many."""
        return cls(
            np.empty((most, 3), np.int64), np.empty((most, 3)), np.empty((most, 3)), np.empty(most)
        )


@dataclass(frozen=True)
class Reductions(ByReference):
    """The reduced forms of one average cell that rounding could give, at most V.

    `cells` (V, 3, 3); `backs` (V, 3, 3) take fractional coordinates there; `windows` (V, 3) are
    pymatgen's on them; `images` (V, 3, 27) the lattice vectors to the cells around, by component; a
    vector whose square is below `safe` (V,) has no image as near.
    """

    cells: np.ndarray
    backs: np.ndarray
    windows: np.ndarray
    images: np.ndarray
    safe: np.ndarray


@dataclass(frozen=True)
class Scratch(ByReference):
    """Arrays that every step overwrites, one set per thread. N is the maximum number of sites.

    `first` and `second` hold fractional coordinates by axis, (3, N), `first_reduced` and
    `second_reduced` the same on each reduction. What is known of pairs of sites lies in one row,
    T's site i and G's j at ``i * row_width(n) + j`` for n sites: `apart` the fractional vectors
    between them, by axis, on the average cell and on its reduction; `allowed` whether they are
    within the window, and the same memory as words, `allowed_words`; `cost`, `vectors` and `doubt`
    what `distance_of` found. `in_row` and `in_column` count the allowed ones; `waiting` holds rows
    and columns with but one; `settled` each column's row and each row's column; `rest` the rows and
    columns without, with their costs in `open_cost`, (N, N); `site_cost` is the elements' part, (N,
    N); `floats`, `ints` and `flags` are the state of the assignment; `own` and `found` vectors of
    G's lattice and of another's; `shell` which of them could stand for each target vector, (3, M);
    `near` short lists of them, (2, M); `points` the lattice points of a supercell; `operations` of
    T that fix its first site; `classes` of lattices that were tested; `squares` of a vector to its
    images; `small` 3×3 matrices; `parameters` lengths and angles of cells, (2, 6); `labels` the
    elements of the two sides, (2, N), as modified Pettifor numbers, or as numbers that have to be
    equal where `by_element` says so, (1,); `same` then marks the pairs of sites with equal ones,
    laid out as `allowed`, and `same_words` is that memory as words; `every`, (1,), whether all
    matches count, and what is asked of them; `anchors` then marks T's sites that are moved onto
    those of G, `least`, (4,), holds cost, RMS and weighted cost of the cheapest map, and the mean
    square of the one in hand, `atom_map` G's site for each of T's, `map_lattice` its lattice;
    `matrix` the coefficients of the lattice in hand; `first_match`, (5,), what
    `cost_of_first_match` gives; `work` how much was compared, and how much may be, about
    nanoseconds; `windows`, (2, 3), pymatgen's on the mean cell, a little wider, a little narrower;
    `bounds`, (4, 3), least and greatest lengths of lattice vectors, cosines of the angles between
    them.
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
    every: np.ndarray
    anchors: np.ndarray
    least: np.ndarray
    atom_map: np.ndarray
    map_lattice: np.ndarray
    matrix: np.ndarray
    first_match: np.ndarray
    work: np.ndarray
    windows: np.ndarray
    bounds: np.ndarray

    @classmethod
    def empty(cls, most: int) -> Scratch:
        """Memory for pairs with this many sites."""
        ways = (1 << MOST_TIES) + 1
        size = most * row_length(most)
        words, same_words = np.empty(size // 8, np.uint64), np.empty(size // 8, np.uint64)
        return cls(
            Reductions(
                np.empty((ways, 3, 3)),
                np.empty((ways, 3, 3)),
                np.empty((ways, 3)),
                np.empty((ways, 3, 27)),
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
            np.empty((2, 6)),
            np.zeros((2, most), np.int64),
            np.zeros(1, np.int64),
            same_words.view(np.uint8),
            same_words,
            np.zeros(1, np.int64),
            np.empty(most, np.uint8),
            np.empty(4),
            np.empty(most, np.int64),
            np.empty((3, 3), np.int64),
            np.empty((3, 3), np.int64),
            np.full(5, -1, np.int64),
            np.zeros(2, np.int64),
            np.empty((2, 3)),
            np.empty((4, 3)),
        )


@dataclass(frozen=True)
class Pairs(ByReference):
    """A generated crystal, `lattice` (3, 3), `frac` (n, 3) and `numbers`, and a reference.

    Of that `lattices` (N, 3, 3), `offsets`, int64 (N + 1,), `fracs` (ΣN, 3) and `all_numbers`.
    Numbers, uint8, are atomic ones.
    """

    lattice: np.ndarray
    frac: np.ndarray
    numbers: np.ndarray
    lattices: np.ndarray
    offsets: np.ndarray
    fracs: np.ndarray
    all_numbers: np.ndarray

    @classmethod
    def of(  # noqa: PLR0917
        cls,
        lattice: np.ndarray,
        frac_coords: np.ndarray,
        numbers: np.ndarray,
        lattices: np.ndarray,
        offsets: np.ndarray,
        all_frac_coords: np.ndarray,
        all_numbers: np.ndarray,
    ) -> Pairs:
        """Make it from arrays of any type; values are copied only if a conversion is necessary."""
        return cls(
            np.ascontiguousarray(lattice, dtype=np.float64),
            np.ascontiguousarray(frac_coords, dtype=np.float64),
            np.ascontiguousarray(numbers, dtype=np.uint8),
            np.ascontiguousarray(lattices, dtype=np.float64),
            np.ascontiguousarray(offsets, dtype=np.int64),
            np.ascontiguousarray(all_frac_coords, dtype=np.float64),
            np.ascontiguousarray(all_numbers, dtype=np.uint8),
        )


def row_length(n: int) -> int:
    """Length of a row of `Scratch.apart` and `.allowed`: whole words of eight bytes."""
    return (n + 7) // 8 * 8


row_width = internal(row_length)


_OF_THREAD = threading.local()
_MOST_USUAL = 24


def scratch_for(most: int) -> Scratch:
    """Arrays of this thread for pairs with this many sites; made again if they are too small."""
    scratch: Scratch | None = getattr(_OF_THREAD, "scratch", None)
    if scratch is None or scratch.first.shape[1] < most:
        scratch = _OF_THREAD.scratch = Scratch.empty(max(most, _MOST_USUAL))
    return scratch
