"""Two real processes that train together (gloo): samples shared out, everyone told the same."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import json, os, sys, warnings
import torch.distributed as distributed
from pymatgen.core import Lattice, Structure
from novelty_metric.callbacks import NoveltyMonitor

def salt(a, first, second):
    cell = Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])
    return Structure(cell, [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])

def main():
    distributed.init_process_group("gloo")
    rank, mode = distributed.get_rank(), sys.argv[1]
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
    monitor = NoveltyMonitor(
        sample, settings, n_samples=5, out=sys.argv[2], asynchronous=mode == "beside",
        budget_seconds=0 if mode == "budget" else None, fail_fast=mode == "sampler",
    )
    if mode == "budget":
        monitor = NoveltyMonitor(sample, {**settings, "relaxer": "chgnet"}, n_samples=5,
                                 budget_seconds=0)
    said = None
    found = []
    try:
        if mode == "broken" and rank == 1:
            monitor._metric.compute = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = monitor.step(0)
            found += monitor.wait()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    monitor.close()
    told = {
        "asked": asked,
        "said": said,
        "failed": [one.error for one in found],
        "scalars": [one.scalars for one in found],
        "ids": [[row.id for row in one.report.results] for one in found if one.report],
        "groups": [[r.duplicate_group for r in one.report.results] for one in found if one.report],
    }
    with open(f"{sys.argv[2]}/rank_{rank}.json", "w") as stream:
        json.dump(told, stream)
    distributed.destroy_process_group()

if __name__ == "__main__":
    main()
"""


def launched(command: list[str], **options: Any) -> list[subprocess.Popen[bytes]]:
    """Two processes that know of one another."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **common, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            **options,
        )
        for rank in range(2)
    ]


def two(folder: Path, mode: str) -> list[dict[str, Any]]:
    """What each of two processes says."""
    script = folder / "train.py"
    script.write_text(SCRIPT)
    for process in launched([str(script), mode, str(folder)]):
        assert process.wait(timeout=500) == 0
    return [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("mode", ["whole", "beside", "budget"])
def test_samples_are_shared_out_and_everyone_is_told_the_same(tmp_path: Path, mode: str) -> None:
    first, second = two(tmp_path, mode)
    # Equal shares, so that a sharded model is never waited for; one sample too many is dropped.
    assert first["asked"] == second["asked"] == [3]
    assert first["scalars"] == second["scalars"]
    (scalars,), (ids,) = first["scalars"], first["ids"]
    assert ids == second["ids"][0] == ["0", "1", "2", "3", "4"]
    assert first["groups"] == second["groups"] == [[0, 1, 2, 0, 1]]
    assert scalars["novelty/n_samples"] == 5
    assert scalars["novelty/duplicate"] == pytest.approx(2 / 5)
    if mode != "budget":
        assert (tmp_path / "epoch_00000" / "report.json").exists()


def test_a_process_that_is_gone_is_not_waited_for_without_end(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, sys\n"
        "import torch.distributed as distributed\n"
        "from novelty_metric.callbacks import ranks\n"
        "ranks._BEAT, ranks._SILENCE = 0.2, 2.0\n"
        "distributed.init_process_group('gloo')\n"
        "both = ranks.Ranks()\n"
        "assert both.gather(both.own) == [0, 1]\n"
        "if both.own == 1:\n"
        "    os._exit(7)\n"
        "try:\n"
        "    both.gather(0)\n"
        "except RuntimeError as error:\n"
        "    print(error, flush=True)\n"
        "    os._exit(0)\n"
    )
    first, second = launched([str(script)], stdout=subprocess.PIPE)
    said = first.communicate(timeout=500)[0].decode()
    assert said == "process 1 of the training has given no sign of life for 0 minutes\n"
    assert first.returncode == 0 and second.wait(timeout=500) == 7


def test_a_failure_of_one_is_known_to_both(tmp_path: Path) -> None:
    first, second = two(tmp_path, "sampler")
    assert first["said"] == "RuntimeError: the sampler failed in process 1: RuntimeError: " + (
        "out of ideas"
    )
    assert second["said"] == "RuntimeError: out of ideas"


def test_the_crystals_that_one_owes_are_unreadable_in_both(tmp_path: Path) -> None:
    first, second = two(tmp_path, "warned")
    assert first["said"] is None and first["scalars"] == second["scalars"]
    assert first["scalars"][0]["novelty/n_unreadable"] == 2  # its share of the five


def test_settings_that_fail_in_one_end_both(tmp_path: Path) -> None:
    first, second = two(tmp_path, "reference")
    assert first["said"] == second["said"]
    assert first["said"].startswith("InputError: in process 1: ") and "nowhere" in first["said"]


def test_a_scoring_that_breaks_in_one_is_reported_by_both(tmp_path: Path) -> None:
    first, second = two(tmp_path, "broken")
    assert first["failed"] == second["failed"]
    assert "in process 1: TypeError" in first["failed"][0] and first["scalars"] == [{}]
