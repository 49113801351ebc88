"""`NoveltyMonitor`: samples, scores, saves and logs every few epochs, in any training loop."""

from __future__ import annotations

import functools
import inspect
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol

from novelty_metric.callbacks.evaluation import Evaluation, EvaluationRequest
from novelty_metric.callbacks.process import BackgroundScorer
from novelty_metric.callbacks.ranks import Ranks
from novelty_metric.callbacks.sampling import Sampler, draw
from novelty_metric.callbacks.schedule import Schedule, whole_number
from novelty_metric.callbacks.scoring import Scorer
from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError, near_or_known

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.report.novelty_report import NoveltyReport

log = logging.getLogger("novelty_metric")
_PREFIX = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_P = ParamSpec("_P")


def names_checked(init: Callable[_P, None]) -> Callable[_P, None]:
    """Decorate a constructor: its error for a misspelt argument suggests the closest name."""
    known = [name for name in inspect.signature(init).parameters if name != "self"]
    owner = init.__qualname__.partition(".")[0]

    @functools.wraps(init)
    def checked(*given: _P.args, **named: _P.kwargs) -> None:
        _refuse_unknown(named, known, f"{owner} takes no argument")
        init(*given, **named)

    return checked


def _refuse_unknown(given: Iterable[str], known: Sequence[str], what: str) -> None:
    for name in given:
        if name not in known:
            raise InputError(f"{what} named {name!r}; {near_or_known(name, known)}")


class ReportLogger(Protocol):
    """A destination of evaluations besides files: `novelty_metric.loggers.wandb.WandbReports`."""

    def log_report(
        self,
        report: NoveltyReport,
        *,
        epoch: int | None,
        scalars: Mapping[str, float],
        folder: Path | None,
        step: int | None,
        prefix: str,
    ) -> None:
        """Log one report; called only in rank 0, after the files are written.

        The names of `scalars` start with `prefix` and a slash.
        """
        ...

    def close(self) -> None:
        """Finish what this object opened itself."""
        ...


class NoveltyMonitor:
    """Scores a model during training.

    Parameters
    ----------
    sample : str or callable
        Name of a method of the model that takes a number and returns this many crystals (pymatgen
        Structures or ASE Atoms); or a callable of the model and a number, or of a number. It is
        called in evaluation mode without gradients, with a new seed for each epoch and process;
        then the random state and the mode are restored. If it fails, or does not return this many
        crystals, a warning is given, and each missing crystal counts as unreadable.
    metric : SubstitutionNovelty or mapping
        The metric, or its settings, such as ``{"reference": "mp_20.arrow"}``.
    n_samples : int
        Number of crystals per evaluation, divided among the processes of a distributed run.
    every_n_epochs : int, optional
        Evaluate epochs n - 1, 2n - 1 and so on, as Lightning counts. Default: every epoch.
    every_n_steps : int, optional
        Instead, for a loop that calls `step` after every optimiser step: evaluate after n, 2n and
        so on steps.
    budget_seconds : float, optional
        Wall time for the relaxations and searches of one evaluation (s). The evaluation takes at
        most twice as long. Unfinished crystals are undecided. If no crystal was relaxed, all are
        scored as with ``relaxer="none"``. 0 requests this without a limit.
    asynchronous : bool
        Score in another process while training continues, on the CPU unless the metric names a
        device. Results have the epoch of their weights.
    out : path, optional
        Folder for the reports, with one folder for each evaluation. If it contains the reports of
        an earlier run, new reports are written to ``version_1`` in it, and so on. A run that
        continues an earlier one at a later epoch or step continues in its folder.
    seed : int
    loggers : sequence of ReportLogger
        They receive every report, in rank 0 only.
    on_result : callable, optional
        Called with every finished `Evaluation` in every process, including those for which the end
        of a ``with`` block waits.
    fail_fast : bool
        Raise the errors of the sampler, and an error if it does not return the right number of
        crystals.
    prefix : str
        First part of the names of all values: letters, digits, ``_``, ``.``, ``-``, and slashes in
        between.

    Attributes
    ----------
    results : list of Evaluation
        All evaluations so far.

    Notes
    -----
    In a distributed run every process makes the same calls. With ``asynchronous=True``, one scorer
    beside rank 0 scores the samples of all processes.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> salt = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... )
    >>> settings = {"reference": "aflow", "relaxer": "none", "hull": "none"}
    >>> with NoveltyMonitor(lambda n: [salt] * n, settings, n_samples=2) as monitor:
    ...     for epoch in range(2):
    ...         _ = monitor.step(epoch)
    >>> [(found.epoch, found.scalars["novelty/duplicate"]) for found in monitor.results]
    [(0, 1.0), (1, 1.0)]
    """

    @names_checked
    def __init__(
        self,
        sample: Sampler,
        metric: SubstitutionNovelty | Mapping[str, Any],
        *,
        n_samples: int = 64,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
        budget_seconds: float | None = None,
        asynchronous: bool = False,
        out: str | Path | None = None,
        seed: int = 0,
        loggers: Sequence[ReportLogger] = (),
        on_result: Callable[[Evaluation], object] | None = None,
        fail_fast: bool = False,
        prefix: str = "novelty",
    ) -> None:
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise InputError(
                f"prefix is {prefix!r}; it must be a name such as novelty or new/mp_20"
            )
        if every_n_epochs is not None and every_n_steps is not None:
            raise InputError("give every_n_epochs or every_n_steps, not both")
        if budget_seconds is not None and not budget_seconds >= 0:
            raise InputError(f"budget_seconds is {budget_seconds!r}; it must be 0 or more")
        if not isinstance(sample, str) and not callable(sample):
            raise InputError(f"sample is {sample!r}; it must be a callable or a method's name")
        self._sample = sample
        self._metric = metric_of(metric)
        self._n_samples = whole_number("n_samples", n_samples)
        self._schedule = Schedule(every_n_epochs, every_n_steps)
        self._budget = budget_seconds
        self._asynchronous = asynchronous
        self._out = None if out is None else Path(out)
        self._seed = seed
        self._fail_fast = fail_fast
        if on_result is not None and not callable(on_result):
            raise InputError(f"on_result is {on_result!r}; it must be a function of an evaluation")
        self._on_result = on_result
        self.results: list[Evaluation] = []
        self._prefix = prefix
        self._loggers = list(loggers)
        self._ranks = Ranks()
        self._scorer: Scorer | None = None
        self._background: BackgroundScorer | None = None
        self._folder_of_run: Path | None = None
        self._pending = 0

    # -- what a loop calls -------------------------------------------------------------------

    def is_due(self, epoch: int, step: int | None = None) -> bool:
        """True if `step` will evaluate now."""
        if self._schedule.every_n_steps is None:
            return self._schedule.epoch_is_due(epoch)
        if step is None:
            raise InputError("every_n_steps needs the number of the step: step(epoch, step=…)")
        return self._schedule.step_is_due(step)

    def step(self, epoch: int, module: Any = None, *, step: int | None = None) -> list[Evaluation]:
        """Evaluate if due; returns the evaluations that are finished.

        The last ones of an asynchronous run come at its end: take `results` or ``on_result=``.

        Parameters
        ----------
        epoch : int
            From 0.
        module : object, optional
            The model; the sampler gets it.
        step : int, optional
            Optimiser steps taken so far; needed with ``every_n_steps``, and for loggers that count
            in steps.

        Raises
        ------
        InputError
            If the sampler can't be called, or the reference, the potential or the hull can't be
            used. Whatever else goes wrong with the scoring is a warning, and `Evaluation.error`.
        """
        due, steps = self.is_due(epoch, step), step or 0
        self._schedule.start(steps)
        if not due:
            return self.ready()
        name = None if self._schedule.every_n_steps is None else step_name(steps)
        return self.evaluate(epoch, module, step=steps, name=name)

    def evaluate(
        self, epoch: int, module: Any = None, *, step: int = 0, name: str | None = None
    ) -> list[Evaluation]:
        """Evaluate now, due or not; otherwise the same as `step`.

        Parameters
        ----------
        epoch, module, step
            As for `step`.
        name : str, optional
            Folder of the report in ``out``; default: that of the epoch.
        """
        self._ranks.open()  # here all processes are together: the training step before saw to it
        self._schedule.note(step, epoch)
        folder = self._folder(name or f"epoch_{epoch:05d}")
        request = self._sampled(epoch, module, step)
        if not self._asynchronous:
            if self._scorer is None:
                self._scorer = Scorer(
                    metric=self._metric, budget_seconds=self._budget, ranks=self._ranks
                )
            return self._told([self._scorer.score(request, folder)])
        whole = self._whole(request)
        self._pending += 1
        if self._ranks.own == 0:
            if self._background is None:
                self._background = BackgroundScorer(self._metric, self._budget)
            self._background.submit(whole, folder)
        return self.ready()

    def ready(self) -> list[Evaluation]:
        """Evaluations that another process has finished since the last call."""
        return self._received(0.0)

    def wait(self) -> list[Evaluation]:
        """All unfinished evaluations, after waiting for them."""
        evaluations: list[Evaluation] = []
        if self._pending and self._ranks.own == 0:
            log.info("waiting for %d evaluations of novelty", self._pending)
        while self._pending:
            evaluations += self._received(None)
        return evaluations

    @property
    def pending(self) -> int:
        """Number of unfinished evaluations."""
        return self._pending

    def close(self) -> None:
        """End processes and close what was opened; unfinished evaluations are dropped."""
        if self._pending and self._ranks.own == 0:
            warnings.warn(
                f"{self._pending} unfinished evaluations of novelty were dropped", stacklevel=2
            )
        self._pending = 0
        if self._background is not None:
            self._background.close()
            self._background = None
        if self._scorer is not None:
            self._scorer.close()
            self._scorer = None
        self._ranks.close()
        if self._ranks.own == 0:
            for logger in self._loggers:
                self._tell(logger.close)

    def check_reference(self) -> None:
        """Open the reference once, because the first evaluation may come after hours.

        Raises
        ------
        InputError
            If it can't be opened.
        """
        self._metric.spec.open_reference()

    def __enter__(self) -> NoveltyMonitor:
        if not self._asynchronous:  # whose errors are warnings
            self.check_reference()
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        try:
            if kind is None:
                self.wait()
            elif self._ranks.count == 1:
                self.ready()  # of several processes, the others may never come to hear of it
        finally:
            self.close()

    # -- how it is done ----------------------------------------------------------------------

    def _sampled(self, epoch: int, module: Any, step: int) -> EvaluationRequest:
        """The number of samples of this process; equal in all, because a sharded model needs them
        all.
        """
        share = -(-self._n_samples // self._ranks.count)
        first = self._ranks.own * share
        seed = (self._seed, epoch, self._ranks.own)
        failure: Exception | None = None
        structures: list[Any] = []
        message, problem = None, None
        try:
            structures, problem = draw(self._sample, module, share, seed, fail_fast=self._fail_fast)
        except Exception as error:
            failure, message = error, f"{type(error).__name__}: {first_line(error)}"
        told = self._ranks.gather((message, problem))
        if failure is not None:
            raise failure
        for rank, (text, _) in enumerate(told):
            if text is not None:
                raise RuntimeError(f"the sampler failed in process {rank}: {text}")
        self._warn_of_samples(epoch, [problem for _, problem in told])
        kept = max(0, min(share, self._n_samples - first))
        ids = [str(first + at) for at in range(kept)]
        return EvaluationRequest(epoch=epoch, step=step, structures=structures[:kept], ids=ids)

    def _warn_of_samples(self, epoch: int, problems: Sequence[str | None]) -> None:
        """Report the faults of the samplers in all processes, each once."""
        found: dict[str, list[str]] = {}
        for rank, problem in enumerate(problems):
            if problem is not None:
                found.setdefault(problem, []).append(str(rank))
        for problem, ranks in found.items() if self._ranks.own == 0 else ():
            where = f" in process {', '.join(ranks)}" if len(problems) > 1 else ""
            warnings.warn(f"novelty of epoch {epoch}{where}: {problem}", stacklevel=5)

    def _whole(self, request: EvaluationRequest) -> EvaluationRequest:
        shares = self._ranks.gather((request.structures, request.ids))
        return replace(
            request,
            structures=[structure for structures, _ in shares for structure in structures],
            ids=[name for _, ids in shares for name in ids],
        )

    def _received(self, seconds: float | None) -> list[Evaluation]:
        """Rank 0's results, sent to all, after waiting for the first; without limit if None."""
        if not self._asynchronous or not self._pending:
            return []
        found: list[Evaluation] = []
        if self._background is not None:
            while (evaluation := self._background.take(0.0 if found else seconds)) is not None:
                found.append(evaluation)
        found = self._ranks.from_first(found)
        self._pending -= len(found)
        return self._told(found)

    def _told(self, evaluations: list[Evaluation]) -> list[Evaluation]:
        """Warn about failed evaluations, and pass the others to the loggers."""
        evaluations = [replace(one, prefix=self._prefix) for one in evaluations]
        if self._ranks.own == 0:
            for evaluation in evaluations:
                if evaluation.error is not None:
                    message = f"novelty of epoch {evaluation.epoch}: {evaluation.error}"
                    warnings.warn(message, stacklevel=3)
                for logger in self._loggers if evaluation.report is not None else ():
                    self._tell(_log_to, logger, evaluation)
        if evaluations:
            self._ranks.gather(None)  # pictures take time, and the next step of training waits
        self.results += evaluations
        if self._on_result is not None:
            for evaluation in evaluations:
                self._on_result(evaluation)
        return evaluations

    def _tell(self, call: Any, *arguments: Any) -> None:
        """Warn if a logger fails; training continues, because the files exist."""
        try:
            call(*arguments)
        except Exception as error:
            message = f"a logger failed ({type(error).__name__}: {first_line(error)})"
            warnings.warn(f"novelty: {message}; the training continues", stacklevel=3)

    def _folder(self, name: str) -> Path | None:
        """The folder of an evaluation's report; the same in all processes."""
        if self._out is None:
            return None
        if self._folder_of_run is None:
            mine = _folder_of_run(self._out, name) if self._ranks.own == 0 else None
            self._folder_of_run = self._ranks.from_first(mine)
        return self._folder_of_run / name


def _folder_of_run(out: Path, first: str) -> Path:
    """The folder `out`, or a numbered version of it without reports of another run.

    A run that begins no later than the reports that are there is another one.

    Parameters
    ----------
    out : path
    first : str
        Name of the first evaluation of this run, such as ``epoch_00004``.
    """
    versions = [int(path.name[8:]) for path in out.glob("version_*") if path.name[8:].isdecimal()]
    latest = max(versions, default=0)
    folder = out / f"version_{latest}" if latest else out
    # Names of one kind sort as their numbers do.
    kind = first.partition("_")[0]
    there = sorted(path.name for path in folder.glob(f"{kind}*"))
    if there[:1] < [first]:
        return folder
    folder = out / f"version_{latest + 1}"
    warnings.warn(
        f"novelty: {out} contains the reports of an earlier run; new reports are written to "
        f"{folder}",
        stacklevel=5,
    )
    return folder


def step_name(step: int) -> str:
    """Folder of an evaluation that is not at the end of an epoch."""
    return f"step_{step:08d}"


def _log_to(logger: ReportLogger, evaluation: Evaluation) -> None:
    assert evaluation.report is not None
    logger.log_report(
        evaluation.report,
        epoch=evaluation.epoch,
        scalars=evaluation.scalars,
        folder=evaluation.folder,
        step=evaluation.step,
        prefix=evaluation.prefix,
    )


def metric_of(given: SubstitutionNovelty | Mapping[str, Any]) -> SubstitutionNovelty:
    """The metric, made from settings if those were given.

    Raises
    ------
    InputError
        If a setting is unknown or can't be used, or no reference is named.
    """
    from novelty_metric.metric import SubstitutionNovelty

    if isinstance(given, SubstitutionNovelty):
        return given
    if not isinstance(given, Mapping):
        raise InputError(
            f"metric is {given!r}; it must be a SubstitutionNovelty or a mapping of its settings"
        )
    settings = {str(name): value for name, value in given.items()}
    known = list(inspect.signature(SubstitutionNovelty).parameters)
    _refuse_unknown(settings, known, "metric takes no setting")
    if "reference" not in settings:
        raise InputError("metric needs a reference: the training set of the model")
    try:
        return SubstitutionNovelty(**settings)
    except TypeError as error:
        raise InputError(f"metric: {first_line(error)}") from error
