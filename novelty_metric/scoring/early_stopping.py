"""Ends the relaxation of a substituted parent as soon as it is known whether it matches.

Two approximations that `paper` does not have. The energy of the relaxed crystal is known. A parent
that already matches it, at nearly the same energy, is in its valley. A parent that is still far
from it after some moves, in structure and in energy, and still moves fast, leads to another
crystal. A parent that is nearly at rest is not refused: it may stand near a saddle point, high
above the crystal, and then fall into it. For the same reason a parent is not refused much later:
it moves fast again when it leaves the saddle point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from novelty_metric import crystal
from novelty_metric.errors import CrystalError
from novelty_metric.relaxation.base import Ended, Look
from novelty_metric.search.compiled import TooMuchToCompareError
from novelty_metric.search.matching import Matching

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.protocol import Protocol

NEAR = 0.1
"""Maximum RMS site distance, in (V/N)^(1/3), for the parent to be in the valley of the generated
crystal; the confirmation itself allows 0.3.
"""

FAR = {"ltol": 2.0, "stol": 7 / 3, "angle_tol": 3.0}
"""A parent is far from the generated crystal if it does not match with the tolerances of the
protocol times these: 0.4, 0.7 and 15 degrees by default."""

OTHER_ENERGY = 0.1
"""A parent within this of the energy of the generated crystal (eV/atom) is not refused."""

PLATEAU = 0.2
"""A parent whose largest force is below this (eV/Å) is not refused."""


@dataclass(eq=False)
class MatchStopping:
    """Ends the relaxation of a parent when the answer is known; see `relaxation.base`.

    Parameters
    ----------
    generated : Structure
        Relaxed and reduced.
    energy_per_atom : float
        Its energy (eV/atom).
    protocol : Protocol
        Its `accept_early`, `refuse_after` and tolerances.
    """

    generated: Structure
    energy_per_atom: float
    protocol: Protocol
    _matchings: dict[bool, Matching] = field(default_factory=dict, repr=False)

    def decide(self, look: Look, structure: Callable[[], Structure]) -> Ended | None:
        """Accepted, refused, or None to continue."""
        protocol = self.protocol
        apart = abs(look.energy_per_atom - self.energy_per_atom)
        may_refuse = (
            protocol.refuse_after <= look.steps < 2 * protocol.refuse_after
            and apart > OTHER_ENERGY
            and look.largest_force > PLATEAU
        )
        try:
            if apart < protocol.accept_early:
                rms = self._match(structure(), far=False)
                return Ended.ACCEPTED if rms is not None and rms < NEAR else None
            if may_refuse and self._match(structure(), far=True) is None:
                return Ended.REFUSED
        except (CrystalError, TooMuchToCompareError):
            pass  # it is not known whether it matches
        return None

    def _match(self, structure: Structure, *, far: bool) -> float | None:
        if far not in self._matchings:
            factors = FAR if far else dict.fromkeys(FAR, 1.0)
            tolerances = {name: factors[name] * getattr(self.protocol, name) for name in FAR}
            self._matchings[far] = Matching(replace(self.protocol, **tolerances))
        return self._matchings[far].confirm_rms(crystal.reduce(structure), self.generated)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_matchings": {}}
