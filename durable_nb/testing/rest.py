"""When an engine is at rest: nothing that it could do now is left undone, and only time or an event will bring more.

Told from the log as much as from memory: every run that has an owner must be in that owner's memory and wait there, with all its
outcomes delivered; no run is ready, no sleep due, no event unmatched.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable_nb.log import waits

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine

TURNS = 5  # of the loop, in which what was just committed reaches whoever awaits it
OWNED = "SELECT number, id, task, owner, last_seq FROM run WHERE owner IS NOT NULL"
READY = "SELECT id, task FROM run WHERE ready_at <= ?"
DUE = "SELECT count(*) FROM wait WHERE due_at <= ? AND matched_at IS NULL"
UNMATCHED = "SELECT key FROM event WHERE matched = 0 LIMIT 1"


@dataclass(frozen=True, slots=True)
class Unrest:
    """Something that is going on.

    Attributes:
        may_last: it may be so for ever: a run is ready, but nobody takes it.
        unmatched: the key of an event that has not reached all who wait for it.
    """

    words: str
    may_last: bool = False
    unmatched: str = ""


async def unrest_of(engine: Engine, workers: Sequence[str], served: frozenset[str]) -> Unrest | None:
    """Give what is going on in an engine or its log, or None. Await it on the engine's loop.

    Args:
        workers: of all engines of the test. served: the tasks that they know.
    """
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if not engine.writer.is_idle:
        return Unrest("something is being written to the log")
    alarm = engine.timers.next_alarm
    if alarm is not None and alarm <= engine.clock.now():
        return Unrest("a time-out is due")
    found = await engine.reader.run(lambda connection: _unrest_in(connection, engine, workers, served))
    for execution in engine.executions.values():
        if not execution.is_waiting():
            return Unrest(f"run {execution.claim.id} of '{execution.task.name}' is at work")
    return found


def _unrest_in(connection: sqlite3.Connection, engine: Engine, workers: Sequence[str], served: frozenset[str]) -> Unrest | None:
    for number, run_id, task, owner, last_seq in connection.execute(OWNED):
        words = f"run {run_id} of '{task}' is at work"
        if owner not in workers:
            return Unrest(f"run {run_id} of '{task}' is still owned by a dead worker")
        if owner == engine.worker:
            execution, regular = engine.executions.get(number), engine.regulars.get(number)
            waits_here = execution is not None and execution.cursor.delivered_seq >= last_seq
            if not waits_here and not (regular is not None and regular.is_waiting):
                return Unrest(words)
    now = engine.clock.now()
    if connection.execute(DUE, (now,)).fetchone()[0]:
        return Unrest("a sleep is due")
    if (row := connection.execute(UNMATCHED).fetchone()) is not None:
        return Unrest(f"an event '{row[0]}' is not matched yet", unmatched=row[0])
    for run_id, task in connection.execute(READY, (now,)):
        if task in served:
            return Unrest(f"run {run_id} of '{task}' is ready, and no slot is free for it", may_last=True)
    return None


async def next_due(engine: Engine) -> float | None:
    """Give the time of the next sleep's end, retry or time-out. Await it on the engine's loop."""
    since = engine.clock.now()
    in_log = await engine.reader.run(lambda connection: waits.next_due(connection, since=since))
    return min((at for at in (in_log, engine.timers.next_alarm) if at is not None), default=None)
