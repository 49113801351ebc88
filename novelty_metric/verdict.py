"""Types of a result: verdicts, evidence, and the row of a crystal (`scoring/case.py` decides)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    from novelty_metric.crystal_records import CrystalRecords


class Verdict(StrEnum):
    """The verdict of one crystal."""

    DUPLICATE = "duplicate"
    SUBSTITUTED = "substituted"
    UNMATCHED = "unmatched"
    UNDECIDED = "undecided"


UNDER_BOTH = "unmatched_under_both"
"""Name, in place of a verdict, of the crystals that are unmatched with the second potential too."""


class Route(StrEnum):
    """The route by which a parent was found; with `BOTH`, also the paper's sub-kinds."""

    LATTICE_SITES = "lattice_sites"
    WYCKOFF = "wyckoff"


class Kind(StrEnum):
    """The routes with a confirmed parent (known only if every parent was relaxed)."""

    BOTH = "both"
    LATTICE_SITES = "lattice_sites"
    WYCKOFF = "wyckoff"


RMS = "(V/N)^(1/3)"
PETTIFOR = "modified Pettifor number"


@dataclass(frozen=True, slots=True)
class Column:
    """Meaning of a field in the files of a report; its Arrow type follows from its Python type.

    Attributes
    ----------
    unit : str
        ``"1"`` for a number without one, ``"JSON"`` for text that holds a mapping or a list.
    meaning : str
        Empty where the name says it.
    file : str
        Which of the files with a row per sample has it: ``"verdicts"`` or ``"quality"``.
    """

    unit: str
    meaning: str = ""
    file: str = "verdicts"


def _quality(unit: str, meaning: str) -> Column:
    return Column(unit, meaning, "quality")


_PARENT_ID = Column("", "reference crystal: parent, or original of a duplicate")
_COST = Column(PETTIFOR, "mean difference over the atoms")
_MATCH_RMS = Column(RMS, "distance of the sites in the geometric match")
_CONFIRM_RMS = Column(RMS, "distance from the relaxed parent")
_ELEMENT_MAP = Column("JSON", "new elements by element of the parent")
_SHARE_EXCHANGED = Column("1", "share of the sites whose element changes")

Supercell = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A reference crystal that can be the parent of a generated crystal, with the atom map.

    Each `Column` gives the meaning of its field. `elements` has the generated crystal's element on
    each site of the parent (of its supercell, if any), in site order. `supercell` is the matrix for
    ``Structure.make_supercell`` of the reduced parent.
    """

    route: Annotated[Route, Column("", "on which the parent was found")]
    rank: Annotated[int, Column("1", "from 1, cheapest first, within the route")]
    index: Annotated[int, Column("1", "position in the reference")]
    parent_id: Annotated[str, _PARENT_ID]
    cost: Annotated[float, _COST]
    match_rms: Annotated[float | None, _MATCH_RMS]
    supercell: Annotated[
        Supercell | None,
        Column("JSON", "matrix for the reduced parent; null if it is not expanded"),
    ]
    elements: Annotated[tuple[str, ...], Column("", "new element on each site")]
    element_map: Annotated[Mapping[str, Mapping[str, int]], _ELEMENT_MAP]
    share_exchanged: Annotated[float, _SHARE_EXCHANGED]

    @property
    def order(self) -> tuple[float, bool, int]:
        """Sorting key of a crystal's candidates over both routes; the least is relaxed first.

        The cheapest first; of equal cost lattice and sites first, then by rank.
        """
        return self.cost, self.route is not Route.LATTICE_SITES, self.rank


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedParent:
    """A candidate parent and the result of its relaxation.

    `converged` and `confirmed` are None if there was no relaxation. `error` gives the reason of a
    failed relaxation. `ended_early` is ``"accepted"`` or ``"refused"`` if an approximation of the
    protocol ended the relaxation before convergence. `energy_per_atom` (eV/atom) and `volume_ratio`
    (volume after / before the relaxation) are those of its last geometry.
    """

    parent: Parent
    relaxed: Annotated[bool, Column("")] = False
    converged: Annotated[bool | None, Column("")] = None
    confirmed: Annotated[bool | None, Column("", "matches the crystal after its relaxation")] = None
    confirm_rms: Annotated[float | None, _CONFIRM_RMS] = None
    steps: Annotated[int | None, Column("1", "of its relaxation")] = None
    ended_early: Annotated[str | None, Column("", "accepted or refused before it converged")] = None
    energy_per_atom: Annotated[float | None, Column("eV/atom", "by the potential")] = None
    volume_ratio: Annotated[float | None, Column("1", "volume after / before the relaxation")] = (
        None
    )
    error: Annotated[str | None, Column("", "why its relaxation gave no result")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateMatch:
    """The reference crystal that a generated crystal duplicates.

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
    """The row of one sample: its verdict and the evidence.

    Each `Column` gives the meaning of its field. If a sample could not be scored, `verdict` is
    None, and `error` gives the reason. For an unmatched or undecided crystal, the parent fields
    describe the cheapest tried parent.

    `novel_by_matching` has another rule than the duplicate test: pymatgen's `StructureMatcher()`
    with its defaults. If it and `matching_id` are None, `matching_error` gives the reason.
    `sample_cells` and `parent_cells` are those of `DuplicateMatch`. `structures` contains the
    crystals; a report that was loaded from files does not have them by default.

    If `given_energy` is known, `e_above_hull` is computed from it, not from the potential's
    `energy_per_atom`. `decomposition` gives the crystals of the hull at this composition; it and
    `n_competing` are None if the hull does not give them.
    """

    id: Annotated[str, Column("", "name of the sample, unique in the run")]
    source: Annotated[str | None, Column("", "its file and position there")] = None
    formula: Annotated[str | None, Column("", "reduced formula")] = None
    n_sites: Annotated[int | None, Column("1", "sites of the generated crystal")] = None
    space_group: Annotated[int | None, Column("1", "number of the space group")] = None
    crystal_system: Annotated[str | None, Column("")] = None
    new_prototype: Annotated[
        bool | None,
        Column("", "no reference crystal has its space group and occupied Wyckoff positions"),
    ] = None
    smact_valid: Annotated[
        bool | None, Column("", "accepted by SMACT's test of the composition")
    ] = None
    converged: Annotated[bool | None, Column("", "its relaxation converged")] = None
    energy_per_atom: Annotated[float | None, Column("eV/atom", "by the potential")] = None
    e_above_hull: Annotated[float | None, Column("eV/atom", "distance from the hull")] = None
    energy_suspect: Annotated[bool | None, Column("", "implausibly far below the hull")] = None
    eligible: Annotated[bool | None, Column("", "counted in the novelty")] = None
    verdict: Annotated[Verdict | None, Column("")] = None
    verdict_second: Annotated[Verdict | None, Column("", "with the second potential")] = None
    route: Annotated[Route | None, Column("", "on which the parent was found")] = None
    kind: Annotated[Kind | None, Column("", "routes with a confirmed parent")] = None
    parent_id: Annotated[str | None, _PARENT_ID] = None
    element_map: Annotated[Mapping[str, Mapping[str, int]] | None, _ELEMENT_MAP] = None
    cost: Annotated[float | None, _COST] = None
    match_rms: Annotated[float | None, _MATCH_RMS] = None
    confirm_rms: Annotated[float | None, _CONFIRM_RMS] = None
    share_exchanged: Annotated[float | None, _SHARE_EXCHANGED] = None
    n_parents: Annotated[int | None, Column("1", "candidate parents")] = None
    duplicate_group: Annotated[
        int | None, Column("1", "number of its group of equal samples, from 0")
    ] = None
    n_relaxations: Annotated[int | None, Column("1", "relaxations of parents")] = None
    seconds: Annotated[float | None, Column("s", "computing time")] = None
    error: Annotated[str | None, Column("", "why it was not scored, or is undecided")] = None
    readable: bool = True
    parents: tuple[TriedParent, ...] = ()
    shortest_distance: Annotated[
        float | None, _quality("angstrom", "between two atoms, images included, as generated")
    ] = None
    volume_per_atom: Annotated[float | None, _quality("angstrom^3", "as generated")] = None
    novel_by_matching: Annotated[
        bool | None,
        _quality("", "pymatgen's StructureMatcher() accepts no reference crystal"),
    ] = None
    matching_id: Annotated[str | None, _quality("", "the reference crystal that it accepts")] = None
    matching_error: Annotated[str | None, _quality("", "why plain matching has no result")] = None
    matching_group: Annotated[
        int | None, _quality("1", "number of its group of equal samples by plain matching")
    ] = None
    sample_cells: Annotated[
        int | None, _quality("1", "reduced cells of the sample that the duplicate test compared")
    ] = None
    parent_cells: Annotated[int | None, _quality("1", "reduced cells of the reference crystal")] = (
        None
    )
    given_energy: Annotated[float | None, _quality("eV/atom", "energy given with the sample")] = (
        None
    )
    n_competing: Annotated[
        int | None, _quality("1", "compositions of known compounds in its chemical system")
    ] = None
    decomposition: Annotated[
        Mapping[str, float] | None,
        _quality("JSON", "decomposition on the hull: share of the atoms by formula"),
    ] = None
    saddle: Annotated[bool | None, _quality("", "its relaxation ended at a saddle point")] = None
    energy_below: Annotated[
        float | None,
        _quality("eV/atom", "energy of the saddle point above the lowest minimum found"),
    ] = None
    relaxation_energy: Annotated[
        float | None, _quality("eV/atom", "by the potential, relaxed minus generated")
    ] = None
    parent_id_second: Annotated[
        str | None, _quality("", "reference crystal with the second potential")
    ] = None
    error_second: Annotated[
        str | None, _quality("", "why it is undecided with the second potential")
    ] = None
    relaxation_rmsd: Annotated[
        float | None,
        _quality(RMS, "of the generated crystal from the relaxed one, as Matbench Discovery"),
    ] = None
    structures: CrystalRecords | None = field(default=None, compare=False, repr=False)

    @property
    def unmatched_under_both(self) -> bool:
        """True if the crystal is unmatched with both potentials."""
        return self.verdict == self.verdict_second == Verdict.UNMATCHED

    @property
    def no_competing_compound(self) -> bool | None:
        """True if the hull at this crystal rests on the elements alone, see `rests_on_elements`."""
        return rests_on_elements(self.decomposition)


def rests_on_elements(decomposition: Mapping[str, float] | None) -> bool | None:
    """True if a compound decomposes only into elements, as in a system without known compounds.

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
