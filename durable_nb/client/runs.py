"""`durable.runs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from durable_nb.client.forms import Group, R, sync_form
from durable_nb.tasks.refs import RunRef

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.log.lines import Line
    from durable_nb.log.records import RunView


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

    async def aio_list_lines(self, run: str, *, limit: int = 1000) -> Sequence[Line]:
        """Give the newest lines of a run's log, the oldest of them first: `.at` (UTC seconds), `.level`, `.line`, `.text`.

        Raises:
            UnknownRunError: no run, or several, have that name.
        """
        from durable_nb.log import lines, reads

        return await self._read(
            lambda connection: lines.list_lines(connection, reads.find_run(connection, run).number, limit=limit)
        )

    list_lines = sync_form(aio_list_lines)

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

    async def _read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        engine = self._host.engine
        return await self._on_loop(lambda: engine.reader.run(work))
