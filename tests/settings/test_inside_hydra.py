"""The command inside an application that Hydra runs: both keep their settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

APPLICATION = """\
import logging
import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from novelty_metric.cli import main

log = logging.getLogger("application")


def state():
    root = logging.getLogger()
    return (
        id(GlobalHydra.instance().hydra), id(HydraConfig.get()), JobRuntime.instance().get("name"),
        [id(handler) for handler in root.handlers], root.level,
    )


@hydra.main(version_base=None, config_path="conf", config_name="own")
def run(config):
    only_once = logging.FileHandler("once.log", mode="w")  # does not reopen after it is closed
    logging.getLogger().addHandler(only_once)
    before = state()
    for words in WORDS:
        log.info("before %s", words)
        print("status", main(words))
        assert state() == before, words
        log.info("after %s", words)
    assert HydraConfig.get().job.name == "application"
    assert HydraConfig.get().overrides.task == ["seen=1"]
    print("the outer one is there")


if __name__ == "__main__":
    run()
"""
FAST = ["relaxer=none", "hull=none", "limit=2", "progress=false"]


def test_all_ways_to_call_the_command(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "own.yaml").write_text("seen: 0\n")
    arguments = [
        ["score", *FAST, "out=run"],
        ["score", "-m", *FAST, "protocol.k=1,2"],
        ["score", "relaxor=none"],
        ["score", "-m", *FAST, "hydra/launcher=none_such", "protocol.k=1,2"],
        ["sensitivity", "run=run", "k=1", "tolerances=none", "symprec=none"],
    ]
    script = tmp_path / "application.py"
    script.write_text(APPLICATION.replace("WORDS", repr(arguments)))
    done = run_python(script, "seen=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    statuses = [line for line in done.stdout.splitlines() if line.startswith("status")]
    assert statuses == ["status 0", "status 0", "status 2", "status 2", "status 0"]
    assert "the outer one is there" in done.stdout
    assert "no setting named 'relaxor'" in done.stderr
    for log in ("once.log", *(str(p) for p in tmp_path.glob("outputs/*/*/application.log"))):
        assert (tmp_path / log).read_text().count("after") == len(arguments), log
