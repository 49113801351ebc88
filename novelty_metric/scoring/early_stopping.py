"""Early stopping of a substituted parent's relaxation when the parent matches.

An approximation that `paper` does not have. The energy of the relaxed crystal is known: a parent
that already matches it, at nearly the same energy, is in its valley. A parent that does not match
is always relaxed to its end: rules that refused parents before it refused parents that match.
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
"""Maximum RMS site distance, in (V/N)^(1/3), for the parent to be in the valley of the generated
crystal; the confirmation itself allows 0.3.
"""


@dataclass(eq=False)
class MatchStopping:
    """Ends the relaxation of a parent when it matches; see `relaxation.base.EarlyStopping`.

    Parameters
    ----------
    generated : Structure
        Relaxed and reduced.
    energy_per_atom : float
        Its energy (eV/atom).
    protocol : Protocol
        Its `accept_early` and tolerances.
    """

    generated: Structure
    energy_per_atom: float
    protocol: Protocol
    _matching: Matching | None = field(default=None, repr=False)

    def decide(
        self,
        energy_per_atom: float,
        largest_force: float,
        structure: Callable[[], Structure],
    ) -> Ended | None:
        """Accepted, or None to continue.

        Parameters
        ----------
        energy_per_atom : float
            eV/atom.
        largest_force : float
            Not used.
        structure : callable
            Makes the geometry.
        """
        if abs(energy_per_atom - self.energy_per_atom) >= self.protocol.accept_early:
            return None
        try:
            rms = self._match(structure())
        except (CrystalError, TooMuchToCompareError):
            return None  # whether it matches is not known
        return Ended.ACCEPTED if rms is not None and rms < NEAR else None

    def _match(self, structure: Structure) -> float | None:
        if self._matching is None:
            self._matching = Matching(self.protocol)
        return self._matching.confirm_rms(crystal.reduce(structure), self.generated)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_matching": None}
