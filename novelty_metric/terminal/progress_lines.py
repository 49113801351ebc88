"""Progress as plain lines, for streams that are not terminals, such as the log of a batch job."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from novelty_metric.support.progress import WHOLE
from novelty_metric.support.text import duration, percent

FIRST = 5.0
"""Minimum duration of a stage before it is printed (s)."""

EVERY = 60.0
"""Time between two lines (s), except for the first line of a stage."""

_POLL = 0.5
_MANY = 10**6
"""Totals from this size on are bytes, which are shown as a percentage."""


@dataclass(slots=True)
class _Stage:
    """Progress of a stage, with its start time."""

    began: float
    first: int
    done: int
    total: int | None

    @property
    def over(self) -> bool:
        return self.total is not None and self.done >= self.total


class ProgressLines:
    """Lines on the progress of a run: few, and none for a run of seconds.

    An instance is a `novelty_metric.support.progress.ProgressCallback`, to be used within ``with``.
    A thread checks its state, so that a stage without progress is also named. The clock gives
    seconds.
    """

    def __init__(
        self, write: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._stages: dict[str, _Stage] = {}
        self._current: str | None = None
        self._named: set[str] = set()
        self._written = clock()
        self._repeats: str | None = None
        self._known: tuple[float, int] | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> ProgressLines:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Record the progress of a stage."""
        with self._lock:
            now = self._clock()
            kept = self._stages.get(stage)
            again = kept is not None and (kept.done, kept.total) != (done, total)
            if kept is None or done < kept.done or (kept.over and again):
                self._stages[stage] = _Stage(now, done, done, total)
                if kept is not None and stage != WHOLE and WHOLE in self._stages:
                    self._repeats = self._repeats or stage
                if stage == self._repeats:
                    # Another part of the samples begins: from parts that are done, and not from
                    # the quick crystals of one that is under way, is told what is left.
                    self._known = now, self._stages[WHOLE].done
            else:
                kept.done, kept.total = done, total
            if stage != WHOLE:
                self._current = stage

    def tell(self) -> None:
        """Print a line if one is due."""
        with self._lock:
            line = self._due(self._clock())
        if line is not None:
            self._write(line)

    def _watch(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            while not self._ended.wait(_POLL):
                self.tell()

    def _due(self, now: float) -> str | None:
        name = self._current if self._current is not None else WHOLE
        stage = self._stages.get(name)
        if stage is None:
            return None
        new = name not in self._named and not stage.over and now - stage.began >= FIRST
        if not new and now - self._written < EVERY:
            return None
        self._named.add(name)
        self._written = now
        words = []
        if name != WHOLE and not stage.over:
            so_far = duration(now - stage.began, about=True)
            stands = _stands(stage) or ("" if new else f", {so_far} so far")
            words.append(f"{name}{stands}{_left(stage, now)}")
        whole = self._stages.get(WHOLE)
        if whole is not None and whole.total != 0:
            of = "" if whole.total is None else f" of {whole.total}"
            words.append(f"{whole.done}{of} crystals done{self._whole_left(whole, now)}")
        return "; ".join(words) or None

    def _whole_left(self, whole: _Stage, now: float) -> str:
        if self._current is None:  # nothing but the whole is told
            return _left(whole, now)
        if self._known is None:
            return ""
        then, done = self._known
        left = _left(_Stage(whole.began, whole.first, done, whole.total), then, now - then)
        return left if whole.done < (whole.total or 0) else ""


def _stands(stage: _Stage) -> str:
    if stage.total is None:
        return f", {stage.done} done" if stage.done else ""
    if stage.total >= _MANY:
        return f", {percent(stage.done / stage.total)}"
    return f", {stage.done} of {stage.total}" if stage.total > 1 else ""


def _left(stage: _Stage, now: float, since: float = 0.0) -> str:
    """Estimated remaining time of a stage, from its speed until `now`."""
    done = stage.done - stage.first
    if done < 1 or stage.total is None or stage.over:
        return ""
    seconds = (now - stage.began) * (stage.total - stage.done) / done - since
    return f", about {duration(max(0.0, seconds), about=True)} left"
