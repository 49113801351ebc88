"""Hulls of formation energies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from novelty_metric.screening.formation_energies import FormationEnergies
from novelty_metric.screening.hull import HullDistance, LowerHull
from novelty_metric.screening.scales import EnergyScale

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure


class FormationHull:
    """The hull of known formation energies, for energies of a given scale.

    Parameters
    ----------
    known : FormationEnergies
    scale : EnergyScale
        Of the energies that are asked about.
    **description
        What else a report says of it.

    Attributes
    ----------
    lower : LowerHull
        Of the formation energies.
    """

    def __init__(self, known: FormationEnergies, scale: EnergyScale, **description: object) -> None:
        self.known = known
        self._description = description
        self.scale = scale
        self.lower = LowerHull(known.compositions, known.energies)

    @property
    def name(self) -> str:
        """That of the formation energies."""
        return self.known.about.name

    def e_above_hull(
        self,
        composition: Composition,
        energy_per_atom: float,
        structure: Structure | None = None,
    ) -> float | None:
        """See `novelty_metric.screening.hull.Hull.e_above_hull`.

        The structure matters where the scale adds the MP2020 corrections; it tells oxides from
        peroxides and superoxides.
        """
        found = self.distance(composition, energy_per_atom, structure)
        return None if found is None else found.e_above_hull

    def distance(
        self,
        composition: Composition,
        energy_per_atom: float,
        structure: Structure | None = None,
    ) -> HullDistance | None:
        """The same, with what the hull is made of there."""
        formation = self.scale.formation_energy(composition, energy_per_atom, structure)
        return None if formation is None else self.lower.distance(composition, formation)

    def describe(self) -> dict[str, Any]:
        """What the hull is made of, as plain values."""
        about = self.known.about
        return {
            "name": self.name,
            "source": about.source,
            "licence": about.licence,
            "date": about.date,
            "scheme": about.scheme,
            "content_hash": self.known.content_hash,
            "compositions": len(self.known),
            "compositions_on_hull": int(self.known.on_hull.sum()),
            "scale": self.scale.name,
            **self._description,
        }
