"""The engine's own thread: a daemon with its own event loop, so that a blocking cell stops no timer and no task."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from durable_nb.engine.current import CURRENT, INLINE
from durable_nb.engine.loop import MOVES, EngineLoop
from durable_nb.errors import (
    EngineStoppedError,
    Evicted,
    LogFailedError,
    NonDeterminismError,
    RunCancelledError,
    SyncCallError,
    family,
)
from durable_nb.log.records import format_trace

logger = logging.getLogger("durable_nb")
WAIT_SECONDS = 0.1  # how often a waiting caller looks up, so that an interrupt is noticed on every platform


class EngineThread:
    """A thread that runs an `EngineLoop`. Its methods may be called from any other thread."""

    def __init__(self) -> None:
        self.loop = EngineLoop()
        self.loop.set_exception_handler(_report)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="durable_nb engine", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._is_stopping:
                with contextlib.suppress(SystemExit, KeyboardInterrupt):  # a task's `sys.exit()` ends that task, not the engine
                    self.loop.run_forever()
        finally:
            self.loop.close()

    @property
    def ident(self) -> int | None:
        """The thread's identifier, by which its stack is found."""
        return self._thread.ident

    @property
    def is_here(self) -> bool:
        """Whether the caller is on the engine's thread."""
        return threading.current_thread() is self._thread

    def submit(self, make: Callable[[], Awaitable[Any]]) -> concurrent.futures.Future[Any]:
        """Have a coroutine made and run on the engine's loop. Nobody cancels it from here: to stop waiting stops no run."""

        async def run() -> Any:
            return await make()

        self._refuse_stopped()
        context = contextvars.copy_context()
        current = CURRENT.get()
        if current is not None and current.engine.thread is not self:  # another engine's task: here it is a caller like any other
            context.run(CURRENT.set, None)
            context.run(INLINE.set, "")
            context.run(MOVES.set, None)
        return context.run(asyncio.run_coroutine_threadsafe, run(), self.loop)

    def _refuse_stopped(self) -> None:
        if not self._thread.is_alive():
            raise EngineStoppedError("The engine is closed: load durable_nb again.")

    def call(self, make: Callable[[], Awaitable[Any]], *, aio: str) -> Any:
        """Run a coroutine on the engine's loop and wait for it, from synchronous code. An interrupt stops the waiting only.

        Raises:
            SyncCallError: on the engine's own thread, where it would wait for itself.
        """
        if self.is_here:
            raise SyncCallError(f"A synchronous call would stop the engine that it waits for: here, write `{aio}`.")
        future = self.submit(make)
        while not future.done():
            concurrent.futures.wait([future], timeout=WAIT_SECONDS)
            if not future.done():
                self._refuse_stopped()
        return future.result()

    async def aio_call(self, make: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine on the engine's loop and await it from any loop. Cancelling the waiter stops the waiting only."""
        if self.is_here:
            return await make()
        future, loop, done = self.submit(make), asyncio.get_running_loop(), asyncio.Event()

        def wake(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        future.add_done_callback(wake)
        while not future.done():
            handle = loop.call_later(WAIT_SECONDS, done.set)  # an idle loop would see an interrupt only at its next event
            await done.wait()
            handle.cancel()
            if not future.done():
                self._refuse_stopped()
                done.clear()
        return future.result()

    def stop(self) -> None:
        """End the loop and the thread."""
        self._is_stopping = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        if not self.is_here:
            self._thread.join()


QUIET = (Evicted, NonDeterminismError, RunCancelledError, asyncio.CancelledError, LogFailedError, EngineStoppedError)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio would, but for what is told where it belongs: evictions, divergences, cancels, the end of an engine.

    A task that its code left waiting for another run is told of these after nobody waits for it.
    """
    error = context.get("exception")
    if error is None:
        logger.error("%s", context.get("message"))
    elif not any(isinstance(item, QUIET) for item in family(error)):
        logger.error("%s\n%s", context.get("message"), format_trace(error))
