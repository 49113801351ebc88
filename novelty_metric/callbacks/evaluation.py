"""One evaluation in a training run: the samples to score, and the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novelty_metric.report.novelty_report import NoveltyReport


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """Crystals that wait to be scored, with the epoch and the optimiser step of their weights.

    A structure is None if the sampler gave nothing. An id is the position among the samples of all
    processes.
    """

    epoch: int
    step: int
    structures: Sequence[Any]
    ids: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of one evaluation, the same in all processes of a training run.

    Attributes
    ----------
    epoch, step : int
        Epoch and optimiser step at which the crystals were sampled.
    report : NoveltyReport or None
        None if the evaluation failed.
    error : str or None
        The reason of a failure, in one line.
    seconds : float
        Wall time of the scoring; in the first evaluation including the preparation.
    folder : Path or None
        Where the report was saved.
    prefix : str
        First part of the names of `scalars`.
    """

    epoch: int
    step: int
    report: NoveltyReport | None = None
    error: str | None = None
    seconds: float = 0.0
    folder: Path | None = None
    prefix: str = "novelty"

    @property
    def scalars(self) -> dict[str, float]:
        """Finite numbers by name, as in `NoveltyReport.scalars`, with epoch, step and time.

        Empty if the evaluation failed.
        """
        if self.report is None:
            return {}
        return {
            **self.report.scalars(self.prefix),
            f"{self.prefix}/epoch": float(self.epoch),
            f"{self.prefix}/step": float(self.step),
            f"{self.prefix}/seconds": self.seconds,
        }
