"""The training loops of the page work unchanged and log every epoch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure

torch = pytest.importorskip("torch")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
SMALL = (
    ('{"reference": "mp_20"}', '{"reference": "aflow", "relaxer": "none", "hull": "none"}'),
    ("n_samples=64", "n_samples=2"),
    ("every_n_epochs=5", "every_n_epochs=1"),
)
"""Replacements that make the page's settings suitable for a test."""


class Model(torch.nn.Module):  # type: ignore[misc]
    """A model that copies rock salt."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(2, 1)

    def sample(self, n: int) -> list[Structure]:
        cell = Lattice([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]])
        return [Structure(cell, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])] * n


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))


def block(heading: str, containing: str) -> str:
    """The Python block under a heading, with small settings."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    (code,) = [one for one in blocks if containing in one]
    for before, after in SMALL:
        code = code.replace(before, after)
    return code


def test_plain_loop(capsys: pytest.CaptureFixture[str]) -> None:
    code = block("Other training loops, and Accelerate", "def show")
    exec(code, {"model": Model(), "epochs": 3, "train": lambda model: None})
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["0", "1", "2"]
    assert all("'novelty/duplicate': 1.0" in line for line in lines)
    assert last == "3 evaluations"
    assert len(list(Path("run").glob("epoch_*/report.json"))) == 3


def test_accelerate_loop() -> None:
    """Two steps per epoch; each one is logged."""
    accelerate = pytest.importorskip("accelerate")
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from novelty_metric.callbacks import NoveltyMonitor

    accelerator = accelerate.Accelerator(log_with="tensorboard", project_dir="logs", cpu=True)
    accelerator.init_trackers("crystals")
    step = 0

    def train(model: Any) -> int:
        nonlocal step
        for _ in range(2):
            step += 1
            accelerator.log({"loss": float(step)}, step=step)
        return step

    names = {
        "accelerator": accelerator,
        "epochs": 3,
        "model": accelerator.prepare(Model()),
        "NoveltyMonitor": NoveltyMonitor,
        "train": train,
    }
    exec(block("Other training loops, and Accelerate", "accelerator.log"), names)
    events = EventAccumulator("logs/crystals")
    events.Reload()
    found = events.Scalars("novelty/duplicate")
    assert [(event.step, event.value) for event in found] == [(2, 1.0), (4, 1.0), (6, 1.0)]
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
