"""`durable.runs`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from durable_nb.client.choosing import choose, make_filter, name_of
from durable_nb.client.forms import R, sync_form
from durable_nb.client.pasts import Pasts
from durable_nb.client.streams import RunLines, RunStream
from durable_nb.tasks.payload import encode_given
from durable_nb.tasks.refs import RunRef

if TYPE_CHECKING:
    import builtins
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from durable_nb.engine.engine import Engine
    from durable_nb.log.details import RunDetails
    from durable_nb.log.lines import Line
    from durable_nb.log.records import RunView
    from durable_nb.views.run_view import RunView as LiveView
    from durable_nb.views.runs_view import RunsView
    from durable_nb.views.still import Still

BULK = 200  # runs a transaction, so that a bulk call holds up nobody


class Runs(Pasts):
    """`durable.runs`: reading runs, and steering them.

    A run is named by its id, the start or end of one, ``#number``, its key, or a ref. Inside a durable task, what changes a run
    is a checkpoint: done once, replayed for ever.
    """

    # ------------------------------------------------------------ reading

    async def aio_get(self, run: str | RunRef[Any]) -> RunView:
        """Give a run's state.

        Raises:
            UnknownRunError: none has that name, or several do.
        """
        from durable_nb.log import reads

        return await self._read(lambda connection: reads.find_run(connection, name_of(run)))

    get = sync_form(aio_get)

    async def aio_get_status(self, run: str | RunRef[Any]) -> str:
        """Give ``"QUEUED"``, ``"RUNNING"``, ``"COMPLETED"``, ``"FAILED"`` or ``"CANCELLED"``."""
        return (await self.aio_get(run)).status

    get_status = sync_form(aio_get_status)

    async def aio_get_details(self, run: str | RunRef[Any]) -> RunDetails:
        """Give a run with its checkpoints, children, open waits and attempts, as one snapshot of the log has them."""
        from durable_nb.log import details

        return await self._read(lambda connection: details.details_of(connection, name_of(run)))

    get_details = sync_form(aio_get_details)

    async def aio_list(
        self,
        *,
        status: str | Sequence[str] | None = None,
        task: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        metadata: Mapping[str, object] | None = None,
        parent: str | RunRef[Any] | None = None,
        event: str | None = None,
        include_children: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> builtins.list[RunView]:
        """Give the runs for which everything that is given holds, the newest first; only roots unless `parent` is given.

        Args:
            status: one or several. since, until: of creation, with a time zone; `until` is excluded.
            metadata: keys and values that the run's metadata holds. parent: give the children of this run.
            event: the key of an event that satisfied or advanced a wait of the run.

        Raises:
            InputValidationError: a status that there is not, or a time without zone. UnknownRunError: no such parent.
        """
        from durable_nb.log import reads

        parent_id = None if parent is None else (await self.aio_get(parent)).id
        roots = parent is None and not include_children
        chosen = make_filter(
            status=status, task=task, since=since, until=until, metadata=metadata, parent=parent_id, event=event, roots=roots
        )
        return await self._read(lambda connection: reads.list_runs(connection, chosen, limit=limit, offset=offset))

    list = sync_form(aio_list)

    def table(
        self,
        *,
        status: str | Sequence[str] | None = None,
        task: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        metadata: Mapping[str, object] | None = None,
        parent: str | RunRef[Any] | None = None,
        include_children: bool = False,
        limit: int = 25,
    ) -> RunsView | Still:
        """Give the runs as a live table to filter, sort, cancel and replay; as text, where there are no widgets.

        Args:
            status, task, since, until, metadata, parent, include_children: as of `list`; filters of the table narrow them.
            limit: runs a page, 200 at most.

        Example:
            >>> durable.runs.table(status="FAILED")  # doctest: +SKIP
        """
        from durable_nb.views.desk import runs_of

        return runs_of(
            self._host,
            status=status,
            task=task,
            since=since,
            until=until,
            metadata=metadata,
            parent=None if parent is None else name_of(parent),
            include_children=include_children,
            limit=limit,
        )

    async def aio_get_result(self, run: str | RunRef[Any]) -> Any:
        """Wait for the end of a run; give its output."""
        return await self.ref_to(await self.aio_get(run)).aio_result()

    get_result = sync_form(aio_get_result)

    async def aio_get_run_ref(self, run: str | RunRef[Any]) -> RunRef[Any]:
        """Give a ref to a run of the log."""
        return self.ref_to(await self.aio_get(run))

    get_run_ref = sync_form(aio_get_run_ref)

    def ref_to(self, run: RunView) -> RunRef[Any]:
        """Give a ref to a run."""
        return RunRef(self._host, run.id, run.number, run.task)

    def view(self, run: str | RunRef[Any], *, tab: str = "graph") -> LiveView:
        """Give a live view of a run, which a notebook shows at the end of a cell.

        Args:
            tab: ``"graph"``, ``"timeline"`` or ``"log"``: what is shown first.

        Raises:
            UnknownRunError: none has that name, or several do.

        Example:
            >>> durable.runs.view("01K…", tab="timeline")  # doctest: +SKIP
        """
        from durable_nb.views.run_view import RunView as LiveView

        return LiveView(self._host, self.get(run).id, tab=tab)

    # ------------------------------------------------------------ cancelling

    async def aio_cancel(self, run: str | RunRef[Any], *, reason: str = "") -> bool:
        """Cancel a run, and the unfinished runs below it; returns when that is in the log.

        A queued or blocked run ends at once. A running one has CancelledError raised at its awaits and may clean up for its
        task's `cancel_grace` (30 s) from now on; then, or when its function is left, it is CANCELLED, whatever the function gave.

        Returns:
            Whether it had not ended: False says that nothing was done.
        """
        from durable_nb.engine import steering

        return await self._steer(lambda engine: steering.cancel(engine, name_of(run), reason))

    cancel = sync_form(aio_cancel)

    async def aio_bulk_cancel(
        self,
        runs: Sequence[str | RunRef[Any]] | None = None,
        *,
        status: str | Sequence[str] | None = None,
        task: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        metadata: Mapping[str, object] | None = None,
        event: str | None = None,
        reason: str = "",
    ) -> builtins.list[str]:
        """Cancel the runs that are named, or all unfinished ones that fit the filters of `list`, children included.

        Returns:
            The ids of those that had not ended.

        Raises:
            DeclarationError: neither runs nor a filter are given.
        """
        from durable_nb.engine import steering

        chosen = choose(runs, "bulk_cancel", status=status, task=task, since=since, until=until, metadata=metadata, event=event)
        return await self._steer(lambda engine: steering.bulk_cancel(engine, chosen, reason, BULK))

    bulk_cancel = sync_form(aio_bulk_cancel)

    # ------------------------------------------------------------ again

    async def aio_replay(self, run: str | RunRef[Any]) -> RunRef[Any]:
        """Run once more what has ended or is blocked, as the same run; runs that have its outcome keep it.

        A completed durable run executes nothing again that its log holds; a failed one asks the checkpoints that failed it
        afresh; a cancelled one goes on from where it was cancelled. A regular run is executed again. It takes its idempotency key
        again, if it had one.

        Raises:
            RunActiveError: it has not ended. IdempotencyCollisionError: another run has its idempotency key by now.
        """
        from durable_nb.engine import steering

        return await self._steer_to_ref(lambda engine: steering.replay(engine, name_of(run)))

    replay = sync_form(aio_replay)

    async def aio_bulk_replay(
        self,
        runs: Sequence[str | RunRef[Any]] | None = None,
        *,
        status: str | Sequence[str] | None = None,
        task: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        metadata: Mapping[str, object] | None = None,
        event: str | None = None,
    ) -> builtins.list[str]:
        """Replay the runs that are named, or all that fit the filters of `list`, children included; active ones are passed over.

        Returns:
            The ids of those that are replayed.
        """
        from durable_nb.engine import steering

        chosen = choose(runs, "bulk_replay", status=status, task=task, since=since, until=until, metadata=metadata, event=event)
        return await self._steer(lambda engine: steering.bulk_replay(engine, chosen, BULK))

    bulk_replay = sync_form(aio_bulk_replay)

    async def aio_reset_durable_task(self, run: str | RunRef[Any], node_id: int, branch_id: int | None = None) -> RunRef[Any]:
        """Have a durable run ask a checkpoint, and everything after it, afresh, on a new branch of the same run.

        What was answered before it stays answered. Unfinished children beyond it are cancelled. It may be running, waiting,
        blocked or ended.

        Args:
            branch_id: the branch whose node it is; the run's present one by default.

        Raises:
            UnknownCheckpointError: there is no such branch or node.
        """
        from durable_nb.engine import steering

        return await self._steer_to_ref(lambda engine: steering.reset(engine, name_of(run), node_id, branch_id))

    reset_durable_task = sync_form(aio_reset_durable_task)

    async def aio_fork(
        self, run: str | RunRef[Any], node_id: int, override: object = None, *, branch_id: int | None = None
    ) -> RunRef[Any]:
        """Start a new run that shares what a durable run has asked before a checkpoint; the original stays untouched.

        Args:
            override: a JSON value that takes the place of that checkpoint's outcome, which is then shared too.

        Raises:
            UnknownCheckpointError: there is no such node. DeclarationError: its outcome cannot be replaced.

        Example:
            >>> what_if = durable.runs.fork(ref, node_id=3, override={"approved": False})  # doctest: +SKIP
            >>> what_if.result()  # doctest: +SKIP
        """
        from durable_nb.engine import steering

        text = None if override is None else encode_given(override, of="the override")
        return await self._steer_to_ref(lambda engine: steering.fork(engine, name_of(run), node_id, text, branch_id))

    fork = sync_form(aio_fork)

    # ------------------------------------------------------------ memory

    async def aio_retake(self, run: str | RunRef[Any]) -> bool:
        """Take up a blocked run again, checkpoints that failed it asked afresh; give whether it was blocked."""
        from durable_nb.engine import steering

        return await self._steer(lambda engine: steering.retake(engine, name_of(run)))

    retake = sync_form(aio_retake)

    async def aio_logs(self, run: str | RunRef[Any], *, limit: int = 1000) -> Sequence[Line]:
        """Give the newest lines of what a run said, the oldest of them first; in a notebook that is also what it printed.

        Returns:
            Lines with `.at` (UTC seconds), `.attempt`, `.level`, `.line` of the source, where that is known, and `.text`.

        Raises:
            UnknownRunError: no run has that id, or several do.
        """
        from durable_nb.log import lines

        view = await self.aio_get(run)
        return await self._read(lambda connection: lines.list_lines(connection, view.number, limit=limit))

    logs = sync_form(aio_logs)

    def follow_logs(self, run: str | RunRef[Any]) -> RunLines:
        """Give the lines of a run's log as they come, until it has ended: by ``async for``, or ``for`` in synchronous code."""

        async def number() -> int:
            return (await self.aio_get(run)).number

        return RunLines(self._host, number)

    def subscribe_to_stream(self, run: str) -> RunStream:
        """Give what a run streams, by its id: to be iterated with ``async for``, or with ``for`` from synchronous code."""

        async def number() -> int:
            return (await self.aio_get(run)).number

        return RunStream(self._host, number)

    async def aio_restore(self, run: str | RunRef[Any]) -> bool:
        """Take an evicted run back into memory now, where it waits on; give whether it was evicted."""
        from durable_nb.engine import steering

        return await self._steer(lambda engine: steering.restore(engine, name_of(run)))

    restore = sync_form(aio_restore)

    async def aio_evict(self, run: str | RunRef[Any]) -> bool:
        """Evict a waiting run from this process's memory now; give whether it was: one that works, or lives elsewhere, is not."""
        engine, view = self._host.engine, await self.aio_get(run)

        async def evict() -> bool:
            execution = engine.executions.get(view.number)
            return execution is not None and await engine.dispatcher.evict(execution)

        return await self._on_loop(evict)

    evict = sync_form(aio_evict)

    async def aio_bundle(self, run: str | RunRef[Any], path: str | os.PathLike[str]) -> Path:
        """Write a run with everything below it into one file, to be opened elsewhere by `durable_nb.open_bundle`; give its path.

        It holds their inputs, histories, outputs, logs and code, as they are at one instant, whether they have ended or not; but
        not the fields that the app object's `redact` names.

        Raises:
            UnknownRunError: no run has that name, or several do. LogError: there is such a file already.
        """
        from durable_nb.client.upkeep import absolute, redaction_of
        from durable_nb.log.bundling import identity, write_bundle

        host, target = self._host, absolute(path)
        engine, redaction, at = host.engine, redaction_of(host), host.engine.clock.now()

        def work() -> Path:
            made = write_bundle(host.path, name_of(run), target, redaction=redaction, at=at)
            host.keyring.remember(identity(made), made)
            return made

        async def wait() -> Path:
            return await asyncio.wrap_future(engine.threads.submit(work))

        return await self._on_loop(wait)

    bundle = sync_form(aio_bundle)

    # ------------------------------------------------------------ ways

    async def _steer(self, make: Callable[[Engine], Awaitable[R]]) -> R:
        engine = self._host.engine
        return await self._on_loop(lambda: make(engine))

    async def _steer_to_ref(self, make: Callable[[Engine], Awaitable[dict[str, Any]]]) -> RunRef[Any]:
        place = await self._steer(make)
        return RunRef(self._host, place["id"], place["number"], place["task"])
