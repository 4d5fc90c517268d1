"""`durable.scheduled`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from durable_nb.client.cron import delete, find, moment, name_of, new_schedule, put, unknown
from durable_nb.client.forms import Group, sync_form
from durable_nb.errors import InputValidationError
from durable_nb.tasks.payload import decode
from durable_nb.tasks.task import Task

if TYPE_CHECKING:
    from durable_nb.log.schedules import ScheduleView


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRun:
    """A run to come.

    Attributes:
        status: ``"SCHEDULED"``, ``"STARTED"`` (`run_id` is its run), or ``"FAILED"`` (`error` says why there is none).
    """

    id: str
    task: str
    trigger_at: datetime
    input: Any
    additional_metadata: dict[str, Any]
    priority: int | None
    status: Literal["SCHEDULED", "STARTED", "FAILED"]
    run_id: str | None
    error: str | None


class Scheduled(Group):
    """`durable.scheduled`: tasks that run once at a time to come."""

    async def aio_create(
        self,
        task: Task[Any] | str,
        trigger_at: datetime,
        input: object = None,
        additional_metadata: Mapping[str, object] | None = None,
        priority: int | None = None,
    ) -> ScheduledRun:
        """Have a task run once, at a time that has a time zone. Inside a durable task a checkpoint.

        It starts when that time has come and somebody serves the task: late rather than never; at once where it is past.

        Raises:
            InputValidationError: the input does not fit the task, or the time has no time zone. Nothing was written.

        Example:
            >>> durable.scheduled.create(report, datetime.now(UTC) + timedelta(hours=1))  # doctest: +SKIP
        """
        due_at, engine = _seconds(trigger_at), self._host.engine

        async def create() -> ScheduledRun:
            at = engine.clock.now()
            new = new_schedule(self._host, task, input, additional_metadata, priority, created_at=at, due_at=due_at)
            return _scheduled(await put(self._host, new, f"schedule {new.task} at {trigger_at.isoformat()}", "schedule"))

        return await self._on_loop(create)

    create = sync_form(aio_create)

    async def aio_list(self, task: Task[Any] | str | None = None) -> list[ScheduledRun]:
        """Give the scheduled runs, also those that have started, the oldest first."""
        from durable_nb.log import schedules

        engine, name = self._host.engine, None if task is None else name_of(task)

        def read(connection: sqlite3.Connection) -> list[ScheduledRun]:
            return [_scheduled(view) for view in schedules.list_schedules(connection, is_cron=False, task=name)]

        return await self._on_loop(lambda: engine.reader.run(read))

    list = sync_form(aio_list)

    async def aio_get(self, scheduled_id: str) -> ScheduledRun:
        """Give a scheduled run by its id.

        Raises:
            UnknownScheduleError: there is none.
        """
        return _scheduled(await find(self._host, scheduled_id, is_cron=False))

    get = sync_form(aio_get)

    async def aio_delete(self, scheduled_id: str) -> None:
        """Forget a scheduled run; one that has started goes on.

        Raises:
            UnknownScheduleError: there is none.
        """
        await delete(self._host, scheduled_id, is_cron=False)

    delete = sync_form(aio_delete)

    async def aio_reschedule(self, scheduled_id: str, trigger_at: datetime) -> ScheduledRun:
        """Move a scheduled run to another time. Inside a durable task a checkpoint, as is `aio_delete`.

        Raises:
            UnknownScheduleError: there is none that has not started yet.
        """
        from durable_nb.engine.steering import steer
        from durable_nb.log import schedules
        from durable_nb.log.records import Effects
        from durable_nb.log.schedules import ScheduleView

        due_at, engine = _seconds(trigger_at), self._host.engine

        def change(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
            if not schedules.reschedule(connection, scheduled_id, due_at):
                raise unknown(scheduled_id, is_cron=False)
            found = schedules.find(connection, scheduled_id)
            assert found is not None  # noqa: S101  it was moved in this transaction
            return asdict(found), Effects()

        words = f"{scheduled_id} to {trigger_at.isoformat()}"
        made = await self._on_loop(lambda: steer(engine, "reschedule", words, [scheduled_id, due_at], change))
        return _scheduled(ScheduleView(**made))

    reschedule = sync_form(aio_reschedule)


def _seconds(trigger_at: object) -> float:
    if not isinstance(trigger_at, datetime) or trigger_at.tzinfo is None:
        raise InputValidationError(f"trigger_at={trigger_at!r} has no time zone: give one, such as datetime(..., tzinfo=UTC).")
    return trigger_at.timestamp()


def _scheduled(view: ScheduleView) -> ScheduledRun:
    due_at = moment(view.due_at if view.due_at is not None else view.fired_at)
    assert due_at is not None  # noqa: S101  a single run has one of them
    return ScheduledRun(
        id=view.id,
        task=view.task,
        trigger_at=due_at,
        input=decode(view.input),
        additional_metadata=decode(view.metadata),
        priority=view.priority,
        status="SCHEDULED" if view.due_at is not None else "STARTED" if view.run_id else "FAILED",
        run_id=view.run_id,
        error=view.error,
    )
