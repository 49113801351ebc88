"""The folder of a run, given as ``run=DIR``."""

from __future__ import annotations

from pathlib import Path

from novelty_metric.cli.options import Words
from novelty_metric.errors import InputError

RUN = "run=DIR: folder that `novelty-metric score ... out=DIR` wrote"


def run_folder(given: Words) -> Path:
    """The given folder.

    Raises
    ------
    InputError
        If none was, or it holds no run or several.
    """
    if "run" not in given:
        raise InputError(f"{given.verb} needs run=DIR: the folder that `score ... out=DIR` wrote")
    folder: Path = given["run"]
    if not folder.exists():
        raise InputError(f"run={folder}: no such folder")
    if (folder / "report.json").exists():
        return folder
    inside = sorted(path.parent.name for path in folder.glob("*/report.json"))
    if inside:
        raise InputError(
            f"run={folder} contains {len(inside)} runs; name one of them: run={folder / inside[0]}"
        )
    raise InputError(
        f"run={folder} is not a run: it has no report.json; name a folder that `score ... "
        "out=DIR` wrote"
    )
