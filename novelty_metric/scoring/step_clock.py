"""Duration, progress and deadline of the steps."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from novelty_metric.support.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from novelty_metric.scoring.case import Case


class StepClock:
    """Measures the steps, calls the progress callback, and knows the deadline if there is one.

    Attributes
    ----------
    progress : callable
        Called as ``progress(stage, done, total)``.
    seconds : dict
        Wall time per step, in order (s).
    deadline : float or None
        When relaxations and searches end, on the clock of `time.monotonic`.
    """

    def __init__(self, progress: ProgressCallback | None = None) -> None:
        self.progress = progress or no_progress
        self.seconds: dict[str, float] = defaultdict(float)
        self.deadline: float | None = None
        self._end: float | None = None

    @contextmanager
    def limited(self, deadline: float | None, *, grace: float = 0.0) -> Iterator[None]:
        """Work within a deadline.

        Parameters
        ----------
        deadline : float or None
        grace : float
            Steps without relaxation may exceed the deadline by this fraction of the time until it.
        """
        self.deadline = self._end = deadline
        if deadline is not None and grace:
            self._end = deadline + grace * max(0.0, deadline - time.monotonic())
        try:
            yield
        finally:
            self.deadline = self._end = None

    def deadline_passed(self) -> bool:
        """True if no relaxation and no search may start."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def grace_passed(self) -> bool:
        """True if no step at all may start."""
        return self._end is not None and time.monotonic() >= self._end

    def share_left(self, longest: float) -> float:
        """The time until the deadline as a fraction of `longest` (s); at most 1, and 1 without a
        deadline.
        """
        if self.deadline is None:
            return 1.0
        return min(1.0, (self.deadline - time.monotonic()) / longest)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time of the `with` block to the step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - started

    def each(self, step: str, cases: Sequence[Case]) -> Iterator[Case]:
        """The cases one by one, with timing and progress; cases after the deadline are marked."""
        with self.timed(step):
            for done, case in enumerate(cases, start=1):
                if self.grace_passed():
                    case.out_of_time = True
                    continue
                with case.clock():
                    yield case
                self.progress(step, done, len(cases))

    def take_seconds(self) -> dict[str, float]:
        """Time per step since the last call, in order (s)."""
        taken = dict(self.seconds)
        self.seconds.clear()
        return taken

    def __getstate__(self) -> dict[str, Any]:
        # The callback is of this process.
        return {**self.__dict__, "progress": no_progress}
