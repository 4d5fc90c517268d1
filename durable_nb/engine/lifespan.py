"""The app object's lifespan: what all tasks of an engine share, made before the first of them runs, closed when the engine is.

Invariants: it is entered once for each engine, and left in the very task that entered it; no run is claimed before it has
yielded. If it fails, no run is claimed at all: they wait in the log, as they were, for an engine whose lifespan works, and
whoever waits for one is told.

Lives on the engine's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

from durable_nb.engine.current import LIVING
from durable_nb.errors import DeclarationError, LifespanError
from durable_nb.log.records import format_trace

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine

LifespanFunction = Callable[[], AsyncGenerator[Any, None] | contextlib.AbstractAsyncContextManager[Any]]
CLOSE_SECONDS = 10.0


def check_lifespan(function: object) -> LifespanFunction | None:
    """Refuse what cannot be a lifespan.

    Raises:
        DeclarationError: with the form that it should have.
    """
    made = inspect.unwrap(function) if callable(function) else function
    if function is None or inspect.isasyncgenfunction(made):
        return function  # type: ignore[return-value]
    raise DeclarationError(f"lifespan={function!r}: write `async def lifespan(): …; yield value; …`, and give that function.")


class Lifespan:
    """An engine's lifespan.

    Attributes:
        value: what it has yielded.
        is_entered: whether runs may be claimed.
    """

    def __init__(self, engine: Engine, function: LifespanFunction | None) -> None:
        self._engine = engine
        self._function = function
        self._leaving = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: LifespanError | None = None
        self.value: Any = None
        self.is_entered = function is None

    def enter(self) -> None:
        """Begin to enter it; the dispatcher is told when that is done."""
        if self._function is not None:
            scope = contextvars.Context()
            scope.run(LIVING.set, self._engine)
            self._task = self._engine.loop.create_task(self._live(self._function), name="durable_nb lifespan", context=scope)

    def refuse_failed(self) -> None:
        """Refuse to wait for what does not come.

        Raises:
            LifespanError: it failed.
        """
        if self._failure is not None:
            raise self._failure

    async def leave(self) -> None:
        """Close it, giving it some seconds."""
        self._leaving.set()
        if self._task is not None:
            if not self.is_entered:
                self._task.cancel()
            _, late = await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            if late:
                self._task.cancel()
                self._engine.warn(
                    f"The lifespan was not left within {CLOSE_SECONDS:g} s of the engine's closing: it was abandoned."
                )

    async def _live(self, function: LifespanFunction) -> None:
        try:
            made = function()
            manager = contextlib.asynccontextmanager(lambda: made)() if inspect.isasyncgen(made) else made
            async with manager as self.value:  # type: ignore[union-attr]
                self.is_entered = True
                self._engine.dispatcher.look()
                await self._leaving.wait()
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self.is_entered:
            self._engine.warn(f"The lifespan failed when it was left: {type(error).__name__}: {error}\n{format_trace(error)}")
            return
        self._failure = LifespanError(
            f"The lifespan failed, so nothing is executed: {type(error).__name__}: {error}. "
            "The runs wait in the log: mend it, close the app object and open it again."
        )
        self._engine.warn(f"{self._failure}\n{format_trace(error)}")
        self._engine.tell_waiters(self._failure)
