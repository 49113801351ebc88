"""Optimisers: each proposes the next coordinates and receives the result for them.

None of them calls a potential, so one crystal and many at once run the same code. L-BFGS and FIRE
take the steps that ASE's take with default settings.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from novelty_metric.relaxation.frechet import FrechetCell, Point

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Optimizer(Protocol):
    """Search for a minimum, starting from an evaluated point.

    Attributes
    ----------
    here : Point
        Where it stands. An optimiser may look at a point and go back.
    """

    here: Point

    def propose(self) -> NDArray[np.float64]:
        """Coordinates to evaluate next, (n_sites + 3, 3)."""
        ...

    def tell(self, there: Point) -> None:
        """Take the result for the coordinates that `propose` gave last."""
        ...


KEEPS_SYMMETRY = frozenset({"bfgs_symmetric"})
"""Optimisers that preserve the space group of the start, so that its primitive cell is enough."""

EVALUATED_ALONE = frozenset({"lbfgs", "fire"})
"""Optimisers whose result can depend on the last digits: rounding breaks the symmetry of the start.
Where a processor evaluates, each crystal is evaluated by itself. In a batch, the last digits of a
matrix product depend on its number of rows, and therefore on the other crystals."""

MAX_STEP = 0.2
"""Maximum displacement of an atom (Å; a row of the coordinates) in one step, ASE's default."""


class LBFGS:
    """Limited-memory BFGS with ASE's defaults: curvature 70 eV/Å², 100 steps of memory.

    Nocedal, Math. Comput. 35, 773 (1980). The whole step is shortened where its longest row exceeds
    `MAX_STEP`; no line search.
    """

    CURVATURE = 70.0
    MEMORY = 100

    def __init__(self, cell: FrechetCell, start: Point, fmax: float) -> None:
        self.here = start
        self._steps: deque[tuple[NDArray[np.float64], NDArray[np.float64], float]] = deque(
            maxlen=self.MEMORY
        )

    def propose(self) -> NDArray[np.float64]:
        """See `Optimizer`."""
        direction = -self.here.forces.ravel()
        shares = []
        for step, change, inverse in reversed(self._steps):
            share = inverse * float(step @ direction)
            direction = direction - share * change
            shares.append(share)
        move = direction / self.CURVATURE
        for (step, change, inverse), share in zip(self._steps, reversed(shares), strict=True):
            move = move + step * (share - inverse * float(change @ move))
        rows = -move.reshape(-1, 3)
        longest = float(np.sqrt((rows**2).sum(axis=1).max()))
        if longest >= MAX_STEP:
            rows = rows * (MAX_STEP / longest)
        return self.here.x + rows

    def tell(self, there: Point) -> None:
        """See `Optimizer`."""
        step = (there.x - self.here.x).ravel()
        change = (self.here.forces - there.forces).ravel()
        along = float(change @ step)
        if along != 0:  # else it taught nothing
            self._steps.append((step, change, 1.0 / along))
        self.here = there


class FIRE:
    """Fast inertial relaxation engine with ASE's defaults.

    Bitzek, Koskinen, Gähler, Moseler and Gumbsch, Phys. Rev. Lett. 97, 170201 (2006).
    """

    LONGEST_TIME_STEP = 1.0
    PATIENCE = 5
    FASTER, SLOWER = 1.1, 0.5
    MIXING, LESS_MIXING = 0.1, 0.99

    def __init__(self, cell: FrechetCell, start: Point, fmax: float) -> None:
        self.here = start
        self._velocity: NDArray[np.float64] | None = None
        self._time_step = 0.1
        self._mixing = self.MIXING
        self._downhill = 0

    def propose(self) -> NDArray[np.float64]:
        """See `Optimizer`."""
        forces = self.here.forces
        if self._velocity is None:
            self._velocity = np.zeros_like(forces)
        else:
            power = float((forces * self._velocity).sum())
            if power > 0:
                speed = math.sqrt(float((self._velocity**2).sum()))
                along = forces / math.sqrt(float((forces**2).sum()))
                self._velocity = (1 - self._mixing) * self._velocity + self._mixing * speed * along
                if self._downhill > self.PATIENCE:
                    self._time_step = min(self._time_step * self.FASTER, self.LONGEST_TIME_STEP)
                    self._mixing *= self.LESS_MIXING
                self._downhill += 1
            else:
                self._velocity = np.zeros_like(forces)
                self._mixing = self.MIXING
                self._time_step *= self.SLOWER
                self._downhill = 0
        self._velocity = self._velocity + self._time_step * forces
        move = self._time_step * self._velocity
        length = math.sqrt(float((move**2).sum()))
        if length > MAX_STEP:
            move = move * (MAX_STEP / length)
        return self.here.x + move

    def tell(self, there: Point) -> None:
        """See `Optimizer`."""
        self.here = there


def make_optimizer(name: str, cell: FrechetCell, start: Point, fmax: float) -> Optimizer:
    """The optimiser with this name, one of `novelty_metric.protocol.OPTIMIZERS`, at a point."""
    from novelty_metric.relaxation.quasi_newton import SymmetricBFGS

    known: dict[str, type[LBFGS] | type[FIRE] | type[SymmetricBFGS]] = {
        "lbfgs": LBFGS,
        "fire": FIRE,
        "bfgs_symmetric": SymmetricBFGS,
    }
    return known[name](cell, start, fmax)
