"""Making the dependencies of one invocation, and cleaning up after it.

Invariants: each function is called once for an invocation, however many need it; they are cleaned up in the opposite order, all
of them, whatever failed; none of it is a checkpoint, and what asks for one is refused. Synchronous ones get a thread, so
that none of them stops the engine.

Lives on the engine's loop, in the context of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from durable_nb.engine.current import INLINE

if TYPE_CHECKING:
    from durable_nb.engine.context import Context
    from durable_nb.engine.engine import Engine
    from durable_nb.tasks.depends import Dependency

WHY = "A dependency asked the engine for something: it is made anew at every entry of the task, and makes no checkpoints."


class Injection:
    """What one invocation of a task is given beside input and context. An asynchronous context manager."""

    def __init__(self, engine: Engine, needs: Mapping[str, Dependency], input: object, context: Context) -> None:
        self._engine = engine
        self._needs = needs
        self._arguments = (input, context)
        self._made: dict[Callable[..., Any], Any] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> dict[str, Any]:
        token = INLINE.set(WHY)
        try:
            return {name: await self._give(needed) for name, needed in self._needs.items()}
        except BaseException as error:
            await self._stack.__aexit__(type(error), error, error.__traceback__)
            raise
        finally:
            INLINE.reset(token)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        token = INLINE.set(WHY)
        try:
            await self._stack.__aexit__(kind, error, trace)
        finally:
            INLINE.reset(token)

    async def _give(self, needed: Dependency) -> Any:
        if needed.fn not in self._made:
            further = {name: await self._give(other) for name, other in needed.needs.items()}
            self._made[needed.fn] = await self._make(needed.fn, self._arguments[: needed.takes], further)
        return self._made[needed.fn]

    async def _make(self, fn: Callable[..., Any], arguments: tuple[Any, ...], further: dict[str, Any]) -> Any:
        plain = inspect.unwrap(fn)
        if inspect.isasyncgenfunction(fn):
            return await self._enter_async(contextlib.asynccontextmanager(fn)(*arguments, **further))
        if inspect.isasyncgenfunction(plain):  # it has become a manager already
            return await self._enter_async(fn(*arguments, **further))
        if inspect.isgeneratorfunction(fn):
            return await self._enter_sync(contextlib.contextmanager(fn)(*arguments, **further))
        if inspect.isgeneratorfunction(plain):
            return await self._enter_sync(fn(*arguments, **further))
        if inspect.iscoroutinefunction(fn):
            return await fn(*arguments, **further)
        result = await self._in_thread(lambda: fn(*arguments, **further))
        return await result if inspect.isawaitable(result) else result

    async def _enter_async(self, manager: contextlib.AbstractAsyncContextManager[Any]) -> Any:
        value = await manager.__aenter__()

        async def leave(kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
            await manager.__aexit__(kind, error, trace)

        self._stack.push_async_exit(leave)
        return value

    async def _enter_sync(self, manager: contextlib.AbstractContextManager[Any]) -> Any:
        value = await self._in_thread(manager.__enter__)

        async def leave(kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
            await self._in_thread(lambda: manager.__exit__(kind, error, trace))

        self._stack.push_async_exit(leave)
        return value

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(self._engine.threads.submit(work))
