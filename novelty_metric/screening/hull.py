"""Step 3: energy above the convex hull of known crystals."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.screening.elements import elemental_energies

if TYPE_CHECKING:
    from pymatgen.core import Composition

    from novelty_metric.reference.store import CompositionKey, Reference

_CACHED_SYSTEMS = 4096


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


class ReferenceHull:
    """Hull of the reference's own crystals, with energies of the metric's potential.

    Elements of which the reference holds no crystal with an energy are taken from a table of
    Materials Project energies, which fits potentials trained on MP2020-corrected energies, as
    CHGNet was; `elements_from_table` names them.

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

    Notes
    -----
    The hull's energy at a composition is that of the cheapest mixture of known crystals which has
    this composition: a linear programme with one variable per known composition. It equals
    pymatgen's `PhaseDiagram` (Ong et al., Chem. Mater. 20, 1798 (2008)), whose facets take minutes
    from eleven elements on. The crystal asked about is never part of the hull.
    """

    def __init__(
        self,
        reference: Reference,
        energies: np.ndarray,
        *,
        table: Mapping[str, float] | None = None,
    ) -> None:
        values = np.asarray(energies, dtype=np.float64)
        if values.shape != (len(reference),):
            raise InputError(
                f"{values.size} energies for the {len(reference)} crystals of {reference.name!r}"
            )
        self._reference = reference
        self._energies = values
        self._table = elemental_energies() if table is None else dict(table)
        self._masks, self._lowest = _lowest_by_elements(reference, values)
        self._systems: OrderedDict[tuple[int, ...], _ChemicalSystem | None] = OrderedDict()

    @property
    def name(self) -> str:
        """``"reference"``."""
        return "reference"

    @property
    def elements_from_table(self) -> tuple[str, ...]:
        """Elements whose energy comes from the table, by atomic number."""
        from pymatgen.core import Element

        own = {
            crystals[0].elements[0] for crystals in self._lowest if len(crystals[0].elements) == 1
        }
        numbers = {symbol: Element(symbol).Z for symbol in self._table}
        return tuple(
            sorted((s for s, z in numbers.items() if z not in own), key=numbers.__getitem__)
        )

    def e_above_hull(self, composition: Composition, energy_per_atom: float) -> float | None:
        """See `Hull.e_above_hull`.

        None also where an element of the composition has neither a crystal with an energy nor a
        figure in the table, or the energy is not finite.
        """
        if not math.isfinite(energy_per_atom):
            return None
        amounts = sorted((element.Z, float(n)) for element, n in composition.items())
        system = self._system(tuple(z for z, _ in amounts))
        if system is None:
            return None
        return energy_per_atom - system.hull_energy(np.array([n for _, n in amounts]))

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

    def _system(self, elements: tuple[int, ...]) -> _ChemicalSystem | None:
        """What is known of a chemical system, None if an element has no energy."""
        if elements in self._systems:
            self._systems.move_to_end(elements)
            return self._systems[elements]
        system = self._gather(elements)
        self._systems[elements] = system
        if len(self._systems) > _CACHED_SYSTEMS:
            self._systems.popitem(last=False)
        return system

    def _gather(self, elements: tuple[int, ...]) -> _ChemicalSystem | None:
        from pymatgen.core import Element

        within = np.flatnonzero(~(self._masks & ~_mask(elements)).any(axis=1))
        known = [
            (crystal.key, crystal.energy_per_atom)
            for group in within.tolist()
            for crystal in self._lowest[group]
        ]
        own = {key[0][0] for key, _ in known if len(key) == 1}
        for z in elements:
            if z in own:
                continue
            symbol = Element.from_Z(z).symbol
            if symbol not in self._table:
                return None
            known.append((((z, 1),), self._table[symbol]))
        rows = {z: row for row, z in enumerate(elements)}
        fractions = np.zeros((len(elements), len(known)))
        for column, (key, _) in enumerate(known):
            n_atoms = sum(n for _, n in key)
            for z, n in key:
                fractions[rows[z], column] = n / n_atoms
        return _ChemicalSystem(fractions, np.array([energy for _, energy in known]))


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
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
        if result.status != 0:  # the elements span every composition, so this is a solver's fault
            raise RuntimeError(f"the hull at {amounts.tolist()} was not found: {result.message}")
        return float(result.fun)


@dataclass(frozen=True, slots=True)
class _LowestCrystal:
    """The crystal of lowest energy of one reduced composition."""

    key: CompositionKey
    index: int
    energy_per_atom: float

    @property
    def elements(self) -> tuple[int, ...]:
        return tuple(z for z, _ in self.key)


def _mask(elements: Iterable[int]) -> np.ndarray:
    """Set of atomic numbers as bits of two words, uint64 (2,)."""
    bits = sum(1 << z for z in elements)
    return np.array([bits & 0xFFFFFFFFFFFFFFFF, bits >> 64], dtype=np.uint64)


def _lowest_by_elements(
    reference: Reference, energies: np.ndarray
) -> tuple[np.ndarray, list[list[_LowestCrystal]]]:
    """Lowest crystal of each composition, grouped by set of elements.

    Returns the sets as bits, uint64 (n_sets, 2), and for each set its crystals. Of one composition
    only the lowest crystal can be on the hull.
    """
    lowest: dict[CompositionKey, _LowestCrystal] = {}
    for index, energy in enumerate(energies.tolist()):
        if not math.isfinite(energy):
            continue
        key = reference.composition_key(index)
        if key not in lowest or energy < lowest[key].energy_per_atom:
            lowest[key] = _LowestCrystal(key, index, energy)
    groups: dict[tuple[int, ...], list[_LowestCrystal]] = {}
    for crystal in lowest.values():
        groups.setdefault(crystal.elements, []).append(crystal)
    masks = np.array([_mask(elements) for elements in groups], dtype=np.uint64).reshape(-1, 2)
    return masks, list(groups.values())
