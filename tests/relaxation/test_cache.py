"""Cache of relaxations: concurrent writers, killed writers, size limit, the command `cache`."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from novelty_metric.cli import main
from novelty_metric.relaxation import (
    Ended,
    PotentialInfo,
    Relaxation,
    RelaxSettings,
    RelaxTask,
)
from novelty_metric.relaxation.base import EarlyStopping, Look
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.relaxation_run import RelaxationRun

INFO = PotentialInfo(name="x", version="1", weights_hash="0" * 64)
OTHER = PotentialInfo(name="y", version="2", weights_hash="1" * 64)
SETTINGS = RelaxSettings(fmax=0.1, max_steps=1, optimizer="lbfgs")


def task(number: int) -> RelaxTask:
    structure = Structure(Lattice.cubic(3 + number / 1000), ["H"], [[0, 0, 0]])
    return RelaxTask(number, structure)


def result(number: int = 0, sites: int = 1) -> Relaxation:
    rng = np.random.default_rng(number)
    structure = Structure(Lattice.cubic(4), ["H"] * sites, rng.random((sites, 3)))
    return Relaxation(structure=structure, energy_after=-1.0, converged=True, steps=number)


WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from test_cache import INFO, SETTINGS, RelaxationCache, result, task
cache = RelaxationCache(sys.argv[1])
print("ready", flush=True)
for number in range(int(sys.argv[2]), 10**6):
    cache.put(task(number), INFO, SETTINGS, result(number, sites=200))
"""


@pytest.fixture
def writer(start_python: Callable[..., Any]) -> Callable[[Path, int], Any]:
    def start(path: Path, first: int) -> Any:
        arguments = ("-c", WRITER, path, first, Path(__file__).parent)
        process = start_python(*arguments, stdout=subprocess.PIPE)
        assert process.stdout.readline() == "ready\n"
        return process

    return start


@pytest.mark.slow
def test_cache_survives_killed_writers(tmp_path: Path, writer: Callable[[Path, int], Any]) -> None:
    path = tmp_path / "cache.sqlite"
    chance = random.Random(5)
    kept = 0
    for round_ in range(4):
        processes = [writer(path, 10_000 * (2 * round_ + which)) for which in range(2)]
        time.sleep(0.1 + 0.3 * chance.random())
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
        for process in processes:
            assert process.wait() == -signal.SIGKILL
        cache = RelaxationCache(path)
        assert cache._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        # No earlier result is lost, and every stored result is complete.
        assert len(cache) > kept
        kept = len(cache)
        for which in range(2 * round_ + 2):
            read = cache.get(task(10_000 * which), INFO, SETTINGS)
            assert read is not None and read.structure is not None
            assert read.steps == 10_000 * which and len(read.structure) == 200
        cache.put(task(10**7 + round_), INFO, SETTINGS, result())
        cache.close()


def test_killed_process_releases_its_lock(tmp_path: Path, start_python: Callable[..., Any]) -> None:
    path = tmp_path / "cache.sqlite"
    RelaxationCache(path).close()
    script = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); c.execute(\"DELETE FROM relaxations_v5\");"
        "print('held', flush=True); time.sleep(3600)"
    )
    holder = start_python("-c", script, path, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    cache = RelaxationCache(path)
    cache.put(task(1), INFO, SETTINGS, result())
    assert cache.get(task(1), INFO, SETTINGS) is not None


@dataclass(frozen=True)
class StopBelow:
    """Ends a relaxation when force (eV/Å) and energy (eV/atom) are below thresholds."""

    force: float
    energy: float
    volume: float = 0.0

    def decide(self, look: Look, structure: Callable[[], Structure]) -> Ended | None:
        if look.largest_force < self.force and look.energy_per_atom < self.energy:
            return Ended.ACCEPTED if structure().volume < self.volume else Ended.REFUSED
        return None


FACES = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
COPPER = Structure(Lattice.orthorhombic(3.5, 3.7, 3.9), ["Cu"] * 4, FACES)
COPPER.translate_sites([0], [0.03, -0.02, 0.04])
COPPER_RELAXED = RelaxSettings(fmax=0.02, max_steps=60, optimizer="lbfgs")
STOPPINGS = st.builds(
    StopBelow, st.floats(0, 3), st.floats(-0.02, 0.5), st.sampled_from([0.0, 46.0, 48.0, 99.0])
)


def relaxed(early_stopping: EarlyStopping | None) -> tuple[RelaxTask, Relaxation]:
    task = RelaxTask(1, COPPER, early_stopping)
    run, evaluator = RelaxationRun(COPPER, COPPER_RELAXED, early_stopping), AseEvaluator(EMT())
    while run.geometry is not None:
        run.receive(evaluator.evaluate([run.geometry])[0])
    return task, run.result()


@settings(max_examples=8)
@given(first=STOPPINGS, second=STOPPINGS)
def test_cached_trajectory_serves_other_early_stopping(first: StopBelow, second: StopBelow) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = RelaxationCache(Path(folder, "cache.sqlite"))
        stopped, first_result = relaxed(first)
        cache.put(stopped, INFO, COPPER_RELAXED, first_result)
        again = cache.get(stopped, INFO, COPPER_RELAXED)
        known = cache.get(RelaxTask(2, COPPER, second), INFO, COPPER_RELAXED)
        cache.close()
    _, wanted = relaxed(second)
    for found, expected in ((again, first_result), (known, wanted)):
        if found is None:  # the trajectory is too short for this early stopping
            assert expected is wanted and first_result.ended and first_result.steps < wanted.steps
            continue
        assert found.cached
        assert (found.ended, found.converged, found.steps) == (
            expected.ended,
            expected.converged,
            expected.steps,
        )
        assert found.energy_before == expected.energy_before
        assert found.energy_after == expected.energy_after
        assert found.structure == expected.structure


def test_results_with_and_without_early_stopping_are_kept_apart(tmp_path: Path) -> None:
    cache = RelaxationCache(tmp_path / "cache.sqlite")
    stopped, first_result = relaxed(StopBelow(0.5, 0.5))
    cache.put(stopped, INFO, COPPER_RELAXED, first_result)
    assert cache.get(RelaxTask(1, COPPER), INFO, COPPER_RELAXED) is None
    cache._connection.execute("UPDATE relaxations_v5 SET looks = X'504b0304'")
    assert cache.get(stopped, INFO, COPPER_RELAXED) is None


def test_cache_size_is_limited_and_least_recently_used_are_dropped(tmp_path: Path) -> None:
    limit = 1_200_000
    cache = RelaxationCache(tmp_path / "cache.sqlite", max_bytes=limit)
    for number in range(1001):
        cache.put(task(number), INFO, SETTINGS, result(number, sites=30))
        if number == 250:
            # All results are a year old, except one that is used today.
            cache._connection.execute("UPDATE relaxations_v5 SET used = used - 365")
            assert cache.get(task(7), INFO, SETTINGS) is not None
        if number == 401:
            assert cache.get(task(7), INFO, SETTINGS) is not None
            assert cache.get(task(8), INFO, SETTINGS) is None
        if number > 200:
            assert cache.size < 2 * limit
    assert len(cache) < 450
    assert cache.get(task(1000), INFO, SETTINGS) is not None


def test_unreadable_row_is_a_cache_miss(tmp_path: Path) -> None:
    cache = RelaxationCache(tmp_path / "cache.sqlite")
    cache.put(task(1), INFO, SETTINGS, result())
    cache._connection.execute("UPDATE relaxations_v5 SET result = 'half of a ro'")
    assert cache.get(task(1), INFO, SETTINGS) is None
    cache.put(task(1), INFO, SETTINGS, result())
    assert cache.get(task(1), INFO, SETTINGS) is not None


def test_cache_failure_during_a_run_only_warns(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    cache = RelaxationCache(path)
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE relaxations_v5")
    with pytest.warns(UserWarning, match="continuing without it"):
        cache.put(task(1), INFO, SETTINGS, result())
    assert cache.get(task(1), INFO, SETTINGS) is None
    cache.put(task(2), INFO, SETTINGS, result())


# The command


def filled(path: Path) -> Path:
    cache = RelaxationCache(path)
    for number in range(6):
        cache.put(task(number), INFO if number < 4 else OTHER, SETTINGS, result(number, sites=40))
    cache._connection.execute("UPDATE relaxations_v5 SET used = used - 40 WHERE rowid <= 2")
    cache.close()
    return path


def test_info_shows_potentials_settings_and_days(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled(tmp_path / "a b.sqlite")
    for arguments in ([], ["info"]):
        assert main(["cache", *arguments, f"cache={path}"]) == 0
        first, *lines = capsys.readouterr().out.splitlines()
        assert first.startswith(f"{path}: 6 relaxations, 0.") and first.endswith("MB")
        assert len(lines) == 2 and "x-1-000000000000" in lines[0] and "fmax: 0.1" in lines[0]
        assert lines[0].split()[0] == "4" and lines[1].split()[0] == "2"


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["prune", "unused=30"], 4),
        (["prune", "unused=50"], 6),
        (["prune", f"potential={OTHER.key}"], 4),
        (["prune", "size=1k"], 0),
        (["prune", "size=10MB"], 6),
        (["clear"], 0),
    ],
)
def test_prune_and_clear(
    arguments: list[str], left: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled(tmp_path / "cache.sqlite")
    assert main(["cache", *arguments, f"cache={path}"]) == 0
    assert f"{6 - left} relaxations dropped" in capsys.readouterr().out
    assert len(RelaxationCache(path)) == left


def test_empty_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "none"))
    assert main(["cache"]) == 0
    assert "no relaxation is stored yet" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    assert main(["cache", "--help"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["purge"], "did you mean 'cache prune'?"),
        (["xyz"], "known: cache info, cache prune, cache clear"),
        (["prune"], "needs unused=DAYS"),
        (["prune", "unsed=3"], "did you mean 'unused'?"),
        (["prune", "unused=soon"], "whole number of days"),
        (["prune", "size=1X"], "500MB"),
        (["info", "cache="], "no value"),
        (["clear", "cache=/no/such.sqlite"], "no such file"),
    ],
)
def test_invalid_command_gives_one_clear_error(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path))
    filled(tmp_path / "relaxations.sqlite")
    assert main(["cache", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
