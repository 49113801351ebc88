"""One relaxation from its start to its end, whoever evaluates the geometries."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.crystal import first_line
from novelty_metric.relaxation.base import (
    EarlyStopping,
    Ended,
    Evaluation,
    Geometry,
    Look,
    Relaxation,
    RelaxSettings,
    RelaxTask,
    TrajectoryLog,
)
from novelty_metric.relaxation.frechet import FrechetCell
from novelty_metric.relaxation.minima import LOWER, STIFF, MinimumCheck, shaken
from novelty_metric.relaxation.optimizers import (
    KEEPS_SYMMETRY,
    Optimizer,
    make_optimizer,
)
from novelty_metric.relaxation.primitive_cell import PrimitiveCell, primitive_cell
from novelty_metric.relaxation.symmetry import find_symmetry

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from novelty_metric.protocol import Minima

VOLUME_PER_ATOM = (2.0, 1000.0)
"""A cell outside this range (Å³ per atom) has collapsed or flown apart: the relaxation ends."""

EXPLODED = 3.0
"""Energy above the start (eV/atom) at which a relaxation has exploded, if it stays there for
`EXPLODED_STEPS`. Relaxations go downhill; one that overshoots comes back within a few steps."""

EXPLODED_STEPS = 25


MOST_CHECKS = 3
"""Checks for a saddle in one relaxation."""


@dataclass(frozen=True, slots=True, eq=False)
class _Rest:
    """End of the optimiser, converged or after its last move.

    Attributes
    ----------
    structure : Structure
        In the given cell.
    energy : float
        eV/atom.
    converged : bool
    geometry : Geometry
        In the cell that is relaxed.
    evaluation : Evaluation
        Of it.
    """

    structure: Structure
    energy: float
    converged: bool
    geometry: Geometry
    evaluation: Evaluation


class RelaxationRun:
    """A relaxation under way: says what is to be evaluated next, and is told the answer.

    Parameters
    ----------
    structure : Structure
    settings : RelaxSettings
    early_stopping : EarlyStopping, optional
        May end it before it has converged.
    minima : str
        What is done at its end; see `RelaxTask`.

    Attributes
    ----------
    geometry : Geometry or None
        To be evaluated next; None when the relaxation has ended.
    seconds : float
        Time spent on it, to be added up by whoever evaluates.

    Notes
    -----
    Converged is a point whose largest force row, cell rows included, is below ``fmax``, as for
    ASE's optimisers. After ``max_steps`` moves the relaxation ends where the optimiser stands.
    With `minima`, further relaxations start near the first point of rest and near lower ones, each
    with as many moves: one from the step that a check finds (at most `MOST_CHECKS` checks), and one
    from a shake of the first point. The lowest end is the result if it lies more than `LOWER` below
    the first point. A further relaxation that fails changes nothing.

    Where the optimiser is one of `KEEPS_SYMMETRY`, a crystal whose cell is not the smallest
    is relaxed in its primitive cell. All that is asked of the run is said in the given cell.
    """

    def __init__(
        self,
        structure: Structure,
        settings: RelaxSettings,
        early_stopping: EarlyStopping | None = None,
        minima: Minima = "keep",
    ) -> None:
        self.seconds = 0.0
        self.geometry: Geometry | None = None
        self._structure = structure
        self._settings = settings
        self._early_stopping = early_stopping
        self._minima = minima
        self._check: MinimumCheck | None = None
        self._starts: deque[Geometry] = deque()
        self._rests: list[_Rest] = []
        self._checked: list[_Rest] = []
        self._moves_before = 0
        self._log: list[tuple[Look, Geometry]] = []
        self._ended: Ended | None = None
        self._optimizer: Optimizer | None = None
        self._energy_before: float | None = None
        self._start_energy = math.nan
        self._converged = False
        self._steps = 0
        self._steps_above = 0
        self._error: str | None = None
        self._repeatable = True
        self._primitive: PrimitiveCell | None = None
        try:
            given = right_handed(geometry_of(structure))
            if settings.optimizer in KEEPS_SYMMETRY:
                self._primitive = primitive_cell(given)
            self._start(given if self._primitive is None else self._primitive.geometry)
        except Exception as error:  # a foreign structure may break anywhere
            self._fail(first_line(error), repeatable=False)

    def receive(self, evaluation: Evaluation) -> None:
        """Take the answer for `geometry`, and go on or end."""
        assert self.geometry is not None
        if evaluation.error is not None:
            self._fail(evaluation.error, repeatable=evaluation.repeatable)
            return
        try:
            if self._check is not None:
                self._advance_check(self._check, evaluation)
            else:
                self._advance(evaluation)
        except Exception as error:  # linear algebra may break on odd numbers
            self._fail(first_line(error), repeatable=False)

    def result(self) -> Relaxation:
        """The result; only after the end."""
        assert self.geometry is None
        common: dict[str, Any] = {
            "energy_before": self._energy_before,
            "steps": self._steps,
            "seconds": self.seconds,
            "trajectory": self._trajectory(),
        }
        if self._error is not None:
            return Relaxation(
                structure=None, error=self._error, repeatable=self._repeatable, **common
            )
        first, lowest = self._rests[0], self._lowest()
        below = first.energy - lowest.energy
        end = first if self._minima == "check" and self._ended is None else lowest
        return Relaxation(
            structure=end.structure,
            energy_after=end.energy,
            converged=end.converged,
            ended=self._ended,
            saddle=below > 0 if self._checked else None,
            energy_below=below if self._checked else None,
            **common,
        )

    def _lowest(self) -> _Rest:
        """The lowest point of rest; the first one unless it is more than `LOWER` above."""
        if self._ended is not None:
            return self._rests[-1]
        lowest = min(self._rests, key=lambda rest: rest.energy)
        return lowest if lowest.energy < self._rests[0].energy - LOWER else self._rests[0]

    def _standing(self) -> Structure:
        """The crystal where the optimiser stands."""
        assert self._optimizer is not None
        geometry = self._given_cell(self._optimizer.here.x)
        return crystal_of(self._structure, geometry.cell, geometry.positions)

    def _given_cell(self, x: NDArray[np.float64]) -> Geometry:
        """The crystal at these coordinates, in the cell that was given."""
        geometry = self._cell.geometry(x)
        return geometry if self._primitive is None else self._primitive.given_cell(geometry)

    def _trajectory(self) -> TrajectoryLog | None:
        """The points at which early stopping was asked; None without it."""
        if self._early_stopping is None:
            return None
        looks = [look for look, _ in self._log]
        return TrajectoryLog(
            np.array([look.steps for look in looks], dtype=np.int64),
            np.array([look.energy_per_atom for look in looks], dtype=np.float64),
            np.array([look.largest_force for look in looks], dtype=np.float64),
            np.array([g.cell for _, g in self._log]).reshape(-1, 3, 3),
            np.array([g.positions for _, g in self._log]).reshape(-1, len(self._structure), 3),
        )

    def _advance(self, evaluation: Evaluation) -> None:
        finite = math.isfinite(evaluation.energy) and np.isfinite(evaluation.forces).all()
        if not finite or not np.isfinite(evaluation.stress).all():
            self._fail("the energy is not finite")
            return
        there = self._cell.point(self._x, evaluation)
        energy = evaluation.energy / self._cell.n_sites
        if self._optimizer is None:
            self._start_energy = energy
            if self._energy_before is None:
                self._energy_before = energy
            self._optimizer = make_optimizer(
                self._settings.optimizer, self._cell, there, self._settings.fmax
            )
        else:
            rise = energy - self._start_energy
            self._steps_above = self._steps_above + 1 if rise > EXPLODED else 0
            if self._steps_above == EXPLODED_STEPS:
                self._fail(f"the crystal exploded ({rise:.1f} eV/atom above its start)")
                return
            self._optimizer.tell(there)
        self._converged = self._optimizer.here.largest < self._settings.fmax
        if (
            not self._converged
            and self._early_stopping is not None
            and self._optimizer.here is there
        ):
            here = self._given_cell(there.x)
            look = Look(self._steps, energy, there.largest)
            self._log.append((look, here))
            self._ended = self._early_stopping.decide(look, self._standing)
        moves = self._steps - self._moves_before
        if self._converged or self._ended or moves >= self._settings.max_steps:
            self._come_to_rest(evaluation)
            return
        self._steps += 1
        self._evaluate_next(self._optimizer.propose())

    def _come_to_rest(self, evaluation: Evaluation) -> None:
        """Record where the optimiser has ended, and look for a lower minimum if asked to."""
        assert self._optimizer is not None
        assert self.geometry is not None
        energy = self._optimizer.here.energy / self._cell.n_sites
        geometry = replace(self.geometry, symmetry=None)  # the check breaks it
        self._rests.append(_Rest(self._standing(), energy, self._converged, geometry, evaluation))
        self.geometry = None
        if self._minima != "keep" and self._ended is None:
            self._go_on()

    def _go_on(self) -> None:
        """Begin the next relaxation, or the check of the lowest point of rest; or end."""
        self._check = None
        lowest = self._lowest()
        if self._starts:
            self._steps += 1
            self._moves_before = self._steps
            self._optimizer = None
            self._start(self._starts.popleft())
        elif lowest.converged and lowest not in self._checked and len(self._checked) < MOST_CHECKS:
            self._checked.append(lowest)
            self._check = MinimumCheck(lowest.geometry, lowest.evaluation)
            self.geometry = self._check.geometry
            self._steps += 1

    def _advance_check(self, check: MinimumCheck, evaluation: Evaluation) -> None:
        """Take an answer that the check has asked for; at its end, relax from where it says."""
        check.tell(evaluation)
        self.geometry = check.geometry
        if self.geometry is not None:
            self._steps += 1
            return
        if check.way_down is not None:
            self._starts.append(check.way_down)
        if len(self._checked) == 1 and check.curvature < STIFF:
            self._starts.append(shaken(self._rests[0].geometry))
        self._go_on()

    def _start(self, geometry: Geometry) -> None:
        """Begin to relax this crystal."""
        if self._settings.optimizer in KEEPS_SYMMETRY:
            geometry = replace(geometry, symmetry=find_symmetry(geometry))
        self._cell = FrechetCell(geometry)
        self._evaluate_next(self._cell.x0)

    def _evaluate_next(self, x: NDArray[np.float64]) -> None:
        """Have this point evaluated next, if it is still a crystal."""
        geometry = self._cell.geometry(x)
        volume = geometry.volume / self._cell.n_sites
        low, high = VOLUME_PER_ATOM
        if not math.isfinite(volume) or volume > high:
            self._fail(f"the cell flew apart ({volume:.0f} Å³ per atom)")
        elif volume < low:
            self._fail(f"the cell collapsed ({volume:.2f} Å³ per atom)")
        else:
            self._x, self.geometry = x, geometry

    def _fail(self, reason: str, *, repeatable: bool = True) -> None:
        self.geometry = None
        if self._checked and repeatable:
            self._go_on()  # the points of rest found so far stay
        else:
            self._error, self._repeatable = reason, repeatable


def replay(task: RelaxTask, trajectory: TrajectoryLog, end: Relaxation) -> Relaxation | None:
    """End of a relaxation with a known trajectory, perhaps with another early stopping.

    Parameters
    ----------
    task : RelaxTask
        Its early stopping is the one to be asked.
    trajectory : TrajectoryLog
        The trajectory.
    end : Relaxation
        How it ended then.

    Returns
    -------
    Relaxation or None
        None where the relaxation would go on beyond the end of the record.
    """
    assert task.early_stopping is not None
    looks = zip(trajectory.steps, trajectory.energies, trajectory.largest_forces, strict=True)
    for at, (steps, energy, force) in enumerate(looks):
        look = Look(int(steps), float(energy), float(force))
        cell, positions = trajectory.cells[at], trajectory.positions[at]

        def standing(
            cell: NDArray[np.float64] = cell, positions: NDArray[np.float64] = positions
        ) -> Structure:
            return crystal_of(task.structure, cell, positions)

        ended = task.early_stopping.decide(look, standing)
        if ended is not None:
            return replace(
                end,
                structure=standing(),
                energy_after=look.energy_per_atom,
                converged=False,
                ended=ended,
                steps=look.steps,
                error=None,
            )
    return end if end.ended is None else None


def crystal_of(
    like: Structure, cell: NDArray[np.float64], positions: NDArray[np.float64]
) -> Structure:
    """The sites of a crystal in another cell (Å), at other Cartesian positions (Å)."""
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice(cell), like.species, positions, coords_are_cartesian=True)


def geometry_of(structure: Structure) -> Geometry:
    """The arrays of a structure."""
    return Geometry(
        np.array(structure.atomic_numbers, dtype=np.int64),
        np.array(structure.lattice.matrix, dtype=np.float64),
        np.array(structure.cart_coords, dtype=np.float64),
    )


def right_handed(geometry: Geometry) -> Geometry:
    """The same crystal with its three cell vectors turned around where they are left-handed.

    Supercells that the search finds may be left-handed. CHGNet takes the signed volume, so that
    its stress has the wrong sign there and a relaxation drives the cell uphill.
    """
    if np.linalg.det(geometry.cell) < 0:
        return Geometry(geometry.numbers, -geometry.cell, geometry.positions)
    return geometry
