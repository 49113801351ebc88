"""Hulls of formation energies."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.reference.energies import reference_energies
from novelty_metric.screening.formation_energies import MP_20, FormationEnergies, packaged
from novelty_metric.screening.hull import (
    Energies,
    Hull,
    HullDistance,
    KnownHull,
    LowerHull,
    ReferenceHull,
    fitting_energies,
    known_energies,
)
from novelty_metric.screening.scales import EnergyScale, energies_scale
from novelty_metric.support.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

    from novelty_metric.reference.store import Reference
    from novelty_metric.relaxation.base import Relaxer
    from novelty_metric.screening.compositions import CompositionKey

_ENERGIES = "energies of the reference"
"""Name of this stage in the progress of a run."""

_UNKNOWN = (
    "hull=auto: the energies that {} was trained on are not known, so the hull is made of the "
    "reference's own crystals; for the hull of MP-20 set hull=mp_20 and hull.energies=corrected "
    "(MP2020) or uncorrected"
)


class FormationHull(KnownHull):
    """The hull of known formation energies, for energies on the given scale.

    `description` is what else a report says of it.
    """

    def __init__(self, known: FormationEnergies, scale: EnergyScale, **description: object) -> None:
        self.known = known
        self.scale = scale
        about = asdict(known.about)
        if "reference" in description:  # whose crystals were added
            about["name"] += "+reference"
        super().__init__(
            LowerHull(known.compositions, known.energies),
            {
                **about,
                "content_hash": known.content_hash,
                "compositions": len(known),
                "compositions_on_hull": int(known.on_hull.sum()),
                "scale": scale.name,
                **description,
            },
        )

    def with_crystals(
        self, reference: Reference, energies: np.ndarray, wanted: np.ndarray
    ) -> FormationHull:
        """The hull with the wanted crystals of a reference; itself if none can be added.

        Their energies, float64 (M,), are on the hull's scale (eV/atom); NaN leaves a crystal out.
        """
        lowest: dict[CompositionKey, float] = {}
        n_added = 0
        for index in np.flatnonzero(wanted & np.isfinite(energies)).tolist():
            structure = reference.structure(index)
            try:
                found = self.scale.formation_energy(
                    structure.composition, float(energies[index]), structure
                )
            except RuntimeError:  # no corrections for it
                found = None
            if found is None:
                continue
            key = reference.composition_key(index)
            lowest[key] = min(found, lowest.get(key, math.inf))
            n_added += 1
        if not lowest:
            return self
        return FormationHull(
            self.known.joined(lowest),
            self.scale,
            reference=reference.name,
            crystals_hash=reference.crystals_hash,
            crystals=n_added,
        )

    def distance(
        self,
        composition: Composition,
        energy_per_atom: float,
        structure: Structure | None = None,
    ) -> HullDistance | None:
        """The distance from the hull, with the composition of the hull there."""
        formation = self.scale.formation_energy(composition, energy_per_atom, structure)
        return None if formation is None else self.lower.distance(composition, formation)


@dataclass(frozen=True)
class Mp20Hull:
    """The hull of the packaged formation energies of MP-20 (37,217 compositions).

    Parameters
    ----------
    energies : str
        ``auto`` takes the potential's own scale where it is packaged (CHGNet), else moves its
        energies to those of the Materials Project by what it was trained on. ``corrected`` and
        ``uncorrected`` say which energies it was trained on, and take those of the Materials
        Project as they are.
    """

    energies: str = Energies.AUTO

    def open(self, potential: str, *, progress: ProgressCallback = no_progress) -> FormationHull:
        """See `novelty_metric.screening.hull.HullSource.open`."""
        which = fitting_energies(potential, self.energies)
        scale, path = energies_scale(which), packaged(potential)
        if self.energies == Energies.AUTO and path.exists():
            scale = replace(
                scale,
                name=f"that of {potential}: its own energies of known crystals, else published "
                "ones moved by an offset per element",
            )
        else:
            path = MP_20
        return FormationHull(FormationEnergies.read(path), scale)


def reference_hull(
    reference: Reference,
    relaxer: Relaxer,
    *,
    progress: ProgressCallback = no_progress,
    note: str | None = None,
) -> ReferenceHull:
    """The hull of the reference's own crystals, with the relaxer's energies."""
    return ReferenceHull(reference, _energies(reference, relaxer, None, progress), note=note)


def auto_hull(
    reference: Reference, relaxer: Relaxer, *, progress: ProgressCallback = no_progress
) -> Hull:
    """The hull of ``hull=auto``: the one that measurements favour for this potential.

    With a potential whose scale is known, the packaged hull and the reference's own crystals of
    compositions that it lacks; with another, the reference's own crystals alone. The comparison
    behind it is in ``benchmarks/README.md``.
    """
    potential = relaxer.info.name
    if known_energies(potential) is None:
        note = _UNKNOWN.format(potential)
        return reference_hull(reference, relaxer, progress=progress, note=note)
    hull = Mp20Hull().open(potential, progress=progress)
    known = set(hull.known.compositions.keys())
    keys = (reference.composition_key(index) for index in range(len(reference)))
    wanted = np.array([key not in known for key in keys])
    if not wanted.any():
        return hull
    return hull.with_crystals(reference, _energies(reference, relaxer, wanted, progress), wanted)


def _energies(
    reference: Reference, relaxer: Relaxer, wanted: np.ndarray | None, progress: ProgressCallback
) -> np.ndarray:
    return reference_energies(
        reference,
        relaxer,
        wanted=wanted,
        progress=lambda done, total: progress(_ENERGIES, done, total),
    )
