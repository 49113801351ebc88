"""Start of processes, and the error for a script without the guard that this needs."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError

MISSING_GUARD = (
    "this script starts other processes, and each of them runs the script again, as it lacks the "
    'guard for that; put what it runs under   if __name__ == "__main__":   or start no processes, '
    "with workers=1, executor=none, asynchronous=False"
)
_NO_GUARD = 76
"""Exit status of a process that tried to start processes while it was reading the script."""
_STATUS_SECONDS = 10.0
"""Maximum wait for the exit status of an ended process (s)."""
_OWN = "novelty-metric "
"""First part of the names of this package's processes."""


class OwnContext(SpawnContext):
    """Starts processes that read the main script first, like Python's ``spawn``.

    A forked copy of a process that holds threads of torch can hang, so nothing is forked.

    Raises
    ------
    InputError
        In a process that another library started and that is still reading the script. One of this
        package ends there, and the one that started it says why.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started: list[SpawnProcess] = []
        current = multiprocessing.process.current_process()
        if getattr(current, "_inheriting", False):  # until the script was read
            if current.name.startswith(_OWN):
                os._exit(_NO_GUARD)
            raise InputError(MISSING_GUARD) from None

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]
        """A process of this package; not yet started."""
        name = options.pop("name", None) or f"worker {len(self._started) + 1}"
        process = SpawnProcess(*args, **options, name=f"{_OWN}{name}")  # type: ignore[misc]
        self._started.append(process)
        return process

    @property
    def guard_is_missing(self) -> bool:
        """True if an ended process ended because the script has no guard."""
        started = [process for process in self._started if process.ident is not None]
        ended = wait([process.sentinel for process in started], timeout=0)
        return any(_exit_status(p) == _NO_GUARD for p in started if p.sentinel in ended)

    def terminate(self) -> None:
        """End all running processes that were started here."""
        for process in self._started:
            if process.ident is not None and process.is_alive():
                process.terminate()

    def require_guard(self) -> None:
        """Refuse a script without its guard, after the process that noticed this has ended.

        Raises
        ------
        InputError
            If it has none.
        """
        if self.guard_is_missing:
            raise InputError(MISSING_GUARD) from None


def _exit_status(process: SpawnProcess) -> int | None:
    """Exit status of a process with a ready sentinel; the status follows a moment later.

    Another thread may read the status at the same time: then this one sees nothing at first.
    """
    last = time.monotonic() + _STATUS_SECONDS
    while process.exitcode is None and time.monotonic() < last:
        time.sleep(0.001)
    return process.exitcode


def require_guarded_script() -> None:
    """Refuse a script that cannot have a guard, before a library starts its own processes.

    Such processes read the script again and end; only after a time does the library tell that it
    waits in vain. A script that asks which process it is in has a guard of some kind.

    Raises
    ------
    InputError
    """
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is None or getattr(main, "__spec__", None) is not None:  # a notebook; python -m
        return
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    if not any(asked in text for asked in ("__name__", "parent_process", "current_process")):
        raise InputError(MISSING_GUARD)
