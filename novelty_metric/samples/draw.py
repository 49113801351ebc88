"""Which of a file's crystals are read: the first ones, or some that are drawn at random.

Standard library only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Draw:
    """What was asked for with ``limit=`` and ``seed=``.

    Attributes
    ----------
    limit : int or None
        Crystals at most; None: all.
    seed : int or None
        With which they are drawn; None: the first ones.
    """

    limit: int | None = None
    seed: int | None = None

    def holds(self, other: Draw) -> bool:
        """Whether all that the other gives, of whatever file, is among what this one gives."""
        if self.limit is None:
            return True
        return other.limit is not None and other.limit <= self.limit and other.seed == self.seed

    def __str__(self) -> str:
        if self.limit is None:
            return "no limit"
        return f"limit={self.limit}" + ("" if self.seed is None else f" seed={self.seed}")


def drawn_rows(total: int, count: int, seed: int) -> list[int]:
    """Rows drawn at random without replacement, increasing; all rows where there are no more.

    Each row has a random number of its own, and those with the smallest are taken. So a larger
    count gives the same rows and more. Every set of `count` rows is as likely as any other.

    Parameters
    ----------
    total : int
        Rows in all.
    count : int
        Rows to draw.
    seed : int
    """
    numbers = random.Random(seed)
    keys = [numbers.random() for _ in range(total)]
    return sorted(sorted(range(total), key=keys.__getitem__)[:count])
