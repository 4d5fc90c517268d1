"""`durable.runs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from durable_nb.client.forms import Group, R, sync_form
from durable_nb.client.streams import RunStream
from durable_nb.tasks.refs import RunRef

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.log.records import RunView
    from durable_nb.log.streams import LogLine


class Runs(Group):
    """`durable.runs`: reading runs, and taking up blocked ones."""

    async def aio_get(self, run: str) -> RunView:
        """Give a run's state by its id, the start or end of one, or ``#number``.

        Raises:
            UnknownRunError: none has it, or several do.
        """
        from durable_nb.log import reads

        return await self._read(lambda connection: reads.find_run(connection, run))

    get = sync_form(aio_get)

    async def aio_list(
        self, *, status: str | None = None, task: str | None = None, parent: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[RunView]:
        """Give runs, the newest first; only roots unless `parent` (a run's id) is given."""
        from durable_nb.log import reads

        return await self._read(
            lambda connection: reads.list_runs(connection, status=status, task=task, parent=parent, limit=limit, offset=offset)
        )

    list = sync_form(aio_list)

    async def aio_get_result(self, run: str) -> Any:
        """Wait for the end of a run; give its output."""
        return await self.ref_to(await self.aio_get(run)).aio_result()

    get_result = sync_form(aio_get_result)

    def get_run_ref(self, run: str) -> RunRef[Any]:
        """Give a ref to a run of the log."""
        return self.ref_to(self.get(run))

    def ref_to(self, run: RunView) -> RunRef[Any]:
        """Give a ref to a run."""
        return RunRef(self._host, run.id, run.number, run.task)

    async def aio_retake(self, run: str) -> bool:
        """Take up a blocked run again; give whether it was blocked."""
        from durable_nb.log import runs

        engine, view = self._host.engine, await self.aio_get(run)

        async def retake() -> bool:
            at = engine.clock.now()
            done = await engine.writer.submit(lambda connection: runs.unpark(connection, view.number, at=at))
            engine.dispatcher.look()
            return done

        return await self._on_loop(retake)

    retake = sync_form(aio_retake)

    async def aio_logs(self, run: str) -> list[LogLine]:  # type: ignore[valid-type]  # `list` is a method of this class here
        """Give what a run said with `ctx.log`, oldest first, each line with its time, attempt and level.

        Raises:
            UnknownRunError: no run has that id, or several do.
        """
        from durable_nb.log import streams

        view = await self.aio_get(run)
        return await self._read(lambda connection: streams.lines_of(connection, view.number))

    logs = sync_form(aio_logs)

    def subscribe_to_stream(self, run: str) -> RunStream:
        """Give what a run streams, by its id: to be iterated with ``async for``, or with ``for`` from synchronous code."""

        async def number() -> int:
            return (await self.aio_get(run)).number

        return RunStream(self._host, number)

    async def _read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        engine = self._host.engine
        return await self._on_loop(lambda: engine.reader.run(work))
