"""Energy above the convex hull of known crystals."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.relaxation.potentials import published_model
from novelty_metric.screening.compositions import CompositionKey, Compositions, elemental_energies
from novelty_metric.screening.mixture import cheapest_mixture

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

    from novelty_metric.reference.store import Reference
    from novelty_metric.support.progress import ProgressCallback

_CACHED_SYSTEMS = 4096
_CACHED_NUMBERS = 20_000
"""Maximum number of cached chemical systems, and of numbers in the largest of them (650 MB in
total).
"""
_TIE = 1e-3
"""Mixtures whose energies differ by less (eV/atom) are equal; no energy is known more precisely."""
_LEAST_SHARE = 1e-6
"""A smaller atomic fraction in a mixture is rounding error."""


@dataclass(frozen=True, slots=True)
class HullDistance:
    """Distance of a crystal from a hull, and the crystals of the hull at that composition.

    Attributes
    ----------
    e_above_hull : float
        eV/atom; negative for what is more stable than anything the hull is made of.
    n_competing : int or None
        Compositions of compounds that the hull knows inside the crystal's chemical system, its own
        composition included and elements not counted. None if the hull does not tell.
    decomposition : mapping or None
        Reduced formula of each crystal that the hull is made of at this composition, with its share
        of the atoms, the largest first. None if the hull does not tell.
    """

    e_above_hull: float
    n_competing: int | None = None
    decomposition: Mapping[str, float] | None = None


class Hull(Protocol):
    """Protocol of a hull: energies above hull, on the energy scale of the potential.

    A hull that can also say what it is made of has a method ``distance``, which takes the crystal
    as a third argument and gives a `HullDistance` or None; see `hull_distance`.
    """

    @property
    def name(self) -> str:
        """Name of the hull in reports."""
        ...

    def e_above_hull(self, composition: Composition, energy_per_atom: float) -> float | None:
        """Energy minus the hull's energy at this composition (eV/atom); None if there is no hull.

        Negative for what is more stable than anything the hull is made of.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Description of the hull, as plain values."""
        ...


def hull_without(hull: Hull, key: CompositionKey) -> Hull:
    """The hull without the crystals of one composition; elements stay.

    A hull of the user's own, which does not offer it, stays as it is.
    """
    lower = getattr(hull, "lower", None)
    if not isinstance(lower, LowerHull) or len(key) == 1:
        return hull
    changed = copy.copy(hull)
    changed.lower = lower.without(key)  # type: ignore[attr-defined]
    return changed


def hull_distance(
    hull: Hull,
    composition: Composition,
    energy_per_atom: float,
    structure: Structure | None = None,
) -> HullDistance | None:
    """The answer of a hull that has ``distance``, or only ``e_above_hull``.

    None without a hull for the composition, or where the answer is not finite.
    """
    measure = getattr(hull, "distance", None)
    if measure is None:
        above = hull.e_above_hull(composition, energy_per_atom)
        found = None if above is None else HullDistance(float(above))
    else:
        found = measure(composition, energy_per_atom, structure)
    return found if found is not None and math.isfinite(found.e_above_hull) else None


@runtime_checkable
class HullSource(Protocol):
    """A hull that is opened when the potential, and with it the energy scale, is known."""

    def open(self, potential: str, *, progress: ProgressCallback) -> Hull:
        """The hull for the potential with this name, or for energies of the `SAMPLES`.

        Raises
        ------
        InputError
            If what it is made of can't be had or read.
        """
        ...


class Energies(StrEnum):
    """The kind of energies that are compared with a hull; the hull consists of the same kind.

    Total energies with the MP2020 corrections of the Materials Project or without, or formation
    energies of its scheme; ``auto``: what fits the potential.
    """

    AUTO = "auto"
    CORRECTED = "corrected"
    UNCORRECTED = "uncorrected"
    FORMATION = "formation"


SAMPLES = "the samples"
"""Used instead of a potential's name if the energies come with the samples."""


def fitting_energies(potential: str, asked: str) -> Energies:
    """The kind of energies that fits a potential: the requested one, or that of its training data.

    Parameters
    ----------
    potential : str
        Its name, as in `PotentialInfo`; or `SAMPLES`.
    asked : str
        One of `Energies`.

    Raises
    ------
    InputError
        If `asked` is not one of these, is ``auto`` and the potential is not a known one, or is
        ``formation``, which no potential gives.

    Notes
    -----
    What a potential was trained on stands in `novelty_metric.relaxation.potentials`. That of
    SevenNet was measured: with the corrections added, its energies are those of the Materials
    Project (see ``benchmarks/README.md``).
    """
    if asked not in tuple(Energies):
        raise InputError(f"hull.energies is {asked!r}; known: {', '.join(Energies)}")
    if asked == Energies.FORMATION and potential != SAMPLES:
        raise InputError(
            f"hull.energies=formation, but {potential} gives total energies; set it to corrected "
            "or uncorrected"
        )
    if asked != Energies.AUTO:
        return Energies(asked)
    known = known_energies(potential)
    if known is None:
        raise InputError(
            f"the energies that the potential {potential!r} was trained on are not known; set "
            "hull.energies=corrected (MP2020) or hull.energies=uncorrected"
        )
    return known


def known_energies(potential: str) -> Energies | None:
    """Kind of energies in the training data of the potential with this name; None if unknown."""
    found = published_model(potential)
    return None if found is None else Energies(found.trained_on)


class LowerHull:
    """The lowest energy of any mixture of known crystals, for each composition.

    Parameters
    ----------
    compositions : Compositions
    energies : float64, (N,)
        eV/atom; those that are not finite are left out.

    Attributes
    ----------
    n_compositions : int
        Compositions with an energy.
    elements : frozenset of int
        Atomic numbers with an elemental crystal; the hull spans their compounds.

    Notes
    -----
    The energy at a composition is that of the cheapest mixture of known crystals which has this
    composition: a linear programme with one variable per known composition. It equals pymatgen's
    `PhaseDiagram` (Ong et al., Chem. Mater. 20, 1798 (2008)), whose facets take minutes from eleven
    elements on.
    """

    def __init__(self, compositions: Compositions, energies: np.ndarray) -> None:
        self._compositions = compositions
        self._energies = np.asarray(energies, dtype=np.float64)
        self._known = np.isfinite(self._energies)
        self.n_compositions = int(self._known.sum())
        single = self._known & (compositions.n_elements == 1)
        self.elements = frozenset(compositions.numbers[compositions.starts[:-1][single]].tolist())
        self._systems: OrderedDict[tuple[int, ...], _ChemicalSystem | None] = OrderedDict()

    @classmethod
    def of(cls, crystals: Iterable[tuple[CompositionKey, float]]) -> LowerHull:
        """Make it from compositions and energies (eV/atom); the lowest per composition counts."""
        lowest: dict[CompositionKey, float] = {}
        for key, energy in crystals:
            if math.isfinite(energy) and not energy >= lowest.get(key, math.inf):
                lowest[key] = energy
        return cls(Compositions.of(lowest), np.array(list(lowest.values()), dtype=np.float64))

    def without(self, key: CompositionKey) -> LowerHull:
        """The hull without the crystals of one composition."""
        elements = tuple(z for z, _ in key)
        within = self._compositions.within(elements)
        energies = self._energies.copy()
        energies[[at for at in within.tolist() if self._compositions.key(at) == key]] = np.nan
        return LowerHull(self._compositions, energies)

    def distance(self, composition: Composition, energy_per_atom: float) -> HullDistance | None:
        """Distance from the hull, and the crystals of the hull at this composition.

        None where an element has no elemental crystal, or the energy (eV/atom) is not finite.
        """
        if not math.isfinite(energy_per_atom):
            return None
        amounts: dict[int, float] = {}
        for element, amount in composition.items():
            amounts[element.Z] = amounts.get(element.Z, 0.0) + float(amount)
        elements = tuple(sorted(amounts))
        system = self._system(elements)
        if system is None:
            return None
        energy, shares = system.hull(np.array([amounts[z] for z in elements]))
        largest_first = sorted(shares, key=lambda position: (-shares[position], position))
        return HullDistance(
            energy_per_atom - energy,
            n_competing=int((self._compositions.n_elements[system.positions] > 1).sum()),
            decomposition={
                _formula(self._compositions.key(position)): shares[position]
                for position in largest_first
            },
        )

    def _system(self, elements: tuple[int, ...]) -> _ChemicalSystem | None:
        """The known crystals of a chemical system; None if an element is missing."""
        if elements in self._systems:
            self._systems.move_to_end(elements)
            return self._systems[elements]
        system = None
        if self.elements.issuperset(elements):
            within = self._compositions.within(elements)
            within = within[self._known[within]]
            fractions = self._compositions.fractions_of(within, elements)
            system = _ChemicalSystem(within, fractions, self._energies[within])
        if system is None or system.fractions.size <= _CACHED_NUMBERS:
            self._systems[elements] = system
        if len(self._systems) > _CACHED_SYSTEMS:
            self._systems.popitem(last=False)
        return system


class KnownHull:
    """A hull of total energies, made of known crystals; the description holds its ``name``."""

    def __init__(self, lower: LowerHull, description: Mapping[str, Any]) -> None:
        self.lower = lower
        self._description = dict(description)

    @property
    def name(self) -> str:
        """The name in the description."""
        return str(self._description["name"])

    def describe(self) -> dict[str, Any]:
        """Description of the hull, as plain values."""
        return dict(self._description)

    def e_above_hull(
        self,
        composition: Composition,
        energy_per_atom: float,
        structure: Structure | None = None,
    ) -> float | None:
        """See `Hull.e_above_hull`.

        None also where an element of the composition has no elemental energy, or the energy is not
        finite. The structure matters where the energies get the MP2020 corrections; it tells oxides
        from peroxides and superoxides.
        """
        found = self.distance(composition, energy_per_atom, structure)
        return None if found is None else found.e_above_hull

    def distance(
        self,
        composition: Composition,
        energy_per_atom: float,
        structure: Structure | None = None,
    ) -> HullDistance | None:
        """The distance from the hull, with the hull's composition there; ignores the structure."""
        return self.lower.distance(composition, energy_per_atom)


class ReferenceHull(KnownHull):
    """Hull of the reference's own crystals, with energies of the metric's potential.

    Elements of which the reference holds no crystal with an energy are taken from a table of
    Materials Project energies, which fits potentials trained on MP2020-corrected energies, as
    CHGNet was; the description names them. The crystal asked about is never part of the hull.

    Parameters
    ----------
    reference : Reference
    energies : (M,)
        eV/atom of each crystal of the reference; NaN leaves the crystal out.
    table : mapping, optional
        Energy of elements (eV/atom) by symbol; default the packaged one, ``{}`` for none.
    note : str, optional
        Why this hull was chosen, for reports.

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
        note: str | None = None,
    ) -> None:
        from pymatgen.core import Element

        values = np.asarray(energies, dtype=np.float64)
        if values.shape != (len(reference),):
            raise InputError(
                f"{values.size} energies for the {len(reference)} crystals of {reference.name!r}"
            )
        own: list[tuple[CompositionKey, float]] = [
            (reference.composition_key(index), energy)
            for index, energy in enumerate(values.tolist())
            if math.isfinite(energy)
        ]
        elements = {key[0][0] for key, _ in own if len(key) == 1}
        given = elemental_energies() if table is None else table
        numbers = {symbol: Element(symbol).Z for symbol in given}
        missing = sorted(
            (symbol for symbol, z in numbers.items() if z not in elements), key=numbers.__getitem__
        )
        added = [(((numbers[symbol], 1),), given[symbol]) for symbol in missing]
        description = {
            "name": "reference",
            "reference": reference.name,
            "crystals_hash": reference.crystals_hash,
            "crystals": int(np.isfinite(values).sum()),
            "crystals_without_energy": int(np.isnan(values).sum()),
            "elements_from_table": missing,
            **({} if note is None else {"note": note}),
        }
        super().__init__(LowerHull.of([*own, *added]), description)


@dataclass(frozen=True, slots=True)
class _ChemicalSystem:
    """Known compositions of a chemical system, including its elements."""

    positions: np.ndarray  # (n_known,), of these compositions among all that are known
    fractions: np.ndarray  # (n_elements, n_known), share of the atoms
    energies: np.ndarray  # (n_known,), eV/atom

    def hull(self, amounts: np.ndarray) -> tuple[float, dict[int, float]]:
        """The hull at a composition given by amounts, (n_elements,).

        Returns
        -------
        energy : float
            eV/atom.
        shares : dict
            Of the atoms, by position of each known composition that the hull is made of. Where
            mixtures are equal within `_TIE`, the composition itself is named if it is one of them,
            else the elements if these are: rounding must not decide what a hull rests on.
        """
        wanted = amounts / amounts.sum()
        energy, shares = cheapest_mixture(self.fractions, self.energies, wanted)
        is_own = np.abs(self.fractions - wanted[:, None]).max(axis=0) < 1e-9
        own = int(np.where(is_own, self.energies, np.inf).argmin())
        if is_own[own] and self.energies[own] - energy < _TIE:
            return energy, {int(self.positions[own]): 1.0}
        elements = np.where(self.fractions == 1.0, self.energies, np.inf).argmin(axis=1)
        if float(wanted @ self.energies[elements]) - energy < _TIE:
            return energy, self._named(elements, wanted)
        part = np.flatnonzero(shares > _LEAST_SHARE)
        return energy, self._named(part, shares[part])

    def _named(self, columns: np.ndarray, shares: np.ndarray) -> dict[int, float]:
        return dict(zip(self.positions[columns].tolist(), shares.tolist(), strict=True))


@lru_cache(maxsize=65536)
def _formula(key: CompositionKey) -> str:
    """The reduced formula."""
    from pymatgen.core import Composition, Element

    return str(Composition({Element.from_Z(z).symbol: n for z, n in key}).reduced_formula)
