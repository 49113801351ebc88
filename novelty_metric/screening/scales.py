"""Conversion of energies (potential or density functional theory) to formation energies.

Formation energies of the Materials Project hold the MP2020 corrections. An energy is moved to them
by its elements' energies on its own scale, after the corrections are added where it has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from novelty_metric.screening.elements import elemental_energies
from novelty_metric.screening.hull import Energies
from novelty_metric.screening.mp2020 import mp2020_correction

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure


@dataclass(frozen=True, kw_only=True)
class EnergyScale:
    """The zero of an energy scale.

    Attributes
    ----------
    name : str
        In words, for reports.
    elemental : mapping
        Energy of each element (eV/atom) on this scale, by symbol, corrections included.
    uncorrected : bool
        The MP2020 corrections are added to an energy before anything else.
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

        Parameters
        ----------
        composition : Composition
        energy_per_atom : float
            On this scale (eV/atom).
        structure : Structure, optional
            Tells oxides from peroxides and superoxides where corrections are added.

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
    """The scale of density functional theory with the Materials Project's settings.

    Parameters
    ----------
    which : Energies
        Total energies with the MP2020 corrections or without, or formation energies.
    """
    if which == Energies.FORMATION:
        return EnergyScale(
            name="formation energies of the Materials Project's scheme",
            elemental=dict.fromkeys(elemental_energies(), 0.0),
        )
    return materials_project_scale(uncorrected=which == Energies.UNCORRECTED)


def materials_project_scale(*, uncorrected: bool = False) -> EnergyScale:
    """The scale of the Materials Project's own energies, with or without MP2020 corrections."""
    label = "without" if uncorrected else "with"
    return EnergyScale(
        name=f"Materials Project energies {label} the MP2020 corrections",
        elemental=elemental_energies(),
        uncorrected=uncorrected,
    )
