"""A script without the guard for starting processes gets one clear error immediately."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from novelty_metric.support.processes import OwnContext

CRYSTALS = """\
from pymatgen.core import Lattice, Structure
crystal = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
crystals = [crystal, crystal]
"""
COMMAND = "from novelty_metric.cli import main\nraise SystemExit(main(WORDS))\n"
FAST = ["score", "relaxer=none", "hull=none", "limit=2", "progress=false"]
SCRIPTS = {
    "pool": """\
from novelty_metric.support.workers import worker_pool
with worker_pool(1) as pool:
    print("novelty", pool.submit(abs, -1).result())
""",
    "workers": CRYSTALS
    + """\
from novelty_metric import SubstitutionNovelty
metric = SubstitutionNovelty("aflow", workers=2, hull="none", cache=False)
metric(crystals)
""",
    "reference build": CRYSTALS
    + """\
from pathlib import Path
from novelty_metric.reference import build_reference
for number, crystal in enumerate(crystals):
    crystal.to(f"{number}.cif")
build_reference([Path("0.cif"), Path("1.cif")], Path("out.arrow"), workers=2)
""",
    "executor": COMMAND.replace("WORDS", repr([*FAST, "executor=local", "executor.workers=2"])),
    "dask": COMMAND.replace("WORDS", repr([*FAST, "executor=dask_local", "executor.workers=2"])),
    "deterministic": COMMAND.replace("WORDS", repr([*FAST, "--deterministic"])),
    "asynchronous": CRYSTALS
    + """\
from novelty_metric.callbacks import NoveltyMonitor
settings = {"reference": "aflow", "relaxer": "none", "hull": "none"}
monitor = NoveltyMonitor(lambda n: crystals, settings, n_samples=2, asynchronous=True)
for epoch in range(2):
    monitor.step(epoch)
    monitor.wait()
monitor.close()
""",
}
SLOW = ("reference build", "deterministic", "executor", "dask", "workers")
GUARD = 'if __name__ == "__main__":'


@pytest.fixture
def run(tmp_path: Path, run_python: Callable[..., Any]) -> Callable[[str], Any]:
    def run_script(script: str) -> Any:
        path = tmp_path / "script.py"
        path.write_text(script)
        return run_python(path, cwd=tmp_path)

    return run_script


@pytest.mark.parametrize(
    "where",
    [pytest.param(w, marks=pytest.mark.slow) if w in SLOW else w for w in SCRIPTS],
)
def test_script_without_guard(where: str, run: Callable[[str], Any]) -> None:
    if where == "dask":
        pytest.importorskip("distributed")
    done = run(SCRIPTS[where])
    output = done.stdout + done.stderr
    lines = [line for line in output.splitlines() if GUARD in line]
    epochs = 2 if where == "asynchronous" else 1  # the training continues
    assert len(lines) == epochs
    assert "lacks the guard" in lines[0]
    assert "bootstrapping" not in output  # without output of the processes
    if where != "asynchronous":
        assert done.returncode != 0


@pytest.mark.parametrize("where", ["pool", pytest.param("executor", marks=pytest.mark.slow)])
def test_script_with_guard(where: str, run: Callable[[str], Any]) -> None:
    lines = SCRIPTS[where].splitlines()
    guarded = "\n".join([GUARD, *(f"    {line}" for line in lines)])
    done = run(guarded)
    assert done.returncode == 0, done.stderr
    assert "novelty" in done.stdout


def test_exit_status_after_the_sentinel(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ending(SpawnProcess):
        """A process whose pipes are closed; its exit status is available a moment later."""

        ident = 1
        sentinel = property(lambda self: pipe)
        exitcode = property(lambda self: statuses.pop())

    pipe, other = os.pipe()
    os.close(other)  # makes the sentinel ready
    statuses = [76, 76, None, None]
    context = OwnContext()
    monkeypatch.setattr(context, "_started", [Ending()])
    assert context.guard_is_missing
    os.close(pipe)
