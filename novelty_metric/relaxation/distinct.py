"""Sites, bonds and angles of a crystal that differ, given its symmetry.

A graph potential gives two atoms that an operation of the space group joins the same features; two
bonds and two angles likewise. It is enough to evaluate one of each class, weighted by their number.
The gradient with respect to the bonds that were evaluated becomes forces and stress in the usual
way; averaged over the space group, these are the forces and the stress of the crystal, as both give
the same change of the energy for every move that keeps the symmetry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from novelty_metric.relaxation.base import Evaluation, Geometry
    from novelty_metric.relaxation.neighbors import Neighbors

_FARTHEST = 500
"""Cells along an axis between the ends of a bond, or its image; beyond it, there is no image."""


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """Things of one kind that are sorted into classes.

    Attributes
    ----------
    of : int64, (n,)
        Class of each; classes are numbered in the order of their first members.
    first : int64, (n_classes,)
        First member of each class.
    sizes : int64, (n_classes,)
    """

    of: NDArray[np.int64]
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]


def joined(maps: Sequence[Sequence[NDArray[np.int64]]]) -> list[Classes]:
    """Classes of several kinds of things, each with as many maps of its things onto themselves.

    Two things are of one class where the maps lead from one to the other, directly or by way of
    others.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([0] + [len(of_kind[0]) for of_kind in maps])
    columns = np.concatenate(
        [np.stack(of_kind, axis=1) + start for of_kind, start in zip(maps, starts, strict=False)]
    )
    n, n_maps = columns.shape
    graph = csr_array(
        (np.ones(columns.size), columns.ravel(), np.arange(0, columns.size + 1, n_maps)), (n, n)
    )
    labels = connected_components(graph, directed=True, connection="weak")[1]
    classes = []
    for start, end in pairwise(starts):
        _, first, of, sizes = np.unique(
            labels[start:end], return_index=True, return_inverse=True, return_counts=True
        )
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        classes.append(Classes(rank[of.reshape(-1)], first[order], sizes[order]))
    return classes


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """Classes of the sites, bonds and angles of a batch.

    Attributes
    ----------
    sites, bonds, angles : Classes
        The classes of the short bonds come first.
    n_short : int
        Classes of short bonds.
    symmetric : tuple of bool, (n_crystals,)
        Whose symmetry is used.
    """

    sites: Classes
    bonds: Classes
    angles: Classes
    n_short: int
    symmetric: tuple[bool, ...]

    def averaged(
        self, geometries: Sequence[Geometry], evaluations: Sequence[Evaluation]
    ) -> list[Evaluation]:
        """Evaluations with forces and stress averaged over the symmetry, where it is used."""
        return [
            _averaged(geometry, evaluation) if symmetric and not evaluation.error else evaluation
            for geometry, evaluation, symmetric in zip(
                geometries, evaluations, self.symmetric, strict=True
            )
        ]


def find_distinct(geometries: Sequence[Geometry], found: Neighbors) -> Distinct | None:
    """Classes of what the symmetries of the geometries join; None where none has one.

    A symmetry that its geometry does not have exactly counts as none, so that the classes are
    right whatever `Geometry.symmetry` says.
    """
    shifts = [
        None
        if one.symmetry is None or len(one.symmetry.generators) == 0
        else one.symmetry.shifts(one)
        for one in geometries
    ]
    if all(shift is None for shift in shifts):
        return None
    inverses = np.array([np.linalg.inv(one.cell) for one in geometries])
    frac = np.concatenate(
        [one.positions @ inverse for one, inverse in zip(geometries, inverses, strict=True)]
    )
    cells = np.einsum("bi,bij->bj", found.vectors, inverses[found.crystal])
    cells = np.rint(cells - frac[found.second] + frac[found.first]).astype(np.int64)
    bonds = _Bonds(found, cells, max(len(one.numbers) for one in geometries))
    most = max(0 if shift is None else len(shift) for shift in shifts)
    site_maps, bond_maps, angle_maps = [], [], []
    for at in range(most):
        rotations, images, moved = _generator(at, geometries, shifts)
        site_maps.append(images)
        image, turned, missing = bonds.mapped(rotations[found.crystal], images, moved)
        bond_maps.append(image)
        angle_maps.append(bonds.angles_mapped(image, turned, missing))
    of_sites, of_bonds, of_angles = joined([site_maps, bond_maps, angle_maps])
    return Distinct(
        sites=of_sites,
        bonds=of_bonds,
        angles=of_angles,
        n_short=int(np.count_nonzero(of_bonds.first < found.n_short)),
        symmetric=tuple(shift is not None for shift in shifts),
    )


def _generator(
    number: int, geometries: Sequence[Geometry], shifts: Sequence[NDArray[np.int64] | None]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """One generator of each crystal: rotation of each crystal, image of each site, and its cell.

    The identity where a crystal has no generator of this number.
    """
    rotations, images, moved = [], [], []
    start = 0
    for geometry, shift in zip(geometries, shifts, strict=True):
        n_sites = len(geometry.numbers)
        if shift is None or number >= len(shift):
            rotations.append(np.eye(3, dtype=np.int64))
            images.append(start + np.arange(n_sites))
            moved.append(np.zeros((n_sites, 3), np.int64))
        else:
            assert geometry.symmetry is not None
            operation = geometry.symmetry.generators[number]
            rotations.append(geometry.symmetry.rotations[operation])
            images.append(start + geometry.symmetry.images[operation])
            moved.append(shift[number])
        start += n_sites
    return np.array(rotations), np.concatenate(images), np.concatenate(moved)


class _Bonds:
    """Finds the image of a bond, and of an angle, among those of a batch."""

    def __init__(self, found: Neighbors, cells: NDArray[np.int64], n_most: int) -> None:
        self._found = found
        self._cells = cells
        self._n_most = n_most
        self._names = _Names(self._name(found.first, found.second, cells))
        self._ends = np.stack([2 * found.left, 2 * found.right], axis=1) + found.sides
        self._angles = _Names(self._angle_name(self._ends))

    def mapped(
        self, rotations: NDArray[np.int64], images: NDArray[np.int64], moved: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Image of each bond, whether its ends change places, and whether there is no image.

        A bond without an image, at the very limit of the length of bonds, is its own image.
        """
        found = self._found
        first, second = images[found.first], images[found.second]
        cells = np.einsum("bij,bj->bi", rotations, self._cells)
        cells += moved[found.second] - moved[found.first]
        here = self._names.find(self._name(first, second, cells))
        there = self._names.find(self._name(second, first, -cells))
        turned = here < 0
        image = np.where(turned, there, here)
        numbers = np.arange(found.n_bonds)
        missing = (image < 0) | ((image < found.n_short) != (numbers < found.n_short))
        return np.where(missing, numbers, image), turned & ~missing, missing

    def angles_mapped(
        self, image: NDArray[np.int64], turned: NDArray[np.bool_], missing: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Image of each angle, from those of the bonds; one without an image is its own."""
        bonds, sides = self._ends >> 1, self._ends & 1
        ends = 2 * image[bonds] + (sides ^ turned[bonds])
        found = self._angles.find(self._angle_name(ends))
        own = (found < 0) | missing[bonds].any(axis=1)
        return np.where(own, np.arange(len(found)), found)

    def _name(
        self, first: NDArray[np.int64], second: NDArray[np.int64], cells: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        # The second site counts from the first, which lies in the same crystal.
        name = first * (2 * self._n_most) + (second - first + self._n_most)
        for axis in range(3):
            name = name * (2 * _FARTHEST + 1) + cells[:, axis]
        far = np.abs(cells).max(initial=0) > _FARTHEST
        return np.where(np.abs(cells).max(axis=1) > _FARTHEST, -1, name) if far else name

    def _angle_name(self, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(
            ends.min(axis=1) * (2 * self._found.n_bonds) + ends.max(axis=1), dtype=np.int64
        )


class _Names:
    """Finds things by number-like names that all differ."""

    def __init__(self, names: NDArray[np.int64]) -> None:
        self._order = np.argsort(names)
        self._sorted = names[self._order]

    def find(self, names: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the thing with each name; -1 where there is none."""
        if len(self._sorted) == 0:
            return np.full(len(names), -1)
        at = np.minimum(np.searchsorted(self._sorted, names), len(self._sorted) - 1)
        return np.where(self._sorted[at] == names, self._order[at], -1)


def _averaged(geometry: Geometry, evaluation: Evaluation) -> Evaluation:
    assert geometry.symmetry is not None
    rotations = geometry.symmetry.cartesian(geometry.cell)
    forces = (evaluation.forces[geometry.symmetry.images] @ rotations).mean(axis=0)
    stress = (rotations.transpose(0, 2, 1) @ evaluation.stress @ rotations).mean(axis=0)
    return replace(evaluation, forces=forces, stress=0.5 * (stress + stress.T))
