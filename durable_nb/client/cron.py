"""`durable.cron` and what it shares with `durable.scheduled`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from durable_nb.client.forms import Group, sync_form
from durable_nb.errors import InputValidationError, UnknownScheduleError
from durable_nb.log.ids import new_id
from durable_nb.tasks.flow import CatchUp, Cron
from durable_nb.tasks.payload import ANY, check_text, decode, encode_given, encode_input
from durable_nb.tasks.task import Task

if TYPE_CHECKING:
    from durable_nb.client.app import Durable
    from durable_nb.log.schedules import NewSchedule, ScheduleView


@dataclass(frozen=True, slots=True, kw_only=True)
class CronTrigger:
    """A cron of the log.

    Attributes:
        next_run_at: its next tick; None where there is none.
        last_run_id: the run that it started last.
        error: why its last tick started none, or None.
        is_declared: whether the task's own `on_crons` made it.
    """

    id: str
    task: str
    name: str
    expression: str
    timezone: str
    catch_up: str
    input: Any
    additional_metadata: dict[str, Any]
    priority: int | None
    next_run_at: datetime | None
    last_run_id: str | None
    error: str | None
    is_declared: bool


class Crons(Group):
    """`durable.cron`: tasks that run at every tick of a cron expression. Whoever serves the task fires it, each tick once."""

    async def aio_create(
        self,
        task: Task[Any] | str,
        cron_name: str,
        expression: str,
        input: object = None,
        additional_metadata: Mapping[str, object] | None = None,
        priority: int | None = None,
        *,
        timezone: str = "UTC",
        catch_up: CatchUp = "skip",
    ) -> CronTrigger:
        """Have a task run at every tick. A cron of the task that has this name is replaced. Inside a durable task a checkpoint.

        Args:
            task: a task, or the name of one.
            expression: ``"0 9 * * MON-FRI"``; six fields have seconds first.
            timezone: an IANA name: ticks follow its wall clock, summer time included (see `Cron`).
            catch_up: what becomes of ticks that are more than a minute past when somebody is there to run them: ``"skip"``,
                ``"last"`` or ``"all"``.

        Raises:
            DeclarationError: the expression, the time zone or `catch_up` cannot work.
            InputValidationError: the input does not fit the task. Nothing was written.

        Example:
            >>> durable.cron.create(report, "daily", "0 9 * * *", {"of": "sales"}, timezone="Europe/Rome")  # doctest: +SKIP
        """
        from durable_nb.engine.ticks import next_tick

        Cron(expression, timezone, catch_up)
        check_text(cron_name, of="the cron's name")
        engine = self._host.engine

        async def create() -> CronTrigger:
            at = engine.clock.now()
            new = new_schedule(
                self._host,
                task,
                input,
                additional_metadata,
                priority,
                name=cron_name,
                expression=expression,
                timezone=timezone,
                catch_up=catch_up,
                created_at=at,
                due_at=next_tick(expression, timezone, at),
            )
            view = await put(self._host, new, f"create cron {cron_name}", "create cron")
            return _cron(view)

        return await self._on_loop(create)

    create = sync_form(aio_create)

    async def aio_list(self, task: Task[Any] | str | None = None) -> list[CronTrigger]:
        """Give the crons, of one task where it is given, the oldest first."""
        from durable_nb.log import schedules

        engine, name = self._host.engine, None if task is None else name_of(task)

        def read(connection: sqlite3.Connection) -> list[CronTrigger]:
            return [_cron(view) for view in schedules.list_schedules(connection, is_cron=True, task=name)]

        async def after_what_was_declared() -> list[CronTrigger]:
            return await engine.writer.submit(read)

        return await self._on_loop(after_what_was_declared)

    list = sync_form(aio_list)

    async def aio_get(self, cron_id: str) -> CronTrigger:
        """Give a cron by its id.

        Raises:
            UnknownScheduleError: there is none.
        """
        return _cron(await find(self._host, cron_id, is_cron=True))

    get = sync_form(aio_get)

    async def aio_delete(self, cron_id: str) -> None:
        """Forget a cron; runs that it has started go on. One of a task's `on_crons` is back when the task is declared again.

        Raises:
            UnknownScheduleError: there is none.
        """
        await delete(self._host, cron_id, is_cron=True)

    delete = sync_form(aio_delete)


def name_of(task: Task[Any] | str) -> str:
    """Give a task's name."""
    return task if isinstance(task, str) else task.name


def new_schedule(
    host: Durable,
    task: Task[Any] | str,
    input: object,
    metadata: Mapping[str, object] | None,
    priority: int | None,
    **values: Any,
) -> NewSchedule:
    """Make the record of a schedule; its input is checked where the task is known here.

    Raises:
        InputValidationError: the input does not fit, or the priority is unknown.
    """
    from durable_nb.log.schedules import NewSchedule

    name = name_of(task)
    check_text(name, of="the task's name")
    known = task if isinstance(task, Task) else host.tasks.get(name)
    if priority not in (None, 1, 2, 3):
        raise InputValidationError(f"priority={priority!r} is unknown: give 1 (low), 2 or 3 (high).")
    return NewSchedule(
        id=new_id(),
        task=name,
        input=encode_input(input, known.input_adapter if known else ANY, of=f"the input of task '{name}'")[1],
        metadata=encode_given(dict(metadata or {}), of="the metadata"),
        priority=priority,
        home=host.home,
        **{"name": "", **values},
    )


async def put(host: Durable, new: NewSchedule, words: str, kind: str) -> ScheduleView:
    """Write a schedule, inside a durable task once; give it as the log has it. Called on the engine's loop."""
    from durable_nb.engine.asks import ask_of
    from durable_nb.engine.running import recorded
    from durable_nb.log import schedules
    from durable_nb.log.schedules import ScheduleView

    engine = host.engine
    parts = (new.task, new.name, new.expression, new.timezone, new.input) if new.expression else (new.task, new.input)
    made = {
        "id": new.id,
        "task": new.task,
        "name": new.name,
        "expression": new.expression,
        "timezone": new.timezone,
        "catch_up": new.catch_up,
        "is_declared": False,
        "input": new.input,
        "metadata": new.metadata,
        "priority": new.priority,
        "home": new.home,
        "created_at": new.created_at,
        "due_at": new.due_at,
        "fired_at": None,
        "run_id": None,
        "error": None,
    }
    value = await recorded(
        engine, lambda line: ask_of(kind, words, *parts, line=line), made, lambda connection: schedules.put(connection, new)
    )
    engine.timers.look()
    return ScheduleView(**value)


async def find(host: Durable, schedule: str, *, is_cron: bool) -> ScheduleView:
    """Give a schedule by its id.

    Raises:
        UnknownScheduleError: there is none of this kind.
    """
    from durable_nb.log import schedules

    engine = host.engine
    view: ScheduleView | None = await host.aio_call(
        lambda: engine.reader.run(lambda connection: schedules.find(connection, schedule))
    )
    if view is None or (view.expression is not None) != is_cron:
        raise unknown(schedule, is_cron=is_cron)
    return view


async def delete(host: Durable, schedule: str, *, is_cron: bool) -> None:
    """Forget a schedule.

    Raises:
        UnknownScheduleError: there is none of this kind.
    """
    from durable_nb.engine.steering import steer
    from durable_nb.log import schedules
    from durable_nb.log.records import Effects

    def change(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
        if not schedules.delete(connection, schedule, is_cron=is_cron):
            raise unknown(schedule, is_cron=is_cron)
        return None, Effects()

    engine, kind = host.engine, "delete cron" if is_cron else "delete scheduled run"
    await host.aio_call(lambda: steer(engine, kind, schedule, [schedule], change))


def unknown(schedule: str, *, is_cron: bool) -> UnknownScheduleError:
    """Give the error for an id that is not there."""
    kind, group = ("cron", "cron") if is_cron else ("scheduled run", "scheduled")
    return UnknownScheduleError(f"No {kind} '{schedule}' is in this log: durable.{group}.list() gives them.")


def moment(at: float | None) -> datetime | None:
    """Give UTC seconds as a time."""
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _cron(view: ScheduleView) -> CronTrigger:
    return CronTrigger(
        id=view.id,
        task=view.task,
        name=view.name,
        expression=view.expression or "",
        timezone=view.timezone,
        catch_up=view.catch_up,
        input=decode(view.input),
        additional_metadata=decode(view.metadata),
        priority=view.priority,
        next_run_at=moment(view.due_at),
        last_run_id=view.run_id,
        error=view.error,
        is_declared=view.is_declared,
    )
