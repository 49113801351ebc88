"""The relaxer: any potential, in this process or in workers, with a cache."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from novelty_metric.relaxation.base import PotentialInfo, Relaxation, RelaxSettings, RelaxTask
from novelty_metric.relaxation.in_flight import InFlight
from novelty_metric.relaxation.loading import quiet
from novelty_metric.relaxation.potentials import Potential
from novelty_metric.relaxation.workers import Workers, single_points
from novelty_metric.support.cores import one_blas_thread, usable_cores

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.relaxation.cache import RelaxationCache

_ENERGY_CHUNK = 32


class PotentialRelaxer:
    """Relaxes crystals with a potential, as many at once as fit into its evaluator.

    Parameters
    ----------
    potential : Potential
    workers : int or None
        Worker processes of one thread each; 1 works in this process. None takes one per core, or
        this process where a GPU does the work.
    cache : RelaxationCache, optional
        Where finished relaxations are kept and looked up.

    Notes
    -----
    On a processor, the results of L-BFGS and FIRE depend neither on the other crystals in the queue
    nor on the number of workers, to the last bit; see `InFlight`. Otherwise the last digits of
    single precision depend on the batch, and with several workers on which crystals are finished
    first.
    """

    def __init__(
        self,
        potential: Potential,
        *,
        workers: int | None = 1,
        cache: RelaxationCache | None = None,
    ) -> None:
        if workers is None:
            workers = usable_cores() if potential.device_name == "cpu" else 1
        self._potential = potential
        self._n_workers = max(1, workers)
        self._cache = cache
        self._engine: InFlight | Workers | None = None

    @property
    def info(self) -> PotentialInfo:
        """The potential."""
        return self._potential.info

    @property
    def n_workers(self) -> int:
        """Number of processes that relax; 1 means this process."""
        return self._n_workers

    @property
    def device_name(self) -> str:
        """Device of the potential, such as ``cpu`` or ``cuda``."""
        return self._potential.device_name

    def relax(
        self,
        queue: deque[RelaxTask],
        settings: RelaxSettings,
        *,
        deadline: float | None = None,
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        """See `novelty_metric.relaxation.base.Relaxer.relax`."""
        self._drop_unfinished()
        waiting: RelaxTask | None = None  # not in the cache
        while queue or waiting is not None or self._is_busy:
            while queue or waiting is not None:
                if waiting is None:
                    task = queue.popleft()
                    known = self._known(task, settings)
                    if known is not None:
                        yield task, known
                        continue
                    waiting = task
                if not self._started().has_room:
                    break
                self._started().add(waiting, settings)
                waiting = None
            if waiting is None and not self._is_busy:
                # All came from the cache: workers that have asked already say nothing more.
                continue
            engine = self._started()
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                self.close()
                return
            # Not one by one: what the caller does in between is not part of the step.
            with self._alone():
                ended = list(engine.step(left) if isinstance(engine, Workers) else engine.step())
            for task, result in ended:
                if self._cache is not None:
                    self._cache.put(task, self.info, settings, result)
                # The way is for the cache alone; whoever asked would only carry it about.
                yield task, replace(result, trajectory=None)

    def energies(self, structures: Sequence[Structure]) -> Iterator[float]:
        """See `novelty_metric.relaxation.base.Relaxer.energies`."""
        if len(structures) == 0:
            return
        self._drop_unfinished()
        engine = self._started()
        chunks = (
            [structures[at] for at in range(start, min(start + _ENERGY_CHUNK, len(structures)))]
            for start in range(0, len(structures), _ENERGY_CHUNK)
        )
        if isinstance(engine, Workers):
            yield from engine.energies(chunks)
            return
        for chunk in chunks:
            with self._alone():
                energies = single_points(engine, chunk)
            yield from energies

    def close(self) -> None:
        """Stop the worker processes and drop unfinished work."""
        if isinstance(self._engine, Workers):
            self._engine.close()
        self._engine = None

    def _known(self, task: RelaxTask, settings: RelaxSettings) -> Relaxation | None:
        return None if self._cache is None else self._cache.get(task, self.info, settings)

    @property
    def _is_busy(self) -> bool:
        return self._engine is not None and len(self._engine) > 0

    def _started(self) -> InFlight | Workers:
        """The engine of the relaxations. It starts only for work that is not cached, and takes
        seconds.
        """
        if self._engine is None:
            self._engine = (
                InFlight(self._potential.evaluator())
                if self._n_workers == 1
                else Workers(self._potential, self._n_workers)
            )
        return self._engine

    def _drop_unfinished(self) -> None:
        """Drop an iteration that ended early: its crystals do not belong to this queue."""
        if self._is_busy:
            self.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Work in this process: quiet, on one thread, as small crystals are slower on more."""
        if isinstance(self._engine, Workers):
            yield
            return
        torch = sys.modules.get("torch")  # imported by the potentials that use it
        before = torch.get_num_threads() if torch is not None else None
        if torch is not None:
            torch.set_num_threads(1)
        try:
            with quiet(), one_blas_thread():
                yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)
