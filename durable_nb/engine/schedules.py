"""Crons and scheduled runs: fired by whoever serves their task, each tick once.

A tick that finds nobody waits for a worker that serves the task; what becomes of ticks that were missed, `catch_up` says. A
single run that was missed starts as soon as there is somebody.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from durable_nb.engine.new_runs import new_run
from durable_nb.engine.reservation import Reservation
from durable_nb.engine.ticks import due_ticks, next_tick
from durable_nb.errors import DurableError, IdempotencyCollisionError, RateLimitError
from durable_nb.log import schedules
from durable_nb.log.journal import journal
from durable_nb.log.records import NewRun
from durable_nb.log.schedules import ScheduleView
from durable_nb.tasks.payload import decode
from durable_nb.tasks.task import BulkItem

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine

BATCH = 100


class Schedules:
    """Fires what is due. Lives on the engine's loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def next_due(self, connection: sqlite3.Connection) -> float | None:
        """Give when the next one is due; it may be past. For the reader."""
        defined, restored = self._engine.registry.all_served()
        if not defined and not restored:
            return None
        return schedules.next_due(connection, home=self._engine.home, defined=defined, restored=restored)

    async def mend(self) -> None:
        """Set crons going again that fired under a clock which was wrong by more than a day."""
        engine, at = self._engine, self._engine.clock.now()
        for schedule in await engine.reader.run(lambda connection: schedules.set_back(connection, at=at)):
            due_at = next_tick(schedule.expression or "", schedule.timezone, at)
            await engine.writer.submit(
                lambda connection, one=schedule, due=due_at: schedules.move(connection, one, due_at=due, fired_at=at)  # type: ignore[misc]
            )

    async def fire(self, now: float) -> None:
        """Start the runs that are due."""
        engine = self._engine
        defined, restored = engine.registry.all_served()
        due = await engine.reader.run(
            lambda connection: schedules.due(
                connection, home=engine.home, defined=defined, restored=restored, at=now, limit=BATCH
            )
        )
        for schedule in due:
            await self._fire_one(schedule, now)

    async def _fire_one(self, schedule: ScheduleView, now: float) -> None:
        engine, due_at = self._engine, schedule.due_at or now
        ticks, following = [due_at], None
        if schedule.expression is not None:
            ticks, following = due_ticks(schedule.expression, schedule.timezone, schedule.catch_up, due_at, now)
        runs, reason = [], None
        try:
            runs = [(tick, self._new_run(schedule)) for tick in ticks]
        except DurableError as error:  # the task takes another input now, or is not served any more
            reason = str(error)
        reservation = Reservation(engine.dispatcher, None, 0)

        def work(connection: sqlite3.Connection) -> str | None:
            reservation.clear()
            if not schedules.move(connection, schedule, due_at=following, fired_at=ticks[-1] if ticks else now):
                return None
            said, number = reason, None
            for tick, run in runs:
                try:
                    number = engine.write_run(connection, run, reservation, parent_id=None)[0]
                    journal(connection, number, now, "scheduled", {"schedule": schedule.id, "name": schedule.name, "tick": tick})
                except (IdempotencyCollisionError, RateLimitError) as error:
                    said = str(error)
            schedules.note(connection, schedule.id, run=number, error=said)
            return said

        with contextlib.suppress(sqlite3.Error):
            said = await engine.writer.submit(work)
            reservation.settle(True)
            if said is not None:
                engine.warn(f"The schedule '{schedule.name or schedule.id}' of task '{schedule.task}' started no run. {said}")

    def _new_run(self, schedule: ScheduleView) -> NewRun:
        metadata: dict[str, Any] = decode(schedule.metadata)
        item = BulkItem(input=decode(schedule.input), additional_metadata=metadata, priority=schedule.priority)
        run, _ = new_run(self._engine, self._engine.registry[schedule.task], item, parent=None, index=None)
        return run
