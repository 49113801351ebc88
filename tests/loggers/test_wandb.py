"""Reports in Weights & Biases, in its real offline mode; its files are read back."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from pymatgen.core import Lattice, Structure
from salts import salt

from novelty_metric import NoveltyReport, SubstitutionNovelty
from novelty_metric.callbacks import NoveltyMonitor
from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.figures.crystals import draw_pair
from novelty_metric.loggers.wandb import WandbReports
from novelty_metric.report.crystals import to_be_shown
from novelty_metric.verdict import CrystalResult

wandb = pytest.importorskip("wandb")


CRYSTALS = [
    salt(5.64, "Na", "Cl"),
    salt(6.3, "K", "Cl"),
    salt(5.2, "Mg", "Cl"),
    None,
]


@pytest.fixture(autouse=True)
def quiet_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        "WANDB_DIR": str(tmp_path),
        "WANDB_DATA_DIR": str(tmp_path / "data"),
        "WANDB_CACHE_DIR": str(tmp_path / "wandb_cache"),
        "WANDB_SILENT": "true",
        "NOVELTY_METRIC_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    yield
    if wandb.run is not None:
        wandb.finish()
    # W&B keeps the settings of its first use in a process.
    wandb.teardown()


@pytest.fixture(scope="module")
def metric() -> SubstitutionNovelty:
    return SubstitutionNovelty("aflow", relaxer=None, hull="none")


def media(folder: Path) -> Path:
    (found,) = folder.glob("wandb/offline-run-*/files/media")
    return found


def tables(folder: Path, name: str) -> list[dict[str, Any]]:
    paths = sorted(media(folder).glob(f"table/novelty/{name}_*.table.json"))
    return [json.loads(path.read_text()) for path in paths]


def history(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's history that W&B would upload.

    The file has the format of a LevelDB log: a header of seven bytes, then blocks of 32 KiB.
    """
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # the file is complete after W&B's process has ended
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, at, part, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a complete record, or its last part
            record = wandb_internal_pb2.Record.FromString(part)
            part = b""
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                row = {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json)
                    for item in items
                }
                found.append(row)
    return found


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if name in row]


def test_offline_training_stores_everything_in_the_run(
    tmp_path: Path, metric: SubstitutionNovelty
) -> None:
    reports = WandbReports(project="p", mode="offline", n_pairs=2)
    with NoveltyMonitor(
        lambda n: CRYSTALS[:n], metric, n_samples=4, out=tmp_path / "own", loggers=[reports]
    ) as monitor:
        (first,) = monitor.step(0)
        monitor.step(1)
        run = reports.run
        config, summary = dict(run.config), dict(run.summary)
    assert wandb.run is None  # it opened the run, so it finished it
    assert first.report is not None

    rows = [
        dict(zip(t["columns"], row, strict=True))
        for t in tables(tmp_path, "crystals")
        for row in t["data"]
    ]
    assert len(rows) == 8  # two epochs of four crystals
    by_id = {row["id"]: row for row in rows[:4]}
    for result in first.report.results:
        row = by_id[result.id]
        assert row["verdict"] == (result.verdict and result.verdict.value)
        assert (row["parent_id"], row["cost"]) == (result.parent_id, result.cost)
        if result.element_map is not None:
            assert json.loads(row["element_map"]) == result.element_map
    pictures = [row["picture"] for row in rows[:4] if row["picture"] is not None]
    assert len(pictures) == 2  # at most the requested number
    drawn = sorted(media(tmp_path).glob("images/**/*.png"))
    assert len(drawn) == 4  # in both epochs
    for picture in drawn:
        with PIL.Image.open(picture) as image:
            assert len(set(image.convert("L").tobytes())) > 20  # the figure is not empty
    shares = tables(tmp_path, "by_crystal_system/duplicate")[0]
    assert shares["columns"] == ["crystal system", "share"]
    assert shares["data"] == [["cubic", 0.5]]

    context = first.report.context
    kept = config["novelty"]
    assert kept["reference"]["crystals_hash"] == context.crystals_hash
    assert kept["protocol"] == context.protocol_text
    assert kept["versions"]["pymatgen"] == context.versions["pymatgen"]
    assert summary["novelty/duplicate"] == 0.5 and summary["novelty/epoch"] == 1
    assert summary["novelty/novel_yield_ci_low"] == 0.0
    assert NoveltyReport.load(tmp_path / "own" / "epoch_00001") is not None


def test_existing_run_is_used_and_kept_open(tmp_path: Path, metric: SubstitutionNovelty) -> None:
    with wandb.init(project="p", mode="offline") as run:
        run.log({"loss": 1.0})
        reports = WandbReports(n_pairs=0)
        report = metric(CRYSTALS)
        reports.log_report(report, epoch=3)
        assert reports.run is run
        reports.close()
        assert wandb.run is run
        run.log({"loss": 0.5})  # it still accepts values
        assert run.summary["novelty/duplicate"] == 0.5
        # The report had not been saved, so the logger saved it first.
        assert NoveltyReport.load(Path(run.dir, "novelty", "epoch_00003")) == report


@pytest.mark.parametrize(("over", "name"), [("epoch", "epoch_00005"), ("step", "step_00000050")])
def test_metrics_are_plotted_over_epoch_or_step(
    monkeypatch: pytest.MonkeyPatch, metric: SubstitutionNovelty, over: str, name: str
) -> None:
    with wandb.init(project="p", mode="offline") as run:
        defined: dict[str, Any] = {}
        logged: list[dict[str, Any]] = []
        artifacts: list[Any] = []
        real = run.define_metric
        monkeypatch.setattr(
            run,
            "define_metric",
            lambda name, **given: (
                defined.update({name: given["step_metric"]}),
                real(name, **given),
            ),
        )
        monkeypatch.setattr(run, "log", lambda content, **_: logged.append(content))
        steps = iter(range(9))
        monkeypatch.setattr(type(run), "step", property(lambda _: next(steps)))
        monkeypatch.setattr(run, "log_artifact", lambda a, aliases: artifacts.append((a, aliases)))
        reports = WandbReports(n_pairs=0, over=over)
        report = metric(CRYSTALS)
        for epoch in (0, 5):
            reports.log_report(report, epoch=epoch, step=10 * epoch)
    assert defined.pop(f"novelty/{over}") is None
    assert {"novelty/*", "novelty/duplicate", "novelty/crystals"} <= set(defined)
    assert set(defined.values()) == {f"novelty/{over}"}
    assert [content["novelty/epoch"] for content in logged] == [0, 5]
    assert set(report.scalars()) <= set(logged[0])
    artifact, aliases = artifacts[1]
    assert aliases == ["latest", name]
    assert "report.json" in artifact.manifest.entries
    assert "verdicts.parquet" in artifact.manifest.entries


def test_disabled_wandb_has_no_effect(tmp_path: Path, metric: SubstitutionNovelty) -> None:
    reports = WandbReports(project="p", mode="disabled", n_pairs=1)
    with NoveltyMonitor(
        lambda n: CRYSTALS[:n], metric, n_samples=2, out=tmp_path / "own", loggers=[reports]
    ) as monitor:
        (found,) = monitor.step(0)
    assert found.error is None and (tmp_path / "own" / "epoch_00000" / "report.json").exists()
    assert not list(tmp_path.glob("wandb/*run-*"))


def test_pictures_of_unusual_crystals() -> None:
    alone = CrystalRecord.of(
        Structure(Lattice.from_parameters(3, 4, 5, 80, 95, 110), ["Fe"], [[0.1, 0.2, 0.3]])
    )
    for kept in ({"relaxed": alone}, {}, {"relaxed": alone, "parent": alone}):
        row = CrystalResult(id="x", structures=CrystalRecords(**kept))
        assert draw_pair(row).startswith(b"\x89PNG")


def test_verdicts_are_shown_in_turn(metric: SubstitutionNovelty) -> None:
    report = metric([CRYSTALS[0], CRYSTALS[0], CRYSTALS[1], CRYSTALS[2]])
    assert to_be_shown(report, 9) == ["0", "2", "1"]
    assert to_be_shown(report, 2) == ["0", "2"] and to_be_shown(report, 0) == []


@pytest.mark.parametrize("asynchronous", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_lightning_and_the_report_use_one_run(
    tmp_path: Path, asynchronous: bool, lightning: Any
) -> None:
    import torch
    from torch.utils.data import DataLoader

    from novelty_metric.callbacks import NoveltyCallback

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, _: int) -> Any:
            loss = self.body(batch).sum()
            self.log("loss", float(self.global_step), on_step=True)
            run.log({"own": self.global_step})  # directly to W&B, like many models
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def sample(self, n: int) -> list[Any]:
            return CRYSTALS[:n]

    run = wandb.init(project="p", mode="offline")
    logger = lightning.loggers.WandbLogger(save_dir=tmp_path)  # joins it
    settings = {"reference": "aflow", "relaxer": "none", "hull": "none"}
    callback = NoveltyCallback(
        "sample", settings, n_samples=3, n_pictures=1, asynchronous=asynchronous
    )
    trainer = lightning.Trainer(
        max_epochs=3,
        log_every_n_steps=1,
        logger=logger,
        callbacks=[callback],
        default_root_dir=tmp_path,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Model(), DataLoader(torch.rand(4, 2)))
    assert wandb.run is run  # its owner finishes it
    summary = dict(run.summary)
    assert summary["novelty/duplicate"] == 0.5 and "trainer/global_step" in summary
    assert run.config["novelty"]["reference"]["name"] == "aflow"
    wandb.finish()
    # Only files of this run, not all in the logger's folder; with its checkpoints.
    assert callback.evaluations[0].folder == (
        tmp_path / str(logger.name) / run.id / "novelty" / "epoch_00000"
    )
    assert len(tables(tmp_path, "crystals")) == 3
    assert len(list(media(tmp_path).rglob("*.png"))) == 3
    rows = history(tmp_path)
    assert column(rows, "own") == column(rows, "loss") == list(range(12))
    with_values = [row for row in rows if "novelty/duplicate" in row]
    assert [(row["novelty/epoch"], row["novelty/step"]) for row in with_values] == [
        (0, 4),
        (1, 8),
        (2, 12),
    ]
    # The table of an evaluation has the same step as its values.
    assert [row["novelty/epoch"] for row in rows if "novelty/crystals.path" in row] == [0, 1, 2]


@pytest.mark.parametrize("steps", ["own", "given", "given twice"])
def test_no_value_of_the_user_is_lost(
    tmp_path: Path, metric: SubstitutionNovelty, steps: str
) -> None:
    """Values before, between and after evaluations; the user logs more values than the logger."""
    wrote: list[tuple[str, float]] = []

    def log(name: str, value: float, step: int) -> None:
        wrote.append((name, value))
        run.log({name: value}, **({} if steps == "own" else {"step": step}))

    with wandb.init(project="p", mode="offline") as run:
        log("before", 1, 0)
        with NoveltyMonitor(
            lambda n: CRYSTALS[:n],
            metric,
            n_samples=2,
            out=tmp_path / "own",
            loggers=[WandbReports(run, n_pairs=0)],
        ) as monitor:
            for epoch in range(3):
                log("loss", epoch, 10 * epoch)
                monitor.step(epoch, step=10 * epoch)
                if steps == "given twice":
                    log("after the evaluation", epoch, 10 * epoch)
            # Like the end of an asynchronous run: two more evaluations in immediate succession.
            for epoch in (3, 4):
                monitor.step(epoch, step=10 * epoch)
        log("at the end", 1, 20)
        log("test", 1, 21)
    rows = history(tmp_path)
    for name, value in wrote:
        assert value in column(rows, name), (name, value)
    assert len(wrote) == sum(name in row for row in rows for name in dict(wrote))
    assert all(len(row) > 2 for row in rows)  # no record is empty
    assert column(rows, "novelty/epoch") == [0, 1, 2, 3, 4]
    assert column(rows, "novelty/step") == [0, 10, 20, 30, 40]
    assert column(rows, "novelty/duplicate") == [0.5] * 5
    assert len(column(rows, "novelty/crystals.path")) == 5
    if steps != "own":
        # The steps are those of the user, except the evaluations at the end.
        assert column([row for row in rows if "loss" in row], "_step") == [0, 10, 20]
        assert column([row for row in rows if "test" in row], "_step") == [21]


def test_two_trainings_can_use_one_run(tmp_path: Path, metric: SubstitutionNovelty) -> None:
    report = metric(CRYSTALS[:1])
    with wandb.init(project="p", mode="offline") as run:
        for epoch in (0, 1):
            reports = WandbReports(n_pairs=0)
            reports.log_report(report, epoch=epoch)
            reports.log_report(report, epoch=epoch, prefix="other")
            reports.close()
        assert run.step == 0
    rows = history(tmp_path)
    assert column(rows, "novelty/epoch") == column(rows, "other/epoch") == [0, 1]


def test_crystal_systems_have_curves(tmp_path: Path, metric: SubstitutionNovelty) -> None:
    reports = WandbReports(project="p", mode="offline", n_pairs=0)
    for epoch in (0, 1):
        reports.log_report(metric(CRYSTALS[:2]), epoch=epoch, folder=None, prefix="mine")
    reports.close()
    rows = history(tmp_path)
    assert column(rows, "mine/epoch") == [0, 1]
    assert column(rows, "mine/by_crystal_system/cubic") == [0.0, 0.0]  # one crystal, not novel
    assert column(rows, "mine/n_by_crystal_system/cubic") == [2, 2]
    assert not any(name.startswith("novelty/") for row in rows for name in row)


@pytest.mark.parametrize(
    ("there", "key"),
    [({"mine": 1}, "novelty"), ({"reference": "mine"}, "novelty_metric"), (3, "novelty_metric")],
)
def test_config_of_the_user_is_kept(metric: SubstitutionNovelty, there: Any, key: str) -> None:
    report = metric(CRYSTALS[:1])
    with wandb.init(project="p", mode="offline", config={"novelty": there}) as run:
        for epoch in (0, 1):
            WandbReports(run, n_pairs=0).log_report(report, epoch=epoch)
        config = dict(run.config)
    assert config[key]["reference"]["name"] == "aflow"
    if isinstance(there, dict):
        assert there.items() <= config["novelty"].items()
    else:
        assert config["novelty"] == there


def test_run_that_cannot_be_opened_is_tried_once(
    metric: SubstitutionNovelty, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[dict[str, Any]] = []

    def no_account(**given: Any) -> None:
        tried.append(given)
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", no_account)
    with (
        pytest.warns(UserWarning, match="No API key configured") as warned,
        NoveltyMonitor(
            lambda n: CRYSTALS[:n], metric, n_samples=1, loggers=[WandbReports()]
        ) as monitor,
    ):
        for epoch in range(3):
            assert monitor.step(epoch)[0].report is not None
    assert len(tried) == 1
    assert sum("W&B can't open a run" in str(one.message) for one in warned) == 1


@pytest.mark.slow
def test_together_with_the_tracker_of_accelerate(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(log_with="wandb", cpu=True)
    accelerator.init_trackers("p", init_kwargs={"wandb": {"mode": "offline"}})
    settings = {"reference": "aflow", "relaxer": "none", "hull": "none"}
    with NoveltyMonitor(
        lambda n: CRYSTALS[:n],
        settings,
        n_samples=2,
        asynchronous=True,
        loggers=[WandbReports(n_pairs=0)],
    ) as monitor:
        for epoch in range(3):
            for step in (2 * epoch + 1, 2 * epoch + 2):
                accelerator.log({"loss": float(step)}, step=step)
            monitor.step(epoch, step=step)
    accelerator.log({"test": 1.0}, step=6)
    accelerator.end_training()
    rows = history(tmp_path)
    assert column(rows, "loss") == [1, 2, 3, 4, 5, 6] and column(rows, "test") == [1]
    assert column(rows, "novelty/epoch") == [0, 1, 2]
    assert column(rows, "novelty/step") == [2, 4, 6]
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
