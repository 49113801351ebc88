"""Scores in another process while training continues."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import pickle
import queue
import secrets
import tempfile
import threading
import warnings
import weakref
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.callbacks.evaluation import Evaluation, EvaluationRequest
from novelty_metric.callbacks.ranks import Ranks
from novelty_metric.crystal import first_line
from novelty_metric.errors import NoveltyMetricError
from novelty_metric.support.processes import MISSING_GUARD, OwnContext
from novelty_metric.support.workers import WorkerDiedError, WorkerProcess

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty

_LOWER_PRIORITY = 10
_PATIENCE = 20.0
"""Time for the thread to notice the end of the process (s)."""


class BackgroundScorer:
    """A process that scores evaluations one after the other.

    It works on the processor alone unless the metric names a device, on one thread, at a low
    priority. Where it dies, the evaluation under way has failed, and the next one starts another.

    Notes
    -----
    The process is started by ``spawn``: a script that trains needs the usual guard,
    ``if __name__ == "__main__":``.
    """

    def __init__(self, metric: SubstitutionNovelty, budget_seconds: float | None) -> None:
        self._metric = metric
        self._budget = budget_seconds
        self._requests: queue.SimpleQueue[tuple[EvaluationRequest, Path | None] | None]
        self._requests = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Evaluation] = queue.SimpleQueue()
        self._context: OwnContext | None = None
        self._process: WorkerProcess | None = None
        self._closed = False
        self._pending = 0
        self._lock = threading.Lock()
        # It only waits: what it sends and receives is small.
        self._thread = threading.Thread(target=self._serve, name="novelty-scorer", daemon=True)
        self._thread.start()
        # Before multiprocessing waits for its processes to end, which this one would not.
        own = weakref.ref(self)
        atexit.register(lambda: _close(own()))

    def submit(self, request: EvaluationRequest, folder: Path | None) -> None:
        """Submit an evaluation; returns at once."""
        self._pending += 1
        self._requests.put((request, folder))

    def take(self, seconds: float | None = 0.0) -> Evaluation | None:
        """The next finished evaluation, in the order of submission.

        Parameters
        ----------
        seconds : float or None
            How long to wait for it; None: until it comes.
        """
        try:
            evaluation = self._done.get(block=seconds != 0, timeout=seconds or None)
        except queue.Empty:
            return None
        self._pending -= 1
        return evaluation

    def close(self) -> None:
        """End the process; unfinished evaluations are dropped."""
        with self._lock:
            self._closed = True
            process = self._process
        self._requests.put(None)
        if process is not None:
            # Workers of its own end when they find it gone.
            process.end(at_once=bool(self._pending))
        self._thread.join(timeout=_PATIENCE)

    def _serve(self) -> None:
        """Main loop of the thread: sends each evaluation and receives its result."""
        while (item := self._requests.get()) is not None and not self._closed:
            request, folder = item
            try:
                evaluation = self._asked(request, folder)
            except Exception as error:  # whatever it is, it must reach the one who waits
                evaluation = _failed(request, error)
            self._done.put(evaluation)

    def _asked(self, request: EvaluationRequest, folder: Path | None) -> Evaluation:
        process = self._start()
        if process is None:
            return _failed(request, "the scorer was closed")
        process.send((request, folder))
        try:
            evaluation = process.receive()
        except WorkerDiedError as death:
            self._process = None
            assert self._context is not None
            if self._context.guard_is_missing:
                return _failed(request, MISSING_GUARD)
            return _failed(request, f"the scorer process died ({death})")
        assert isinstance(evaluation, Evaluation)
        return evaluation

    def _start(self) -> WorkerProcess | None:
        """The process, started if necessary; None if the scorer was closed."""
        with self._lock:
            if self._closed:
                return None
            if self._process is None:
                self._context = OwnContext()
                # Not a daemon, which may have no workers of its own.
                given = self._metric, self._budget
                self._process = WorkerProcess(
                    self._context, _work, *given, name="scorer", daemon=False
                )
            return self._process


def _close(scorer: BackgroundScorer | None) -> None:
    if scorer is not None and not scorer._closed:
        scorer.close()


def _failed(request: EvaluationRequest, reason: str | Exception) -> Evaluation:
    if isinstance(reason, Exception) and not isinstance(reason, NoveltyMetricError):
        reason = f"{type(reason).__name__}: {first_line(reason)}"
    return Evaluation(epoch=request.epoch, step=request.step, error=str(reason))


def _silence() -> None:
    """Discard standard output and library messages: this process has no user.

    Standard error stays, for what we say ourselves.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    warnings.simplefilter("ignore")
    logging.lastResort = logging.NullHandler()


def _work(
    connection: Connection, metric: SubstitutionNovelty, budget_seconds: float | None
) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if metric.device is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the GPU is for the training
    with contextlib.suppress(OSError):
        os.nice(_LOWER_PRIORITY)
    import torch

    from novelty_metric.callbacks.ranks import Alone
    from novelty_metric.callbacks.scoring import Scorer

    torch.set_num_threads(1)
    _silence()
    scorer = Scorer(metric, budget_seconds=budget_seconds, ranks=Alone())
    try:
        while True:
            request, folder = connection.recv()
            try:
                evaluation = scorer.score(request, folder)
            except Exception as error:
                evaluation = _failed(request, error)
            connection.send(evaluation)
    except (EOFError, OSError):
        pass  # the one who trains is gone
    finally:
        scorer.close()


class WayHome:
    """Returns the result of a process to the process that started it by multiprocessing.

    Strategies such as ``ddp_spawn`` train copies of the callback in other processes. A copy leaves
    a file; the first process takes it when it is asked.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        # Nobody else can know the name, and `send` refuses a file that is there.
        self._path = Path(tempfile.gettempdir(), f"novelty-metric-{secrets.token_hex(16)}")
        weakref.finalize(self, _forget, self._path, self._owner)

    def send(self, evaluations: list[Evaluation]) -> None:
        """Store a result in this process, unless it is the first one."""
        if os.getpid() == self._owner or Ranks().own != 0:
            return
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            with os.fdopen(
                os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as stream:
                pickle.dump(evaluations, stream)

    def received(self) -> list[Evaluation] | None:
        """Results of a process for this one since the last call."""
        if os.getpid() != self._owner:
            return None
        try:
            with self._path.open("rb") as stream:
                found: list[Evaluation] = pickle.load(stream)
        except FileNotFoundError:
            return None
        self._path.unlink()
        return found


def _forget(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
