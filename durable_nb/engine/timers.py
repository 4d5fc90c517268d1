"""Timers: what is due next, fired in batches. A million sleeping runs are rows with an index; here stands one number.

The clock is read again at least every second, so that a suspended laptop or a changed clock is noticed. Never early by that
clock.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from durable_nb.engine.cancelling import end_due
from durable_nb.log import limits, queue, waits
from durable_nb.log.records import Completion

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.engine.engine import Engine

RECHECK_SECONDS = 1.0
BATCH = 500


class Alarm:
    """A callback that is due at a time of the engine's clock."""

    def __init__(self, due_at: float, ring: Callable[[], object]) -> None:
        self.due_at = due_at
        self.ring: Callable[[], object] | None = ring

    def __lt__(self, other: Alarm) -> bool:
        return self.due_at < other.due_at

    def cancel(self) -> None:
        """Never ring."""
        self.ring = None


class Timers:
    """Fires sleeps, deadlines and schedules, wakes the dispatcher for backoffs and rates that are over, rings alarms.

    Lives on the engine's loop.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._alarms: list[Alarm] = []
        self._wake = asyncio.Event()
        self._next: float | None = None

    def consider(self, due_at: float) -> None:
        """Look again, if this is earlier than what was thought to be next."""
        if self._next is None or due_at < self._next:
            self._wake.set()

    @property
    def next_alarm(self) -> float | None:
        """When the first alarm is due."""
        return min((alarm.due_at for alarm in self._alarms if alarm.ring is not None), default=None)

    def look(self) -> None:
        """Look again: the clock was moved, or another process wrote."""
        self._wake.set()

    def alarm(self, seconds: float, ring: Callable[[], object]) -> Alarm:
        """Have `ring` called after so many seconds of the engine's clock, in memory only: the time-out of an attempt."""
        alarm = Alarm(self._engine.clock.now() + seconds, ring)
        heapq.heappush(self._alarms, alarm)
        self.consider(alarm.due_at)
        return alarm

    async def work(self) -> None:
        """Fire for ever."""
        engine, looked_at = self._engine, self._engine.clock.now()
        seen_at = math.inf
        while True:
            if engine.clock.now() < seen_at:
                await self._pull_ahead()
            seen_at = engine.clock.now()
            self._wake.clear()
            self._next = None  # until it is known, whatever is to be considered wakes
            looked_at = min(looked_at, engine.clock.now())
            in_log = await engine.reader.run(lambda connection, at=looked_at: self._next_due(connection, at))  # type: ignore[misc]
            self._ring()
            due = [at for at in (in_log, self._alarms[0].due_at if self._alarms else None) if at is not None]
            self._next = min(due, default=None)
            now = engine.clock.now()
            if in_log is not None and in_log <= now:
                await self._fire(now)
                looked_at = now
            elif not self._wake.is_set():
                await self._pause(RECHECK_SECONDS if self._next is None else max(0.0, min(RECHECK_SECONDS, self._next - now)))

    async def _pull_ahead(self) -> None:
        """Have nobody who was ready wait again because the clock was set back, perhaps before this engine."""
        engine, now = self._engine, self._engine.clock.now()
        if await engine.reader.run(lambda connection: queue.find_ahead(connection, at=now)):
            await engine.writer.submit(lambda connection: queue.pull_ahead(connection, at=now))
            engine.dispatcher.look()

    def _ring(self) -> None:
        """Ring what is due; forget what was cancelled."""
        while self._alarms and (self._alarms[0].ring is None or self._alarms[0].due_at <= self._engine.clock.now()):
            ring = heapq.heappop(self._alarms).ring
            if ring is not None:
                ring()

    def _next_due(self, connection: sqlite3.Connection, since: float) -> float | None:
        known = (waits.next_due(connection, since=since), self._engine.schedules.next_due(connection))
        return min((at for at in known if at is not None), default=None)

    async def _fire(self, now: float) -> None:
        engine = self._engine

        def work(connection: sqlite3.Connection) -> list[Completion]:
            limits.fire_due(connection, at=now)
            return waits.fire_due(connection, at=now, limit=BATCH)

        await engine.writer.submit(work, engine.route)
        await end_due(engine, now)
        await engine.schedules.fire(now)
        engine.dispatcher.look()

    async def _pause(self, seconds: float) -> None:
        handle = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()
