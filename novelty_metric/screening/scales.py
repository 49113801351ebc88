"""Conversion of energies (potential or density functional theory) to formation energies.

Formation energies of the Materials Project hold the MP2020 corrections. An energy is moved to them
by its elements' energies on its own scale, after the corrections are added where it has none.

The MP2020 scheme is pymatgen's own (Wang et al., Sci. Rep. 11, 15496 (2021)). A potential that was
trained on uncorrected GGA and GGA+U energies of the Materials Project gives what an entry of it
would hold; which elements had a Hubbard U there follows from the composition.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from novelty_metric.screening.compositions import elemental_energies
from novelty_metric.screening.hull import Energies

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

_GUESSED = ("Br", "I", "Se", "Si", "Sb", "Te", "H", "N", "F", "Cl")
"""Elements whose correction depends on guessed oxidation states."""


@dataclass(frozen=True, kw_only=True)
class EnergyScale:
    """The zero of an energy scale.

    `elemental` is the energy of each element (eV/atom) on this scale, corrections included. Where
    `uncorrected`, the MP2020 corrections are added to an energy before anything else.
    """

    name: str
    elemental: Mapping[str, float]
    uncorrected: bool = False

    def formation_energy(
        self,
        composition: Composition,
        energy_per_atom: float,
        structure: Structure | None = None,
    ) -> float | None:
        """Formation energy (eV/atom); None for a non-finite energy or an unknown element.

        The energy is on this scale (eV/atom). The structure tells oxides from peroxides and
        superoxides where corrections are added.

        Raises
        ------
        RuntimeError
            If the corrections are not known.
        """
        if not math.isfinite(energy_per_atom):
            return None
        if self.uncorrected:
            energy_per_atom += mp2020_correction(composition, structure)
        total = 0.0
        for element, amount in composition.items():
            energy = self.elemental.get(element.symbol)
            if energy is None:
                return None
            total += energy * float(amount)
        return energy_per_atom - total / composition.num_atoms


def energies_scale(which: Energies) -> EnergyScale:
    """The scale of density functional theory with the Materials Project's settings."""
    if which == Energies.FORMATION:
        return EnergyScale(
            name="formation energies of the Materials Project's scheme",
            elemental=dict.fromkeys(elemental_energies(), 0.0),
        )
    uncorrected = which == Energies.UNCORRECTED
    label = "without" if uncorrected else "with"
    return EnergyScale(
        name=f"Materials Project energies {label} the MP2020 corrections",
        elemental=elemental_energies(),
        uncorrected=uncorrected,
    )


def mp2020_correction(composition: Composition, structure: Structure | None = None) -> float:
    """The correction that the MP2020 scheme adds to an uncorrected energy (eV/atom).

    Parameters
    ----------
    composition : Composition
    structure : Structure, optional
        Tells oxides from peroxides, superoxides and ozonides, and sulfides from polysulfides.
        Without it only formulas such as Li2O2 do.

    Raises
    ------
    RuntimeError
        If pymatgen can't say.
    """
    from pymatgen.entries.compatibility import CompatibilityError
    from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

    composition = composition.element_composition
    scheme = _scheme()
    anion = max(composition.elements, key=lambda element: element.X).symbol
    values = scheme.u_settings.get(anion, {}) if len(composition) > 1 else {}
    hubbards = {e.symbol: values[e.symbol] for e in composition if e.symbol in values}
    parameters = {
        "run_type": "GGA+U" if hubbards else "GGA",
        "hubbards": hubbards,
        "software": "potential",  # pseudopotentials are not to be checked
    }
    data = {"oxidation_states": _oxidation_states(composition.reduced_formula)}
    given: dict[str, Any] = {"parameters": parameters, "data": data}
    entry = (
        ComputedEntry(composition, 0.0, **given)
        if structure is None
        else ComputedStructureEntry(structure, 0.0, composition=composition, **given)
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adjustments = scheme.get_adjustments(entry)
    except CompatibilityError as error:
        raise RuntimeError(f"no MP2020 correction of {composition.reduced_formula}") from error
    return float(sum(one.value for one in adjustments)) / float(composition.num_atoms)


@lru_cache(maxsize=1)
def _scheme() -> Any:
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

    # As the scheme was when the published formation energies were made: a fractional oxidation
    # state above -1 did not yet cost an anion its correction.
    return MaterialsProject2020Compatibility(check_potcar=False, strict_anions="no_check")


@lru_cache(maxsize=65536)
def _oxidation_states(formula: str) -> dict[str, float]:
    """The oxidation states guessed by the scheme; empty if there are none or none is needed."""
    from pymatgen.core import Composition

    composition = Composition(formula)
    if any(symbol in composition for symbol in _GUESSED):
        with contextlib.suppress(ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            guesses = composition.oxi_state_guesses(max_sites=-20)
            if guesses:
                return dict(guesses[0])
    return {}
