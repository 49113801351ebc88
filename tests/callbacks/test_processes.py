"""Training in several processes, and processes that remain after the training."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_schedule import ROWS

pytestmark = pytest.mark.usefixtures("lightning")

HERE = Path(__file__).parent
TWO = [row for row in ROWS if "accumulate" not in row[1] and "fast_dev" not in row[1]][::4]
"""Rows of the documented table that two processes also train."""

HEAD = """
import json, os, sys, time, warnings
from datetime import timedelta
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
import lightning.pytorch as lightning
from lightning.pytorch.strategies import DDPStrategy
from tiny_training import TinyMetric, TinyModel, trainer_of
from novelty_metric.callbacks import NoveltyCallback, NoveltyCheckpoint
out = Path(sys.argv[2])
"""

RANKS = """
def main():
    seconds, limit, rows = json.loads(sys.argv[3])
    rank = int(os.environ["LOCAL_RANK"])
    (out / f"ready_{rank}").touch()
    while len(list(out.glob("ready_*"))) < 2:
        time.sleep(0.1)
    told = []
    for number, (given, options) in enumerate(rows):
        metric = TinyMetric(prepare_seconds=seconds if number == 0 else 0)
        callback = NoveltyCallback("sample", metric, n_samples=3, **eval(f"dict({given})"))
        best = lightning.callbacks.ModelCheckpoint(
            out / str(number), monitor="novelty/novelty", mode="max"
        )
        strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=limit))
        logger = lightning.loggers.CSVLogger(out, name="csv", version=str(number))
        trainer = trainer_of(
            out, callback, best, devices=2, strategy=strategy, logger=logger,
            enable_checkpointing=True, **eval(f"dict({options})"),
        )
        trainer.fit(TinyModel())
        told.append([[e.epoch, e.step, e.scalars] for e in callback.evaluations])
    (out / f"told_{rank}.json").write_text(json.dumps(told))

if __name__ == "__main__":
    main()
"""


def environment(**more: str) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return {"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", **more}


def script_of(folder: Path, text: str) -> list[Any]:
    script = folder / "train.py"
    script.write_text(HEAD + text)
    return [script, HERE, folder]


@pytest.fixture
def two(tmp_path: Path, start_python: Callable[..., Any]) -> Callable[..., list[Any]]:
    """The output of two processes, one after the other."""

    def tell(rows: list[tuple[str, str]], seconds: float, limit: float) -> list[Any]:
        command = [*script_of(tmp_path, RANKS), json.dumps([seconds, limit, rows])]
        common = environment(MASTER_ADDR="localhost", WORLD_SIZE="2", NODE_RANK="0")
        processes = [
            start_python(*command, env={**common, "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE)
            for rank in range(2)
        ]
        for process in processes:
            message = process.communicate()[1]
            assert process.returncode == 0, message
        return [json.loads((tmp_path / f"told_{rank}.json").read_text()) for rank in range(2)]

    return tell


def test_two_processes_evaluate_as_documented(two: Callable[..., list[Any]]) -> None:
    first, second = two([row[:2] for row in TWO], seconds=0, limit=1000)
    assert first == second
    for (_, _, expected), evaluations in zip(TWO, first, strict=True):
        assert [(epoch, step) for epoch, step, _ in evaluations] == expected
        for _, step, scalars in evaluations:
            assert scalars["novelty/novelty"] == step and scalars["novelty/n_samples"] == 3


@pytest.mark.slow
def test_preparation_can_take_longer_than_the_timeout_of_collectives(
    two: Callable[..., list[Any]],
) -> None:
    first, second = two([("", "max_epochs=2")], seconds=90, limit=45)
    assert first == second and [epoch for epoch, *_ in first[0]] == [0, 1]


SPAWN = """
from test_monitor import children

def main():
    callback = NoveltyCallback(
        "sample", TinyMetric(), n_samples=2, asynchronous=json.loads(sys.argv[3])
    )
    logger = lightning.loggers.CSVLogger(out, name="csv", version="")
    kept = NoveltyCheckpoint(out / "kept")
    trainer = trainer_of(
        out, callback, kept, devices=2, strategy="ddp_spawn", logger=logger, max_epochs=2,
        log_every_n_steps=1, enable_checkpointing=True,
    )
    trainer.fit(TinyModel())
    assert Path(kept.best_model_path) == out / "kept" / "epoch=1-step=8.ckpt"
    assert list((out / "kept").iterdir()) == [Path(kept.best_model_path)]
    found = callback.evaluations
    print(json.dumps([[e.epoch, e.step, e.scalars["novelty/novelty"]] for e in found]))
    print(json.dumps([float(trainer.callback_metrics["novelty/novelty"]), len(children())]))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("beside", [False, True])
def test_evaluations_return_from_spawned_processes(
    tmp_path: Path, beside: bool, run_python: Callable[..., Any]
) -> None:
    (tmp_path / "temporary").mkdir()
    done = run_python(
        *script_of(tmp_path, SPAWN),
        json.dumps(beside),
        env=environment(TMPDIR=str(tmp_path / "temporary")),
    )
    assert done.returncode == 0, done.stderr
    evaluations, (value, left) = map(json.loads, done.stdout.splitlines()[-2:])
    assert evaluations == [[0, 4, 4.0], [1, 8, 8.0]] and value == 8.0 and left == 0
    assert not list((tmp_path / "temporary").glob("novelty-metric-*"))


ENDS = """
import multiprocessing, signal
from test_monitor import children

def fail(how):
    if how == "sigkill":
        # After the scorer has certainly started.
        while not multiprocessing.active_children():
            time.sleep(0.01)
    if how.startswith("sig"):
        os.kill(os.getpid(), getattr(signal, how.upper()))
    elif how == "exit":
        sys.exit(3)
    elif how == "_exit":
        os._exit(3)
    elif how == "interrupt":
        raise KeyboardInterrupt
    elif how != "finish":
        raise OSError

class Breaks(lightning.Callback):
    def __init__(self, how):
        self.how = how

    def on_train_batch_start(self, trainer, module, batch, at):
        if trainer.global_step == 6 and not self.how.startswith("validation"):
            (out / "scorers").write_text(json.dumps(sorted(children())))
            fail(self.how)

    def on_validation_epoch_start(self, trainer, module):
        if trainer.global_step == 8 and self.how.startswith("validation"):
            fail(self.how)

def main():
    hows = json.loads(sys.argv[3])
    for number, how in enumerate(hows):
        # The scorer works, unless the training ends normally.
        metric = TinyMetric(prepare_seconds=0 if how == "finish" else 600)
        callback = NoveltyCallback("sample", metric, n_samples=2, asynchronous=True)
        logger = lightning.loggers.CSVLogger(out, name="csv", version=str(number))
        ended = "in peace"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                trainer_of(out, callback, Breaks(how), logger=logger, max_epochs=3,
                           log_every_n_steps=1).fit(TinyModel())
            except BaseException as error:
                ended = type(error).__name__
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(json.dumps([how, ended, len(children()), len(callback.evaluations)]), flush=True)

if __name__ == "__main__":
    main()
"""

ENDINGS = {
    "finish": "in peace",
    "raise": "OSError",
    "validation raises": "OSError",
    "interrupt": "SystemExit",
    "sigint": "SystemExit",
    "sigterm": "SIGTERMException",
    "exit": "SystemExit",
}


def losses(folder: Path, number: int) -> int:
    with (folder / "csv" / str(number) / "metrics.csv").open() as stream:
        return sum(bool(row["loss_step"]) for row in csv.DictReader(stream))


@pytest.mark.slow
def test_no_process_remains_after_the_training(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    done = run_python(*script_of(tmp_path, ENDS), json.dumps(list(ENDINGS)))
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert {how: ended for how, ended, *_ in told} == ENDINGS
    assert {how: left for how, _, left, _ in told} == dict.fromkeys(ENDINGS, 0)
    assert told[0][3] == 3
    for number, how in enumerate(ENDINGS):
        # The batches trained so far; SIGTERM takes effect after the current batch.
        assert losses(tmp_path, number) == {"finish": 12, "validation raises": 8, "sigterm": 7}.get(
            how, 6
        )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie process does not count as alive.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("how", ["sigkill", pytest.param("_exit", marks=pytest.mark.slow)])
def test_scorer_ends_after_a_killed_training(
    tmp_path: Path, how: str, run_python: Callable[..., Any]
) -> None:
    done = run_python(*script_of(tmp_path, ENDS), json.dumps([how]))
    assert done.returncode == (-signal.SIGKILL if how == "sigkill" else 3)
    scorers = json.loads((tmp_path / "scorers").read_text())
    assert len(scorers) == 1
    for _ in range(6000):
        if not any(map(is_alive, scorers)):
            return
        time.sleep(0.2)
    pytest.fail("the scorer is still there")
