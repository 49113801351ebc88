"""`CompiledTest`: the kernels' results for one generated crystal and the reference.

numba is imported when one is made.
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.search.cells import FirstMatch, FrameworkMatch, supercell_of
from novelty_metric.support.folders import cache_folder

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.protocol import Protocol
    from novelty_metric.reference import Reference
    from novelty_metric.search.cells import BareCell


def load_kernels(name: str = "kernels") -> ModuleType:
    """The module of compiled functions.

    Parameters
    ----------
    name : str
        ``"kernels"``, the pair test, or a module of it such as ``"kernels.cheap_bounds"``.

    Raises
    ------
    InputError
        If numba is missing or does not fit NumPy.
    """
    try:
        return importlib.import_module(f"novelty_metric.search.{name}")
    except ImportError as error:
        raise InputError(
            f"the search can't be compiled: numba can't be imported ({error}); install one that "
            f"fits NumPy {np.__version__}, with: pip install --upgrade numba"
        ) from error


def is_compiled() -> bool:
    """True if the kernels are in numba's cache on disk."""
    return _note().is_file()


def note_compiled() -> None:
    """Record for later runs that the kernels are compiled."""
    with contextlib.suppress(OSError):  # then the next run looks ahead in vain
        if not _note().exists():
            _note().parent.mkdir(parents=True, exist_ok=True)
            _note().touch()


def _note() -> Path:
    from novelty_metric.search.kernels.compilation import CACHE_KEY

    return cache_folder() / "compiled" / CACHE_KEY


MOST_WORK = 2 * 10**9
MOST_WORK_OF_A_PAIR = 2 * 10**5
"""Maximum number of comparisons for a crystal, and for each further pair: about five seconds.
Crystals of 20 sites need a tenth. A crystal of hundreds of sites can have millions of lattices on a
small cell, which would take hours. The limit is a count, so that no verdict depends on the machine.
"""

LONGEST_SEARCH = 5.0
"""Approximate time for `MOST_WORK` (s); if less time is left, less work is allowed."""

MOST_WORK_OF_EQUALS = 2 * 10**9
MOST_WORK_OF_ALL_EQUALS = 4 * 10**9
"""The same limit for a pair in a test of equality, elements included (two seconds). The second
limit is for all pairs of a duplicate test, a confirmation or a grouping, plus `MOST_WORK_OF_A_PAIR`
for each further pair.
"""

MOST_POINTS = 2 * 10**5
"""Maximum number of lattice points listed for a pair: a cell 150 times as long as wide has them."""

MOST_ANGLES = 10**7
MOST_TRIPLES = 2 * 10**9
"""For a pair that pymatgen may accept: the maximum number of pairs of lattice vectors whose angles
it stores at once (80 MB an array), and of triples that it tests (some seconds).
"""


class TooMuchToCompareError(Exception):
    """The work limit was reached before it was known whether two crystals match."""


class Work:
    """Work done in the search for equal crystals, and its limit."""

    def __init__(self) -> None:
        self._left = MOST_WORK_OF_ALL_EQUALS

    def of_a_pair(self) -> np.ndarray:
        """The counter of the next pair: work done (zero) and its limit, int64 (2,)."""
        self._left += MOST_WORK_OF_A_PAIR
        return np.array([0, max(0, min(self._left, MOST_WORK_OF_EQUALS))], dtype=np.int64)

    def add(self, of_a_pair: np.ndarray) -> None:
        """Add the work done for the pair."""
        self._left -= int(of_a_pair[0])


class CompiledTest:
    """Refusals and costs for pairs with one generated crystal, before pymatgen is used.

    Parameters
    ----------
    kernels : module
        From `load_kernels`.
    generated : Structure or BareCell
        Clean and reduced.
    reference : Reference
    protocol : Protocol
        Its tolerances.
    effort : float
        Share of `MOST_WORK` that may be done, from 0 to 1.
    """

    def __init__(
        self,
        kernels: ModuleType,
        generated: Structure | BareCell,
        reference: Reference,
        protocol: Protocol,
        *,
        effort: float = 1.0,
    ) -> None:
        """Store the crystal as arrays."""
        self._kernels = kernels
        self._reference = reference
        self._lattice = np.array(generated.lattice.matrix, dtype=np.float64)
        self._pairs = kernels.Pairs.of(
            self._lattice,
            generated.frac_coords,
            generated.atomic_numbers,
            reference.lattices,
            reference.offsets,
            reference.frac_coords,
            reference.numbers,
        )
        self._n_sites = len(generated)
        self.best = protocol.map == "best"
        self._points = PointsAround(self._lattice)
        self._effort = effort
        self._work = np.array([0, int(effort * MOST_WORK)], dtype=np.int64)
        self._tolerances = {
            "ltol": protocol.ltol,
            "stol": protocol.stol,
            "angle_tol": protocol.angle_tol,
        }

    def passes(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A mask of the pairs that pymatgen might accept; it surely refuses the others.

        With ``map=best`` those that match, see `lattice_sites`.

        Parameters
        ----------
        indices : int64, (C,)
            Positions in the reference; the numbers of sites divide one another.

        Returns
        -------
        passed : bool, (C,)
        work_limit_reached : bool, (C,)
            Those of which nothing is known, as there was too much to compare.
        """
        self._work[1] += int(self._effort * MOST_WORK_OF_A_PAIR * len(indices))
        steps = self._kernels.furthest_steps(
            self._pairs, indices, self._work, every=self.best, **self._tolerances
        )
        return steps == self._kernels.LET_THROUGH, steps == self._kernels.WORK_LIMIT_REACHED

    def first_match(self, index: int) -> tuple[bool, float, FirstMatch | None]:
        """Lower bound of the cost of a match with this reference crystal, and where pymatgen finds
        it.

        Returns
        -------
        bool
            Whether it was finished within the work limit.
        float
            Lower bound of the cost of the atom map, nearly always the cost itself. Infinite if
            pymatgen refuses the pair, negative if nothing could be found out.
        FirstMatch or None
        """
        reference = self._reference
        sites = reference.sites(index)
        lattice = np.array(reference.lattices[index], dtype=np.float64)
        n_sites = sites.stop - sites.start
        ltol = self._tolerances["ltol"]
        if n_sites >= self._n_sites:
            source, target = self._lattice, lattice
        else:
            source, target = lattice, self._lattice
        if _too_many_points(source, target, ltol):
            return False, -1.0, None
        reach = _reach(target, ltol)
        shared = source is self._lattice
        vectors = self._points.within(reach) if shared else lattice_points(source, reach)
        answer, cost, found = self._kernels.cost_of_first_match(
            self._pairs,
            index,
            vectors,
            self._work,
            **self._tolerances,
        )
        finished = answer != self._kernels.WORK_LIMIT_REACHED
        if np.isfinite(cost) and _too_many_mappings(vectors, source, target, ltol):
            finished = False
        return finished, cost, FirstMatch.of(vectors, found)

    def cheapest_map(self, index: int) -> tuple[float, FrameworkMatch] | None:
        """The cheapest map of all matches with this reference crystal, with its cost; or None.

        Raises
        ------
        TooMuchToCompareError
            If it was not found out within the work limit.
        """
        answer, cost, rms, sites, lattice = self._kernels.cheapest_map(
            self._pairs, index, self._work, **self._tolerances
        )
        if answer == self._kernels.WORK_LIMIT_REACHED:
            raise TooMuchToCompareError("too much to compare")
        if not np.isfinite(cost):
            return None
        n_reference = int(self._reference.n_sites[index])
        copies = max(1, n_reference // self._n_sites)
        supercell = None if n_reference >= self._n_sites else supercell_of(lattice)
        return cost, FrameworkMatch(rms, tuple((sites // copies).tolist()), supercell)


def where_equal(
    kernels: ModuleType | None,
    generated: Structure,
    other: Structure,
    protocol: Protocol,
    work: Work | None = None,
) -> tuple[bool | None, FirstMatch | None]:
    """The kernels' result for two crystals that may be equal, elements included.

    Parameters
    ----------
    kernels : module or None
        From `load_kernels`; without them no pair is refused.
    generated, other : Structure
        Clean and reduced, of one reduced composition; the number of sites of one divides the other.
    protocol : Protocol
        Its tolerances.
    work : Work, optional
        Shared by several pairs.

    Returns
    -------
    bool or None
        False if pymatgen refuses the pair, True if it might accept it, None if the work
        limit was reached first.
    FirstMatch or None
        Without its `site`: the pair is compared from another first site of T.
    """
    n_first, n_second = len(generated), len(other)
    if n_first > n_second and n_first * (1 / (n_first // n_second)) < n_second:
        # So it rounds for 49, 98, 103 … times the sites, and pymatgen exchanges the two then.
        generated, other = other, generated
    lattices = [np.array(s.lattice.matrix, dtype=np.float64) for s in (generated, other)]
    source, target = lattices if len(other) >= len(generated) else lattices[::-1]
    if _too_many_points(source, target, protocol.ltol):
        return None, None
    vectors = lattice_points(source, _reach(target, protocol.ltol))
    if kernels is None:
        return (None if _too_many_mappings(vectors, source, target, protocol.ltol) else True), None
    work = Work() if work is None else work
    of_this_pair = work.of_a_pair()
    answer, found = kernels.first_equal(
        lattices[0],
        np.array(generated.frac_coords, dtype=np.float64),
        np.array(generated.atomic_numbers),
        lattices[1],
        np.array(other.frac_coords, dtype=np.float64),
        np.array(other.atomic_numbers),
        vectors,
        of_this_pair,
        ltol=protocol.ltol,
        stol=protocol.stol,
        angle_tol=protocol.angle_tol,
    )
    work.add(of_this_pair)
    if answer not in (kernels.WORK_LIMIT_REACHED, kernels.LET_THROUGH):
        return False, None
    if answer == kernels.WORK_LIMIT_REACHED or _too_many_mappings(
        vectors, source, target, protocol.ltol
    ):
        return None, None
    first = FirstMatch.of(vectors, found)
    return True, None if first is None else first._replace(site=0)


def _reach(target: np.ndarray, ltol: float) -> float:
    """Maximum length (Å) of lattice vectors that pymatgen considers for the vectors of a target
    cell.
    """
    return float(np.sqrt(np.sum(target**2, axis=1)).max()) * (1 + ltol)


def _too_many_points(source: np.ndarray, target: np.ndarray, ltol: float) -> bool:
    """True if about `MOST_POINTS` lattice points or more are within reach."""
    sphere = 4 / 3 * np.pi * _reach(target, ltol) ** 3
    return bool(sphere > MOST_POINTS * abs(np.linalg.det(source)))


def _too_many_mappings(
    vectors: np.ndarray, source: np.ndarray, target: np.ndarray, ltol: float
) -> bool:
    """True if pymatgen would exceed the limits of memory or time, see `MOST_ANGLES`.

    Parameters
    ----------
    vectors : int64, (V, 3)
        Coefficients of the lattice vectors of the source within reach.
    """
    lengths = np.sqrt(np.sum((vectors @ source) ** 2, axis=1))
    ratios = lengths[:, None] / np.sqrt(np.sum(target**2, axis=1))
    near = (ratios < 1 + ltol) & (ratios > 1 / (1 + ltol))
    n_a, n_b, n_c = near.sum(axis=0).tolist()
    angles = max(n_a * n_b, n_a * n_c, n_b * n_c)
    return bool(angles > MOST_ANGLES or n_a * n_b * n_c > MOST_TRIPLES)


_ORIGIN = np.zeros((1, 3))
_PERIODIC = np.ones(3, dtype=np.int64)


def lattice_points(lattice: np.ndarray, radius: float) -> np.ndarray:
    """Lattice points in a sphere, in the order of pymatgen's ``get_points_in_sphere``.

    That order decides which match pymatgen finds first, so the points come from the same function,
    called without what takes most of the time around it.

    Parameters
    ----------
    lattice : float64, (3, 3)
        Cell vectors as rows (Å).
    radius : float
        Å.

    Returns
    -------
    int64, (V, 3)
        Their coefficients.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    images = find_points_in_spheres(
        all_coords=_ORIGIN,
        center_coords=_ORIGIN,
        r=radius,
        pbc=_PERIODIC,
        lattice=np.ascontiguousarray(lattice, dtype=np.float64),
        tol=1e-8,
    )[2]
    return np.rint(images).astype(np.int64).reshape(-1, 3)


class PointsAround:
    """`lattice_points` of one lattice for many radii; after a few calls, from one common list.

    That a list holds those for a smaller radius in their order is how pymatgen goes about it (image
    by image, in cubes whose edges pass through the centre), but nothing that it promises. So it is
    checked for each lattice, and each point is listed by pymatgen.

    Parameters
    ----------
    lattice : float64, (3, 3)
        Cell vectors as rows (Å).
    """

    def __init__(self, lattice: np.ndarray) -> None:
        """Start with an empty list."""
        self._lattice = lattice
        self._asked = 0
        self._reach = 0.0
        self._all = np.zeros((0, 3), dtype=np.int64)
        self._lengths = np.zeros(0)

    def within(self, radius: float) -> np.ndarray:
        """The same as `lattice_points`, int64 (V, 3)."""
        self._asked += 1
        if radius <= self._reach and not _on_sphere(self._lengths, radius):
            return self._all[self._lengths < radius]
        points = lattice_points(self._lattice, radius)
        if radius > self._reach and self._asked > _BEFORE_SHARING and np.isfinite(self._reach):
            every = lattice_points(self._lattice, _FURTHER * radius)
            lengths = np.sqrt(np.sum((every @ self._lattice) ** 2, axis=1))
            if np.array_equal(every[lengths < radius], points):
                self._all, self._lengths, self._reach = every, lengths, _FURTHER * radius
            elif not _on_sphere(lengths, radius):
                self._reach = -np.inf
        return points


def _on_sphere(lengths: np.ndarray, radius: float) -> bool:
    """True if a point lies on the sphere, so that rounding decides whether it is listed."""
    return bool(np.abs(lengths - radius).min(initial=np.inf) < _ON_SPHERE)


_BEFORE_SHARING, _FURTHER, _ON_SPHERE = 2, 1.3, 1e-6
"""Number of lists of a lattice before a common one is made; how much larger it is; Å."""
