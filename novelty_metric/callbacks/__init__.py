"""The metric in a training loop.

`NoveltyCallback` and `NoveltyCheckpoint` are for Lightning, `NoveltyMonitor` is for any other loop.
All load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from novelty_metric.support.lazy import lazily

if TYPE_CHECKING:
    from novelty_metric.callbacks.checkpoint import NoveltyCheckpoint
    from novelty_metric.callbacks.evaluation import Evaluation
    from novelty_metric.callbacks.lightning import NoveltyCallback
    from novelty_metric.callbacks.monitor import NoveltyMonitor

__all__ = ["Evaluation", "NoveltyCallback", "NoveltyCheckpoint", "NoveltyMonitor"]


__getattr__ = lazily(
    __name__,
    {
        "checkpoint": ["NoveltyCheckpoint"],
        "evaluation": ["Evaluation"],
        "lightning": ["NoveltyCallback"],
        "monitor": ["NoveltyMonitor"],
    },
)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
