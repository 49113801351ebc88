"""Relaxations that go on together: what is finished makes room for what waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from novelty_metric.crystal import first_line
from novelty_metric.relaxation.base import (
    Evaluation,
    Geometry,
    Relaxation,
    RelaxSettings,
    RelaxTask,
)
from novelty_metric.relaxation.evaluators import Evaluator
from novelty_metric.relaxation.optimizers import EVALUATED_ALONE
from novelty_metric.relaxation.relaxation_run import RelaxationRun

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(eq=False)
class _Flight:
    task: RelaxTask
    run: RelaxationRun
    cost: float
    alone: bool


class InFlight:
    """Steps many relaxations at once, each evaluation one batch.

    On a processor, relaxations by one of `EVALUATED_ALONE` are evaluated one by one, so that the
    result of a crystal does not depend on the others, to the last digit.

    A failure of one crystal is its own: where a batch can't be evaluated, its halves are, down to
    the crystal that is to blame. Where memory runs out the budget is halved for good.

    Parameters
    ----------
    evaluator : Evaluator
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        # The results of `EVALUATED_ALONE` don't change with the speed of the others.
        self._evaluator_of_alone: Evaluator = getattr(evaluator, "by_torch", evaluator)
        self._on_processor = str(getattr(evaluator, "device", "cpu")) == "cpu"
        self._budget = evaluator.budget
        # The last one that is added may go beyond the budget, until memory has run out once.
        self._limit = float("inf")
        self._flights: list[_Flight] = []
        self._ended: list[_Flight] = []

    def __len__(self) -> int:
        return len(self._flights) + len(self._ended)

    @property
    def has_room(self) -> bool:
        """True if another crystal can be added; an empty batch accepts any crystal."""
        return sum(flight.cost for flight in self._flights) < self._budget

    def add(self, task: RelaxTask, settings: RelaxSettings) -> None:
        """Begin a relaxation."""
        started = time.perf_counter()
        run = RelaxationRun(task.structure, settings, task.early_stopping, task.minima)
        cost = 0.0
        if run.geometry is not None:
            try:
                cost = self._evaluator.cost(run.geometry)
            except Exception as error:  # a cell that no neighbours can be found in
                run.receive(Evaluation.failed(first_line(error), repeatable=False))
        run.seconds += time.perf_counter() - started
        alone = self._on_processor and settings.optimizer in EVALUATED_ALONE
        flight = _Flight(task, run, cost, alone)
        (self._ended if run.geometry is None else self._flights).append(flight)

    def step(self) -> Iterator[tuple[RelaxTask, Relaxation]]:
        """Move every crystal once; gives those that have ended."""
        if self._flights:
            for group in self._groups():
                started = time.perf_counter()
                geometries = [
                    flight.run.geometry for flight in group if flight.run.geometry is not None
                ]
                alone = group[0].alone
                evaluator = self._evaluator_of_alone if alone else self._evaluator
                evaluations = self._evaluate(evaluator, geometries)
                for flight, evaluation in zip(group, evaluations, strict=True):
                    flight.run.receive(evaluation)
                share = (time.perf_counter() - started) / sum(flight.cost for flight in group)
                for flight in group:
                    flight.run.seconds += share * flight.cost
            self._ended += [f for f in self._flights if f.run.geometry is None]
            self._flights = [f for f in self._flights if f.run.geometry is not None]
        ended, self._ended = self._ended, []
        for flight in ended:
            yield flight.task, flight.run.result()

    def _groups(self) -> Iterator[list[_Flight]]:
        """The running relaxations in groups that are evaluated together, within the budget."""
        group: list[_Flight] = []
        cost = 0.0
        for flight in self._flights:
            if group and (flight.alone or group[-1].alone or cost + flight.cost > self._limit):
                yield group
                group, cost = [], 0.0
            group.append(flight)
            cost += flight.cost
        yield group

    def evaluate(
        self, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        """Evaluations of all of them, those that break confined to themselves."""
        return self._evaluate(self._evaluator, geometries, energy_only=energy_only)

    def _evaluate(
        self, evaluator: Evaluator, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        reason = ""
        try:
            return evaluator.evaluate(geometries, energy_only=energy_only)
        except Exception as error:  # a library may raise anything on an odd crystal
            if not out_of_memory(error):
                reason = first_line(error)
            elif len(geometries) > 1:
                self._budget /= 2
                self._limit = self._budget
            else:
                reason = "out of memory"
        # Outside of the handler, so that what the failed attempt held is freed first.
        if len(geometries) == 1:
            return [Evaluation.failed(reason, repeatable=False)]
        middle = len(geometries) // 2
        halves = geometries[:middle], geometries[middle:]
        return [
            each
            for half in halves
            for each in self._evaluate(evaluator, half, energy_only=energy_only)
        ]


def relax_one(structure: Structure, evaluator: Evaluator, settings: RelaxSettings) -> Relaxation:
    """Relax a single crystal; whatever happens is the result."""
    flight = InFlight(evaluator)
    flight.add(RelaxTask(None, structure), settings)
    while True:
        for _, result in flight.step():
            return result


def out_of_memory(error: Exception) -> bool:
    """True if an error says that the memory is full; torch has several such errors."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(
        text in message for text in ("out of memory", "can't allocate memory", "not enough memory")
    )
