"""The one-by-one relaxer: ASE in this process, or in worker processes of one thread each."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from novelty_metric.relaxation.ase_loop import energy_with_ase, relax_with_ase
from novelty_metric.relaxation.base import PotentialInfo, Relaxation, RelaxSettings, RelaxTask
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.potentials import Potential, quiet

if TYPE_CHECKING:
    from pymatgen.core import Structure

_ENERGY_CHUNK = 32


class AseRelaxer:
    """Relaxes crystals one at a time per process with any potential that ASE can call.

    Parameters
    ----------
    potential : Potential
    workers : int
        Worker processes of one thread each; 1 works in this process.
    cache : RelaxationCache, optional
        Where finished relaxations are kept and looked up.
    """

    def __init__(
        self, potential: Potential, *, workers: int = 1, cache: RelaxationCache | None = None
    ) -> None:
        self._potential = potential
        self._workers = max(1, workers)
        self._cache = cache
        self._executor: ProcessPoolExecutor | None = None
        self._calculator: Any = None

    @property
    def info(self) -> PotentialInfo:
        """The potential."""
        return self._potential.info

    def relax(
        self, queue: deque[RelaxTask], settings: RelaxSettings
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        """See `novelty_metric.relaxation.base.Relaxer.relax`."""
        running: dict[Future[Relaxation], RelaxTask] = {}
        # Tasks that were under way when a worker died: run again alone, to find the culprit.
        suspects: deque[RelaxTask] = deque()
        while queue or running or suspects:
            room = self._workers + 1 if not suspects else 0
            while queue and len(running) < room:
                task = queue.popleft()
                known = None
                if self._cache is not None:
                    known = self._cache.get(task.structure, self.info, settings)
                if known is not None:
                    yield task, known
                    continue
                if self._workers == 1:
                    result = self._relax_here(task.structure, settings)
                    yield task, self._keep(task, result, settings)
                    continue
                try:
                    running[self._submit(_relax_job, task.structure, settings)] = task
                except BrokenProcessPool:
                    queue.appendleft(task)
                    suspects.extend(self._recover(running))
                    break
            if suspects and not running:
                task = suspects.popleft()
                try:
                    result = self._submit(_relax_job, task.structure, settings).result()
                except BrokenProcessPool:
                    self._recover({})
                    result = Relaxation(
                        structure=None, error="the worker process died", repeatable=False
                    )
                yield task, self._keep(task, result, settings)
                continue
            if not running:
                continue
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                if future not in running:
                    continue
                try:
                    result = future.result()
                except BrokenProcessPool:
                    suspects.extend(self._recover(running))
                    break
                task = running.pop(future)
                yield task, self._keep(task, result, settings)

    def energies(self, structures: Sequence[Structure]) -> Iterator[float]:
        """See `novelty_metric.relaxation.base.Relaxer.energies`."""
        chunks = [
            list(structures[start : start + _ENERGY_CHUNK])
            for start in range(0, len(structures), _ENERGY_CHUNK)
        ]
        if self._workers == 1:
            with _one_thread():
                for chunk in chunks:
                    for structure in chunk:
                        yield energy_with_ase(structure, self._here())
            return
        ahead: deque[tuple[Future[list[float]], int]] = deque()
        waiting = deque(chunks)
        while waiting or ahead:
            while waiting and len(ahead) < 2 * self._workers:
                chunk = waiting.popleft()
                ahead.append((self._submit(_energy_job, chunk), len(chunk)))
            future, size = ahead.popleft()
            try:
                yield from future.result()
            except BrokenProcessPool:
                # What was under way is lost with the pool; NaN is counted by the caller.
                yield from [math.nan] * size
                for _, lost in ahead:
                    yield from [math.nan] * lost
                ahead.clear()
                self._recover({})

    def close(self) -> None:
        """Stop the worker processes."""
        if self._executor is not None:
            processes = list((getattr(self._executor, "_processes", None) or {}).values())
            for process in processes:
                # A relaxation under way is not waited for.
                process.terminate()
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def _keep(self, task: RelaxTask, result: Relaxation, settings: RelaxSettings) -> Relaxation:
        if self._cache is not None:
            self._cache.put(task.structure, self.info, settings, result)
        return result

    def _here(self) -> Any:
        if self._calculator is None:
            self._calculator = self._potential.calculator()
        return self._calculator

    def _relax_here(self, structure: Structure, settings: RelaxSettings) -> Relaxation:
        with _one_thread(), quiet():
            return relax_with_ase(structure, self._here(), settings)

    def _submit(self, job: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self._workers,
                # A forked copy of a process that holds threads of torch can hang.
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(self._potential,),
            )
        return self._executor.submit(job, *arguments)

    def _recover(self, running: dict[Future[Relaxation], RelaxTask]) -> list[RelaxTask]:
        """Drop the broken pool; give back the tasks that were under way."""
        lost = list(running.values())
        running.clear()
        self.close()
        return lost


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread inside: with small crystals several threads are slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_worker_calculator: Any = None


def _start_worker(potential: Potential) -> None:
    global _worker_calculator  # noqa: PLW0603
    # Ctrl-C reaches the whole process group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    _worker_calculator = potential.calculator()


def _relax_job(structure: Structure, settings: RelaxSettings) -> Relaxation:
    with quiet():
        return relax_with_ase(structure, _worker_calculator, settings)


def _energy_job(structures: list[Structure]) -> list[float]:
    with quiet():
        return [energy_with_ase(structure, _worker_calculator) for structure in structures]
