"""Worker processes with one thread each; each has its own potential and its own batch."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import math
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError, NoveltyMetricError
from novelty_metric.relaxation.base import Relaxation, RelaxSettings, RelaxTask
from novelty_metric.relaxation.evaluators import Evaluator
from novelty_metric.relaxation.in_flight import InFlight
from novelty_metric.relaxation.loading import quiet
from novelty_metric.relaxation.potentials import Potential
from novelty_metric.support.cores import one_blas_thread
from novelty_metric.support.processes import OwnContext
from novelty_metric.support.workers import WorkerDiedError, WorkerProcess

if TYPE_CHECKING:
    from pymatgen.core import Structure

_TURN_SECONDS = 60.0
"""Maximum time for which a worker waits for another one to compile; then it compiles itself."""

_WANT, _RELAX, _DONE, _ENERGIES, _FAILED = "want", "relax", "done", "energies", "failed"


@dataclass(eq=False)
class _Worker:
    """A worker process, from its owner's side."""

    process: WorkerProcess
    ready: bool = False
    wants: bool = False
    under_way: dict[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Assignment:
    task: RelaxTask
    settings: RelaxSettings


class Workers:
    """Worker processes that relax. Each asks for the next crystal when it has room.

    Parameters
    ----------
    potential : Potential
        Picklable: every worker loads its own copy.
    count : int

    Notes
    -----
    Where a worker dies, what it had under way is run again, each crystal alone, to find the one
    that kills.
    """

    def __init__(self, potential: Potential, count: int) -> None:
        self._potential = potential
        self._count = count
        self._context: OwnContext | None = None
        self._turn: Any = None
        self._workers: list[_Worker] = []
        self._alone: _Worker | None = None
        self._suspects: deque[_Assignment] = deque()
        self._next_number = 0

    def __len__(self) -> int:
        return len(self._suspects) + sum(len(worker.under_way) for worker in self._workers)

    @property
    def has_room(self) -> bool:
        """True if a worker has asked for another crystal."""
        return any(worker.wants and worker is not self._alone for worker in self._workers)

    def add(self, task: RelaxTask, settings: RelaxSettings) -> None:
        """Start a relaxation; only if there is room."""
        worker = next(w for w in self._workers if w.wants and w is not self._alone)
        self._assign(worker, _Assignment(task, settings))

    def step(self, seconds: float | None = None) -> Iterator[tuple[RelaxTask, Relaxation]]:
        """Wait for a message of a worker, at most this long; return the finished relaxations."""
        self._start()
        if self._alone is None and self._suspects:
            self._alone = next((worker for worker in self._workers if not worker.under_way), None)
        if self._alone is not None and not self._alone.under_way:
            if not self._suspects:
                self._alone = None
                if self.has_room:
                    return  # a crystal that waits can be added now
            elif self._alone.wants:
                self._assign(self._alone, self._suspects.popleft())
        for worker, kind, number, content in self._heard(seconds):
            if kind is None:
                lost = list(worker.under_way.values())
                if worker is not self._alone:
                    self._suspects.extend(lost)
                    continue
                self._alone = None
                for assignment in lost:
                    died = Relaxation(
                        structure=None, error="the worker process died", repeatable=False
                    )
                    yield assignment.task, died
            elif kind == _DONE:
                yield worker.under_way.pop(number).task, content

    def energies(self, chunks: Iterable[list[Structure]]) -> Iterator[float]:
        """Energy of each crystal (eV/atom), in order; NaN for a chunk whose worker died."""
        waiting = enumerate(chunks)
        following = next(waiting, None)
        sizes: dict[int, int] = {}
        finished: dict[int, list[float]] = {}
        position = 0
        while following is not None or sizes:
            self._start()
            for worker in self._workers:
                # Not far ahead of what is read.
                if following is not None and worker.wants and len(sizes) < 4 * self._count:
                    at, chunk = following
                    sizes[at] = len(chunk)
                    worker.wants = False
                    worker.under_way[at] = at
                    worker.process.send((_ENERGIES, at, chunk))
                    following = next(waiting, None)
            if position in finished:
                yield from finished.pop(position)
                sizes.pop(position)
                position += 1
                continue
            for worker, kind, number, content in self._heard():
                if kind is None:
                    finished.update({at: [math.nan] * sizes[at] for at in worker.under_way})
                elif kind == _ENERGIES:
                    finished[worker.under_way.pop(number)] = content

    def close(self) -> None:
        """Stop the processes without waiting for running relaxations."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.end(at_once=True)
        self._workers.clear()

    def _start(self) -> None:
        """Start missing workers."""
        if self._context is None:
            self._context = OwnContext()
            self._turn = self._context.Lock()
        while len(self._workers) < self._count:
            process = WorkerProcess(self._context, _work, self._potential, self._turn)
            self._workers.append(_Worker(process))

    def _heard(
        self, seconds: float | None = None
    ) -> Iterator[tuple[_Worker, str | None, int, Any]]:
        """Messages of workers after a wait; kind None for a worker that died, which is removed.

        Raises
        ------
        InputError
            If the potential can't be loaded.
        """
        by_connection: dict[Any, _Worker] = {w.process.connection: w for w in self._workers}
        for connection in wait(list(by_connection), seconds):
            worker = by_connection[connection]
            try:
                kind, number, content = worker.process.receive()
            except WorkerDiedError as death:
                self._forget(worker, death)
                yield worker, None, 0, None
                continue
            if kind == _FAILED:
                raise InputError(f"the potential can't be loaded: {content}")
            worker.ready = True
            worker.wants = worker.wants or kind == _WANT
            yield worker, kind, number, content

    def _assign(self, worker: _Worker, assignment: _Assignment) -> None:
        self._next_number += 1
        worker.wants = False
        worker.under_way[self._next_number] = assignment
        # Not its key, which belongs to the caller.
        content = dataclasses.replace(assignment.task, key=self._next_number), assignment.settings
        worker.process.send((_RELAX, self._next_number, content))

    def _forget(self, worker: _Worker, death: WorkerDiedError) -> None:
        """Remove a worker that died; `_start` makes a new one."""
        self._workers.remove(worker)
        if not worker.ready:
            assert self._context is not None
            self._context.require_guard()
            raise InputError(f"a worker process ended at its start ({death}); try workers=1")


def _work(connection: Connection, potential: Potential, turn: Any) -> None:
    """Main loop of a worker process."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        with quiet():
            keep_memory()
            evaluator = potential.evaluator()
            torch = sys.modules.get("torch")  # imported by the potentials that use it
            if torch is not None:
                torch.set_num_threads(1)
            _compile(evaluator, turn)
            flight = InFlight(evaluator)
    except Exception as error:
        message = str(error) if isinstance(error, NoveltyMetricError) else first_line(error)
        connection.send((_FAILED, 0, message))
        return
    waiting: deque[tuple[RelaxTask, RelaxSettings]] = deque()
    asked = False
    with contextlib.suppress(EOFError, OSError), one_blas_thread():  # the parent is gone
        while True:
            if not asked and not waiting and flight.has_room:
                connection.send((_WANT, 0, None))
                asked = True
            while connection.poll(0 if len(flight) or waiting else None):
                kind, number, content = connection.recv()
                asked = False
                if kind == _ENERGIES:
                    with quiet():
                        energies = single_points(flight, content)
                    connection.send((_ENERGIES, number, energies))
                else:
                    waiting.append(content)
                break
            while waiting and flight.has_room:
                task, settings = waiting.popleft()
                flight.add(task, settings)
            with quiet():
                ended = list(flight.step())
            for task, result in ended:
                connection.send((_DONE, task.key, result))


def _compile(evaluator: Evaluator, turn: Any) -> None:
    """Compile the evaluator's functions: the first worker compiles, the others read from disk."""
    compile_kernels = getattr(evaluator, "compile_kernels", None)  # few evaluators have any
    if compile_kernels is None:
        return
    had_turn = turn.acquire(timeout=_TURN_SECONDS)  # not for ever: who has it may have been killed
    try:
        compile_kernels()
    finally:
        if had_turn:
            turn.release()


def single_points(flight: InFlight, structures: Sequence[Structure]) -> list[float]:
    """Energy of each unrelaxed crystal (eV/atom), NaN if the potential fails for it."""
    from novelty_metric.relaxation.relaxation_run import geometry_of, right_handed

    energies = [math.nan] * len(structures)
    places, geometries = [], []
    for place, structure in enumerate(structures):
        with contextlib.suppress(Exception):  # a foreign structure; the caller counts the NaN
            geometries.append(right_handed(geometry_of(structure)))
            places.append(place)
    if geometries:
        found = flight.evaluate(geometries, energy_only=True)
        for place, geometry, evaluation in zip(places, geometries, found, strict=True):
            if evaluation.error is None:
                energies[place] = evaluation.energy / len(geometry.numbers)
    return energies


def keep_memory() -> None:
    """Let the C library keep freed memory (Linux).

    Each step frees and allocates the same large arrays. By default they go back to the operating
    system each time, and every page of them has to be zeroed and mapped again.
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):  # not every Linux has glibc
        c_library = ctypes.CDLL("libc.so.6")
        c_library.mallopt(mmap_threshold, 1 << 30)
        c_library.mallopt(trim_threshold, (1 << 31) - 1)
