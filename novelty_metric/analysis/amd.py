"""The average minimum distance, a fingerprint of a crystal's geometry.

``AMD_j`` is the distance from a site to its j-th nearest site, averaged over the sites of the
primitive cell (Å): the same for every cell, origin and orientation of a crystal, and it changes
little where the sites move little. Elements play no part.

Source: D. Widdowson, M. M. Mosca, A. Pulido, A. I. Cooper and V. Kurlin, MATCH Commun. Math.
Comput. Chem. 87, 529 (2022). Written from that definition. numba compiles it on first use.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from novelty_metric.crystal_records import CrystalRecord
    from novelty_metric.reference import Reference

K = 100
"""Number of neighbours in the fingerprint, as in the paper."""


def average_minimum_distances(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], k: int = K
) -> NDArray[np.float64]:
    """AMD of one crystal.

    Parameters
    ----------
    lattice : float64, (3, 3)
        Cell vectors as rows (Å).
    frac_coords : float64, (n_sites, 3)
        At least one site.
    k : int
        Neighbours.

    Returns
    -------
    float64, (k,)
        Increasing (Å).

    Raises
    ------
    ValueError
        If there is no site, or the cell has no volume.

    Examples
    --------
    Simple cubic, 1 Å: 6 neighbours at 1 Å, 12 at √2 Å.

    >>> amd = average_minimum_distances(np.eye(3), np.zeros((1, 3)), k=7)
    >>> amd.round(4).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.4142]
    """
    # Copies, because the kernel is compiled once more for arrays that can't be written.
    cell = np.array(lattice, dtype=np.float64, order="C")
    sites = np.array(frac_coords, dtype=np.float64, order="C")
    volume = abs(float(np.linalg.det(cell)))
    if len(sites) == 0 or not volume > 0:
        raise ValueError("a crystal needs at least one site, and a cell with a volume")
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    # Sites into the cell, so that differences lie within one cell.
    inside: NDArray[np.float64] = _kernel()(cell, volume, sites - np.floor(sites), heights, k)
    return inside


def fingerprints_of(crystals: Iterable[CrystalRecord], k: int = K) -> NDArray[np.float64]:
    """AMD of each crystal, (n_crystals, k) (Å)."""
    rows = [average_minimum_distances(c.lattice, c.frac_coords, k) for c in crystals]
    return np.array(rows, dtype=np.float64).reshape(-1, k)


def reference_fingerprints(reference: Reference, k: int = K) -> NDArray[np.float64]:
    """AMD of each reference crystal, (n_crystals, k) (Å); 0.8 MB per 1,000 crystals for k = 100."""
    rows = np.empty((len(reference), k), dtype=np.float64)
    for index in range(len(reference)):
        sites = reference.sites(index)
        rows[index] = average_minimum_distances(
            reference.lattices[index], reference.frac_coords[sites], k
        )
    return rows


@functools.cache
def _kernel() -> Callable[..., NDArray[np.float64]]:
    from numba import njit

    compiled: Callable[..., NDArray[np.float64]] = njit(cache=True)(_averages)
    return compiled


def _averages(
    cell: NDArray[np.float64],
    volume: float,
    sites: NDArray[np.float64],
    heights: NDArray[np.float64],
    k: int,
) -> NDArray[np.float64]:
    n_sites = len(sites)
    # A ball that holds k sites on average, and some more; wherever it holds fewer it grows.
    radius = 1.15 * (3.0 * (k + 1) * volume / (4.0 * np.pi * n_sites)) ** (1.0 / 3.0)
    total = np.zeros(k)
    distances = np.empty(4 * k + 64)
    site = 0
    while site < n_sites:
        found = 0
        # Every lattice step that can bring a site into the ball: differences are below one cell.
        na = int(np.ceil(radius / heights[0])) + 1
        nb = int(np.ceil(radius / heights[1])) + 1
        nc = int(np.ceil(radius / heights[2])) + 1
        limit = radius * radius
        for other in range(n_sites):
            fa = sites[other, 0] - sites[site, 0]
            fb = sites[other, 1] - sites[site, 1]
            fc = sites[other, 2] - sites[site, 2]
            for a in range(-na, na + 1):
                if abs(fa + a) * heights[0] > radius:
                    continue
                for b in range(-nb, nb + 1):
                    if abs(fb + b) * heights[1] > radius:
                        continue
                    x0 = (fa + a) * cell[0, 0] + (fb + b) * cell[1, 0]
                    y0 = (fa + a) * cell[0, 1] + (fb + b) * cell[1, 1]
                    z0 = (fa + a) * cell[0, 2] + (fb + b) * cell[1, 2]
                    for c in range(-nc, nc + 1):
                        if other == site and a == 0 and b == 0 and c == 0:
                            continue
                        x = x0 + (fc + c) * cell[2, 0]
                        y = y0 + (fc + c) * cell[2, 1]
                        z = z0 + (fc + c) * cell[2, 2]
                        square = x * x + y * y + z * z
                        if square <= limit:
                            if found == len(distances):
                                larger = np.empty(2 * len(distances))
                                larger[:found] = distances
                                distances = larger
                            distances[found] = square
                            found += 1
        if found < k:
            radius *= 1.2
            continue
        total += np.sqrt(np.sort(distances[:found])[:k])
        site += 1
    return total / n_sites
