"""Executors for the parts of a run: any `concurrent.futures.Executor`, made by a config."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.support.cores import usable_cores
from novelty_metric.support.processes import require_guarded_script
from novelty_metric.support.workers import worker_pool


@dataclass(frozen=True)
class Pool:
    """An executor, and the number of parts submitted in advance, which bounds the memory.

    Relaxations are made by `relaxing`, if it is given, while `executor` searches.
    """

    executor: Executor
    ahead: int
    relaxing: Executor | None = None


@contextmanager
def processes(workers: int | None = None) -> Iterator[Pool]:
    """Processes on this machine.

    Parameters
    ----------
    workers : int, optional
        Default: one per core.

    Raises
    ------
    InputError
        If the script that calls this lacks its guard.
    """
    count = workers or usable_cores()
    with worker_pool(count) as executor:
        yield Pool(executor, 2 * count)


@contextmanager
def relaxing_here(workers: int | None = None) -> Iterator[Pool]:
    """Relaxations in this process, on its GPU; processes on this machine search meanwhile.

    Parameters
    ----------
    workers : int, optional
        Processes that search. Default: one per core, except for the core of this process.
    """
    count = workers or max(1, usable_cores() - 1)
    with processes(count) as searching, ThreadPoolExecutor(1) as relaxing:
        try:
            # One part being relaxed, one waiting for that, and the rest being searched.
            yield Pool(searching.executor, count + 3, relaxing)
        finally:
            relaxing.shutdown(wait=False, cancel_futures=True)


@contextmanager
def dask(
    address: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    options: Mapping[str, Any] | None = None,
    relax_resource: str | None = None,
) -> Iterator[Pool]:
    """A Dask cluster: a running one, one of local processes, or one started through a queue.

    Parameters
    ----------
    address : str, optional
        Of a scheduler, such as ``tcp://10.0.0.1:8786``; nothing is then started.
    workers : int, optional
        Processes, or jobs of the queue; default one per core of this machine.
    cluster : str, optional
        Class of a cluster, such as ``dask_jobqueue.SLURMCluster``; default a local one.
    options : mapping, optional
        Its parameters.
    relax_resource : str, optional
        Relax only on workers that have this resource, such as those begun with
        ``dask worker --resources GPU=1``, while the others search.

    Raises
    ------
    InputError
        If Dask is not installed, the cluster can't be made, or the script that calls this lacks
        the guard that processes of this machine need.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise InputError(
            f'executor: Dask is not installed ({error}); pip install "novelty-metric[dask]"'
        ) from error
    count = workers or usable_cores()
    if address is None and cluster is None:
        require_guarded_script()
    opened: Any = None
    try:
        if address is not None:
            client = Client(address)
        else:
            if cluster is None:
                local = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
                opened = LocalCluster(n_workers=count, **{**local, **(options or {})})
            else:
                from hydra.utils import get_class

                opened = get_class(cluster)(**(options or {}))
                opened.scale(jobs=count)
            client = Client(opened)
    except Exception as error:
        if opened is not None:
            opened.close()
        reason = first_line(error)
        raise InputError(f"executor: the Dask cluster can't be made: {reason}") from error
    try:
        # A part whose worker died is given to another one by Dask itself.
        searching = client.get_executor(pure=False, retries=2)
        relaxing = None
        if relax_resource is not None:
            relaxing = client.get_executor(pure=False, retries=2, resources={relax_resource: 1})
        yield Pool(searching, 2 * count, relaxing)
    finally:
        client.close()
        if opened is not None:
            opened.close()


@contextmanager
def futures(executor: Executor | Callable[[], Executor], ahead: int = 64) -> Iterator[Pool]:
    """Any other executor: MPI, Parsl, or your own.

    Parameters
    ----------
    executor : Executor, or callable that makes one
        Such as ``mpi4py.futures.MPIPoolExecutor``, by Hydra's ``_target_``.
    ahead : int
        Parts under way or waiting at most; twice the number of workers is right.
    """
    with executor if isinstance(executor, Executor) else executor() as opened:
        yield Pool(opened, ahead)
