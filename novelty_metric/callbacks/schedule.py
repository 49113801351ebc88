"""Schedule of evaluations by epochs and steps of a training."""

from __future__ import annotations

from novelty_metric.errors import InputError


class Schedule:
    """Counts epochs and optimiser steps.

    Parameters
    ----------
    every_n_epochs : int, optional
        Epoch e, from 0, is due if ``(e + 1) % n == 0``, as for Lightning's
        ``check_val_every_n_epoch``. Default: 1, or no epoch at all where `every_n_steps` is given.
    every_n_steps : int, optional
        The weights are due after n, 2n, 3n and so on optimiser steps.

    Raises
    ------
    InputError
        If a number is not a whole number above 0.
    """

    def __init__(self, every_n_epochs: int | None = None, every_n_steps: int | None = None) -> None:
        if every_n_epochs is None and every_n_steps is None:
            every_n_epochs = 1
        for name, count in (("every_n_epochs", every_n_epochs), ("every_n_steps", every_n_steps)):
            if count is not None:
                whole_number(name, count)
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self._last_epoch: int | None = None
        self._last_step: int | None = None
        self._seen_step: int | None = None

    def start(self, step: int) -> None:
        """Count steps from here on; earlier steps are done."""
        self._seen_step = step

    def epoch_is_due(self, epoch: int) -> bool:
        """True if the end of this epoch is due, and was not yet evaluated."""
        n = self.every_n_epochs
        return n is not None and (epoch + 1) % n == 0 and epoch != self._last_epoch

    def step_is_due(self, step: int) -> bool:
        """True if a multiple of n steps was reached since `start`.

        Where several optimisers each take a step, a multiple can be passed over.
        """
        n, seen = self.every_n_steps, self._seen_step
        if n is None or step == seen:
            return False
        return step % n == 0 if seen is None else step // n > seen // n

    def is_measured(self, step: int) -> bool:
        """True if the weights after this number of steps were evaluated last."""
        return step == self._last_step

    def note(self, step: int | None, epoch: int | None = None) -> None:
        """Record the evaluation of the weights after this number of steps, at the end of an epoch
        if given.
        """
        self._last_step = step
        if epoch is not None:
            self._last_epoch = epoch

    def state(self) -> dict[str, int | None]:
        """State for a checkpoint, so that a resumed training evaluates nothing twice."""
        return {"epoch": self._last_epoch, "step": self._last_step}

    def load(self, state: dict[str, int | None]) -> None:
        """Continue from `state`."""
        self._last_epoch, self._last_step = state["epoch"], state["step"]


def whole_number(name: str, given: object) -> int:
    """A setting that is a count.

    Raises
    ------
    InputError
        If it is not a whole number above 0.
    """
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise InputError(f"{name} is {given!r}; it must be a whole number above 0")
    return given
