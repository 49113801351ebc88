"""The processes of a training run, and what they tell one another."""

from __future__ import annotations

import sys
from typing import Any


class Ranks:
    """The processes that train together by ``torch.distributed``; one where it is not in use.

    Every method is a collective: all processes must call it, in the same order.
    """

    @property
    def count(self) -> int:
        """How many there are."""
        distributed = self._distributed()
        return 1 if distributed is None else int(distributed.get_world_size())

    @property
    def own(self) -> int:
        """Number of this one, from 0."""
        distributed = self._distributed()
        return 0 if distributed is None else int(distributed.get_rank())

    def gather(self, value: Any) -> list[Any]:
        """The values of all, by rank, for all."""
        distributed = self._distributed()
        if distributed is None or self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """The value of rank 0, for all."""
        distributed = self._distributed()
        if distributed is None or self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    @staticmethod
    def _distributed() -> Any:
        torch = sys.modules.get("torch")
        if torch is None or not torch.distributed.is_available():
            return None
        return torch.distributed if torch.distributed.is_initialized() else None


class Alone(Ranks):
    """One process, whatever runs beside it."""

    @staticmethod
    def _distributed() -> Any:
        return None
