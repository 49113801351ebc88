"""The processes of a training run, and the communication between them."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

_LONGEST_PAUSE = 0.25
"""Time between two looks for the others (s)."""
_PATIENCE = timedelta(days=2)
"""Time after which a process that is not heard of counts as dead."""


class Ranks:
    """The processes of ``torch.distributed``; a single one if it is not in use.

    Every method is called by all processes, in the same order. A collective ends the training if a
    process comes to it later than the timeout of the process group, and one that prepares a
    reference does. So the processes have a patient group of their own (gloo). A process waits for
    the others in Python, so that it can be interrupted.
    """

    def __init__(self) -> None:
        self._group: Any = None

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
        if self._group is None and self.count > 1:
            self._group = self._distributed().new_group(backend="gloo", timeout=_PATIENCE)

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, sent to all, when the slowest has come.

        Raises
        ------
        RuntimeError
            If a process is gone.
        """
        self.open()
        if self._group is None:
            return [value]
        distributed, pause = self._distributed(), 1e-3
        all_here = distributed.barrier(group=self._group, async_op=True)
        while not all_here.is_completed():
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        all_here.wait()
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value, group=self._group)
        return values

    def from_first(self, value: Any) -> Any:
        """The value of rank 0, sent to all."""
        return self.gather(value if self.own == 0 else None)[0]

    def close(self) -> None:
        """Leave the group."""
        if self._group is not None and self._distributed() is not None:
            self._distributed().destroy_process_group(self._group)
        self._group = None

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
