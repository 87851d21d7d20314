"""Letting reading, predicting and writing overlap, with bounded queues between them."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar('T')


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Produce ``items`` in a thread of its own, ``depth`` of them ahead.

    An error of the producer is raised here, in its place in the order; when the consumer stops
    early, so does the producer.
    """
    ready: queue.Queue[tuple[bool, object]] = queue.Queue(depth)
    stop = threading.Event()

    def put(last: bool, item: object) -> bool:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((last, item), timeout=0.1)
                return True
        return False

    def produce() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not put(False, item):
                    return
        except BaseException as caught:  # handed over, not swallowed
            error = caught
        put(True, error)

    thread = threading.Thread(target=produce, name='prefetch', daemon=True)
    thread.start()
    try:
        while True:
            last, item = ready.get()
            if last:
                if item is not None:
                    raise item  # type: ignore[misc]
                return
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()


class BackgroundWriter(Generic[T]):
    """Call ``write`` on items in order in another thread, with a bounded backlog.

    Use it as a context manager: leaving it waits for the backlog and raises what a write raised.
    """

    def __init__(self, write: Callable[[T], None], backlog: int = 2) -> None:
        self._write = write
        self._backlog = backlog
        self._pending: list[Future[None]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='write')

    def put(self, item: T) -> None:
        """Queue an item; waits while the backlog is full.

        Raises:
            BaseException: What an earlier write raised.
        """
        while len(self._pending) >= self._backlog:
            self._pending.pop(0).result()
        self._pending.append(self._pool.submit(self._write, item))

    def __enter__(self) -> BackgroundWriter[T]:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=exc_type is not None)
        if exc_type is None:
            for future in self._pending:
                future.result()
