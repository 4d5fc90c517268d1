"""Looking back: the part of `durable.runs` that steps through what a run has been through, and compares."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from durable_nb.client.choosing import name_of
from durable_nb.client.forms import Group, R, sync_form
from durable_nb.errors import DurableError
from durable_nb.tasks.refs import RunRef

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from durable_nb.client.plans import Plan
    from durable_nb.client.stepping import Steps
    from durable_nb.log.comparing import Comparison
    from durable_nb.log.pasts import Family


class Pasts(Group):
    """The runs of a log, looked back on. Nothing here changes a run."""

    async def aio_step_through(self, run: str | RunRef[Any], *, branch: int | None = None) -> Steps:
        """Replay a run's recorded history beside it, and give every position with its suspended frames and locals.

        The code is executed in a process of its own, which can neither write nor reach another process or machine, and does
        nothing that is not recorded. Code that you have not signed is not executed: then `Step.reason` says so.

        Args:
            branch: of the run; its present one by default.

        Returns:
            A sequence of `Step`, one for each checkpoint, and the last where the run ended, or is now.

        Raises:
            UnknownRunError, UnknownCheckpointError: no such run or branch.

        Example:
            >>> for step in durable.runs.step_through(ref):  # doctest: +SKIP
            ...     print(step.node, step.line, {name: local.text for name, local in step.locals.items()})
        """
        from durable_nb.client.stepping import Walk

        plan = await self._plan(run, branch)
        return await asyncio.to_thread(lambda: Walk(plan).finish())

    step_through = sync_form(aio_step_through)

    async def aio_locals_at(
        self, run: str | RunRef[Any], node_id: int, *, branch: int | None = None, frame: int | None = None
    ) -> dict[str, Any]:
        """Give the locals that a run had when it had asked a checkpoint, as values.

        A value is what JSON brings back, with arrays, tables and bytes as they were; an instance of a class comes as a dict of
        its fields. What has no such form (a lock, a file, a function) is left out.

        Args:
            frame: its place in `Step.frames`; by default the innermost function that asked.

        Raises:
            UnknownRunError, UnknownCheckpointError: no such run, branch or checkpoint. DurableError: it cannot be replayed.
        """
        values, _ = await self.aio_values_at(run, node_id, branch=branch, frame=frame)
        return values

    locals_at = sync_form(aio_locals_at)

    async def aio_values_at(
        self, run: str | RunRef[Any], node_id: int, *, branch: int | None = None, frame: int | None = None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """As `aio_locals_at`, with the names that were left out, each with the reason."""
        from durable_nb.client.stepping import Walk, values_at

        plan = await self._plan(run, branch)

        def find() -> tuple[dict[str, Any], dict[str, str]]:
            place = frame
            if place is None:
                walk = Walk(plan)
                walk.wait(node_id, 60.0)
                step = walk.step(node_id)
                if not step.frames:
                    raise DurableError(f"The locals at checkpoint {node_id} cannot be had: {step.reason}.")
                place = step.frames.index(next(one for one in reversed(step.frames) if one.task == step.asker))
            return values_at(plan, node_id, place)

        return await asyncio.to_thread(find)

    values_at = sync_form(aio_values_at)

    async def aio_family(self, run: str | RunRef[Any]) -> Family:
        """Give the branches of a run, the runs that were forked from it, and the one that it was forked from."""
        from durable_nb.log import pasts, reads

        return await self._look(lambda connection: pasts.family_of(connection, reads.find_run(connection, name_of(run))))

    family = sync_form(aio_family)

    async def aio_compare(
        self,
        first: str | RunRef[Any],
        second: str | RunRef[Any] | None = None,
        *,
        first_branch: int | None = None,
        second_branch: int | None = None,
    ) -> Comparison:
        """Compare two histories, aligned by checkpoint: what was asked, what was recorded, and where they first differ.

        Args:
            second: another run, such as a fork; the same run by default, then of another branch.
            first_branch, second_branch: the present ones by default.

        Raises:
            UnknownRunError, UnknownCheckpointError: no such run or branch.

        Example:
            >>> durable.runs.compare(ref, what_if).diverges_at  # doctest: +SKIP
            3
        """
        from durable_nb.log import comparing, pasts, reads

        def read(connection: sqlite3.Connection) -> Comparison:
            runs = [reads.find_run(connection, name_of(run)) for run in (first, first if second is None else second)]
            found = [
                pasts.past_of(connection, run, branch) for run, branch in zip(runs, (first_branch, second_branch), strict=True)
            ]
            return comparing.Comparison(
                first=runs[0],
                first_branch=found[0].claim.branch,
                second=runs[1],
                second_branch=found[1].claim.branch,
                rows=comparing.compared(found[0].recorded, found[1].recorded),
            )

        return await self._look(read)

    compare = sync_form(aio_compare)

    async def _plan(self, run: str | RunRef[Any], branch: int | None) -> Plan:
        from durable_nb.client.plans import plan_of
        from durable_nb.log import reads

        host = self._host
        return await self._look(
            lambda connection: plan_of(
                connection,
                reads.find_run(connection, name_of(run)),
                branch,
                keyring=host.keyring,
                log_id=host.log_id,
                tasks=list(host.tasks),
            )
        )

    async def _read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        engine = self._host.engine
        return await self._on_loop(lambda: engine.reader.run(work))

    async def _look(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Read several things in one snapshot."""

        def read(connection: sqlite3.Connection) -> R:
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("COMMIT")

        return await self._read(read)
