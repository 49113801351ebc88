"""`NoveltyCheckpoint`: keeps the best evaluated weights, even if results arrive late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from novelty_metric.callbacks.evaluation import Evaluation
from novelty_metric.callbacks.lightning import NoveltyCallback, lightning_class, run_folder
from novelty_metric.callbacks.schedule import whole_number
from novelty_metric.callbacks.watching import SeesEvaluations
from novelty_metric.errors import InputError


class NoveltyCheckpoint(SeesEvaluations, lightning_class("Checkpoint")):  # type: ignore[misc]
    """Saves a checkpoint with each evaluation, and keeps those of the best ones.

    Weights are saved when they are sampled, and judged when their result arrives: at once, or
    epochs later with ``asynchronous=True``. This includes evaluations between validations and at
    the end of the training. If a training is interrupted, checkpoints that are not yet judged are
    kept.

    Parameters
    ----------
    dirpath : path, optional
        Default: ``checkpoints`` beside the files of the first logger.
    monitor : str
        One of the names of `NoveltyReport.scalars`. An evaluation without it keeps no weights.
    mode : {"max", "min"}
    save_top_k : int
        Number of checkpoints kept.
    save_weights_only : bool
        Leave out the state of the optimiser and of the loops.

    Attributes
    ----------
    best_model_path : str
        The best checkpoint (among equals the earlier one); empty if there is none.
    best_model_score : float or None
    best_k_models : dict of str to float
        All kept checkpoints with their values.
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        *,
        monitor: str = "novelty/novel_yield",
        mode: str = "max",
        save_top_k: int = 1,
        save_weights_only: bool = False,
    ) -> None:
        super().__init__()
        if mode not in ("max", "min"):
            raise InputError(f"mode is {mode!r}; it must be 'max' or 'min'")
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.monitor = monitor
        self.mode = mode
        self.save_top_k = whole_number("save_top_k", save_top_k)
        self.save_weights_only = save_weights_only
        self.best_k_models: dict[str, float] = {}
        self.best_model_path = ""  # Lightning sets it where processes were spawned
        self._novelty: NoveltyCallback | None = None
        self._sampled: tuple[int, int] | None = None
        self._n_seen = 0
        self._waiting: dict[int, str] = {}

    @property
    def best_model_score(self) -> float | None:
        """Value of the best checkpoint."""
        return self.best_k_models.get(self.best_model_path)

    @property
    def state_key(self) -> str:
        """Distinguishes two of these callbacks in one trainer."""
        return str(self._generate_state_key(monitor=self.monitor, mode=self.mode))

    def state_dict(self) -> dict[str, Any]:
        """State: the kept checkpoints."""
        return {"best_k_models": dict(self.best_k_models)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the kept checkpoints that still exist."""
        kept = state_dict["best_k_models"].items()
        self.best_k_models = {path: score for path, score in kept if Path(path).exists()}
        self._note_best()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Find the callback whose weights are to be kept.

        Raises
        ------
        InputError
            If the trainer has none that gives `monitor`.
        """
        if stage != "fit":
            return
        found = [
            one
            for one in trainer.callbacks
            if isinstance(one, NoveltyCallback) and self.monitor.startswith(f"{one.prefix}/")
        ]
        if not found:
            raise InputError(
                f"NoveltyCheckpoint(monitor={self.monitor!r}) needs a NoveltyCallback in the same "
                "trainer that gives this value"
            )
        self._novelty = max(found, key=lambda one: len(one.prefix))
        self._sampled, self._n_seen, self._waiting = None, 0, {}
        self.best_k_models = {}
        self._note_best()
        if self.dirpath is None:
            self.dirpath = Path(trainer.strategy.broadcast(run_folder(trainer)), "checkpoints")

    def _update(self, trainer: Any, *_: Any) -> None:
        """Save the weights if they were just sampled; judge the finished evaluations."""
        novelty = self._novelty
        if novelty is None or trainer.sanity_checking or trainer.fast_dev_run:
            return
        new = novelty.evaluations[self._n_seen :]
        self._n_seen += len(new)
        sampled = novelty.sampled
        if sampled is not None and sampled != self._sampled:
            self._sampled = sampled
            epoch, step = sampled
            known = [evaluation for evaluation in new if evaluation.step == step]
            if not known or self._is_kept(known[0]):
                path = str(Path(self.dirpath or "", f"epoch={epoch}-step={step}.ckpt"))
                trainer.save_checkpoint(path, self.save_weights_only)
                self._waiting[step] = path
        for evaluation in new:
            path = self._waiting.pop(evaluation.step, "")
            if path:
                self._judge(trainer, evaluation, path)

    on_train_batch_end = on_validation_end = on_train_epoch_end = on_train_end = _update

    def _is_kept(self, evaluation: Evaluation) -> bool:
        score = evaluation.scalars.get(self.monitor)
        if score is None:
            return False
        ranked = self._ranked()
        if len(ranked) < self.save_top_k:
            return True
        worst = self.best_k_models[ranked[-1]]
        return score > worst if self.mode == "max" else score < worst

    def _judge(self, trainer: Any, evaluation: Evaluation, path: str) -> None:
        if not self._is_kept(evaluation):
            trainer.strategy.remove_checkpoint(path)
            return
        self.best_k_models[path] = evaluation.scalars[self.monitor]
        for worse in self._ranked()[self.save_top_k :]:
            del self.best_k_models[worse]
            trainer.strategy.remove_checkpoint(worse)
        self._note_best()

    def _note_best(self) -> None:
        self.best_model_path = next(iter(self._ranked()), "")

    def _ranked(self) -> list[str]:
        """Paths of the kept checkpoints, best first; among equals, the earlier one."""
        sign = -1 if self.mode == "max" else 1
        return sorted(self.best_k_models, key=lambda path: sign * self.best_k_models[path])
