"""Timers: what is due next, fired in batches. A million sleeping runs are rows with an index; here stands one number.

The clock is read again at least every second, so that a suspended laptop or a changed clock is noticed. Never early by that
clock.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from durable_nb.log import waits

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine

RECHECK_SECONDS = 1.0
BATCH = 500


class Timers:
    """Fires sleeps and wakes the dispatcher for runs whose backoff is over. Lives on the engine's loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wake = asyncio.Event()
        self._next: float | None = None

    def consider(self, due_at: float) -> None:
        """Look again, if this is earlier than what was thought to be next."""
        if self._next is None or due_at < self._next:
            self._wake.set()

    def look(self) -> None:
        """Look again: the clock was moved, or another process wrote."""
        self._wake.set()

    async def work(self) -> None:
        """Fire for ever."""
        engine = self._engine
        while True:
            self._wake.clear()
            now = engine.clock.now()
            self._next = await engine.reader.run(lambda connection, now=now: waits.next_due(connection, at=now))  # type: ignore[misc]
            now = engine.clock.now()
            if self._next is not None and self._next <= now:
                await self._fire(now)
            elif not self._wake.is_set():
                await self._pause(RECHECK_SECONDS if self._next is None else min(RECHECK_SECONDS, self._next - now))

    async def _fire(self, now: float) -> None:
        engine = self._engine
        await engine.writer.submit(lambda connection: waits.fire_due(connection, at=now, limit=BATCH), engine.route)
        engine.dispatcher.look()

    async def _pause(self, seconds: float) -> None:
        handle = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()
