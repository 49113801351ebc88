"""Format ``pt``: files of ``torch.save``, read without running code.

Which of the layouts a file has is `torch_layouts`' business.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.source import one_line
from novelty_metric.samples.torch_arrays import Batch
from novelty_metric.samples.torch_layouts import find_layout


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The crystals in order, evaluation by evaluation. The whole file is held in memory.

    Raises
    ------
    InputError
        If the file can't be loaded, would make objects that may run code, or has no known layout.
    """
    batches = _batches(path, options)
    for evaluation, batch in enumerate(batches):
        where = f"evaluation {evaluation}, " if len(batches) > 1 else ""
        for row in range(len(batch)):
            yield Entry(None, f"{where}row {row}", partial(batch.crystal, row))


def count(path: Path, options: ReadOptions) -> int | None:
    """Number of crystals."""
    return sum(map(len, _batches(path, options)))


def _batches(path: Path, options: ReadOptions) -> list[Batch]:
    data = load(path, allow_pickle=options.allow_pickle)
    return find_layout(data, options.arrays, path)


def load(path: Path, *, allow_pickle: bool) -> Any:
    """The content of the file, on the CPU.

    Only tensors and plain values are made, and the few classes of `torch_classes`.

    Raises
    ------
    InputError
        If the file is damaged, or holds another object and `allow_pickle` is false.
    """
    import torch

    from novelty_metric.samples.torch_classes import allowed_classes

    try:
        with torch.serialization.safe_globals(list(allowed_classes())), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of other kinds of file, we say below
            return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:  # a damaged file may raise anything
        name = _refused_global(str(error))
        if name is None:
            raise InputError(
                f"{path}: torch.load can't read it ({one_line(_last_line(error))})"
            ) from error
        raise InputError(
            f"{path}: holds an object of {name}, which is not loaded because it could run code; "
            "allow_pickle=true loads it; use it only for a file that you trust"
        ) from error


def _refused_global(message: str) -> str | None:
    # "Unsupported global: GLOBAL a.B was not…" or "…unsupported GLOBAL a.B whose module…"
    match = re.search(r"GLOBAL ([\w.]+)", message)
    return match.group(1) if match else None


def _last_line(error: Exception) -> str:
    """The reason in torch's error message, which follows a long introduction."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if "error" in line.lower()] or lines
    return reasons[-1] if reasons else type(error).__name__
