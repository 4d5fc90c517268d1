"""`ctx.on_finish`: what a run wants called at its end.

Invariant: it is called before the run's end is written, while the run is still ours, so that a crash at any instant leaves it to
be called (again) by the invocation that ends the run: at least once. Only where the end does not wait for the function (a cancel
whose grace is over) it is called after that, when the function was left: at most once.

An invocation that ends otherwise (eviction, retry, parking) calls nothing and forgets; the next one, which executes the same
code, asks again.

`add` may be called from any thread; the rest lives on the engine's loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from durable_nb.engine.current import INLINE
from durable_nb.engine.inline import is_cancelled
from durable_nb.log.endings import ended_under, is_cancelled as is_cancel_asked

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.log.records import Claim

WHY = "A function given to ctx.on_finish asked its run for something: that has made its last checkpoint."
FINISH_SECONDS = 30.0  # how long a run's end waits for one of them


class Finishing:
    """The functions that the runs in memory want called, by run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wanted: dict[tuple[int, int], list[Callable[..., object]]] = {}

    def add(self, claim: Claim, fn: Callable[..., object]) -> None:
        """Have a function called at the end of a run."""
        self._wanted.setdefault((claim.number, claim.epoch), []).append(fn)

    async def leave(self, claim: Claim) -> None:
        """Forget what an invocation wanted, which was left; but call it where the run has its end by now: its grace was over."""
        if (claim.number, claim.epoch) in self._wanted and self._engine.failure is None:
            status = await self._engine.reader.run(lambda log: ended_under(log, claim.number, claim.epoch))
            if status is not None:
                await self.call(claim, status)
        self._wanted.pop((claim.number, claim.epoch), None)

    async def call(self, claim: Claim, status: str) -> None:
        """Call what the run's last invocation wants called; what fails or takes too long is told, and the others are called."""
        wanted = self._wanted.pop((claim.number, claim.epoch), [])
        is_cancelling = bool(wanted) and await self._engine.reader.run(lambda log: is_cancel_asked(log, claim.number))
        status = "CANCELLED" if is_cancelling else status  # whatever its function gave
        for fn in wanted:
            name = getattr(fn, "__qualname__", repr(fn))
            try:
                await asyncio.wait_for(self._call_one(fn, status), FINISH_SECONDS)
            except TimeoutError:
                self._engine.warn(f"Run {claim.id} of '{claim.task}' ends without waiting longer for on_finish({name}).")
            except BaseException as error:  # whatever it raises is told, but for our own cancelling
                if isinstance(error, asyncio.CancelledError) and is_cancelled():
                    raise
                self._engine.warn(
                    f"on_finish({name}) of run {claim.id} of '{claim.task}' failed: {type(error).__name__}: {error}"
                )

    async def _call_one(self, fn: Callable[..., object], status: str) -> None:
        arguments = (status,) if takes_one(fn) else ()
        scope = contextvars.Context()  # what it does is done outside of the run
        scope.run(INLINE.set, WHY)
        if inspect.iscoroutinefunction(fn):
            await asyncio.get_running_loop().create_task(fn(*arguments), context=scope)
            return
        result = await asyncio.wrap_future(scope.run(self._engine.threads.submit, lambda: fn(*arguments)))
        if inspect.isawaitable(result):
            await result


def takes_one(fn: Callable[..., object]) -> bool:
    """Whether a function can be given one argument."""
    try:
        inspect.signature(fn).bind(None)
    except (TypeError, ValueError):
        return False
    return True
