"""What is said about one crystal, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from novelty_metric.crystal_records import CrystalRecords


class Verdict(StrEnum):
    """The answer for one crystal."""

    DUPLICATE = "duplicate"
    SUBSTITUTED = "substituted"
    UNMATCHED = "unmatched"
    UNDECIDED = "undecided"


class Route(StrEnum):
    """How a parent was found; also the paper's sub-kinds, with `BOTH`."""

    LATTICE_SITES = "lattice_sites"
    WYCKOFF = "wyckoff"


class Kind(StrEnum):
    """Which routes hold a confirmed parent (known only when every parent was relaxed)."""

    BOTH = "both"
    LATTICE_SITES = "lattice_sites"
    WYCKOFF = "wyckoff"


Supercell = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A reference crystal that could be the parent of a generated one, with the atom map.

    Attributes
    ----------
    route : Route
    rank : int
        From 1, cheapest first, within the route.
    index : int
        Position in the reference.
    parent_id : str
    cost : float
        Mean over atoms of the difference of modified Pettifor numbers.
    match_rms : float or None
        RMS site distance of the geometric match, in (V/N)^(1/3); None on the Wyckoff route.
    supercell : 3×3 integers or None
        Matrix for ``Structure.make_supercell`` of the reduced parent; None if it is not expanded.
    elements : tuple of str
        The generated crystal's element on each site of the parent (of its supercell, if any),
        in site order.
    element_map : mapping
        From each parent element to the new elements with their numbers of sites.
    share_exchanged : float
        Share of the sites whose element changes, from 0 to 1.
    """

    route: Route
    rank: int
    index: int
    parent_id: str
    cost: float
    match_rms: float | None
    supercell: Supercell | None
    elements: tuple[str, ...]
    element_map: Mapping[str, Mapping[str, int]]
    share_exchanged: float

    @property
    def order(self) -> tuple[float, bool, int]:
        """Sorts the candidates of a crystal over both routes: the one to be relaxed first is least.

        The cheapest first; of equal cost lattice and sites first, then by rank.
        """
        return self.cost, self.route is not Route.LATTICE_SITES, self.rank


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedParent:
    """A candidate parent and what became of it.

    `converged` and `confirmed` are None while the relaxation was not run; `error` says why a
    relaxation that was run gave nothing. `ended_early` is ``"accepted"`` or ``"refused"`` where a
    protocol's approximation ended it before it converged. `energy_per_atom` (eV/atom) and
    `volume_ratio` (volume over that before) are those of its last geometry.
    """

    parent: Parent
    relaxed: bool = False
    converged: bool | None = None
    confirmed: bool | None = None
    confirm_rms: float | None = None
    steps: int | None = None
    ended_early: str | None = None
    energy_per_atom: float | None = None
    volume_ratio: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateMatch:
    """The reference crystal that a generated one is a copy of.

    `match_rms` is the RMS site distance in (V/N)^(1/3). `sample_cells` reduced cells of the
    generated crystal were compared with `parent_cells` of the other; one of the two numbers is 1.
    """

    index: int
    parent_id: str
    match_rms: float
    sample_cells: int = 1
    parent_cells: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CrystalResult:
    """The row of one sample: verdict and evidence.

    Energies in eV/atom, distances in (V/N)^(1/3). `verdict` is None, with the reason in `error`,
    for what could not be scored. For an unmatched or undecided crystal the parent fields describe
    the cheapest parent tried. `source` is the file of the sample and its position there, or the
    position among the structures that were given. `duplicate_group` numbers groups of equal
    samples, from 0.

    `shortest_distance` (Å, images included) and `volume_per_atom` (Å³) are those of the crystal as
    it was generated. `novel_by_matching` tells whether pymatgen's `StructureMatcher()` with its
    defaults accepts no crystal of the reference: another rule than that of the duplicate test.
    `matching_id` is the one that it accepts, that of the duplicate if it accepts that. Where both
    are None, `matching_error` says why. `matching_group` numbers the groups of equal samples by
    that rule. `sample_cells` and `parent_cells` are those of `DuplicateMatch`. `structures` are the
    crystals themselves; a report read back from files leaves them there.

    `given_energy` is the one that came with the sample, if such energies were asked for:
    `e_above_hull` is then measured from it, and not from the potential's `energy_per_atom`.
    `decomposition` is what the hull is made of at the crystal's composition: the formula of each
    crystal there with its share of the atoms. `n_competing` counts the compositions of compounds
    that the hull knows inside the crystal's chemical system. Both are None where the hull does not
    tell.
    """

    id: str
    source: str | None = None
    formula: str | None = None
    n_sites: int | None = None
    space_group: int | None = None
    crystal_system: str | None = None
    smact_valid: bool | None = None
    converged: bool | None = None
    energy_per_atom: float | None = None
    e_above_hull: float | None = None
    energy_suspect: bool | None = None
    eligible: bool | None = None
    verdict: Verdict | None = None
    route: Route | None = None
    kind: Kind | None = None
    parent_id: str | None = None
    element_map: Mapping[str, Mapping[str, int]] | None = None
    cost: float | None = None
    match_rms: float | None = None
    confirm_rms: float | None = None
    share_exchanged: float | None = None
    n_parents: int | None = None
    duplicate_group: int | None = None
    n_relaxations: int | None = None
    seconds: float | None = None
    error: str | None = None
    readable: bool = True
    parents: tuple[TriedParent, ...] = ()
    shortest_distance: float | None = None
    volume_per_atom: float | None = None
    novel_by_matching: bool | None = None
    matching_id: str | None = None
    matching_error: str | None = None
    matching_group: int | None = None
    sample_cells: int | None = None
    parent_cells: int | None = None
    given_energy: float | None = None
    n_competing: int | None = None
    decomposition: Mapping[str, float] | None = None
    structures: CrystalRecords | None = field(default=None, compare=False, repr=False)

    @property
    def no_competing_compound(self) -> bool | None:
        """Whether its hull rests on the elements alone, see `rests_on_elements`."""
        return rests_on_elements(self.decomposition)


def rests_on_elements(decomposition: Mapping[str, float] | None) -> bool | None:
    """Whether a compound decomposes into nothing but elements, as where no compound is known.

    Its energy above hull is then its formation energy: one far below zero says nothing against it.
    False for the crystal of an element, which competes with the known crystals of that element;
    None where the decomposition is not known.

    Parameters
    ----------
    decomposition : mapping or None
        By formula, as in `CrystalResult`.
    """
    if decomposition is None:
        return None
    products = [set(re.findall(r"[A-Z][a-z]?", formula)) for formula in decomposition]
    return len(products) > 1 and all(len(elements) == 1 for elements in products)
