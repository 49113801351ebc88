"""A relaxer for tests with relaxed crystals."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pymatgen.core import Structure

from novelty_metric.relaxation.base import PotentialInfo, Relaxation, RelaxSettings, RelaxTask
from novelty_metric.scoring.case import Case


@dataclass
class StaticRelaxer:
    """Return every crystal unchanged, and count the requests.

    Parameters
    ----------
    energy : float
        Energy of every crystal (eV/atom).
    end : callable
        Makes the result of a relaxation from that of an unchanged crystal.
    """

    name: str = "still"
    energy: float = -3.0
    end: Callable[[RelaxTask, Relaxation], Relaxation] = lambda task, found: found
    samples: list[str] = field(default_factory=list)
    n_parents: int = 0

    @property
    def info(self) -> PotentialInfo:
        return PotentialInfo(name=self.name, version="1", weights_hash="0" * 64)

    @property
    def n_relaxed(self) -> int:
        return len(self.samples) + self.n_parents

    def relax(
        self, queue: deque[RelaxTask], settings: RelaxSettings
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        while queue:
            task = queue.popleft()
            if isinstance(task.key, Case):
                self.samples.append(task.key.sample.id)
            else:
                self.n_parents += 1
            found = Relaxation(
                structure=task.structure.copy(),
                energy_before=self.energy,
                energy_after=self.energy,
                converged=True,
                seconds=0.0,
            )
            yield task, self.end(task, found)

    def energies(self, structures: Sequence[Structure]) -> Iterator[float]:
        yield from (self.energy for _ in structures)

    def close(self) -> None: ...
