"""Energies given with the samples, for example from density functional theory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from novelty_metric.errors import InputError

if TYPE_CHECKING:
    from novelty_metric.verdict import CrystalResult

PER = ("atom", "cell")
SCALES = {
    "corrected": "total energies with the MP2020 corrections",
    "uncorrected": "total energies without corrections",
    "formation": "formation energies",
}
"""Kinds of energies, with the names of `novelty_metric.screening.hull.Energies`."""

LARGEST = 20.0
"""Maximum magnitude of a plausible energy (eV/atom); tungsten has -13."""
FAR = 2.0
"""If most samples are farther from the hull (eV/atom), the kind of energies is mistaken."""


@dataclass(frozen=True, slots=True)
class SampleEnergies:
    """The kind of the samples' energies.

    Attributes
    ----------
    per : str
        ``"atom"`` or ``"cell"``: the crystal as it is given.
    scale : str
        One of `SCALES`.

    Raises
    ------
    InputError
        If one of them is not one of these.
    """

    per: str
    scale: str

    def __post_init__(self) -> None:
        if self.per not in PER:
            raise InputError(f"energies_per is {self.per!r}; known: {', '.join(PER)}")
        if self.scale not in SCALES:
            raise InputError(f"energies_scale is {self.scale!r}; known: {', '.join(SCALES)}")

    @classmethod
    def asked(cls, per: str | None, scale: str | None) -> SampleEnergies | None:
        """Make it from the caller's argument; None if there is none.

        Raises
        ------
        InputError
            If only one of the two is given.
        """
        if per is None and scale is None:
            return None
        if per is None:
            raise InputError("energies_per is missing: are energies per atom or per cell?")
        if scale is None:
            raise InputError(f"energies_scale is missing: {', '.join(SCALES)}?")
        return cls(per, scale)

    @property
    def label(self) -> str:
        """A description of the energies."""
        return SCALES[self.scale]

    def per_atom(self, energy: float, n_sites: int) -> float:
        """Energy per atom of a crystal with this many sites (eV/atom)."""
        return energy / n_sites if self.per == "cell" else energy


def odd_energies(rows: Iterable[CrystalResult]) -> list[str]:
    """Findings about the energies of all samples, one line each."""
    rows = [row for row in rows if row.smact_valid is not None]
    given = [row for row in rows if row.given_energy is not None]
    if not rows:
        return []
    found = []
    if len(given) < len(rows):
        found.append(f"{len(rows) - len(given)} of {len(rows)} samples have no energy given")
    n_large = sum(abs(row.given_energy or 0.0) > LARGEST for row in given)
    distances = [abs(row.e_above_hull) for row in given if row.e_above_hull is not None]
    n_far = sum(distance > FAR for distance in distances)
    if n_large:
        found.append(
            f"{n_large} of {len(given)} samples have an energy beyond {LARGEST:g} eV/atom, which "
            "no crystal has: energies per cell were read as per atom, or the unit is not eV"
        )
    elif 2 * n_far > len(distances):
        found.append(
            f"{n_far} of {len(distances)} samples lie more than {FAR:g} eV/atom from the hull by "
            "the energies given: check energies_per= and energies_scale="
        )
    return found
