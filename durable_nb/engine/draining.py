"""Draining and idling: an engine that takes up nothing new, and one that has nothing to do.

Invariant: nothing is lost by draining. A run that is evicted goes on where somebody serves it; one that still works when the time
is over is given back when the engine is closed, and its unfinished work is done again elsewhere.

Lives on the engine's loop.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from durable_nb.log import idle

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine

LOOK_SECONDS = 0.02


async def drain(engine: Engine, grace: float) -> int:
    """Claim nothing from now on; evict runs as they come to wait; give how many still work after `grace` seconds."""
    engine.dispatcher.stop_claiming()
    deadline = engine.loop.time() + grace
    while True:
        for execution in list(engine.executions.values()):
            await engine.dispatcher.evict(execution)
        left = engine.dispatcher.in_hand
        if not left or engine.failure is not None or engine.loop.time() >= deadline:
            return left
        await asyncio.sleep(LOOK_SECONDS)


async def is_idle(engine: Engine) -> bool:
    """Whether nothing is left to do now: the runs here wait, none is ready, no sleep is due, no event unmatched."""
    waiting = [execution for execution in engine.executions.values() if execution.is_waiting()]
    if engine.dispatcher.in_hand > len(waiting):
        return False
    if not engine.writer.is_idle:
        return False
    served, at = engine.registry.served(engine.home), engine.clock.now()
    return not await engine.reader.run(lambda connection: idle.has_work(connection, served, at=at))


async def is_done(engine: Engine) -> bool:
    """Whether every run of the tasks that this engine serves has ended, or is blocked until a person acts."""
    served = engine.registry.served(engine.home)
    return not await engine.reader.run(lambda connection: idle.has_unfinished(connection, served))


async def is_finished(engine: Engine) -> bool:
    """Whether, besides, nothing in the log may start a run of them any more."""
    names = [name for served in engine.registry.all_served() for name in served]
    return await is_done(engine) and not await engine.reader.run(partial(idle.has_starts, tasks=names))
