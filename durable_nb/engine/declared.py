"""What the log knows of the tasks that engines serve: which events and crons start them.

Invariant: it is what was declared last, in whichever process. It stays when that process ends, so that an event finds its
listeners and a cron its task; declaring the task again replaces it.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from durable_nb.engine.ticks import next_tick
from durable_nb.errors import DeclarationError, LogError
from durable_nb.log import schedules, triggers
from durable_nb.log.ids import new_id
from durable_nb.log.schedules import NewSchedule
from durable_nb.tasks.flow import plain
from durable_nb.tasks.options import TaskOptions, options_from_json, options_to_json
from durable_nb.tasks.payload import ANY, encode_given, encode_input, schema_of

if TYPE_CHECKING:
    import asyncio

    from durable_nb.engine.engine import Engine
    from durable_nb.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A task as far as a new run of it needs it, read from the log: its code may be in another process.

    Attributes:
        schema: JSON Schema of its input, None for any.
    """

    name: str
    kind: str
    version: str | None
    home: str
    options: TaskOptions
    schema: str | None
    input_adapter: TypeAdapter[Any] = ANY

    def check_runnable(self) -> None:
        """It was runnable when it was declared."""

    @classmethod
    @functools.lru_cache(maxsize=256)
    def from_json(cls, name: str, text: str) -> Declared:
        """Read what `to_json` wrote.

        Raises:
            LogError: another version of durable_nb wrote it.
        """
        try:
            said = json.loads(text)
            return cls(**{**said, "name": name, "options": options_from_json(said["options"])})
        except (KeyError, TypeError, ValueError, DeclarationError) as error:
            raise LogError(
                f"The declaration of task '{name}' in the log cannot be read ({error}): declare the task again."
            ) from None


def to_json(task: Task[Any], home: str) -> str:
    """Write a task for `Declared`."""
    try:
        schema = schema_of(task.input_adapter)
    except PydanticInvalidForJsonSchema:
        schema = None
    said = {"kind": task.kind, "version": task.version, "home": home, "options": options_to_json(task.options), "schema": schema}
    return json.dumps(said, default=plain, sort_keys=True)


async def declare_at_start(engine: Engine) -> None:
    """Declare the tasks that are served when the engine starts; without a commit where the log has nothing of it to change."""
    tasks = [task for task in engine.registry if not task.is_restored]
    names = [task.name for task in tasks]
    is_started_by_something = any(task.options.on_events or task.options.on_crons for task in tasks)
    if is_started_by_something or await engine.reader.run(lambda connection: triggers.has_declared(connection, names)):
        await declare(engine, tasks)


def declare(engine: Engine, tasks: Sequence[Task[Any]]) -> asyncio.Future[None]:
    """Write which events and crons start these tasks, in place of what was declared before. Called on the engine's loop."""
    at = engine.clock.now()
    listening = [(task.name, task.options.on_events, to_json(task, engine.home)) for task in tasks]
    crons = [(task.name, _crons(task, engine.home, at)) for task in tasks]

    def work(connection: sqlite3.Connection) -> None:
        for name, patterns, declaration in listening:
            triggers.listen(connection, name, patterns, declaration)
        for name, wanted in crons:
            schedules.declare(connection, name, wanted)

    return engine.writer.submit(work, lambda _: engine.timers.look())


def _crons(task: Task[Any], home: str, at: float) -> list[NewSchedule]:
    return [
        NewSchedule(
            id=new_id(),
            task=task.name,
            name=f"{cron.expression} {cron.timezone}",
            expression=cron.expression,
            timezone=cron.timezone,
            catch_up=cron.catch_up,
            is_declared=True,
            input=encode_input(cron.input, task.input_adapter, of="the input of a cron")[1],
            metadata=encode_given({}, of="the metadata"),
            home=home,
            created_at=at,
            due_at=next_tick(cron.expression, cron.timezone, at),
        )
        for cron in task.options.on_crons
    ]
