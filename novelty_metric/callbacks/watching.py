"""Visibility of the values for callbacks such as `ModelCheckpoint` and `EarlyStopping`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

_HOOKS = ("on_train_batch_end", "on_validation_end", "on_train_epoch_end")
"""The place where Lightning's own callbacks read the values that they monitor."""


class SeesEvaluations:
    """A callback that monitors a value and reads it from the evaluations themselves."""


class Watchers:
    """Shows values to the callbacks that monitor them: each value once, and never an outdated one.

    Lightning keeps a metric until it is logged anew. `ModelCheckpoint` would take the value of
    epoch 4 for one of epoch 5 too, `EarlyStopping` would count it as an epoch without improvement,
    and both end the training where a value that they monitor is absent. So a value is in
    ``trainer.callback_metrics`` only until training continues. The hooks of a callback that
    monitors it are called only if it has a value: those of a checkpoint while the weights are the
    measured ones, all others once for each value.

    The names of the values start with `prefix`, and `keeps_weights` is true for a checkpoint. With
    `late`, values arrive after the training went on; checkpoints then also see each of them once.
    """

    def __init__(
        self, trainer: Any, prefix: str, keeps_weights: Callable[[Any], bool], *, late: bool
    ) -> None:
        self._trainer = trainer
        self._prefix = prefix
        self._late = late
        self._values: dict[str, Any] = {}
        self._are_shown = False
        self._number = 0
        self._given: set[str] = set()
        self._wrapped: list[tuple[Any, str, Any]] = []
        self.checkpoints: list[Any] = []
        for callback in trainer.callbacks:
            if self._monitors(callback) is None or isinstance(callback, SeesEvaluations):
                continue
            if keeps_weights(callback):
                self.checkpoints.append(callback)
            for hook in _HOOKS:
                before = callback.__dict__.get(hook)
                setattr(callback, hook, self._guarded(callback, getattr(callback, hook)))
                self._wrapped.append((callback, hook, before))

    def show(self, values: Mapping[str, float]) -> None:
        """Add new values."""
        import torch

        self.hide()
        self._are_shown = True
        self._values = {name: torch.tensor(value) for name, value in values.items()}
        self._number += 1
        self._given |= set(values)
        self._trainer.callback_metrics.update(self._values)

    def hide(self) -> None:
        """Mark the values as outdated, because training continues."""
        if not self._are_shown:
            return
        self._are_shown = False
        known = self._trainer.callback_metrics
        for name in [name for name in known if name.startswith(self._prefix)]:
            del known[name]

    @property
    def has_shown(self) -> bool:
        """True if there was any value yet."""
        return self._number > 0

    def never_given(self) -> list[str]:
        """Monitored names that occurred in no evaluation."""
        names = {self._monitors(callback) for callback, *_ in self._wrapped} - {None}
        return sorted(name for name in names if name is not None and name not in self._given)

    def close(self) -> None:
        """Restore the callbacks."""
        for callback, hook, before in self._wrapped:
            if before is None:
                callback.__dict__.pop(hook, None)
            else:
                setattr(callback, hook, before)
        self._wrapped = []

    def _monitors(self, callback: Any) -> str | None:
        name = getattr(callback, "monitor", None)
        return name if isinstance(name, str) and name.startswith(self._prefix) else None

    def _guarded(self, callback: Any, hook: Callable[..., Any]) -> Callable[..., Any]:
        seen = 0
        only_now = callback in self.checkpoints and not self._late

        @functools.wraps(hook)
        def guarded(trainer: Any, *arguments: Any, **named: Any) -> Any:
            nonlocal seen
            name = self._monitors(callback)
            known = trainer.callback_metrics
            if name is None or name in known:
                seen = self._number
                return hook(trainer, *arguments, **named)
            if only_now or seen == self._number or name not in self._values:
                return None
            seen = self._number
            known.update(self._values)
            self._are_shown = True
            try:
                return hook(trainer, *arguments, **named)
            finally:
                self.hide()

        return guarded
