"""What pages show as the output of commands is their output."""

from __future__ import annotations

import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "make_outputs.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """What `scripts/make_outputs.py` defines."""
    return runpy.run_path(str(SCRIPT))


def test_every_block_is_on_its_page(script: dict[str, Any]) -> None:
    for block in script["BLOCKS"]:
        text = (ROOT / block.page).read_text(encoding="utf-8")
        assert script["found"](text, block.begins)["output"].count("\n") >= 3


def test_what_may_differ_between_processors_and_runs(script: dict[str, Any]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = script["found"](text, "novelty ")["output"]

    def same(old: str, new: str) -> bool:
        assert old in shown
        return script["same"](shown, shown.replace(old, new, 1))

    assert same("\ntriclinic       1", "\nmonoclinic      1")
    assert same("0.243", "0.246")
    assert not same("0.243", "0.343")
    assert not same("unmatched            6", "unmatched            7")
    assert not same("16.7 %", "16.6 %")
    assert script["same"](
        "model  unm.    time\nmine      1  12.2 s", "model  unm.   time\nmine      1  1.2 s"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("chgnet")
def test_all_pages_show_what_the_commands_print(run_python: Callable[..., Any]) -> None:
    """With CHGNet: some minutes."""
    done = run_python(SCRIPT, "--check", capture_output=False, stdout=subprocess.PIPE)
    assert done.returncode == 0, f"{done.stdout}run python scripts/make_outputs.py"
