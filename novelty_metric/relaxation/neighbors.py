"""Bonds and angles of many crystals at once, compiled: what a graph potential looks at.

This module imports numba and is itself imported only on use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COINCIDENT = 1e-8
"""Sites no farther apart (Å) are one and the same site, as to pymatgen."""

MOST_NEIGHBORS = 75_000
"""Bonds and angles of one crystal: 2 GB in CHGNet. 300 atoms of common crystals have 17,000."""

MOST_IMAGES = 10**9
"""Images of sites that are looked at for one crystal: some seconds."""

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, **options: Any) -> Function:
    """Compile without the interpreter lock, cached on disk wherever a place can be written."""
    quick: Any
    try:
        quick = numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # numba found no folder for its cache
        quick = numba.njit(nogil=True, **options)(function)
    return cast("Function", quick)


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Bonds and angles of a batch of crystals; sites are numbered through the batch.

    A bond counts once, not once for each of its ends. The short bonds of all crystals come first:
    bond ``b`` is short if ``b < n_short``.

    Attributes
    ----------
    first, second : int64, (n_bonds,)
        The sites that a bond joins.
    vectors : float64, (n_bonds, 3)
        From the first site to the image of the second (Å).
    crystal : int64, (n_bonds,)
        The crystal that a bond belongs to.
    n_short : int
    left, right : int64, (n_pairs,)
        Two different ends of short bonds that meet at a site, as the numbers of their bonds. Each
        pair counts once.
    apex : int64, (n_pairs,)
        The site where they meet.
    sides : int64, (n_pairs, 2)
        Whether the apex is the second site of the left bond, and of the right one: 0 or 1.
    n_alone : int64, (n_crystals,)
        Sites without any bond.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    vectors: NDArray[np.float64]
    crystal: NDArray[np.int64]
    n_short: int
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    apex: NDArray[np.int64]
    sides: NDArray[np.int64]
    n_alone: NDArray[np.int64]

    @property
    def n_bonds(self) -> int:
        """All bonds of the batch."""
        return len(self.first)

    @property
    def n_pairs(self) -> int:
        """All angles of the batch."""
        return len(self.left)

    @property
    def sign(self) -> NDArray[np.float64]:
        """-1 for an angle that needs one of its bonds turned to have both point from the apex."""
        return np.where(self.sides[:, 0] == self.sides[:, 1], 1.0, -1.0)


def find_neighbors(
    cells: Sequence[NDArray[np.float64]],
    positions: Sequence[NDArray[np.float64]],
    *,
    reach: float,
    short: float,
) -> Neighbors:
    """All bonds up to `reach` and all angles between bonds up to `short` of some crystals.

    Parameters
    ----------
    cells : sequence of (3, 3) arrays
        Cell vectors in rows (Å).
    positions : sequence of (n_sites, 3) arrays
        Cartesian (Å); sites may lie outside the cell.
    reach, short : float
        Longest bond, and longest short bond (Å).

    Raises
    ------
    ValueError
        If a cell has no volume or is not finite, or past `MOST_NEIGHBORS` or `MOST_IMAGES`.
    """
    sizes = np.array([len(sites) for sites in positions], dtype=np.int64)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    stacked = np.ascontiguousarray(np.stack(list(cells)), dtype=np.float64)
    sites = np.ascontiguousarray(np.concatenate(list(positions)), dtype=np.float64)
    with np.errstate(invalid="ignore"):  # what is not a number is refused below
        volumes = np.abs(np.linalg.det(stacked))
    if not (np.all(np.isfinite(sites)) and np.all(volumes > 0) and np.all(np.isfinite(volumes))):
        raise ValueError("a cell has no volume, or a position is not finite")
    _refuse_crowds(stacked, volumes, sizes, reach)
    frac, spans = _fractional(stacked, sites, offsets, float(reach))
    room = int(_expected(volumes, sizes, reach))
    while True:
        first, second, vectors, crystal, n_short, n_bonds = _bonds(
            stacked, frac, spans, offsets, (float(reach), float(short)), room
        )
        if n_bonds <= room:
            break
        room = n_bonds
    _refuse_many(first[:n_short], second[:n_short], crystal, offsets)
    ends, apex, n_alone = _angles(first, second, offsets, n_short)
    (left, right), sides = ends.T >> 1, ends & 1
    return Neighbors(
        first, second, vectors, crystal, int(n_short), left, right, apex, sides, n_alone
    )


def _fractional(
    cells: NDArray[np.float64],
    positions: NDArray[np.float64],
    offsets: NDArray[np.int64],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fractional coordinates within the cell, and how many cells are within reach along each axis.

    Not compiled: numba takes seconds for an inverse and a product. The calls of LAPACK and BLAS are
    those that it would make.
    """
    from scipy.linalg.blas import dgemm
    from scipy.linalg.lapack import dgetrf, dgetri

    frac, spans = np.empty_like(positions), np.empty((len(cells), 3))
    for crystal, cell in enumerate(cells):
        factors, pivots, _ = dgetrf(cell)
        inverse, _ = dgetri(factors, pivots)
        of_crystal = slice(offsets[crystal], offsets[crystal + 1])
        frac[of_crystal] = dgemm(1.0, inverse.T, positions[of_crystal].T).T
        # A column of the inverse is as long as one over the distance of two cell planes.
        spans[crystal] = reach * np.sqrt((inverse**2).sum(axis=0)) + 1e-9
    frac -= np.floor(frac)
    return frac, spans


def compile_kernels() -> None:
    """Compile what `find_neighbors` calls, some seconds; or read it from the disk."""
    find_neighbors([np.eye(3)], [np.zeros((1, 3))], reach=1.5, short=1.5)


def _expected(volumes: NDArray[np.float64], sizes: NDArray[np.int64], reach: float) -> float:
    """About as many bonds as there will be: sites times half the neighbours in a sphere."""
    in_sphere = 4 / 3 * np.pi * (reach + 1) ** 3 * sizes / volumes
    return float(64 + (sizes * in_sphere / 2).sum())


def _refuse_crowds(
    cells: NDArray[np.float64],
    volumes: NDArray[np.float64],
    sizes: NDArray[np.int64],
    reach: float,
) -> None:
    """Refuse what would take too long to count, by density and by images within reach."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cells), axis=1)
    images = sizes * (sizes + 1) / 2 * np.prod(2 * reach / heights + 1, axis=1)
    bonds = sizes * sizes / 2 * 4 / 3 * np.pi * reach**3 / volumes
    if np.any(images > MOST_IMAGES) or np.any(bonds > 2 * MOST_NEIGHBORS):
        raise ValueError(
            f"the atoms are too crowded: more than {MOST_NEIGHBORS} bonds and angles, or "
            f"{MOST_IMAGES} images to look at"
        )


def _refuse_many(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    crystal: NDArray[np.int64],
    offsets: NDArray[np.int64],
) -> None:
    """Refuse a crystal with too many bonds and angles, from its short bonds and all bonds."""
    ends = np.bincount(first, minlength=offsets[-1]) + np.bincount(second, minlength=offsets[-1])
    angles = np.add.reduceat(ends * (ends - 1) // 2, offsets[:-1])
    most = int((angles + np.bincount(crystal, minlength=len(angles))).max())
    if most > MOST_NEIGHBORS:
        raise ValueError(
            f"the atoms are too crowded: {most} bonds and angles, more than {MOST_NEIGHBORS}"
        )


@compiled
def _bonds(  # noqa: PLR0917
    cells: NDArray[np.float64],
    frac: NDArray[np.float64],
    spans: NDArray[np.float64],
    offsets: NDArray[np.int64],
    lengths: tuple[float, float],
    room: int,
) -> tuple[Any, Any, Any, Any, int, int]:
    """Bonds, short ones first; where `room` does not suffice, only their number is right.

    `lengths` are those of the longest bond and the longest short bond.
    """
    reach, short = lengths
    ends = np.empty((room, 3), np.int64)
    vectors = np.empty((room, 3))
    is_short = np.empty(room, np.bool_)
    n_bonds = 0
    n_short = 0
    limit = reach * reach
    for crystal in range(len(cells)):
        cell, span = cells[crystal], spans[crystal]
        begin, end = offsets[crystal], offsets[crystal + 1]
        for i in range(begin, end):
            for j in range(i, end):
                dx, dy, dz = (
                    frac[j, 0] - frac[i, 0],
                    frac[j, 1] - frac[i, 1],
                    frac[j, 2] - frac[i, 2],
                )
                # Of a site and its own images, one of each opposite two.
                for a in range(
                    0 if i == j else int(np.ceil(-span[0] - dx)), int(np.floor(span[0] - dx)) + 1
                ):
                    for b in range(
                        0 if i == j and a == 0 else int(np.ceil(-span[1] - dy)),
                        int(np.floor(span[1] - dy)) + 1,
                    ):
                        for c in range(
                            1 if i == j and a == 0 and b == 0 else int(np.ceil(-span[2] - dz)),
                            int(np.floor(span[2] - dz)) + 1,
                        ):
                            u, v, w = dx + a, dy + b, dz + c
                            x = u * cell[0, 0] + v * cell[1, 0] + w * cell[2, 0]
                            y = u * cell[0, 1] + v * cell[1, 1] + w * cell[2, 1]
                            z = u * cell[0, 2] + v * cell[1, 2] + w * cell[2, 2]
                            square = x * x + y * y + z * z
                            if square > limit or square <= COINCIDENT * COINCIDENT:
                                continue
                            if n_bonds < room:
                                ends[n_bonds, 0] = i
                                ends[n_bonds, 1] = j
                                ends[n_bonds, 2] = crystal
                                vectors[n_bonds, 0] = x
                                vectors[n_bonds, 1] = y
                                vectors[n_bonds, 2] = z
                                is_short[n_bonds] = square < short * short
                                n_short += is_short[n_bonds]
                            n_bonds += 1
    n_kept = min(n_bonds, room)
    first = np.empty(n_kept, np.int64)
    second = np.empty(n_kept, np.int64)
    owner = np.empty(n_kept, np.int64)
    sorted_vectors = np.empty((n_kept, 3))
    next_short, next_long = 0, n_short
    for bond in range(n_kept):
        if is_short[bond]:
            at = next_short
            next_short += 1
        else:
            at = next_long
            next_long += 1
        first[at] = ends[bond, 0]
        second[at] = ends[bond, 1]
        owner[at] = ends[bond, 2]
        for axis in range(3):
            sorted_vectors[at, axis] = vectors[bond, axis]
    return first, second, sorted_vectors, owner, n_short, n_bonds


@compiled
def _angles(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    offsets: NDArray[np.int64],
    n_short: int,
) -> tuple[Any, Any, Any]:
    """Pairs of ends of short bonds that meet at a site, that site, and the sites without bonds.

    End ``2 * b`` is the first one of bond b, and ``2 * b + 1`` the second.
    """
    n_sites = offsets[-1]
    bonded = np.zeros(n_sites, np.bool_)
    for bond in range(len(first)):
        bonded[first[bond]] = True
        bonded[second[bond]] = True
    n_alone = np.zeros(len(offsets) - 1, np.int64)
    for crystal in range(len(offsets) - 1):
        for site in range(offsets[crystal], offsets[crystal + 1]):
            n_alone[crystal] += not bonded[site]
    # The ends of short bonds, site after site.
    start = np.zeros(n_sites + 1, np.int64)
    for bond in range(n_short):
        start[first[bond] + 1] += 1
        start[second[bond] + 1] += 1
    n_pairs = 0
    for site in range(n_sites):
        n_pairs += start[site + 1] * (start[site + 1] - 1) // 2
        start[site + 1] += start[site]
    filled = start[:-1].copy()
    ends = np.empty(2 * n_short, np.int64)
    for bond in range(n_short):
        ends[filled[first[bond]]] = 2 * bond
        filled[first[bond]] += 1
        ends[filled[second[bond]]] = 2 * bond + 1
        filled[second[bond]] += 1
    pairs = np.empty((n_pairs, 2), np.int64)
    apex = np.empty(n_pairs, np.int64)
    at = 0
    for site in range(n_sites):
        for one in range(start[site], start[site + 1]):
            for other in range(one + 1, start[site + 1]):
                pairs[at, 0] = ends[one]
                pairs[at, 1] = ends[other]
                apex[at] = site
                at += 1
    return pairs, apex, n_alone
