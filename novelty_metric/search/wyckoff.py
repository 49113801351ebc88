"""Route 2: parents with the same space group and the same occupied Wyckoff positions.

With ``protocol.map`` at ``first``, as in the paper, orbits that share a letter are paired by the
distances of their representatives, which depend on the origin and on the cell. With ``best`` it is
by cost: see `cheapest_pairing`.

pymatgen's table of relabellings is read on first use.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from novelty_metric.search.pettifor import NONE, WITHOUT_NUMBER, pettifor_numbers, site_costs
from novelty_metric.search.ranking import Cheapest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from novelty_metric.crystal import Symmetry
    from novelty_metric.reference import Reference
    from novelty_metric.search.bounds import CostBounds

MOST_ORBITS = 8192
"""Maximum number of reference crystals whose orbits are cached; a few kilobytes each."""

Letters = tuple[int, ...]
Bucket = tuple[int, int, Letters]


@functools.cache
def relabellings(space_group: int) -> tuple[dict[int, int], ...]:
    """Relabellings of Wyckoff letters by the Euclidean normalizer, in pymatgen's order.

    The identity comes first and the set is a group (both tested).

    Parameters
    ----------
    space_group : int
        1 to 230.

    Returns
    -------
    tuple of dict
        From code point to code point.
    """
    tables: list[dict[Any, str]] = _table("relabelings")[str(space_group)]
    return tuple({int(letter): ord(new) for letter, new in table.items()} for table in tables)


@functools.cache
def multiplicities(space_group: int) -> dict[int, int]:
    """Number of sites in the conventional cell for each Wyckoff position, by letter (code points).

    Rhombohedral groups in their hexagonal cell.

    Parameters
    ----------
    space_group : int
        1 to 230.
    """
    table: dict[str, int] = _table("multiplicities")[str(space_group)]
    return {ord(letter): int(count) for letter, count in table.items()}


@functools.cache
def free_coordinates(space_group: int) -> dict[int, int]:
    """Number of free coordinates (0 to 3) of each Wyckoff position, by letter (code points).

    Parameters
    ----------
    space_group : int
        1 to 230.
    """
    table: dict[str, int] = _table("params")[str(space_group)]
    return {ord(letter): int(count) for letter, count in table.items()}


_IN_PYMATGEN = {
    "relabelings": "WYCKOFF_POSITION_RELAB_DICT",
    "multiplicities": "WYCKOFF_MULTIPLICITY_DICT",
    "params": "WYCKOFF_POSITION_PARAM_DICT",
}


@functools.cache
def _table(name: str) -> dict[str, Any]:
    """One of pymatgen's tables of Wyckoff positions.

    Read from its file where that lies in the usual place: importing the module that holds it also
    loads a library of prototypes, which takes seconds.
    """
    spec = importlib.util.find_spec("pymatgen.analysis.prototypes")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / f"wyckoff-position-{name}.json.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as handle:
                table: dict[str, Any] = json.load(handle)
            return table
    from pymatgen.analysis import prototypes

    return getattr(prototypes, _IN_PYMATGEN[name])


@functools.lru_cache(maxsize=65536)
def canonical_letters(space_group: int, letters: Letters) -> Letters:
    """The lowest sorted multiset of letters among all relabellings of a given multiset.

    As the relabellings are a group, two multisets have a common relabelling exactly if this is the
    same for both.

    Parameters
    ----------
    space_group : int
    letters : tuple of int
        Code points, one per orbit, sorted.
    """
    return min(
        tuple(sorted(table[letter] for letter in letters)) for table in relabellings(space_group)
    )


@functools.lru_cache(maxsize=65536)
def partner_letters(space_group: int, letters: Letters) -> tuple[Letters, ...]:
    """For each relabelling of T, the letter of T for each letter of G, without repeats.

    Parameters
    ----------
    space_group : int
    letters : tuple of int
        Letters of G (code points), each once.

    Returns
    -------
    tuple of tuple of int
        In pymatgen's order of relabellings.
    """
    backs = ({new: old for old, new in table.items()} for table in relabellings(space_group))
    return tuple(dict.fromkeys(tuple(back[letter] for letter in letters) for back in backs))


@dataclass(frozen=True, slots=True)
class Orbits:
    """A crystal as a list of orbits.

    Attributes
    ----------
    letters : tuple of int
        Wyckoff letters in the order of their first appearance, sites by index (code points).
    members : dict
        For each letter its orbits by lowest site index; an orbit is its site indices, increasing.
    sizes : dict
        For each letter the number of sites of each of its orbits.
    numbers : dict
        For each letter the modified Pettifor number of each of its orbits.
    representatives : dict
        For each letter ``(n_orbits, 3)``: fractional coordinates of each orbit's site with the
        lexicographically smallest ones, as stored.
    frac_coords : float64, (n_sites, 3)
    """

    letters: Letters
    members: dict[int, list[list[int]]]
    sizes: dict[int, list[int]]
    numbers: dict[int, list[int]]
    representatives: dict[int, np.ndarray]
    frac_coords: np.ndarray

    @classmethod
    def of(
        cls,
        letters: np.ndarray,
        orbits: np.ndarray,
        frac_coords: np.ndarray,
        pettifor: np.ndarray,
    ) -> Orbits:
        """Group the sites into orbits.

        Parameters
        ----------
        letters : integer, (n_sites,)
            Code points.
        orbits : integer, (n_sites,)
            Lowest site index of each site's orbit.
        frac_coords : float64, (n_sites, 3)
        pettifor : uint8, (n_sites,)
        """
        # Arrays of a few numbers: plain lists are quicker.
        by_orbit: dict[int, list[int]] = {}
        for site, lowest in enumerate(orbits.tolist()):
            by_orbit.setdefault(lowest, []).append(site)
        coords, letter_of, number_of = frac_coords.tolist(), letters.tolist(), pettifor.tolist()
        members: dict[int, list[list[int]]] = {}
        sizes: dict[int, list[int]] = {}
        numbers: dict[int, list[int]] = {}
        representatives: dict[int, list[int]] = {}
        # Each orbit's lowest site comes first, so that the orbits are in the order of theirs.
        for sites in by_orbit.values():
            letter = letter_of[sites[0]]
            members.setdefault(letter, []).append(sites)
            sizes.setdefault(letter, []).append(len(sites))
            numbers.setdefault(letter, []).append(number_of[sites[0]])
            representatives.setdefault(letter, []).append(min(sites, key=coords.__getitem__))
        return cls(
            tuple(members),
            members,
            sizes,
            numbers,
            {letter: frac_coords[sites] for letter, sites in representatives.items()},
            frac_coords,
        )

    def __len__(self) -> int:
        return len(self.frac_coords)

    @property
    def multiset(self) -> Letters:
        """One letter per orbit, sorted."""
        return tuple(sorted(x for x in self.letters for _ in self.members[x]))


@dataclass(frozen=True, slots=True)
class RankedOrbits:
    """A parent of route 2: its position, its cost, and the atom map.

    `sites[i]` is the site of the generated crystal that goes to site i of the parent.
    """

    index: int
    cost: float
    sites: tuple[int, ...]
    parent_numbers: np.ndarray
    generated_numbers: np.ndarray


@dataclass(frozen=True, slots=True)
class WyckoffResult:
    """The cheapest parents, and the unfinished work."""

    parents: tuple[RankedOrbits, ...]
    unfinished: tuple[str, ...]


class WyckoffIndex:
    """The reference by space group and multiset of Wyckoff letters, up to relabelling.

    Only crystals with equal total numbers of sites are compared. Equal letters in the same space
    group give orbits of equal size in primitive cells, so this asks nothing of them. But pymatgen's
    reduction uses other tolerances than the symmetry search, and a cell that is primitive for the
    one need not be for the other: then every orbit is larger by the same factor and no one-to-one
    map of the atoms exists.
    """

    def __init__(self, reference: Reference, bounds: CostBounds, *, best: bool = False) -> None:
        """Index a reference.

        Parameters
        ----------
        reference : Reference
        bounds : CostBounds
            Of that reference.
        best : bool
            Pair orbits by `cheapest_pairing`, else by `pair_orbits`.
        """
        self._best = best
        self._reference = reference
        self._bounds = bounds
        # Crystals of one model are alike, and ask for the same few again and again.
        self._orbits = functools.lru_cache(maxsize=MOST_ORBITS)(self._make_orbits)
        buckets: dict[Bucket, list[int]] = {}
        undetermined: dict[int, list[int]] = {}
        offsets = np.asarray(reference.offsets, dtype=np.int64)
        # A site that is its own orbit's lowest stands for the orbit.
        position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
        firsts = np.flatnonzero(np.asarray(reference.orbits) == position)
        letters = np.asarray(reference.wyckoff_letters)[firsts].tolist()
        ends = np.searchsorted(firsts, offsets).tolist()
        sizes, groups = np.diff(offsets).tolist(), np.asarray(reference.space_groups).tolist()
        for index, (n_sites, group) in enumerate(zip(sizes, groups, strict=True)):
            if group == 0:
                undetermined.setdefault(n_sites, []).append(index)
                continue
            multiset = tuple(sorted(letters[ends[index] : ends[index + 1]]))
            bucket = (group, n_sites, canonical_letters(group, multiset))
            buckets.setdefault(bucket, []).append(index)
        self._buckets = {key: np.array(found) for key, found in buckets.items()}
        self._undetermined = {n: np.array(found) for n, found in undetermined.items()}
        self._prototypes: dict[tuple[int, Letters], list[int]] = {}
        for (group, _, multiset), found in buckets.items():
            self._prototypes.setdefault((group, multiset), []).extend(found)

    def has_prototype(
        self, space_group: int, letters: Letters, *, leave_out: int | None = None
    ) -> bool:
        """True if a reference crystal has this space group and, up to relabelling, these letters.

        Parameters
        ----------
        space_group : int
        letters : tuple of int
            Code points, one per orbit, sorted.
        leave_out : int, optional
            Position of a crystal that counts as absent from the reference.
        """
        found = self._prototypes.get((space_group, canonical_letters(space_group, letters)), [])
        return any(index != leave_out for index in found)

    def candidates(self, space_group: int, orbits: Orbits) -> np.ndarray:
        """Positions of the crystals with the same letters up to relabelling, increasing."""
        key = (
            space_group,
            len(orbits),
            canonical_letters(space_group, orbits.multiset),
        )
        return self._buckets.get(key, np.zeros(0, dtype=np.int64))

    def search(
        self,
        numbers: np.ndarray,
        lattice: np.ndarray,
        frac_coords: np.ndarray,
        symmetry: Symmetry | None,
        *,
        k: int,
    ) -> WyckoffResult:
        """The k cheapest reference crystals with the same Wyckoff letters, exactly.

        Parameters
        ----------
        numbers : integer, (n_sites,)
            Atomic numbers of the generated crystal, clean and reduced.
        lattice : float64, (3, 3)
            Cell vectors as rows (Å).
        frac_coords : float64, (n_sites, 3)
        symmetry : Symmetry or None
            Of that cell; None leaves the route unfinished.
        k : int
        """
        if symmetry is None:
            return WyckoffResult((), ("the symmetry of the crystal could not be determined",))
        pettifor = pettifor_numbers(numbers)
        generated = Orbits.of(
            np.array([ord(letter) for letter in symmetry.letters]),
            np.array(symmetry.orbits),
            np.asarray(frac_coords, dtype=np.float64),
            pettifor,
        )
        pair = cheapest_pairing if self._best else pair_orbits
        best: Cheapest[Pairing] = Cheapest(k)
        found = self.candidates(symmetry.space_group, generated)
        for bound, index in self._in_order(pettifor, found):
            if best.certain_before((bound, len(numbers), index)):
                break
            pairing = pair(generated, self._orbits(index), symmetry.space_group)
            if pairing is not None:
                best.offer((pairing.cost, len(numbers), index), pairing)
        unfinished = []
        # Equal numbers of sites are all that is known of these: any of them might be a parent.
        unknown = self._undetermined.get(len(numbers), np.zeros(0, dtype=np.int64))
        for bound, index in self._in_order(pettifor, unknown):
            if best.certain_before((bound, len(numbers), index)):
                break
            unfinished.append(
                f"the symmetry of reference crystal {self._reference.ids[index]!r} "
                "could not be determined"
            )
        parents = []
        own = surroundings(lattice, frac_coords) if self._best and best.in_order() else None
        for (cost, _, index), pairing in best.in_order():
            parent = self._orbits(index)
            if own is not None:
                its = surroundings(np.asarray(self._reference.lattices[index]), parent.frac_coords)
                found_again = cheapest_pairing(generated, parent, symmetry.space_group, (own, its))
                pairing = found_again or pairing
            sites = map_sites(generated, parent, pairing)
            on_parent = np.asarray(self._reference.numbers[self._reference.sites(index)])
            parents.append(
                RankedOrbits(index, cost, sites, on_parent.astype(np.int64), numbers[list(sites)])
            )
        return WyckoffResult(tuple(parents), tuple(unfinished))

    def _in_order(self, pettifor: np.ndarray, indices: np.ndarray) -> Iterable[tuple[float, int]]:
        if len(indices) == 0:
            return ()
        bounds = self._bounds.of_equal_size(pettifor, indices)
        order = np.lexsort((indices, bounds))
        return zip(bounds[order].tolist(), indices[order].tolist(), strict=True)

    def _make_orbits(self, index: int) -> Orbits:
        sites = self._reference.sites(index)
        return Orbits.of(
            np.asarray(self._reference.wyckoff_letters[sites]),
            np.asarray(self._reference.orbits[sites]),
            np.asarray(self._reference.frac_coords[sites]),
            pettifor_numbers(self._reference.numbers[sites]),
        )


class Pairing(NamedTuple):
    """Pairs of orbits of G and T.

    Attributes
    ----------
    partners : tuple of int
        For each letter of G, in their order, the letter of T that it meets.
    columns : tuple of list of int
        For each letter of G and each orbit of it, which of T's orbits of the partner it meets.
    cost : float
        Of the atom map, summed in integers and divided once, as `pettifor.map_cost`.
    """

    partners: Letters
    columns: tuple[list[int], ...]
    cost: float


Weight = tuple[int, int, int]
"""Sums over sites: differences of Pettifor numbers, their squares, other surroundings."""


def cheapest_pairing(
    generated: Orbits,
    parent: Orbits,
    space_group: int,
    around: tuple[np.ndarray, np.ndarray] | None = None,
) -> Pairing | None:
    """The pairing of orbits, with its relabelling, of least cost.

    Any orbit of G may go to any of T with the letter that the relabelling gives it; no coordinates
    are compared, so that neither the origin nor the cell is of any matter. Of equal costs the
    pairing with the least sum of squares of the differences is taken, then the one whose paired
    orbits have the most similar surroundings, then the first relabelling.

    Parameters
    ----------
    around : tuple of float64, (n_sites, M)
        `surroundings` of G and of T. Without them they play no part; the cost is the same.

    Returns
    -------
    Pairing or None
        None if no relabelling fits.
    """
    n_sites = len(generated)
    if n_sites != len(parent):
        return None
    paired: dict[tuple[int, int], tuple[list[int], Weight]] = {}
    best: tuple[Weight, Pairing] | None = None
    letters = generated.letters
    wanted = [generated.sizes[letter] for letter in letters]
    per_orbit = [sizes[0] for sizes in wanted]  # orbits of one letter are of one size
    for partners in partner_letters(space_group, letters):
        if [parent.sizes.get(partner) for partner in partners] != wanted:
            continue
        for pair in zip(letters, partners, strict=True):
            if pair not in paired:
                paired[pair] = _cheapest_of_letter(generated, parent, *pair, around)
        found = [paired[pair] for pair in zip(letters, partners, strict=True)]
        total, squares, unlike = (
            sum(size * weight[place] for size, (_, weight) in zip(per_orbit, found, strict=True))
            for place in range(3)
        )
        weight = (total, squares, unlike)
        if best is None or weight < best[0]:
            columns = tuple(columns for columns, _ in found)
            best = weight, Pairing(partners, columns, total / n_sites)
    return None if best is None else best[1]


_UNLIKE = 2**14
_SQUARES = 2**20
"""Sums of integers below 2^53 are exact; this holds for up to 64 orbits of one letter."""


def _cheapest_of_letter(
    generated: Orbits,
    parent: Orbits,
    letter: int,
    partner: int,
    around: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[list[int], Weight]:
    """For each orbit of G with this letter, its partner in T, and the sums over orbits."""
    ours, theirs = (
        np.array(numbers, dtype=np.uint8)
        for numbers in (generated.numbers[letter], parent.numbers[partner])
    )
    steps = site_costs(ours[:, None], theirs[None])
    unlike = np.zeros_like(steps)
    if around is not None:
        own, its = (
            np.array([distances[sites].mean(axis=0) for sites in orbits])
            for distances, orbits in zip(
                around, (generated.members[letter], parent.members[partner]), strict=True
            )
        )
        apart = np.abs(own[:, None] - its[None]).mean(axis=2)
        unlike = np.rint(np.minimum(apart, 1.0) * (_UNLIKE - 1)).astype(np.int64)
    weights = (steps * _SQUARES + steps**2) * _SQUARES + unlike
    rows, columns = linear_sum_assignment(weights.astype(np.float64))
    chosen = steps[rows, columns]
    return columns.tolist(), (
        int(chosen.sum()),
        int((chosen**2).sum()),
        int(unlike[rows, columns].sum()),
    )


NEIGHBOURS = 12


def surroundings(lattice: np.ndarray, frac_coords: np.ndarray) -> np.ndarray:
    """Distances from each site to its nearest neighbours, in (V/N)^(1/3), increasing.

    They do not depend on the origin, the cell or the elements.

    Returns
    -------
    float64, (n_sites, NEIGHBOURS)
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = np.ascontiguousarray(lattice, dtype=np.float64)
    cart = np.ascontiguousarray(frac_coords @ lattice)
    n_sites = len(cart)
    unit = (abs(np.linalg.det(lattice)) / n_sites) ** (1 / 3)
    reach = 2 * unit
    while True:
        centers, _, _, distances = find_points_in_spheres(
            all_coords=cart,
            center_coords=cart,
            r=reach,
            pbc=np.ones(3, dtype=np.int64),
            lattice=lattice,
            tol=1e-8,
        )
        centers, distances = centers[distances > 1e-8], distances[distances > 1e-8]
        counts = np.bincount(centers, minlength=n_sites)
        if counts.min() >= NEIGHBOURS:
            break
        reach *= 1.3
    order = np.lexsort((distances, centers))
    starts = np.cumsum(counts) - counts
    places = starts[:, None] + np.arange(NEIGHBOURS)
    nearest: np.ndarray = distances[order][places] / unit
    return nearest


Pair = tuple[list[int], list[int]]
"""Columns of one letter, with the cost per site of each of its orbits."""


def pair_orbits(generated: Orbits, parent: Orbits, space_group: int) -> Pairing | None:
    """The cheapest pairing of G's orbits with T's orbits of the same letter.

    For every pair of relabellings, of G's letters and of T's, orbits that share a letter are paired
    by the assignment with the least sum of distances between their representatives; the pair of
    relabellings with the least cost wins, the first one in pymatgen's order among equals (G's
    relabelling in the outer loop). A distance is the norm of d − round(d), d the difference of the
    fractional coordinates as stored, each in its own cell. Elements play no part in the pairing.

    A pair of relabellings matters only through the letter of T that it gives each letter of G. As
    the relabellings are a group with the identity first, G's identity with each relabelling of T
    already runs through all of them, and what follows repeats them: only those are looked at.

    Returns
    -------
    Pairing or None
        None if no relabelling fits.
    """
    n_sites = len(generated)
    if n_sites != len(parent):
        return None
    paired: dict[tuple[int, int], Pair | None] = {}
    best_cost = np.inf
    best: tuple[Letters, list[Pair]] | None = None
    letters, sizes = generated.letters, generated.sizes
    wanted = [len(sizes[letter]) for letter in letters]
    for partners in partner_letters(space_group, letters):
        if [len(parent.sizes.get(partner, ())) for partner in partners] != wanted:
            continue
        found: list[Pair] = []
        # Many relabellings tie exactly, and which of them wins decides where the elements go. So
        # the order of this sum of floats (letters by first appearance in G, then orbits) is part
        # of the method.
        cost = 0.0
        for letter, partner in zip(letters, partners, strict=True):
            if (letter, partner) not in paired:
                paired[letter, partner] = _pair_letter(generated, letter, parent, partner)
            of_letter = paired[letter, partner]
            if of_letter is None:
                break
            found.append(of_letter)
            for size, step in zip(sizes[letter], of_letter[1], strict=True):
                cost += size / n_sites * step
        else:
            if cost < best_cost:
                best_cost, best = cost, (partners, found)
    if best is None:
        return None
    partners, found = best
    total = 0
    for letter, (_, steps) in zip(letters, found, strict=True):
        for size, step in zip(sizes[letter], steps, strict=True):
            total += size * step
    return Pairing(partners, tuple(columns for columns, _ in found), total / n_sites)


def _pair_letter(generated: Orbits, letter: int, parent: Orbits, partner: int) -> Pair | None:
    """Pairing of the orbits of one letter, in G's order; None if paired orbits differ in size."""
    ours, theirs = generated.numbers[letter], parent.numbers[partner]
    columns = [0]
    if len(ours) > 1:
        distances = _distances(generated.representatives[letter], parent.representatives[partner])
        columns = linear_sum_assignment(distances)[1].tolist()
    sizes = parent.sizes[partner]
    if [sizes[column] for column in columns] != generated.sizes[letter]:
        return None
    met = [theirs[column] for column in columns]
    steps = [
        WITHOUT_NUMBER if NONE in {one, other} else abs(one - other)
        for one, other in zip(ours, met, strict=True)
    ]
    return columns, steps


def map_sites(generated: Orbits, parent: Orbits, pairing: Pairing) -> tuple[int, ...]:
    """For each site of T, the corresponding site of G.

    Atoms of paired orbits are paired by the assignment with the least sum of distances, as in
    `pair_orbits`.
    """
    sites = np.empty(len(parent), dtype=np.int64)
    for letter, partner, columns in zip(
        generated.letters, pairing.partners, pairing.columns, strict=True
    ):
        for of_generated, column in zip(generated.members[letter], columns, strict=True):
            of_parent = parent.members[partner][column]
            if len(of_parent) == 1:
                sites[of_parent] = of_generated
                continue
            distances = _distances(
                generated.frac_coords[of_generated], parent.frac_coords[of_parent]
            )
            rows, chosen = linear_sum_assignment(distances)
            sites[np.array(of_parent)[chosen]] = np.array(of_generated)[rows]
    return tuple(sites.tolist())


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    difference = first[:, None] - second[None]
    difference -= np.rint(difference)
    difference *= difference
    # What `np.linalg.norm` does, to the last bit, without its checks.
    distances: np.ndarray = np.sqrt(np.add.reduce(difference, axis=2))
    return distances
