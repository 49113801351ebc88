"""Scores the samples of an evaluation; each process of a training run scores a part."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.callbacks.evaluation import Evaluation, EvaluationRequest
from novelty_metric.callbacks.ranks import Ranks
from novelty_metric.callbacks.sampling import plain_torch, randomness_kept
from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError, NoveltyMetricError
from novelty_metric.support.progress import no_progress
from novelty_metric.support.quiet import libraries_quiet
from novelty_metric.terminal.progress_lines import ProgressLines

if TYPE_CHECKING:
    from novelty_metric.metric import MetricState, SubstitutionNovelty

log = logging.getLogger("novelty_metric")


_LATEST_SEARCH, _LATEST_REPORT = 1.75, 1.9
"""Ends of the search without relaxations and of its report, in multiples of the budget."""


@dataclass
class Scorer:
    """Scores evaluations with one metric, which is emptied in between.

    An evaluation has `budget_seconds` of wall time without opening, and takes at most twice as
    long; unfinished crystals are undecided. If no crystal is relaxed in this time, the crystals are
    scored as with ``relaxer="none"``; 0 requests that, without a limit. The processes of `ranks`
    score together, each its share.
    """

    metric: SubstitutionNovelty
    budget_seconds: float | None
    ranks: Ranks
    _prepared: bool = False

    def score(self, request: EvaluationRequest, folder: Path | None) -> Evaluation:
        """The evaluation from the parts of all processes, the same in each; rank 0 saves its
        report.

        Raises
        ------
        InputError
            In every process, if the reference, the potential or the hull can't be used in one.
        """
        with randomness_kept(), plain_torch(), libraries_quiet():
            try:
                return self._score(request, folder)
            except NoveltyMetricError:
                raise
            except _Failed as failure:
                return Evaluation(epoch=request.epoch, step=request.step, error=str(failure))
            finally:
                self.metric.reset()

    def close(self) -> None:
        """Stop the metric's worker processes and close its cache."""
        self.metric.close()

    def _score(self, request: EvaluationRequest, folder: Path | None) -> Evaluation:
        begun = time.monotonic()
        self.prepare()
        started = time.monotonic()  # the budget is for the evaluation
        deadline = None if self.budget_seconds is None else started + self.budget_seconds
        metric = self.metric
        states, none_relaxed = self._shares(metric, request, deadline)
        if deadline is not None and none_relaxed:
            metric = metric.search_only()
            states, _ = self._shares(metric, request, self._after(started, _LATEST_SEARCH))
        if len(states) > 1:
            metric.reset()
            for state in states:
                metric.merge(state)
        report = metric.report(deadline=self._after(started, _LATEST_REPORT))
        first = self.ranks.own == 0
        seconds = time.monotonic() - begun
        problem = None
        if folder is not None and first:
            try:
                report.save(folder)
            except InputError as error:
                problem = str(error)
        return Evaluation(
            epoch=request.epoch,
            step=request.step,
            report=report,
            error=problem,
            # Not of each its own: the evaluation is the same in all.
            seconds=max(self.ranks.gather(seconds)),
            folder=folder,
        )

    def _after(self, started: float, budgets: float) -> float | None:
        """The time after this multiple of the budget; None without a budget."""
        return started + budgets * self.budget_seconds if self.budget_seconds else None

    def prepare(self) -> None:
        """Open everything; rank 0 first, so that the others find its computed files.

        Raises
        ------
        InputError
            In every process, if something can't be used in one.
        """
        if self._prepared:
            return
        for turn in (True, False):
            found = None
            if (self.ranks.own == 0) == turn:
                with _lines_on(self.metric):
                    found = _attempt(self.metric.prepare)
            self._gather(found)
        self._prepared = True

    def _shares(
        self, metric: SubstitutionNovelty, request: EvaluationRequest, deadline: float | None
    ) -> tuple[list[MetricState], bool]:
        """The results of all processes, and whether none of them has relaxed a crystal.

        The deadline came before the first relaxation ended, or nothing had to be relaxed.
        """

        def score() -> tuple[MetricState, bool]:
            metric.reset()
            metric.update(request.structures, request.ids)
            report = metric.compute(deadline=deadline)
            searched_only = report.context.potential is None
            state = metric.state()
            usable = [case for case in state.cases.values() if case.error is None]
            late = [case.out_of_time and case.energy_per_atom is None for case in usable]
            return state, not searched_only and all(late)

        states, none_relaxed = zip(*self._gather(_attempt(score)), strict=True)
        return list(states), all(none_relaxed)

    def _gather(self, found: Any) -> list[Any]:
        """What each process has found; the error of any is raised in all."""
        gathered = self.ranks.gather(found)
        for rank, error in enumerate(gathered):
            if isinstance(error, Exception):
                where = f"in process {rank}: " if len(gathered) > 1 else ""
                raise type(error)(f"{where}{error}")
        return gathered


@contextmanager
def _lines_on(metric: SubstitutionNovelty) -> Iterator[None]:
    """Print a line per minute during a long preparation, unless there is another listener."""
    if metric.progress is not no_progress:
        yield
        return
    with ProgressLines(_write) as lines:
        lines("the reference and the energies for the hull", 0, 1)
        metric.progress = lines
        try:
            yield
        finally:
            metric.progress = no_progress


def _write(line: str) -> None:
    """Print to the log if it accepts such lines, else to standard error."""
    message = f"novelty, preparing: {line}"
    if log.isEnabledFor(logging.INFO):
        log.info(message)
    else:
        print(message, file=sys.stderr, flush=True)


class _Failed(Exception):
    """An error that the settings did not cause."""


def _attempt(work: Callable[[], Any]) -> Any:
    """What the work returns, or its error, to be sent to the other processes."""
    try:
        return work()
    except NoveltyMetricError as error:
        return InputError(str(error))
    except Exception as error:
        return _Failed(f"{type(error).__name__}: {first_line(error)}")
