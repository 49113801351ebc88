"""A training that takes milliseconds; its novelty is the step at which weights were sampled."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as lightning
import torch
from pymatgen.core import Lattice, Structure
from torch.utils.data import DataLoader

from novelty_metric import SubstitutionNovelty

BATCHES = 4
"""Per epoch."""


@dataclass
class TinyReport:
    """The parts of a report that a training needs."""

    steps: list[float]
    eligible: bool = True
    context: Any = field(default_factory=lambda: SimpleNamespace(potential=None))

    def scalars(self, prefix: str = "novelty") -> dict[str, float]:
        values = {"novel_yield": sum(self.steps) / len(self.steps), "n_samples": len(self.steps)}
        if self.eligible:
            values["novelty"] = values["novel_yield"]
        return {f"{prefix}/{name}": float(value) for name, value in values.items()}

    def save(self, folder: str | Path) -> Path:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return Path(folder)


class TinyMetric(SubstitutionNovelty):
    """Read the step from the cell of each sample, without a search."""

    def __init__(self, prepare_seconds: float = 0.0, none_eligible: Sequence[int] = ()) -> None:
        super().__init__("aflow", relaxer="none", hull="none")
        self._prepare_seconds = prepare_seconds
        self._none_eligible = none_eligible
        self._steps: list[float] = []

    def prepare(self) -> None:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            time.sleep(self._prepare_seconds)

    def update(self, structures: Any, ids: Any = None) -> None:
        self._steps += [round(structure.lattice.a) - 1.0 for structure in structures]

    def compute(self, *, deadline: float | None = None) -> Any:
        return self.report()

    def report(self, *, deadline: float | None = None) -> Any:
        return TinyReport(list(self._steps), eligible=self._steps[0] not in self._none_eligible)

    def state(self) -> Any:
        return SimpleNamespace(cases={}, steps=list(self._steps))

    def merge(self, other: Any) -> None:
        self._steps += other.steps

    def reset(self) -> None:
        self._steps = []

    def close(self) -> None: ...


class TinyModel(lightning.LightningModule):
    """One layer with dropout; `break_at` raises an error after so many batches in total."""

    def __init__(self, break_at: int | None = None, error: type[BaseException] = OSError) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout(0.5))
        self.break_at = break_at
        self.error = error
        self.n_batches = 0

    def training_step(self, batch: Any, _: int) -> Any:
        self.n_batches += 1
        if self.n_batches == self.break_at:
            raise self.error("no more")
        loss = self.body(batch).pow(2).sum()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        self.log("val_loss", self.body(batch).sum())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def train_dataloader(self) -> Any:
        return DataLoader(torch.rand(2 * BATCHES * self.trainer.world_size, 2), batch_size=2)

    def val_dataloader(self) -> Any:
        return DataLoader(torch.rand(2 * self.trainer.world_size, 2), batch_size=2)

    def sample(self, count: int) -> list[Structure]:
        assert not self.training
        torch.rand(3)
        cell = Lattice.cubic(self.trainer.global_step + 1)
        return [Structure(cell, ["H"], [[0, 0, 0]])] * count


def trainer_of(folder: Path | str, *callbacks: Any, **options: Any) -> Any:
    """A quiet trainer on the CPU."""
    options = {"logger": False, "enable_checkpointing": False, **options}
    return lightning.Trainer(
        default_root_dir=folder,
        callbacks=list(callbacks),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
