"""`NoveltyCallback` in a real trainer, under both package names of Lightning."""

from __future__ import annotations

import csv
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from pymatgen.core import Structure
from salts import salt
from torch.utils.data import DataLoader

from novelty_metric import InputError

lightning = pytest.importorskip("lightning.pytorch")
with suppress(ImportError):
    # Both packages are imported before the callback, which must work with trainers of both.
    import pytorch_lightning  # noqa: F401

from novelty_metric.callbacks import NoveltyCallback  # noqa: E402

pytestmark = pytest.mark.usefixtures("lightning")

SETTINGS = {"reference": "aflow", "relaxer": "none", "hull": "none"}


def module_of(package: Any) -> type:
    """A model with dropout that only copies from epoch 1 on."""

    class Model(package.LightningModule):
        def __init__(self, eligible: bool = True, validates: bool = True) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
            self.eligible = eligible
            self.sampled: list[tuple[int, bool]] = []
            if not validates:
                self.val_dataloader = super().val_dataloader

        def training_step(self, batch: Any, _: int) -> Any:
            return self.body(batch).pow(2).sum()

        def validation_step(self, batch: Any, _: int) -> None: ...

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def train_dataloader(self) -> Any:
            return DataLoader(torch.rand(8, 2), batch_size=4, shuffle=True)

        def val_dataloader(self) -> Any:
            return DataLoader(torch.rand(4, 2), batch_size=4)

        def sample(self, count: int) -> list[Structure]:
            self.sampled.append((self.current_epoch, self.training))
            torch.rand(100)
            if not self.eligible and self.current_epoch:
                return [salt(5.2, "Mg", "Cl")] * count  # SMACT refuses it
            copies = [salt(5.64, "Na", "Cl")] * count
            return copies if self.current_epoch else [salt(6.3, "K", "Cl"), *copies[1:]]

    return Model


Model = module_of(lightning)


def fit(folder: Path, model: Any, *callbacks: Any, package: Any = lightning, **options: Any) -> Any:
    options = {"max_epochs": 3, "logger": False, "enable_checkpointing": False, **options}
    trainer = package.Trainer(
        default_root_dir=folder,
        callbacks=list(callbacks),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(model)
    return trainer


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_checkpoints_and_early_stopping_use_novelty(tmp_path: Path, name: str) -> None:
    package = pytest.importorskip(name)
    callback = NoveltyCallback("sample", SETTINGS, n_samples=4)
    best = package.callbacks.ModelCheckpoint(tmp_path, monitor="novelty/undecided", mode="max")
    latest = package.callbacks.ModelCheckpoint(tmp_path, monitor="novelty/novel_yield")
    stop = package.callbacks.EarlyStopping("novelty/duplicate", mode="max", patience=0)
    model = module_of(package)()
    trainer = fit(
        tmp_path,
        model,
        best,
        stop,
        callback,
        latest,
        package=package,
        enable_checkpointing=True,
        max_epochs=6,
        num_sanity_val_steps=1,
    )
    # Not called in the sanity check; in evaluation mode; stopped when duplicates ended.
    assert model.sampled == [(0, False), (1, False), (2, False)]
    assert trainer.current_epoch == 3
    assert Path(best.best_model_path).name.startswith("epoch=0")
    assert float(best.best_model_score) == 0.25 and float(latest.best_model_score) == 0.0
    assert [one.scalars["novelty/duplicate"] for one in callback.evaluations] == [0.75, 1.0, 1.0]


def test_callback_does_not_change_the_training(tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [NoveltyCallback("sample", SETTINGS, n_samples=2)]):
        lightning.seed_everything(3, verbose=False)
        model = Model()
        fit(tmp_path, model, *callbacks)
        assert model.training and model.body[1].training
        weights.append([p.detach().clone() for p in model.parameters()])
    for without, beside in zip(*weights, strict=True):
        assert torch.equal(without, beside)


def test_absent_values_are_removed(tmp_path: Path) -> None:
    model = Model(eligible=False)
    trainer = fit(tmp_path, model, NoveltyCallback("sample", SETTINGS, n_samples=2))
    assert "novelty/novelty" not in trainer.callback_metrics
    assert float(trainer.callback_metrics["novelty/novel_yield"]) == 0.0
    assert float(trainer.callback_metrics["novelty/n_eligible"]) == 0.0


def test_without_validation_it_runs_at_the_end_of_the_training_epoch(tmp_path: Path) -> None:
    callback = NoveltyCallback("sample", SETTINGS, n_samples=2, every_n_epochs=2)
    fit(tmp_path, Model(), callback, limit_val_batches=0)
    assert [one.epoch for one in callback.evaluations] == [1]


def test_csv_and_tensorboard_receive_the_values(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loggers = [
        lightning.loggers.CSVLogger(tmp_path, name="csv", version=""),
        lightning.loggers.TensorBoardLogger(str(tmp_path), name="tb", version=""),
    ]
    callback = NoveltyCallback("sample", SETTINGS, n_samples=4)
    fit(tmp_path, Model(), callback, logger=loggers, log_every_n_steps=1)
    with (tmp_path / "csv" / "metrics.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["novelty/duplicate"]]
    assert [(row["epoch"], float(row["novelty/duplicate"])) for row in rows] == [
        ("0", 0.75),
        ("1", 1.0),
        ("2", 1.0),
    ]
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [event.value for event in events.Scalars("novelty/duplicate")] == [0.75, 1.0, 1.0]
    # The reports are next to the files of the first logger.
    assert (tmp_path / "csv" / "novelty" / "epoch_00002" / "report.json").exists()


def test_asynchronous_results_have_the_correct_epochs_and_are_complete(tmp_path: Path) -> None:
    logger = lightning.loggers.CSVLogger(tmp_path, name="csv", version="")
    callback = NoveltyCallback("sample", SETTINGS, n_samples=4, asynchronous=True)
    watch = lightning.callbacks.ModelCheckpoint(tmp_path, monitor="novelty/novel_yield")
    trainer = fit(tmp_path, Model(), callback, watch, logger=logger, enable_checkpointing=True)
    assert [one.epoch for one in callback.evaluations] == [0, 1, 2]
    with (tmp_path / "csv" / "metrics.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["novelty/duplicate"]]
    assert [
        (row["epoch"], row["step"], float(row["novelty/duplicate"]))
        for row in sorted(rows, key=lambda row: int(row["step"]))
    ] == [("0", "2", 0.75), ("1", "4", 1.0), ("2", "6", 1.0)]
    assert float(trainer.callback_metrics["novelty/epoch"]) == 2
    assert watch.best_model_score is not None


def test_dead_scorer_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("novelty_metric.callbacks.process._work", os.abort)
    callback = NoveltyCallback("sample", SETTINGS, n_samples=2, asynchronous=True)
    stop = lightning.callbacks.EarlyStopping("novelty/novel_yield", patience=9)
    with pytest.warns(UserWarning, match="the scorer process died"):
        trainer = fit(tmp_path, Model(), callback, stop)
    assert trainer.current_epoch == 3
    assert all(one.report is None for one in callback.evaluations)


@pytest.mark.usefixtures("chgnet")
def test_chgnet_relaxes_under_inference_mode(tmp_path: Path) -> None:
    settings = {"reference": "aflow", "hull": "none", "cache": False}
    callback = NoveltyCallback("sample", settings, n_samples=1)
    fit(tmp_path, Model(), callback, max_epochs=1)
    (row,) = callback.evaluations[0].report.results
    assert row.converged and row.verdict == "substituted"


def test_fast_dev_run_samples_two_and_writes_nothing(tmp_path: Path) -> None:
    callback = NoveltyCallback("sample", SETTINGS, n_samples=500)
    fit(tmp_path, Model(), callback, fast_dev_run=True)
    (found,) = callback.evaluations
    assert found.scalars["novelty/n_samples"] == 2 and found.folder is None
    assert not list(tmp_path.rglob("report.json"))


def test_invalid_settings_are_reported_before_the_training() -> None:
    with pytest.raises(InputError, match="n_samples is 0"):
        NoveltyCallback("sample", SETTINGS, n_samples=0)
    with pytest.raises(InputError, match="needs a reference"):
        NoveltyCallback("sample", {})
    with pytest.raises(InputError, match=r"NoveltyCallback .*'outt'; did you mean 'out'"):
        NoveltyCallback("sample", SETTINGS, outt="x")


def test_missing_reference_ends_the_training_before_its_first_step(tmp_path: Path) -> None:
    model = Model()
    callback = NoveltyCallback("sample", {**SETTINGS, "reference": "nowhere"}, every_n_epochs=5)
    with pytest.raises(InputError, match="nowhere"):
        fit(tmp_path, model, callback, max_epochs=1)
    assert model.trainer.global_step == 0


def test_two_callbacks_need_two_prefixes(tmp_path: Path) -> None:
    first, second = (
        NoveltyCallback("sample", SETTINGS, n_samples=n, prefix=prefix)
        for n, prefix in ((4, "one"), (2, "two"))
    )
    trainer = fit(tmp_path, Model(), first, second, max_epochs=1)
    values = trainer.callback_metrics
    assert (values["one/n_samples"], values["two/n_samples"]) == (4, 2)
    assert {one.folder for one in (*first.evaluations, *second.evaluations)} == {
        tmp_path / "one" / "epoch_00000",
        tmp_path / "two" / "epoch_00000",
    }
    again = NoveltyCallback("sample", SETTINGS, prefix="one")
    with pytest.raises(InputError, match="two NoveltyCallbacks have the prefix 'one'"):
        fit(tmp_path, Model(), first, again)


DDP = """
import json, sys
from pathlib import Path
import lightning.pytorch as lightning
from novelty_metric.callbacks import NoveltyCallback
sys.path[:0] = [sys.argv[2], str(Path(sys.argv[2]).parent)]
from test_lightning import Model, SETTINGS, fit

def main():
    callback = NoveltyCallback("sample", SETTINGS, n_samples=4)
    watch = lightning.callbacks.ModelCheckpoint(sys.argv[1], monitor="novelty/novel_yield")
    trainer = fit(sys.argv[1], Model(), callback, watch, strategy="ddp", devices=2,
                  enable_checkpointing=True, max_epochs=2)
    values = {k: float(v) for k, v in trainer.callback_metrics.items()}
    with open(f"{sys.argv[1]}/rank_{trainer.global_rank}.json", "w") as stream:
        json.dump([values, [one.scalars for one in callback.evaluations]], stream)

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_two_processes_log_equal_values(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    import json

    script = tmp_path / "train.py"
    script.write_text(DDP)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    done = run_python(
        *(script, tmp_path, Path(__file__).parent),
        env={"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank_{r}.json").read_text()) for r in range(2))
    assert first == second
    values, evaluations = first
    # Each process drew two samples; the first was a substituted crystal in epoch 0.
    assert [one["novelty/duplicate"] for one in evaluations] == [0.5, 1.0]
    assert values["novelty/duplicate"] == 1.0 and values["novelty/n_samples"] == 4.0
