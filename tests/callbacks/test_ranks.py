"""Two real processes that train together (gloo): they share the samples and get equal results."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import json, os, sys, warnings
import torch.distributed as distributed
from pymatgen.core import Lattice, Structure
from novelty_metric.callbacks import NoveltyMonitor
from novelty_metric.callbacks.ranks import Ranks

def salt(a, first, second):
    cell = Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])
    return Structure(cell, [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])

MODES = sys.argv[2:]

def evaluate(mode, rank, out):
    asked = []
    def sample(n):
        asked.append(n)
        if mode in ("sampler", "warned") and rank == 1:
            raise RuntimeError("out of ideas")
        # Both processes give equal crystals: they count once in the yield.
        return [salt(5.64, "Na", "Cl"), salt(6.3, "K", "Cl"), salt(4.0, "Li", "F")][:n]
    settings = {"reference": "aflow", "relaxer": "none", "hull": "none"}
    if mode == "reference" and rank == 1:
        settings["reference"] = "nowhere.arrow"
    if mode == "budget":
        options = {"settings": {**settings, "relaxer": "chgnet"}, "budget_seconds": 0}
    else:
        options = {"settings": settings, "out": out, "asynchronous": mode == "beside"}
    monitor = NoveltyMonitor(
        sample, options.pop("settings"), n_samples=5, fail_fast=mode == "sampler", **options
    )
    message = None
    found = []
    try:
        if mode == "broken" and rank == 1:
            monitor._metric.compute = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = monitor.step(0)
            found += monitor.wait()
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    monitor.close()
    return {
        "asked": asked,
        "message": message,
        "failed": [one.error for one in found],
        "scalars": [one.scalars for one in found],
        "ids": [[row.id for row in one.report.results] for one in found if one.report],
        "groups": [[r.duplicate_group for r in one.report.results] for one in found if one.report],
    }

def main():
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    told = {mode: evaluate(mode, rank, f"{sys.argv[1]}/{mode}") for mode in MODES}
    with open(f"{sys.argv[1]}/rank_{rank}.json", "w") as stream:
        json.dump(told, stream)
    both = Ranks()
    assert both.gather(rank) == [0, 1]
    if rank == 1:
        os._exit(7)
    try:
        both.gather(0)
    except RuntimeError:
        os._exit(3)

if __name__ == "__main__":
    main()
"""


Two = Callable[[str], list[Any]]
MODES = ("whole", "beside", "budget", "sampler", "warned", "reference", "broken")


def ranks() -> list[dict[str, str]]:
    """Environments of two processes of one process group."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [{**common, "RANK": str(rank), "OMP_NUM_THREADS": "1"} for rank in range(2)]


@pytest.fixture(scope="module")
def messages(
    tmp_path_factory: pytest.TempPathFactory, run_python: Callable[..., Any]
) -> tuple[Path, list[dict[str, Any]], list[int]]:
    """The folder, the messages of both processes in every mode, and their exit statuses."""
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "train.py"
    script.write_text(SCRIPT)

    def run(environment: dict[str, str]) -> Any:
        cache = {"NOVELTY_METRIC_CACHE": str(folder / "cache")}
        return run_python(script, folder, *MODES, env={**environment, **cache})

    with ThreadPoolExecutor(2) as executor:
        ended = list(executor.map(run, ranks()))
    for done in ended:
        assert done.returncode in (3, 7), done.stderr
    messages = [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in range(2)]
    return folder, messages, [done.returncode for done in ended]


@pytest.fixture
def two(messages: tuple[Path, list[dict[str, Any]], list[int]]) -> Two:
    """The messages of both processes in one mode."""
    return lambda mode: [message[mode] for message in messages[1]]


@pytest.mark.parametrize("mode", ["whole", "beside", "budget"])
def test_samples_are_distributed_and_results_are_equal(
    messages: tuple[Path, Any, Any], mode: str, two: Two
) -> None:
    first, second = two(mode)
    # Equal numbers, so that a sharded model never waits; one surplus sample is dropped.
    assert first["asked"] == second["asked"] == [3]
    assert first["scalars"] == second["scalars"]
    (scalars,), (ids,) = first["scalars"], first["ids"]
    assert ids == second["ids"][0] == ["0", "1", "2", "3", "4"]
    assert first["groups"] == second["groups"] == [[0, 1, 2, 0, 1]]
    assert scalars["novelty/n_samples"] == 5
    assert scalars["novelty/duplicate"] == pytest.approx(2 / 5)
    if mode != "budget":
        assert (messages[0] / mode / "epoch_00000" / "report.json").exists()


def test_waiting_for_a_dead_process_ends(messages: tuple[Path, Any, list[int]]) -> None:
    assert messages[2] == [3, 7]


def test_failure_of_one_process_is_known_to_both(two: Two) -> None:
    first, second = two("sampler")
    assert first["message"] == "RuntimeError: the sampler failed in process 1: RuntimeError: " + (
        "out of ideas"
    )
    assert second["message"] == "RuntimeError: out of ideas"


def test_missing_crystals_of_one_process_are_unreadable_in_both(two: Two) -> None:
    first, second = two("warned")
    assert first["message"] is None and first["scalars"] == second["scalars"]
    assert first["scalars"][0]["novelty/n_unreadable"] == 2  # its part of the five


def test_invalid_settings_of_one_process_end_both(two: Two) -> None:
    first, second = two("reference")
    assert first["message"] == second["message"]
    assert (
        first["message"].startswith("InputError: in process 1: ") and "nowhere" in first["message"]
    )


def test_failed_scoring_of_one_process_is_reported_by_both(two: Two) -> None:
    first, second = two("broken")
    assert first["failed"] == second["failed"]
    assert "in process 1: TypeError" in first["failed"][0] and first["scalars"] == [{}]
