"""The metric in a training loop.

`NoveltyCallback` and `NoveltyCheckpoint` are for Lightning, `NoveltyMonitor` is for any other loop.
All load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novelty_metric.callbacks.checkpoint import NoveltyCheckpoint
    from novelty_metric.callbacks.evaluation import Evaluation
    from novelty_metric.callbacks.lightning import NoveltyCallback
    from novelty_metric.callbacks.monitor import NoveltyMonitor

_HOME = {
    "Evaluation": "evaluation",
    "NoveltyCallback": "lightning",
    "NoveltyCheckpoint": "checkpoint",
    "NoveltyMonitor": "monitor",
}

__all__ = ["Evaluation", "NoveltyCallback", "NoveltyCheckpoint", "NoveltyMonitor"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"novelty_metric.callbacks.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
