"""One attempt of a regular task: async on the engine's loop, sync in a thread, or elsewhere. It runs to its end in a slot."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from durable_nb.engine.current import CURRENT
from durable_nb.engine.executors import fly
from durable_nb.engine.injection import Injection
from durable_nb.errors import ExecutionTimeoutError
from durable_nb.tasks.options import format_duration

if TYPE_CHECKING:
    from durable_nb.engine.context import Context
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.executors import Flight
    from durable_nb.engine.timers import Alarm
    from durable_nb.log.records import Claim
    from durable_nb.tasks.task import Lane, Task


class RegularRun:
    """A regular run in memory: what `CURRENT` holds while its code executes.

    Attributes:
        is_cancelled: whether its cancel was asked for; read from its thread too.
        is_left: whether the log has its end already, so that whatever it gives is dropped.
        flight: where it executes elsewhere.
    """

    def __init__(self, engine: Engine, claim: Claim, task: Task[Any], lane: Lane) -> None:
        self.engine = engine
        self.claim = claim
        self.task = task
        self._lane: Lane = lane  # of its slot
        self._lent = 0  # calls that wait for other runs
        self._thread: concurrent.futures.Future[Any] | None = None
        self._injection: Injection | None = None  # of a thread
        self._work: asyncio.Future[Any] | None = None
        self._context: Context | None = None
        self.flight: Flight | None = None
        self._limit = task.options.execution_timeout
        self._started = 0.0
        self._alarm: Alarm | None = None
        self._ring: Callable[[], object] = lambda: None
        self._is_released = False
        self._is_over = False
        self.is_cancelled = False
        self.is_left = False

    async def run(self, value: Any, context: Context) -> str:
        """Call the function; give its output as JSON text.

        Raises:
            ExecutionTimeoutError: it worked too long. A thread cannot be killed: see `thread_ended`; a process is.
        """
        scope = contextvars.copy_context()
        scope.run(CURRENT.set, self)
        if self.is_cancelled:
            raise asyncio.CancelledError
        self._context = context
        self._started = self.engine.clock.now()  # before its thread begins, which may be at once
        is_elsewhere = self.task.options.executor is not None
        if is_elsewhere:
            work = self._elsewhere(value, context, scope)
        else:
            work = self._in_thread(value, context, scope) if self.task.lane == "thread" else self._on_loop(value, context, scope)
        self._work, self._ring = work, work.cancel
        if not is_elsewhere:
            self._set_alarm(self._started)
        try:
            result = await work
        except asyncio.CancelledError:
            if self._alarm is None or self._alarm.due_at > self.engine.clock.now():
                raise
            raise self._too_long() from None
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None
        return self.engine.checked_output(self.task, result) if is_elsewhere else self.engine.encode_output(self.task, result)

    def begin_time(self) -> None:
        """Count its time from now on: elsewhere it may have waited for a place."""
        self._started = self.engine.clock.now()
        self._set_alarm(self._started)

    def _set_alarm(self, started: float) -> None:
        if self._limit is not None and self._work is not None and not self._work.done():
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = self.engine.timers.alarm(self._limit - (self.engine.clock.now() - started), self._ring)

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for other runs."""
        return self._lent > 0

    def _on_loop(self, value: Any, context: Context, scope: contextvars.Context) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_task(self._call(value, context), context=scope)

    async def _call(self, value: Any, context: Context) -> Any:
        async with Injection(self.engine, self.task.dependencies, value, context) as given:
            return await self.task.function(value, context, **given)

    def _elsewhere(self, value: Any, context: Context, scope: contextvars.Context) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_task(fly(self, value, context), context=scope)

    def _in_thread(self, value: Any, context: Context, scope: contextvars.Context) -> asyncio.Future[Any]:
        if self.task.dependencies:
            return asyncio.get_running_loop().create_task(self._call_in_thread(value, context), context=scope)
        self._thread = scope.run(self.engine.threads.submit, lambda: self.task.function(value, context))
        return asyncio.shield(asyncio.wrap_future(self._thread))

    async def _call_in_thread(self, value: Any, context: Context) -> Any:
        """Call the function in a thread with its dependencies, which outlive it: see `thread_ended`."""
        injection = Injection(self.engine, self.task.dependencies, value, context)
        given = await injection.__aenter__()
        self._thread = self.engine.threads.submit(lambda: self.task.function(value, context, **given))
        try:
            result = await asyncio.shield(asyncio.wrap_future(self._thread))
        except BaseException as error:
            if self._thread.done():
                await injection.__aexit__(type(error), error, error.__traceback__)
            else:
                self._injection = injection
            raise
        await injection.__aexit__(None, None, None)
        return result

    # ------------------------------------------------------------ time and slot

    def extend(self, seconds: float) -> None:
        """Allow the attempt to work for longer."""
        if self._alarm is not None and self._limit is not None:
            self._limit += seconds
            self._alarm.cancel()
            left = self._alarm.due_at + seconds - self.engine.clock.now()
            self._alarm = self.engine.timers.alarm(left, self._ring)

    def release_slot(self) -> None:
        """Give back the slot for good, and go on without one."""
        if not self._is_released and not self._is_over:
            self._is_released = True
            if not self._lent:
                self.engine.dispatcher.give(self._lane)

    def close(self) -> None:
        """Leave the slot to the dispatcher, which gives it back now, unless the task did so before."""
        self._is_over = True
        if self._is_released:
            self.engine.dispatcher.withhold(self._lane)

    def cancel(self) -> None:
        """Raise CancelledError where an async function stands; a thread is told by `is_cancelled` only.

        Elsewhere it is the same, until its `cancel_grace` is over.
        """
        if not self.is_cancelled:
            self.is_cancelled = True
            if self._context is not None:
                self._context.is_cancelled = True
            if self.flight is not None:
                self.flight.cancel()
            elif self._work is not None and self._thread is None:
                self._work.cancel()

    def leave(self) -> None:
        """Wait no more for a function whose run has its end; it keeps its slot if it does not let itself be stopped."""
        self.is_left = True
        if self._work is not None:
            self._work.cancel()

    @contextlib.asynccontextmanager
    async def slot_lent(self) -> AsyncIterator[None]:
        """Give back the slot while the run waits for others, however many at once, so that a full lane cannot wait for itself."""
        self._lent += 1
        if self._lent == 1 and not self._is_released:
            self.engine.dispatcher.give(self._lane)
        try:
            yield
        finally:
            self._lent -= 1
            if not self._lent and not self._is_released:
                await self.engine.dispatcher.take_back(self._lane)

    async def thread_ended(self) -> None:
        """Wait until the function's thread has ended, which a time-out cannot bring about: until then it keeps its slot."""
        if self._thread is not None and not self._thread.done():
            self.engine.warn(
                f"Run {self.claim.id} of '{self.task.name}' is over its time; "
                "its thread cannot be killed and keeps its slot until it ends."
            )
            await asyncio.wait([asyncio.wrap_future(self._thread)])
        if self._injection is not None:
            injection, self._injection = self._injection, None
            await injection.__aexit__(None, None, None)

    def _too_long(self) -> ExecutionTimeoutError:
        limit, took = self._limit, self.engine.clock.now() - self._started
        return ExecutionTimeoutError(
            f"Task '{self.task.name}' worked for {took:.3g} s; its execution_timeout is {format_duration(limit or 0)}."
        )
