"""The engine's event loop, which knows when a run's coroutines have come to rest.

Delivery must be one completion at a time, the next only when none of the run's coroutines can move. asyncio has no word for
that, so this loop counts: every callback scheduled in the context of a run (a task's step, a future's callback) is a *move*
of that run, and when its last move has been made the run is at rest. What `call_later` or a thread will wake later is no
move until it happens.

The alternative, a private loop for each run as Temporal's SDK has it, forbids the run every foreign await; here those work,
and are merely not ordered.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from types import AsyncGeneratorType, FrameType
from typing import Any, TypeVarTuple, cast

from durable_nb.errors import DeclarationError

Args = TypeVarTuple("Args")

logger = logging.getLogger(__name__)
MOVES: contextvars.ContextVar[Moves | None] = contextvars.ContextVar("durable_nb_moves", default=None)

if sys.platform == "win32":
    BaseLoop = asyncio.ProactorEventLoop
else:
    BaseLoop = asyncio.SelectorEventLoop


class Moves:
    """The moves of one run that are scheduled, and the asyncio tasks and async generators that it has started.

    Args:
        at_rest: called on the loop after the last scheduled move was made.

    Attributes:
        generators: those that live, each with the context in which it was begun.
    """

    def __init__(self, at_rest: Callable[[], None]) -> None:
        self._at_rest = at_rest
        self._scheduled: deque[asyncio.Handle] = deque()  # in the order in which the loop calls them
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in the order of their beginning
        self.generators = weakref.WeakKeyDictionary[AsyncGeneratorType[Any, Any], contextvars.Context]()

    @property
    def any(self) -> bool:
        """Whether some coroutine of the run can move by itself."""
        return bool(self._scheduled) and any(not handle.cancelled() for handle in self._scheduled)

    def schedule(
        self,
        call_soon: Callable[..., asyncio.Handle],
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> asyncio.Handle:
        """Schedule a callback as a move."""
        handle = call_soon(self._move, callback, args, context=context)
        self._scheduled.append(handle)
        return handle

    def _move(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        while self._scheduled.popleft().cancelled():  # what was cancelled is not called; the first that was not is this one
            pass
        try:
            callback(*args)
        except (SystemExit, KeyboardInterrupt):  # raised by a task: asyncio has kept it as its outcome, and the loop lives on
            logger.debug("A task raised SystemExit or KeyboardInterrupt.", exc_info=True)
        finally:
            if not self.any:
                self._at_rest()

    def add_task(self, task: asyncio.Task[Any]) -> None:
        """Remember a task for as long as it lives."""
        self.tasks[task] = None
        task.add_done_callback(self.tasks.pop)


class EngineLoop(BaseLoop):
    """An event loop that counts the moves of runs."""

    def __init__(self) -> None:
        super().__init__()
        self.set_task_factory(cast("Any", _make_task))  # typeshed knows no factory that passes options on

    def _asyncgen_firstiter_hook(self, agen: AsyncGeneratorType[Any, Any]) -> None:
        if (moves := MOVES.get()) is not None:
            moves.generators[agen] = contextvars.copy_context()
        super()._asyncgen_firstiter_hook(agen)  # type: ignore[misc]  # asyncio has no public way to add to it

    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Schedule a callback; in the context of a run, as a move of it."""
        moves = MOVES.get() if context is None else context.get(MOVES)
        if moves is None:
            return super().call_soon(callback, *args, context=context)
        return moves.schedule(super().call_soon, callback, args, context)


def _make_task(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    context = options.get("context")
    moves = MOVES.get() if context is None else context.get(MOVES)
    if moves is not None:
        _refuse_unordered(coro)
    task = asyncio.Task(coro, loop=loop, **options)
    if moves is not None and not task.done():
        moves.add_task(task)
    return task


def _refuse_unordered(coro: Coroutine[Any, Any, Any]) -> None:
    """Refuse `asyncio.as_completed` over coroutines: it starts them in the order of a set, another one in each replay."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("asyncio."):
        if frame.f_code.co_qualname.startswith(("as_completed", "_AsCompletedIterator")):
            coro.close()
            raise DeclarationError(
                "asyncio.as_completed starts coroutines in no fixed order, so a replay could not follow: "
                "start them first, as in as_completed([asyncio.create_task(work) for work in …])."
            )
        frame = frame.f_back
