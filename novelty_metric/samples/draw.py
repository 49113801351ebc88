"""Selection of the crystals to read from a file: the first ones, or a random draw.

Standard library only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Draw:
    """The arguments ``limit=`` (None: all crystals) and ``seed=`` (None: the first ones)."""

    limit: int | None = None
    seed: int | None = None

    def holds(self, other: Draw) -> bool:
        """True if this selection contains all that the other selects, for any file."""
        if self.limit is None:
            return True
        return other.limit is not None and other.limit <= self.limit and other.seed == self.seed

    def __str__(self) -> str:
        if self.limit is None:
            return "no limit"
        return f"limit={self.limit}" + ("" if self.seed is None else f" seed={self.seed}")


def drawn_rows(total: int, count: int, seed: int) -> list[int]:
    """`count` of `total` row numbers, drawn without replacement and in increasing order.

    All rows if there are fewer. Each row has a random number of its own, and those with the
    smallest are taken. So a larger count gives the same rows and more. Every set of `count` rows is
    as likely as any other.
    """
    numbers = random.Random(seed)
    keys = [numbers.random() for _ in range(total)]
    return sorted(sorted(range(total), key=keys.__getitem__)[:count])
