"""What can be said about a pair of crystals without comparing their sites, and never wrongly.

Two things, both vectorised over many crystals: refusals of pairs that pymatgen is sure to refuse,
and a lower bound on the cost of any atom map. Every rule carries its proof.

Words used below. A pair is a generated crystal G and a reference crystal T. pymatgen expresses the
lattice of the crystal with fewer sites, the *source*, near that of the other, the *target* (with
equal numbers the source is G, the first structure). It looks for three vectors v of the source's
lattice, one for each target vector of length l, with

    1/(1 + ltol) < |v|/l < 1 + ltol,   angles within angle_tol degrees of the target's,
    |det of their integer coefficients| = fu = (sites of target) / (sites of source).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.search.pettifor import NONE, WITHOUT_NUMBER, pettifor_numbers

if TYPE_CHECKING:
    from novelty_metric.protocol import Protocol
    from novelty_metric.reference import Reference

Look = Callable[..., tuple[np.ndarray, np.ndarray]]
"""`kernel_bounds.look`."""

SLACK = 1e-9
"""Relative slack of every comparison, far above rounding, so that rounding refuses nothing."""

ANGLE_SLACK = 1e-6
"""Degrees."""

_CHUNK = 1024
_SHORTEST = 13


def _half_grid(largest: int) -> np.ndarray:
    axis = np.arange(-largest, largest + 1)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid[len(grid) // 2 + 1 :]  # of v and -v one; without zero


COEFFICIENTS = _half_grid(2)
"""Of the lattice vectors that are looked at for the successive minima, (62, 3)."""


@dataclass(frozen=True, slots=True)
class Cells:
    """What the refusals need to know about M reduced cells.

    Attributes
    ----------
    n_sites : int64, (M,)
    volume : float64, (M,)
        Å³.
    minima : float64, (M, 3)
        Lower bounds of the successive minima of the lattice (Å), see `successive_minima`.
    lengths : float64, (M, 3)
        Lengths of the cell vectors in increasing order (Å).
    smallest, largest : float64, (M,)
        Bounds of the volume of a cell whose lengths and angles are within the tolerances of this
        one's (Å³), see `volume_window`.
    """

    n_sites: np.ndarray
    volume: np.ndarray
    minima: np.ndarray
    lengths: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(
        cls, lattices: np.ndarray, n_sites: np.ndarray, *, ltol: float, angle_tol: float
    ) -> Cells:
        """Work out the bounds of M cells.

        Parameters
        ----------
        lattices : float64, (M, 3, 3)
            Cell vectors as rows (Å).
        n_sites : integer, (M,)
        ltol : float
            Fractional length tolerance.
        angle_tol : float
            Degrees.
        """
        lattices = np.asarray(lattices, dtype=np.float64).reshape(-1, 3, 3)
        smallest, largest = volume_window(lattices, ltol=ltol, angle_tol=angle_tol)
        return cls(
            n_sites=np.asarray(n_sites, dtype=np.int64),
            volume=np.abs(np.linalg.det(lattices)),
            minima=successive_minima(lattices),
            lengths=np.sort(np.linalg.norm(lattices, axis=2), axis=1),
            smallest=smallest,
            largest=largest,
        )

    def take(self, indices: np.ndarray | slice) -> Cells:
        """The cells at those positions; of a range without a copy."""
        return Cells(
            self.n_sites[indices],
            self.volume[indices],
            self.minima[indices],
            self.lengths[indices],
            self.smallest[indices],
            self.largest[indices],
        )


def successive_minima(lattices: np.ndarray) -> np.ndarray:
    """Lower bounds of the three successive minima of lattices (Å).

    Exact for reduced cells, unless one vector is longer than three times the least distance of
    lattice planes.

    The k-th successive minimum is the smallest r such that k linearly independent lattice vectors
    are no longer than r.

    Proof that the result is a lower bound. A lattice vector v has the coefficients x_i = v·b*_i, b*
    the reciprocal basis, so |x_i| ≤ |v||b*_i|. All vectors with coefficients from -2 to 2 are
    looked at, hence a vector that is not has some |x_i| ≥ 3 and |v| ≥ R = 3/max|b*_i|. Either the
    k-th minimum is reached by vectors that were looked at, among which taking the shortest
    independent ones greedily gives it, or one of the vectors is at least R long. So the smaller of
    the two values is a lower bound. No property of the cell was used.
    """
    minima = np.empty((len(lattices), 3))
    for start in range(0, len(lattices), _CHUNK):
        chunk = lattices[start : start + _CHUNK]
        vectors = np.einsum("vi,mij->mvj", COEFFICIENTS.astype(float), chunk)
        lengths = np.linalg.norm(vectors, axis=2)
        # Three independent ones are nearly always among the shortest few.
        found, complete = _shortest_independent(lengths, _SHORTEST)
        rest = np.flatnonzero(~complete)
        if len(rest):
            found[rest] = _shortest_independent(lengths[rest], len(COEFFICIENTS))[0]
        beyond = 3 / np.linalg.norm(np.linalg.inv(chunk), axis=1).max(axis=1)
        minima[start : start + _CHUNK] = np.minimum(found, beyond[:, None])
    return minima


def _shortest_independent(lengths: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of three vectors taken greedily, (M, 3), and whether `count` held three, (M,)."""
    order = np.argpartition(lengths, count - 1, axis=1)[:, :count]
    lengths = np.take_along_axis(lengths, order, axis=1)
    inner = np.argsort(lengths, axis=1, kind="stable")
    lengths = np.take_along_axis(lengths, inner, axis=1)
    coefficients = COEFFICIENTS[np.take_along_axis(order, inner, axis=1)]
    rows = np.arange(len(lengths))
    normals = np.cross(coefficients[:, :1], coefficients)
    second = np.argmax(normals.any(axis=2), axis=1)
    out_of_plane = np.einsum("mvi,mi->mv", coefficients, normals[rows, second]) != 0
    third = np.argmax(out_of_plane, axis=1)
    found = np.stack([lengths[:, 0], lengths[rows, second], lengths[rows, third]], axis=1)
    return found, out_of_plane[rows, third]


def volume_window(
    lattices: np.ndarray, *, ltol: float, angle_tol: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the volume of a cell within the tolerances of given target cells (Å³).

    Proof. The volume is abc·√g with g(x, y, z) = 1 + 2xyz − x² − y² − z² of the cosines of the
    angles. Each length lies between l/(1+ltol) and l·(1+ltol). Each cosine lies in an interval,
    the cosine being monotone from 0 to 180°. In each variable alone g is a parabola that opens
    downwards, so its least value over the box of intervals is at a corner. From above, xyz is
    linear in each variable, hence greatest at a corner, and the squares are at least the squares of
    the points of the intervals nearest to zero; g is at most 1.
    """
    lengths = np.linalg.norm(lattices, axis=2)
    dots = np.stack(
        [
            np.einsum("mi,mi->m", lattices[:, j], lattices[:, k]) / (lengths[:, j] * lengths[:, k])
            for j, k in ((1, 2), (2, 0), (0, 1))
        ],
        axis=1,
    )
    angles = np.degrees(np.arccos(np.clip(dots, -1, 1)))
    reach = angle_tol + ANGLE_SLACK
    low = np.cos(np.radians(np.minimum(angles + reach, 180)))
    high = np.cos(np.radians(np.maximum(angles - reach, 0)))
    ends = np.stack([low, high], axis=2)
    corner_g = np.full(len(lattices), np.inf)
    corner_xyz = np.full(len(lattices), -np.inf)
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (ends[:, axis, side] for axis, side in enumerate(corner))
        np.minimum(corner_g, 1 + 2 * x * y * z - x**2 - y**2 - z**2, out=corner_g)
        np.maximum(corner_xyz, x * y * z, out=corner_xyz)
    nearest = np.where((low < 0) & (high > 0), 0, np.minimum(low**2, high**2))
    greatest_g = np.minimum(1 + 2 * corner_xyz - nearest.sum(axis=1), 1)
    box = lengths.prod(axis=1)
    smallest = box * (1 + ltol) ** -3 * np.sqrt(np.maximum(corner_g, 0))
    largest = box * (1 + ltol) ** 3 * np.sqrt(np.maximum(greatest_g, 0))
    return smallest * (1 - SLACK), largest * (1 + SLACK)


def may_match(generated: Cells, references: Cells, *, ltol: float) -> np.ndarray:
    """Which pairs pymatgen might accept; it refuses every other one.

    Parameters
    ----------
    generated : Cells
        One cell, of the first structure.
    references : Cells
        M cells, of the second structures.
    ltol : float

    Returns
    -------
    bool, (M,)

    Notes
    -----
    A pair is refused when

    - *neither number of sites divides the other*: pymatgen's supercell then has another number of
      sites than the target, and it demands equal numbers;
    - *a length shell is empty*: the three vectors are independent and below (1 + ltol) times the
      target's lengths, so the k-th successive minimum of the source is below (1 + ltol) times the
      k-th length of the target in increasing order;
    - *the volume is out of reach*: their determinant is fu, so they span fu times the source's
      volume exactly (`scale=False`), and that must lie in the target's window.
    """
    n_generated = int(generated.n_sites[0])
    n_sites = references.n_sites
    possible = np.where(
        n_sites >= n_generated, n_sites % n_generated == 0, n_generated % n_sites == 0
    )
    possible &= _volume_fits(generated, references)
    left = np.flatnonzero(possible)
    possible[left] = _shells_filled(generated, references.take(left), ltol=ltol)
    return possible


def _volume_fits(generated: Cells, references: Cells) -> np.ndarray:
    """Whether the source's volume, times fu, lies in the target's window."""
    n_generated, volume = int(generated.n_sites[0]), float(generated.volume[0])
    n_sites = references.n_sites
    expanded = n_sites * (volume / n_generated)
    other = references.volume * (n_generated / n_sites)
    return np.where(
        n_sites >= n_generated,
        (expanded >= references.smallest) & (expanded <= references.largest),
        (other >= generated.smallest[0]) & (other <= generated.largest[0]),
    )


def _shells_filled(generated: Cells, references: Cells, *, ltol: float) -> np.ndarray:
    """Whether the source's successive minima are short enough for the target's lengths."""
    reach = _reach(ltol)
    larger = references.n_sites >= int(generated.n_sites[0])
    filled = np.ones(len(larger), dtype=bool)
    for k in range(3):
        shortest = np.where(larger, generated.minima[0, k], references.minima[:, k])
        longest = np.where(larger, references.lengths[:, k], generated.lengths[0, k])
        filled &= shortest < reach * longest
    return filled


def _reach(ltol: float) -> float:
    return (1 + ltol) * (1 + SLACK)


class CostBounds:
    """Lower bounds on the cost of any atom map, over a whole reference.

    The cost of an atom map is the mean over sites of |p − q|, p and q the modified Pettifor numbers
    of the two elements on the site, the smaller cell being repeated to the size of the larger. The
    mean of |p − q| over the two *sorted* lists is the least that any one-to-one pairing reaches
    (optimal transport on a line), so no atom map costs less.

    An element without a number costs 102 on its site whatever lies there. If g sites of G and t
    sites of T hold such elements, at least max(g, t) sites cost 102: that is the bound then.

    What is asked of the whole reference goes through it by number of sites, so that it lies in
    memory in that order.

    Attributes
    ----------
    order : int64, (M,)
        Positions in the reference by number of sites, then position.
    place : int64, (M,)
        Where each position is in `order`.
    """

    def __init__(self, reference: Reference) -> None:
        """Sort the reference's numbers once.

        Parameters
        ----------
        reference : Reference
        """
        n_sites = np.asarray(reference.n_sites, dtype=np.int64)
        offsets = np.asarray(reference.offsets, dtype=np.int64)
        numbers = pettifor_numbers(reference.numbers)
        self.order = np.argsort(n_sites, kind="stable")
        self.place = np.empty_like(self.order)
        self.place[self.order] = np.arange(len(self.order))
        sizes, starts = np.unique(n_sites[self.order], return_index=True)
        self._ranges: dict[int, slice] = {}
        self._sorted: dict[int, np.ndarray] = {}
        ends = [*starts[1:].tolist(), len(self.order)]
        for n, start, end in zip(sizes.tolist(), starts.tolist(), ends, strict=True):
            sites = offsets[self.order[start:end]][:, None] + np.arange(n)
            self._ranges[n] = slice(start, end)
            self._sorted[n] = np.sort(numbers[sites], axis=1)

    def candidates(
        self,
        pettifor: np.ndarray,
        generated: Cells,
        references: Cells,
        *,
        ltol: float,
        look: Look | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The crystals that might match, with what a match costs at least.

        Parameters
        ----------
        pettifor : uint8, (n_sites,)
            Modified Pettifor numbers of the generated crystal.
        generated : Cells
            Its cell.
        references : Cells
            Those of the whole reference, in the order of `order`.
        ltol : float
            Fractional length tolerance.
        look : callable, optional
            `kernel_bounds.look`, which does the same for the crystals of one size in one pass.

        Returns
        -------
        indices : int64, (C,)
            By number of sites, then position.
        bounds : float64, (C,)
        """
        pettifor = np.sort(pettifor)
        n_sites = len(pettifor)
        indices, bounds = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for n, range_ in self._ranges.items():
            if n % n_sites and n_sites % n:
                continue
            cells = references.take(range_)
            if look is not None:
                found, of_size = look(
                    pettifor, generated, cells, self._sorted[n], reach=_reach(ltol)
                )
            else:
                found = np.flatnonzero(may_match(generated, cells, ltol=ltol))
                of_size = _bounds(pettifor, self._sorted[n][found])
            indices.append(self.order[range_][found])
            bounds.append(of_size)
        return np.concatenate(indices), np.concatenate(bounds)

    def of_equal_size(self, pettifor: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Bounds for reference crystals with as many sites as the generated one, float64, (C,)."""
        n_sites = len(pettifor)
        rows = self.place[indices] - self._ranges[n_sites].start
        return _bounds(np.sort(pettifor), self._sorted[n_sites][rows])


def _bounds(generated: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Bounds from sorted numbers: one list, (n,), against M lists, (M, m)."""
    n_generated, n_reference = len(generated), references.shape[1]
    n_common = max(n_generated, n_reference)
    # `repeat` keeps the order, so both sides stay sorted.
    first = np.repeat(generated, n_common // n_generated).astype(np.int16)
    second = np.repeat(references, n_common // n_reference, axis=1).astype(np.int16)
    total = np.abs(second - first).sum(axis=1, dtype=np.int64)
    without = np.maximum((first == NONE).sum(), (second == NONE).sum(axis=1))
    total = np.where(without > 0, WITHOUT_NUMBER * without, total)
    # Summed in integers and divided once: equal sums give equal floats, as in `map_cost`.
    return total / n_common


def cells_of_reference(reference: Reference, protocol: Protocol) -> Cells:
    """The cells of a whole reference, with a protocol's tolerances."""
    return Cells.of(
        reference.lattices,
        reference.n_sites,
        ltol=protocol.ltol,
        angle_tol=protocol.angle_tol,
    )
