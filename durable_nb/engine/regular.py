"""One attempt of a regular task: async on the engine's loop, sync in a thread. It runs to its end in a slot."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable_nb.engine.current import CURRENT
from durable_nb.errors import ExecutionTimeoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from durable_nb.engine.context import Context
    from durable_nb.engine.engine import Engine
    from durable_nb.log.records import Claim
    from durable_nb.tasks.task import Task


@dataclass(eq=False)
class RegularRun:
    """A regular run in memory: what `CURRENT` holds while its code executes."""

    engine: Engine
    claim: Claim
    task: Task[Any]

    async def run(self, value: Any, context: Context) -> str:
        """Call the function; give its output as JSON text.

        Raises:
            ExecutionTimeoutError: it worked too long. A thread cannot be killed: its slot, and a retry, wait for its end.
        """
        scope = contextvars.copy_context()
        scope.run(CURRENT.set, self)
        limit = self.task.options.execution_timeout
        work = self._in_thread(value, context, scope) if self.task.lane == "thread" else self._on_loop(value, context, scope)
        started = self.engine.clock.now()
        timeout = asyncio.timeout(limit)
        try:
            async with timeout:
                result = await work
        except TimeoutError:
            if not timeout.expired():
                raise
            raise self._too_long(started) from None
        return self.engine.encode_output(self.task, result)

    def _on_loop(self, value: Any, context: Context, scope: contextvars.Context) -> Awaitable[Any]:
        return asyncio.get_running_loop().create_task(self.task.function(value, context), context=scope)

    async def _in_thread(self, value: Any, context: Context, scope: contextvars.Context) -> Any:
        running = asyncio.wrap_future(scope.run(self.engine.threads.submit, lambda: self.task.function(value, context)))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not running.done():
                self.engine.warn(
                    f"Run {self.claim.id} of '{self.task.name}' is over its time; "
                    "its thread cannot be killed and keeps its slot until it ends."
                )
                await asyncio.wait([running])
            raise

    def _too_long(self, started: float) -> ExecutionTimeoutError:
        limit, took = self.task.options.execution_timeout, self.engine.clock.now() - started
        return ExecutionTimeoutError(
            f"Task '{self.task.name}' worked for {took:.3g} s, longer than its execution_timeout of {limit:g} s."
        )
