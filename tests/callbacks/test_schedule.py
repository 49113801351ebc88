"""Epochs and steps that `NoveltyCallback` evaluates in real trainers, compared with the docs."""

from __future__ import annotations

import csv
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from novelty_metric import InputError

lightning = pytest.importorskip("lightning.pytorch")

from tiny_training import TinyMetric, TinyModel, trainer_of  # noqa: E402

from novelty_metric.callbacks import NoveltyCallback, NoveltyCheckpoint, monitor  # noqa: E402
from novelty_metric.callbacks.ranks import Alone  # noqa: E402
from novelty_metric.callbacks.scoring import Scorer  # noqa: E402

pytestmark = pytest.mark.usefixtures("lightning")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def table() -> list[tuple[str, str, list[tuple[int, int]]]]:
    """Rows of the documented table: settings of callback and trainer, epochs and their steps."""
    lines = PAGE.read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("| `NoveltyCallback(…)` |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        callback, trainer, evaluated = (cell.strip() for cell in line.strip("|").split("|"))
        pairs = [(int(e), int(s)) for e, s in re.findall(r"(\d+) \((\d+)\)", evaluated)]
        rows.append((callback.strip("`"), trainer.strip("`"), pairs))
    return rows


ROWS = table()
OTHER_WAYS = 3
"""Every n-th row is also trained in the other modes; with --slow every row."""


def in_each_mode(rows: list[Any], *ways: Any) -> list[Any]:
    """All rows in the first mode, and some in each of the others."""
    return [
        pytest.param(
            *row, way, marks=[pytest.mark.slow] if at and (place + at) % OTHER_WAYS else []
        )
        for at, way in enumerate(ways)
        for place, row in enumerate(rows)
    ]


def settings(text: str) -> dict[str, Any]:
    return eval(f"dict({text})", {})  # on our own page


class InlineScorer:
    """An asynchronous scorer without a process: results arrive at the next request."""

    def __init__(self, metric: Any, budget_seconds: None) -> None:
        self._scorer = Scorer(metric, budget_seconds=budget_seconds, ranks=Alone())
        self._waiting: list[Any] = []
        self._asked = 0

    def submit(self, job: Any, folder: Path | None) -> None:
        self._asked = 0
        self._waiting.append((job, folder))

    def take(self, seconds: float | None = 0.0) -> Any:
        self._asked += 1
        if not self._waiting or (seconds == 0 and self._asked < 3):
            return None
        return self._scorer.score(*self._waiting.pop(0))

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "BackgroundScorer", InlineScorer)


def callback_of(**given: Any) -> NoveltyCallback:
    return NoveltyCallback("sample", TinyMetric(), n_samples=2, **given)


def evaluated(callback: NoveltyCallback) -> list[tuple[int, int]]:
    for one in callback.evaluations:
        # Novelty is measured with the weights of this step.
        assert one.scalars["novelty/novel_yield"] == one.step
    return [(one.epoch, one.step) for one in callback.evaluations]


def logged(folder: Path) -> list[tuple[int, int, float]]:
    with (folder / "csv" / "metrics.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("novelty/novel_yield")]
    for row in rows:
        # Lightning counts the steps of its records from 0.
        assert float(row["novelty/step"]) - int(row["step"]) in (0, 1)
        assert float(row["novelty/epoch"]) == int(row["epoch"])
    return sorted(
        (int(row["epoch"]), int(float(row["novelty/step"])), float(row["novelty/novel_yield"]))
        for row in rows
    )


def test_table_exists() -> None:
    assert len(ROWS) >= 14
    assert len({row[:2] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("callback", "trainer", "expected", "way"),
    in_each_mode(ROWS, "plain", "asynchronous", "watched"),
)
def test_evaluations_agree_with_the_table(
    tmp_path: Path, callback: str, trainer: str, expected: list[tuple[int, int]], way: str
) -> None:
    options = settings(trainer)
    others: list[Any] = []
    if way == "watched":
        others = [
            lightning.callbacks.EarlyStopping("novelty/novelty", mode="max", patience=1),
            lightning.callbacks.ModelCheckpoint(
                tmp_path / "kept", monitor="novelty/novelty", mode="max", save_top_k=-1
            ),
            lightning.callbacks.ModelCheckpoint(
                tmp_path / "each", monitor="novelty/novelty", save_top_k=-1, every_n_train_steps=1
            ),
        ]
        options["enable_checkpointing"] = True
        others.append(lightning.callbacks.LearningRateMonitor())
    options["logger"] = [
        lightning.loggers.CSVLogger(tmp_path, name="csv", version=""),
        lightning.loggers.TensorBoardLogger(str(tmp_path), name="tb", version=""),
    ]
    novelty = callback_of(**settings(callback), asynchronous=way == "asynchronous")
    trainer_of(tmp_path, *others, novelty, log_every_n_steps=1, **options).fit(TinyModel())
    assert evaluated(novelty) == expected
    if "fast_dev_run" not in options:
        assert logged(tmp_path) == [(epoch, step, float(step)) for epoch, step in expected]
        assert len(list(tmp_path.glob("csv/novelty/*"))) == len(expected)  # one for each
    kept = sorted(path.name for path in tmp_path.glob("kept/*.ckpt"))
    steps = {f"epoch={epoch}-step={step}.ckpt" for epoch, step in expected}
    assert set(kept) <= steps  # none for an epoch without an evaluation
    assert {path.name for path in tmp_path.glob("each/*.ckpt")} <= steps


RESUMED = [
    row
    for row in ROWS
    if not any(x in row[1] for x in ("fast_dev_run", "accumulate", "max_steps=6"))
]


@pytest.mark.parametrize(
    ("callback", "trainer", "expected", "kept"),
    in_each_mode(RESUMED, {"every_n_train_steps": 1}, {}),
)
def test_resumed_training_repeats_no_evaluation(
    tmp_path: Path,
    callback: str,
    trainer: str,
    expected: list[tuple[int, int]],
    kept: dict[str, int],
) -> None:
    options = {**settings(trainer), "enable_checkpointing": True}
    broken_at = 6 if kept else 4 * (options.get("check_val_every_n_epoch") or 1) + 3
    last = lightning.callbacks.ModelCheckpoint(tmp_path, save_last=True, **kept)
    before, after = callback_of(**settings(callback)), callback_of(**settings(callback))
    with pytest.raises(OSError):
        trainer_of(tmp_path, before, last, **options).fit(TinyModel(broken_at))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=False)["global_step"]
    with warnings.catch_warnings():
        # The loader does not resume within an epoch, and in some rows no training remains.
        # Lightning warns of both.
        warnings.simplefilter("ignore")
        again = trainer_of(tmp_path, after, last, **options)
        again.fit(TinyModel(), ckpt_path=tmp_path / "last.ckpt")
    done = [(epoch, step) for epoch, step in evaluated(before) if step <= saved]
    assert done + evaluated(after) == expected


# Other behaviour of a trainer


def test_validate_evaluates_and_the_sanity_check_does_not(tmp_path: Path) -> None:
    callback = callback_of(every_n_epochs=5)
    trainer = trainer_of(tmp_path, callback, max_epochs=1, num_sanity_val_steps=2)
    with pytest.warns(UserWarning, match=r"not evaluated: every_n_epochs=5, and .* 1 epochs"):
        trainer.fit(TinyModel())
    assert callback.evaluations == []
    (found,) = trainer.validate(TinyModel(), verbose=False)
    assert found["novelty/novel_yield"] == 4 == found["novelty/step"]
    assert evaluated(callback) == [(1, 4)]


def test_validate_waits_for_an_asynchronous_scorer(tmp_path: Path) -> None:
    callback = callback_of(asynchronous=True)
    (found,) = trainer_of(tmp_path, callback).validate(TinyModel(), verbose=False)
    assert found["novelty/novel_yield"] == 0.0 and evaluated(callback) == [(0, 0)]


def test_evaluations_at_steps_do_not_change_the_training(tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [callback_of(every_n_steps=1, every_n_epochs=1, at_end=True)]):
        lightning.seed_everything(3, verbose=False)
        model = TinyModel()
        trainer_of(tmp_path, *callbacks, max_epochs=2).fit(model)
        assert model.training and model.body[1].training and torch.is_grad_enabled()
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("n", [True, 0, 2.5, "3"])
def test_counts_are_integers(n: Any) -> None:
    for name in ("every_n_epochs", "every_n_steps"):
        with pytest.raises(InputError, match=f"{name} is {n!r}; it must be a whole number"):
            callback_of(**{name: n})


def test_averaged_weights_are_sampled_if_they_are_validated(tmp_path: Path) -> None:
    averaging = pytest.importorskip("lightning.pytorch.callbacks.weight_averaging")
    sampled: list[torch.Tensor] = []

    class Averaged(TinyModel):
        def validation_step(self, batch: Any, _: int) -> None:
            self.validated = self.body[0].weight.detach().clone()

        def sample(self, count: int) -> Any:
            sampled.append(self.body[0].weight.detach().clone() - self.validated)
            return super().sample(count)

    trainer_of(tmp_path, callback_of(), averaging.EMAWeightAveraging(), max_epochs=2).fit(
        Averaged()
    )
    assert len(sampled) == 2 and not any(difference.any() for difference in sampled)


# Callbacks that monitor the values


def test_each_value_is_seen_once(tmp_path: Path) -> None:
    """Two of nine epochs are evaluated; the second evaluation is better."""
    seen: list[tuple[int, bool]] = []

    class Look(lightning.Callback):
        def on_validation_end(self, trainer: Any, _: Any) -> None:
            seen.append((trainer.current_epoch, "novelty/novelty" in trainer.callback_metrics))

    stop = lightning.callbacks.EarlyStopping("novelty/novelty", mode="max", patience=1)
    best = lightning.callbacks.ModelCheckpoint(
        tmp_path, monitor="novelty/novelty", mode="max", save_top_k=-1
    )
    trainer = trainer_of(
        tmp_path,
        Look(),
        stop,
        callback_of(every_n_epochs=4),
        best,
        max_epochs=9,
        num_sanity_val_steps=0,
        enable_checkpointing=True,
    )
    trainer.fit(TinyModel())
    assert [epoch for epoch, there in seen if there] == [3, 7] and len(seen) == 9
    assert stop.wait_count == 0 and float(stop.best_score) == 32 and trainer.current_epoch == 9
    names = [f"epoch={epoch}-step={step}.ckpt" for epoch, step in [(3, 16), (7, 32)]]
    assert sorted(Path(path).name for path in best.best_k_models) == names
    # Called without our trainer, they behave as usual.
    assert not {"on_validation_end", "on_train_epoch_end"} & (vars(stop).keys() | vars(best).keys())


def test_patience_counts_evaluations(tmp_path: Path) -> None:
    callback = callback_of(every_n_epochs=2)
    stop = lightning.callbacks.EarlyStopping("novelty/novel_yield", mode="min", patience=2)
    trainer_of(tmp_path, stop, callback, max_epochs=20).fit(TinyModel())
    # The first value is the best; two later ones were not better.
    assert [epoch for epoch, _ in evaluated(callback)] == [1, 3, 5] and stop.stopped_epoch == 5


@pytest.mark.parametrize("check", [{}, {"check_val_every_n_epoch": 3}], ids=["each", "third"])
def test_early_stopping_sees_evaluations_between_validations(
    tmp_path: Path, check: dict[str, int]
) -> None:
    stop = lightning.callbacks.EarlyStopping("novelty/novelty", mode="max", patience=1)
    callback = callback_of(every_n_steps=3)
    trainer_of(tmp_path, stop, callback, max_epochs=6, **check).fit(TinyModel())
    assert stop.wait_count == 0 and float(stop.best_score) in (21, 24)


def test_evaluation_without_eligible_crystals_does_not_stop_the_training(tmp_path: Path) -> None:
    callback = NoveltyCallback("sample", TinyMetric(none_eligible=[4, 12]), n_samples=2)
    stop = lightning.callbacks.EarlyStopping("novelty/novelty", mode="max", patience=1)
    best = lightning.callbacks.ModelCheckpoint(
        tmp_path, monitor="novelty/novelty", mode="max", save_top_k=-1
    )
    trainer = trainer_of(tmp_path, stop, callback, best, max_epochs=4, enable_checkpointing=True)
    trainer.fit(TinyModel())
    assert trainer.current_epoch == 4 and float(stop.best_score) == 16
    assert sorted(float(score) for score in best.best_k_models.values()) == [8, 16]


def test_monitored_name_without_a_value_gives_a_warning(tmp_path: Path) -> None:
    stop = lightning.callbacks.EarlyStopping("novelty/yield")
    with pytest.warns(UserWarning, match="'novelty/yield' is monitored, but no evaluation gave it"):
        trainer_of(tmp_path, stop, callback_of(), max_epochs=1).fit(TinyModel())


class RecordWeights(lightning.Callback):
    """Record the weights after each step."""

    def __init__(self) -> None:
        self.after: dict[int, torch.Tensor] = {}

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.after[trainer.global_step] = module.body[0].weight.detach().clone()


def weights_in(path: str) -> torch.Tensor:
    return torch.load(path, weights_only=False)["state_dict"]["body.0.weight"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_novelty_checkpoint_keeps_the_evaluated_weights(tmp_path: Path, asynchronous: bool) -> None:
    callback = callback_of(every_n_steps=3, at_end=True, asynchronous=asynchronous)
    most, least = (
        NoveltyCheckpoint(tmp_path / mode, mode=mode, save_top_k=2) for mode in ("max", "min")
    )
    weights = RecordWeights()
    trainer = trainer_of(
        tmp_path, weights, callback, most, least, max_epochs=4, enable_checkpointing=True
    )
    trainer.fit(TinyModel())
    assert [step for _, step in evaluated(callback)] == [3, 6, 9, 12, 15, 16]
    for kept, steps in ((most, [16, 15]), (least, [3, 6])):
        assert sorted(kept.best_k_models.values()) == sorted(steps)
        assert kept.best_model_score == steps[0]
        files = sorted(kept.dirpath.glob("*.ckpt"))
        assert sorted(map(str, files)) == sorted(kept.best_k_models)
        for path, step in kept.best_k_models.items():
            assert torch.equal(weights_in(path), weights.after[int(step)])
        assert Path(kept.best_model_path).name.endswith(f"step={steps[0]}.ckpt")


def test_training_resumes_from_novelty_checkpoint(tmp_path: Path) -> None:
    kept = NoveltyCheckpoint(tmp_path)
    with pytest.raises(OSError):
        trainer_of(tmp_path, callback_of(), kept, enable_checkpointing=True, max_epochs=3).fit(
            TinyModel(break_at=6)
        )
    assert kept.best_model_path.endswith("epoch=0-step=4.ckpt")
    callback, again = callback_of(), NoveltyCheckpoint(tmp_path)
    trainer = trainer_of(tmp_path, callback, again, enable_checkpointing=True, max_epochs=3)
    trainer.fit(TinyModel(), ckpt_path=kept.best_model_path)
    assert evaluated(callback) == [(1, 8), (2, 12)]
    assert again.best_model_score == 12


def test_novelty_checkpoint_needs_its_callback(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NoveltyCheckpoint\(monitor='other/x'\) needs"):
        trainer_of(
            tmp_path,
            callback_of(),
            NoveltyCheckpoint(tmp_path, monitor="other/x"),
            enable_checkpointing=True,
            max_epochs=1,
        ).fit(TinyModel())


def test_checkpoint_on_an_asynchronous_value_warns_once(tmp_path: Path) -> None:
    best = lightning.callbacks.ModelCheckpoint(
        tmp_path, monitor="novelty/novel_yield", mode="max", save_top_k=-1
    )
    callback = callback_of(asynchronous=True)
    with pytest.warns(UserWarning) as caught:
        trainer_of(tmp_path, callback, best, max_epochs=5, enable_checkpointing=True).fit(
            TinyModel()
        )
    messages = [str(one.message) for one in caught if "asynchronous value" in str(one.message)]
    assert len(messages) == 1 and "use novelty_metric.callbacks.NoveltyCheckpoint" in messages[0]
    # It saw each value at most once, and the first value in time.
    scores = [float(score) for score in best.best_k_models.values()]
    assert len(scores) == len(set(scores)) and 4.0 in scores
