"""`NoveltyCallback`: the metric as a callback of Lightning."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.callbacks.evaluation import Evaluation
from novelty_metric.callbacks.monitor import NoveltyMonitor, ReportLogger, names_checked
from novelty_metric.callbacks.sampling import Sampler, sampler_call
from novelty_metric.errors import InputError

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty

_HOMES = ("lightning.pytorch", "pytorch_lightning")
"""Lightning under its two names."""


def _callback_class() -> type:
    """Base class of callbacks of the Lightning that is in use, or else of one that is installed.

    Where both are in use it is a callback of both: before Lightning 2.6 a trainer of the one
    refuses a callback that is only the other's.
    """
    names = [name for name in _HOMES if name in sys.modules]
    names = names or [name for name in _HOMES if find_spec(name.partition(".")[0]) is not None][:1]
    if not names:
        raise ImportError(
            "NoveltyCallback needs Lightning: pip install 'novelty-metric[training]', or use "
            "novelty_metric.callbacks.NoveltyMonitor in a loop of your own"
        )
    return type("Callback", tuple(import_module(f"{x}.callbacks").Callback for x in names), {})


class NoveltyCallback(_callback_class()):  # type: ignore[misc]
    """Samples the model every few epochs, scores what it gives, and logs the novelty.

    The values are logged at the end of the validation epoch (of the training epoch, where there is
    no validation), so that `ModelCheckpoint` and `EarlyStopping` can monitor them:
    ``novelty/novel_yield`` is there from the first validation on, ``novelty/novelty`` is absent
    while nothing is eligible, and the other names are those of `NoveltyReport.scalars`. Every
    process logs the same. Sanity checking is skipped; random state and modes are kept.

    Parameters
    ----------
    sample : str or callable
        Name of the method of the module that takes a number and gives that many crystals, or a
        callable of the module and a number, or of a number; see `NoveltyMonitor`.
    metric : SubstitutionNovelty or mapping
        The metric, or its settings, such as ``{"reference": "mp_20.arrow"}``.
    n_samples, every_n_epochs, budget_seconds, seed, loggers
        As for `NoveltyMonitor`. ``fast_dev_run`` takes two samples.
    asynchronous : bool
        As for `NoveltyMonitor`. Loggers get a result at the step and epoch that it belongs to; what
        monitors a value sees it at the validation after it came. The first result is waited for if
        a callback monitors one. The end of the training waits for what is under way.
    out : path, optional
        Folder for the reports; by default ``novelty`` in that of the first logger.
    wandb : bool
        Where the trainer has a `WandbLogger`, give its run the table of crystals, the charts, the
        artifact and the summary of each report.
    n_pictures : int
        Crystals drawn for W&B, each beside the reference crystal that its row names.
    fail_fast : bool
        As for `NoveltyMonitor`.
    prefix : str
        What the names of all values start with; two callbacks of one trainer need two.

    Attributes
    ----------
    evaluations : list of Evaluation
        What was found so far in this fit.

    Notes
    -----
    `EarlyStopping` counts validations, also those between two evaluations: its ``patience`` should
    be a multiple of ``every_n_epochs``.
    """

    @names_checked
    def __init__(
        self,
        sample: Sampler,
        metric: SubstitutionNovelty | Mapping[str, Any],
        *,
        n_samples: int = 64,
        every_n_epochs: int = 1,
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
            "every_n_epochs": every_n_epochs,
            "budget_seconds": budget_seconds,
            "asynchronous": asynchronous,
            "seed": seed,
        }
        self._sample = sample
        self._metric = metric
        self._asynchronous = asynchronous
        self._out = out
        self._loggers = tuple(loggers)
        self._wandb = wandb
        self._n_pictures = n_pictures
        self._prefix = prefix
        self.evaluations: list[Evaluation] = []
        # What is wrong with the settings is said now, and not when the training begins.
        NoveltyMonitor(sample, metric, **self._settings)
        self._monitor: NoveltyMonitor | None = None

    # -- what Lightning calls ----------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """Tells two callbacks of one trainer apart, by their prefixes."""
        return str(self._generate_state_key(prefix=self._prefix))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin; opens nothing yet.

        Raises
        ------
        InputError
            If another callback of the trainer has the same prefix, or the sampler can't be called.
        """
        sampler_call(self._sample, pl_module)
        same = [one for one in trainer.callbacks if isinstance(one, NoveltyCallback)]
        if sum(one._prefix == self._prefix for one in same) > 1:
            raise InputError(
                f"two NoveltyCallbacks have the prefix {self._prefix!r}; give one of them another "
                "prefix="
            )
        self.evaluations = []
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

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Evaluate, if the epoch is due."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._step(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Evaluate here where nothing is validated."""
        if not trainer.enable_validation:
            self._step(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Wait for what another process still scores."""
        if self._monitor is not None:
            self._publish(trainer, pl_module, self._monitor.wait(), in_hook=False)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """End processes, also after an exception."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    # -- how it is done ----------------------------------------------------------------------

    def _step(self, trainer: Any, pl_module: Any) -> None:
        monitor = self._monitor
        if monitor is None:
            return
        epoch, step = trainer.current_epoch, trainer.global_step
        ready = monitor.step(epoch, pl_module, step=step)
        if (
            monitor.pending
            and self._name("novel_yield") not in trainer.callback_metrics
            and self._monitored(trainer)
        ):
            ready += monitor.wait()
        self._publish(trainer, pl_module, ready, in_hook=True)

    def _publish(
        self, trainer: Any, pl_module: Any, evaluations: list[Evaluation], *, in_hook: bool
    ) -> None:
        import torch

        for evaluation in evaluations:
            self.evaluations.append(evaluation)
            known: dict[str, Any] = trainer.callback_metrics
            if evaluation.report is None:
                # Nothing was found, and a callback that monitors this would end the training.
                known.setdefault(self._name("novel_yield"), torch.tensor(0.0))
                continue
            for name in [name for name in known if name.startswith(self._name(""))]:
                del known[name]  # what is absent now must not be taken for a value of now
            scalars = evaluation.scalars
            if in_hook and not self._asynchronous:
                # Every process has the same values already; this tells Lightning so.
                pl_module.log_dict(scalars, on_step=False, on_epoch=True, sync_dist=True)
                continue
            known.update({name: torch.tensor(value) for name, value in scalars.items()})
            if trainer.is_global_zero:
                for logger in self._others(trainer):
                    logger.log_metrics({**scalars, "epoch": evaluation.epoch}, evaluation.step)
                    logger.save()

    def _name(self, value: str) -> str:
        return f"{self._prefix}/{value}"

    def _monitored(self, trainer: Any) -> bool:
        """Whether a callback, such as one for checkpoints, looks at one of the values."""
        names = [getattr(callback, "monitor", None) for callback in trainer.callbacks]
        return any(isinstance(name, str) and name.startswith(self._name("")) for name in names)

    def _folder(self, trainer: Any) -> Path | None:
        if trainer.fast_dev_run:
            return None
        if self._out is not None:
            return Path(self._out)
        return Path(trainer.strategy.broadcast(_home(trainer)), self._prefix)

    def _others(self, trainer: Any) -> list[Any]:
        """The trainer's loggers, without the one whose run gets whole evaluations from us."""
        told = self._wandb and self._asynchronous
        is_wandb = [type(logger).__name__ == "WandbLogger" for logger in trainer.loggers]
        first = is_wandb.index(True) if told and any(is_wandb) else None
        return [logger for at, logger in enumerate(trainer.loggers) if at != first]

    def _wandb_reports(self, trainer: Any) -> list[ReportLogger]:
        """What takes the reports to the run of the trainer's `WandbLogger`."""
        if not self._wandb or not trainer.is_global_zero or trainer.fast_dev_run:
            return []
        for logger in trainer.loggers:
            if type(logger).__name__ == "WandbLogger":
                from novelty_metric.loggers.wandb import WandbReports

                # Lightning logs the numbers of an evaluation that ends within its hook itself.
                numbers = self._asynchronous
                run = logger.experiment
                return [WandbReports(run, n_pairs=self._n_pictures, numbers=numbers)]
        return []


def _home(trainer: Any) -> str:
    """Folder of the first logger's run: where its files lie, or else Lightning's checkpoints."""
    logger = trainer.logger
    if logger is None:
        return str(trainer.default_root_dir)
    folder = getattr(logger, "log_dir", None)
    if folder is not None:
        return str(folder)
    # `WandbLogger` names no folder of the run, and its `save_dir` is that of all runs.
    parts = [str(part) for part in (logger.name, logger.version) if part is not None]
    return str(Path(logger.save_dir or trainer.default_root_dir, *parts))
