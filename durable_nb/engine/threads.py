"""Threads for synchronous tasks: daemonic, made when needed, kept for the next.

The standard library's pool joins its threads when the interpreter ends, so one long task would hold a kernel's shutdown;
what these threads do is resumed from the log, so nothing has to wait for them. How many run at once is decided by the
slots, not here.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """Runs callables on threads, each with a copy of the caller's context variables."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any], contextvars.Context] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run `work` on a thread of its own; the future cannot be cancelled, since a thread cannot."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._queue.put((future, work, contextvars.copy_context()))
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        return future

    def close(self) -> None:
        """Let every thread end when its work does."""
        self._queue.put(None)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                self._queue.put(None)  # for the next thread
                return
            future, work, context = item
            try:
                result = context.run(work)
            except StopIteration as error:  # asyncio takes none as a future's outcome, so it would be lost
                future.set_exception(RuntimeError(f"it raised StopIteration({error.value!r})"))
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            del item, future, work, context  # an idle thread keeps nothing alive
            self._idle.release()
