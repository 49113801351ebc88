"""Runs in chunks: in this process, in other processes, with Dask; killed and resumed."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from novelty_metric import NoveltyReport, SubstitutionNovelty, read_samples
from novelty_metric.cli import main
from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation.potentials import AseCalculator
from novelty_metric.report.files import save_report
from novelty_metric.runs import pools
from novelty_metric.runs.chunks import ChunkLog
from novelty_metric.runs.run import Run
from novelty_metric.samples.base import Sample
from novelty_metric.samples.draw import Draw
from novelty_metric.samples.packaged import packaged_samples_path
from novelty_metric.scoring.case import Case
from novelty_metric.scoring.pipeline import Pipeline
from novelty_metric.search import compiled
from novelty_metric.verdict import CrystalResult, Verdict

SAME_BYTES = ("parents.parquet", "evidence.parquet", "quality.parquet", "structures.parquet")


def metric(**options: Any) -> SubstitutionNovelty:
    return SubstitutionNovelty("aflow", "fast", relaxer=None, hull="none", **options)


def packaged() -> list[Sample]:
    found = list(read_samples(packaged_samples_path()))[::2]
    # Copies and invalid crystals, in other chunks than the first ones.
    again = [Sample(f"again-{sample.id}", sample.structure) for sample in found[:12]]
    return [*found, *again, Sample("broken", None, "cut short")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of all crystals in one pass, in memory."""
    folder = tmp_path_factory.mktemp("whole")
    with metric() as own:
        own.update_samples(packaged())
        own.compute().save(folder)
    return folder


def scored(folder: Path, samples: list[Sample], **options: Any) -> Path:
    """The report of a run in a folder."""
    with metric() as own:
        run = Run(own, folder, {}, **options)
        try:
            run.score(samples)
            save_report(run.report(), folder, run.rows())
        except BaseException:
            run.close()
            raise
        run.finish()
    return folder


def assert_same(found: Path, expected: Path) -> None:
    for name in SAME_BYTES:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    tables = [pd.read_parquet(folder / "verdicts.parquet") for folder in (found, expected)]
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in tables))
    reports = [json.loads((folder / "report.json").read_text()) for folder in (found, expected)]
    for report in reports:
        del report["timings"], report["files"]["verdicts.parquet"], report["files"]["verdicts.csv"]
    assert reports[0] == reports[1]


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_chunks_agree_with_one_pass(part: int, whole: Path, tmp_path: Path) -> None:
    folder = scored(tmp_path, packaged(), part=part)
    assert_same(folder, whole)
    assert NoveltyReport.load(folder).quality == NoveltyReport.load(whole).quality
    assert not list(folder.glob("journal*")) and not (folder / "parts").exists()


def test_report_agrees_with_its_files(tmp_path: Path) -> None:
    with metric() as own:
        run = Run(own, tmp_path, {}, part=9)
        run.score(packaged())
        slim, rows = run.report(), list(run.rows())
        full = NoveltyReport.from_results(rows, slim.context)
        run.finish()
    assert all(not row.parents and row.structures is None for row in slim.results)
    assert slim.counts == full.counts and slim.quality == full.quality
    assert slim.graded == full.graded and slim.novel_yield_interval == full.novel_yield_interval
    assert slim.breakdown("crystal_system") == full.breakdown("crystal_system")


class Stops(Exception):
    pass


def test_too_much_to_compare_is_undecided_and_counts_as_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    samples = packaged()[:12]
    samples += [Sample(f"again-{sample.id}", sample.structure) for sample in samples]
    monkeypatch.setattr(compiled, "MOST_WORK_OF_EQUALS", 0)
    with metric(scope="all") as own:
        own.update_samples(samples)
        report = own.compute()
    undecided = [row for row in report.results if "too much to compare with" in (row.error or "")]
    assert undecided
    assert all(row.verdict is Verdict.UNDECIDED for row in undecided)
    assert not any(row.verdict is Verdict.DUPLICATE for row in report.results)
    groups = [row.duplicate_group for row in report.results]
    assert groups[:12] == groups[12:]
    warnings = [text for text in report.context.warnings if "count as equal" in text]
    assert all("pairs of samples of one composition" in warning for warning in warnings)
    assert [warning.endswith("in the figures of plain matching") for warning in warnings] == [
        False,
        True,
    ]
    matched = [row.matching_group for row in report.results]
    assert matched[:12] == matched[12:]
    (tmp_path / "run").mkdir()
    with metric(scope="all") as own:
        run = Run(own, tmp_path / "run", {})
        run.score(samples)
        found = run.report()
        run.finish()
    assert set(warnings) <= set(found.context.warnings)
    assert [row.duplicate_group for row in found.results] == groups


def test_run_continues_after_an_interruption(whole: Path, tmp_path: Path) -> None:
    def broken() -> Iterator[Sample]:
        yield from packaged()[:20]
        raise Stops

    told: list[int] = []
    with metric() as own:
        run = Run(own, tmp_path, {}, part=4)
        with pytest.raises(Stops):
            run.score(broken())
        run.close()
        again: list[str] = []
        plain = own.pipeline.score_each

        def counted(samples: Any, on_result: Any) -> None:
            given = list(samples)
            again.extend(sample.id for sample in given)
            plain(given, on_result)

        own.pipeline.score_each = counted  # type: ignore[method-assign]
        run = Run(own, tmp_path, {}, part=4, progress=lambda what, done, total: told.append(done))
        assert len(run.journal) == 0  # scoring starts after the first thousand samples are read
        run.score(packaged()[:20])
        assert len(run.journal) == 20 == len(again)
        run.score(packaged())
        assert len(again) == len(packaged()) == told[-1]
        report = run.report()
        # Compilation of the search and comparison of samples take time too.
        assert {"open", "prepare search", "group equal samples"} <= report.context.seconds.keys()
        save_report(report, tmp_path, run.rows())
        run.finish()
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_processes_give_equal_results(whole: Path, tmp_path: Path) -> None:
    def make() -> Any:
        return pools.processes(2)

    assert_same(scored(tmp_path, packaged(), make_pool=make, part=8), whole)


@pytest.mark.parametrize(
    "always", [pytest.param(False, marks=[pytest.mark.slow, pytest.mark.processes]), True]
)
def test_dead_worker_loses_no_other_result(always: bool, whole: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    # Loaded once, and copied into each process.
    context.set_forkserver_preload(["novelty_metric.metric", "novelty_metric.runs.run", "pandas"])

    @contextmanager
    def make() -> Iterator[pools.Pool]:
        with ProcessPoolExecutor(
            1 if always else 2,  # each death restarts all workers
            mp_context=context,
            initializer=deadly,
            initargs=(str(tmp_path / "killed"), always),
        ) as executor:
            yield pools.Pool(executor, 4)

    folder = scored(tmp_path, packaged(), make_pool=make, part=8)
    (folder / "killed").unlink()
    if not always:
        assert_same(folder, whole)
        return
    found, expected = NoveltyReport.load(folder).results, NoveltyReport.load(whole).results
    assert [row.id for row in found] == [row.id for row in expected]
    (died,) = [row for row in found if row.error and "worker process died" in row.error]
    assert died.id == packaged()[5].id and died.verdict is None


def deadly(flag: str, always: bool) -> None:
    """Make this process die at one crystal, once or every time."""
    from novelty_metric.scoring.case import Case

    plain, victim = Case.check, packaged()[5].id

    def check(case: Case, max_sites: int | None) -> None:
        if case.sample.id == victim and (always or not Path(flag).exists()):
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        plain(case, max_sites)

    Case.check = check  # type: ignore[method-assign]


def test_one_relaxes_while_others_search(tmp_path: Path) -> None:
    calculator = {"_target_": "ase.calculators.lj.LennardJones", "sigma": 2.2, "rc": 6.0}
    potential = AseCalculator({**calculator, "smooth": True}, name="lennard-jones", version="1")
    settings: dict[str, Any] = {"relaxer": potential, "hull": "none", "cache": False}
    settings |= {"scope": "all", "exhaustive": True}
    samples = [*packaged()[:5], packaged()[-1]]
    loose = dataclasses.replace(Protocol.named("fast"), fmax=0.5)  # a few steps each
    with SubstitutionNovelty("aflow", loose, **settings) as own:
        own.update_samples(samples)
        expected = own.compute()
        run = Run(own, tmp_path, {}, make_pool=lambda: pools.relaxing_here(2), part=3)
        run.score(samples)
        found, rows = run.report(), list(run.rows())
        run.finish()
    assert found.counts_all == expected.counts_all and sum(found.counts_all.values()) > 3
    assert sum(row.n_relaxations or 0 for row in rows) > 10
    for row, other in zip(rows, expected.results, strict=True):
        assert (row.id, row.verdict, row.parent_id) == (other.id, other.verdict, other.parent_id)
        assert [tried.relaxed for tried in row.parents] == [t.relaxed for t in other.parents]


def test_input_error_of_a_worker_ends_the_run(tmp_path: Path) -> None:
    moved = tmp_path / "reference.arrow"
    from novelty_metric.reference.named import reference_path

    moved.write_bytes(reference_path("aflow").read_bytes())
    with SubstitutionNovelty(moved, "fast", relaxer=None, hull="none") as own:
        own.prepare()
        moved.unlink()
        run = Run(own, tmp_path, {}, make_pool=lambda: pools.processes(1))
        with pytest.raises(InputError, match="no such file"):
            run.score(packaged())
        run.close()


def test_truncated_lines_are_ignored(tmp_path: Path) -> None:
    log = ChunkLog(tmp_path / "a.jsonl")
    log.add(3, CrystalResult(id="a"))
    with log.path.open("ab") as stream:
        stream.write(b'\n4 {"id": "b", "form')
    assert [position for position, _ in log.rows()] == [3]
    log.add(5, CrystalResult(id="c"))
    assert [position for position, _ in log.rows()] == [3, 5]
    log.path.write_bytes(log.path.read_bytes()[:-7])
    assert [position for position, _ in log.rows()] == [3]


# Dask


@pytest.fixture
def dask() -> None:
    pytest.importorskip("distributed")


def test_dask_gives_equal_results(dask: None, whole: Path, tmp_path: Path) -> None:
    def make() -> Any:
        return pools.dask(workers=1)

    assert_same(scored(tmp_path, packaged(), make_pool=make, part=8), whole)


@pytest.mark.slow
def test_killed_dask_worker_changes_nothing(dask: None, whole: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    @contextmanager
    def make() -> Iterator[pools.Pool]:
        with pools.dask(workers=2) as pool:
            client = pool.executor._client  # type: ignore[attr-defined]
            pids = list(client.run(os.getpid).values())

            def kill(stage: str, done: int, total: int | None) -> None:
                if done >= 10 and not killed:
                    killed.append(pids[0])
                    os.kill(pids[0], signal.SIGKILL)

            told.append(kill)
            yield pool

    told: list[Any] = []
    folder = scored(
        tmp_path,
        packaged(),
        make_pool=make,
        part=2,
        progress=lambda *given: told[-1](*given) if told else None,
    )
    assert killed
    assert_same(folder, whole)


def test_invalid_cluster_is_one_clear_error(
    dask: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["executor=dask_local", "executor.address=nowhere://1:2", "relaxer=none", "limit=2"]
    assert main(["score", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("novelty-metric: error: executor") and err.count("\n") == 1


# A killed command


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(start_python: Callable[..., Any]) -> Start:
    """Start the command `score` with an output folder."""

    def start_score(folder: Path, *arguments: str, **options: Any) -> Any:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = ("-m", "novelty_metric.cli", "score", f"out={folder}", *arguments)
        return start_python(*command, **{**silent, **options})

    return start_score


def wait_for_journal(folder: Path, process: subprocess.Popen[str]) -> None:
    while not (folder / "journal.sqlite").exists() and process.poll() is None:
        time.sleep(0.01)


def killed(start: Start, folder: Path, arguments: tuple[str, ...], delays: list[float]) -> int:
    """Run a command to its end; kill it after each delay (s) from the opening of its journal.

    Returns the number of kills before its end.
    """
    n_killed = 0
    for delay in delays:
        process = start(folder, *arguments)
        wait_for_journal(folder, process)
        time.sleep(delay)
        n_killed += process.poll() is None
        process.kill()
        process.wait()
    assert start(folder, *arguments).wait() == 0
    return n_killed


def test_killed_command_is_resumed_and_a_second_one_refused_meanwhile(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("relaxer=none", "hull=none", "part=4", "scope=all", "progress=false")
    assert main(["score", f"out={tmp_path / 'whole'}", *arguments]) == 0
    capsys.readouterr()
    first = start(tmp_path / "killed", *arguments)
    wait_for_journal(tmp_path / "killed", first)
    time.sleep(0.3)
    first.send_signal(signal.SIGSTOP)
    if first.poll() is None:  # else it was done before
        assert main(["score", f"out={tmp_path / 'killed'}", *arguments]) == 2
        error = capsys.readouterr().err
        assert "another process works in" in error and error.count("\n") == 1
    first.kill()
    first.wait()
    assert main(["score", f"out={tmp_path / 'killed'}", *arguments]) == 0
    assert_same(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("chgnet")
def test_relaxing_command_survives_twenty_kills(start: Start, tmp_path: Path) -> None:
    arguments = ("cache=false", "part=8", "workers=1")
    assert start(tmp_path / "whole", *arguments).wait() == 0
    chance = random.Random(2)
    assert (
        killed(start, tmp_path / "killed", arguments, [chance.uniform(0, 6) for _ in range(20)]) > 5
    )
    found, expected = (NoveltyReport.load(tmp_path / name) for name in ("killed", "whole"))
    assert [(row.id, row.verdict, row.eligible, row.parent_id) for row in found.results] == [
        (row.id, row.verdict, row.eligible, row.parent_id) for row in expected.results
    ]
    for row, other in zip(found.results, expected.results, strict=True):
        assert row.energy_per_atom == pytest.approx(other.energy_per_atom, abs=1e-3)


# Two equal runs


@pytest.mark.slow
@pytest.mark.usefixtures("chgnet")
def test_two_runs_agree_to_the_last_digit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", "--deterministic", "limit=4", "hull=none", f"out={tmp_path / 'out'}"]
    assert main(arguments) == 0
    assert "all 4 rows are equal in every digit" in capsys.readouterr().out
    assert NoveltyReport.load(tmp_path / "out").context.machine["device"] in ("cpu", "cuda", "mps")


def test_different_runs_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Only in this process: the second run has a separate process.
    plain = Pipeline.row

    def changed(self: Pipeline, case: Case, **groups: Any) -> CrystalResult:
        return dataclasses.replace(plain(self, case, **groups), cost=0.125)

    monkeypatch.setattr(Pipeline, "row", changed)
    arguments = ["score", "--deterministic", "limit=7", "relaxer=none", "hull=none"]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "differ in 7 of 7 rows" in err and ": cost" in err and "and 2 more" in err
    assert main([*arguments, "-m"]) == 2


def test_results_of_a_smaller_subset_are_reused_by_id(tmp_path: Path) -> None:
    """Positions refer to a random subset; in a larger subset they mean other samples."""
    samples = packaged()[:12]
    (tmp_path / "run").mkdir()
    with metric() as own:
        fresh = scored(tmp_path, samples)
        run = Run(own, tmp_path / "run", {}, draw=Draw(4, 1))
        run.score(samples[4:6])
        run.close()
        journal = [row.id for row in NoveltyReport.load(fresh, structures=True).results[4:6]]
        (tmp_path / "run" / "parts").mkdir()
        log = ChunkLog(tmp_path / "run" / "parts" / "4-1-left.jsonl")
        left = NoveltyReport.load(fresh, structures=True).results[7]
        log.add(2, left)
        again = Run(own, tmp_path / "run", {}, draw=Draw(12, 1))
        again.score(samples)
        assert again.journal.n_earlier == 0
        found = {row.id: row for row in again.rows()}
        again.finish()
    assert list(found) == [sample.id for sample in samples]
    # Not scored again: the times are the old ones.
    assert found[left.id].seconds == left.seconds
    assert journal == [sample.id for sample in samples[4:6]]
    assert not (tmp_path / "run" / "parts").exists()
