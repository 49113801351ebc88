"""Worker processes: messages, death, and that none is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

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


def test_messages_go_both_ways_and_a_free_worker_ends_by_itself() -> None:
    worker = WorkerProcess(OwnContext(), echo, "!")
    for text in ("a", "b" * 100_000):
        worker.send(text)
        assert worker.receive() == text + "!"
    worker.end(at_once=False)
    assert worker._process.exitcode == 0
    assert not multiprocessing.active_children()


def test_a_busy_worker_is_not_waited_for() -> None:
    worker = WorkerProcess(OwnContext(), echo, "!", daemon=False)
    worker.send("sleep")
    assert worker.receive() == "asleep"
    worker.end(at_once=True)
    assert worker._process.exitcode == -signal.SIGTERM
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_tells_its_exit_status() -> None:
    worker = WorkerProcess(OwnContext(), echo, "!")
    worker.send("die")
    with pytest.raises(WorkerDiedError, match="exit status 7") as death:
        worker.receive()
    assert death.value.status == 7
    assert not multiprocessing.active_children()


def test_an_error_ends_a_busy_pool_at_once() -> None:
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


def test_no_worker_outlives_an_owner_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    workers = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(workers) == 2
    owner.kill()
    owner.wait()
    assert owner.stdout.read() == ""  # ends when the last worker has closed its copy
    for pid in workers:
        assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that has ended waits for nobody to ask for its status.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
