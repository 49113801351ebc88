"""The k cheapest parents of one route, found best-first."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Payload = TypeVar("Payload")

Key = tuple[float, int, int]
"""Cost, number of sites, position in the reference: the order of parents, including ties."""


@dataclass(slots=True)
class Cheapest(Generic[Payload]):
    """The k lowest keys so far, in order.

    Attributes
    ----------
    k : int
    """

    k: int
    _kept: list[tuple[Key, Payload]] = field(default_factory=list)

    def offer(self, key: Key, payload: Payload) -> None:
        """Keep the entry if it is among the k lowest. Keys are unique."""
        bisect.insort(self._kept, (key, payload), key=lambda entry: entry[0])
        del self._kept[self.k :]

    def certain_before(self, key: Key) -> bool:
        """True if no key equal to or above `key` can still enter.

        With the lower bound of the cost in the first place of `key`, and candidates visited in the
        order of such keys, True ends the search: a real key is never below its bound's.
        """
        worst = self.worst()
        return worst is not None and worst < key

    def worst(self) -> Key | None:
        """The k-th lowest key; None if there are fewer."""
        return self._kept[-1][0] if len(self._kept) == self.k else None

    def in_order(self) -> list[tuple[Key, Payload]]:
        """The kept entries, lowest key first."""
        return list(self._kept)
