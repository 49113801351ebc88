"""Is the end of a relaxation a minimum, and where does the way down from a saddle begin.

A relaxation that keeps its symmetry, or that starts where a force is zero by symmetry, can come to
rest on a saddle: some direction that breaks the symmetry leads downhill, and no force says so. Here
the direction of lowest curvature is searched with differences of forces, one evaluation for each
product of the Hessian with a vector (E. R. Davidson, J. Comput. Phys. 17, 87 (1975)), and a
relaxation starts from a step along it. This search can fail, because potentials have kinks where
neighbours enter their cutoff, and several ways can lead down. Therefore another relaxation starts
from a random shake, unless the point is stiff. The point is a saddle if one of them ends lower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.relaxation.first_hessian import first_hessian
from novelty_metric.relaxation.frechet import FrechetCell, Point
from novelty_metric.relaxation.quasi_newton import (
    ENERGY_NOISE,
    coordinate_scale,
)
from novelty_metric.relaxation.symmetry import find_symmetry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from novelty_metric.relaxation.base import Evaluation, Geometry

LOWER = 0.005
"""A point is a saddle if a relaxation from near it ends lower by more than this (eV/atom)."""

MOST_PRODUCTS = 12
"""Products of the Hessian with a vector for one check."""

NEGATIVE = -0.1
"""A lower curvature (eV/Å²) is tried; bonds have 5 to 50."""

STIFF = 1.0
"""A point whose lowest curvature is above this (eV/Å²) is a minimum."""

DIFFERENCE = 0.03
"""Longest displacement of an atom in a difference of forces (Å)."""

STEPS = (0.1, 0.05, 0.025)
"""Longest displacement of an atom in the steps that are tried, one after the other (Å): in a narrow
double well, the first one leads uphill on the other side."""

FLAT = 0.001
"""A relaxation starts from the first step even if the energy there is higher by this (eV/atom): the
other coordinates have not adapted yet."""

SHAKE, STRAIN = 0.05, 0.01
"""Of a shake: displacement of each atom (Å), and standard deviation of the strain."""

ALIKE = 0.9
"""An operation that leaves a direction unchanged to this degree (cosine) is kept on the way."""


class MinimumCheck:
    """Says what is to be evaluated next, and is told the answer, until it knows.

    Parameters
    ----------
    geometry : Geometry
        At rest, right-handed.
    here : Evaluation
        Of it.

    Attributes
    ----------
    geometry : Geometry or None
        To be evaluated next; None once the answer is known.
    curvature : float
        Lowest one found (eV/Å²); an upper limit of the lowest there is.
    way_down : Geometry or None
        Where a relaxation to a lower minimum can start; None if no step along the direction of
        lowest curvature leads down.

    Notes
    -----
    The coordinates are those of `SymmetricBFGS`, without translations and rotations. The first
    direction is random, with a fixed seed, so that it has a part of every kind of symmetry.
    """

    def __init__(self, geometry: Geometry, here: Evaluation) -> None:
        self.curvature = np.inf
        self.way_down: Geometry | None = None
        self.geometry: Geometry | None = None
        self._cell = FrechetCell(geometry)
        self._n_sites = self._cell.n_sites
        self._scale = coordinate_scale(self._cell)
        self._here = self._cell.point(self._cell.x0, here)
        self._precondition = np.linalg.inv(first_hessian(geometry))
        size = len(self._precondition)
        self._vectors: list[NDArray[np.float64]] = []
        self._products: list[NDArray[np.float64]] = []
        self._lowest = np.zeros(size)
        self._tried: list[Point] = []
        self._most = min(MOST_PRODUCTS, 3 * self._n_sites + 3)
        start = np.random.default_rng(0).normal(size=size)
        first = self._next_vector(self._precondition @ start)
        assert first is not None  # a random vector strains the cell
        self._evaluate_along(first)

    def tell(self, evaluation: Evaluation) -> None:
        """Take the answer for `geometry`."""
        there = self._cell.point(self._x, evaluation)
        if len(self._products) < len(self._vectors):
            self._learn(there)
        else:
            self._try(there)

    def _learn(self, there: Point) -> None:
        """One more product of the Hessian: the lowest direction so far, and the next vector."""
        change = self._gradient(there) - self._gradient(self._here)
        self._products.append(self._moving(change / self._length))
        vectors, products = np.array(self._vectors), np.array(self._products)
        projected = vectors @ products.T
        curvatures, mixtures = np.linalg.eigh(0.5 * (projected + projected.T))
        before, self.curvature = self.curvature, float(curvatures[0])
        self._lowest = mixtures[:, 0] @ vectors
        residual = mixtures[:, 0] @ products - self.curvature * self._lowest
        error = float(np.linalg.norm(residual))
        following = None
        if len(vectors) < self._most and not self._is_known(error, before):
            following = self._next_vector(self._precondition @ residual)
        if following is not None:
            self._evaluate_along(following)
        elif self.curvature < NEGATIVE:
            self._lowest = self._symmetric(self._lowest)
            self._step_along(self._lowest, STEPS[0])
        else:
            self.geometry = None

    def _is_known(self, error: float, before: float) -> bool:
        """True if more products would not change the result."""
        if self.curvature < NEGATIVE:
            return error < -0.5 * self.curvature
        settled = before - self.curvature < 0.05 * self.curvature
        return settled and (error < self.curvature or self.curvature > STIFF) and error < before

    def _try(self, there: Point) -> None:
        """Steps to either side: the lower one is the way down, if it is low enough."""
        self._tried.append(there)
        done, other_side = divmod(len(self._tried), 2)
        if other_side:
            self._step_along(-self._lowest, STEPS[done])
            return
        lower = min(self._tried[-2:], key=lambda point: point.energy)
        limit = FLAT if done == 1 else -ENERGY_NOISE
        if lower.energy < self._here.energy + limit * self._n_sites:
            self.way_down = self._cell.geometry(lower.x)
        if self.way_down is None and done < len(STEPS):
            self._step_along(self._lowest, STEPS[done])
        else:
            self.geometry = None

    def _evaluate_along(self, vector: NDArray[np.float64]) -> None:
        self._vectors.append(vector)
        self._step_along(vector, DIFFERENCE)

    def _step_along(self, vector: NDArray[np.float64], longest: float) -> None:
        """Have a point evaluated whose atoms are displaced by no more than this (Å)."""
        rows = vector.reshape(-1, 3)
        self._length = longest / float(np.sqrt((rows**2).sum(axis=1).max()))
        self._x = self._here.x + self._length * rows / self._scale
        self.geometry = self._cell.geometry(self._x)

    def _next_vector(self, vector: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """It without what the others span, of length 1; None where nothing is left."""
        vector = self._moving(vector)
        before = np.linalg.norm(vector)
        for _ in range(2):  # once is not enough in floating point
            for other in self._vectors:
                vector = vector - (other @ vector) * other
        length = np.linalg.norm(vector)
        return vector / length if length > 1e-6 * before > 0 else None

    def _moving(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """It without translation and rotation."""
        rows = vector.reshape(-1, 3).copy()
        rows[: self._n_sites] -= rows[: self._n_sites].mean(axis=0)
        rows[self._n_sites :] = 0.5 * (rows[self._n_sites :] + rows[self._n_sites :].T)
        return rows.ravel()

    def _symmetric(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """The direction cleaned of what breaks symmetry that it nearly keeps."""
        kept = []
        symmetry = find_symmetry(self._cell.start)
        for rotation, image in zip(
            symmetry.cartesian(self._cell.start.cell), symmetry.images, strict=True
        ):
            rows, turned = vector.reshape(-1, 3), np.empty((self._n_sites + 3, 3))
            turned[image] = rows[: self._n_sites] @ rotation.T
            turned[self._n_sites :] = rotation @ rows[self._n_sites :] @ rotation.T
            if turned.ravel() @ vector > ALIKE:
                kept.append(turned.ravel())
        mean = np.mean(kept, axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    def _gradient(self, point: Point) -> NDArray[np.float64]:
        return np.asarray((-point.forces / self._scale).ravel())


def shaken(geometry: Geometry) -> Geometry:
    """The crystal with its sites moved by `SHAKE` and its cell strained by `STRAIN`, at random.

    The random numbers have a fixed seed.
    """
    numbers = np.random.default_rng(1_000_000)  # benchmarks count their own seeds from 0
    strain = numbers.normal(scale=STRAIN, size=(3, 3))
    stretched = np.eye(3) + 0.5 * (strain + strain.T)
    moves = numbers.normal(size=geometry.positions.shape)
    moves *= SHAKE / np.linalg.norm(moves, axis=1, keepdims=True)
    return type(geometry)(
        geometry.numbers, geometry.cell @ stretched, geometry.positions @ stretched + moves
    )
