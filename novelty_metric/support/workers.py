"""Worker processes: their start, the messages with their owner, and their end."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from novelty_metric.support.processes import OwnContext

_PATIENCE = 20.0
"""Time for a process to end by itself (s)."""
_LOOK = 1.0
"""Interval at which a process checks that its owner is alive (s)."""


class WorkerDiedError(Exception):
    """A worker process ended, with this exit status, although its owner still needs it."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class WorkerProcess:
    """A worker process, from its owner's side; messages go both ways.

    It ignores Ctrl-C, which reaches the whole process group, and ends soon after its owner, however
    that one ended. `work` is called in the process with its connection and the arguments; all are
    picklable. A daemon may have no processes of its own, and ends with its owner's Python.
    """

    def __init__(
        self,
        context: OwnContext,
        work: Callable[..., None],
        *arguments: Any,
        name: str | None = None,
        daemon: bool = True,
    ) -> None:
        self.connection, theirs = context.Pipe()
        self._closing = threading.Lock()
        self._process = context.Process(
            target=_work, args=(work, theirs, arguments), name=name, daemon=daemon
        )
        self._process.start()
        theirs.close()

    def send(self, message: Any) -> None:
        """Send a message; if the process has died, `receive` reports it."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def receive(self) -> Any:
        """Wait for the next message.

        Raises
        ------
        WorkerDiedError
            If the process has ended; nothing is left of it then.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self._close()
            self._process.join()
            raise WorkerDiedError(self._process.exitcode) from None

    def terminate(self) -> None:
        """Stop the process; `end` waits for that."""
        self._process.terminate()

    def end(self, *, at_once: bool) -> None:
        """End the process and wait for it; unless `at_once`, for its next wait for a message."""
        if at_once:
            self._process.terminate()
        else:
            self._close()
        self._process.join(timeout=_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._close()

    def _close(self) -> None:
        """Close the connection once, even if two threads notice the dead process."""
        with self._closing:
            self.connection.close()


@contextmanager
def worker_pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes as an executor. An error ends them at once; none remains at the end.

    Raises
    ------
    InputError
        If the script that calls this lacks its guard.
    """
    context = OwnContext()
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        yield executor
    except BaseException:
        context.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)  # then it is known how the processes ended
        context.require_guard()


def _work(work: Callable[..., None], connection: Connection, arguments: tuple[Any, ...]) -> None:
    """Main function of a worker process."""
    _begin()
    work(connection, *arguments)


def _begin() -> None:
    """First actions of every worker process."""
    # The owner decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    owner = multiprocessing.parent_process()
    assert owner is not None
    threading.Thread(target=_end_with, args=(owner.pid,), name="owner", daemon=True).start()


def _end_with(owner: int | None) -> None:
    """End this process, and those that it has started, when its owner ends.

    The end of the pipe says so too, but only to one who reads it, and not while another process
    that was forked from the owner still holds a copy.
    """
    while os.getppid() == owner:
        time.sleep(_LOOK)
    for process in multiprocessing.active_children():
        process.kill()
    os._exit(1)
