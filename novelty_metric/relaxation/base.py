"""Input and output of every relaxer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from novelty_metric.protocol import Minima
    from novelty_metric.relaxation.symmetry import Symmetry


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaxSettings:
    """When a relaxation ends, and how it moves.

    Attributes
    ----------
    fmax : float
        Largest row norm of the filter's forces, cell rows included, at convergence (eV/Å).
    max_steps : int
        Moves after the first evaluation.
    optimizer : str
        One of `novelty_metric.protocol.OPTIMIZERS`.
    """

    fmax: float
    max_steps: int
    optimizer: str


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """A crystal to be evaluated.

    Attributes
    ----------
    numbers : int64, (n_sites,)
        Atomic numbers.
    cell : float64, (3, 3)
        Cell vectors in rows, right-handed (Å).
    positions : float64, (n_sites, 3)
        Cartesian (Å); sites may lie outside the cell.
    symmetry : Symmetry or None
        One that it may have, so that an evaluator need not look at what is alike twice.
    """

    numbers: NDArray[np.int64]
    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    symmetry: Symmetry | None = None

    @property
    def volume(self) -> float:
        """Volume of the cell (Å³)."""
        return abs(float(np.linalg.det(self.cell)))


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Energy, forces and stress of a geometry.

    Attributes
    ----------
    energy : float
        eV.
    forces : float64, (n_sites, 3)
        eV/Å.
    stress : float64, (3, 3)
        Symmetric, positive under tension (eV/Å³).
    error : str or None
        Why the potential can't say it, in one line; the rest then means nothing.
    repeatable : bool
        It would say so again.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    error: str | None = None
    repeatable: bool = True

    @classmethod
    def failed(cls, error: str, *, repeatable: bool = True) -> Evaluation:
        """An evaluation that gave nothing."""
        return cls(math.nan, np.zeros((0, 3)), np.zeros((3, 3)), error, repeatable)


class Ended(StrEnum):
    """Why early stopping ended a relaxation before it converged: the answer was known."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


class Look(NamedTuple):
    """A point of a relaxation at which early stopping is asked.

    Attributes
    ----------
    steps : int
        Moves made until then.
    energy_per_atom : float
        eV/atom.
    largest_force : float
        Largest row of the filter's forces (eV/Å).
    """

    steps: int
    energy_per_atom: float
    largest_force: float


class EarlyStopping(Protocol):
    """May end a relaxation before it has converged. Picklable; it keeps nothing between two calls.

    It changes nothing of the trajectory, so that a recorded one serves any other early stopping.
    """

    def decide(self, look: Look, structure: Callable[[], Structure]) -> Ended | None:
        """Why the relaxation may end here, or None to go on; `structure` makes the geometry."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TrajectoryLog:
    """Every point of a relaxation at which early stopping was asked.

    Attributes
    ----------
    steps : int64, (n_points,)
        Moves made until then.
    energies : float64, (n_points,)
        eV/atom.
    largest_forces : float64, (n_points,)
        Largest row of the filter's forces (eV/Å).
    cells : float64, (n_points, 3, 3)
        Å.
    positions : float64, (n_points, n_sites, 3)
        Cartesian (Å).
    """

    steps: NDArray[np.int64]
    energies: NDArray[np.float64]
    largest_forces: NDArray[np.float64]
    cells: NDArray[np.float64]
    positions: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RelaxTask:
    """A crystal that waits for relaxation; `key` comes back with its result.

    With `minima` other than ``"keep"``, its end is checked for a saddle. With ``"escape"``, the
    result is the minimum below; with ``"check"``, it is the saddle and the depth of that minimum.
    """

    key: Hashable
    structure: Structure
    early_stopping: EarlyStopping | None = None
    minima: Minima = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """Result of one relaxation.

    Attributes
    ----------
    structure : Structure or None
        Last geometry; None if the relaxation failed.
    energy_before, energy_after : float or None
        eV/atom.
    converged : bool
    ended : Ended or None
        Why early stopping ended it, before it converged.
    saddle : bool or None
        The first point of rest is a saddle: another relaxation from near it ends more than
        `novelty_metric.relaxation.minima.LOWER` below. None if this was not checked.
    energy_below : float or None
        How far the minimum is below that saddle (eV/atom); 0 if the point is no saddle.
    steps : int
        Number of moves, including those of the checks and of the further relaxations.
    seconds : float
    error : str or None
        Why it failed, in one line.
    cached : bool
        The result was read from the cache.
    repeatable : bool
        The same work would end the same way: False where memory, a worker or a library failed.
    trajectory : TrajectoryLog or None
        Its points, for the cache; None without early stopping.
    """

    structure: Structure | None
    energy_before: float | None = None
    energy_after: float | None = None
    converged: bool = False
    ended: Ended | None = None
    saddle: bool | None = None
    energy_below: float | None = None
    steps: int = 0
    seconds: float = 0.0
    error: str | None = None
    cached: bool = False
    repeatable: bool = True
    trajectory: TrajectoryLog | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PotentialInfo:
    """Identity of a potential: its name, version, and a hash of its weights."""

    name: str
    version: str
    weights_hash: str

    @property
    def key(self) -> str:
        """Short text that names the potential in file names and cache keys."""
        return f"{self.name}-{self.version}-{self.weights_hash[:12]}"


class Relaxer(Protocol):
    """Relaxes crystals, and gives single-point energies, with one potential."""

    @property
    def info(self) -> PotentialInfo:
        """The potential."""
        ...

    def relax(
        self,
        queue: deque[RelaxTask],
        settings: RelaxSettings,
        *,
        deadline: float | None = None,
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        """Relax what waits in the queue, yielding each result as it is finished.

        The queue is taken from the left whenever there is room; the caller may append to it
        between two results. Ends when the queue is empty and nothing is under way, or when the
        clock of `time.monotonic` has reached the deadline: what is under way then is given up. No
        failure of one crystal is raised: it is that crystal's result.
        """
        ...

    def energies(self, structures: Sequence[Structure]) -> Iterator[float]:
        """Energy of each crystal as it stands (eV/atom), in order; NaN where it failed."""
        ...

    def close(self) -> None:
        """Give back workers and memory."""
        ...
