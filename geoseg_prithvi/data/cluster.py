"""Runs tasks in this process, or on the workers of a dask cluster."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import forkserver
from typing import TYPE_CHECKING, TypeVar

from ..errors import ConfigError, ExtraNotInstalledError, GeosegError

if TYPE_CHECKING:
    from distributed import Client

Task = TypeVar('Task')
Result = TypeVar('Result')

#: Memory of a worker; dask ends one that comes near it, and gives its task to another.
MEMORY_LIMIT = '2 GB'


@contextlib.contextmanager
def running(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[Iterable[tuple[Task, Result]]]:
    """Start tasks; leaving the context ends those that still run.

    Args:
        function: What to do with each task.
        tasks: Plain data.
        workers: Processes of a cluster on this machine, each of one thread and
            :data:`MEMORY_LIMIT`. With one, or one task, all is done in this process.
        scheduler: Address of a dask scheduler to use instead.

    Yields:
        Tasks with their results, as they end. The first error of a task is raised.

    Raises:
        ExtraNotInstalledError: If dask is needed and not installed.
        ConfigError: If no scheduler answers, or workers die.
    """
    workers = min(workers, len(tasks))
    if workers <= 1 and scheduler is None:
        yield ((task, function(task)) for task in tasks)
        return
    with _connect(workers, scheduler) as client:
        yield _results(client, function, tasks)


@contextlib.contextmanager
def _connect(workers: int, scheduler: str | None) -> Iterator[Client]:
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise ExtraNotInstalledError(
            'Several workers, or a scheduler, need dask; install it with: '
            "pip install 'geoseg_prithvi[data]', or give --workers 1."
        ) from None
    if scheduler is not None:
        try:
            client = Client(scheduler)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f'No dask scheduler answers at {scheduler} ({error}); check --scheduler.'
            ) from error
        with client:
            yield client
        return
    # Workers fork from a process that has imported the package, and torch and mmseg with it: in
    # each worker that would take seconds. Forking from this process is quicker still, but it has
    # threads by then, and one start in ten was seen to hang.
    forkserver.set_forkserver_preload(['distributed', 'geoseg_prithvi.data.prepare'])
    forkserver.ensure_running()
    with (
        dask.config.set({'distributed.worker.multiprocessing-method': 'forkserver'}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=MEMORY_LIMIT,
            dashboard_address='127.0.0.1:0',  # any free port
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _call(function: Callable[[Task], Result], task: Task) -> Result:
    try:
        return function(task)
    except GeosegError as error:
        # Errors of rasterio, which may be behind it, cannot be sent.
        error.__cause__ = error.__context__ = None
        raise


def _results(
    client: Client, function: Callable[[Task], Result], tasks: Sequence[Task]
) -> Iterator[tuple[Task, Result]]:
    from distributed import CancelledError, KilledWorker, as_completed

    futures = client.map(functools.partial(_call, function), tasks, pure=False)
    task_of = {future.key: task for future, task in zip(futures, tasks, strict=True)}
    try:
        for future in as_completed(futures):
            yield task_of[future.key], future.result()
    except KilledWorker as error:
        raise ConfigError(
            'Workers died again and again over the same task, most likely for want of memory; '
            f'each may use {MEMORY_LIMIT} on this machine. Give fewer --workers.'
        ) from error
    except CancelledError as error:
        raise ConfigError(
            'The dask scheduler went away; start it again and run the same command.'
        ) from error
