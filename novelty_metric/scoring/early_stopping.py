"""Ends the relaxation of a substituted parent as soon as its answer can be told.

Both rules are approximations: `paper` has neither. The energy of the relaxed crystal is known. A
parent that already matches it and is hardly higher is in its valley. One that does not match, lies
far above it and has nearly come to rest ends there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from novelty_metric import crystal
from novelty_metric.errors import CrystalError
from novelty_metric.relaxation.base import Ended
from novelty_metric.search.compiled import TooMuchToCompareError
from novelty_metric.search.matching import Matching

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.protocol import Protocol

NEAR = 0.1
"""RMS site distance, in (V/N)^(1/3), up to which a match is near enough to be in the valley of the
generated crystal; the confirmation itself allows 0.3."""

NEARLY_AT_REST = 0.1
"""Before the largest force row (eV/Å) is below this, nothing is refused."""

NEAR_ENERGY = 0.05
"""Within this above the generated crystal (eV/atom) nothing is refused, and a parent at rest is
checked for being on a saddle from which a way leads to the crystal."""


@dataclass(eq=False)
class MatchStopping:
    """Ends the relaxation of a parent once the match is known; see `relaxation.base.EarlyStopping`.

    Parameters
    ----------
    generated : Structure
        Relaxed and reduced.
    energy_per_atom : float
        Its energy (eV/atom).
    protocol : Protocol
        Its `accept_early`, `refuse_early` and tolerances.
    """

    generated: Structure
    energy_per_atom: float
    protocol: Protocol
    _matching: Matching | None = field(default=None, repr=False)

    def decide(
        self, energy_per_atom: float, largest_force: float, structure: Callable[[], Structure]
    ) -> Ended | None:
        """Accepted, refused, or None to go on.

        Parameters
        ----------
        energy_per_atom : float
            eV/atom.
        largest_force : float
            Largest row of the filter's forces (eV/Å).
        structure : callable
            Makes the geometry.
        """
        above = energy_per_atom - self.energy_per_atom
        try:
            return self._answer(above, largest_force, structure)
        except (CrystalError, TooMuchToCompareError):
            return None  # whether it matches is not known

    def _answer(
        self, above: float, largest_force: float, structure: Callable[[], Structure]
    ) -> Ended | None:
        if abs(above) < self.protocol.accept_early:
            rms = self._match(structure())
            return Ended.ACCEPTED if rms is not None and rms < NEAR else None
        reach = self.protocol.refuse_early * largest_force
        if reach and largest_force < NEARLY_AT_REST and above > max(reach, NEAR_ENERGY):
            return Ended.REFUSED if self._match(structure()) is None else None
        return None

    def _match(self, structure: Structure) -> float | None:
        if self._matching is None:
            self._matching = Matching(self.protocol)
        return self._matching.confirm_rms(crystal.reduce(structure), self.generated)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_matching": None}
