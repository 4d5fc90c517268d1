"""`durable.queue`."""

from __future__ import annotations

import sqlite3

from durable_nb.client.forms import Group, sync_form


class Queue(Group):
    """`durable.queue`: which tasks are paused. `task.pause()` and `task.unpause()` are the same."""

    async def aio_pause(self, task: str) -> bool:
        """Claim no queued run of a task (by name) from now on, in every process; give whether it was not paused before.

        Runs that were entered go on, also after an eviction; new ones are queued. It lasts until `unpause`, restarts included.
        Inside a durable task a checkpoint, as is `aio_unpause`.
        """
        from durable_nb.engine import steering

        engine = self._host.engine
        return await self._on_loop(lambda: steering.pause(engine, task))

    pause = sync_form(aio_pause)

    async def aio_unpause(self, task: str) -> bool:
        """Claim runs of a task again; give whether it was paused."""
        from durable_nb.engine import steering

        engine = self._host.engine
        return await self._on_loop(lambda: steering.unpause(engine, task))

    unpause = sync_form(aio_unpause)

    async def aio_list_paused(self) -> list[str]:
        """Give the names of the paused tasks."""

        def read(connection: sqlite3.Connection) -> list[str]:
            return [task for (task,) in connection.execute("SELECT task FROM pause ORDER BY task")]

        engine = self._host.engine
        return await self._on_loop(lambda: engine.reader.run(read))

    list_paused = sync_form(aio_list_paused)
