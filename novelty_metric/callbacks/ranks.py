"""The processes of a training run, and the communication between them."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from typing import Any

_LONGEST_PAUSE = 0.25
"""Time between two reads of the store (s)."""

_BEAT = 5.0
"""Time between two heartbeats of a process (s)."""

_SILENCE = 600.0
"""Time without a heartbeat after which a process counts as dead (s)."""


class Ranks:
    """The processes of ``torch.distributed``; a single one if it is not in use.

    Every method is called by all processes, in the same order. A collective ends the training if a
    process comes to it later than the timeout of the process group, and one that prepares a
    reference does. So the processes first wait for one another at a store of their own, which they
    poll, and the collective follows when all are there.
    """

    def __init__(self) -> None:
        self._meeting: _Meeting | None = None

    @property
    def count(self) -> int:
        """Number of processes."""
        distributed = self._distributed()
        return 1 if distributed is None else int(distributed.get_world_size())

    @property
    def own(self) -> int:
        """Rank of this process, from 0."""
        distributed = self._distributed()
        return 0 if distributed is None else int(distributed.get_rank())

    def open(self) -> None:
        """Connect the processes; all must call it at about the same time."""
        if self._meeting is None and self.count > 1:
            self._meeting = _Meeting(self._distributed())

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, sent to all; waits for the slowest without limit."""
        self.open()
        if self._meeting is None:
            return [value]
        self._meeting.wait()
        values: list[Any] = [None] * self.count
        self._distributed().all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """The value of rank 0, sent to all."""
        return self.gather(value if self.own == 0 else None)[0]

    def close(self) -> None:
        """Stop the heartbeat."""
        if self._meeting is not None:
            self._meeting.close()
            self._meeting = None

    @staticmethod
    def _distributed() -> Any:
        torch = sys.modules.get("torch")
        if torch is None or not torch.distributed.is_available():
            return None
        return torch.distributed if torch.distributed.is_initialized() else None


class Alone(Ranks):
    """A single process, even if others run beside it."""

    @staticmethod
    def _distributed() -> Any:
        return None


class _Meeting:
    """Barrier of the processes: a counter in a store of rank 0."""

    def __init__(self, distributed: Any) -> None:
        self._own, self._count = int(distributed.get_rank()), int(distributed.get_world_size())
        self._number = 0
        first = self._own == 0
        address: list[Any] = [_host(), 0]
        options = {"timeout": timedelta(minutes=5), "wait_for_workers": False}
        if first:
            self._store = distributed.TCPStore(*address, is_master=True, **options)
            address[1] = self._store.port
        distributed.broadcast_object_list(address, src=0)
        if not first:
            self._store = distributed.TCPStore(*address, is_master=False, **options)
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="novelty-beat", daemon=True).start()

    def wait(self) -> None:
        """Return when all processes have called this equally often.

        Raises
        ------
        RuntimeError
            If one of them is dead.
        """
        self._number += 1
        name = f"meeting/{self._number}"
        there = self._store.add(name, 1)
        pause, looked = 1e-3, time.monotonic()
        heard: dict[int, tuple[int, float]] = {}
        while there < self._count:
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)
            if time.monotonic() - looked > _BEAT:
                looked = time.monotonic()
                self._check_alive(heard)
            there = self._store.add(name, 0)
        if self._own == 0:
            self._store.delete_key(f"meeting/{self._number - 1}")  # all have left it

    def close(self) -> None:
        self._closed.set()

    def _beat(self) -> None:
        with contextlib.suppress(RuntimeError):  # rank 0 is gone
            while not self._closed.is_set():
                self._store.add(f"beat/{self._own}", 1)
                self._closed.wait(_BEAT)

    def _check_alive(self, heard: dict[int, tuple[int, float]]) -> None:
        """State `heard`: a process's number of heartbeats, and the time of the last change."""
        now = time.monotonic()
        for rank in range(self._count):
            beats = self._store.add(f"beat/{rank}", 0)
            if beats != heard.get(rank, (-1, now))[0]:
                heard[rank] = beats, now
            elif now - heard[rank][1] > _SILENCE:
                raise RuntimeError(
                    f"process {rank} of the training has not responded for {_SILENCE / 60:.0f} "
                    "minutes"
                )


def _host() -> str:
    """The address of rank 0 for the other processes; only rank 0's value is used."""
    given = os.environ.get("MASTER_ADDR")
    if given:
        return given
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return "localhost"
    return name
