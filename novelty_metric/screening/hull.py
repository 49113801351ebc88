"""Step 3: energy above the convex hull of known crystals."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.screening.elements import elemental_energies

if TYPE_CHECKING:
    from pymatgen.core import Composition

    from novelty_metric.progress import ProgressCallback
    from novelty_metric.reference.store import Reference

CompositionKey = tuple[tuple[int, float], ...]
"""Atomic numbers in increasing order, each with its amount; equal for equal compositions."""

MOST_STEPS = 20_000
"""Steps of the linear programme of one composition; 94 elements on 24,264 crystals take 400."""

_CACHED_SYSTEMS = 4096
_CACHED_NUMBERS = 20_000
"""Chemical systems that are kept, and numbers of the largest of them: 650 MB at most."""


class Hull(Protocol):
    """Gives energies above a hull whose energies fit the potential's."""

    @property
    def name(self) -> str:
        """Name under which a report cites the hull."""
        ...

    def e_above_hull(self, composition: Composition, energy_per_atom: float) -> float | None:
        """Energy minus the hull's at that composition (eV/atom), or None if there is no hull.

        Negative for what is more stable than anything the hull is made of.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What the hull is made of, as plain values."""
        ...


@runtime_checkable
class HullSource(Protocol):
    """A hull that is made once it is known which potential's energies it has to fit."""

    def open(self, potential: str, *, progress: ProgressCallback) -> Hull:
        """The hull for the potential of that name.

        Raises
        ------
        InputError
            If what it is made of can't be had or read.
        """
        ...


class Energies(StrEnum):
    """Which energies of the Materials Project a hull is made of."""

    AUTO = "auto"
    CORRECTED = "corrected"
    UNCORRECTED = "uncorrected"


def fitting_energies(potential: str, asked: str) -> Energies:
    """The energies that fit a potential: as asked, or by what it was trained on.

    Parameters
    ----------
    potential : str
        Its name, as in `PotentialInfo`.
    asked : str
        One of `Energies`.

    Raises
    ------
    InputError
        If `asked` is none of these, or is ``auto`` and the potential is not a known one.

    Notes
    -----
    CHGNet was trained on energies with the MP2020 corrections (Deng et al., Nat. Mach. Intell. 5,
    1031 (2023)), MACE-MPA-0 on those without (Batatia et al., arXiv 2401.00096).
    """
    if asked not in tuple(Energies):
        raise InputError(f"hull.energies is {asked!r}; known: {', '.join(Energies)}")
    if asked != Energies.AUTO:
        return Energies(asked)
    if potential == "chgnet":
        return Energies.CORRECTED
    if "mpa-0" in potential:
        return Energies.UNCORRECTED
    raise InputError(
        f"which energies fit the potential {potential!r} is not known; say "
        "hull.energies=corrected (MP2020) or hull.energies=uncorrected, as it was trained on"
    )


class NoHull:
    """No hull: every energy above it is unknown."""

    @property
    def name(self) -> str:
        """``"none"``."""
        return "none"

    def e_above_hull(self, composition: Composition, energy_per_atom: float) -> float | None:
        """None."""
        return None

    def describe(self) -> dict[str, Any]:
        """Only the name."""
        return {"name": self.name}


class LowerHull:
    """The least energy of any mixture of known crystals, composition by composition.

    Parameters
    ----------
    crystals : iterable of (CompositionKey, float)
        Compositions and energies (eV/atom); energies that are not finite are left out.

    Attributes
    ----------
    n_compositions : int
        Different compositions known.
    elements : frozenset of int
        Atomic numbers with an elemental crystal; the hull spans their compounds.

    Notes
    -----
    The energy at a composition is that of the cheapest mixture of known crystals which has this
    composition: a linear programme with one variable per known composition. It equals pymatgen's
    `PhaseDiagram` (Ong et al., Chem. Mater. 20, 1798 (2008)), whose facets take minutes from eleven
    elements on.
    """

    def __init__(self, crystals: Iterable[tuple[CompositionKey, float]]) -> None:
        lowest = _lowest(crystals)
        groups: dict[tuple[int, ...], list[tuple[CompositionKey, float]]] = {}
        for key, energy in lowest.items():
            groups.setdefault(tuple(z for z, _ in key), []).append((key, energy))
        self.n_compositions = len(lowest)
        self.elements = frozenset(elements[0] for elements in groups if len(elements) == 1)
        self._groups = list(groups.values())
        self._masks = np.array([_mask(elements) for elements in groups], dtype=np.uint64)
        self._masks = self._masks.reshape(-1, 2)
        self._systems: OrderedDict[tuple[int, ...], _ChemicalSystem | None] = OrderedDict()

    def energy(self, composition: Composition) -> float | None:
        """Energy of the hull (eV/atom), None where an element has no elemental crystal."""
        amounts: dict[int, float] = {}
        for element, amount in composition.items():
            amounts[element.Z] = amounts.get(element.Z, 0.0) + float(amount)
        elements = tuple(sorted(amounts))
        system = self._system(elements)
        if system is None:
            return None
        return system.hull_energy(np.array([amounts[z] for z in elements]))

    def _system(self, elements: tuple[int, ...]) -> _ChemicalSystem | None:
        """What is known of a chemical system, None if an element is missing."""
        if elements in self._systems:
            self._systems.move_to_end(elements)
            return self._systems[elements]
        system = self._gather(elements)
        if system is None or system.fractions.size <= _CACHED_NUMBERS:
            self._systems[elements] = system
        if len(self._systems) > _CACHED_SYSTEMS:
            self._systems.popitem(last=False)
        return system

    def _gather(self, elements: tuple[int, ...]) -> _ChemicalSystem | None:
        if not self.elements.issuperset(elements):
            return None
        within = np.flatnonzero(~(self._masks & ~_mask(elements)).any(axis=1))
        known = [crystal for group in within.tolist() for crystal in self._groups[group]]
        rows = {z: row for row, z in enumerate(elements)}
        fractions = np.zeros((len(elements), len(known)))
        for column, (key, _) in enumerate(known):
            n_atoms = sum(n for _, n in key)
            for z, n in key:
                fractions[rows[z], column] = n / n_atoms
        return _ChemicalSystem(fractions, np.array([energy for _, energy in known]))


class ReferenceHull:
    """Hull of the reference's own crystals, with energies of the metric's potential.

    Elements of which the reference holds no crystal with an energy are taken from a table of
    Materials Project energies, which fits potentials trained on MP2020-corrected energies, as
    CHGNet was; `elements_from_table` names them. The crystal asked about is never part of the hull.

    Parameters
    ----------
    reference : Reference
    energies : (M,)
        eV/atom of each crystal of the reference; NaN leaves the crystal out.
    table : mapping, optional
        Energy of elements (eV/atom) by symbol; default the packaged one, ``{}`` for none.

    Raises
    ------
    InputError
        If there is not one energy per crystal.
    """

    def __init__(
        self,
        reference: Reference,
        energies: np.ndarray,
        *,
        table: Mapping[str, float] | None = None,
    ) -> None:
        from pymatgen.core import Element

        values = np.asarray(energies, dtype=np.float64)
        if values.shape != (len(reference),):
            raise InputError(
                f"{values.size} energies for the {len(reference)} crystals of {reference.name!r}"
            )
        self._reference = reference
        self._energies = values
        own: list[tuple[CompositionKey, float]] = [
            (reference.composition_key(index), energy)
            for index, energy in enumerate(values.tolist())
            if math.isfinite(energy)
        ]
        elements = {key[0][0] for key, _ in own if len(key) == 1}
        given = elemental_energies() if table is None else table
        numbers = {symbol: Element(symbol).Z for symbol in given}
        missing = [symbol for symbol, z in numbers.items() if z not in elements]
        self.elements_from_table = tuple(sorted(missing, key=numbers.__getitem__))
        """Symbols of the elements whose energy comes from the table, by atomic number."""
        added = [(((numbers[symbol], 1),), given[symbol]) for symbol in missing]
        self._lower = LowerHull([*own, *added])

    @property
    def name(self) -> str:
        """``"reference"``."""
        return "reference"

    def e_above_hull(self, composition: Composition, energy_per_atom: float) -> float | None:
        """See `Hull.e_above_hull`.

        None also where an element of the composition has neither a crystal with an energy nor a
        figure in the table, or the energy is not finite.
        """
        return _above(self._lower, composition, energy_per_atom)

    def describe(self) -> dict[str, Any]:
        """What the hull is made of, as plain values."""
        return {
            "name": self.name,
            "reference": self._reference.name,
            "crystals_hash": self._reference.crystals_hash,
            "crystals": int(np.isfinite(self._energies).sum()),
            "crystals_without_energy": int(np.isnan(self._energies).sum()),
            "elements_from_table": list(self.elements_from_table),
        }


def _above(lower: LowerHull, composition: Composition, energy_per_atom: float) -> float | None:
    if not math.isfinite(energy_per_atom):
        return None
    energy = lower.energy(composition)
    return None if energy is None else energy_per_atom - energy


class KnownHull:
    """Hull of given compositions and energies.

    Parameters
    ----------
    crystals : iterable of (CompositionKey, float)
        Compositions and energies (eV/atom).
    description : mapping
        What `describe` says; with its ``name``.
    """

    def __init__(
        self, crystals: Iterable[tuple[CompositionKey, float]], description: Mapping[str, Any]
    ) -> None:
        self._lower = LowerHull(crystals)
        self._description = {
            **description,
            "compositions": self._lower.n_compositions,
            "elements": len(self._lower.elements),
        }

    @property
    def name(self) -> str:
        """That of the description."""
        return str(self._description["name"])

    def e_above_hull(self, composition: Composition, energy_per_atom: float) -> float | None:
        """See `Hull.e_above_hull`; None also where an element has no elemental crystal."""
        return _above(self._lower, composition, energy_per_atom)

    def describe(self) -> dict[str, Any]:
        """The description, the number of compositions, and of elements with a crystal."""
        return dict(self._description)


@dataclass(frozen=True, slots=True)
class _ChemicalSystem:
    """Known compositions of a chemical system, every element among them.

    Attributes
    ----------
    fractions : (n_elements, n_known)
        Share of the atoms.
    energies : (n_known,)
        eV/atom.
    """

    fractions: np.ndarray
    energies: np.ndarray

    def hull_energy(self, amounts: np.ndarray) -> float:
        """Energy of the hull (eV/atom) at a composition given by amounts, (n_elements,)."""
        from scipy.optimize import linprog

        result = linprog(
            self.energies,
            A_eq=self.fractions,
            b_eq=amounts / amounts.sum(),
            bounds=(0, None),
            method="highs-ds",
            options={
                "maxiter": MOST_STEPS,
                "primal_feasibility_tolerance": 1e-10,
                "dual_feasibility_tolerance": 1e-10,
            },
        )
        if result.status != 0:  # the elements span every composition: a fault, or too many steps
            raise RuntimeError(f"the hull at {amounts.tolist()} was not found: {result.message}")
        return float(result.fun)


def _mask(elements: Iterable[int]) -> np.ndarray:
    """Set of atomic numbers as bits of two words, uint64 (2,)."""
    bits = sum(1 << z for z in elements)
    return np.array([bits & 0xFFFFFFFFFFFFFFFF, bits >> 64], dtype=np.uint64)


def _lowest(crystals: Iterable[tuple[CompositionKey, float]]) -> dict[CompositionKey, float]:
    """Lowest energy of each composition: of one composition, only that crystal can matter."""
    lowest: dict[CompositionKey, float] = {}
    for key, energy in crystals:
        if math.isfinite(energy) and not energy >= lowest.get(key, math.inf):
            lowest[key] = energy
    return lowest
