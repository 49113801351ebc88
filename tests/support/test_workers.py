"""Worker processes: messages, failures, and cleanup."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from novelty_metric.support.processes import OwnContext
from novelty_metric.support.workers import WorkerDiedError, WorkerProcess, worker_pool


def echo(connection: Connection, suffix: str) -> None:
    """Answer each message; `die` ends the process, `sleep` keeps it busy."""
    try:
        while True:
            message = connection.recv()
            if message == "die":
                os._exit(7)
            if message == "sleep":
                connection.send("asleep")
                time.sleep(1000)
            connection.send(message + suffix)
    except EOFError:
        pass


def test_messages_in_both_directions_and_end_of_an_idle_worker() -> None:
    worker = WorkerProcess(OwnContext(), echo, "!")
    for text in ("a", "b" * 100_000):
        worker.send(text)
        assert worker.receive() == text + "!"
    worker.end(at_once=False)
    assert worker._process.exitcode == 0
    assert not multiprocessing.active_children()


def test_busy_worker_is_terminated() -> None:
    worker = WorkerProcess(OwnContext(), echo, "!", daemon=False)
    worker.send("sleep")
    assert worker.receive() == "asleep"
    worker.end(at_once=True)
    assert worker._process.exitcode == -signal.SIGTERM
    assert not multiprocessing.active_children()


def test_exit_status_of_a_dead_worker() -> None:
    worker = WorkerProcess(OwnContext(), echo, "!")
    worker.send("die")
    with pytest.raises(WorkerDiedError, match="exit status 7") as death:
        worker.receive()
    assert death.value.status == 7
    assert not multiprocessing.active_children()


def test_error_ends_a_busy_pool_immediately() -> None:
    with pytest.raises(KeyboardInterrupt), worker_pool(2) as pool:
        assert pool.submit(abs, -1).result() == 1
        for _ in range(8):
            pool.submit(time.sleep, 1000)
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()


OWNER = """
import multiprocessing, time
from novelty_metric.support.processes import OwnContext
from novelty_metric.support.workers import WorkerProcess, worker_pool

def sleep(connection):
    connection.send("ready")
    time.sleep(1000)

if __name__ == "__main__":
    worker = WorkerProcess(OwnContext(), sleep)
    worker.receive()
    with worker_pool(1) as pool:
        pool.submit(abs, 1).result()
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        pool.submit(time.sleep, 1000).result()
"""


def test_workers_end_with_a_killed_owner(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    workers = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(workers) == 2
    owner.kill()
    owner.wait()
    assert owner.stdout.read() == ""  # ends when the last worker has closed its copy
    while any(map(is_running, workers)):
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie process does not count.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_worker_can_be_ended_while_another_thread_waits_for_it() -> None:
    for _ in range(3):
        worker = WorkerProcess(OwnContext(), echo, "!")
        worker.send("sleep")
        assert worker.receive() == "asleep"
        deaths: list[WorkerDiedError] = []

        def wait_for_it(worker: WorkerProcess = worker, deaths: Any = deaths) -> None:
            try:
                worker.receive()
            except WorkerDiedError as death:
                deaths.append(death)

        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        worker.end(at_once=True)
        waiting.join()
        assert len(deaths) == 1


def test_connection_is_closed_by_one_thread_at_a_time() -> None:
    inside: list[int] = []

    class Slow:
        def close(self) -> None:
            inside.append(len(inside))
            time.sleep(0.05)
            assert inside.pop() == 0  # no other thread entered

    worker = WorkerProcess(OwnContext(), echo, "!")
    worker.end(at_once=False)
    worker.connection = Slow()  # type: ignore[assignment]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: worker._close(), range(2)))
