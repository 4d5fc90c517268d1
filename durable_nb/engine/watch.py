"""Watching the log for what other processes write, and other workers for their death.

`PRAGMA data_version`, asked on the writer's own connection, changes when any *other* connection has committed: a cheap
poll, and nothing fancier.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

from durable_nb.engine.cancelling import leave
from durable_nb.engine.liveness import bury, is_alive
from durable_nb.log import checkpoints, runs

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.execution import Execution

POLL_SECONDS = 0.04
BURIAL_SECONDS = 0.5


class Watch:
    """Notices foreign commits within `POLL_SECONDS` and dead workers within `BURIAL_SECONDS`. Lives on the engine's loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.looks = 0  # how often it has seen another process write

    async def work(self) -> None:
        """Watch for ever."""
        engine, seen, next_burial = self._engine, -1, 0.0
        loop = asyncio.get_running_loop()
        while True:
            version = await engine.writer_connection.run(_data_version)
            if version != seen:
                seen = version
                await self._look()
            if loop.time() >= next_burial:
                next_burial = loop.time() + BURIAL_SECONDS
                await self.bury_dead()
                await engine.matcher.recover()
                await engine.dispatcher.age_queue()
                await engine.dispatcher.evict_old()
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self) -> None:
        engine = self._engine
        self.looks += 1
        engine.streams.wake()
        engine.timers.look()
        engine.dispatcher.look()
        here = {**engine.executions, **engine.regular_runs}
        owned = await engine.reader.run(lambda connection: _owned(connection, engine.worker))
        for number, running in here.items():
            if number not in owned and running in (engine.executions.get(number), engine.regular_runs.get(number)):
                leave(engine, number)  # it was ended, reset or taken over
        for number, (last_seq, is_cancelled) in owned.items():
            execution, regular = engine.executions.get(number), engine.regular_runs.get(number)
            if execution is not None and last_seq > execution.cursor.delivered_seq:
                await self.fill(execution)
            if regular is not None and is_cancelled:
                regular.cancel()
        await self.tell_waiters()

    async def tell_waiters(self) -> None:
        """Tell those who wait for runs that have ended, whoever ended them."""
        engine = self._engine
        waited_for = list(engine.waiters)
        if waited_for:
            for number, status, outcome in await engine.reader.run(lambda connection: runs.ended_among(connection, waited_for)):
                engine.ended(number, status, outcome)

    async def fill(self, execution: Execution) -> None:
        """Give a run what the log has for it, whoever wrote it."""
        number, seq = execution.claim.number, execution.cursor.delivered_seq
        arrived = await self._engine.reader.run(lambda connection: checkpoints.arrived_since(connection, number, seq))
        execution.arrive(arrived)

    async def bury_dead(self) -> None:
        """Make the runs of dead workers ready for whoever serves them."""
        engine = self._engine
        for worker in await engine.reader.run(_workers):
            if worker != engine.worker and not is_alive(engine.path, worker):
                await self._bury(worker)

    async def _bury(self, worker: str) -> None:
        engine, at = self._engine, self._engine.clock.now()
        await engine.writer.submit(lambda connection: runs.release_all(connection, worker, reason="its process died", at=at))
        bury(engine.path, worker)
        engine.dispatcher.look()


def _data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _owned(connection: sqlite3.Connection, worker: str) -> dict[int, tuple[int, bool]]:
    """Give the runs of a worker: by number, the last sequence number and whether a cancel was asked for."""
    rows = connection.execute("SELECT number, last_seq, cancelled_at IS NOT NULL FROM run WHERE owner = ?", (worker,))
    return {number: (last_seq, bool(is_cancelled)) for number, last_seq, is_cancelled in rows}


def _workers(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT id FROM worker")]
