"""`NoveltyCallback`: the metric as a callback of Lightning."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.callbacks.evaluation import Evaluation
from novelty_metric.callbacks.monitor import (
    NoveltyMonitor,
    ReportLogger,
    names_checked,
    step_name,
)
from novelty_metric.callbacks.process import WayHome
from novelty_metric.callbacks.sampling import Sampler, sampler_call
from novelty_metric.callbacks.schedule import Schedule
from novelty_metric.callbacks.watching import Watchers
from novelty_metric.errors import InputError

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty

_HOMES = ("lightning.pytorch", "pytorch_lightning")
"""Lightning's two package names."""


def lightning_class(name: str) -> type:
    """A base class of the imported Lightning, or else of an installed one.

    Where both are in use it is one of both: before Lightning 2.6 a trainer of the one refuses a
    callback that is only the other's.
    """
    names = [name for name in _HOMES if name in sys.modules]
    names = names or [name for name in _HOMES if find_spec(name.partition(".")[0]) is not None][:1]
    if not names:
        raise ImportError(
            "NoveltyCallback needs Lightning: pip install 'novelty-metric[training]', or use "
            "novelty_metric.callbacks.NoveltyMonitor in a loop of your own"
        )
    bases = tuple(getattr(import_module(f"{home}.callbacks"), name) for home in names)
    return type(name, bases, {})


class NoveltyCallback(lightning_class("Callback")):  # type: ignore[misc]
    """Samples the model every few epochs or steps, scores the crystals and logs the novelty.

    A due epoch is evaluated once: within its last validation, or at its end if there is no
    validation then. Values are logged with the epoch and the step of the weights that they measure.
    ``novelty/novel_yield`` is always present, and ``novelty/novelty`` is absent if no crystal is
    eligible. The other names are those of `NoveltyReport.scalars`. All processes have the same
    values. Sanity checks are skipped; ``trainer.validate`` evaluates. Random states and modes are
    restored.

    Parameters
    ----------
    sample : str or callable
        Name of the module's method that takes a number and returns this many crystals; or a
        callable of the module and a number, or of a number; see `NoveltyMonitor`.
    metric : SubstitutionNovelty or mapping
        The metric, or its settings, such as ``{"reference": "mp_20.arrow"}``.
    n_samples, budget_seconds, seed, loggers
        As for `NoveltyMonitor`. ``fast_dev_run`` takes two samples.
    every_n_epochs : int, optional
        Epoch e, from 0, is due if ``(e + 1) % n == 0``, as for Lightning's
        ``check_val_every_n_epoch``. Default: every epoch, or none if `every_n_steps` is given.
    every_n_steps : int, optional
        Evaluate the weights after n, 2n and so on optimiser steps (``trainer.global_step``), beside
        the epochs if both are given.
    at_end : bool
        Also evaluate the final weights, unless they were just evaluated.
    asynchronous : bool
        As for `NoveltyMonitor`. Use `NoveltyCheckpoint` to save the measured weights: a
        `ModelCheckpoint` sees a value when it arrives, and then saves later weights. If a callback
        monitors a value, training waits for the first result. The end of the training waits for
        unfinished evaluations.
    out : path, optional
        Folder for the reports; by default ``novelty`` in the folder of the first logger.
    wandb : bool
        If the trainer has a `WandbLogger`, log the table of crystals, the charts, the artifact and
        the summary of each report to its run.
    n_pictures : int
        Crystals drawn for W&B, each beside the reference crystal that its row names.
    fail_fast : bool
        As for `NoveltyMonitor`.
    prefix : str
        First part of the names of all values; two callbacks in one trainer need different ones.

    Attributes
    ----------
    evaluations : list of Evaluation
        The evaluations so far in this fit, and in validations after it.
    sampled : tuple of int or None
        Epoch and step of the weights that were sampled last in this fit.

    Notes
    -----
    `ModelCheckpoint` and `EarlyStopping` are called only if there is a new value. So ``patience``
    and ``save_top_k`` count evaluations, and an evaluation without eligible crystals, which has no
    ``novelty/novelty``, is skipped.
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
        at_end: bool = False,
        budget_seconds: float | None = None,
        asynchronous: bool = False,
        out: str | Path | None = None,
        seed: int = 0,
        loggers: Sequence[ReportLogger] = (),
        wandb: bool = True,
        n_pictures: int = 16,
        fail_fast: bool = False,
        prefix: str = "novelty",
    ) -> None:
        super().__init__()
        self._settings: dict[str, Any] = {
            "fail_fast": fail_fast,
            "prefix": prefix,
            "n_samples": n_samples,
            "budget_seconds": budget_seconds,
            "asynchronous": asynchronous,
            "seed": seed,
        }
        self._sample = sample
        self._metric = metric
        self._due = every_n_epochs, every_n_steps
        self._at_end = at_end
        self._asynchronous = asynchronous
        self._out = out
        self._loggers = tuple(loggers)
        self._wandb = wandb
        self._n_pictures = n_pictures
        self.prefix = prefix
        # What is wrong with the settings is said now, and not when the training begins.
        self._schedule = Schedule(*self._due)
        NoveltyMonitor(sample, metric, **self._settings)
        self._monitor: NoveltyMonitor | None = None
        self._watchers: Watchers | None = None
        self.sampled: tuple[int, int] | None = None
        self._evaluations: list[Evaluation] = []
        self._way_home = WayHome()

    @property
    def evaluations(self) -> list[Evaluation]:
        """The evaluations so far."""
        brought = self._way_home.received()
        if brought is not None:
            self._evaluations = brought
        return self._evaluations

    # -- what Lightning calls ----------------------------------------------------------------

    # Not by `state_dict`: of two callbacks with the same prefix Lightning would then say something
    # that does not name the prefix.

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """State for a resumed training, so that nothing is evaluated twice."""
        checkpoint.setdefault("novelty_metric", {})[self.prefix] = self._schedule.state()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Continue from the state of an interrupted training."""
        state = checkpoint.get("novelty_metric", {}).get(self.prefix)
        if state is not None:
            self._schedule.load(state)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Start; all that can be known before the training is checked.

        Raises
        ------
        InputError
            If another callback of the trainer has the same prefix, the sampler can't be called, or
            the reference can't be opened.
        """
        if stage not in ("fit", "validate"):
            return
        sampler_call(self._sample, pl_module)
        same = [one for one in trainer.callbacks if isinstance(one, NoveltyCallback)]
        if sum(one.prefix == self.prefix for one in same) > 1:
            raise InputError(
                f"two NoveltyCallbacks have the prefix {self.prefix!r}; give one of them another "
                "prefix="
            )
        if stage == "fit":
            self._evaluations = []
            self.sampled = None
            self._schedule = Schedule(1) if trainer.fast_dev_run else Schedule(*self._due)
        settings = dict(self._settings)
        if trainer.fast_dev_run:
            settings["n_samples"] = min(2, settings["n_samples"])
        # The same in every process: the folder is asked of a logger, which may have to agree on it.
        out = self._folder(trainer)
        self._monitor = NoveltyMonitor(
            self._sample,
            self._metric,
            out=out,
            loggers=[*self._loggers, *self._wandb_reports(trainer)],
            **settings,
        )
        self._monitor.check_reference()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Find the callbacks that monitor the values."""
        self._watchers = Watchers(
            trainer, f"{self.prefix}/", _keeps_weights, late=self._asynchronous
        )
        if self._asynchronous and self._watchers.checkpoints and trainer.is_global_zero:
            (first, *_) = self._watchers.checkpoints
            warnings.warn(
                f"{type(first).__name__}(monitor={first.monitor!r}) saves the weights at the "
                "time when an asynchronous value arrives, not the weights that it measures; use "
                "novelty_metric.callbacks.NoveltyCheckpoint",
                stacklevel=2,
            )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Count steps from the step of the checkpoint."""
        self._schedule.start(trainer.global_step)

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """Mark all values as outdated, because the weights change."""
        if self._watchers is not None:
            self._watchers.hide()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Evaluate if the step is due."""
        step = trainer.global_step
        due = self._schedule.step_is_due(step)
        self._schedule.start(step)
        if due:
            self._evaluate(trainer, pl_module, name=step_name(step))
        elif self._asynchronous and trainer.world_size == 1:
            self._collect(trainer)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Evaluate if this is the last validation of a due epoch."""
        if trainer.sanity_checking:
            return
        if trainer.state.fn == "validate":
            self._evaluate(trainer, pl_module, name="validate", in_record=True)
        elif _is_last_validation(trainer):
            self._end_epoch(trainer, pl_module)
        else:
            self._collect(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Evaluate a due epoch, if no validation came at its end."""
        self._end_epoch(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Evaluate the final weights if requested, and wait for results of the other process."""
        if self._monitor is None:
            return
        step = trainer.global_step
        if self._at_end and not self._schedule.is_measured(step):
            last = max(0, trainer.current_epoch - 1)  # Lightning counts complete epochs
            self._evaluate(trainer, pl_module, name=step_name(step), epoch=last)
        self._publish(trainer, self._monitor.wait())
        if trainer.is_global_zero:
            self._say_what_was_missed(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End processes; Lightning calls no `teardown` after an exception or Ctrl-C."""
        if trainer.world_size == 1:  # the others may never come to hear of it
            with contextlib.suppress(Exception):  # the one that is there is the one to be said
                self._collect(trainer)
        self._close()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """End processes."""
        self._close()

    # -- how it is done ----------------------------------------------------------------------

    def _end_epoch(self, trainer: Any, pl_module: Any) -> None:
        epoch, step = trainer.current_epoch, trainer.global_step
        if self._schedule.epoch_is_due(epoch):
            measured = self._schedule.is_measured(step)
            self._schedule.note(step, epoch)
            if not measured:
                self._evaluate(trainer, pl_module, in_record=not self._asynchronous)
                return
        self._collect(trainer)

    def _evaluate(
        self,
        trainer: Any,
        pl_module: Any,
        *,
        name: str | None = None,
        epoch: int | None = None,
        in_record: bool = False,
    ) -> None:
        """Evaluate now; `in_record` is true while Lightning writes a record of the validation or
        epoch.
        """
        monitor = self._monitor
        if monitor is None:
            return
        step = trainer.global_step
        epoch = trainer.current_epoch if epoch is None else epoch
        validates = trainer.state.fn == "validate"
        if not validates:
            self._schedule.note(step)
            self.sampled = epoch, step
        ready = monitor.evaluate(epoch, pl_module, step=step, name=name)
        watchers = self._watchers
        if validates or (watchers and watchers.checkpoints and not watchers.has_shown):
            ready += monitor.wait()
        self._publish(trainer, ready, record=pl_module if in_record else None)

    def _collect(self, trainer: Any) -> None:
        if self._monitor is not None:
            self._publish(trainer, self._monitor.ready())

    def _publish(self, trainer: Any, evaluations: list[Evaluation], *, record: Any = None) -> None:
        """Show and log them: by the module `record` in Lightning's own record, or separately."""
        for evaluation in evaluations:
            self._evaluations.append(evaluation)
            if evaluation.report is None:
                continue
            scalars = evaluation.scalars
            if self._watchers is not None:
                self._watchers.show(scalars)
            if record is not None:
                # Every process has the same values already; this tells Lightning so.
                record.log_dict(scalars, on_step=False, on_epoch=True, sync_dist=True)
            elif trainer.is_global_zero:
                # Not by `log_dict`, whose step is that of now and which leaves out most steps.
                for logger in trainer.loggers:
                    if logger is not self._wandb_logger(trainer):
                        logger.log_metrics({**scalars, "epoch": evaluation.epoch}, evaluation.step)
                        logger.save()

    def _say_what_was_missed(self, trainer: Any) -> None:
        if self._schedule.state()["step"] is None:
            every = [
                f"{name}={count}"
                for name, count in zip(("every_n_epochs", "every_n_steps"), self._due, strict=True)
                if count is not None
            ]
            warnings.warn(
                f"novelty was not evaluated: {' and '.join(every)}, and the training "
                f"had {trainer.current_epoch} epochs and {trainer.global_step} steps; at_end=True "
                "evaluates the final weights",
                stacklevel=2,
            )
        elif self._watchers is not None and self._watchers.has_shown:
            for name in self._watchers.never_given():
                warnings.warn(
                    f"{name!r} is monitored, but no evaluation gave it: either no crystal was "
                    "eligible, or no value has this name",
                    stacklevel=2,
                )

    def _close(self) -> None:
        if self._watchers is not None:
            self._watchers.close()
            self._watchers = None
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
            self._way_home.send(self._evaluations)

    def _folder(self, trainer: Any) -> Path | None:
        if trainer.fast_dev_run:
            return None
        if self._out is not None:
            return Path(self._out)
        return Path(trainer.strategy.broadcast(run_folder(trainer)), self.prefix)

    def _wandb_logger(self, trainer: Any) -> Any:
        """The trainer's logger whose run receives whole evaluations; None if there is none."""
        found = (one for one in trainer.loggers if type(one).__name__ == "WandbLogger")
        return next(found, None) if self._wandb else None

    def _wandb_reports(self, trainer: Any) -> list[ReportLogger]:
        logger = self._wandb_logger(trainer)
        if logger is None or not trainer.is_global_zero or trainer.fast_dev_run:
            return []
        from novelty_metric.loggers.wandb import WandbReports

        over = "epoch" if self._due[1] is None else "step"
        return [WandbReports(logger.experiment, n_pairs=self._n_pictures, over=over)]


def run_folder(trainer: Any) -> str:
    """Folder of the first logger's run: its files, or else Lightning's checkpoints."""
    logger = trainer.logger
    if logger is None:
        return str(trainer.default_root_dir)
    folder = getattr(logger, "log_dir", None)
    if folder is not None:
        return str(folder)
    # `WandbLogger` names no folder of the run, and its `save_dir` is that of all runs.
    parts = [str(part) for part in (logger.name, logger.version) if part is not None]
    return str(Path(logger.save_dir or trainer.default_root_dir, *parts))


def _keeps_weights(callback: Any) -> bool:
    """True for a checkpoint callback, of either Lightning."""
    classes = tuple(
        sys.modules[f"{home}.callbacks"].Checkpoint
        for home in _HOMES
        if f"{home}.callbacks" in sys.modules
    )
    return isinstance(callback, classes)


def _is_last_validation(trainer: Any) -> bool:
    """True if the epoch has no further validation after the current one."""
    if trainer.is_last_batch or trainer.should_stop:
        return True
    every = trainer.val_check_batch
    if every is None:  # by the clock
        return False
    left = trainer.num_training_batches - (trainer.fit_loop.batch_idx + 1)
    if trainer.max_steps != -1:
        steps = trainer.max_steps - trainer.global_step
        left = min(left, steps * trainer.accumulate_grad_batches)
    return bool(left < every < float("inf"))
