"""`NoveltyMonitor` in a plain loop, in one process and with a separate scorer process."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from salts import salt

from novelty_metric import InputError, NoveltyReport, Protocol, SubstitutionNovelty
from novelty_metric.callbacks import NoveltyMonitor
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.report.crystals import to_be_shown

Sample = Callable[[int], list[Any]]

BESIDE = {"reference": "aflow", "relaxer": "none", "hull": "none"}
"""For a scorer in another process, which opens the packaged reference."""


class RecordingLogger:
    """Record whether the files of a report exist when it is logged."""

    def __init__(self) -> None:
        self.told: list[tuple[int | None, list[str], bool]] = []
        self.closed = 0

    def log_report(self, report: NoveltyReport, **given: Any) -> None:
        there = given["folder"] is not None and NoveltyReport.load(given["folder"]) == report
        self.told.append((given["epoch"], sorted(to_be_shown(report, 3)), there))

    def close(self) -> None:
        self.closed += 1


def children() -> set[int]:
    """All child processes, however they were started."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())],  # complete lines
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    # Python's resource tracker stays alive after its first use.
    found = [line.split(None, 1) for line in listed if "resource_tracker" not in line]
    return {int(pid) for pid, args in found if not args.startswith("ps ")}


def scorer() -> multiprocessing.process.BaseProcess:
    """The scorer process, if it has started."""
    # Not from the list of all processes: a starting process has no name yet.
    for _ in range(100_000):
        if started := multiprocessing.active_children():
            return started[0]
        time.sleep(0.01)
    raise AssertionError("no scorer was started")


def test_which_epochs_are_evaluated(settings: dict[str, Any], sampler: Sample) -> None:
    with NoveltyMonitor(sampler, settings, n_samples=2, every_n_epochs=5) as monitor:
        # Like Lightning's check_val_every_n_epoch=5.
        assert [epoch for epoch in range(12) if monitor.step(epoch)] == [4, 9]
        assert monitor.step(9) == []  # a second time in the same epoch
    with NoveltyMonitor(sampler, settings, n_samples=2, every_n_epochs=5) as monitor:
        # A resumed run continues to count.
        assert [epoch for epoch in range(7, 12) if monitor.step(epoch)] == [9]


def test_which_steps_are_evaluated(
    settings: dict[str, Any], sampler: Sample, tmp_path: Path
) -> None:
    with NoveltyMonitor(sampler, settings, n_samples=2, every_n_steps=4, out=tmp_path) as monitor:
        assert [step for step in range(1, 11) if monitor.step(step // 5, step=step)] == [4, 8]
        assert monitor.step(2, step=10) == []
        # Two optimisers that both count steps: a multiple can be skipped.
        assert [step for step in (11, 13, 15, 17) if monitor.step(2, step=step)] == [13, 17]
        with pytest.raises(InputError, match="every_n_steps needs the number of the step"):
            monitor.step(3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step_{step:08d}" for step in (4, 8, 13, 17)
    ]
    with pytest.raises(InputError, match="every_n_epochs or every_n_steps, not both"):
        NoveltyMonitor(sampler, settings, every_n_epochs=1, every_n_steps=1)


def test_values_agree_with_the_report(
    settings: dict[str, Any], sampler: Sample, tmp_path: Path
) -> None:
    metric = SubstitutionNovelty(**settings)
    notes = RecordingLogger()
    with NoveltyMonitor(sampler, metric, n_samples=5, out=tmp_path, loggers=[notes]) as monitor:
        (found,) = monitor.step(3, step=70)
    assert (found.epoch, found.step, found.error) == (3, 70, None)
    assert found.report is not None
    plain = metric(sampler(5))
    expected = {
        **plain.scalars(),
        "novelty/epoch": 3.0,
        "novelty/step": 70.0,
        "novelty/seconds": found.seconds,
    }
    assert found.scalars == expected
    assert all(math.isfinite(value) for value in found.scalars.values())
    assert found.folder == tmp_path / "epoch_00003"
    # Verdicts in order; the files existed before the logger was called.
    assert notes.told == [(3, ["0", "1", "2"], True)] and notes.closed == 1
    (shown,) = [row.structures for row in found.report.results if row.id == "0"]
    assert shown is not None and shown.parent is not None
    assert metric.compute().results == ()  # no sample is kept


def test_reports_of_an_earlier_run_are_kept(
    settings: dict[str, Any], sampler: Sample, tmp_path: Path
) -> None:
    def run(epochs: range) -> set[str]:
        with NoveltyMonitor(
            sampler, settings, n_samples=1, every_n_epochs=2, out=tmp_path / "out"
        ) as monitor:
            found = [one for epoch in epochs for one in monitor.step(epoch)]
        return {str(one.folder.parent.relative_to(tmp_path)) for one in found if one.folder}

    assert run(range(4)) == {"out"}
    assert run(range(3, 5)) == {"out"}  # resumes
    with pytest.warns(UserWarning, match=r"earlier run; new reports are written to .*version_1"):
        assert run(range(4)) == {"out/version_1"}
    assert run(range(2, 5)) == {"out/version_1"}
    with pytest.warns(UserWarning, match="version_2"):
        assert run(range(2)) == {"out/version_2"}
    assert len(list(tmp_path.rglob("report.json"))) > 4


def test_two_monitors_with_prefixes(settings: dict[str, Any], sampler: Sample) -> None:
    with NoveltyMonitor(sampler, settings, n_samples=2, prefix="ours/mp") as monitor:
        (found,) = monitor.step(0)
    assert found.prefix == "ours/mp" and found.scalars["ours/mp/duplicate"] == 0.5
    assert not any(name.startswith("novelty/") for name in found.scalars)


def test_novelty_is_absent_without_eligible_crystals(settings: dict[str, Any]) -> None:
    no_salt = Structure(Lattice.cubic(4), ["Na", "Mg", "Cl"], np.diag([0, 0.3, 0.6]))
    with NoveltyMonitor(lambda n: [no_salt] * n, settings, n_samples=2) as monitor:
        (found,) = monitor.step(0)
    assert found.report is not None and found.report.n_eligible == 0
    assert "novelty/novelty" not in found.scalars
    assert found.scalars["novelty/novel_yield"] == 0.0


def test_failed_sampler_gives_a_warning_and_the_next_one_counts(sampler: Sample) -> None:
    def sample(model: Any, n: int = 64) -> Any:
        return {0: None, 1: "NaCl", 2: sampler(1), 3: sampler(n)}[next(calls)]

    calls = iter(range(4))
    with (
        pytest.warns(UserWarning) as warned,
        NoveltyMonitor(sample, BESIDE, n_samples=2) as monitor,
    ):
        found = [one for epoch in range(4) for one in monitor.step(epoch, object())]
    assert [one.scalars["novelty/n_unreadable"] for one in found] == [2, 2, 1, 0]
    assert [one.scalars["novelty/novel_yield"] for one in found] == [0] * 4
    messages = [
        str(one.message) for one in warned if str(one.message).startswith("novelty of epoch")
    ]
    assert (
        len(messages) == 3 and "the sampler gave None where 2 crystals were wanted" in messages[0]
    )
    with (
        pytest.raises(InputError, match="the sampler gave None"),
        NoveltyMonitor(lambda n: None, BESIDE, n_samples=2, fail_fast=True) as monitor,
    ):
        monitor.step(0)


def test_invalid_settings_are_reported_immediately(
    settings: dict[str, Any], sampler: Sample
) -> None:
    for changes, text in (
        ({"n_samples": 0}, "n_samples is 0"),
        ({"every_n_epochs": 2.5}, "every_n_epochs is 2.5"),
        ({"budget_seconds": -1}, "budget_seconds is -1"),
    ):
        with pytest.raises(InputError, match=text):
            NoveltyMonitor(sampler, settings, **changes)
    with pytest.raises(InputError, match="needs a reference"):
        NoveltyMonitor(sampler, {"relaxer": "none"})
    with pytest.raises(InputError, match=r"no setting named 'relaxr'; did you mean 'relaxer'"):
        NoveltyMonitor(sampler, {**settings, "relaxr": "none"})
    with pytest.raises(InputError, match=r"NoveltyMonitor .*'n_sample'; did you mean 'n_samples'"):
        NoveltyMonitor(sampler, settings, n_sample=3)  # type: ignore[call-arg]
    for prefix in ("", "a b", "/x", "x/", "..", 3):
        with pytest.raises(InputError, match="prefix is"):
            NoveltyMonitor(sampler, settings, prefix=prefix)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be a callable"):
        NoveltyMonitor(7, settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nowhere"):
        NoveltyMonitor(sampler, {**settings, "reference": "nowhere.arrow"}).step(0)
    with pytest.raises(InputError, match="nowhere"):
        NoveltyMonitor(sampler, {**settings, "reference": "nowhere.arrow"}).__enter__()


def test_failed_scoring_is_reported_and_the_next_one_works(
    settings: dict[str, Any], sampler: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = SubstitutionNovelty(**settings)
    monitor = NoveltyMonitor(sampler, metric, n_samples=2)

    def broken(**_: Any) -> None:
        raise ZeroDivisionError("by the way")

    with monkeypatch.context() as patch:
        patch.setattr(metric, "compute", broken)
        with pytest.warns(UserWarning, match="novelty of epoch 0: ZeroDivisionError: by the way"):
            (found,) = monitor.step(0)
    assert found.report is None and found.scalars == {}
    assert monitor.step(1)[0].scalars["novelty/duplicate"] == 0.5


def test_failed_logger_does_not_end_the_training(settings: dict[str, Any], sampler: Sample) -> None:
    class BrokenLogger(RecordingLogger):
        def log_report(self, report: NoveltyReport, **given: Any) -> None:
            raise ConnectionError("no route")

    with (
        pytest.warns(UserWarning, match="a logger failed.*no route.*training continues"),
        NoveltyMonitor(sampler, settings, n_samples=2, loggers=[BrokenLogger()]) as monitor,
    ):
        assert monitor.step(0)[0].report is not None


@pytest.mark.usefixtures("chgnet")
def test_small_budget_agrees_with_a_search_without_relaxation(
    settings: dict[str, Any], sampler: Sample
) -> None:
    """CHGNet is available, but there is no time for it."""
    with NoveltyMonitor(
        sampler, {**settings, "relaxer": "chgnet", "hull": "none"}, n_samples=4, budget_seconds=0
    ) as monitor:
        (found,) = monitor.step(0)
    plain = SubstitutionNovelty(**settings)(sampler(4))
    assert found.report is not None
    assert (
        found.report.counts
        == plain.counts
        == {
            "duplicate": 2,
            "substituted": 0,
            "unmatched": 0,
            "undecided": 2,
        }
    )
    assert found.report.novelty_bounds == plain.novelty_bounds
    assert found.report.context.potential is None


def test_sampling_does_not_change_a_plain_training_loop(
    settings: dict[str, Any], sampler: Sample
) -> None:
    def trained(monitor: NoveltyMonitor | None) -> list[float]:
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for epoch in range(3):
            loss = model(torch.rand(8, 4)).pow(2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.step(epoch, model)
        return [float(x) for p in model.parameters() for x in p.flatten()]

    with NoveltyMonitor(lambda module, n: sampler(n), settings, n_samples=2) as monitor:
        assert trained(monitor) == trained(None)


@pytest.mark.usefixtures("chgnet")
@pytest.mark.parametrize("early_ends", [True, False])
def test_cached_parent_serves_later_epochs_despite_early_stopping(
    settings: dict[str, Any], tmp_path: Path, early_ends: bool
) -> None:
    protocol = Protocol.named("fast")
    if not early_ends:
        protocol = replace(protocol, name="no early ends", accept_early=0.0)
    path = tmp_path / "relaxations.sqlite"
    settings = {**settings, "relaxer": "chgnet", "protocol": protocol, "cache": path}
    sizes = iter([6.2, 6.4])  # another crystal in every digit, with the same parent
    kept: list[int] = []
    asked: list[int] = []
    with NoveltyMonitor(
        lambda n: [salt(next(sizes), "K", "Cl")] * n, settings, n_samples=1
    ) as monitor:
        for epoch in range(2):
            (found,) = monitor.step(epoch)
            assert found.report is not None
            (row,) = found.report.results
            assert row.verdict == "substituted"
            asked.append(row.n_relaxations or 0)
            cache = RelaxationCache(path)
            kept.append(len(cache))
            cache.close()
    assert kept[0] == asked[0] == asked[1] == 2  # those of the crystal and of its parent
    assert kept[1] - kept[0] == 1  # the relaxation of the parent is cached for every crystal


def test_long_preparation_shows_progress(
    settings: dict[str, Any],
    sampler: Sample,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, seconds in {"FIRST": 0.1, "EVERY": 0.2, "_POLL": 0.05}.items():
        monkeypatch.setattr(f"novelty_metric.terminal.progress_lines.{name}", seconds)
    metric = SubstitutionNovelty(**settings)
    spent = []

    def prepare() -> None:
        started, told = time.perf_counter(), ""
        while told.count("novelty, preparing: the reference") < 2:
            told += capsys.readouterr().err
        spent.append(time.perf_counter() - started)

    monkeypatch.setattr(metric, "prepare", prepare)
    with NoveltyMonitor(sampler, metric, n_samples=1) as monitor:
        (found,) = monitor.step(0)
    assert found.seconds >= spent[0]  # the preparation has a count


# With a separate scorer process


def test_results_of_another_process_have_the_correct_epochs_and_are_complete(
    sampler: Sample, tmp_path: Path
) -> None:
    before = children()
    notes = RecordingLogger()
    told: list[Any] = []
    monitor = NoveltyMonitor(
        sampler,
        BESIDE,
        n_samples=2,
        asynchronous=True,
        out=tmp_path,
        loggers=[notes],
        on_result=told.append,
    )
    with monitor:
        monitor.step(0)
        pid = scorer().pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)  # the loop does not wait for the results
        for epoch in (1, 2):
            monitor.step(epoch, step=10 * epoch)
        os.kill(pid, signal.SIGCONT)
        assert children() - before == {pid}
    found = monitor.results
    assert told == found  # includes the results from the end of the block
    assert [(one.epoch, one.step) for one in found] == [(0, 0), (1, 10), (2, 20)]
    for one in found:
        assert one.report is not None and one.folder is not None
        assert NoveltyReport.load(one.folder) == one.report
    assert [epoch for epoch, _, there in notes.told if there] == [0, 1, 2]
    assert children() == before and not multiprocessing.active_children()


def test_dead_scorer_is_reported_and_replaced(sampler: Sample) -> None:
    before = children()
    with NoveltyMonitor(sampler, BESIDE, n_samples=2, asynchronous=True) as monitor:
        monitor.step(0)
        pid = scorer().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.warns(
            UserWarning, match=r"epoch 0: the scorer process died \(exit status -9\)"
        ):
            found = monitor.step(1)  # the failure can be known already
            found += monitor.wait()
    assert [(one.epoch, one.report is None) for one in found] == [(0, True), (1, False)]
    assert children() == before


def test_invalid_settings_of_the_scorer_only_warn(sampler: Sample) -> None:
    wrong = {**BESIDE, "reference": "nowhere.arrow"}
    with NoveltyMonitor(sampler, wrong, n_samples=2, asynchronous=True) as monitor:
        monitor.step(0)
        with pytest.warns(UserWarning, match=r"epoch 0: .*nowhere\.arrow"):
            (found,) = monitor.wait()
    assert found.report is None


def test_failed_training_leaves_no_process(sampler: Sample) -> None:
    before = children()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            pytest.raises(ZeroDivisionError),
            NoveltyMonitor(sampler, BESIDE, n_samples=2, asynchronous=True) as monitor,
        ):
            monitor.step(0)
            raise ZeroDivisionError
    assert children() == before


def test_script_without_close_ends(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "from novelty_metric.callbacks import NoveltyMonitor\n"
        "if __name__ == '__main__':\n"
        f"    monitor = NoveltyMonitor(lambda n: [], {BESIDE!r}, n_samples=2, asynchronous=True)\n"
        "    monitor.step(0)\n"
        "    print('trained')\n"
    )
    done = run_python(script, check=True)
    assert done.stdout == "trained\n"


QUIET = """
import logging, sys, warnings
from pymatgen.core import Lattice, Structure
from novelty_metric.callbacks import NoveltyMonitor
from novelty_metric.loggers.wandb import WandbReports

def sample(n):
    warnings.warn("of the sampler")
    print("printed by the sampler")
    cell = Lattice([[0, 3.15, 3.15], [3.15, 0, 3.15], [3.15, 3.15, 0]])
    near = Structure(Lattice.cubic(3), ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.001]])
    far = Structure(Lattice.cubic(40), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return [Structure(cell, ["K", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]), near, far]

if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s")
    settings = {"reference": "aflow", "relaxer": sys.argv[3], "hull": "none", "cache": False}
    reports = WandbReports(project="p", mode="offline", dir=sys.argv[1])
    asynchronous = sys.argv[2] == "beside"
    with NoveltyMonitor(
        sample, settings, n_samples=3, asynchronous=asynchronous, loggers=[reports]
    ) as monitor:
        monitor.step(0)
    assert len(monitor.results[0].report.results) == 3
"""


@pytest.mark.parametrize(
    ("where", "relaxer"),
    [
        ("within", "none"),
        pytest.param("within", "chgnet", marks=[pytest.mark.slow, pytest.mark.potential]),
        pytest.param("beside", "chgnet", marks=[pytest.mark.slow, pytest.mark.potential]),
    ],
)
def test_output_of_libraries_is_hidden(
    tmp_path: Path, where: str, relaxer: str, run_python: Callable[..., Any]
) -> None:
    pytest.importorskip("wandb")
    script = tmp_path / "train.py"
    script.write_text(QUIET)
    done = run_python(
        # W&B's temporary folders, which Python removes at exit.
        *("-W", "always", "-W", "ignore::ResourceWarning"),
        *(script, tmp_path, where, relaxer),
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines.count("printed by the sampler") == 1
    of_wandb = ("asyncio", "git", "urllib3", "docker", "wandb")
    rest = {line for line in lines if not line.startswith(of_wandb)}
    assert rest <= {"printed by the sampler", "novelty_metric"}
    assert [line for line in done.stderr.splitlines() if "Warning" in line] == [
        f"{script}:8: UserWarning: of the sampler"
    ]
    assert "wandb" not in done.stderr
